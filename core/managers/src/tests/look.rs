//! What a master says to whoever looks, what is waited for until when, and which other flocks were
//! seen (BLOC-10, 11, invariant 9).

use std::time::Duration;

use skep_base::{Incarnation, NodeId, Outbox, Rng, Time};

use super::net::{Net, id};
use crate::message::{Claim, sample_claim};
use crate::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn look(net: &Net, on: usize) -> Result<Shown, Refusal> {
    net.machine(on).look(net.now)
}

fn wait(net: &Net, on: usize, what: Wait) -> Option<Waiting> {
    net.view(on).waits.into_iter().find(|wait| wait.what == what)
}

#[test]
fn a_master_says_what_only_it_knows_also_of_a_weak_flock_and_nobody_else_does() {
    let mut net = Net::settled(7, 900);
    let master = net.master();
    net.run(5 * SECOND);
    let told = look(&net, master).unwrap();
    assert_eq!(Shown::from_bytes(&told.to_bytes()), Some(told.clone()));
    let (view, flock) = (net.view(master).flock.unwrap(), told.flock.unwrap());
    assert!(flock.term > 0 && flock.leads_ms.is_some() && flock.committed > 0);
    assert_eq!((flock.master, flock.roster.len()), (Some(id(master)), 7));
    assert_eq!((flock.sync_set.len(), flock.backups.len()), (3, 2));
    assert_eq!(flock.weak, Some(Weak::NoToken), "no token was used, so it is weak");
    for (place, seen) in flock.roster.iter().zip(&view.roster) {
        assert_eq!((place.node, place.standing()), (seen.node, seen.standing));
    }
    let plain = |on: &usize| {
        net.role(*on) == Role::Eligible && !net.machine(*on).part().learns && *on != master
    };
    let host = net.up().find(plain).unwrap();
    let own = net.view(host).flock.unwrap();
    assert!(own.roster.is_empty() && own.term == 0, "it does not know of itself");
    assert!(own.heard.is_some() && own.weak == Some(Weak::NoToken));
    assert_eq!(look(&net, host), Err(Refusal::NotMaster { master: Some(id(master)) }));
    assert!(look(&net, id_of_backup(&net)).is_err());
    net.assert_sound();
}

fn id_of_backup(net: &Net) -> usize {
    net.up().find(|on| net.role(*on) == Role::Backup).unwrap()
}

#[test]
fn a_learner_that_has_caught_up_is_waited_for_no_more() {
    let mut net = Net::settled(5, 901);
    let master = net.master();
    let learns = |net: &Net| !net.view(master).flock.unwrap().learners.is_empty();
    net.run_until(10 * SECOND, learns);
    let learner = |wait: &Waiting| matches!(wait.what, Wait::Learner(_));
    net.run_until(10 * SECOND, |net| !net.view(master).waits.iter().any(learner));
    assert!(learns(&net), "it goes on learning");
}

#[test]
fn a_silent_backup_is_waited_for_until_it_is_replaced_and_without_end_where_nobody_can() {
    for (count, ends) in [(5, true), (3, false)] {
        let mut net = Net::settled(count, 902);
        let (master, backup) = (net.master(), id_of_backup(&net));
        if ends {
            let learns = |net: &Net| !net.view(master).flock.unwrap().learners.is_empty();
            net.run_until(20 * SECOND, learns);
            net.run(5 * SECOND);
        }
        net.kill(backup);
        let what = Wait::Manager(id(backup));
        net.run_until(10 * SECOND, |net| wait(net, master, what).is_some());
        let waits = wait(&net, master, what).unwrap();
        let silent = net.config.backup_silent;
        assert_eq!(waits.until, ends.then_some(waits.since + silent), "of {count}");
        let shown = look(&net, master).unwrap();
        let told = shown.waits.iter().find(|wait| wait.what == what).unwrap();
        assert_eq!(told.until_ms.is_some(), ends);
        net.run(60 * SECOND);
        let left = wait(&net, master, what);
        assert_eq!(left.is_none(), ends, "{left:?}");
        assert!(left.is_none_or(|wait| wait.until.is_none()), "what is overdue has no end");
    }
}

#[test]
fn a_lone_node_says_until_when_it_waits_for_a_flock_and_founds_one_then() {
    let mut net = Net::new(1, 903);
    net.start(0);
    net.run(SECOND);
    let waits = wait(&net, 0, Wait::Flock).unwrap();
    let until = waits.until.unwrap();
    assert!(until > net.now && net.masters().is_empty());
    net.run_until(10 * SECOND, |net| net.masters() == [0]);
    assert!(net.now >= until && net.now.since(until) <= SECOND, "{until} and {}", net.now);
}

#[test]
fn a_restarted_manager_waits_for_the_others_until_it_asks_everybody_there() {
    let mut net = Net::settled(3, 904);
    let (master, backup) = (net.master(), id_of_backup(&net));
    let other = (0..3).find(|on| ![master, backup].contains(on)).unwrap();
    [master, other, backup].iter().for_each(|on| net.kill(*on));
    net.start(backup);
    net.run(SECOND);
    let waits = wait(&net, backup, Wait::Comparison).unwrap();
    assert_eq!(waits.until, Some(waits.since + net.config.orphaned_holding));
    net.run(net.config.orphaned_holding + 5 * SECOND);
    let now = net.view(backup).waits;
    assert!(now.iter().all(|wait| wait.until.is_none_or(|until| until > net.now)), "{now:?}");
    assert!(now.iter().any(|wait| wait.since == waits.since), "it waits since then: {now:?}");
}

/// A node that manages nothing, and what others announce to it.
struct Host {
    managers: Managers,
    now: Time,
}

impl Host {
    fn new() -> Self {
        let now = Time::from_millis(1_000);
        let me = Me { id: id(0), eligible: Eligibility::No, resources: 500 };
        let (config, fresh) = (Config::default(), Restored::default());
        let managers = Managers::new(me, config, fresh, Rng::seeded(1), now).unwrap();
        Self { managers, now }
    }

    fn give(&mut self, input: Input) {
        self.managers.handle(self.now, input, &mut Outbox::new());
        self.managers.check();
    }

    /// A node leads a flock of its own.
    fn leads(&mut self, node: NodeId, lineage: u64, ended: Vec<(Lineage, Lineage)>) {
        let (incarnation, eligible) = (Incarnation(1), Eligibility::Eligible);
        self.give(Input::Member { node, incarnation, eligible, resources: 500 });
        let mut claim = sample_claim();
        let flock = claim.flock.as_mut().unwrap();
        (flock.lineage, flock.parent) = (Lineage(lineage), None);
        (flock.managers, flock.learners, flock.sync) = (vec![node], Vec::new(), vec![node]);
        let claim = Claim { role: Role::Master, ended, ..claim };
        self.give(Input::Announced { node, body: claim.to_bytes() });
    }

    fn others(&self) -> Vec<OtherFlock> {
        self.managers.status(self.now).others
    }
}

#[test]
fn bloc_10_a_flock_that_was_seen_is_shown_for_a_day_after_its_last_node_went() {
    let mut host = Host::new();
    host.leads(id(1), 1, Vec::new());
    host.leads(id(2), 2, Vec::new());
    let own = host.managers.status(host.now).flock.unwrap().lineage;
    let other = if own == Lineage(1) { 2 } else { 1 };
    let [there] = &host.others()[..] else { panic!("{:?}", host.others()) };
    assert_eq!((there.lineage, there.members, there.seen), (Lineage(other), 1, host.now));

    host.now = host.now + HOUR;
    let (gone, node) = (host.now, id(usize::try_from(other).unwrap()));
    host.give(Input::Silent { node });
    host.now = host.now + 23 * HOUR;
    let [seen] = &host.others()[..] else { panic!("{:?}", host.others()) };
    assert_eq!((seen.members, seen.master, seen.seen), (0, Some(node), gone));
    host.now = host.now + 2 * HOUR;
    assert_eq!(host.others(), [], "a day later it is forgotten");
}

#[test]
fn a_flock_that_went_on_in_another_is_none_that_was_seen_and_many_are_bounded() {
    let mut host = Host::new();
    host.leads(id(1), 1, Vec::new());
    host.leads(id(2), 2, Vec::new());
    let own = host.managers.status(host.now).flock.unwrap().lineage;
    let (mine, yields) = if own == Lineage(1) { (1, 2) } else { (2, 1) };
    host.now = host.now + SECOND;
    let ended = vec![(Lineage(yields as u64), Lineage(mine as u64))];
    host.leads(id(yields), mine as u64, ended);
    assert_eq!(host.others(), [], "its node says in which it goes on");

    // Somebody makes flocks up without end.
    for lineage in 100..1100 {
        host.now = host.now + SECOND;
        host.leads(id(9), lineage, Vec::new());
    }
    assert!(host.others().len() <= MAX_OTHERS, "{}", host.others().len());
}
