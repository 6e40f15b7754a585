//! Groups, links, figures and neighbours, as clients are shown them.

use std::time::Duration;

use skep_base::{GroupName, NodeId, NodeName};
use skep_client_port::{Group, Refusal};
use skep_control::api::Presence;
use skep_estimates::Basis;
use skep_lines::{Hint, Ports, Statistic, code};
use skep_node::Status;
use skep_records::kind as record;

use crate::spine::Spine;

impl Spine {
    pub(super) fn group_view(&self, name: &GroupName) -> Result<Group, Refusal> {
        let group = self.shown_group(name);
        if group.members.is_empty() {
            let text = format!("no node is in group {name}; try groups");
            return Err(Refusal::new(code::NOT_FOUND, text));
        }
        Ok(group)
    }

    pub(super) fn group_views(&self) -> Vec<Group> {
        self.group_names().iter().map(|name| self.shown_group(name)).collect()
    }

    fn shown_group(&self, name: &GroupName) -> Group {
        let row = self.group_row(name);
        let members = row.members.into_iter();
        Group {
            name: row.name,
            joined: row.joined,
            members: members.map(|(node, presence)| (node, word(presence))).collect(),
            updates: row.updates,
            bytes: row.bytes,
        }
    }

    pub(super) fn statistics(&self) -> Vec<Statistic> {
        let name = |metric: &skep_control::api::Metric| {
            let labels: Vec<String> =
                metric.labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
            let unit =
                if metric.unit.is_empty() { String::new() } else { format!("_{}", metric.unit) };
            if labels.is_empty() {
                format!("{}{unit}", metric.name)
            } else {
                format!("{}{unit}({})", metric.name, labels.join(","))
            }
        };
        let figures = self.metrics().into_iter();
        figures
            .map(|metric| Statistic { name: name(&metric), value: metric.value, help: metric.help })
            .collect()
    }

    /// Present nodes with where they serve clients, by their round trip from here: what was
    /// measured, else what coordinates or the map predict. Which is nearest to the client only the
    /// client can find out (FLOOD-11).
    pub(super) fn nearest(&self) -> Vec<Hint> {
        let (id, now) = (self.node.id(), self.clock.now());
        let nodes: Vec<Hint> = self
            .node
            .members()
            .filter(|member| member.status == Status::Present)
            .filter_map(|member| {
                let known = self.node.between(now, id, member.node);
                let rtt = known.map(|known| known.rtt);
                Some(Hint {
                    node: member.name?.clone(),
                    rtt: if member.node == id { Some(Duration::ZERO) } else { rtt },
                    routed: known.is_some_and(|known| known.basis == Basis::Routed),
                    servers: self.client_addresses(member.node, member.name?),
                })
            })
            .collect();
        ranked(nodes)
    }

    fn client_addresses(&self, node: NodeId, name: &NodeName) -> Vec<String> {
        let stored = self.node.stored(node, record::CLIENT_PORTS);
        let ports = stored.and_then(|stored| Ports::from_body(&stored.body).ok());
        let Ports { plain, tls } = ports.unwrap_or_default();
        let plain = plain.iter().map(|socket| format!("plain:{socket}"));
        let known = self.clients.known_ports.get(name).map(|known| format!("plain:{known}"));
        let known = known.into_iter().filter(|_| stored.is_none());
        known.chain(plain).chain(tls.iter().map(|socket| format!("tls:{socket}"))).collect()
    }
}

/// The nearest first; whose distance nobody knows last.
fn ranked(mut nodes: Vec<Hint>) -> Vec<Hint> {
    nodes.sort_by(|a, b| (a.rtt.is_none(), a.rtt, &a.node).cmp(&(b.rtt.is_none(), b.rtt, &b.node)));
    nodes
}

const fn word(presence: Presence) -> &'static str {
    match presence {
        Presence::Present => "present",
        Presence::Silent => "silent",
        Presence::Restarting => "restarting",
        Presence::Left => "left",
        Presence::GivenUp => "given-up",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_ranked_by_estimates_and_unknown_ones_come_last() {
        let hint = |name: &str, rtt: Option<u64>| Hint {
            node: name.parse().unwrap(),
            rtt: rtt.map(Duration::from_micros),
            routed: false,
            servers: Vec::new(),
        };
        let hints = vec![
            hint("unknown", None),
            hint("sydney", Some(240_000)),
            hint("here", Some(0)),
            hint("rack-b", Some(300)),
            hint("rack-a", Some(300)),
        ];
        let names: Vec<String> = ranked(hints).iter().map(|hint| hint.node.to_string()).collect();
        assert_eq!(names, ["here", "rack-a", "rack-b", "sydney", "unknown"]);
    }
}
