//! What a stretch of a run cost each node, in counts that do not depend on the machine.

use crate::report::{Cost, Costs};
use crate::world::World;

impl World {
    /// Notes for the report what every node has spent since its process started.
    pub fn count_costs(&mut self, stretch: impl Into<String>) {
        let names = self.live().filter_map(|host| self.costs_of(host)).collect::<Vec<_>>();
        let count = u32::try_from(names.len().max(1)).unwrap_or(u32::MAX);
        let mut costs: Vec<Cost> = Vec::new();
        for node in names {
            for (at, (what, spent)) in node.into_iter().enumerate() {
                if at == costs.len() {
                    costs.push(Cost { what, mean: 0.0, most: 0 });
                }
                let cost = &mut costs[at];
                #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
                let share = spent as f64 / f64::from(count);
                cost.mean += share;
                cost.most = cost.most.max(spent);
            }
        }
        self.costs.push(Costs { stretch: stretch.into(), costs });
    }

    fn costs_of(&self, host: crate::HostIx) -> Option<[(&'static str, u64); 20]> {
        let node = self.node(host)?;
        let records = node.records().statistics();
        let membership = node.membership_statistics();
        let frames = self.host(host).frames;
        Some([
            ("signatures verified", records.verified),
            ("  of certificates' issuers", records.certificates),
            ("records received", records.received),
            ("  known already", records.duplicates),
            ("  kept", records.accepted),
            ("records sent", records.sent),
            ("records published", records.published),
            ("  of whom it hears", membership.watches),
            ("links made", membership.links),
            ("links dialled", membership.dials),
            ("  in vain", membership.dials_failed),
            ("links released", membership.released),
            ("links now", node.links().count() as u64),
            ("frames sent", frames.sent),
            ("  bytes of bodies", frames.sent_bytes),
            ("frames received", frames.received),
            ("  with records", frames.records),
            ("  heartbeats", frames.beats),
            ("presence derived", membership.derived),
            ("  members changed", membership.changed),
        ])
    }
}
