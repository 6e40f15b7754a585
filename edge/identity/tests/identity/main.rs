//! The identity crate as its users see it: whole handshakes, a CA with its books, hostile bytes.

#[cfg(test)]
mod ca;
#[cfg(test)]
mod certificate;
#[cfg(test)]
mod common;
#[cfg(test)]
mod founding;
#[cfg(test)]
mod handshake;
