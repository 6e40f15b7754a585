//! Masters that come and go at random, targets that are away, incidents that begin and end.

use alloc::format;
use alloc::string::ToString as _;
use alloc::vec;
use core::time::Duration;

use skep_base::Rng;

use crate::tests::net::Net;
use crate::{Config, Incident, Kind};

const NODES: [&str; 4] = ["a", "b", "c", "d"];
const KINDS: [Kind; 4] = [Kind::ManagerLost, Kind::GivenUp, Kind::Certificate, Kind::Fork];

fn storm(seed: u64) -> Net {
    let mut rng = Rng::seeded(seed);
    let targets = vec![("ops".into(), vec![]), ("chat".into(), vec![])];
    let mut net = Net::new(&NODES, Config { targets, ..Config::default() });
    net.elects(Some("a"));
    for _ in 0..200 {
        let node = *rng.pick(&NODES).unwrap();
        let kind = *rng.pick(&KINDS).unwrap();
        match rng.within(0..13) {
            0..=3 => net.is_wrong(kind, node),
            4..=5 if kind != Kind::Fork => net.is_right(kind, node),
            6 => {
                net.kill(node);
                net.start(node);
                net.tell_all();
            }
            7 => net.elects(None),
            8 => {
                net.dies_after = Some(rng.index(3).unwrap());
                net.dies_having_written = rng.chance(0.5);
            }
            9 => {
                net.refuses = rng.index(4).unwrap();
                net.takes = Duration::from_millis(rng.within(0..3000));
            }
            10 => drop(net.away.insert(["ops", "chat"][rng.index(2).unwrap()].into())),
            _ => net.away.clear(),
        }
        net.run(Duration::from_millis(rng.within(0..90_000)));
        for node in NODES {
            if !net.desks.contains_key(node) {
                net.start(node);
            }
        }
        if net.master.is_none() && rng.chance(0.7) {
            net.elects(rng.pick(&NODES).copied());
        }
    }
    net.dies_after = None;
    net.away.clear();
    net.refuses = 0;
    net.elects(Some("b"));
    net.run(Duration::from_secs(6 * 3600));
    net
}

/// What a target must have heard of all that was ever noted, as the documentation says it.
fn misses_nothing(net: &Net, seed: u64, target: &str) {
    let heard = |target: &str, incident: &Incident, id: &str| {
        let told = net.told(target);
        let of = told.keys().filter(|(what, of, _)| *what == incident.to_string() && of == id);
        of.map(|(.., step)| *step).max().unwrap_or(0)
    };
    for ((incident, id), last) in &net.ever {
        if incident.kind == Kind::Targets {
            continue;
        }
        let here = heard(target, incident, id);
        let open = last % 2 == 1;
        let there = ["ops", "chat"].iter().any(|it| heard(it, incident, id) == *last);
        let enough = if open || here > 0 { here == *last } else { there };
        assert!(enough, "seed {seed}: {target} was told {here} of {last} of {incident} {id}");
    }
}

#[test]
fn whoever_is_master_each_step_is_told_and_under_one_name() {
    let (mut repeats, mut letters) = (0, 0);
    for seed in 0..24 {
        let net = storm(seed);
        for target in ["ops", "chat"] {
            for (step, names) in net.told(target) {
                assert_eq!(names.len(), 1, "seed {seed}: {step:?} came to {target} as {names:?}");
            }
            letters += net.names(target).len();
            let of = net.arrived.iter().filter(|it| it.target == target);
            repeats += of.count() - net.names(target).len();
            misses_nothing(&net, seed, target);
        }
        for (at, one) in net.arrived.iter().enumerate() {
            for other in &net.arrived[at + 1..] {
                if (&one.target, &one.letter.name) == (&other.target, &other.letter.name) {
                    assert_eq!(one.letter, other.letter, "seed {seed}: a repeat is the same");
                }
            }
        }
        let open: alloc::collections::BTreeSet<_> =
            net.notices().iter().filter(|it| it.is_open()).map(|it| it.incident.clone()).collect();
        for (kind, subject) in &net.wrong {
            let noted = open.iter().any(|it| it.kind == *kind && it.subject == *subject);
            assert!(noted || kind.is_momentary(), "seed {seed}: {kind:?} {subject} is not noted");
        }
    }
    // A storm in which no master died between sending and noting would show little.
    assert!(letters > 500 && repeats > 3, "{}", format!("{letters} letters, {repeats} repeats"));
}
