//! Parts without a master in which somebody has the log: from whose the next generation is founded,
//! and for whom is waited (scenario 6).

use std::time::Duration;

use skep_base::Outbox;

use super::net::{Net, id};
use crate::message::Message;
use crate::stored::{Note, SyncSet};
use crate::*;

const SECOND: Duration = Duration::from_secs(1);

/// A flock of six of which the learner is known, with writes that everybody has.
struct Flock {
    net: Net,
    master: usize,
    backups: Vec<usize>,
    learner: usize,
}

impl Flock {
    fn new(seed: u64, config: Config) -> Self {
        let mut net = Net::with(6, seed, config);
        (0..6).for_each(|on| net.start(on));
        net.run_until(60 * SECOND, |net| net.is_settled() && net.view_learners().len() == 1);
        let master = net.master();
        let backups: Vec<usize> = net.up().filter(|on| net.role(*on) == Role::Backup).collect();
        let learner = net.view_learners()[0];
        let mut flock = Self { net, master, backups, learner };
        flock.write(5, "before");
        flock.net.run(5 * SECOND);
        flock
    }

    fn write(&mut self, count: usize, name: &str) {
        for number in 0..count {
            let (net, master) = (&mut self.net, self.master);
            let token = net.propose(master, &format!("{name} {number}"));
            net.run_until(3 * SECOND, |net| net.hosts[master].accepted.contains_key(&token));
        }
    }

    /// One backup lacks what is acknowledged then, and is there again when the sync set is
    /// gone. The learner has all of it.
    fn with_a_backup_that_lacks_something(seed: u64, config: Config) -> Self {
        let mut flock = Self::new(seed, config);
        let behind = flock.backups[0];
        flock.net.cut_power(behind);
        flock.net.run(SECOND);
        flock.write(5, "without it");
        flock.net.run(SECOND);
        flock.net.cut_power(flock.master);
        flock.net.cut_power(flock.backups[1]);
        flock.net.start(behind);
        flock
    }

    fn founded(&self) -> Vec<(usize, Generation, Strength)> {
        let mut all = Vec::new();
        for (on, host) in self.net.hosts.iter().enumerate() {
            for event in &host.events {
                if let Event::Formed { generation, strength, parent: Some(_), .. } = event {
                    all.push((on, *generation, *strength));
                }
            }
        }
        all
    }

    fn waits_of(&self, on: usize) -> Vec<Wait> {
        self.net.view(on).waits.iter().map(|wait| wait.what).collect()
    }
}

impl Net {
    fn view_learners(&self) -> Vec<usize> {
        let masters = self.masters();
        let flock = masters.first().and_then(|master| self.view(*master).flock);
        let learners = flock.map(|flock| flock.learners).unwrap_or_default();
        (0..self.hosts.len()).filter(|on| learners.contains(&id(*on))).collect()
    }
}

#[test]
fn scenario_6_a_learner_beside_a_holding_node_waits_for_a_member_of_the_sync_set() {
    for seed in 0..5 {
        let mut flock = Flock::with_a_backup_that_lacks_something(700 + seed, Config::default());
        let (behind, learner) = (flock.backups[0], flock.learner);
        flock.net.run(300 * SECOND);
        assert_eq!(flock.founded(), [], "{}", flock.net.dump());
        for on in [behind, learner] {
            assert!(flock.waits_of(on).contains(&Wait::SyncMember), "{}", flock.net.dump());
            let waits = flock.net.view(on).waits;
            let wait = waits.iter().find(|wait| wait.what == Wait::SyncMember).unwrap();
            let given_up = flock.net.config.given_up;
            let left = wait.until.unwrap().since(flock.net.now);
            assert!(left <= given_up && left + 310 * SECOND >= given_up, "{wait:?}");
        }
        flock.net.start(flock.backups[1]);
        flock.net.run_until(60 * SECOND, Net::is_settled);
        assert_eq!(flock.founded(), [], "the flock goes on as it was");
        flock.net.start(flock.master);
        flock.net.run_until(60 * SECOND, Net::is_settled);
        flock.net.check_kept();
        flock.net.assert_sound();
    }
}

#[test]
fn scenario_6_who_is_given_up_is_waited_for_no_longer_and_the_furthest_log_founds_weak() {
    for seed in 0..5 {
        let config = Config { given_up: 200 * SECOND, ..Config::default() };
        let mut flock = Flock::with_a_backup_that_lacks_something(720 + seed, config);
        let (learner, master) = (flock.learner, flock.master);
        flock.net.run(190 * SECOND);
        assert_eq!(flock.founded(), [], "{}", flock.net.dump());
        flock.net.run_until(60 * SECOND, |net| net.masters().len() == 1);
        assert_eq!(flock.founded(), [(learner, Generation(2), Strength::Weak)]);
        flock.net.run_until(60 * SECOND, Net::is_settled);
        // The learner had all: what was acknowledged is there before the others are.
        flock.net.check_kept();
        flock.net.start(master);
        flock.net.start(flock.backups[1]);
        flock.net.run_until(120 * SECOND, Net::is_settled);
        flock.net.check_kept();
        flock.net.assert_sound();
    }
}

#[test]
fn scenario_6_beside_a_holding_member_of_the_sync_set_nobody_founds_before_others_may_have_come() {
    for seed in 0..5 {
        let mut flock = Flock::new(740 + seed, Config::default());
        let holds = flock.backups[0];
        for on in [flock.master, flock.backups[0], flock.backups[1]] {
            flock.net.cut_power(on);
        }
        flock.net.run(SECOND);
        flock.net.start(holds);
        flock.net.run(55 * SECOND);
        assert_eq!(flock.founded(), [], "{}", flock.net.dump());
        flock.net.run_until(30 * SECOND, |net| net.masters().len() == 1);
        assert_eq!(flock.founded().len(), 1, "one founds: {:?}", flock.founded());
        flock.net.run_until(60 * SECOND, Net::is_settled);
        flock.net.check_kept();
        flock.net.assert_sound();
    }
}

#[test]
fn scenario_6_a_learner_without_any_holding_node_founds_from_its_log() {
    for seed in 0..5 {
        let mut flock = Flock::new(760 + seed, Config::default());
        flock.net.cut_power(flock.master);
        flock.net.cut_power(flock.backups[0]);
        flock.net.cut_power(flock.backups[1]);
        flock.net.run_until(60 * SECOND, |net| !net.masters().is_empty());
        flock.net.run_until(60 * SECOND, Net::is_settled);
        flock.net.check_kept();
        flock.net.assert_sound();
    }
}

/// What a node noted counted for a sync set that shrank: its log may be too short to say so.
#[test]
fn who_noted_a_newer_sync_set_than_its_log_has_tells_of_that() {
    let Flock { mut net, master, learner, .. } = Flock::new(913, Config::default());
    let meta = net.machine(master).group.as_ref().unwrap().meta.clone();
    let (lineage, generation) = (meta.lineage, meta.generation);
    let stamp = Stamp { epoch: meta.epoch, fork: meta.fork };
    let sync = SyncSet { version: meta.sync.version + 1, members: vec![id(master)] };
    let body = Message::Note(Note { lineage, generation, stamp, sync: sync.clone() }).to_bytes();
    net.give(learner, Input::Message { from: id(master), body });
    net.run(SECOND / 10);
    let body = Message::Ask { lineage, round: 7, about: None }.to_bytes();
    let (now, mut out) = (net.now, Outbox::new());
    let machine = net.hosts[learner].machine.as_mut().unwrap();
    machine.handle(now, Input::Message { from: id(master), body }, &mut out);
    let told = out.drain().find_map(|output| {
        let Output::Send { body, .. } = output else { return None };
        let Some(Message::Answer(answer)) = Message::from_bytes(&body) else { return None };
        answer.sync
    });
    assert_eq!(told, Some(sync));
}
