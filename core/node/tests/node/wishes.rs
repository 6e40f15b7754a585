//! Wishes of nodes that have no link to the master.

use skep_base::WallTime;
use skep_catalog::{Command, Expect, Field, Fields, Granted, Payload, Wish, Write};
use skep_managers::Role;
use skep_node::Input;

use crate::net::*;

/// More than the master serves of one that asks over the links of others.
const WISHES: u64 = 200;

fn setting(number: u64) -> Wish {
    let mut fields = Fields::new();
    fields.set("value", Field::Number(1)).unwrap();
    let key = format!("setting/s{number}").parse().unwrap();
    let write = Write { key, expect: Expect::Absent, put: Some(Payload::of(&fields)) };
    let command = Command::one("somebody".into(), WallTime::default(), write);
    Wish::Propose(command.to_bytes().unwrap())
}

#[test]
fn more_wishes_than_others_pass_on_are_carried_out_and_each_once() {
    let mut net = Net::new();
    net.managed = true;
    (0..16).for_each(|host| net.start(host, 0, &[0]));
    net.pass(seconds(40));
    let leads = |on: &usize| net.hosts[on].node.management(net.now).role == Role::Master;
    let master = net.hosts.keys().copied().find(leads).unwrap();
    let linked = |on: usize| net.hosts[&on].node.links().any(|link| link.peer == id(master));
    let far = net.hosts.keys().copied().find(|on| *on != master && !linked(*on)).unwrap();
    net.granted.clear();
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
