//! Real agents on loopback: what can only be seen when whole processes meet.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

mod agents;
mod clients;
mod grace;
mod huge;
mod keys;
mod large;
mod limits;
mod notify;
mod operator;
mod renewal;
mod room;
mod stops;
mod unheard;
