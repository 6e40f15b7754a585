//! Faults to plant, so that tests can show that their checkers see them.

use std::cell::Cell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Acknowledges without waiting for the disks of the sync set.
    NoSyncSet,
    /// Answers are sent before what they say is on disk.
    NoPersist,
    /// A lease lasts for longer than an election takes.
    LongLease,
    /// A history may be handed over half and is dropped.
    HalfMerge,
    /// Orders are carried out whatever their stamp.
    NoFence,
    /// A lease for strict authority is given while another's lasts.
    TwoLeases,
    /// Leases are given under whatever founding number.
    AnyFounding,
    /// Orders are carried out before their stamp is on disk.
    ForgetfulFence,
    /// A history is taken at its word that it is strong.
    NoConfirmations,
    /// A master does not pass the stamps of flocks that ended in its own.
    PassesNobody,
    /// A promise of the roster is taken for one when another was given since.
    StalePromises,
    /// Who is about to join the sync set may lack what was acknowledged.
    NoJoiners,
    /// A node has one raft id for all its lives, and no master minds.
    OneRaftId,
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

pub(crate) fn set(bug: Option<Bug>) {
    PLANTED.set(bug);
}
