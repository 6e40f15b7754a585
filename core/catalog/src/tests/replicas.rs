use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use skep_base::{Digest, Outbox};

use super::net::{Net, id};
use super::{STAMP, key, place, says};
use crate::*;

#[test]
fn what_the_master_commits_reaches_everybody_in_a_message_or_two_a_link() {
    let mut net = Net::new(6);
    let before = net.sent;
    net.set("setting/a", Some("1"));
    net.settle();
    assert_eq!(net.roots(), 1);
    let last = &net.replicas[5];
    assert_eq!(says(last.catalog(), "setting/a").as_deref(), Some("1"));
    assert_eq!(last.catalog().index(), 2);
    assert!(last.freshness(net.now).current);
    assert!(net.sent - before <= 25, "{} messages over five links", net.sent - before);
    let at_rest = net.sent;
    net.settle();
    assert_eq!(net.sent, at_rest, "an idle replica sends nothing");
}

#[test]
fn who_was_away_gets_all_that_it_missed() {
    let mut net = Net::new(4);
    net.cut(1);
    for at in 0..600 {
        net.set(&format!("setting/k{at}"), Some(&"x".repeat(at)));
        if at % 7 == 0 {
            net.set(&format!("setting/k{at}"), None);
        }
    }
    net.settle();
    assert_eq!(net.roots(), 2);
    assert!(!net.replicas[3].freshness(net.now).current, "it knows that there is more");
    net.heal();
    assert_eq!(net.roots(), 1);
    assert_eq!(says(net.replicas[3].catalog(), "setting/k0"), None);
    assert_eq!(net.rejected, [""; 0]);
}

#[test]
fn who_holds_what_never_was_signed_lets_go_of_it() {
    let mut net = Net::new(2);
    net.set("setting/right", Some("1"));
    net.settle();
    let mut stray = Catalog::new();
    super::set(&mut stray, "setting/stray", Some("x"));
    net.feed(1, Input::Installed(stray));
    net.set("setting/more", Some("2"));
    net.settle();
    assert_eq!(net.roots(), 1);
    assert!(net.replicas[1].catalog().slot(&key("setting/stray")).is_none());
}

#[test]
fn a_catalog_of_an_older_mastership_is_refused_and_of_another_fork_too() {
    let mut net = Net::new(3);
    net.set("setting/a", Some("1"));
    net.settle();
    let newer = Stamp { epoch: 7, fork: 1 };
    net.lead(2, newer);
    assert!(net.replicas[1].freshness(net.now).head.is_some_and(|(_, head)| head.stamp == newer));
    let root = net.replicas[1].catalog().root();
    let head = |stamp| Head { lineage: 5, stamp, index: 90, root: Digest::of(b"other") };
    for stamp in [STAMP, Stamp { epoch: 7, fork: 2 }, Stamp { epoch: 1 << 40, fork: 1 }] {
        net.feed(1, Input::Head { owner: id(0), head: head(stamp) });
        let known = net.replicas[1].freshness(net.now).head.unwrap().1;
        assert_eq!(known.stamp, newer, "{stamp}");
    }
    assert_eq!(net.replicas[1].catalog().root(), root);
    assert_eq!(net.rejected.len(), 1, "{:?}", net.rejected);
    assert_eq!(net.replicas[0].seen(), 7, "the old master learns of it");
}

/// Founded beside the flock, it ended before it decided anything: no merge raised anybody's epoch.
#[test]
fn who_led_a_flock_that_decided_nothing_follows_another_of_the_same_epoch() {
    let mut net = Net::new(2);
    net.lead(1, Stamp { fork: STAMP.fork + 1, ..STAMP });
    net.set("setting/a", Some("1"));
    net.settle();
    assert!(net.replicas[1].catalog().is_empty(), "a master follows nobody");
    net.feed(1, Input::Place(Place::Host));
    net.set("setting/b", Some("2"));
    net.settle();
    assert!(!net.replicas[1].catalog().is_empty());
    assert_eq!(net.replicas[1].catalog().root(), net.replicas[0].catalog().root());
}

#[test]
fn a_liar_makes_nobody_show_what_no_master_signed() {
    let mut net = Net::new(2);
    net.set("setting/a", Some("1"));
    net.settle();
    let root = net.replicas[1].catalog().root();
    let head = Head { lineage: 5, stamp: STAMP, index: 50, root: Digest::of(b"signed") };
    net.feed(1, Input::Head { owner: id(0), head });
    let mut evil = Catalog::new();
    super::set(&mut evil, "setting/evil", Some("x"));
    let slot = evil.slot(&key("setting/evil")).cloned();
    let slots = vec![(key("setting/evil"), slot)];
    let delta = Message::Delta(Delta { from: root, to: Digest::of(b"signed"), slots });
    net.feed(1, Input::Message { from: id(0), body: delta.to_body().into() });
    net.feed(1, Input::Message { from: id(0), body: vec![9; 30].into() });
    assert_eq!(net.replicas[1].catalog().root(), root);
    assert_eq!(net.rejected.len(), 2, "{:?}", net.rejected);
}

#[test]
fn a_backup_gives_on_what_the_log_gave_it() {
    let mut net = Net::new(3);
    net.cut(0);
    net.feed(1, Input::Place(Place::Backup));
    let command = super::command(vec![super::write("setting/a", Expect::Anything, Some("1"))]);
    for at in [0, 1] {
        let command = Some(command.clone());
        net.feed(at, Input::Committed { at: place(2), origin: Origin::Own, command });
    }
    net.settle();
    assert_eq!(net.roots(), 1, "the third has it from the second");
}

#[test]
fn a_backup_with_all_of_the_log_is_current_under_a_stamp_that_nothing_was_decided_under() {
    let mut net = Net::new(2);
    net.feed(1, Input::Place(Place::Backup));
    let command = super::command(vec![super::write("setting/a", Expect::Anything, Some("1"))]);
    for at in [0, 1] {
        let command = Some(command.clone());
        net.feed(at, Input::Committed { at: place(2), origin: Origin::Own, command });
    }
    net.lead(0, Stamp { epoch: STAMP.epoch + 1, ..STAMP });
    net.settle();
    let known = net.replicas[1].freshness(net.now);
    assert!(known.head.is_some_and(|(_, head)| head.stamp > STAMP) && known.current);
    net.cut(0);
    net.set("setting/a", Some("2"));
    net.settle();
    let head = net.replicas[0].freshness(net.now).head.unwrap().1;
    net.feed(1, Input::Head { owner: id(0), head });
    assert!(!net.replicas[1].freshness(net.now).current, "it lacks what was decided since");
}

#[test]
fn outcomes_are_told_by_index() {
    let mut replica = Replica::new(id(0), Config::default(), Catalog::new());
    let mut out = Outbox::new();
    let now = skep_base::Time::ZERO;
    replica.handle(now, Input::Place(Place::Backup), &mut out);
    let command = Some(super::command(vec![super::write("setting/a", Expect::Absent, None)]));
    replica.handle(now, Input::Committed { at: place(4), origin: Origin::Own, command }, &mut out);
    let refused = Outcome::Refused(Refusal::Absent { key: key("setting/a") });
    let told: Vec<Output> = out.drain().collect();
    assert!(!told.iter().any(|it| matches!(it, Output::NotTaken { .. })), "{told:?}");
    let told = told.contains(&Output::Decided { index: 4, outcome: refused.clone() });
    assert!(told);
    // What another flock hands over has no asker: it is said where it cannot be taken over.
    let command = Some(bytes::Bytes::from_static(b"\xff"));
    replica.handle(
        now,
        Input::Committed { at: place(5), origin: Origin::Foreign, command },
        &mut out,
    );
    assert!(out.drain().any(|it| it == Output::NotTaken { why: Refusal::Malformed }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_is_lost_and_cut_all_show_one_catalog_in_the_end(
        steps in proptest::collection::vec((0..5_u8, 0..30_u8, any::<bool>()), 1..60),
        loss in 0..3_u8,
    ) {
        let mut net = Net::new(5);
        net.lose = match loss {
            0 => |_| false,
            1 => |number| number % 7 == 3,
            _ => |number| number % 3 == 1,
        };
        for (step, at, put) in steps {
            match step {
                0 => net.cut(usize::from(at % 4)),
                1 => net.heal(),
                2 => net.settle(),
                _ => {
                    let long = "x".repeat(usize::from(at) * 400);
                    net.set(&format!("setting/k{at}"), put.then_some(long.as_str()));
                }
            }
        }
        net.lose = |_| false;
        net.settle();
        // Links that lose something go down, and come up again.
        for at in 0..4 {
            net.cut(at);
        }
        net.heal();
        net.settle();
        prop_assert_eq!(net.roots(), 1);
    }
}
