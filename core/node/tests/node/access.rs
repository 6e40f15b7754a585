//! Whom the catalog expels, whom certificates name, and whose wishes the master carries out.

use skep_base::WallTime;
use skep_catalog::{Command, Expect, Field, Fields, Granted, Key, Order, Payload, Wish, Write};
use skep_managers::{Output as Said, Parts, Role, Token};
use skep_node::Input;

use crate::net::*;

/// Hosts that manage one flock.
fn managed(n: usize, roles: &[(usize, &'static str)]) -> Net {
    let mut net = Net::new();
    net.managed = true;
    certify(&net, roles);
    (0..n).for_each(|host| net.start(host, 0, &[0]));
    net.pass(seconds(40));
    net
}

fn certify(net: &Net, roles: &[(usize, &'static str)]) {
    net.roles.lock().unwrap().extend(roles.iter().map(|(on, role)| (id(*on), *role)));
}

fn role(net: &Net, on: usize) -> Role {
    net.hosts[&on].node.management(net.now).role
}

fn with_role(net: &Net, wanted: Role) -> Vec<usize> {
    net.hosts.keys().copied().filter(|on| role(net, *on) == wanted).collect()
}

fn master(net: &Net) -> usize {
    let masters = with_role(net, Role::Master);
    assert_eq!(masters.len(), 1, "one master of {:?}", net.hosts.keys());
    masters[0]
}

fn on_roster(net: &Net, whom: usize) -> bool {
    let flock = net.hosts[&master(net)].node.management(net.now).flock.unwrap();
    flock.roster.iter().any(|place| place.node == id(whom))
}

fn put(name: &str, fields: &[(&str, Field)]) -> Wish {
    let mut all = Fields::new();
    fields.iter().for_each(|(name, field)| all.set(name, field.clone()).unwrap());
    let kind = name.parse::<Key>().unwrap().kind();
    propose(name, Some(Payload::of(kind, &all)))
}

fn propose(name: &str, put: Option<Payload>) -> Wish {
    let key: Key = name.parse().unwrap();
    let write = Write { key, expect: Expect::Anything, put };
    let command = Command::one("somebody".into(), WallTime::default(), write);
    Wish::Propose(command.to_bytes().unwrap())
}

fn motd() -> Wish {
    put("setting/motd", &[("value", Field::Text("hello".into()))])
}

fn rule(name: &str, who: &[&str], may: &str) -> Wish {
    let who = who.iter().map(|one| (*one).to_owned()).collect();
    put(name, &[("who", Field::List(who)), ("may", Field::List(vec![may.into()]))])
}

fn expelled(whom: usize) -> String {
    format!("expelled/{}", name(whom))
}

/// Asks at `on`, and says what came of it.
fn ask(net: &mut Net, on: usize, wish: Wish) -> Granted {
    net.granted.clear();
    net.give(on, Input::Wish { token: 7, wish });
    for _ in 0..120 {
        if let Some((_, _, granted)) = net.granted.pop() {
            return granted;
        }
        net.pass(seconds(1) / 10);
    }
    panic!("nobody answers node {on}")
}

fn is_done(granted: &Granted) -> bool {
    matches!(granted, Granted::Done | Granted::Decided { .. })
}

fn why(granted: Granted) -> String {
    match granted {
        Granted::Refused { why, .. } => why,
        done => panic!("it was done: {done:?}"),
    }
}

#[test]
fn where_certificates_name_managers_nobody_else_is_one() {
    let net = managed(5, &[(1, "manager"), (3, "manager"), (2, "queen")]);
    let (leads, votes) = (master(&net), with_role(&net, Role::Backup));
    let mut all = votes.clone();
    all.push(leads);
    all.sort_unstable();
    assert_eq!(all, [1, 3], "the queen and plain nodes manage nothing");
    assert!(!on_roster(&net, 0) && !on_roster(&net, 2));
    assert_eq!(with_role(&net, Role::Host), [0, 2, 4]);
    // Without any such certificate everybody may, as ever.
    let net = managed(4, &[(2, "queen")]);
    assert_eq!(with_role(&net, Role::Backup).len(), 2);
    assert_eq!(with_role(&net, Role::Host), []);
}

#[test]
fn certified_managers_that_appear_take_over_from_those_that_are_not() {
    let mut net = managed(3, &[]);
    assert!(is_done(&ask(&mut net, 0, motd())));
    assert!(master(&net) < 3);
    certify(&net, &[(3, "manager"), (4, "manager")]);
    net.start(3, 0, &[0]);
    net.start(4, 0, &[0]);
    net.pass(seconds(30));
    let leads = master(&net);
    assert!([3, 4].contains(&leads), "node {leads} is master");
    let managers = [with_role(&net, Role::Backup), vec![leads]].concat();
    assert!(managers.contains(&3) && managers.contains(&4), "{managers:?}");
    assert!(is_done(&ask(&mut net, 0, motd())), "who manages nothing may ask all the same");
    let (key, node) = ("setting/motd".parse::<Key>().unwrap(), &net.hosts[&leads].node);
    assert!(node.catalog().catalog().live(&key).is_some(), "what was written before is there");
}

#[test]
fn an_expelled_node_is_on_no_roster_and_is_asked_nothing_and_comes_back_when_it_may() {
    let mut net = managed(4, &[]);
    let leads = master(&net);
    let whom = *with_role(&net, Role::Backup).first().unwrap();
    assert!(on_roster(&net, whom));
    let reason = [("reason", Field::Text("stolen".into()))];
    assert!(is_done(&ask(&mut net, leads, put(&expelled(whom), &reason))));
    net.pass(seconds(10));
    assert!(!on_roster(&net, whom), "an expelled backup is on the roster");
    let flock = net.hosts[&master(&net)].node.management(net.now).flock.unwrap();
    assert_eq!(flock.backups.len(), 2, "another has its place");
    assert!(!flock.backups.contains(&id(whom)));
    // Nothing but its links could be closed in time: what it asks is refused as well.
    let refused = why(ask(&mut net, whom, motd()));
    assert!(refused.contains("expelled"), "{refused}");
    assert!(is_done(&ask(&mut net, leads, propose(&expelled(whom), None))));
    net.pass(seconds(20));
    assert!(on_roster(&net, whom), "who is expelled no more is eligible again");
    assert!(is_done(&ask(&mut net, whom, motd())));
}

#[test]
fn the_master_carries_out_what_rules_let_a_node_ask() {
    let mut net = managed(8, &[(6, "operator")]);
    let leads = master(&net);
    let other = net.hosts.keys().copied().find(|on| *on != leads && *on != 6).unwrap();
    assert!(is_done(&ask(&mut net, other, motd())), "no rule, no refusal");
    let names = [name(leads).to_string(), "role:queen".into()];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(is_done(&ask(&mut net, other, rule("rule/admins", &names, "catalog"))));
    net.pass(seconds(2));
    let refused = why(ask(&mut net, other, motd()));
    assert!(refused.contains("may not change setting/motd"), "{refused}");
    assert!(refused.contains("skep catalog get --kind rule"), "{refused}");
    assert!(is_done(&ask(&mut net, leads, motd())), "who is named may");
    let backup = with_role(&net, Role::Backup)[0];
    let step_down = Wish::Manage(Order::Hold(id(backup)));
    assert!(is_done(&ask(&mut net, other, step_down)), "the right `flock` is in no rule");
    // The way back from rules that name the wrong ones.
    assert!(is_done(&ask(&mut net, 6, propose("rule/admins", None))));
    net.pass(seconds(2));
    assert!(is_done(&ask(&mut net, other, motd())));
}

#[test]
fn what_this_node_alone_is_asked_is_answered_here() {
    let mut net = managed(3, &[]);
    net.said.clear();
    let other = with_role(&net, Role::Backup)[0];
    let command = skep_managers::Command::RecoverForce;
    let token = Token(u64::MAX - 1);
    net.give(other, Input::Managers(skep_managers::Input::Command { token, command }));
    let refused = net.said.iter().any(|(on, said)| {
        *on == other && matches!(said, Said::Refused { token: of, .. } if *of == token)
    });
    assert!(refused, "{:?}", net.said);
}

/// A node that followed and never managed recovers with the catalog that it shows, not with none.
#[test]
fn a_node_that_only_followed_founds_from_what_it_shows() {
    let mut net = managed(5, &[]);
    assert!(is_done(&ask(&mut net, 0, motd())));
    net.pass(seconds(2));
    let left = with_role(&net, Role::Eligible);
    let learners: Vec<_> = {
        let flock = net.hosts[&master(&net)].node.management(net.now).flock.unwrap();
        flock.learners
    };
    let left = *left.iter().find(|on| !learners.contains(&id(**on))).unwrap();
    let all: Vec<usize> = net.hosts.keys().copied().filter(|on| *on != left).collect();
    all.into_iter().for_each(|on| net.kill(on));
    net.pass(seconds(5));
    let token = Token(u64::MAX - 1);
    let command = skep_managers::Command::RecoverForce;
    net.give(left, Input::Managers(skep_managers::Input::Command { token, command }));
    net.pass(seconds(2));
    assert_eq!(master(&net), left);
    let key: Key = "setting/motd".parse().unwrap();
    assert!(net.hosts[&left].node.catalog().catalog().live(&key).is_some(), "the catalog is lost");
}

#[test]
fn dvm_10_a_node_that_is_not_well_from_the_first_moment_founds_nothing_until_it_is() {
    let mut net = Net::new();
    net.managed = true;
    net.start(0, 0, &[]);
    let said = |well| {
        let why = "its clock is wrong".to_owned();
        Input::Managers(skep_managers::Input::Baseline { well, why })
    };
    // Before its managers have begun.
    net.give(0, said(false));
    net.pass(seconds(30));
    let view = net.first().management(net.now);
    assert!(view.role == Role::Holding && view.flock.is_none(), "{view:?}");
    assert!(view.waits.iter().any(|wait| wait.what == skep_managers::Wait::Baseline), "{view:?}");
    net.give(0, said(true));
    net.pass(seconds(10));
    assert_eq!(net.first().management(net.now).role, Role::Master);
}

#[test]
fn dvm_12_what_a_node_has_to_spare_is_known_everywhere() {
    let mut net = managed(4, &[]);
    let leads = master(&net);
    let other = net.hosts.keys().copied().find(|on| *on != leads).unwrap();
    let parts = Parts { network: 900, processor: 800, memory: 700, disk: 2000 };
    net.give(other, Input::Spare { resources: 800, parts });
    net.pass(seconds(5));
    for on in 0..4 {
        let fit = net.hosts[&on].node.fit(id(other)).unwrap();
        let told = Parts { disk: 1000, ..parts };
        assert_eq!((fit.resources, fit.parts), (800, Some(told)), "at {on}");
    }
}
