//! Updates that wait for their predecessor.

use alloc::collections::BTreeMap;
use core::ops::Bound;

use skep_base::{NodeId, Time};

use crate::event::Body;
use crate::id::Serial;
use crate::life::GroupIx;
use crate::message::Header;

/// Updates that wait at most, over all origins. One that is let go is asked for again later.
pub(crate) const MAX_HELD: usize = 8192;
/// Bytes of bodies that wait at most.
pub(crate) const MAX_HELD_BYTES: usize = 16 << 20;

/// One update that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) header: Header,
    pub(crate) born: i64,
    pub(crate) body: Body,
    pub(crate) from: NodeId,
}

/// The updates of one origin that wait for one before them.
#[derive(Debug)]
pub(crate) struct Blocked {
    pub(crate) waiting: BTreeMap<Serial, Waiting>,
    /// Since when, or since the last progress.
    pub(crate) since: Time,
    /// When to ask a neighbour for what is missing.
    pub(crate) ask_at: Time,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) blocked: BTreeMap<(GroupIx, NodeId), Blocked>,
    count: usize,
    bytes: usize,
}

impl Held {
    pub(crate) fn contains(&self, group: GroupIx, origin: NodeId, serial: Serial) -> bool {
        let blocked = self.blocked.get(&(group, origin));
        blocked.is_some_and(|blocked| blocked.waiting.contains_key(&serial))
    }

    pub(crate) fn get(&self, group: GroupIx, origin: NodeId, serial: Serial) -> Option<&Waiting> {
        self.blocked.get(&(group, origin))?.waiting.get(&serial)
    }

    /// Lets an update wait, unless too many do.
    pub(crate) fn hold(
        &mut self,
        group: GroupIx,
        waiting: Waiting,
        now: Time,
        ask_at: Time,
    ) -> bool {
        let bytes = waiting.body.in_memory();
        if self.count >= MAX_HELD || self.bytes + bytes > MAX_HELD_BYTES {
            return false;
        }
        let id = waiting.header.id;
        let blocked = self.blocked.entry((group, id.origin)).or_insert_with(|| Blocked {
            waiting: BTreeMap::new(),
            since: now,
            ask_at,
        });
        if let Some(before) = blocked.waiting.insert(id.serial, waiting) {
            self.bytes -= before.body.in_memory();
            self.count -= 1;
        }
        self.count += 1;
        self.bytes += bytes;
        true
    }

    /// Takes the first update of an origin that `ready` lets go. Within a life a later one never is
    /// ready before an earlier one, so only the first of each life is looked at.
    pub(crate) fn release(
        &mut self,
        group: GroupIx,
        origin: NodeId,
        ready: impl Fn(&Header) -> bool,
    ) -> Option<Waiting> {
        let blocked = self.blocked.get_mut(&(group, origin))?;
        let mut candidate = blocked.waiting.first_key_value().map(|(serial, _)| *serial);
        while let Some(serial) = candidate {
            if ready(&blocked.waiting.get(&serial)?.header) {
                break;
            }
            // Not from the next life on: of the last that a peer can name there is none.
            let of_life = Serial { sequence: u64::MAX, ..serial };
            let later = (Bound::Excluded(of_life), Bound::Unbounded);
            candidate = blocked.waiting.range(later).next().map(|it| *it.0);
        }
        let released = blocked.waiting.remove(&candidate?)?;
        self.count -= 1;
        self.bytes -= released.body.in_memory();
        if blocked.waiting.is_empty() {
            self.blocked.remove(&(group, origin));
        }
        Some(released)
    }

    pub(crate) fn forget(&mut self, of: impl Fn(GroupIx, NodeId) -> bool) {
        self.blocked.retain(|(group, origin), _| !of(*group, *origin));
        let waiting = self.blocked.values().flat_map(|it| it.waiting.values());
        self.bytes = waiting.clone().map(|it| it.body.in_memory()).sum();
        self.count = waiting.count();
    }

    pub(crate) fn check(&self) {
        let waiting = self.blocked.values().flat_map(|it| it.waiting.values());
        let bytes: usize = waiting.clone().map(|it| it.body.in_memory()).sum();
        assert_eq!(waiting.count(), self.count, "held updates are counted");
        assert_eq!(bytes, self.bytes, "held bytes are counted");
        assert!(self.count <= MAX_HELD, "held updates are bounded");
        assert!(self.bytes <= MAX_HELD_BYTES, "held bytes are bounded");
        assert!(
            self.blocked.values().all(|it| !it.waiting.is_empty()),
            "nothing is blocked for nothing"
        );
    }
}
