//! Who links to whom, and who watches whom, as a pure function of who is present.
//!
//! Every node of a flock computes this for itself from the same list of members and gets the same
//! answer, so nobody has to hand it out: the **hash overlay**. It is the union of two *rendezvous
//! rings*. A ring orders the members by a hash of (ring, identity) and joins each to the next; the
//! order of two members never depends on a third, so a node that joins or leaves moves only the
//! edges beside it. Two such rings are four-connected but for a few places where they happen to
//! coincide; a check by max-flow finds these places and patches each with one more edge, chosen by
//! hash as well. Up to four members are all joined to one another (BLOC-15, FLOOD-23).
//!
//! A node is watched by its overlay neighbours and by a few **extra watchers**, its next successors
//! in a third ring that are not its neighbours already: a node whose neighbours all die with it is
//! still seen to be silent by somebody from elsewhere (BLOC-9, BLOC-39).
//!
//! What is in here:
//!
//! * [`Overlay`] and [`hash_overlay`]: the edges, and a digest of them;
//! * [`WatchRing`]: the third ring, also asked for a node that is not a member just now;
//! * [`Layout`]: both for one list of members, and [`LayoutCache`], which remembers the last few;
//! * [`connectivity`]: is a graph k-connected, by Even's algorithm, with searches that stay local;
//! * [`computed`]: the overlay that is computed from what links cost, by one member for a group
//!   (FLOOD-23, FLOOD-26, FLOOD-27, FLOOD-30, FLOOD-31, MULTI-13);
//! * [`adoption`]: how that comes into force, make before break;
//! * [`standing_overlay`] and [`shared_overlay`]: overlays that begin with a computed topology, or
//!   with the links that are there for everybody, and are mended the same way.
//!
//! The hashes and the patches are part of the protocol: two builds that differ would want different
//! links. Golden tests hold them in place.

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

pub mod adoption;
pub mod computed;
pub mod connectivity;
mod graph;
mod hash;
mod layout;
mod overlay;
mod standing;
mod watch;

pub use layout::{Layout, LayoutCache, LayoutSource, Shape};
pub use overlay::{Overlay, hash_overlay, member_digest};
pub use standing::{covers, shared_overlay, standing_overlay};
pub use watch::WatchRing;
