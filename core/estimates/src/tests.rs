//! Two or more machines, and what passes between them in virtual time.

mod apart;
mod convergence;
mod links;
mod net;
