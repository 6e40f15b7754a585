//! The machine beside a log that hands over as the flood's cursors do, and a command that fails.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;
use skep_base::{ByteSize, Outbox, Rng, Time};

use crate::{Config, Export, Handed, Input, Mark, Outcome, Output, RunId, WaitsFor};

/// Updates that the log hands over at once.
const HANDED: usize = 8;

/// A log with one cursor, a machine, and a command.
struct Host {
    now: Time,
    config: Config,
    /// The sizes of updates; their place is their identity.
    log: Vec<u64>,
    /// What was committed and would survive.
    committed: u64,
    /// The cursor: what was handed over last ends here, and is not committed.
    handed_to: Option<u64>,
    machine: Export<u64>,
    running: Option<(RunId, Vec<u64>)>,
    /// Each run: when, which attempt, and what was in it.
    runs: Vec<(Time, u32, Vec<u64>)>,
    delivered: Vec<u64>,
}

impl Host {
    fn new(config: Config) -> Self {
        config.validate().unwrap();
        let machine = Export::new(Time::ZERO, Mark(0), config.clone(), Rng::seeded(1));
        Self {
            now: Time::ZERO,
            config,
            log: Vec::new(),
            committed: 0,
            handed_to: None,
            machine,
            running: None,
            runs: Vec::new(),
            delivered: Vec::new(),
        }
    }

    fn publish(&mut self, sizes: &[u64]) {
        self.log.extend(sizes);
        self.hand_over();
    }

    /// The log's turn: hands over what is not committed, unless that was done.
    fn hand_over(&mut self) {
        let from = usize::try_from(self.committed).unwrap();
        if self.handed_to.is_some() || from >= self.log.len() {
            return;
        }
        let to = self.log.len().min(from + HANDED);
        let updates = (from..to)
            .map(|at| Handed {
                end: Mark(at as u64 + 1),
                bytes: self.log[at],
                kind: 0,
                update: at as u64,
            })
            .collect();
        self.handed_to = Some(to as u64);
        self.input(Input::HandedOver { updates, next: Mark(to as u64) });
    }

    fn input(&mut self, input: Input<u64>) {
        let mut out = Outbox::new();
        self.machine.handle(self.now, input, &mut out);
        self.carry_out(&mut out);
    }

    fn carry_out(&mut self, out: &mut Outbox<Output<u64>>) {
        self.machine.check();
        for output in out.drain().collect::<Vec<_>>() {
            match output {
                Output::Run { run, attempt, updates } => {
                    assert!(self.running.is_none(), "never two at once");
                    self.runs.push((self.now, attempt, updates.clone()));
                    self.running = Some((run, updates));
                }
                Output::Commit { up_to } => {
                    assert!(up_to.0 >= self.committed);
                    self.committed = up_to.0;
                    if self.handed_to.is_some_and(|to| to <= up_to.0) {
                        self.handed_to = None;
                    }
                    self.hand_over();
                }
                Output::Again { from } => {
                    assert_eq!(from.0, self.committed);
                    self.handed_to = None;
                    self.hand_over();
                }
            }
        }
    }

    fn end(&mut self, outcome: Outcome) {
        let Some((run, updates)) = self.running.take() else {
            return;
        };
        if outcome == Outcome::Delivered {
            self.delivered.extend(updates);
        }
        self.input(Input::Ended { run, outcome });
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, _)) = self.machine.deadline().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            let mut out = Outbox::new();
            self.machine.tick(self.now, &mut out);
            self.carry_out(&mut out);
        }
        self.now = end;
    }

    /// The host is killed and comes back with what was committed.
    fn restart(&mut self) {
        self.running = None;
        self.handed_to = None;
        let rng = Rng::seeded(self.now.as_nanos());
        self.machine = Export::new(self.now, Mark(self.committed), self.config.clone(), rng);
        self.hand_over();
    }
}

fn config() -> Config {
    Config { batch_updates: 4, batch_bytes: ByteSize(1000), ..Config::default() }
}

fn batches(host: &Host) -> Vec<Vec<u64>> {
    host.runs.iter().map(|(_, _, updates)| updates.clone()).collect()
}

#[test]
fn what_trickles_in_is_gathered_into_one_batch() {
    let mut host = Host::new(config());
    host.publish(&[1]);
    assert_eq!(host.machine.waiting().what, WaitsFor::Gathering);
    host.pass(Duration::from_millis(60));
    host.publish(&[1]);
    host.pass(Duration::from_millis(39));
    assert!(host.runs.is_empty());
    host.pass(Duration::from_millis(1));
    assert_eq!(batches(&host), [vec![0, 1]]);
    assert_eq!(host.committed, 0, "not before the command has it");
    host.end(Outcome::Delivered);
    assert_eq!((host.committed, host.machine.waiting().what), (2, WaitsFor::Updates));
}

#[test]
fn a_batch_is_full_by_count_and_by_size_and_then_runs_at_once() {
    let mut host = Host::new(config());
    host.publish(&[1; 6]);
    assert_eq!(batches(&host), [vec![0, 1, 2, 3]]);
    host.end(Outcome::Delivered);
    assert_eq!((batches(&host).pop().unwrap(), host.committed), (vec![4, 5], 4));
    host.end(Outcome::Delivered);
    host.publish(&[600, 600, 5000, 1]);
    for expected in [vec![6], vec![7], vec![8], vec![9]] {
        assert_eq!(batches(&host).pop().unwrap(), expected);
        host.end(Outcome::Delivered);
    }
    let figures = host.machine.figures();
    assert_eq!((figures.delivered, figures.batches, figures.bytes), (10, 6, 6207));
}

#[test]
fn updates_of_two_kinds_share_no_batch() {
    let mut machine = Export::new(Time::ZERO, Mark(0), config(), Rng::seeded(1));
    let kinds = [0, 0, 7, 7, 0];
    let updates =
        (1..).zip(kinds).map(|(end, kind)| Handed { end: Mark(end), bytes: 1, kind, update: end });
    let mut out = Outbox::new();
    let handed = Input::HandedOver { updates: updates.collect(), next: Mark(5) };
    machine.handle(Time::ZERO, handed, &mut out);
    let mut batches = Vec::new();
    while let Some(output) = out.pop() {
        machine.check();
        if let Output::Run { run, updates, .. } = output {
            batches.push(updates);
            let ended = Input::Ended { run, outcome: Outcome::Delivered };
            machine.handle(Time::ZERO, ended, &mut out);
        }
    }
    assert_eq!(batches, [vec![1, 2], vec![3, 4], vec![5]]);
    assert_eq!(machine.committed(), Mark(5));
}

#[test]
fn without_a_delay_nothing_waits() {
    let mut host = Host::new(Config { delay: Duration::ZERO, ..config() });
    host.publish(&[1]);
    host.publish(&[1, 1]);
    assert_eq!(batches(&host), [vec![0]]);
    host.end(Outcome::Delivered);
    assert_eq!(batches(&host), [vec![0], vec![1, 2]]);
}

#[test]
fn a_batch_that_failed_is_kept_as_it_is_and_waits_longer_each_time() {
    let mut host = Host::new(config());
    host.publish(&[1, 1]);
    host.pass(Duration::from_millis(100));
    host.publish(&[1; 3]);
    for _ in 0..20 {
        host.end(Outcome::Failed);
        assert_eq!(host.machine.waiting().what, WaitsFor::Retry);
        host.pass(Duration::from_secs(301));
    }
    assert!(batches(&host).iter().all(|batch| *batch == [0, 1]), "and nothing overtakes it");
    let attempts: Vec<u32> = host.runs.iter().map(|(_, attempt, _)| *attempt).collect();
    assert_eq!(attempts, (1..=21).collect::<Vec<_>>());
    assert_eq!((host.committed, host.machine.waiting().failures), (0, 20));
    host.end(Outcome::Delivered);
    assert_eq!(host.committed, 2);
    host.pass(Duration::from_secs(1));
    assert_eq!(host.runs.last().unwrap().1, 1, "the next batch begins anew");
}

#[test]
fn waits_double_up_to_their_bound_and_are_not_all_alike() {
    let config = config();
    let mut firsts = Vec::new();
    for seed in 0..50 {
        let mut host = Host::new(config.clone());
        host.machine = Export::new(Time::ZERO, Mark(0), config.clone(), Rng::seeded(seed));
        host.publish(&[1; 4]);
        let mut waits = Vec::new();
        for _ in 0..12 {
            let since = host.now;
            host.end(Outcome::Failed);
            let (until, _) = host.machine.deadline().unwrap();
            waits.push(until.since(since));
            host.pass(until.since(since));
        }
        for (failure, wait) in waits.iter().enumerate() {
            let exact = Duration::from_secs(1 << failure).min(config.retry_last);
            let (least, most) = (exact.mul_f64(0.75), exact.mul_f64(1.25).min(config.retry_last));
            assert!((least..=most).contains(wait), "{failure}: {wait:?}");
        }
        firsts.push(waits[0]);
    }
    firsts.sort_unstable();
    firsts.dedup();
    assert!(firsts.len() > 40, "drawn by chance");
}

#[test]
fn what_was_not_committed_comes_again_after_a_crash() {
    let mut host = Host::new(config());
    host.publish(&[1; 6]);
    host.end(Outcome::Delivered);
    host.restart();
    host.pass(Duration::from_secs(1));
    assert_eq!(batches(&host), [vec![0, 1, 2, 3], vec![4, 5], vec![4, 5]]);
}

#[test]
fn an_answer_of_an_earlier_run_says_nothing() {
    let mut host = Host::new(config());
    host.publish(&[1; 4]);
    let (run, _) = host.running.clone().unwrap();
    host.end(Outcome::Failed);
    host.pass(Duration::from_secs(2));
    host.input(Input::Ended { run, outcome: Outcome::Delivered });
    assert_eq!(host.committed, 0);
}

#[test]
fn what_was_lost_is_counted_and_passed_over() {
    let mut host = Host::new(config());
    host.input(Input::Lost(7));
    host.input(Input::HandedOver { updates: Vec::new(), next: Mark(7) });
    assert_eq!((host.committed, host.machine.figures().lost), (7, 7));
    assert_eq!(host.machine.committed(), Mark(7));
}

#[test]
fn a_configuration_that_cannot_be_is_refused() {
    let refused = |config: Config| config.validate().is_err();
    let normal = Config::default();
    assert!(normal.validate().is_ok());
    assert!(refused(Config { batch_updates: 0, ..normal.clone() }));
    assert!(refused(Config { batch_updates: 257, ..normal.clone() }));
    assert!(refused(Config { batch_bytes: ByteSize(0), ..normal.clone() }));
    assert!(refused(Config { batch_bytes: ByteSize(256 * 1024 + 1), ..normal.clone() }));
    assert!(refused(Config { retry_first: Duration::ZERO, ..normal.clone() }));
    assert!(refused(Config { retry_last: Duration::from_millis(1), ..normal }));
}

#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<u64>),
    End(Outcome),
    Pass(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => prop::collection::vec(0..1500_u64, 1..20).prop_map(Step::Publish),
        5 => Just(Step::End(Outcome::Delivered)),
        2 => Just(Step::End(Outcome::Failed)),
        4 => (0..2000_u64).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// Whatever happens: everything is delivered at least once, what comes once more does so only
    /// after a crash or a failure, each first time is in order, and batches are bounded.
    #[test]
    fn everything_is_delivered_in_order(steps in steps()) {
        let mut host = Host::new(config());
        let mut may_repeat = false;
        for step in steps {
            match step {
                Step::Publish(sizes) => host.publish(&sizes),
                Step::End(outcome) => host.end(outcome),
                Step::Pass(ms) => host.pass(Duration::from_millis(ms)),
                Step::Restart => {
                    may_repeat = true;
                    host.restart();
                }
            }
            prop_assert!(host.committed <= host.delivered.iter().max().map_or(0, |at| at + 1));
        }
        for _ in 0..10_000 {
            host.end(Outcome::Delivered);
            host.pass(Duration::from_secs(400));
        }
        prop_assert_eq!(host.committed, host.log.len() as u64);
        let mut first = BTreeMap::new();
        for (time, update) in host.delivered.iter().enumerate() {
            first.entry(*update).or_insert(time);
        }
        let everything = (0..host.log.len() as u64).collect::<Vec<_>>();
        prop_assert_eq!(first.keys().copied().collect::<Vec<_>>(), everything);
        let times: Vec<usize> = first.values().copied().collect();
        prop_assert!(times.is_sorted(), "in the order of the log");
        prop_assert!(may_repeat || host.delivered.len() == host.log.len(), "once without a crash");
        for (_, _, batch) in &host.runs {
            let bytes: u64 = batch.iter().map(|at| host.log[usize::try_from(*at).unwrap()]).sum();
            prop_assert!(batch.len() == 1 || (batch.len() <= 4 && bytes <= 1000));
            prop_assert!(batch.windows(2).all(|pair| pair[0] + 1 == pair[1]), "without a hole");
        }
    }
}
