//! What people are shown of a group's overlay, also of a group that this node is not in: everybody
//! knows who is in which group and what was decreed for it.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use skep_base::{GroupName, NodeId};
use skep_estimates::Costs;
use skep_topology::Overlay;
use skep_topology::adoption::View;
use skep_topology::computed::{self, Appraisal, Place, Problem, Site, Topology, Weights};

use crate::job::{MAX_LINKS, Prices};
use crate::node::Node;

/// A group as it is now.
#[derive(Clone, Debug)]
pub struct Portrait<'a> {
    /// Who links to whom.
    pub overlay: Cow<'a, Overlay>,
    /// Which topology that begins with, if any.
    pub view: View<'a>,
    /// This node is in the group.
    pub joined: bool,
}

impl Node {
    /// A group's overlay; nothing where no present member is in the group.
    #[must_use]
    pub fn portrait(&self, group: &GroupName) -> Option<Portrait<'_>> {
        if let Some(overlay) = self.overlay(group) {
            let view = self.adoption().view_among(group, overlay.members());
            let overlay = Cow::Borrowed(overlay);
            return (!overlay.members().is_empty()).then_some(Portrait {
                overlay,
                view,
                joined: true,
            });
        }
        let layout = self.layout()?;
        let present = layout.members().iter().copied();
        // Of its own groups this node has an overlay.
        let others = present.filter(|id| *id != self.id());
        let members: Vec<NodeId> = others.filter(|id| self.is_in(*id, group)).collect();
        if members.is_empty() {
            return None;
        }
        let view = self.adoption().view_among(group, &members);
        let overlay = Cow::Owned(self.group_overlay(group, &members, layout));
        Some(Portrait { overlay, view, joined: false })
    }
}

/// How good an overlay is by `estimates` of its members, edge by edge in the overlay's order. Takes
/// a moment where there are thousands.
#[must_use]
pub fn appraise(overlay: &Overlay, estimates: &Costs) -> Appraisal {
    let mut sites: Vec<Site> = overlay.members().iter().map(|id| Site::new(*id)).collect();
    for (at, site) in sites.iter_mut().enumerate() {
        let degrees = estimates.place(at).map(skep_estimates::Place::degrees);
        site.place = degrees.and_then(|(lat, long)| Place::new(lat, long));
    }
    let problem = Problem {
        costs: &Prices::new(estimates.clone(), sites.len()),
        sites: &sites,
        k: overlay.connectivity(),
        degree_bound: MAX_LINKS,
        weights: Weights::default(),
    };
    computed::appraise(&problem, &Topology::of(overlay))
}
