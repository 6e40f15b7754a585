//! Planted bugs: each makes one checker fail. A checker that never failed proves nothing.

use std::time::Duration;

use bytes::Bytes;
use skep_base::{Incarnation, NodeId, Outbox, Time};
use skep_flood::message::{Message, Packet};
use skep_flood::{Input as FloodInput, Output as FloodOutput, Serial, UpdateId};
use skep_managers::{Kept, RaftId, Role, View, Write};
use skep_node::{Deadline, Event, Input, Node, Output, Status};
use skep_topology::adoption::Event::Adopted;
use skep_wire::kind;

use crate::host::{HostIx, Machine};
use crate::report::Checker;
use crate::world::Config;

/// The host that has the bug.
pub const INFECTED: HostIx = HostIx(1);
/// How long an infected node behaves, where the bug needs a flock to show.
const BEHAVES_MS: u64 = 3_000;
/// For how much longer than it has it an infected master claims strict authority.
const CLAIMS: Duration = Duration::from_secs(60);
/// Who hears nothing for so long stood still.
const STOOD_STILL: Duration = Duration::from_secs(5);

/// A bug, and where it sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Its own `check` fails.
    FailsItsCheck,
    /// It wants to tick for ever.
    Spins,
    /// It calls a present node silent.
    CallsTheLivingSilent,
    /// It begins each life as the first.
    ForgetsItsLives,
    /// It appends an update twice.
    AppendsTwice,
    /// It acknowledges what it never floods.
    AcknowledgesNothing,
    /// It hands another body over.
    BendsBodies,
    /// It takes in no update.
    DeafToUpdates,
    /// It takes in bodies that come by themselves, and looks into nothing else that it hears of.
    Incurious,
    /// It takes in no record once the flock has met.
    DeafToRecords,
    /// It says that one fewer is present.
    Miscounts,
    /// It never dials, and takes no call.
    Hermit,
    /// It keeps no more than one link.
    ThinsTheOverlay,
    /// It lets its links go when it adopts a topology, before it has new ones.
    BreaksBeforeItMakes,
    /// It grants wishes that it never passes on.
    PromisesNothing,
    /// It carries out orders that it should refuse.
    ObeysTheStale,
    /// Masters' leases last for longer than it takes to elect another.
    LongLease,
    /// It says that a write happened which found its entry otherwise.
    AppliesConflicts,
    /// Its disk says that a write is safe long before it is.
    SaysSafeEarly,
    /// It hears nothing of what is decided but over the managers' log.
    DeafToCatalog,
    /// Its disk forgets what its managers kept, which nobody was told of.
    ForgetsItsStamps,
    /// It claims strict authority for a minute longer than it was given it.
    ClaimsAuthority,
    /// It keeps its first raft id for ever, whatever it was demoted from.
    VotesAsBefore,
    /// As a semi-master or a holding node it says of a wish that it happened.
    AcknowledgesAlone,
    /// Masters replace no backup that is silent.
    ReplacesNobody,
    /// The CA signs each founding token with the number of the first.
    SignsOneNumber,
    /// It hears nothing of what managers say to one another, and so gives no flock up for another.
    MergesWithNobody,
    /// After it stood still it hears nothing of what was decided meanwhile, and takes itself for a
    /// manager for ever.
    KeepsItsOffice,
    /// The simulator itself does nothing of what it says it does.
    DoesNothing,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 29] = [
        Self::FailsItsCheck,
        Self::Spins,
        Self::CallsTheLivingSilent,
        Self::ForgetsItsLives,
        Self::AppendsTwice,
        Self::AcknowledgesNothing,
        Self::BendsBodies,
        Self::DeafToUpdates,
        Self::Incurious,
        Self::DeafToRecords,
        Self::Miscounts,
        Self::Hermit,
        Self::ThinsTheOverlay,
        Self::BreaksBeforeItMakes,
        Self::PromisesNothing,
        Self::ObeysTheStale,
        Self::LongLease,
        Self::AppliesConflicts,
        Self::SaysSafeEarly,
        Self::DeafToCatalog,
        Self::ForgetsItsStamps,
        Self::ClaimsAuthority,
        Self::VotesAsBefore,
        Self::AcknowledgesAlone,
        Self::ReplacesNobody,
        Self::SignsOneNumber,
        Self::MergesWithNobody,
        Self::KeepsItsOffice,
        Self::DoesNothing,
    ];

    /// Those that show in files of commands, each in one that leads to it.
    pub const IN_SCRIPTS: [Self; 9] = [
        Self::DeafToCatalog,
        Self::ForgetsItsStamps,
        Self::ClaimsAuthority,
        Self::VotesAsBefore,
        Self::AcknowledgesAlone,
        Self::ReplacesNobody,
        Self::SignsOneNumber,
        Self::MergesWithNobody,
        Self::KeepsItsOffice,
    ];

    /// Which checker must find it.
    #[must_use]
    pub const fn found_by(self) -> Checker {
        match self {
            Self::FailsItsCheck => Checker::Machine,
            Self::Spins
            | Self::CallsTheLivingSilent
            | Self::ForgetsItsLives
            | Self::AppendsTwice
            | Self::BendsBodies
            | Self::BreaksBeforeItMakes
            | Self::ObeysTheStale
            | Self::LongLease
            | Self::SaysSafeEarly
            | Self::ForgetsItsStamps
            | Self::ClaimsAuthority
            | Self::VotesAsBefore
            | Self::AcknowledgesAlone
            | Self::SignsOneNumber => Checker::Invariant,
            Self::AppliesConflicts | Self::DoesNothing => Checker::Oracle,
            // At rest the oracle is asked until it agrees: what it never agrees to is not alive.
            Self::AcknowledgesNothing
            | Self::DeafToUpdates
            | Self::Incurious
            | Self::DeafToRecords
            | Self::Miscounts
            | Self::Hermit
            | Self::ThinsTheOverlay
            | Self::PromisesNothing
            | Self::DeafToCatalog
            | Self::ReplacesNobody
            | Self::MergesWithNobody
            | Self::KeepsItsOffice => Checker::Liveness,
        }
    }

    /// Words of the failure that name what was planted, so that no other bug passes for it.
    #[must_use]
    pub const fn shows_as(self) -> &'static str {
        match self {
            Self::FailsItsCheck => "planted",
            Self::Spins => "never done",
            // Whoever lets all go is silent to all, and all to him.
            Self::CallsTheLivingSilent | Self::BreaksBeforeItMakes => "silent, which lives",
            Self::ForgetsItsLives => "begins its life",
            Self::AppendsTwice => "stands at",
            Self::AcknowledgesNothing | Self::DeafToUpdates => "lacks the update",
            Self::Incurious => "which a survivor holds",
            Self::BendsBodies => "another body",
            Self::DeafToRecords => "different records",
            Self::Miscounts | Self::Hermit => "present; misses",
            Self::ThinsTheOverlay => "connected",
            Self::ObeysTheStale => "obeys an order",
            Self::PromisesNothing => "was promised and is lost",
            Self::LongLease => "both hold the lease",
            Self::AppliesConflicts => "no order explains",
            Self::SaysSafeEarly => "not on the disk",
            Self::DeafToCatalog => "show different catalogs",
            Self::ForgetsItsStamps => "the stamp on the disk of 1 fell",
            Self::ClaimsAuthority => "both have strict authority",
            Self::VotesAsBefore => "1 votes again as",
            Self::AcknowledgesAlone => "which no master held",
            Self::ReplacesNobody => "master backup eligible",
            Self::SignsOneNumber => "two strong generations 1",
            Self::MergesWithNobody => "master master",
            Self::KeepsItsOffice => "backup semi-master",
            Self::DoesNothing => "was not exercised",
        }
    }
}

/// What a bug is that sits in the settings of all nodes.
pub(crate) fn configure(bug: Bug, config: &mut Config) {
    if bug == Bug::LongLease {
        config.managers.lease = Duration::from_secs(5);
    }
    if bug == Bug::ReplacesNobody {
        config.managers.backup_silent = config.managers.min_stay;
    }
}

pub(crate) fn plant(bug: Bug, host: HostIx, node: Node) -> Box<dyn Machine> {
    if host != INFECTED {
        return Box::new(node);
    }
    Box::new(Infected {
        bug,
        node,
        born: None,
        present: Vec::new(),
        done: false,
        links: 0,
        voter: None,
        heard: None,
    })
}

/// What it writes names the id that it voted under first.
fn votes_as(first: &mut Option<RaftId>, write: &mut Write) {
    let Some(state) = write.state.as_ref() else { return };
    let Some((_, raft)) = Kept::in_state(state).and_then(|kept| kept.voter) else { return };
    let first = *first.get_or_insert(raft);
    let (new, old) = (skep_wire::encode(&raft), skep_wire::encode(&first));
    if let Some(at) = state.windows(new.len()).position(|bytes| bytes == new) {
        let bytes = [&state[..at], &old[..], &state[at + new.len()..]].concat();
        write.state = Some(bytes.into());
    }
}

fn applied(granted: &mut skep_catalog::Granted) {
    use skep_catalog::{Granted, Outcome};
    if let Granted::Decided { outcome, .. } = granted
        && let Outcome::Conflict { key, .. } = outcome
    {
        *outcome = Outcome::Applied { changed: vec![key.clone()] };
    }
}

/// A node with a bug around it.
struct Infected {
    bug: Bug,
    node: Node,
    born: Option<Time>,
    present: Vec<NodeId>,
    done: bool,
    links: usize,
    voter: Option<RaftId>,
    heard: Option<Time>,
}

impl Infected {
    fn shows(&mut self, now: Time) -> bool {
        let born = *self.born.get_or_insert(now);
        now.since(born).as_millis() >= u128::from(BEHAVES_MS)
    }

    /// Whether an input never reaches the node.
    fn swallows(&mut self, now: Time, input: &Input, out: &mut Outbox<Output>) -> bool {
        let shows = self.shows(now);
        match (self.bug, input) {
            (Bug::DeafToUpdates, Input::Frame { frame, .. }) => frame.kind == kind::FLOOD,
            (Bug::Incurious, Input::Frame { frame, .. }) if frame.kind == kind::FLOOD && shows => {
                let packet = Packet::from_bytes(&frame.body);
                !packet.is_ok_and(|packet| matches!(packet.message, Message::Updates { .. }))
            }
            (Bug::DeafToRecords, Input::Frame { frame, .. }) => {
                shows && frame.kind == kind::RECORDS
            }
            (Bug::DeafToCatalog, Input::Frame { frame, .. }) => frame.kind == kind::CATALOG,
            (Bug::MergesWithNobody, Input::Frame { frame, .. }) => frame.kind == kind::MANAGERS,
            (Bug::KeepsItsOffice, Input::Frame { frame, .. }) => {
                let stood = self.heard.replace(now).map(|heard| now.since(heard));
                self.done |= stood.is_some_and(|stood| stood > STOOD_STILL);
                self.done && [kind::RECORDS, kind::MANAGERS].contains(&frame.kind)
            }
            (Bug::Hermit, Input::LinkUp { link, .. }) => {
                out.push(Output::Close { link: *link, why: skep_node::Goodbye::Unneeded });
                true
            }
            (Bug::ThinsTheOverlay, Input::LinkUp { link, .. }) => {
                self.links += 1;
                let thinned = self.links > 1;
                if thinned {
                    out.push(Output::Close { link: *link, why: skep_node::Goodbye::Unneeded });
                }
                thinned
            }
            (Bug::AcknowledgesNothing, Input::Flood(FloodInput::Publish { token, .. })) => {
                let serial = Serial { incarnation: Incarnation(1), sequence: 999 + token.0 };
                let id = UpdateId { origin: self.node.id(), serial };
                let (token, position) = (*token, skep_flood::Position(0));
                out.push(Output::Flood(FloodOutput::Acknowledge { token, id, position }));
                true
            }
            (Bug::PromisesNothing, Input::Wish { token, .. }) => {
                let granted = skep_catalog::Granted::Decided {
                    index: 1 << 40,
                    stamp: skep_catalog::Stamp::default(),
                    strong: true,
                    outcome: skep_catalog::Outcome::Applied { changed: Vec::new() },
                };
                out.push(Output::Granted { token: *token, granted });
                true
            }
            _ => false,
        }
    }

    fn bend(&mut self, now: Time, from: &mut Outbox<Output>, out: &mut Outbox<Output>) {
        while let Some(mut output) = from.pop() {
            match (self.bug, &mut output) {
                (Bug::ForgetsItsLives, Output::PersistIncarnation(life)) => *life = Incarnation(1),
                (Bug::Hermit, Output::Dial { .. }) => continue,
                (Bug::AppliesConflicts, Output::Granted { granted, .. }) => applied(granted),
                (Bug::AcknowledgesAlone, Output::Granted { granted, .. }) => {
                    self.acknowledges(now, granted);
                }
                (
                    Bug::VotesAsBefore,
                    Output::Managers(skep_managers::Output::Persist { write, .. }),
                ) => votes_as(&mut self.voter, write),
                (Bug::AppendsTwice, Output::Flood(FloodOutput::Append { entries, .. })) => {
                    if let Some(last) = entries.last().cloned() {
                        let position = last.position.next();
                        entries.push(skep_flood::LogEntry { position, ..last });
                    }
                }
                (Bug::BendsBodies, Output::Flood(FloodOutput::HandOver { updates, .. })) => {
                    for update in updates {
                        update.body = skep_flood::DeliveredBody::Here(Bytes::from_static(b"bent"));
                    }
                }
                (
                    Bug::ObeysTheStale,
                    Output::Event(Event::OrderRefused { owner, kind, stamp, .. }),
                ) => {
                    let (owner, kind, stamp) = (*owner, *kind, *stamp);
                    let body = Some(Bytes::from_static(b"stale"));
                    output = Output::Event(Event::Ordered { owner, kind, stamp, body });
                }
                (Bug::BreaksBeforeItMakes, Output::Event(Event::Topology(Adopted { .. }))) => {
                    for link in self.node.links() {
                        let why = skep_node::Goodbye::Unneeded;
                        out.push(Output::Close { link: link.link, why });
                    }
                }
                _ => {}
            }
            out.push(output);
        }
        let present = self.node.present();
        let other = present.iter().copied().find(|id| *id != self.node.id());
        if self.bug == Bug::CallsTheLivingSilent
            && !self.done
            && let Some(node) = other
            && self.born.is_some_and(|born| now.since(born).as_secs() > 12)
        {
            self.done = true;
            let event = Event::Status { node, name: None, status: Status::Silent, present: 1 };
            out.push(Output::Event(event));
        }
        self.present = present.iter().copied().skip(1).collect();
    }

    /// Makes a refusal the outcome of a decision under the next stamp.
    fn acknowledges(&self, now: Time, granted: &mut skep_catalog::Granted) {
        let view = self.node.management(now);
        let decides = !matches!(view.role, Role::SemiMaster | Role::Holding);
        if decides || !matches!(granted, skep_catalog::Granted::Refused { .. }) {
            return;
        }
        let stamp = skep_catalog::Stamp { epoch: view.seen.epoch.0 + 1, fork: view.seen.fork.0 };
        let outcome = skep_catalog::Outcome::Applied { changed: Vec::new() };
        *granted = skep_catalog::Granted::Decided { index: 1 << 40, stamp, strong: false, outcome };
    }
}

impl Machine for Infected {
    fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        if !self.swallows(now, &input, out) {
            let mut inner = Outbox::new();
            self.node.handle(now, input, &mut inner);
            self.bend(now, &mut inner, out);
        }
    }

    fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        let mut inner = Outbox::new();
        self.node.tick(now, &mut inner);
        self.bend(now, &mut inner, out);
    }

    fn deadline(&self) -> Option<Deadline> {
        if self.bug == Bug::Spins {
            return Some((Time::ZERO, "it spins"));
        }
        self.node.deadline()
    }

    fn check(&self) {
        assert!(self.bug != Bug::FailsItsCheck, "planted");
        self.node.check();
    }

    fn node(&self) -> &Node {
        &self.node
    }

    fn management(&self, now: Time) -> View {
        let mut view = self.node.management(now);
        if self.bug == Bug::ClaimsAuthority
            && let Some(until) = view.flock.as_mut().and_then(|it| it.authority.until.as_mut())
        {
            *until = *until + CLAIMS;
        }
        view
    }

    fn present(&self) -> &[NodeId] {
        if self.bug == Bug::Miscounts { &self.present } else { self.node.present() }
    }
}
