//! What was counted.

use crate::event::GapReason;

/// Counts since the start of the process. Everything that is dropped is dropped for one of the
/// reasons here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Updates published here.
    pub published: u64,
    /// Updates of others put into the log.
    pub accepted: u64,
    /// Of those, out of order after a gap.
    pub late: u64,
    /// Updates that came once more.
    pub duplicates: u64,
    /// Updates refused for their age.
    pub stale: u64,
    /// Messages or updates refused as wrong.
    pub rejected: u64,
    /// Gaps reported: the sum of the next five.
    pub gaps: u64,
    /// Of those, because nobody gave the updates within the pull time-out.
    pub gaps_timed_out: u64,
    /// Because they are over the purge age.
    pub gaps_purged: u64,
    /// Because a neighbour dropped them.
    pub gaps_dropped: u64,
    /// Because this node dropped them before a subscriber had them.
    pub gaps_unread: u64,
    /// Because they are over this node's own limit.
    pub gaps_too_large: u64,
    /// Updates that waited for a predecessor and were let go because too many did; they are asked
    /// for again.
    pub dropped_held: u64,
    /// Log entries past the purge age.
    pub purged: u64,
    /// Log entries dropped for lack of room that every subscriber had: they waited only for members
    /// that are away (FLOOD-33, dropped first).
    pub dropped_for_absent: u64,
    /// Log entries dropped for lack of room that a linked neighbour had yet to get (FLOOD-33,
    /// dropped second).
    pub dropped_unsent: u64,
    /// Notes of gaps that were dropped because there were too many.
    pub dropped_notes: u64,
    /// Log entries dropped for lack of room that a subscriber had not had (FLOOD-33, dropped last).
    pub dropped_unread: u64,
    /// Log entries that the disk did not take.
    pub dropped_storage: u64,
    /// Large bodies given up because too many were being pulled.
    pub dropped_fetches: u64,
    /// Lives of origins forgotten because there were too many.
    pub dropped_lives: u64,
    /// Pulls sent.
    pub pulls: u64,
    /// Pulls answered.
    pub pulls_served: u64,
    /// Comparisons in which a neighbour's digest differed.
    pub differences: u64,
    /// Large bodies pulled.
    pub fetched: u64,
    /// Bytes of pieces of large bodies that came in.
    pub fetched_bytes: u64,
    /// Ids told instead of bodies.
    pub ids_sent: u64,
    /// Origins whose bodies neighbours were told not to send.
    pub prunes_sent: u64,
    /// Origins whose bodies neighbours were told to send again.
    pub grafts_sent: u64,
    /// Updates asked for because only their ids came.
    pub asked: u64,
    /// Ids that were not looked into because there were too many; comparisons show them.
    pub dropped_rumours: u64,
    /// Bytes of messages made for neighbours.
    pub sent_bytes: u64,
}

impl Stats {
    /// Gaps by [their reason](GapReason::word).
    #[must_use]
    pub const fn gaps_by_reason(&self) -> [(&'static str, u64); 5] {
        [
            (GapReason::PullTimeout.word(), self.gaps_timed_out),
            (GapReason::Purged.word(), self.gaps_purged),
            (GapReason::Dropped.word(), self.gaps_dropped),
            (GapReason::NoRoom.word(), self.gaps_unread),
            (GapReason::TooLarge { length: 0, limit: 0 }.word(), self.gaps_too_large),
        ]
    }

    pub(crate) const fn count_gap(&mut self, reason: GapReason) {
        self.gaps += 1;
        *match reason {
            GapReason::PullTimeout => &mut self.gaps_timed_out,
            GapReason::Purged => &mut self.gaps_purged,
            GapReason::Dropped => &mut self.gaps_dropped,
            GapReason::NoRoom => &mut self.gaps_unread,
            GapReason::TooLarge { .. } => &mut self.gaps_too_large,
        } += 1;
    }
}
