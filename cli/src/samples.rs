//! A small bloc as an agent would describe it, for the tests of what is shown.

use skep_base::{BlocName, Digest, NodeId, NodeName, WallTime};
use skep_control::api::{
    Absence, AgentState, Authority, CaStatus, Catalog, CatalogEntry, Certificate, Check, Cursor,
    Entry, Event, EventKind, Field, Flock, Founding, Freshness, Group, Health, Image, ImageDetail,
    Link, LinkKind, Management, Member, Metric, MetricKind, OtherFlock, OverlayBasis, Presence,
    Problem, Recovery, RoundTrip, RttBasis, Seen, Spare, Split, Standing, Status, Subscriber,
    SyncMember, Text, Topology, TopologyDecree, TopologyEdge, TopologyFailure, TopologyFigures,
    TopologySite, Wait, Wave, WaveDetail, WaveId, WaveNode, WaveState, WaveStep,
};

const NOW: u64 = 1_790_000_000_000;

pub(crate) fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn bloc() -> BlocName {
    "example".parse().unwrap()
}

fn wall(before_ms: u64) -> WallTime {
    WallTime::from_unix_ms(NOW - before_ms)
}

pub(crate) fn certificate() -> Certificate {
    Certificate {
        bloc: bloc(),
        node: name("queen-1"),
        network: Some("rack-a".parse().unwrap()),
        roles: vec!["queen".into(), "manager".into()],
        fingerprint: Text(Digest::of(b"certificate")),
        not_before: wall(86_400_000 * 5),
        not_after: WallTime::from_unix_ms(NOW + 86_400_000 * 25),
        renew_at: WallTime::from_unix_ms(NOW + 86_400_000 * 15),
        expires_in_ms: 86_400_000 * 25,
    }
}

pub(crate) fn status() -> Status {
    Status {
        bloc: bloc(),
        node: name("queen-1"),
        id: Text(NodeId::derive(&bloc(), &name("queen-1"))),
        network: Some("rack-a".parse().unwrap()),
        roles: vec!["queen".into(), "manager".into()],
        version: "0.0.0".into(),
        protocol: 1,
        feature_level: 1,
        flock_feature_level: 1,
        incarnation: 7,
        state: AgentState::Running,
        started: wall(725_000),
        uptime_ms: 725_000,
        addresses: vec!["192.0.2.1:7400".into(), "[2001:db8::1]:7400".into()],
        present: 3,
        known: 5,
        flock: "queen-1.3f9a".into(),
        links: 2,
        certificate: certificate(),
        waits: vec![Wait {
            by: None,
            what: "web-3 to come back from its restart".into(),
            since_ms: 1_500,
            until_ms: Some(28_500),
        }],
        problems: vec![Problem {
            message: "the clock was set back by 2 h".into(),
            hint: Some("let chrony or systemd-timesyncd run".into()),
            since_ms: 60_000,
        }],
    }
}

pub(crate) fn members() -> Vec<Member> {
    let member = |node: &str, presence, since_ms, address: &str| Member {
        node: name(node),
        me: node == "queen-1",
        presence,
        since_ms,
        network: Some("rack-a".parse().unwrap()),
        certificate_until: Some(WallTime::from_unix_ms(1_800_000_000_000)),
        roles: Vec::new(),
        incarnation: 7,
        version: "0.0.0".into(),
        addresses: vec![address.into()],
        watchers: vec![name("queen-1")],
        rtt_us: (presence == Presence::Present && node != "queen-1").then_some(840),
    };
    vec![
        member("web-2", Presence::Silent, 4_200, "192.0.2.3:7400"),
        member("queen-1", Presence::Present, 725_000, "192.0.2.1:7400"),
        member("web-1", Presence::Present, 90_061_000, "[2001:db8:1:2::3:4]:7400"),
        member("web-3", Presence::Restarting, 1_500, "192.0.2.4:7400"),
        member("old-1", Presence::GivenUp, 86_400_000 * 4, "192.0.2.9:7400"),
    ]
}

pub(crate) fn management() -> Management {
    let standing = |node: &str, availability, present| Standing {
        node: name(node),
        standing: availability / 2,
        resources: 500,
        availability,
        present,
        witness: false,
        held: node == "old-1",
        given_up: false,
        resources_now: present.then_some(if node == "web-1" { 600 } else { 500 }),
        parts: present.then_some(Spare { network: 600, processor: 410, memory: 620, disk: 900 }),
        held_since_ms: (node == "old-1").then_some(3_700_000),
        unwell_since_ms: (node == "queen-1").then_some(61_000),
        seen: Seen {
            since_ms: 7_200_000,
            absences: u32::from(availability < 1000),
            away_ms: if availability < 1000 { 754_000 } else { 0 },
            last: (node == "queen-1")
                .then_some(Absence { ended_ms: 7_200_000, lasted_ms: 754_000 }),
        },
    };
    Management {
        told_by: Some(name("web-1")),
        told_ms: Some(12),
        untold: None,
        role: "backup".into(),
        name: Some("amber-finch".into()),
        stable: false,
        stable_in_ms: Some(21_000),
        lineage: Some("00c0ffee00c0ffee".into()),
        generation: 1,
        stamp: Some("7/00c0ffee".into()),
        epoch: 7,
        term: 3,
        strength: Some("weak".into()),
        weak: Some("no founding token was used".into()),
        founding: 0,
        token: Some("founding token 1 is here and waits: the master has no lease now".into()),
        master: Some(name("web-1")),
        leads_ms: Some(11_160_000),
        backups: vec![name("queen-1")],
        learners: Vec::new(),
        sync_set: vec![name("web-1"), name("queen-1")],
        roster: vec![
            standing("web-1", 1000, true),
            standing("queen-1", 990, true),
            standing("old-1", 20, false),
        ],
        committed: 812,
        waits: vec![
            Wait {
                by: Some(name("web-1")),
                what: "a second and third eligible node".into(),
                since_ms: 61_000,
                until_ms: None,
            },
            Wait {
                by: Some(name("web-1")),
                what: "manager db-2 to come back, before it is replaced".into(),
                since_ms: 4_200,
                until_ms: Some(5_800),
            },
        ],
        others: vec![
            OtherFlock {
                name: "russet-lark-2".into(),
                lineage: "51525354".repeat(2),
                generation: 2,
                master: Some(name("db-7")),
                members: 3,
                seen_ms_ago: 0,
            },
            OtherFlock {
                name: "quiet-ibis".into(),
                lineage: "a1b2c3d4".repeat(2),
                generation: 1,
                master: Some(name("db-9")),
                members: 0,
                seen_ms_ago: 10_920_000,
            },
        ],
        authority: Some(Authority {
            roster: 3,
            there: 2,
            holder: Some(name("web-1")),
            until_ms: Some(2_100),
        }),
        split: Split {
            policy: "hold-minority".into(),
            in_force: "hold-minority".into(),
            may_start: true,
            why: "2 of 3 of the roster are there".into(),
        },
    }
}

pub(crate) fn entry(key: &str, revision: u64, value: &str) -> CatalogEntry {
    CatalogEntry {
        key: key.into(),
        revision,
        stamp: "7/00c0ffee".into(),
        who: "uid 0 (process 812) at queen-1".into(),
        when: wall(60_000),
        merged_from: None,
        schema: 1,
        removed: false,
        fields: [("value".to_owned(), Field::Text(value.into()))].into(),
    }
}

pub(crate) fn freshness() -> Freshness {
    Freshness {
        stale: false,
        master: Some(name("web-1")),
        unreached_ms: None,
        reached_before: true,
        flock: Some("amber-finch".into()),
        index: 812,
        stamp: "7/00c0ffee".into(),
        newest_signed: true,
        signed_by: Some(name("web-1")),
        known_ms: 4_000,
        changed: Some(wall(60_000)),
    }
}

/// The same of a node that reaches no master any more.
pub(crate) fn stale() -> Freshness {
    Freshness { stale: true, master: None, unreached_ms: Some(182_000), ..freshness() }
}

pub(crate) fn catalog() -> Catalog {
    Catalog {
        index: 812,
        stamp: "7/00c0ffee".into(),
        root: Text(Digest::of(b"catalog")),
        current: true,
        signed_by: Some(name("web-1")),
        known_ms: 4_000,
        freshness: Some(freshness()),
        entries: vec![entry("setting/motd", 812, "back at noon"), entry("setting/zone", 3, "eu")],
    }
}

pub(crate) fn recovery() -> Recovery {
    Recovery {
        node: name("web-1"),
        refused: None,
        holds: "the managers' log of flock amber-finch".into(),
        place: 812,
        generation: 2,
        sync_set: vec![
            SyncMember { node: name("web-1"), present: true },
            SyncMember { node: name("db-2"), present: false },
        ],
        may_be_lost: vec!["every write that was acknowledged since".into()],
        better: vec!["the disk of db-2".into()],
    }
}

pub(crate) fn flock() -> Flock {
    Flock {
        name: "queen-1.3f9a".into(),
        digest: Text(Digest::of(b"members")),
        present: vec![name("queen-1"), name("web-1")],
        absent: vec![(name("web-2"), Presence::Silent), (name("old-1"), Presence::GivenUp)],
        agreed: true,
        edges: vec![(name("queen-1"), name("web-1"))],
        overlay: "complete".into(),
        connectivity: 1,
        management: management(),
    }
}

pub(crate) fn links() -> Vec<Link> {
    let link = |peer: &str, kind, remote: &str, dialled| Link {
        peer: name(peer),
        kind,
        remote: remote.into(),
        dialled,
        up_ms: 725_000,
        bulk: false,
        rtt_us: Some(12_440),
        rate: Some(12_500_000),
        received: 3 << 20,
        sent: 1_234,
        queued: 0,
    };
    vec![
        link("web-1", LinkKind::Neighbour, "[2001:db8:1:2::3:4]:7400", true),
        link("web-2", LinkKind::Watch, "192.0.2.3:41022", false),
    ]
}

pub(crate) fn health() -> Health {
    let check =
        |name: &str, ok, detail: &str| Check { name: name.into(), ok, detail: detail.into() };
    Health {
        ok: false,
        state: AgentState::Running,
        checks: vec![
            check("certificate", true, "25 d left"),
            check("disk", false, "/var/lib/skep has 12 MiB left: make room, or waves will stop"),
        ],
    }
}

pub(crate) fn metrics() -> Vec<Metric> {
    let metric = |name: &str, labels: &[(&str, &str)], kind, unit: &str, value| Metric {
        name: name.into(),
        labels: labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        kind,
        unit: unit.into(),
        help: "what came over the links".into(),
        value,
    };
    vec![
        metric("links", &[], MetricKind::Gauge, "", 2),
        metric("received", &[("lane", "bulk")], MetricKind::Counter, "bytes", 3 << 20),
        metric("received", &[("lane", "control")], MetricKind::Counter, "bytes", 512),
    ]
}

pub(crate) fn group() -> Group {
    Group {
        name: "all".parse().unwrap(),
        joined: true,
        members: vec![
            (name("queen-1"), Presence::Present),
            (name("web-1"), Presence::Present),
            (name("web-2"), Presence::Silent),
        ],
        neighbours: vec![name("web-1")],
        updates: 4_182,
        bytes: 1 << 21,
        oldest_ms: 86_400_000 * 3,
        missing: 0,
        subscribers: vec![Subscriber {
            name: "deploy".into(),
            committed: Cursor(4_180),
            behind: 2,
        }],
    }
}

pub(crate) fn update(body: &[u8]) -> skep_client::Update {
    skep_client::Update {
        group: "web".parse().unwrap(),
        cursor: 4_181,
        id: "web-1:3:17".parse().unwrap(),
        age_ms: 12,
        late: false,
        body: body.to_vec().into(),
    }
}

pub(crate) fn events() -> Vec<Event> {
    let kinds = [
        EventKind::Started { incarnation: 7 },
        EventKind::LinkUp { node: name("web-1"), remote: "192.0.2.2:7400".into(), dialled: true },
        EventKind::Member { node: name("web-1"), presence: Presence::Present, incarnation: 3 },
        EventKind::Refused {
            remote: "203.0.113.9:4711".into(),
            why: "bloc \u{1b}[31mevil is not ours".into(),
        },
        EventKind::Lost { count: 3, message: "the agent no longer keeps them".into() },
    ];
    (1..)
        .zip(kinds)
        .map(|(number, kind)| Event {
            number,
            at: wall(5_000 - number),
            monotonic_us: number * 1_000,
            kind,
        })
        .collect()
}

pub(crate) fn image() -> Image {
    Image {
        name: "web".parse().unwrap(),
        version: Text(Digest::of(b"manifest")),
        queen: name("queen-1"),
        built: wall(3_600_000),
        entries: 5_200,
        bytes: 64 << 20,
        chunks: 900,
        chunks_here: 899,
        applied_at: Some("/srv/web".into()),
    }
}

pub(crate) fn image_detail() -> ImageDetail {
    let entry = |path: &str, kind: &str, mode, size| Entry {
        path: path.into(),
        kind: kind.into(),
        mode,
        uid: 0,
        gid: 33,
        size,
    };
    ImageDetail {
        image: image(),
        entries: vec![
            entry("bin", "directory", 0o755, 0),
            entry("bin/serve", "file", 0o4755, 1_572_864),
            entry("caf\\xe9", "symlink", 0o777, 0),
        ],
        truncated: true,
    }
}

pub(crate) fn wave() -> Wave {
    Wave {
        id: WaveId("queen-1:4".into()),
        image: "web".parse().unwrap(),
        version: Text(Digest::of(b"manifest")),
        to: vec!["all".parse().unwrap()],
        at: "/srv/web".into(),
        queen: name("queen-1"),
        state: WaveState::Running,
        started: wall(4_250),
        elapsed_ms: 4_250,
        image_bytes: 64 << 20,
        queen_bytes: 70 << 20,
        targets: 4,
        done: 1,
        failed: 1,
    }
}

pub(crate) fn wave_detail() -> WaveDetail {
    let node = |node: &str, presence, step, have: u64, error: Option<&str>| WaveNode {
        node: name(node),
        presence,
        step,
        bytes_have: have << 20,
        bytes_all: 64 << 20,
        fetched: have << 20,
        from_queen: 0,
        sources: 3,
        elapsed_ms: 3_700,
        error: error.map(str::to_owned),
        not_set: Vec::new(),
    };
    let full = "web-2: cannot write /srv/.web.new/lib: no space left";
    WaveDetail {
        wave: wave(),
        nodes: vec![
            node("queen-1", Presence::Present, WaveStep::Done, 64, None),
            node("web-1", Presence::Present, WaveStep::Fetching, 20, None),
            node("web-2", Presence::Present, WaveStep::Failed, 12, Some(full)),
            node("web-3", Presence::Silent, WaveStep::Waiting, 0, None),
        ],
    }
}

pub(crate) fn ca() -> CaStatus {
    CaStatus {
        bloc: bloc(),
        fingerprint: Text(Digest::of(b"certificate")),
        not_after: WallTime::from_unix_ms(NOW + 86_400_000 * 3650),
        nodes: 5,
        issued: 12,
        refused: 1,
        invitations: 2,
        founding: Some(Founding {
            number: 1,
            node: name("web-1"),
            at: WallTime::from_unix_ms(NOW),
            until: WallTime::from_unix_ms(NOW + 7 * 86_400_000),
        }),
    }
}

/// A topology of four that a fifth, which came since, hangs on.
pub(crate) fn topology() -> Topology {
    let site =
        |node: &str| TopologySite { node: name(node), latitude_e4: None, longitude_e4: None };
    let edge = |a, b, rtt_us, basis, decreed| TopologyEdge {
        a,
        b,
        rtt_us,
        basis,
        cost_us: rtt_us.unwrap_or(150_000),
        decreed,
    };
    let (measured, predicted) = (Some(RttBasis::Measured), Some(RttBasis::Coordinates));
    Topology {
        group: "web".parse().unwrap(),
        joined: false,
        basis: OverlayBasis::Computed,
        reason: None,
        why: None,
        decree: Some(TopologyDecree {
            epoch: 17,
            fork: 0xab,
            by: "web-1".into(),
            adopted_ms: 61_000,
            members: 4,
            edges: 4,
            connectivity: 2,
        }),
        master: Some("web-1".into()),
        connectivity: 2,
        mended: 2,
        figures: TopologyFigures {
            cost_us: 182_640,
            diameter_us: 81_000,
            distance_us: 12_345,
            most_links: 3,
            fewest_links: 2,
        },
        switching_ms: Some(1_500),
        computing_ms: None,
        failure: Some(TopologyFailure { ago_ms: 4_000, why: "the solver has no licence".into() }),
        sites: ["db-1", "web-1", "web-2", "web-3", "web-4"].map(site).into(),
        edges: vec![
            edge(0, 1, Some(840), measured, true),
            edge(0, 2, Some(12_440), predicted, true),
            edge(1, 3, Some(1_080), measured, true),
            edge(2, 3, Some(18_280), measured, true),
            edge(0, 4, None, None, false),
            edge(1, 4, Some(9_990), measured, false),
        ],
        drawing: None,
    }
}

pub(crate) fn round_trip() -> RoundTrip {
    RoundTrip {
        from: name("web-1"),
        to: name("db-2"),
        rtt_us: Some(12_440),
        deviation_us: Some(310),
        basis: Some(RttBasis::Measured),
        by: Some("db-2".into()),
        age_ms: Some(65_000),
        bytes_per_second: Some(12_500_000),
    }
}
