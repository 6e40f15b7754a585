//! Real agents on loopback: what can only be seen when whole processes meet.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

mod agents;
mod catalog;
mod clients;
mod clock;
mod events;
mod fence;
mod founding;
mod grace;
mod huge;
mod incidents;
mod keys;
mod large;
mod limits;
mod look;
mod notify;
mod operator;
mod orders;
#[path = "../ports/mod.rs"]
mod ports;
#[path = "../../../edge/notify/tests/receivers/mod.rs"]
mod receivers;
mod renewal;
mod room;
mod stops;
mod targets;
mod unheard;
