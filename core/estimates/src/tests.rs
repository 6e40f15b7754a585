//! Two or more machines, and what passes between them in virtual time.

mod convergence;
mod links;
mod net;
