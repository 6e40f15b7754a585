//! The transport as the agent meets it: real sockets on loopback, real TLS.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test says so by failing, and whatever it did not expect is a failure"
)]

mod bloc;
mod hostile;
mod limits;
mod links;
mod streams;
