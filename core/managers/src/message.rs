//! What managers, learners and nodes of the roster say to one another, and what each announces to
//! all. Frame kind [`skep_wire::kind::MANAGERS`], or the body of a routed request.
//!
//! The engine's own messages travel here field by field: no peer's bytes ever reach its parser.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::NodeId;
use skep_wire::{decode, encode};

use crate::config::MAX_ENTRY_BYTES;
use crate::event::Eligibility;
use crate::id::{Epoch, ForkId, Founding, Generation, Lineage, RaftId, Role, Stamp};
use crate::orphan::RosterNote;
use crate::stored::{Chain, Entry, Note, Place, SyncSet};
use crate::strict::AuthorityAsk;

/// The longest message: it fits a frame of the control lane.
pub const MAX_MESSAGE_BYTES: usize = 62 * 1024;
/// The bytes of an image in one message.
pub(crate) const PART_BYTES: usize = 48 * 1024;
/// Points of a history that are compared to find where two parted.
pub(crate) const MAX_POINTS: usize = 64;
/// Items of a history in one message: each takes a record of its own, however short it is.
pub(crate) const MAX_ITEMS: usize = 256;
/// Nodes in any list of a message.
pub(crate) const MAX_NAMED: usize = 64;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// The engine's.
    Engine(Engine),
    /// The master asks an eligible node to take a raft id (DVM-6).
    Enlist { lineage: Lineage, fork: ForkId, generation: Generation, stamp: Stamp },
    /// It took one.
    Enlisted { lineage: Lineage, fork: ForkId, raft: RaftId },
    /// It cannot now.
    Declined { lineage: Lineage },
    /// A learner asks for a part of the image that was announced to it.
    PartAsk { lineage: Lineage, fork: ForkId, index: u64, part: u32 },
    /// A part of it.
    Part { lineage: Lineage, fork: ForkId, index: u64, part: u32, bytes: Bytes },
    /// The sync set is this: note it on disk.
    Note(Note),
    /// It is on disk.
    Noted { lineage: Lineage, version: u64 },
    /// What do you know of this history, and whom of its managers do you hear? (DVM-5, 15, 20)
    Ask { lineage: Lineage, round: u64, about: Option<NodeId> },
    /// This.
    Answer(Answer),
    /// Promise me this generation, unless you promised as much.
    Promise(PromiseAsk),
    /// The highest generation promised; `granted` when it is the one asked for, and `current` when
    /// no newer roster is known than that which it shall descend from.
    Promised { generation: Generation, round: u64, granted: bool, current: bool },
    /// A restarted manager tells the others what its log holds.
    Compare(Comparison),
    /// Is the master's process gone for you as well?
    Gone { lineage: Lineage, fork: ForkId, term: u64, master: NodeId },
    /// It is.
    GoneToo { lineage: Lineage, fork: ForkId, term: u64, master: NodeId },
    /// May my history merge into yours? `points` are places of it, newest first; `led` says whether
    /// its master asks, or a former manager that holds it.
    MergeAsk { from: Lineage, session: u64, into: Lineage, points: Vec<(u64, Chain)>, led: bool },
    /// It may, from the item `next` on; `common` is the newest place both have.
    MergeGrant { from: Lineage, session: u64, into: Lineage, common: u64, next: u64 },
    /// Not now: one of the two is merging already, or the order is another.
    MergeWait { from: Lineage, into: Lineage },
    /// What of it shall be taken over.
    Items(Items),
    /// All below `next` are decided here; `done` when that was all.
    ItemsTaken { from: Lineage, session: u64, into: Lineage, next: u64, done: bool },
    /// An order of this history was refused by a node that has seen this stamp.
    OrderRefused { lineage: Lineage, seen: Stamp },
    /// Give me a lease for strict authority, and promise my stamp.
    AuthorityAsk(AuthorityAsk),
    /// It is given, and promised on disk.
    AuthorityGiven { lineage: Lineage, round: u64 },
    /// Another history would merge into this one because it is strong. Is your newest promise a
    /// stamp of it? `nonce` is that merge's session.
    StrengthAsk { lineage: Lineage, nonce: u64 },
    /// It is, on disk.
    StrengthGiven { lineage: Lineage, nonce: u64 },
    /// Most of the roster did not confirm that `into` is strong: in this merge it counts as weak.
    MergeDoubted { from: Lineage, session: u64, into: Lineage },
    /// Nothing is given: a history was founded under this number, which is higher.
    FoundingPassed { lineage: Lineage, founding: Founding },
    /// The roster is this: keep it on disk, for a part that has no manager left.
    Roster(RosterNote),
    /// It is on disk, or a newer one.
    RosterKept { lineage: Lineage, index: u64 },
}

/// What a node asks for that would found the next generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PromiseAsk {
    /// Of which history.
    pub(crate) lineage: Lineage,
    pub(crate) generation: Generation,
    pub(crate) round: u64,
    /// Of its roster, as far as who asks knows, and under which founding number that is strong.
    pub(crate) version: u64,
    pub(crate) founding: Founding,
}

/// An engine message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Engine {
    pub(crate) lineage: Lineage,
    pub(crate) fork: ForkId,
    pub(crate) from: RaftId,
    pub(crate) to: RaftId,
    pub(crate) term: u64,
    pub(crate) body: EngineBody,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EngineBody {
    Append {
        index: u64,
        log_term: u64,
        commit: u64,
        entries: Vec<Entry>,
    },
    Appended {
        index: u64,
        commit: u64,
    },
    AppendRefused {
        index: u64,
        hint: u64,
        hint_term: u64,
        commit: u64,
    },
    Vote {
        pre: bool,
        index: u64,
        log_term: u64,
        commit: u64,
        commit_term: u64,
        transfer: bool,
    },
    Voted {
        pre: bool,
        granted: bool,
        commit: u64,
        commit_term: u64,
    },
    Heartbeat {
        commit: u64,
        beat: u64,
    },
    HeartbeatReply {
        commit: u64,
        beat: u64,
    },
    TimeoutNow,
    /// An image of `bytes` bytes as of `index`; its parts are asked for.
    Snapshot {
        index: u64,
        log_term: u64,
        bytes: u64,
    },
}

/// What a node of the roster knows of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) lineage: Lineage,
    pub(crate) round: u64,
    /// Of whom it was asked, and whether there is a live link to it.
    pub(crate) about: Option<NodeId>,
    pub(crate) reaches: bool,
    /// A master of this history that it hears of, live.
    pub(crate) master: Option<NodeId>,
    /// Managers of this history that it hears, live; semi-masters and holding ones are none.
    pub(crate) managers: Vec<NodeId>,
    pub(crate) promised: Generation,
    pub(crate) seen: Epoch,
    pub(crate) sync: Option<SyncSet>,
    /// In which this history ended, if it did.
    pub(crate) ended: Option<Lineage>,
}

/// What a manager's log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Comparison {
    pub(crate) lineage: Lineage,
    pub(crate) fork: ForkId,
    pub(crate) raft: RaftId,
    pub(crate) term: u64,
    pub(crate) last: u64,
    pub(crate) last_term: u64,
    pub(crate) sync_version: u64,
    /// Whether it is itself in the newest sync set that its log names.
    pub(crate) in_sync: bool,
    /// Whether the sender wants one back.
    pub(crate) asks: bool,
}

/// A part of what the host made of a history that is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Items {
    /// The history, and its generation.
    pub(crate) from: Lineage,
    pub(crate) generation: Generation,
    pub(crate) session: u64,
    pub(crate) into: Lineage,
    /// The number of the first of them.
    pub(crate) first: u64,
    pub(crate) items: Vec<Bytes>,
    /// These are the last, and with them everything is said: of how many entries of the catalog.
    pub(crate) last: Option<u64>,
}

/// What a node that is eligible, or was, announces to all. Newest wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) role: Role,
    pub(crate) eligible: Eligibility,
    pub(crate) resources: u16,
    /// Well, and not held by an operator.
    pub(crate) well: bool,
    /// The flock it manages, or follows.
    pub(crate) flock: Option<FlockClaim>,
    /// The history that it holds and has handed over to nobody yet.
    pub(crate) holds: Option<(Lineage, Generation)>,
    pub(crate) seen: Stamp,
    /// The last histories that it knows to have ended, and in which.
    pub(crate) ended: Vec<(Lineage, Lineage)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlockClaim {
    pub(crate) lineage: Lineage,
    pub(crate) fork: ForkId,
    pub(crate) generation: Generation,
    pub(crate) stamp: Stamp,
    pub(crate) strong: bool,
    /// Under which number it is strong, or what it comes from was.
    pub(crate) founding: Founding,
    pub(crate) acknowledged: bool,
    /// The flock came back from a restart of all its managers.
    pub(crate) rebooted: bool,
    /// ⌊log₂ seconds⌋ of this master's mastership.
    pub(crate) mastership: u8,
    pub(crate) parent: Option<(Lineage, u64)>,
    /// The master and those that vote beside it; on other nodes empty.
    pub(crate) managers: Vec<NodeId>,
    pub(crate) learners: Vec<NodeId>,
    pub(crate) sync: Vec<NodeId>,
    pub(crate) roster: u8,
    pub(crate) merging: bool,
    /// How many of the roster the master sees, itself among them.
    pub(crate) there: u8,
    /// The master has strict authority.
    pub(crate) strict: bool,
}

impl Message {
    /// A message that came, within its bounds.
    pub(crate) fn from_bytes(body: &[u8]) -> Option<Self> {
        if body.len() > MAX_MESSAGE_BYTES {
            return None;
        }
        let message: Self = decode("message of managers", body).ok()?;
        let bounded = match &message {
            Self::Note(note) => note.sync.members.len() <= MAX_NAMED,
            Self::Roster(note) => note.is_sound(),
            Self::Answer(answer) => {
                answer.managers.len() <= MAX_NAMED
                    && answer.sync.as_ref().is_none_or(|sync| sync.members.len() <= MAX_NAMED)
            }
            Self::MergeAsk { points, .. } => points.len() <= MAX_POINTS,
            Self::Part { bytes, .. } => bytes.len() <= PART_BYTES,
            // Each becomes an entry.
            Self::Items(Items { items, .. }) => {
                items.len() <= MAX_ITEMS && items.iter().all(|item| item.len() <= MAX_ENTRY_BYTES)
            }
            Self::Engine(_)
            | Self::Enlist { .. }
            | Self::Enlisted { .. }
            | Self::Declined { .. }
            | Self::PartAsk { .. }
            | Self::Noted { .. }
            | Self::Ask { .. }
            | Self::Promise(_)
            | Self::Promised { .. }
            | Self::Compare(_)
            | Self::Gone { .. }
            | Self::GoneToo { .. }
            | Self::MergeGrant { .. }
            | Self::MergeWait { .. }
            | Self::ItemsTaken { .. }
            | Self::OrderRefused { .. }
            | Self::AuthorityAsk(_)
            | Self::AuthorityGiven { .. }
            | Self::StrengthAsk { .. }
            | Self::StrengthGiven { .. }
            | Self::MergeDoubted { .. }
            | Self::FoundingPassed { .. }
            | Self::RosterKept { .. } => true,
        };
        bounded.then_some(message)
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        encode(self).into()
    }
}

impl Claim {
    pub(crate) fn from_bytes(body: &[u8]) -> Option<Self> {
        let claim: Self = decode("claim of managers", body).ok()?;
        let bounded = claim.ended.len() <= MAX_NAMED
            && claim.flock.as_ref().is_none_or(|flock| {
                flock.managers.len() <= MAX_NAMED
                    && flock.learners.len() <= MAX_NAMED
                    && flock.sync.len() <= MAX_NAMED
            });
        bounded.then_some(claim)
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        encode(self).into()
    }
}

/// Whether bytes can be a message of managers. For fuzzers and tools.
#[must_use]
pub fn is_message(body: &[u8]) -> bool {
    Message::from_bytes(body).is_some_and(|message| {
        let again = message.to_bytes();
        Message::from_bytes(&again).as_ref() == Some(&message)
    })
}

/// Whether bytes can be a node's announcement. For fuzzers and tools.
#[must_use]
pub fn is_announcement(body: &[u8]) -> bool {
    Claim::from_bytes(body).is_some_and(|claim| {
        let again = claim.to_bytes();
        Claim::from_bytes(&again).as_ref() == Some(&claim)
    })
}

/// One message of each kind, an announcement, and what a master shows, with a name: what golden
/// bytes are made of.
#[must_use]
pub fn samples() -> Vec<(&'static str, Bytes)> {
    let node = |n: u8| NodeId::from_bytes([n; 16]);
    let (lineage, fork) = (Lineage(0x0102_0304_0506_0708), ForkId(0x1112_1314_1516_1718));
    let stamp = Stamp { epoch: Epoch(9), fork };
    let sync = SyncSet { version: 4, members: vec![node(1), node(2)] };
    let comparison = Comparison {
        lineage,
        fork,
        raft: RaftId(0x2122),
        term: 3,
        last: 8,
        last_term: 3,
        sync_version: 4,
        in_sync: true,
        asks: true,
    };
    let answer = Answer {
        lineage,
        round: 5,
        about: Some(node(2)),
        reaches: true,
        master: Some(node(1)),
        managers: vec![node(1)],
        promised: Generation(2),
        seen: Epoch(9),
        sync: Some(sync.clone()),
        ended: None,
    };
    let note = Note { lineage, generation: Generation(1), stamp, sync };
    let generation = Generation(2);
    let into = Lineage(0x5152_5354_5556_5758);
    let items = Items {
        from: lineage,
        generation,
        session: 6,
        into,
        first: 0,
        items: vec![Bytes::from_static(b"change")],
        last: Some(1),
    };
    let (term, master) = (3, node(1));
    let (version, base, founding) = (2, 1, Founding(1));
    let ask = AuthorityAsk { lineage, stamp, version, base, round: 5, founding };
    let messages = vec![
        ("enlist", Message::Enlist { lineage, fork, generation, stamp }),
        ("enlisted", Message::Enlisted { lineage, fork, raft: RaftId(0x4142) }),
        ("declined", Message::Declined { lineage }),
        ("part-ask", Message::PartAsk { lineage, fork, index: 8, part: 0 }),
        (
            "part",
            Message::Part { lineage, fork, index: 8, part: 0, bytes: Bytes::from_static(b"x") },
        ),
        ("note", Message::Note(note)),
        ("noted", Message::Noted { lineage, version: 4 }),
        ("ask", Message::Ask { lineage, round: 5, about: Some(node(2)) }),
        ("answer", Message::Answer(answer)),
        (
            "promise",
            Message::Promise(PromiseAsk { lineage, generation, round: 5, version, founding }),
        ),
        ("promised", Message::Promised { generation, round: 5, granted: true, current: true }),
        ("compare", Message::Compare(comparison)),
        ("gone", Message::Gone { lineage, fork, term, master }),
        ("gone-too", Message::GoneToo { lineage, fork, term, master }),
        (
            "merge-ask",
            Message::MergeAsk {
                from: lineage,
                session: 6,
                into,
                points: vec![(8, Chain(0xAB))],
                led: true,
            },
        ),
        (
            "merge-grant",
            Message::MergeGrant { from: lineage, session: 6, into, common: 5, next: 0 },
        ),
        ("merge-wait", Message::MergeWait { from: lineage, into }),
        ("items", Message::Items(items)),
        (
            "items-taken",
            Message::ItemsTaken { from: lineage, session: 6, into, next: 1, done: true },
        ),
        ("order-refused", Message::OrderRefused { lineage, seen: stamp }),
        ("authority-ask", Message::AuthorityAsk(ask)),
        ("authority-given", Message::AuthorityGiven { lineage, round: 5 }),
        ("strength-ask", Message::StrengthAsk { lineage, nonce: 6 }),
        ("strength-given", Message::StrengthGiven { lineage, nonce: 6 }),
        ("merge-doubted", Message::MergeDoubted { from: lineage, session: 6, into }),
        ("founding-passed", Message::FoundingPassed { lineage, founding: Founding(2) }),
        ("roster", Message::Roster(sample_roster())),
        ("roster-kept", Message::RosterKept { lineage, index: 8 }),
    ];
    let engine = sample_packets().into_iter();
    let mut all: Vec<_> = engine.chain(messages).map(|(name, it)| (name, it.to_bytes())).collect();
    all.push(("claim", sample_claim().to_bytes()));
    all.push(("shown", crate::shown::sample().to_bytes().into()));
    all
}

fn sample_roster() -> RosterNote {
    let node = |n: u8| NodeId::from_bytes([n; 16]);
    let place = |n, eligible, held| Place {
        node: node(n),
        eligible,
        resources: 500,
        availability: 750,
        held,
        given_up: false,
    };
    RosterNote {
        lineage: Lineage(0x0102_0304_0506_0708),
        index: 8,
        strong: true,
        founding: Founding(1),
        version: 2,
        before: vec![node(1)],
        places: vec![place(1, Eligibility::Eligible, false), place(2, Eligibility::Witness, true)],
    }
}

fn sample_packets() -> Vec<(&'static str, Message)> {
    use crate::stored::{ChangeKind, Payload};
    let node = |n: u8| NodeId::from_bytes([n; 16]);
    let (lineage, fork) = (Lineage(0x0102_0304_0506_0708), ForkId(0x1112_1314_1516_1718));
    let engine = |body| {
        let (from, to) = (RaftId(0x2122), RaftId(0x3132));
        Message::Engine(Engine { lineage, fork, from, to, term: 3, body })
    };
    let entry = |index, payload| Entry { index, term: 3, payload };
    let entries = vec![
        entry(6, Payload::Empty),
        entry(7, Payload::Record(Bytes::from_static(b"record"))),
        entry(8, Payload::Change(vec![(ChangeKind::Learner, RaftId(0x4142), node(3))])),
    ];
    let vote = EngineBody::Vote {
        pre: true,
        index: 8,
        log_term: 3,
        commit: 7,
        commit_term: 3,
        transfer: false,
    };
    let refused = EngineBody::AppendRefused { index: 8, hint: 5, hint_term: 2, commit: 5 };
    let voted = EngineBody::Voted { pre: false, granted: true, commit: 0, commit_term: 0 };
    vec![
        ("append", engine(EngineBody::Append { index: 5, log_term: 2, commit: 5, entries })),
        ("appended", engine(EngineBody::Appended { index: 8, commit: 5 })),
        ("append-refused", engine(refused)),
        ("vote", engine(vote)),
        ("voted", engine(voted)),
        ("heartbeat", engine(EngineBody::Heartbeat { commit: 5, beat: 77 })),
        ("heartbeat-reply", engine(EngineBody::HeartbeatReply { commit: 5, beat: 77 })),
        ("timeout-now", engine(EngineBody::TimeoutNow)),
        ("snapshot", engine(EngineBody::Snapshot { index: 8, log_term: 3, bytes: 500 })),
    ]
}

pub(crate) fn sample_claim() -> Claim {
    let node = |n: u8| NodeId::from_bytes([n; 16]);
    let (lineage, fork) = (Lineage(0x0102_0304_0506_0708), ForkId(0x1112_1314_1516_1718));
    let (into, stamp) = (Lineage(0x5152_5354_5556_5758), Stamp { epoch: Epoch(9), fork });
    let generation = Generation(2);
    let flock = FlockClaim {
        lineage,
        fork,
        generation,
        stamp,
        strong: false,
        founding: Founding(1),
        acknowledged: true,
        rebooted: false,
        mastership: 6,
        parent: Some((into, 5)),
        managers: vec![node(1), node(2)],
        learners: vec![node(3)],
        sync: vec![node(1)],
        roster: 3,
        merging: false,
        there: 2,
        strict: true,
    };
    Claim {
        role: Role::Master,
        eligible: Eligibility::Eligible,
        resources: 700,
        well: true,
        flock: Some(flock),
        holds: None,
        seen: stamp,
        ended: vec![(into, lineage)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Invariant 4: what a released version said is understood by the next.
    #[test]
    fn messages_are_the_golden_bytes() {
        let golden: Vec<&str> = include_str!("golden.txt").lines().collect();
        let now: Vec<String> =
            samples().iter().map(|(name, bytes)| format!("{name} {}", hex(bytes))).collect();
        assert_eq!(now, golden, "golden.txt would be:\n{}\n", now.join("\n"));
    }

    #[test]
    fn items_that_could_be_no_entries_are_refused() {
        let (from, into) = (Lineage(1), Lineage(2));
        let of = |items: Vec<Bytes>| {
            let (generation, session, first, last) = (Generation(1), 6, 0, None);
            let items = Items { from, generation, session, into, first, items, last };
            Message::from_bytes(&Message::Items(items).to_bytes()).is_some()
        };
        assert!(of(vec![Bytes::from(vec![0; MAX_ENTRY_BYTES])]));
        assert!(!of(vec![Bytes::from(vec![0; MAX_ENTRY_BYTES + 1])]));
        assert!(of(vec![Bytes::new(); MAX_ITEMS]));
        assert!(!of(vec![Bytes::new(); MAX_ITEMS + 1]));
    }

    #[test]
    fn every_sample_is_read_and_cut_or_long_ones_are_refused() {
        for (name, bytes) in samples() {
            let read: fn(&[u8]) -> bool = match name {
                "claim" => is_announcement,
                "shown" => |bytes| crate::Shown::from_bytes(bytes).is_some(),
                _ => is_message,
            };
            assert!(read(&bytes), "{name}");
            assert!(!read(&bytes[..bytes.len() - 1]), "{name} without its end");
            assert!(!read(&[&bytes[..], b"0"].concat()), "{name} with more");
        }
        assert!(!is_message(&vec![0; MAX_MESSAGE_BYTES + 1]));
    }
}
