//! Updates that neighbours have by their own account, and whose bodies are not here: each is on its
//! way over another edge, or was lost with it and is asked for.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use skep_base::{NodeId, Time};

use crate::id::UpdateId;
use crate::life::GroupIx;

/// Updates heard of at most: a second and a half of the fastest flood. More are left to
/// comparisons.
pub(crate) const MAX_RUMOURS: usize = 65_536;
/// Neighbours remembered for each.
const MAX_HOLDERS: usize = 8;

/// One update that somebody has.
#[derive(Debug)]
pub(crate) struct Rumour {
    /// When the first id came.
    pub(crate) first: Time,
    /// Who has it, the first who said so first.
    pub(crate) holders: Vec<NodeId>,
    /// How often somebody was asked.
    pub(crate) asked: usize,
    due: Time,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rumours {
    of: BTreeMap<(GroupIx, UpdateId), Rumour>,
    due: BTreeSet<(Time, GroupIx, UpdateId)>,
}

impl Rumours {
    /// A neighbour has it; whoever has it is asked at `due` unless it came by then. False when
    /// there is no room.
    pub(crate) fn hear(
        &mut self,
        group: GroupIx,
        id: UpdateId,
        holder: NodeId,
        (now, due): (Time, Time),
    ) -> bool {
        if let Some(rumour) = self.of.get_mut(&(group, id)) {
            if rumour.holders.len() < MAX_HOLDERS && !rumour.holders.contains(&holder) {
                rumour.holders.push(holder);
            }
            return true;
        }
        if self.of.len() >= MAX_RUMOURS {
            return false;
        }
        let rumour = Rumour { first: now, holders: [holder].into(), asked: 0, due };
        self.of.insert((group, id), rumour);
        self.due.insert((due, group, id));
        true
    }

    /// It came.
    pub(crate) fn settle(&mut self, group: GroupIx, id: UpdateId) -> Option<Rumour> {
        let rumour = self.of.remove(&(group, id))?;
        self.due.remove(&(rumour.due, group, id));
        Some(rumour)
    }

    /// When somebody must be asked next.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// An update to ask for now, if there is one; the caller says when again by [`Self::again`].
    pub(crate) fn due(&mut self, now: Time) -> Option<(GroupIx, UpdateId, &mut Rumour)> {
        let (_, group, id) = self.due.first().copied().filter(|(at, ..)| *at <= now)?;
        self.due.pop_first();
        self.of.get_mut(&(group, id)).map(|rumour| (group, id, rumour))
    }

    /// It is looked into again at `due`; `asked` if somebody was asked now.
    pub(crate) fn again(&mut self, group: GroupIx, id: UpdateId, due: Time, asked: bool) {
        if let Some(rumour) = self.of.get_mut(&(group, id)) {
            rumour.asked += usize::from(asked);
            rumour.due = due;
            self.due.insert((due, group, id));
        }
    }

    /// A neighbour is gone: others are asked for what came over that edge, at once.
    pub(crate) fn forget_peer(&mut self, group: GroupIx, peer: NodeId, now: Time) {
        let of_group = self.of.iter_mut().filter(|((of, _), _)| *of == group);
        for ((group, id), rumour) in of_group {
            rumour.holders.retain(|holder| *holder != peer);
            self.due.remove(&(rumour.due, *group, *id));
            rumour.due = rumour.due.min(now);
            self.due.insert((rumour.due, *group, *id));
        }
    }

    pub(crate) fn forget(&mut self, of: impl Fn(GroupIx, NodeId) -> bool) {
        self.of.retain(|(group, id), _| !of(*group, id.origin));
        self.due.retain(|(_, group, id)| !of(*group, id.origin));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.of.len()
    }

    pub(crate) fn check(&self) {
        assert!(self.of.len() <= MAX_RUMOURS, "rumours are bounded");
        assert_eq!(self.of.len(), self.due.len(), "each rumour is looked into once");
        for (due, group, id) in &self.due {
            let rumour = self.of.get(&(*group, *id));
            assert!(rumour.is_some_and(|rumour| rumour.due == *due), "both agree");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Serial;
    use skep_base::Incarnation;

    const GROUP: GroupIx = GroupIx(0);

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; NodeId::LEN])
    }

    fn id(sequence: u64) -> UpdateId {
        UpdateId { origin: node(1), serial: Serial { incarnation: Incarnation(1), sequence } }
    }

    #[test]
    fn what_came_is_not_asked_for() {
        let mut rumours = Rumours::default();
        let at = Time::from_millis;
        assert!(rumours.hear(GROUP, id(1), node(2), (at(1), at(9))));
        assert!(rumours.hear(GROUP, id(1), node(3), (at(2), at(4))));
        assert!(rumours.hear(GROUP, id(2), node(3), (at(2), at(12))));
        assert_eq!(rumours.next_due(), Some(at(9)));
        let settled = rumours.settle(GROUP, id(1)).unwrap();
        assert_eq!((settled.first, settled.holders.len()), (at(1), 2));
        assert!(rumours.due(at(11)).is_none());
        assert!(rumours.due(at(12)).is_some_and(|(_, of, _)| of == id(2)));
        rumours.again(GROUP, id(2), at(20), true);
        rumours.check();
        rumours.forget_peer(GROUP, node(3), at(13));
        assert_eq!(rumours.next_due(), Some(at(13)));
        rumours.check();
        rumours.forget(|_, origin| origin == node(1));
        assert_eq!(rumours.len(), 0);
        rumours.check();
    }
}
