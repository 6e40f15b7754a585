//! Topologies and round trips.

use skep_base::ByteSize;
use skep_control::api::{
    OverlayBasis, RoundTrip, RttBasis, Topology, TopologyDecree, TopologyEdge,
};

use super::{Style, count, facts, finish, or_dash, right};
use crate::human;

/// A group's overlay: what it begins with, then a line a member with whom it links to.
#[must_use]
pub fn topology(topology: &Topology, style: Style) -> String {
    let mut rows = vec![("group", name(topology)), ("overlay", basis(topology))];
    if let Some(decree) = &topology.decree {
        rows.push(("decree", stamp(decree)));
    }
    rows.push(("size", size(topology)));
    rows.push(("figures", figures(topology)));
    rows.push(("master", or_dash(topology.master.as_ref())));
    if let Some(ms) = topology.switching_ms {
        let what = "old links are kept until the new overlay is whole, since";
        rows.push(("waits", format!("{what} {}", human::span(ms))));
    }
    if let Some(ms) = topology.computing_ms {
        rows.push(("waits", format!("computing the next here, since {}", human::span(ms))));
    }
    if let Some(failure) = &topology.failure {
        let ago = human::span(failure.ago_ms);
        rows.push(("problem", format!("no topology {ago} ago: {}", failure.why)));
    }
    let mut text = facts(style, &rows);
    text.push('\n');
    text.push_str(&sites(topology, style));
    text
}

fn name(topology: &Topology) -> String {
    let elsewhere = if topology.joined { "" } else { ", of which this node is no member" };
    format!("{}{elsewhere}", topology.group)
}

/// Which overlay is in force, and why.
fn basis(topology: &Topology) -> String {
    let word = topology.basis.word();
    match (topology.basis, &topology.decree, &topology.why) {
        (OverlayBasis::Computed, Some(decree), _) => {
            let mended = match topology.mended {
                0 => String::new(),
                mended => format!(", mended by {}", count(mended, "edge")),
            };
            format!("{word}, number {} by {}{mended}", decree.epoch, decree.by)
        }
        (OverlayBasis::Hash, _, Some(why)) => format!("{word}: {why}"),
        _ => word.to_owned(),
    }
}

fn stamp(decree: &TopologyDecree) -> String {
    let TopologyDecree { epoch, fork, by, adopted_ms, members, edges, connectivity } = decree;
    format!(
        "{epoch}.{fork:016x} by {by}, in force here for {}; for {}, {}, {connectivity}-connected",
        human::span(*adopted_ms),
        count(*members, "member"),
        count(*edges, "edge"),
    )
}

/// Cost and length, as the computation weighs them.
fn figures(topology: &Topology) -> String {
    let figures = &topology.figures;
    format!(
        "cost {}, diameter {}, mean way {}, {} to {} links a member",
        millis(figures.cost_us),
        millis(figures.diameter_us),
        millis(figures.distance_us),
        figures.fewest_links,
        figures.most_links,
    )
}

fn size(topology: &Topology) -> String {
    let members = u32::try_from(topology.sites.len()).unwrap_or(u32::MAX);
    let edges = u32::try_from(topology.edges.len()).unwrap_or(u32::MAX);
    let k = topology.connectivity;
    format!("{}, {}, {k}-connected", count(members, "member"), count(edges, "edge"))
}

fn sites(topology: &Topology, style: Style) -> String {
    let mut table = style.table(&["node", "links", "to, nearest first"]);
    for (at, site) in (0_u32..).zip(&topology.sites) {
        let other = |edge: &TopologyEdge| match (edge.a == at, edge.b == at) {
            (true, _) => Some(edge.b),
            (_, true) => Some(edge.a),
            _ => None,
        };
        let ends = topology.edges.iter().filter_map(|edge| Some((edge, other(edge)?)));
        let mut ends: Vec<(u64, String)> = ends
            .filter_map(|(edge, to)| {
                let name = &topology.sites.get(to as usize)?.node;
                let far = edge.rtt_us.map_or_else(|| "?".to_owned(), |us| rtt(us, edge.basis));
                // What was added since the decree is told apart from what was computed.
                let since = topology.basis == OverlayBasis::Computed && !edge.decreed;
                let mark = if since { "+" } else { "" };
                Some((edge.rtt_us.unwrap_or(u64::MAX), format!("{mark}{name} {far}")))
            })
            .collect();
        ends.sort();
        let names: Vec<String> = ends.into_iter().map(|(_, name)| name).collect();
        table.add_row(vec![
            style.cell(&site.node, None),
            right(names.len()),
            style.cell(names.join(", "), None),
        ]);
    }
    finish(table, &[0, 1])
}

/// A round trip; one that was predicted has a `~`.
fn rtt(us: u64, basis: Option<RttBasis>) -> String {
    let sign = if basis == Some(RttBasis::Measured) { "" } else { "~" };
    format!("{sign}{}", millis(us))
}

/// Microseconds as milliseconds, with as many digits as they are good for.
fn millis(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{}.{:02} ms", us / 1000, us % 1000 / 10),
        _ => format!("{}.{} ms", us / 1000, us % 1000 / 100),
    }
}

/// What is known of a pair of nodes.
#[must_use]
pub fn round_trip(pair: &RoundTrip, style: Style) -> String {
    let mut rows = vec![("between", format!("{} and {}", pair.from, pair.to))];
    match pair.rtt_us {
        None => rows.push(("round trip", "unknown: neither of them has published anything".into())),
        Some(us) => {
            let deviation = pair.deviation_us.map(|us| format!(" ± {}", millis(us)));
            rows.push(("round trip", format!("{}{}", millis(us), deviation.unwrap_or_default())));
        }
    }
    if let Some(basis) = pair.basis {
        let by = pair.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
        let age = pair.age_ms.map_or_else(String::new, |ms| format!(", {} ago", human::span(ms)));
        rows.push(("basis", format!("{}{by}{age}", basis.words())));
    }
    if let Some(rate) = pair.bytes_per_second {
        rows.push(("bandwidth", format!("{}/s", ByteSize(rate))));
    }
    facts(style, &rows)
}
