//! What travels on a link: frames, their limits, the protocol version and the hello.
//!
//! A frame is a length, a kind and a body:
//!
//! ```text
//!   0        4      5
//!   +--------+------+------------------------+
//!   | length | kind | body (length - 1 bytes) |
//!   +--------+------+------------------------+
//!     u32 BE   u8     postcard, or raw bytes where the kind says so
//! ```
//!
//! The length is checked against the lane's limit *before* any memory is taken (invariant 5). This
//! crate knows frames and the hello only: messages live in the `message.rs` of the machine that
//! converses in them, and a machine never sees another's. A kind that a node does not know is
//! counted and skipped, so a newer peer may speak of newer things.
//!
//! All nodes of a flock converse with these (BLOC-1, BLOC-10).

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod codec;
mod frame;
mod hello;

pub use codec::{Malformed, decode, decode_front, encode};
pub use frame::{
    FRAME_HEADER_BYTES, Frame, FrameError, FrameReader, Lane, frame_head, kind, write_frame,
};
pub use hello::{
    Address, AddressScope, FEATURE_LEVEL, Hello, MAX_HELLO_ADDRESSES, Magic, PROTOCOL_MAX,
    PROTOCOL_MIN, common_protocol,
};
