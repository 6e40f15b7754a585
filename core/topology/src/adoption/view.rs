//! What people are shown of a group's topology: which one is in force, or why none is.

use alloc::sync::Arc;

use skep_base::{GroupName, NodeId, Time};

use super::group::Group;
use super::machine::{Adoption, Standing};
use crate::computed::Topology;
use crate::computed::decree::Stamp;
use crate::covers;
use crate::overlay::COMPLETE_UP_TO;

/// A group's topology, for listings.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The decree in force.
    pub stamp: Option<Stamp>,
    /// Whose it is.
    pub by: Option<NodeId>,
    /// The topology in force.
    pub topology: Option<&'a Arc<Topology>>,
    /// Since when it is in force here.
    pub adopted: Option<Time>,
    /// What the overlay begins with.
    pub basis: Basis,
    /// Who computes the next.
    pub master: Option<NodeId>,
    /// Since when old neighbours are kept beside the new.
    pub switching_since: Option<Time>,
    /// Since when a computation is under way here.
    pub computing_since: Option<Time>,
    /// When a computation here last came to nothing, and why.
    pub failure: Option<(Time, &'a str)>,
}

/// What the overlay of a group begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The topology in force, mended where members went or came since it was computed.
    Computed,
    /// A hash of who is present.
    Hash(Why),
}

/// Why no topology is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// So few members all link to one another.
    Few,
    /// No decree has come.
    Undecreed,
    /// A decree has come, and its body, which travels by itself, has not.
    Awaited(Stamp),
    /// The topology in force knows fewer than half of those who are present.
    Uncovered {
        /// How many it knows.
        known: usize,
    },
}

impl Adoption {
    /// What the overlay of `group` begins with, if that is not the hash.
    #[must_use]
    pub fn standing(&self, group: &GroupName) -> Option<Standing> {
        let present = &self.groups.get(group)?.present;
        self.standing_among(group, present)
    }

    /// The same where `present` are the members: of a group that this node is not in, whose members
    /// nobody tells it.
    #[must_use]
    pub fn standing_among(&self, group: &GroupName, present: &[NodeId]) -> Option<Standing> {
        let adopted = self.groups.get(group)?.adopted.as_ref()?;
        covers(adopted.topology.members(), present)
            .then(|| Standing { id: adopted.id(), topology: Arc::clone(&adopted.topology) })
    }

    /// One group, for listings.
    #[must_use]
    pub fn view(&self, group: &GroupName) -> Option<View<'_>> {
        let group = self.groups.get(group)?;
        Some(group.view(&group.present))
    }

    /// The same where `present` are the members, in order: of a group that this node is not in.
    #[must_use]
    pub fn view_among(&self, group: &GroupName, present: &[NodeId]) -> View<'_> {
        match self.groups.get(group) {
            Some(group) => group.view(present),
            None => Group::default().nothing_of(present),
        }
    }
}

impl Group {
    fn view(&self, present: &[NodeId]) -> View<'_> {
        let adopted = self.adopted.as_ref();
        View {
            stamp: adopted.map(|adopted| adopted.stamp),
            by: adopted.map(|adopted| adopted.owner),
            topology: adopted.map(|adopted| &adopted.topology),
            adopted: adopted.map(|adopted| adopted.at),
            switching_since: self.switching.map(|switching| switching.since),
            computing_since: self.job.map(|(_, since)| since),
            failure: self.failure.as_ref().map(|(at, why)| (*at, why.as_str())),
            ..self.nothing_of(present)
        }
    }

    /// What there is to say of a group in which nothing has happened, beside who computes and what
    /// its overlay begins with.
    fn nothing_of(&self, present: &[NodeId]) -> View<'static> {
        View {
            stamp: None,
            by: None,
            topology: None,
            adopted: None,
            basis: self.basis(present),
            master: self.master_among(present),
            switching_since: None,
            computing_since: None,
            failure: None,
        }
    }

    fn basis(&self, present: &[NodeId]) -> Basis {
        if present.len() <= COMPLETE_UP_TO {
            return Basis::Hash(Why::Few);
        }
        let Some(adopted) = &self.adopted else {
            let newest = self.newest().map(|(_, known)| known.decree.stamp);
            return Basis::Hash(newest.map_or(Why::Undecreed, Why::Awaited));
        };
        let made_for = adopted.topology.members();
        if covers(made_for, present) {
            return Basis::Computed;
        }
        let known = present.iter().filter(|id| made_for.binary_search(id).is_ok()).count();
        Basis::Hash(Why::Uncovered { known })
    }
}
