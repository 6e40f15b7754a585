//! One master, two backups, and flocks that survive losing any of them, split and heal (DVM-1 to
//! 28, BLOC-9 to 28).
//!
//! Of the eligible nodes of a flock three are its *managers*: the voters of one `raft` group, of
//! which the leader is the *master*. The next one or two of the *roster* follow its log as
//! learners, so that a silent backup is replaced by one that has caught up. The master
//! acknowledges an entry of the catalog when it is decided by a majority *and* on disk at every
//! member of the *sync set*; a slow or silent member leaves the set by a decided entry of which
//! the nodes of the roster are told as well, so the last survivor of any double loss knows whether
//! it has everything. `docs/protocol/managers.md` has the scenarios and a state diagram.
//!
//! The engine is TiKV's `raft`. It has no clock and no IO; its election time-outs are set from our
//! own seeded chance after every reset; its messages and log entries are encoded by us, field by
//! field, and what could make it fail is refused before it sees it (invariant 5). Because the
//! engine needs `std`, this crate alone of `core/` is not `no_std`.
//!
//! # What a host must do
//!
//! One [`Managers`] a node, from the first start on, whether the node is eligible or not. After
//! each [`Managers::handle`] and [`Managers::tick`] the host carries out the outputs *in order*:
//!
//! 1. [`Output::Persist`] writes are done in the order of their tickets, each wholly or not at all,
//!    and [`Input::Persisted`] is said only when the write would survive a power cut. Several may
//!    be synced together; the newest ticket stands for those before it. Nothing needs to wait for
//!    a write but that: what depends on one is given out only after [`Input::Persisted`].
//! 2. [`Output::Send`] goes to the node named, by any way; it may be lost, doubled or late, and
//!    [`Input::Message`] names whom the transport vouches for. Messages of one sender should keep
//!    their order while they can.
//! 3. [`Output::Announce`] replaces this node's record of managers; [`Input::Announced`] is said of
//!    each *present* node's newest record, and of none that is not present.
//! 4. [`Output::Install`] and [`Output::Committed`] change the host's copy of the catalog. They are
//!    *not* to be persisted apart from the managers' store: after a start they come again, from
//!    what [`Restored`] holds, before anything else.
//! 5. [`Output::WantHandOver`] is answered at once with [`Input::HandOver`], before the machine is
//!    given anything that came after. What a history says is the host's: from its own entries alone
//!    it makes what another history shall take over, and there each item comes as an entry of
//!    [`Origin::Foreign`]. A host that cannot read its own checkpoint does not answer; the history
//!    is kept then, and asked for again.
//! 6. At a start the host gives back exactly what was persisted. When [`Managers::new`] refuses it
//!    the node does not start: what is on disk is never guessed at.
//! 7. [`Managers::tick`] is called when [`Managers::deadline`] says; late calls cost availability,
//!    never safety. The clock is the node's own, runs on while it is suspended, and never jumps.

#![warn(missing_docs)]

mod admit;
mod boot;
mod compare;
mod config;
mod convert;
mod disk;
mod engine;
mod event;
mod fence;
mod follow;
mod founding;
mod gone;
mod group;
mod id;
mod lonely;
mod machine;
mod master;
mod merge;
mod message;
mod operator;
mod orphan;
mod others;
mod outcast;
#[cfg(test)]
mod plant;
mod proof;
mod pump;
mod reach;
mod resources;
mod role;
mod roll;
mod shown;
mod solitude;
mod standing;
mod status;
mod storage;
mod stored;
mod strict;
#[cfg(test)]
mod tests;
mod view;
mod voters;
mod waits;

pub use config::{
    Config, ConfigError, MANAGERS, MAX_ENTRY_BYTES, MAX_HAND_OVER_BYTES, MAX_HISTORIES,
    MAX_IMAGE_BYTES, MAX_NODES, MAX_PROPOSALS, MAX_ROSTER, MAX_VOTERS,
};
pub use event::{
    Command, Decided, DiskFault, Down, Eligibility, Event, Input, Origin, Output, Reason, Refusal,
    Ticket, Token,
};
pub use id::{
    Epoch, ForkId, Founding, Generation, Judgement, Lineage, RaftId, Role, Stamp, Strength,
    flock_name,
};
pub use machine::{Managers, Me};
pub use message::{MAX_MESSAGE_BYTES, is_announcement, is_message, samples};
pub use others::MAX_OTHERS;
pub use reach::Reach;
pub use resources::{Counters, Gauge, LinkCounters, Parts, USUAL_RESOURCES};
pub use shown::{FlockShown, MAX_SHOWN_BYTES, OtherShown, PlaceShown, Shown, WaitShown};
pub use stored::{CorruptStore, Cut, ImageChange, Kept, Restored, StoredEntry, Write, can_read};
pub use view::{
    Authority, FlockView, OtherFlock, Part, RosterView, Seen, View, Wait, Waiting, Weak,
};
