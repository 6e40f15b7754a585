//! Coordinates of whole flocks that measure as the machine does.

use alloc::vec::Vec;
use core::time::Duration;

use super::net::{Line, Net, node};
use skep_base::NodeId;

use crate::{Config, Costs, short_id};

/// A made-up continent: points in a plane by identity, 0 to 80 ms across, and 1 ms at each end.
fn continent(a: NodeId, b: NodeId) -> Line {
    let place = |id: NodeId| {
        let bits = short_id(id).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        ((bits >> 40 & 0xFFF) as f64 / 51.2, (bits >> 20 & 0xFFF) as f64 / 51.2)
    };
    let ((ax, ay), (bx, by)) = (place(a), place(b));
    let ms = 2.0 + crate::math::sqrt((ax - bx) * (ax - bx) + (ay - by) * (ay - by));
    Line { one_way: Duration::from_secs_f64(ms / 2e3), rate: 1 << 30, jitter: 0.15 }
}

#[test]
fn pairs_that_never_met_are_predicted_from_what_others_measured() {
    let n = 60;
    let config = Config { bandwidth_period: Duration::ZERO, ..Config::default() };
    let mut net = Net::new(n, &config, continent);
    for a in 0..n {
        for step in [1, 7] {
            net.link(node(a), node((a + step) % n));
        }
    }
    net.run_for(Duration::from_secs(1200));
    let members: Vec<NodeId> = (0..n).map(node).collect();
    let costs = Costs::new(&members, &|id| net.reports.get(&id).cloned());
    let pairs = (0..n).flat_map(|a| (0..a).map(move |b| (a, b)));
    let mut errors: Vec<f64> = pairs
        .filter_map(|(a, b)| {
            let (rtt, basis) = costs.rtt(a, b)?;
            let truth = continent(node(a), node(b)).one_way.as_secs_f64() * 2.0;
            (basis == crate::Basis::Coordinates).then(|| (rtt.as_secs_f64() - truth).abs() / truth)
        })
        .collect();
    errors.sort_by(f64::total_cmp);
    let median = errors[errors.len() / 2];
    // A node told its first report, and what its coordinate needed to come to rest.
    assert!(net.published < 10 * n as u64, "{} reports", net.published);
    assert!(errors.len() > n * n / 4, "hardly anything was predicted: {}", errors.len());
    assert!(median < 0.08, "median relative error {median}");
}
