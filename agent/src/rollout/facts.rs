//! What the records say that waves need: who is there, in which groups, what queens order and how
//! far each target is.

use std::collections::BTreeMap;

use bytes::Bytes;
use skep_base::{GroupName, ImageName, NodeId, NodeName};
use skep_control::api::Presence;
use skep_identity::Role;
use skep_membership::{NodeFacts, NodeState};
use skep_records::kind;
use skep_wave::{Order, Orders, SCHEMA, Statuses};

/// A wave's name: whose it is, and which of hers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WaveKey {
    pub(super) queen: NodeId,
    pub(super) number: u64,
}

/// What is known of a member.
#[derive(Debug, Default)]
pub(super) struct Member {
    pub(super) name: Option<NodeName>,
    pub(super) groups: Vec<GroupName>,
    pub(super) queen: bool,
    pub(super) present: bool,
    state: Option<NodeState>,
    pub(super) orders: Orders,
    pub(super) statuses: Statuses,
}

/// All members. Their number is bounded by that of the owners of records.
#[derive(Debug)]
pub(super) struct Facts {
    me: NodeId,
    pub(super) members: BTreeMap<NodeId, Member>,
}

impl Facts {
    pub(super) fn new(me: NodeId) -> Self {
        let own = Member { present: true, ..Member::default() };
        Self { me, members: BTreeMap::from([(me, own)]) }
    }

    /// Takes a record in; `certificate` says whom a certificate names and with which roles.
    pub(super) fn record(
        &mut self,
        owner: NodeId,
        (kind, schema): (u16, u16),
        body: Option<&Bytes>,
        certificate: impl FnOnce(&[u8]) -> Option<(NodeName, bool)>,
    ) {
        let member = self.members.entry(owner).or_default();
        match (kind, body) {
            (kind::CERTIFICATE, Some(der)) => {
                if let Some((name, queen)) = certificate(der) {
                    member.name = Some(name);
                    member.queen = queen;
                }
            }
            (kind::NODE, Some(body)) => {
                if let Ok(facts) = NodeFacts::from_body(body) {
                    member.name.get_or_insert(facts.name);
                    member.groups = facts.groups;
                    member.state = Some(facts.state);
                }
            }
            (kind::WAVE_ORDER, body) => {
                let orders = body.filter(|_| schema == SCHEMA).map(|body| Orders::from_body(body));
                match orders.transpose() {
                    Ok(orders) => member.orders = orders.unwrap_or_default(),
                    Err(error) => tracing::warn!(%owner, %error, "refused a record"),
                }
            }
            (kind::WAVE_STATUS, body) => {
                let statuses =
                    body.filter(|_| schema == SCHEMA).map(|body| Statuses::from_body(body));
                match statuses.transpose() {
                    Ok(statuses) => member.statuses = statuses.unwrap_or_default(),
                    Err(error) => tracing::warn!(%owner, %error, "refused a record"),
                }
            }
            _ => {}
        }
    }

    pub(super) fn presence(&mut self, node: NodeId, present: bool) {
        self.members.entry(node).or_default().present = present || node == self.me;
    }

    /// Every wave of every node that may order one.
    pub(super) fn waves(&self) -> impl Iterator<Item = (WaveKey, &Order)> {
        let queens = self.members.iter().filter(|(_, member)| member.queen);
        queens.flat_map(|(queen, member)| {
            let key = |number| WaveKey { queen: *queen, number };
            member.orders.waves.iter().map(move |order| (key(order.number), order))
        })
    }

    pub(super) fn wave(&self, key: WaveKey) -> Option<&Order> {
        let queen = self.members.get(&key.queen).filter(|member| member.queen)?;
        queen.orders.waves.iter().find(|order| order.number == key.number)
    }

    /// The newest wave of each image and path: others are superseded.
    pub(super) fn newest(&self) -> BTreeMap<(&ImageName, &str), (WaveKey, &Order)> {
        let mut newest: BTreeMap<_, (WaveKey, &Order)> = BTreeMap::new();
        for (key, order) in self.waves() {
            let place = (&order.image, order.at.as_str());
            let rank = |key: WaveKey, order: &Order| (order.started, key.queen, key.number);
            let newer = newest.get(&place).is_none_or(|(held, other)| {
                if held.queen == key.queen {
                    key.number > held.number
                } else {
                    rank(key, order) > rank(*held, other)
                }
            });
            if newer {
                newest.insert(place, (key, order));
            }
        }
        newest
    }

    /// The waves that this node is to have.
    pub(super) fn mine(&self) -> Vec<(WaveKey, &Order)> {
        let newest = self.newest().into_values();
        newest.filter(|(_, order)| self.is_target(self.me, order)).collect()
    }

    /// Whether `node` is in one of the groups of `order`.
    pub(super) fn is_target(&self, node: NodeId, order: &Order) -> bool {
        let all = GroupName::all();
        order.groups.contains(&all)
            || self.members.get(&node).is_some_and(|member| {
                member.groups.iter().any(|group| order.groups.contains(group))
            })
    }

    /// All targets that are known, but for those that left.
    pub(super) fn targets<'a>(&'a self, order: &'a Order) -> impl Iterator<Item = NodeId> + 'a {
        self.members
            .iter()
            .filter(|(_, member)| member.name.is_some())
            .filter(|(_, member)| member.present || member.state != Some(NodeState::Left))
            .map(|(node, _)| *node)
            .filter(|node| self.is_target(*node, order))
    }

    /// Whether anybody is known to be in `group`.
    pub(super) fn knows_group(&self, group: &GroupName) -> bool {
        *group == GroupName::all()
            || self.members.values().any(|member| member.groups.contains(group))
    }

    pub(super) fn name(&self, node: NodeId) -> Option<&NodeName> {
        self.members.get(&node)?.name.as_ref()
    }

    pub(super) fn presence_of(&self, node: NodeId) -> Presence {
        let Some(member) = self.members.get(&node) else {
            return Presence::Silent;
        };
        match member.state {
            _ if member.present => Presence::Present,
            Some(NodeState::Left) => Presence::Left,
            Some(NodeState::Restarting { .. }) => Presence::Restarting,
            Some(NodeState::Up) | None => Presence::Silent,
        }
    }
}

/// Whom a certificate names and whether she is a queen.
pub(super) fn judge_certificate(
    trust: &skep_identity::Trust,
    der: &[u8],
) -> Option<(NodeName, bool)> {
    let info = trust.verify_chain_only(der).ok()?;
    let queen = info.roles.contains(Role::Queen);
    Some((info.node, queen))
}

#[cfg(test)]
mod tests {
    use super::super::ledger::tests::order;
    use super::*;
    use skep_base::{Nonce, WallTime};

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; NodeId::LEN])
    }

    fn member(facts: &mut Facts, number: u8, queen: bool, groups: &[&str]) {
        let name: NodeName = format!("n{number}").parse().unwrap();
        let body = NodeFacts {
            name: name.clone(),
            network: None,
            nonce: Nonce(1),
            started: WallTime::default(),
            state: NodeState::Up,
            addresses: Vec::new(),
            groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
            feature_level: 1,
            version: String::new(),
        };
        let id = node(number);
        facts.record(id, (kind::CERTIFICATE, 1), Some(&Bytes::new()), |_| Some((name, queen)));
        facts.record(id, (kind::NODE, 1), Some(&body.to_body().into()), |_| None);
        facts.presence(id, true);
    }

    fn orders(facts: &mut Facts, queen: u8, list: Vec<Order>) {
        let body: Bytes = Orders { waves: list }.to_body().into();
        facts.record(node(queen), (kind::WAVE_ORDER, SCHEMA), Some(&body), |_| None);
    }

    #[test]
    fn only_queens_order_and_only_groups_obey() {
        let mut facts = Facts::new(node(1));
        member(&mut facts, 1, false, &["web"]);
        member(&mut facts, 2, true, &[]);
        member(&mut facts, 3, false, &["db"]);
        let mut to_web = order(1, "/a");
        to_web.groups = vec!["web".parse().unwrap()];
        let mut to_db = order(2, "/b");
        to_db.groups = vec!["db".parse().unwrap()];
        orders(&mut facts, 2, vec![to_web.clone(), to_db]);
        orders(&mut facts, 3, vec![order(9, "/evil")]);
        let mine: Vec<u64> = facts.mine().iter().map(|(key, _)| key.number).collect();
        assert_eq!(mine, [1]);
        assert_eq!(facts.targets(&to_web).collect::<Vec<_>>(), [node(1)]);
        assert_eq!(facts.targets(&order(1, "/x")).count(), 3);
        assert!(facts.knows_group(&"db".parse().unwrap()));
        assert!(!facts.knows_group(&"mail".parse().unwrap()));
    }

    #[test]
    fn beyond_what_an_order_lists_by_name_groups_decide_alone() {
        let mut facts = Facts::new(node(200));
        member(&mut facts, 1, true, &[]);
        let known: Vec<NodeId> = (1..=199).map(node).collect();
        (2..=199).for_each(|number| member(&mut facts, number, false, &["web"]));
        let mut to_web = order(1, "/a");
        to_web.groups = vec!["web".parse().unwrap()];
        to_web.hosts = skep_wave::Hosts::of(known);
        assert!(matches!(to_web.hosts, skep_wave::Hosts::Counted { count: 199, .. }));
        orders(&mut facts, 1, vec![to_web.clone()]);
        assert_eq!(facts.targets(&to_web).count(), 198);
        assert_eq!(facts.mine().len(), 0);
        // This node was not known when the wave was ordered, and is on no list.
        member(&mut facts, 200, false, &["web"]);
        assert_eq!(facts.mine().len(), 1);
        assert_eq!(facts.targets(&to_web).count(), 199);
    }

    #[test]
    fn a_newer_wave_of_the_same_image_and_path_supersedes() {
        let mut facts = Facts::new(node(1));
        member(&mut facts, 1, false, &[]);
        member(&mut facts, 2, true, &[]);
        member(&mut facts, 3, true, &[]);
        orders(&mut facts, 2, vec![order(1, "/a"), order(2, "/a"), order(3, "/b")]);
        let mut late = order(1, "/a");
        late.started = WallTime::from_unix_ms(50);
        orders(&mut facts, 3, vec![late]);
        let mine: Vec<WaveKey> = facts.mine().iter().map(|(key, _)| *key).collect();
        let expected =
            [WaveKey { queen: node(3), number: 1 }, WaveKey { queen: node(2), number: 3 }];
        assert_eq!(mine, expected);
    }

    #[test]
    fn a_malformed_record_changes_nothing() {
        let mut facts = Facts::new(node(1));
        member(&mut facts, 1, true, &[]);
        orders(&mut facts, 1, vec![order(1, "/a")]);
        let garbage = Bytes::from_static(b"\xFFgarbage");
        facts.record(node(1), (kind::WAVE_ORDER, SCHEMA), Some(&garbage), |_| None);
        facts.record(node(1), (kind::WAVE_STATUS, SCHEMA), Some(&garbage), |_| None);
        assert_eq!(facts.waves().count(), 1);
        facts.record(node(1), (kind::WAVE_ORDER, SCHEMA), None, |_| None);
        assert_eq!(facts.waves().count(), 0);
    }
}
