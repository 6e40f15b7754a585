//! Wishes of nodes that have no link to the master, or lose it.

use std::time::Duration;

use skep_base::WallTime;
use skep_catalog::{Command, Expect, Field, Fields, Granted, Kind, Payload, Wish, Write};
use skep_managers::Role;
use skep_membership::{DownReason, LinkId};
use skep_node::Input;

use crate::net::*;

/// More than the master serves of one that asks over the links of others.
const WISHES: u64 = 200;

fn setting(number: u64) -> Wish {
    let mut fields = Fields::new();
    fields.set("value", Field::Number(1)).unwrap();
    let key = format!("setting/s{number}").parse().unwrap();
    let put = Some(Payload::of(Kind::SETTING, &fields));
    let write = Write { key, expect: Expect::Absent, put };
    let command = Command::one("somebody".into(), WallTime::default(), write);
    Wish::Propose(command.to_bytes().unwrap())
}

/// What the flock of `net` says to one who asks who is there, moments after `cut`.
fn roll_called(net: &mut Net, on: usize) -> Granted {
    net.granted.clear();
    net.give(on, Input::Wish { token: 1, wish: Wish::RollCall });
    net.pass(seconds(3));
    let answers: Vec<Granted> = net.granted.drain(..).map(|(_, _, granted)| granted).collect();
    let [answer] = answers.as_slice() else { panic!("one answer, and in time: {answers:?}") };
    answer.clone()
}

#[test]
fn who_was_cut_off_a_moment_ago_is_not_told_that_the_roster_is_there() {
    let settled = || {
        let mut net = Net::new();
        net.managed = true;
        (0..7).for_each(|host| net.start(host, 0, &[0]));
        net.pass(seconds(60));
        let leads = |on: &usize| net.hosts[on].node.management(net.now).role == Role::Master;
        let master = net.hosts.keys().copied().find(leads).unwrap();
        let flock = net.hosts[&master].node.management(net.now).flock.unwrap();
        assert_eq!((flock.backups.len(), flock.roster.len()), (2, 7));
        let mut side: Vec<usize> = flock.backups.iter().map(|node| id_index(*node)).collect();
        side.push(master);
        let queen = (0..7).find(|host| !side.contains(host)).unwrap();
        (net, queen, side)
    };
    let (mut net, queen, _) = settled();
    let whole = roll_called(&mut net, queen);
    assert_eq!(whole, Granted::Called { roster: 7, there: 7, strict: false });

    // Alone, while the announcement of a master that sees all still stands.
    net.cut = Box::new(move |a, b| (a == queen) != (b == queen));
    let flock = net.hosts[&queen].node.management(net.now).flock.unwrap();
    assert!(flock.authority.is_majority(), "what it has heard says that it may go on");
    let alone = roll_called(&mut net, queen);
    assert!(matches!(alone, Granted::Refused { .. }), "{alone:?}");

    // With all managers, but not with the majority of the roster: the master leads on.
    let (mut net, _, side) = settled();
    let queen = side[0];
    net.cut = Box::new(move |a, b| side.contains(&a) != side.contains(&b));
    let lesser = roll_called(&mut net, queen);
    assert_eq!(lesser, Granted::Called { roster: 7, there: 3, strict: false });
}

/// A managed flock of so many, and its master.
fn managed(hosts: usize) -> (Net, usize) {
    let mut net = Net::new();
    net.managed = true;
    (0..hosts).for_each(|host| net.start(host, 0, &[0]));
    net.pass(seconds(40));
    net.granted.clear();
    let leads = |on: &usize| net.hosts[on].node.management(net.now).role == Role::Master;
    let master = net.hosts.keys().copied().find(leads).unwrap();
    (net, master)
}

fn linked(net: &Net, on: usize, to: usize) -> bool {
    net.hosts[&on].node.links().any(|link| link.peer == id(to))
}

/// The master carries out what another asks over its link, and its answer never arrives.
fn carried_out_unheard(net: &mut Net, master: usize) -> usize {
    let office = |on: usize| net.hosts[&on].node.management(net.now).role;
    let plain = |on: &usize| !matches!(office(*on), Role::Master | Role::Backup);
    let mut others = net.hosts.keys().copied().filter(plain);
    let asker = others.find(|on| linked(net, *on, master)).unwrap();
    net.cut = Box::new(move |from, to| (from, to) == (master, asker));
    net.give(asker, Input::Wish { token: 1, wish: setting(1) });
    net.pass(Duration::from_millis(50));
    assert!(net.granted.is_empty(), "{:?}", net.granted);
    asker
}

fn hang_up(net: &mut Net, on: usize, to: usize) {
    let between = |(_, link): &(&LinkId, &(usize, LinkId, usize))| (link.0, link.2) == (on, to);
    let link = net.links.iter().find(between).map(|(link, _)| *link).unwrap();
    for end in [link, net.links[&link].1] {
        let (at, ..) = net.links[&end];
        net.give(at, Input::LinkDown { link: end, why: DownReason::Fault });
    }
    net.links.retain(|_, link| (link.0, link.2) != (on, to) && (link.2, link.0) != (on, to));
}

#[test]
fn what_a_broken_link_left_open_is_asked_again_and_done_once() {
    let (mut net, master) = managed(8);
    let asker = carried_out_unheard(&mut net, master);
    hang_up(&mut net, asker, master);
    net.cut = Box::new(|_, _| false);
    net.pass(seconds(3));
    // Done a second time it would have found itself there.
    let [(on, 1, Granted::Decided { outcome, .. })] = &net.granted[..] else {
        panic!("{:?}", net.granted)
    };
    assert_eq!(*on, asker);
    assert!(matches!(outcome, skep_catalog::Outcome::Applied { .. }), "{outcome:?}");
}

#[test]
fn what_a_lost_master_may_have_done_is_asked_of_nobody_else() {
    let (mut net, master) = managed(8);
    let asker = carried_out_unheard(&mut net, master);
    net.cut = Box::new(|_, _| false);
    net.kill(master);
    net.pass(seconds(8));
    let [(on, 1, Granted::Refused { again: false, why })] = &net.granted[..] else {
        panic!("{:?}", net.granted)
    };
    assert!(*on == asker && why.contains("not known"), "{why}");
}

#[test]
fn more_wishes_than_others_pass_on_are_carried_out_and_each_once() {
    let (mut net, master) = managed(16);
    let far = |on: &usize| *on != master && !linked(&net, *on, master);
    let far = net.hosts.keys().copied().find(far).unwrap();
    for token in 0..WISHES {
        net.give(far, Input::Wish { token, wish: setting(token) });
    }
    net.pass(seconds(9));
    let done =
        |(_, _, granted): &&(usize, u64, Granted)| matches!(granted, Granted::Decided { .. });
    let others: Vec<_> = net.granted.iter().filter(|it| !done(it)).take(3).collect();
    assert!(others.is_empty(), "of {} {others:?}", net.granted.len());
    assert_eq!(net.granted.len() as u64, WISHES);
    // Each was to be there for the first time: one done twice would have contradicted itself.
    let conflicts = net.granted.iter().filter(|(_, _, granted)| {
        let Granted::Decided { outcome, .. } = granted else { return false };
        !matches!(outcome, skep_catalog::Outcome::Applied { .. })
    });
    assert_eq!(conflicts.count(), 0);
}

/// A node of `net` that manages nothing and has, or has not, a link to the master.
fn host(net: &Net, master: usize, has_link: bool) -> usize {
    let plain = |on: &usize| {
        let role = net.hosts[on].node.management(net.now).role;
        !matches!(role, Role::Master | Role::Backup) && linked(net, *on, master) == has_link
    };
    net.hosts.keys().copied().find(plain).unwrap()
}

/// What comes of looking at the flock from `on`.
fn looked(net: &mut Net, on: usize) -> Granted {
    net.granted.clear();
    net.give(on, Input::Wish { token: 1, wish: Wish::Look });
    net.pass(seconds(2));
    let answers: Vec<Granted> = net.granted.drain(..).map(|(_, _, granted)| granted).collect();
    let [answer] = answers.as_slice() else { panic!("one answer, and in time: {answers:?}") };
    answer.clone()
}

#[test]
fn whoever_looks_is_shown_what_the_master_knows_and_nothing_is_written_for_that() {
    let (mut net, master) = managed(16);
    let places = |net: &Net| net.hosts[&master].node.management(net.now).flock.unwrap();
    let before = places(&net);
    for on in [master, host(&net, master, true), host(&net, master, false)] {
        let had_link = linked(&net, on, master);
        let Granted::Shown(page) = looked(&mut net, on) else { panic!("nothing shown to {on}") };
        let shown = skep_managers::Shown::from_bytes(&page).unwrap();
        assert!(shown.is_of_master(id(master)));
        let flock = shown.flock.unwrap();
        assert_eq!((flock.term, flock.roster.len()), (before.term, before.roster.len()));
        assert_eq!((&flock.sync_set, flock.stamp), (&before.sync_set, before.stamp));
        assert_eq!(linked(&net, on, master), had_link, "no link is opened for it");
    }
    let after = places(&net);
    assert_eq!((after.last, after.committed), (before.last, before.committed));
}

#[test]
fn who_looks_while_the_master_does_not_answer_is_told_so_and_soon() {
    let (mut net, master) = managed(8);
    let asker = host(&net, master, true);
    net.cut = Box::new(move |from, to| from == master || to == master);
    let answer = looked(&mut net, asker);
    let Granted::Refused { why, .. } = &answer else { panic!("{answer:?}") };
    assert!(why.contains("did not answer"), "{why}");
}

#[test]
fn what_is_no_page_of_the_masters_own_flock_is_shown_to_nobody() {
    let (net, master) = managed(8);
    let asker = host(&net, master, true);
    let page = net.hosts[&master].node.management(net.now);
    let page = skep_managers::Shown::of(&page, net.now);
    let backup = page.flock.as_ref().unwrap().backups[0];
    let other = {
        let mut page = page.clone();
        page.flock.as_mut().unwrap().master = Some(backup);
        page.to_bytes()
    };
    let crowd = {
        let mut page = page.clone();
        let roster = &mut page.flock.as_mut().unwrap().roster;
        *roster = vec![roster[0].clone(); 65];
        page.to_bytes()
    };
    let long = vec![0; skep_managers::MAX_SHOWN_BYTES];
    for lie in [other, crowd, long, Vec::new()] {
        let (mut net, same) = managed(8);
        assert_eq!(same, master, "it is the same story every time");
        net.cut = Box::new(move |from, to| (from, to) == (master, asker));
        net.give(asker, Input::Wish { token: 1, wish: Wish::Look });
        assert!(net.granted.is_empty(), "{:?}", net.granted);
        let between =
            |(_, link): &(&LinkId, &(usize, LinkId, usize))| (link.0, link.2) == (asker, master);
        let link = net.links.iter().find(between).map(|(link, _)| *link).unwrap();
        for serial in 1..1000 {
            let granted = Granted::Shown(lie.clone().into());
            let body = skep_catalog::Forward::Answer { serial, granted }.to_body();
            let frame = skep_wire::Frame { kind: skep_wire::kind::WISHES, body };
            net.give(asker, Input::Frame { link, frame });
        }
        let [(on, 1, Granted::Refused { why, .. })] = &net.granted[..] else {
            panic!("{:?}", net.granted)
        };
        assert!(*on == asker && why.contains("cannot be read"), "{why}");
    }
}
