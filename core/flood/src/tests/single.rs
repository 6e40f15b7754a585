//! One machine against a peer that says what it likes.

#![expect(clippy::wildcard_enum_match_arm, reason = "what a test looks for is what it names")]

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use skep_base::{ByteSize, Digest, GroupName, Incarnation, NodeId, Outbox, Rng, Time, Trail, tree};

use super::net::node;
use crate::message::{Floor, Header, Life, Mark, Message, Packet, Run};
use crate::{
    Config, Flood, GapReason, Input, Kept, Label, LogEntry, Output, PurgedMark, Serial, SpoolId,
    Spooled, UpdateId,
};

pub(super) struct Bench {
    pub(super) flood: Flood,
    now: Time,
}

pub(super) const PEER: usize = 2;

impl Bench {
    pub(super) fn new() -> Self {
        let mut bench = Self {
            flood: Flood::new(node(1), Incarnation(1), Config::default(), Rng::seeded(1)),
            now: Time::from_millis(1),
        };
        bench.handle(Input::Begin { incarnation: Incarnation(1) });
        bench.handle(Input::Neighbours { group: GroupName::all(), peers: vec![node(PEER)] });
        bench
    }

    pub(super) fn handle(&mut self, input: Input) -> Vec<Output> {
        let mut out = Outbox::new();
        self.flood.handle(self.now, input, &mut out);
        self.flood.tick(self.now, &mut out);
        self.flood.check();
        out.drain().collect()
    }

    pub(super) fn says(&mut self, message: Message, bodies: Vec<Bytes>) -> Vec<Output> {
        self.says_bytes(Packet { message, bodies }.to_bytes())
    }

    fn says_bytes(&mut self, body: Bytes) -> Vec<Output> {
        let from = node(PEER);
        self.handle(Input::Received { from, body })
    }

    pub(super) fn updates(&mut self, headers: Vec<Header>) -> Vec<Output> {
        let small = headers.iter().filter(|header| !header.is_large());
        let bodies = small.map(|header| filled(header.length)).collect();
        self.says(Message::Updates { group: GroupName::all(), headers }, bodies)
    }
}

/// A body of that length; of what no memory holds, none.
fn filled(length: u64) -> Bytes {
    vec![5; usize::try_from(length).unwrap_or(0)].into()
}

pub(super) fn header(origin: NodeId, sequence: u64, predecessor: Option<u64>) -> Header {
    let serial = |sequence| Serial { incarnation: Incarnation(1), sequence };
    Header {
        id: UpdateId { origin, serial: serial(sequence) },
        predecessor: predecessor.map(serial),
        age_ms: 0,
        length: 3,
        digest: None,
        trail: Trail::none(),
    }
}

pub(super) fn rejections(outputs: &[Output]) -> Vec<String> {
    let mut reasons = Vec::new();
    for output in outputs {
        if let Output::Reject { from, reason } = output {
            assert_eq!(*from, node(PEER));
            reasons.push(format!("{reason}"));
        }
    }
    reasons
}

pub(super) fn entries(outputs: &[Output]) -> Vec<&LogEntry> {
    let mut all = Vec::new();
    for output in outputs {
        if let Output::Append { entries, .. } = output {
            all.extend(entries);
        }
    }
    all
}

fn appended(outputs: &[Output]) -> usize {
    entries(outputs).len()
}

#[test]
fn updates_under_our_own_name_that_we_never_published_are_refused() {
    let mut bench = Bench::new();
    let outputs = bench.updates(vec![header(node(1), 1, None)]);
    assert!(rejections(&outputs)[0].contains("claims to be ours"));
    assert_eq!(appended(&outputs), 0);
}

#[test]
fn traces_of_our_own_earlier_life_are_taken_and_followed() {
    let mut bench = Bench::new();
    bench.handle(Input::Begin { incarnation: Incarnation(5) });
    assert_eq!(appended(&bench.updates(vec![header(node(1), 7, None)])), 1);
    let outputs = bench.handle(Input::Publish {
        group: GroupName::all(),
        body: Bytes::from_static(b"x"),
        token: crate::PublishToken(1),
        label: Label::default(),
    });
    let before = entries(&outputs)[0].head.update().unwrap().header.predecessor;
    assert_eq!(before, Some(Serial { incarnation: Incarnation(1), sequence: 7 }));
}

#[test]
fn a_trace_of_an_earlier_life_that_comes_twice_harms_nothing() {
    let mut bench = Bench::new();
    bench.handle(Input::Begin { incarnation: Incarnation(5) });
    assert_eq!(appended(&bench.updates(vec![header(node(1), 7, None)])), 1);
    assert_eq!(appended(&bench.updates(vec![header(node(1), 7, None)])), 0);
}

#[test]
fn a_trail_travels_and_a_tag_stays() {
    let mut bench = Bench::new();
    bench.handle(Input::Begin { incarnation: Incarnation(5) });
    let trail = Trail::none().through(&GroupName::all());
    let publish = |label: Label| Input::Publish {
        group: GroupName::all(),
        body: Bytes::from_static(b"x"),
        token: crate::PublishToken(1),
        label,
    };
    let label = Label { trail: trail.clone(), tag: b"key".to_vec() };
    let outputs = bench.handle(publish(label));
    let entries = entries(&outputs);
    let head = entries[0].head.update().unwrap();
    assert_eq!((&head.tag[..], &head.header.trail), (&b"key"[..], &trail));
    let sent = outputs.iter().find_map(|output| {
        let Output::Send { body, .. } = output else { return None };
        Some(Packet::from_bytes(body).unwrap().message)
    });
    let Some(Message::Updates { headers, .. }) = sent else {
        panic!("it is flooded: {sent:?}");
    };
    assert_eq!(headers[0].trail, trail);

    // A peer's trail is kept as it came; one without end is not published.
    let theirs = Header { trail: trail.clone(), ..header(node(3), 1, None) };
    let outputs = bench.updates(vec![theirs]);
    let kept = outputs.iter().find_map(|output| {
        let Output::Append { entries, .. } = output else { return None };
        Some(entries[0].head.update().unwrap().clone())
    });
    let kept = kept.unwrap();
    assert_eq!((kept.tag.len(), kept.header.trail), (0, trail));
    let groups = (0..9).map(|n| format!("g{n}").parse().unwrap());
    let trail = groups.fold(Trail::none(), |trail, group| trail.through(&group));
    let outputs = bench.handle(publish(Label { trail, tag: Vec::new() }));
    let refused = outputs
        .iter()
        .any(|it| matches!(it, Output::Refuse { reason: crate::Refusal::LongTrail(9), .. }));
    assert!(refused, "{outputs:?}");
}

#[test]
fn nothing_is_published_before_the_life_is_known() {
    let mut flood = Flood::new(node(1), Incarnation(1), Config::default(), Rng::seeded(1));
    let mut out = Outbox::new();
    let publish = Input::Publish {
        group: GroupName::all(),
        body: Bytes::new(),
        token: crate::PublishToken(1),
        label: Label::default(),
    };
    flood.handle(Time::ZERO, publish, &mut out);
    assert!(matches!(out.pop(), Some(Output::Refuse { .. })));
}

#[test]
fn bodies_over_the_limit_are_refused_on_both_ways() {
    let mut bench = Bench::new();
    let limit = Config::default().body_max.0;
    let outputs = bench.handle(Input::PublishSpooled {
        group: GroupName::all(),
        body: Spooled { spool: SpoolId(1), length: limit + 1, digest: Digest::of(b"") },
        token: crate::PublishToken(1),
        label: Label::default(),
    });
    assert!(outputs.iter().any(|output| matches!(
        output,
        Output::Refuse { reason: crate::Refusal::TooLarge { .. }, .. }
    )));
    let outputs = bench.updates(vec![too_large(1, None)]);
    assert!(rejections(&outputs).is_empty(), "who has a larger limit did nothing wrong");
    assert_eq!(gaps(&outputs), [(1, TOO_LARGE)]);
}

const TOO_LARGE: GapReason = GapReason::TooLarge { length: (1 << 30) + 1, limit: 1 << 30 };

/// An announcement by node 3 that is over the limit.
fn too_large(sequence: u64, predecessor: Option<u64>) -> Header {
    let length = Config::default().body_max.0 + 1;
    Header { length, digest: Some(Digest::of(b"")), ..header(node(3), sequence, predecessor) }
}

/// Gaps that were told, by the last that is missing.
fn gaps(outputs: &[Output]) -> Vec<(u64, GapReason)> {
    let gap = |output: &Output| match output {
        Output::Gap { up_to, reason, .. } => Some((up_to.sequence, *reason)),
        _ => None,
    };
    outputs.iter().filter_map(gap).collect()
}

#[test]
fn what_is_over_this_node_s_own_limit_is_a_gap_at_once_in_its_turn_and_once() {
    let mut bench = Bench::new();
    bench.updates(vec![header(node(3), 1, None)]);
    // It waits for its turn, as its successor does.
    let outputs = bench.updates(vec![header(node(3), 4, Some(3)), too_large(3, Some(2))]);
    assert_eq!((gaps(&outputs).len(), appended(&outputs)), (0, 0));
    let outputs = bench.updates(vec![header(node(3), 2, Some(1))]);
    assert_eq!(gaps(&outputs), [(3, TOO_LARGE)]);
    let kept = entries(&outputs);
    let kept: Vec<_> = kept.iter().filter_map(|entry| entry.head.update()).collect();
    assert_eq!(kept.iter().map(|it| it.header.id.serial.sequence).collect::<Vec<_>>(), [2, 4]);
    assert!(kept.iter().all(|it| !it.late));
    assert_eq!(appended(&outputs), 3, "the gap stands between them");
    // Every neighbour announces it, and comparisons show it again and again.
    let outputs = bench.updates(vec![too_large(3, Some(2))]);
    assert!(outputs.is_empty(), "{outputs:?}");
    let stats = bench.flood.stats();
    assert_eq!((stats.gaps, stats.gaps_too_large, stats.rejected), (1, 1, 0));
    let counted: u64 = stats.gaps_by_reason().iter().map(|(_, count)| count).sum();
    assert_eq!(counted, stats.gaps);
    let told = TOO_LARGE.to_string();
    assert!(told.contains("1073741824") && told.contains("flood.body_max"), "{told}");
}

#[test]
fn a_short_body_over_a_small_limit_is_a_gap_as_well_and_is_given_to_nobody() {
    let mut bench = Bench::new();
    let config = Config { body_max: ByteSize(2), ..Config::default() };
    bench.flood = Flood::new(node(1), Incarnation(1), config, Rng::seeded(1));
    bench.handle(Input::Begin { incarnation: Incarnation(1) });
    let group = GroupName::all();
    let peers = vec![node(PEER), node(5)];
    bench.handle(Input::Neighbours { group: group.clone(), peers });
    let outputs = bench.updates(vec![header(node(3), 2, Some(1))]);
    assert!(gaps(&outputs).is_empty() && sent(&outputs).is_empty(), "{outputs:?}");
    // Asked for while it waits for its turn.
    let run = Run { origin: node(3), incarnation: Incarnation(1), first: 2, count: 1 };
    let outputs = bench.says(Message::Graft { group, origins: vec![], runs: vec![run] }, vec![]);
    assert!(sent(&outputs).is_empty(), "{outputs:?}");
    let outputs = bench.updates(vec![Header { length: 1, ..header(node(3), 1, None) }]);
    assert_eq!(gaps(&outputs), [(2, GapReason::TooLarge { length: 3, limit: 2 })]);
    assert_eq!(bench.flood.stats().accepted, 1);
}

/// What was sent that carries updates.
fn sent(outputs: &[Output]) -> Vec<Message> {
    let message = |output: &Output| {
        let Output::Send { body, .. } = output else { return None };
        let message = Packet::from_bytes(body).unwrap().message;
        matches!(message, Message::Updates { .. } | Message::Have { .. }).then_some(message)
    };
    outputs.iter().filter_map(message).collect()
}

#[test]
fn the_last_life_there_can_be_holds_nobody_up() {
    let mut bench = Bench::new();
    let last = |sequence| Serial { incarnation: Incarnation(u64::MAX), sequence };
    let mut waits = header(node(3), 2, None);
    waits.id.serial = last(2);
    waits.predecessor = Some(last(1));
    bench.updates(vec![waits]);
    let outputs = bench.updates(vec![header(node(3), 1, None)]);
    assert_eq!(appended(&outputs), 1);
}

#[test]
fn an_update_over_the_purge_age_is_not_taken() {
    let mut bench = Bench::new();
    let mut old = header(node(3), 1, None);
    old.age_ms = u64::try_from(Config::default().purge_age.as_millis()).unwrap() + 1;
    assert_eq!(appended(&bench.updates(vec![old])), 0);
    assert_eq!(bench.flood.stats().stale, 1);
}

#[test]
fn what_was_purged_is_no_news_to_a_later_life() {
    let mut bench = Bench::new();
    bench.updates(vec![header(node(3), 1, None), header(node(3), 2, Some(1))]);
    bench.updates(vec![header(node(4), 7, None)]);
    bench.now = bench.now + Config::default().purge_age + Duration::from_secs(61);
    let outputs = bench.handle(Input::Neighbours { group: GroupName::all(), peers: vec![] });
    let told: Vec<&PurgedMark> = outputs
        .iter()
        .filter_map(|output| if let Output::Purged(marks) = output { Some(marks) } else { None })
        .flatten()
        .collect();
    let mark = |of, sequence| PurgedMark {
        group: GroupName::all(),
        origin: node(of),
        serial: Serial { incarnation: Incarnation(1), sequence },
    };
    assert_eq!(told, [&mark(3, 2), &mark(4, 7)], "the highest of each origin");
    let at = |wanted: fn(&Output) -> bool| outputs.iter().position(wanted).unwrap();
    let marked = at(|output| matches!(output, Output::Purged(_)));
    assert!(marked < at(|output| matches!(output, Output::Purge { .. })), "before the log goes");

    // A life that begins with an empty log, and a peer that says that they are quite new.
    let mut next = Bench::new();
    next.flood.restore_purged(told.into_iter().cloned());
    let stale =
        vec![header(node(3), 1, None), header(node(3), 2, Some(1)), header(node(4), 5, None)];
    assert_eq!(appended(&next.updates(stale)), 0);
    let fresh = vec![header(node(3), 3, Some(2))];
    assert_eq!(appended(&next.updates(fresh)), 1, "what follows is taken, and waits for nothing");
    let unmarked = vec![header(node(3), 1, None)];
    assert_eq!(appended(&Bench::new().updates(unmarked)), 1, "it is the mark that does it");
}

#[test]
fn ages_grow_in_storage_and_by_each_hop() {
    let mut bench = Bench::new();
    let mut update = header(node(3), 1, None);
    update.age_ms = 1000;
    bench.updates(vec![update]);
    bench.now = bench.now + Duration::from_secs(60);
    let group = GroupName::all();
    let (from, to) = (node(3), node(3));
    let outputs = bench.says(Message::Pull { group, token: 1, from, to, marks: vec![] }, vec![]);
    let Some(Output::Send { body, .. }) = outputs.last() else {
        panic!("not answered");
    };
    let Message::Pulled { headers, .. } = Packet::from_bytes(body).unwrap().message else {
        panic!("not an answer");
    };
    assert_eq!(headers[0].age_ms, 61_001);
}

#[test]
fn a_large_body_that_is_not_what_was_announced_is_refused() {
    let mut bench = Bench::new();
    let mut large = header(node(3), 1, None);
    large.length = 20_000;
    large.digest = Some(Digest::of(b"something else"));
    let id = large.id;
    assert_eq!(appended(&bench.updates(vec![large])), 0);
    bench.handle(Input::BodyOpened { id, missing: Some((true, vec![0])) });
    let group = GroupName::all();
    let piece = Message::Piece { group, id, piece: 0, length: 20_000 };
    let outputs = bench.says(piece, vec![Bytes::from(vec![1; 20_000])]);
    let given = outputs.iter().any(|it| matches!(it, Output::BodyPiece { piece: 0, .. }));
    assert!(given && appended(&outputs) == 0, "the disk checks it");
    let outputs = bench.handle(Input::PieceKept { id, piece: 0, kept: Kept::Wrong });
    assert!(rejections(&outputs)[0].contains("does not match its digest"));
    assert_eq!(appended(&outputs), 0);
}

#[test]
fn a_large_body_is_asked_of_the_nearest_whoever_announced_it_first() {
    let near = node(5);
    // Without estimates the link's own time counts, and nothing known is far.
    for (estimated, sampled, first) in
        [(Some((90, 3)), None, near), (None, Some((3, 90)), node(PEER)), (None, None, node(PEER))]
    {
        let mut bench = Bench::new();
        let peers = vec![node(PEER), near];
        bench.handle(Input::Neighbours { group: GroupName::all(), peers });
        let ms = Duration::from_millis;
        if let Some((a, b)) = estimated {
            bench.handle(Input::Distance { peer: node(PEER), time: ms(a) });
            bench.handle(Input::Distance { peer: near, time: ms(b) });
            // The link of the near one carries little, and looks slow.
            bench.handle(Input::RoundTrip { peer: near, time: ms(200) });
        }
        if let Some((a, b)) = sampled {
            bench.handle(Input::RoundTrip { peer: node(PEER), time: ms(a) });
            bench.handle(Input::RoundTrip { peer: near, time: ms(b) });
        }
        let mut large = header(node(3), 1, None);
        (large.length, large.digest) = (20_000, Some(Digest::of(b"large")));
        let id = large.id;
        bench.updates(vec![large.clone()]);
        let message = Message::Updates { group: GroupName::all(), headers: vec![large] };
        let body = Packet { message, bodies: vec![] }.to_bytes();
        bench.handle(Input::Received { from: near, body });
        let outputs = bench.handle(Input::BodyOpened { id, missing: Some((true, vec![0])) });
        let asked = outputs.iter().find_map(|output| match output {
            Output::Fetching { from } => Some(*from),
            _ => None,
        });
        assert_eq!(asked, Some(first), "estimated {estimated:?}, sampled {sampled:?}");
    }
}

#[test]
fn messages_of_foreign_groups_and_broken_ones_are_refused() {
    let mut bench = Bench::new();
    let group: GroupName = "elsewhere".parse().unwrap();
    let message = Message::Compare { group, digest: 1, answer: true };
    assert!(rejections(&bench.says(message, vec![]))[0].contains("not in"));
    for bytes in [&b""[..], b"\0", b"\xFF\xFF", b"\0\x01\x09"] {
        let outputs = bench.says_bytes(Bytes::copy_from_slice(bytes));
        assert_eq!(rejections(&outputs).len(), 1, "{bytes:?}");
    }
    assert_eq!(bench.flood.stats().rejected, 5);
}

#[test]
fn a_peer_that_asks_too_much_at_once_is_refused() {
    let mut bench = Bench::new();
    // 8 MB that cannot be sent in one window, asked for again and again.
    let headers = |from: u64| (from..from + 300).map(|at| header(node(3), at, Some(at - 1)));
    bench.updates(vec![header(node(3), 1, None)]);
    for batch in 0..20 {
        bench.updates(headers(2 + batch * 300).collect());
    }
    let mut refused = 0;
    for token in 0..64 {
        let group = GroupName::all();
        let (from, to) = (node(0), node(6));
        let pull = Message::Pull { group, token, from, to, marks: vec![] };
        refused += rejections(&bench.says(pull, vec![])).len();
    }
    assert_eq!(refused, 32);
}

fn any_id() -> impl Strategy<Value = NodeId> {
    (0_usize..6).prop_map(node)
}

fn any_serial() -> impl Strategy<Value = Serial> {
    (0_u64..4, prop_oneof![0_u64..12, Just(u64::MAX)]).prop_map(|(incarnation, sequence)| Serial {
        incarnation: Incarnation(incarnation),
        sequence,
    })
}

fn any_header() -> impl Strategy<Value = Header> {
    let length = prop_oneof![0_u64..64, Just(20_000), Just(1_000_000), Just(u64::MAX)];
    let age = prop_oneof![0_u64..10_000, Just(u64::MAX)];
    let id = (any_id(), any_serial());
    (id, prop::option::of(any_serial()), age, length).prop_map(
        |((origin, serial), predecessor, age_ms, length)| Header {
            id: UpdateId { origin, serial },
            predecessor,
            age_ms,
            length,
            digest: (length >= 16_384).then(|| Digest::of(b"x")),
            trail: Trail::none(),
        },
    )
}

fn any_mark() -> impl Strategy<Value = Mark> {
    let life = (0_u64..4, 0_u64..12, prop::collection::vec((0_u64..9, 0_u64..12), 0..3));
    let life = life.prop_map(|(incarnation, head, gaps)| Life {
        incarnation: Incarnation(incarnation),
        head,
        gaps,
    });
    let lives = prop::collection::vec(life, 0..3);
    (any_id(), prop::option::of(any_serial()), lives).prop_map(|(origin, purged, lives)| Mark {
        origin,
        purged,
        lives,
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    let group = GroupName::all;
    let headers = || prop::collection::vec(any_header(), 0..6);
    let floor = (any_id(), any_serial(), any::<bool>());
    let floor = floor.prop_map(|(origin, serial, whole)| {
        let dropped = !whole;
        Floor { origin, serial, whole, dropped }
    });
    let id = || (any_id(), any_serial()).prop_map(|(origin, serial)| UpdateId { origin, serial });
    prop_oneof![
        4 => headers().prop_map(move |headers| Message::Updates { group: group(), headers }),
        1 => (any::<u64>(), any::<bool>()).prop_map(move |(digest, answer)| {
            Message::Compare { group: group(), digest, answer }
        }),
        2 => (any_id(), any_id(), prop::collection::vec(any_mark(), 0..4), 0_u32..9).prop_map(
            move |(from, to, mut marks, token)| {
                marks.sort_by_key(|mark| mark.origin);
                Message::Pull { group: group(), token, from, to, marks }
            }
        ),
        3 => (headers(), prop::collection::vec(floor, 0..3), 0_u32..9, any::<bool>()).prop_map(
            move |(headers, floors, token, done)| {
                Message::Pulled { group: group(), token, floors, headers, done }
            }
        ),
        1 => (0_u32..9).prop_map(move |token| Message::More { group: group(), token }),
        1 => (id(), any::<u32>(), 0_u32..20).prop_map(move |(id, first, count)| {
            Message::Fetch { group: group(), id, leaves: first % 2 == 0, first, count }
        }),
        1 => (id(), 0_u32..9, 0_u32..40_000).prop_map(
            move |(id, piece, length)| Message::Piece { group: group(), id, piece, length }
        ),
        1 => (id(), 0_u32..400).prop_map(
            move |(id, length)| Message::Leaves { group: group(), id, length }
        ),
        1 => id().prop_map(move |id| Message::Missing { group: group(), id }),
    ]
}

fn with_bodies(message: Message) -> Bytes {
    let mut bodies = Vec::new();
    if let Message::Updates { headers, .. } | Message::Pulled { headers, .. } = &message {
        let small = headers.iter().filter(|header| !header.is_large());
        bodies.extend(small.map(|header| filled(header.length)));
    }
    if let Message::Piece { length, .. } | Message::Leaves { length, .. } = &message {
        bodies.push(Bytes::from(vec![6; *length as usize]));
    }
    Packet { message, bodies }.to_bytes()
}

/// What a disk may say, by a number.
fn kept(number: u64) -> Kept {
    [Kept::Yes, Kept::Wrong, Kept::Unchecked, Kept::No][usize::try_from(number % 4).unwrap()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever a peer says, and whenever: nothing fails, every bound holds, and a log position is
    /// never given twice.
    #[test]
    fn no_peer_can_harm_the_machine(
        script in prop::collection::vec((any_message(), 0_u64..5_000), 1..60),
    ) {
        let mut bench = Bench::new();
        let mut positions = 0;
        for (message, wait) in script {
            let outputs = bench.says_bytes(with_bodies(message));
            for entry in entries(&outputs) {
                prop_assert_eq!(entry.position.0, positions);
                positions += 1;
            }
            for output in outputs {
                let answer = match output {
                    Output::BodyOpen { id, length, .. } => {
                        let missing = (0..tree::pieces(length)).filter(|it| it % 3 != 2);
                        Input::BodyOpened { id, missing: Some((false, missing.collect())) }
                    }
                    Output::BodyLeaves { id, .. } => Input::LeavesKept { id, kept: kept(wait) },
                    Output::BodyPiece { id, piece, .. } => {
                        Input::PieceKept { id, piece, kept: kept(wait / 4) }
                    }
                    _ => continue,
                };
                bench.handle(answer);
            }
            bench.handle(Input::Appended { up_to: crate::Position(positions), durable: false });
            bench.now = bench.now + Duration::from_millis(wait);
        }
    }

    /// Bytes at random are refused and nothing else.
    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bench = Bench::new();
        let outputs = bench.says_bytes(bytes.into());
        prop_assert!(appended(&outputs) == 0 || rejections(&outputs).is_empty());
    }
}
