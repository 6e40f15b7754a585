//! Gaps: reported at once, and noted in the log, so that each subscriber is told in its turn even
//! when it or this node was down meanwhile (FLOOD-1, FLOOD-2).

use alloc::vec::Vec;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};

use crate::event::{Body, GapReason, LogEntry, LogHead, Missed, Output};
use crate::id::{Position, Serial};
use crate::life::GroupIx;
use crate::machine::{Flood, millis};

/// Notes that are kept for subscribers; with more, the oldest go.
pub(crate) const MAX_NOTES: usize = 4096;
/// Gaps that are reported at once at most: the others are counted and noted only.
const MAX_REPORTS: usize = 1024;

/// A gap in the log.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) group: GroupIx,
    pub(crate) born: i64,
    pub(crate) missed: Missed,
}

impl Flood {
    /// Updates will not come, or not in their order.
    pub(crate) fn report_gap(
        &mut self,
        now: Time,
        ix: GroupIx,
        origin: NodeId,
        after: Option<Serial>,
        up_to: Serial,
        reason: GapReason,
    ) {
        self.stats.count_gap(reason);
        let Some(group) = self.group_name(ix).cloned() else {
            return;
        };
        let missed = Missed { group, origin, after, up_to, reason };
        if self.reports.len() < MAX_REPORTS {
            self.reports.push(missed.clone());
        }
        self.note(now, ix, missed);
    }

    fn note(&mut self, now: Time, ix: GroupIx, missed: Missed) {
        let position = Position(self.index.append_note(millis(now)));
        let head = LogHead::Gap(missed.clone());
        self.appending.push(LogEntry { position, head, body: Body::Here(Bytes::new()) });
        self.notes.insert(position.0, Note { group: ix, born: millis(now), missed });
        while self.notes.len() > MAX_NOTES {
            if let Some((position, _)) = self.notes.pop_first() {
                self.stats.dropped_notes += 1;
                self.index.clear_note(Position(position));
            }
        }
    }

    /// The log could not take notes from a position on: they go in again after what it does take.
    pub(crate) fn renew_notes(&mut self, now: Time, lost: Vec<Note>) {
        for note in lost {
            self.note(now, note.group, note.missed);
        }
    }

    pub(crate) fn send_reports(&mut self, out: &mut Outbox<Output>) {
        for missed in core::mem::take(&mut self.reports) {
            let Missed { group, origin, after, up_to, reason } = missed;
            out.push(Output::Gap { group, origin, after, up_to, reason });
        }
    }
}
