//! A wave: one roll-out of an image, and who fetches which piece of it from whom (DLIF-10,
//! DLIF-16 to DLIF-24).
//!
//! A queen says in a record of her own which waves she orders ([`Orders`]: READY with the host
//! list, DLIF-16). Records reach everybody over any way there is (DLIF-17), and newcomers as soon
//! as they have a link (DLIF-24). Each target says in a record of its own how far it is
//! ([`Statuses`]); its `Done` is the clock by which it does not do the same wave twice (DLIF-20),
//! and tells everybody, on the host list or not, that here is one more source (DLIF-21, DLIF-22).
//! Nobody aggregates: who wants to know how a wave stands lays the statuses of its targets side by
//! side.
//!
//! Bytes travel on the bulk lane, by [`Message`]. The planner ([`plan()`]) is a pure function that
//! decides what one target asks of whom. Its aim is that the queen sends each piece about once:
//! every piece has a *bringer* among the targets, named by rendezvous hash, who asks the queen for
//! it; all others take it from one another. [`Transfer`] is the bookkeeping around the planner.
//!
//! ```text
//!            pieces it brings             rarest first
//!   queen ------------------->  target  <-------------->  target
//!     |                                                      ^
//!     +------------------------------------------------------+
//!                        pieces that one brings
//! ```

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod bitmap;
mod message;
mod order;
mod path;
mod plan;
mod status;
mod transfer;

pub use bitmap::Bitmap;
pub use message::{
    MAX_CHUNK_BYTES, MAX_GOT, MAX_PIECES, MAX_SEAL_BYTES, MAX_WANTED, Message, Part, Section,
};
pub use order::{
    Hosts, MAX_BODY_BYTES, MAX_GROUPS, MAX_HOSTS_LISTED, MAX_ORDERS, Order, OrderError, Orders,
    SCHEMA,
};
pub use path::{MAX_PATH_BYTES, PathError, check_path};
pub use plan::{Desired, Fetch, Flight, Limits, Observed, PeerView, Plan, Report, bringer, plan};
pub use status::{MAX_STATUSES, Status, Statuses, Step};
pub use transfer::{Arrival, Ask, Chunk, Progress, Transfer};

#[cfg(test)]
mod sim;
