//! The machine: its state, and which handler an input goes to.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{Incarnation, NetworkName, NodeId, NodeName, Nonce, Outbox, Rng, Time, WallTime};
use skep_wire::Address;

use crate::dialling::Dialling;
use crate::event::{Goodbye, Input, Layout, LinkId, Output};
use crate::facts::{NodeFacts, NodeState, Verdict, Watch};
use crate::link::Link;
use crate::name::{Contest, Phase};
use crate::presence::Members;

/// Members a node keeps track of, itself and those named only by a watcher included.
pub const MAX_MEMBERS: usize = 16_384;

/// Deriving costs time in proportion to the members. While many come or go it is done so seldom
/// that this takes no more than a percent or so of a processor: every 20 ms among a hundred.
const DERIVE_PER_MEMBER: Duration = Duration::from_micros(200);

/// The timers of membership.
#[derive(Clone, Debug)]
pub struct Config {
    /// Between two heartbeats on a link. Less sees silence sooner and costs every idle link bytes.
    pub heartbeat: Duration,
    /// Without a beat for this long a watched node is suspect. Above two beats.
    pub suspect_after: Duration,
    /// Without a beat for this long it is silent. Above three beats, so that a segment lost twice
    /// over harms nobody.
    pub silent_after: Duration,
    /// Between two watch records of this node; the first goes at once.
    pub watch_every: Duration,
    /// A node that reaches nobody publishes on its own after this long.
    pub alone_after: Duration,
    /// Longest wait between two attempts in the first hour of dialling.
    pub redial: Duration,
    /// Longest wait between two attempts after that.
    pub redial_late: Duration,
    /// The higher identity of a wanted edge leaves dialling to the lower one for this long.
    pub courtesy: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            suspect_after: Duration::from_millis(2200),
            silent_after: Duration::from_millis(3200),
            watch_every: Duration::from_millis(200),
            alone_after: Duration::from_millis(300),
            redial: Duration::from_secs(5),
            redial_late: Duration::from_secs(300),
            courtesy: Duration::from_millis(250),
        }
    }
}

/// What is derived of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Heard of, and never present yet.
    Unmet,
    /// A chain of present watchers hears it.
    Present,
    /// No present watcher does.
    Silent,
    /// It said that it would be back, and may yet be.
    Restarting,
    /// It said that it leaves.
    Left,
}

/// A member, for listings.
#[derive(Clone, Debug)]
pub struct MemberView<'a> {
    /// Who.
    pub node: NodeId,
    /// Its name, once anybody said it.
    pub name: Option<&'a NodeName>,
    /// Which life is the newest known.
    pub incarnation: Incarnation,
    /// What is derived of it.
    pub status: Status,
    /// Since when.
    pub since: Time,
    /// What it says of itself.
    pub facts: Option<&'a NodeFacts>,
    /// Present watchers that hear it.
    pub heard_by: usize,
}

/// A link, for listings.
#[derive(Clone, Copy, Debug)]
pub struct LinkView {
    /// To whom.
    pub peer: NodeId,
    /// The connection.
    pub link: LinkId,
    /// Since when.
    pub since: Time,
    /// What we hear of the peer.
    pub verdict: Verdict,
    /// We want it, as an edge of the overlay.
    pub neighbour: bool,
    /// We want it, to watch.
    pub watched: bool,
    /// The peer wants it.
    pub wanted_by_peer: bool,
    /// We dialled.
    pub dialled: bool,
    /// The peer sees the same members as this node.
    pub agrees: bool,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Times that presence was derived.
    pub derived: u64,
    /// Times that who is present or absent had changed.
    pub changed: u64,
    /// Watch records published.
    pub watches: u64,
    /// Attempts to dial.
    pub dials: u64,
    /// Of these, in vain.
    pub dials_failed: u64,
    /// Links that came up.
    pub links: u64,
    /// Links that this node closed because neither end wanted them.
    pub released: u64,
    /// Heartbeats sent.
    pub beats: u64,
}

/// Who this node is, as far as membership must know.
#[derive(Clone, Debug)]
pub struct Me {
    /// From the certificate.
    pub id: NodeId,
    /// From the certificate.
    pub name: NodeName,
    /// From the certificate or the config.
    pub network: Option<NetworkName>,
    /// Which process this is.
    pub nonce: Nonce,
    /// When it started, for people.
    pub started: WallTime,
    /// The life that the disk remembers.
    pub stored: Incarnation,
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// The build, for people.
    pub version: String,
}

/// The membership of one node.
pub struct Membership {
    pub(crate) me: Me,
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    pub(crate) started: Time,
    pub(crate) members: Members,
    pub(crate) links: BTreeMap<NodeId, Link>,
    pub(crate) link_owner: BTreeMap<LinkId, NodeId>,
    /// Nodes whose link broke, until they are linked again or it is long ago.
    pub(crate) lost: BTreeMap<NodeId, Lost>,
    pub(crate) layout: Layout,
    /// When the layout last changed.
    pub(crate) laid_out: Time,
    /// And when it did before that.
    pub(crate) laid_out_before: Time,
    pub(crate) neighbours: BTreeSet<NodeId>,
    pub(crate) watched: BTreeSet<NodeId>,
    pub(crate) dialling: Dialling,
    pub(crate) phase: Phase,
    /// A peer has taken a link to this node, in this life.
    pub(crate) met: bool,
    /// Since when this node, which has begun and was met by nobody, is told that its name is taken.
    pub(crate) refused_since: Option<Time>,
    pub(crate) contest: Option<Contest>,
    /// Watchers that hear another process of this node's name, and since when.
    pub(crate) hears_another: BTreeMap<NodeId, Time>,
    pub(crate) synced: bool,
    pub(crate) stopping: bool,
    /// When presence was last derived.
    pub(crate) derived: Option<Time>,
    /// Edges of the overlay that have no live link, and since when.
    pub(crate) missing: BTreeMap<NodeId, Time>,
    /// Links take the place of edges.
    pub(crate) lacking: bool,
    /// What goes into a heartbeat may have changed.
    pub(crate) beats_changed: bool,
    /// Something has changed that [`Membership::look`] looks at.
    pub(crate) unlooked: bool,
    /// When it looks again though nothing has.
    pub(crate) look_again: Time,
    /// Before when no beat or verdict is due, if that was reckoned.
    pub(crate) beat_plan: Option<Time>,
    /// Before when nobody is to be dialled, if that was reckoned.
    pub(crate) dial_plan: Option<Time>,
    pub(crate) published: Option<Watch>,
    /// Since when the published watch record lags behind.
    pub(crate) watch_changed: Option<Time>,
    /// When it must be asked whether somebody's presence hangs on a peer that is newly heard.
    pub(crate) watch_gain: Option<Time>,
    /// Links were let go that it still names.
    pub(crate) watch_released: bool,
    /// Somebody's presence may hang on what it lacks.
    pub(crate) watch_urgent: bool,
    /// It lacks something, urgent or not.
    pub(crate) watch_stale: bool,
    /// Links that it does not name, as others hear who is there.
    pub(crate) withheld: Vec<NodeId>,
    pub(crate) next_watch: Time,
    pub(crate) statistics: Statistics,
}

/// A node whose link broke.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    pub(crate) at: Time,
    pub(crate) incarnation: Incarnation,
    pub(crate) nonce: u32,
    pub(crate) verdict: Verdict,
}

impl Membership {
    /// The membership of `me`, which knows nobody yet.
    #[must_use]
    pub fn new(me: Me, config: Config, rng: Rng, now: Time) -> Self {
        let mut members = Members::default();
        members.intern(me.id);
        Self {
            members,
            dialling: Dialling::default(),
            phase: Phase::Joining { contested_since: None, told_until: None },
            met: false,
            refused_since: None,
            contest: None,
            hears_another: BTreeMap::new(),
            me,
            config,
            rng,
            started: now,
            links: BTreeMap::new(),
            link_owner: BTreeMap::new(),
            lost: BTreeMap::new(),
            layout: Layout::default(),
            laid_out: Time::ZERO,
            laid_out_before: Time::ZERO,
            neighbours: BTreeSet::new(),
            watched: BTreeSet::new(),
            synced: false,
            stopping: false,
            derived: None,
            missing: BTreeMap::new(),
            lacking: false,
            beats_changed: true,
            unlooked: true,
            look_again: Time::ZERO,
            beat_plan: None,
            dial_plan: None,
            published: None,
            watch_changed: None,
            watch_gain: None,
            watch_released: false,
            watch_urgent: false,
            watch_stale: false,
            withheld: Vec::new(),
            next_watch: Time::ZERO,
            statistics: Statistics::default(),
        }
    }

    /// Lets `input` happen. [`Membership::settle`] draws the conclusions: once after all that
    /// happened at one time, however much that was.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        match input {
            Input::LinkUp { link, peer } => self.link_up(now, link, peer, out),
            Input::LinkDown { link, why } => self.link_down(now, link, why, out),
            Input::Heard { link } => self.heard(now, link),
            Input::Heartbeat { link, heartbeat } => self.heartbeat_came(now, link, heartbeat, out),
            Input::DialFailed { dial, why } => self.dial_failed(now, dial, why),
            Input::Found { addresses, source } => self.found(now, &addresses, source),
            Input::Remembered { node, name, addresses } => {
                self.remembered(now, node, name, &addresses);
            }
            Input::Facts { node, incarnation, facts } => {
                self.facts_came(now, node, incarnation, facts);
            }
            Input::Watch { node, incarnation, watch } => {
                self.note_hears_another(now, node, &watch);
                self.watch_came(node, incarnation, &watch);
            }
            Input::Forgotten { node } => {
                self.hears_another.remove(&node);
                self.forgotten(now, node);
            }
            Input::Layout(layout) => self.layout_came(now, layout),
            Input::Synced => self.synced = true,
            Input::ForeignSelf { incarnation, facts } => {
                self.foreign_self(now, incarnation, facts, out);
            }
            Input::Stopping => self.stopping = true,
            Input::HangUp => {
                let peers: Vec<NodeId> = self.links.keys().copied().collect();
                for peer in peers {
                    self.drop_link(peer, Goodbye::Stopping, out);
                }
            }
        }
    }

    /// Derives who is present, publishes what this node hears, dials whom it wants.
    pub fn settle(&mut self, now: Time, out: &mut Outbox<Output>) {
        // Who hangs up on everybody learns nothing from hearing nobody.
        if self.members.is_dirty() && now >= self.derive_due() {
            self.derived = Some(now);
            self.statistics.derived += 1;
            self.derive(now, out);
            self.beats_changed = true;
        }
        self.consider_name(now, out);
        self.look(now, out);
        self.publish_watch(now, out);
        self.dial(now, out);
        self.beat_plan = Some(self.first_beat());
    }

    /// When presence may be derived again: at once after a calm, and later the larger the flock.
    /// Before it begins a node must not be behind what it was told.
    fn derive_due(&self) -> Time {
        if self.stopping {
            return Time::NEVER;
        }
        let gap = DERIVE_PER_MEMBER * self.members.count();
        match self.derived {
            Some(last) if self.has_begun() => last + gap,
            _ => Time::ZERO,
        }
    }

    /// When the next grace ends. Once something must be derived, that has its own time, and the
    /// grace is looked at then.
    fn grace_ends(&self) -> Option<Time> {
        if self.members.is_dirty() { None } else { self.members.next_change() }
    }

    /// When [`Membership::tick`] has work, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let watch = self.watch_due().map(|at| (at, "what is heard has changed"));
        [
            Some((self.first_beat(), "a heartbeat or a verdict is due")),
            self.name_deadline(),
            Some((self.first_dial(), "somebody is to be dialled")),
            self.grace_ends().map(|at| (at, "a member's grace ends")),
            self.members.is_dirty().then(|| (self.derive_due(), "who is present must be derived")),
            watch,
        ]
        .into_iter()
        .flatten()
        .filter(|(at, _)| *at != Time::NEVER)
        .min()
    }

    /// Does what is due. [`Membership::settle`] follows.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.beat(now, out);
        if self.members.next_change().is_some_and(|at| now >= at) {
            self.members.touch_believed();
        }
        self.settle(now, out);
    }

    /// What must hold between calls.
    ///
    /// # Panics
    /// When it does not: that is a bug here.
    pub fn check(&self) {
        self.members.check(self.me.id);
        assert!(!self.links.contains_key(&self.me.id), "a link to ourselves");
        assert_eq!(self.links.len(), self.link_owner.len(), "a peer with two links, or none");
        for (peer, link) in &self.links {
            assert_eq!(self.link_owner.get(&link.id), Some(peer), "a link without its peer");
        }
        if let Phase::Begun { incarnation } = self.phase {
            assert!(incarnation > self.me.stored, "an incarnation is used twice");
        }
        self.dialling.check();
    }

    /// All members, this node among them.
    pub fn members(&self) -> impl Iterator<Item = MemberView<'_>> + '_ {
        self.members.views()
    }

    /// One member.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<MemberView<'_>> {
        self.members.view(node)
    }

    /// All links.
    pub fn links(&self) -> impl Iterator<Item = LinkView> + '_ {
        self.links.iter().map(|(peer, link)| self.view_of(*peer, link))
    }

    /// The link to a peer.
    #[must_use]
    pub fn link(&self, peer: NodeId) -> Option<LinkId> {
        self.links.get(&peer).map(|link| link.id)
    }

    /// Who is at the other end of a link.
    #[must_use]
    pub fn peer(&self, link: LinkId) -> Option<NodeId> {
        self.link_owner.get(&link).copied()
    }

    /// Who is present, sorted, this node among them.
    #[must_use]
    pub fn present(&self) -> &[NodeId] {
        self.members.present()
    }

    /// Counts since the start.
    #[must_use]
    pub const fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// As which life this node publishes, or will.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        match self.phase {
            Phase::Begun { incarnation } => incarnation,
            Phase::Joining { .. } | Phase::Taken { .. } => self.next_incarnation(),
        }
    }

    /// Whether this node publishes.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        matches!(self.phase, Phase::Begun { .. })
    }

    /// What this node says of itself.
    #[must_use]
    pub fn facts(&self, state: NodeState, groups: &[skep_base::GroupName]) -> NodeFacts {
        NodeFacts {
            name: self.me.name.clone(),
            network: self.me.network.clone(),
            nonce: self.me.nonce,
            started: self.me.started,
            state,
            addresses: self.me.addresses.clone(),
            groups: groups.to_vec(),
            feature_level: skep_wire::FEATURE_LEVEL,
            version: self.me.version.clone(),
        }
    }

    /// The node's own addresses changed.
    pub fn set_addresses(&mut self, addresses: Vec<Address>) {
        self.me.addresses = addresses;
    }

    fn layout_came(&mut self, now: Time, layout: Layout) {
        self.neighbours = layout.neighbours.iter().copied().collect();
        self.watched = layout.watched.iter().copied().collect();
        self.layout = layout;
        self.laid_out_before = core::mem::replace(&mut self.laid_out, now);
        self.beats_changed = true;
        self.beat_plan = None;
        self.look_for_missing(now);
        self.wanted_changed(now);
    }
}
