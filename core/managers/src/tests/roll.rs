//! The roster's roll: what a master says of it moments after a cut, which presence takes seconds to
//! learn of.

use std::time::Duration;

use super::net::Net;
use crate::*;

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(50);

fn backups(net: &Net) -> Vec<usize> {
    net.up().filter(|on| net.role(*on) == Role::Backup).collect()
}

#[test]
fn all_that_are_there_are_called_and_those_that_left_are_not() {
    let mut net = Net::settled(5, 400);
    let master = net.master();
    let token = net.call_roll(master);
    net.run_until(SECOND, |net| net.hosts[master].called.contains_key(&token));
    let said = net.hosts[master].called[&token];
    assert_eq!((said.roster, said.there), (5, 5), "{said:?}");
    let spare = net.up().find(|on| net.role(*on) == Role::Eligible).unwrap();
    net.kill(spare);
    let token = net.call_roll(master);
    net.run_until(2 * SECOND, |net| net.hosts[master].called.contains_key(&token));
    assert_eq!(net.hosts[master].called[&token].there, 4);
}

/// The managers are all on one side, so that the master keeps its lease, and its announcement says
/// for seconds that all are there.
#[test]
fn a_master_cut_off_with_its_managers_a_moment_ago_hears_its_own_side_alone() {
    for seed in 0..8 {
        let mut net = Net::settled(7, 410 + seed);
        let master = net.master();
        let mut side = backups(&net);
        side.push(master);
        net.split(&side);
        net.run(MOMENT);
        let believed = net.view(master).flock.unwrap().authority;
        assert_eq!(believed.there, 7, "otherwise there was nothing to be found out");
        let token = net.call_roll(master);
        net.run_until(2 * SECOND, |net| net.hosts[master].called.contains_key(&token));
        let said = net.hosts[master].called[&token];
        assert_eq!((said.roster, said.there), (7, 3), "seed {seed}");
        assert!(!said.is_majority());
        net.assert_sound();
    }
}

#[test]
fn a_master_cut_off_alone_a_moment_ago_says_nothing_and_others_refuse() {
    for seed in 0..8 {
        let mut net = Net::settled(5, 430 + seed);
        let master = net.master();
        net.split(&[master]);
        net.run(MOMENT);
        let token = net.call_roll(master);
        net.run(3 * SECOND);
        let said = net.hosts[master].called.get(&token);
        assert!(said.is_none_or(|said| said.there == 1), "seed {seed}: {said:?}");
        if said.is_none() {
            assert!(net.hosts[master].refused.contains_key(&token), "seed {seed}");
        }
        let other = net.up().find(|on| *on != net.master()).unwrap();
        let token = net.call_roll(other);
        assert!(net.hosts[other].refused.contains_key(&token));
    }
}

#[test]
fn more_calls_than_people_make_are_refused() {
    let mut net = Net::settled(3, 440);
    let master = net.master();
    let tokens: Vec<u64> = (0..40).map(|_| net.call_roll(master)).collect();
    net.run(2 * SECOND);
    let host = &net.hosts[master];
    let called = tokens.iter().filter(|token| host.called.contains_key(token)).count();
    let refused = tokens.iter().filter(|token| host.refused.contains_key(token)).count();
    assert_eq!((called, refused), (16, 24));
}
