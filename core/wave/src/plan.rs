//! Who fetches which piece from whom: a pure function of what one target knows.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use skep_base::{NodeId, Time};

use crate::bitmap::Bitmap;

/// After so many ranks of bringers, all that are left may ask the queen at once: most of the group
/// would have to be stuck for it.
const LAST_RANK: u32 = 6;

/// Bounds of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pieces asked of one peer at once: enough to keep a long path full.
    pub per_peer: usize,
    /// Pieces asked at once in all: what a node has in flight when it is killed.
    pub in_all: usize,
    /// How long nothing may move here before the next in line takes a bringer's place.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_peer: 2, in_all: 8, patience: Duration::from_secs(3) }
    }
}

/// What is to become of it: every target has every piece.
#[derive(Clone, Copy, Debug)]
pub struct Desired<'a> {
    /// Who plans.
    pub me: NodeId,
    /// Who has had it from the beginning.
    pub queen: NodeId,
    /// The present targets that have not failed, the planner among them.
    pub targets: &'a [NodeId],
}

/// A piece that was asked for and is not here yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    /// Which.
    pub piece: u32,
    /// Of whom.
    pub from: NodeId,
}

/// What is known of a peer that there is a link to.
#[derive(Clone, Copy, Debug)]
pub struct PeerView<'a> {
    /// Who.
    pub node: NodeId,
    /// What it says it has.
    pub has: &'a Bitmap,
    /// Not to be asked before this time: it sent wrong bytes, or nothing.
    pub avoid_until: Time,
}

/// How it stands.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Now.
    pub now: Time,
    /// Pieces that are not here, asked for or not.
    pub lacking: &'a [u32],
    /// Those that were asked for.
    pub flights: &'a [Flight],
    /// Peers there is a link to, the queen among them.
    pub peers: &'a [PeerView<'a>],
    /// When something last moved: a chunk came, or a peer other than the queen got a piece.
    pub quiet_since: Time,
    /// How long it may be quiet; [`Limits::patience`], or longer where the queen is slow.
    pub patience: Duration,
}

/// One piece to ask for.
pub type Fetch = Flight;

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which to ask.
    pub fetch: Vec<Fetch>,
    /// When to plan again though nothing happened.
    pub again_at: Option<Time>,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Pieces on their way, those just planned included.
    pub asked: u32,
    /// Pieces that somebody offers, for which there is no room now.
    pub queued: u32,
    /// Pieces that another target brings from the queen.
    pub brought_by_others: u32,
    /// Pieces of the planner's own share, for which there is no link to the queen, or none that
    /// may be used.
    pub unreachable: u32,
    /// Peers that are not asked for a while.
    pub avoided: u32,
    /// Peers there is a link to.
    pub peers: u32,
}

/// The target that brings `piece` from the queen, should it be `rank` 0, or takes that one's place:
/// by descending rendezvous score.
#[must_use]
pub fn bringer(targets: &[NodeId], piece: u32, rank: usize) -> Option<NodeId> {
    let mut scored: Vec<(u64, NodeId)> =
        targets.iter().map(|node| (score(*node, piece), *node)).collect();
    scored.sort_unstable_by(|a, b| b.cmp(a));
    scored.get(rank).map(|(_, node)| *node)
}

/// Decides what to ask for now, and of whom.
///
/// A piece that another peer than the queen offers is taken from the least busy of them, the rarest
/// first. A piece that nobody else offers is asked of the queen at once by its bringer; by the next
/// in line when nothing has moved for [`Observed::patience`], and so on. So the queen sends a piece
/// about once, and a bringer that is stuck delays a wave and does not stop it.
#[must_use]
pub fn plan(desired: &Desired<'_>, observed: &Observed<'_>, limits: &Limits) -> (Plan, Report) {
    let mut planner = Planner::new(desired, observed, limits);
    let mut wanted = planner.by_rarity();
    wanted.sort_unstable();
    for (_, _, piece) in wanted {
        planner.place(piece);
    }
    planner.finish()
}

struct Planner<'a> {
    desired: &'a Desired<'a>,
    observed: &'a Observed<'a>,
    limits: &'a Limits,
    load: BTreeMap<NodeId, usize>,
    /// The last rank that may ask the queen now.
    rank: u32,
    plan: Plan,
    report: Report,
}

impl<'a> Planner<'a> {
    fn new(desired: &'a Desired<'a>, observed: &'a Observed<'a>, limits: &'a Limits) -> Self {
        let mut load = BTreeMap::new();
        for flight in observed.flights {
            *load.entry(flight.from).or_insert(0) += 1;
        }
        let quiet = observed.now.since(observed.quiet_since).as_millis();
        let patience = observed.patience.as_millis().max(1);
        let rank = u32::try_from(quiet / patience).unwrap_or(u32::MAX).min(LAST_RANK);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let avoided = observed.peers.iter().filter(|peer| peer.avoid_until > observed.now);
        let report = Report {
            avoided: count(avoided.count()),
            peers: count(observed.peers.len()),
            asked: count(observed.flights.len()),
            ..Report::default()
        };
        Self { desired, observed, limits, load, rank, plan: Plan::default(), report }
    }

    /// What is not asked for yet: how many offer it, a number that differs between nodes so that
    /// they begin with different pieces, and the piece.
    fn by_rarity(&self) -> Vec<(usize, u64, u32)> {
        let mut asked: Vec<u32> = self.observed.flights.iter().map(|flight| flight.piece).collect();
        asked.sort_unstable();
        let fresh =
            self.observed.lacking.iter().filter(|piece| asked.binary_search(piece).is_err());
        fresh
            .map(|piece| (self.offers(*piece).count(), mix(self.desired.me, *piece), *piece))
            .collect()
    }

    /// Peers besides the queen that offer `piece` and may be asked.
    fn offers(&self, piece: u32) -> impl Iterator<Item = NodeId> + '_ {
        let (now, queen) = (self.observed.now, self.desired.queen);
        self.observed
            .peers
            .iter()
            .filter(move |peer| peer.avoid_until <= now && peer.node != queen)
            .filter(move |peer| peer.has.has(piece))
            .map(|peer| peer.node)
    }

    fn place(&mut self, piece: u32) {
        let load = |node: &NodeId| self.load.get(node).copied().unwrap_or(0);
        let offer = self.offers(piece).min_by_key(|node| (load(node), mix(*node, piece)));
        let from = match offer {
            Some(node) => node,
            None if self.may_ask_queen(piece) => self.desired.queen,
            None => {
                self.report.brought_by_others += 1;
                return;
            }
        };
        if offer.is_none() && !self.queen_offers(piece) {
            self.report.unreachable += 1;
        } else if load(&from) < self.limits.per_peer && self.flying() < self.limits.in_all {
            *self.load.entry(from).or_insert(0) += 1;
            self.plan.fetch.push(Fetch { piece, from });
            self.report.asked += 1;
        } else {
            self.report.queued += 1;
        }
    }

    fn flying(&self) -> usize {
        self.observed.flights.len() + self.plan.fetch.len()
    }

    fn queen_offers(&self, piece: u32) -> bool {
        let queen = self.desired.queen;
        self.observed.peers.iter().any(|peer| {
            peer.node == queen && peer.avoid_until <= self.observed.now && peer.has.has(piece)
        })
    }

    /// Whether this node's rank among the bringers of `piece` has its turn.
    fn may_ask_queen(&self, piece: u32) -> bool {
        if self.rank >= LAST_RANK {
            return true;
        }
        let me = self.desired.me;
        let own = (score(me, piece), me);
        let targets = self.desired.targets.iter().filter(|node| **node != me);
        let better = targets.filter(|node| (score(**node, piece), **node) > own);
        u32::try_from(better.take(LAST_RANK as usize).count()).is_ok_and(|rank| rank <= self.rank)
    }

    fn finish(mut self) -> (Plan, Report) {
        let now = self.observed.now;
        let due = (self.report.brought_by_others > 0)
            .then(|| self.observed.quiet_since + self.observed.patience * (self.rank + 1));
        let avoided = self.observed.peers.iter().map(|peer| peer.avoid_until);
        self.plan.again_at = avoided.chain(due).filter(|at| *at > now).min();
        (self.plan, self.report)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = String::new();
        let mut say = |count: u32, what: &str| {
            if count > 0 {
                let comma = if said.is_empty() { "" } else { ", " };
                said.push_str(&alloc::format!("{comma}{count} {what}"));
            }
        };
        say(self.asked, "pieces on their way");
        say(self.queued, "pieces wait for room");
        say(self.brought_by_others, "pieces wait for other nodes to bring them from the queen");
        say(self.unreachable, "pieces wait for a link to the queen");
        say(self.avoided, "peers not asked for a while");
        if self.peers == 0 {
            say(1, "link to anyone who has it is needed");
        }
        f.write_str(if said.is_empty() { "nothing is waited for" } else { &said })
    }
}

fn score(node: NodeId, piece: u32) -> u64 {
    mix(node, piece.wrapping_mul(2).wrapping_add(1))
}

/// Spreads (node, number) over 64 bits. The order it gives is the same on every node; nothing is
/// trusted to it, so it need not withstand anybody.
fn mix(node: NodeId, number: u32) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&node.as_bytes()[..8]);
    // SplitMix64's finaliser.
    let mut x = u64::from_le_bytes(first) ^ u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;
    use alloc::vec;

    fn node(number: u8) -> NodeId {
        // The first bytes of a real identity are those of a digest.
        let digest = skep_base::Digest::of(&[number]);
        let mut id = [0; NodeId::LEN];
        id.copy_from_slice(&digest.0[..NodeId::LEN]);
        NodeId::from_bytes(id)
    }

    struct Scene {
        targets: Vec<NodeId>,
        peers: Vec<(NodeId, Bitmap, Time)>,
        flights: Vec<Flight>,
        quiet_ms: u64,
    }

    const PIECES: u32 = 64;

    impl Scene {
        fn new() -> Self {
            Self {
                targets: (1..=4).map(node).collect(),
                peers: vec![(node(0), Bitmap::full(PIECES), Time::ZERO)],
                flights: Vec::new(),
                quiet_ms: 0,
            }
        }

        fn plan(&self, me: u8, limits: Limits) -> (Plan, Report) {
            let lacking: Vec<u32> = (0..PIECES).collect();
            let peers: Vec<PeerView<'_>> = self
                .peers
                .iter()
                .map(|(node, has, until)| PeerView { node: *node, has, avoid_until: *until })
                .collect();
            let now = Time::from_millis(100_000);
            let desired = Desired { me: node(me), queen: node(0), targets: &self.targets };
            let observed = Observed {
                now,
                lacking: &lacking,
                flights: &self.flights,
                peers: &peers,
                quiet_since: now - Duration::from_millis(self.quiet_ms),
                patience: limits.patience,
            };
            plan(&desired, &observed, &limits)
        }
    }

    fn wide() -> Limits {
        Limits { per_peer: 1000, in_all: 1000, ..Limits::default() }
    }

    fn pieces(plan: &Plan) -> Vec<u32> {
        let mut pieces: Vec<u32> = plan.fetch.iter().map(|fetch| fetch.piece).collect();
        pieces.sort_unstable();
        pieces
    }

    #[test]
    fn the_targets_share_what_the_queen_sends_and_each_piece_has_one_bringer() {
        let scene = Scene::new();
        let mut all = Vec::new();
        for me in 1..=4 {
            let (plan, report) = scene.plan(me, wide());
            let mine = pieces(&plan);
            assert!((6..=26).contains(&mine.len()), "a share of {} pieces", mine.len());
            assert!(mine.iter().all(|piece| bringer(&scene.targets, *piece, 0) == Some(node(me))));
            assert_eq!(report.brought_by_others as usize, PIECES as usize - mine.len());
            assert!(plan.again_at.is_some());
            all.extend(mine);
        }
        all.sort_unstable();
        assert_eq!(all, (0..PIECES).collect::<Vec<_>>());
    }

    #[test]
    fn what_a_peer_offers_is_never_asked_of_the_queen() {
        let mut scene = Scene::new();
        scene.peers.push((node(2), Bitmap::full(PIECES), Time::ZERO));
        scene.quiet_ms = 1_000_000;
        let (plan, _) = scene.plan(1, wide());
        assert_eq!(pieces(&plan).len(), PIECES as usize);
        assert!(plan.fetch.iter().all(|fetch| fetch.from == node(2)));
    }

    #[test]
    fn the_rarest_pieces_come_first_from_the_least_busy_peer() {
        let mut scene = Scene::new();
        let mut rare = Bitmap::empty(PIECES);
        rare.set(7, true);
        scene.peers.push((node(2), Bitmap::full(PIECES), Time::ZERO));
        scene.peers.push((node(3), Bitmap::full(PIECES), Time::ZERO));
        let mut all_but_7 = Bitmap::full(PIECES);
        all_but_7.set(7, false);
        for (_, has, _) in &mut scene.peers[1..] {
            *has = all_but_7.clone();
        }
        scene.peers.push((node(4), rare, Time::ZERO));
        scene.flights.push(Flight { piece: 60, from: node(2) });
        let (plan, report) = scene.plan(1, Limits { per_peer: 2, in_all: 5, ..wide() });
        assert_eq!(plan.fetch[0], Fetch { piece: 7, from: node(4) });
        let from = |peer| plan.fetch.iter().filter(|fetch| fetch.from == peer).count();
        assert_eq!((from(node(2)), from(node(3)), from(node(4))), (1, 2, 1));
        assert!(plan.fetch.iter().all(|fetch| fetch.piece != 60), "asked twice");
        assert_eq!(report.asked, 5);
        assert!(report.to_string().starts_with("5 pieces on their way, 59 pieces wait for room"));
    }

    #[test]
    fn the_next_in_line_takes_over_when_nothing_moves_and_at_last_everybody() {
        let mut scene = Scene::new();
        let mut before = 0;
        for quiet_patiences in 0..=3 {
            scene.quiet_ms = 3000 * quiet_patiences + 1;
            let (plan, _) = scene.plan(1, wide());
            let mine = pieces(&plan);
            assert!(mine.len() > before, "{} pieces", mine.len());
            before = mine.len();
            let rank = usize::try_from(quiet_patiences).unwrap();
            let in_line = |piece: &u32| {
                (0..=rank).any(|rank| bringer(&scene.targets, *piece, rank) == Some(node(1)))
            };
            assert!(mine.iter().all(in_line));
        }
        assert_eq!(before, PIECES as usize);
    }

    #[test]
    fn who_is_marked_is_not_asked_and_what_is_unreachable_is_said() {
        let mut scene = Scene::new();
        scene.targets = vec![node(1)];
        scene.peers[0].2 = Time::from_millis(100_500);
        scene.peers.push((node(2), Bitmap::full(PIECES), Time::NEVER));
        let (plan, report) = scene.plan(1, wide());
        assert_eq!(plan.fetch, []);
        assert_eq!(plan.again_at, Some(Time::from_millis(100_500)));
        assert_eq!((report.unreachable, report.avoided), (PIECES, 2));
        scene.peers.clear();
        let (_, report) = scene.plan(1, wide());
        assert!(report.to_string().contains("a link to the queen"), "{report}");
    }
}
