//! How a topology comes into force, and who computes the next (FLOOD-26, 27, 31; MULTI-13).
//!
//! **One member computes, all adopt.** The group's *topology master* is the site that the
//! configuration names, else the one whose decree is in force, else the lowest identity; of these
//! the first that is present. It computes when members came or went and then kept still, and again
//! each update period; what it finds it publishes as a [decree](crate::computed::decree::Decree), a
//! record of its own. Any member can take the office over: whoever finds itself the master and the
//! decree in force another's rebuilds the group's identity, from the topology that stands.
//!
//! **The newest stamp holds.** A decree's epoch is one more than the highest that its master had
//! seen, so a master that was away, or one that did not know of its successor, is not followed
//! back: what a node has adopted is only ever replaced by a newer stamp. Two masters of two halves
//! may give out one epoch; then the fork decides, everywhere alike, until the next decree.
//!
//! **Make before break.** A member that adopts keeps the neighbours that it had until every edge of
//! the new overlay is linked, which everybody can see in the watch records; only then it lets the
//! old ones go, and a link goes only when both its ends want it gone, see the same members and hold
//! the same stamps. So whoever dies at whatever step, either overlay is whole: the master before,
//! while or after it publishes, a member that knows the new decree or one that does not.
//!
//! **Never without an overlay.** Between decrees each node makes the best of the last one
//! ([`standing_overlay`](crate::standing_overlay)); where it no longer [covers](crate::covers) who
//! is present, the hash overlay takes its place.
//!
//! The machine is told of members, decrees and links, and says when to compute, what to publish and
//! when to lay out again. It computes nothing itself: that takes seconds for large groups, and may
//! be an external command's work (FLOOD-30). Whatever goes wrong there leaves the last topology in
//! force, and is reported.

mod body;
mod event;
mod group;
mod machine;
mod view;

pub use body::{Bodies, MAX_PART_BYTES, Message};
pub use event::{Answer, Config, Event, Input, Output, Plan, Wanted};
pub use machine::{Adoption, MAX_GROUPS, SLOTS, Standing};
pub use view::{Basis, View, Why};

#[cfg(test)]
mod tests;
