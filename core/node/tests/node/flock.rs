//! Does a flock form, part, and meet again?

use std::time::Duration;

use bytes::Bytes;
use skep_base::{GroupName, Incarnation, NodeId};
use skep_estimates::Basis;
use skep_flood::{Input as FloodInput, PublishToken};
use skep_node::{Event, Farewell, Goodbye, Input, Sample, Status};
use skep_routing::{AskError, Token};

use crate::net::*;

#[test]
fn nodes_with_one_seed_form_one_flock() {
    for n in [1, 2, 3, 5, 30] {
        flock_of(n).assert_one_flock();
    }
}

#[test]
fn updates_of_a_group_reach_its_members_from_the_first() {
    let group: GroupName = "web".parse().unwrap();
    let mut net = Net::new();
    for host in 0..5 {
        let groups = [GroupName::all()].into_iter().chain((host < 3).then(|| group.clone()));
        net.config.flood.groups = groups.collect();
        net.start(host, 0, &[0]);
    }
    net.pass(seconds(5));
    for host in 0..3 {
        let (body, token) = (Bytes::from_static(b"an update"), PublishToken(1));
        let label = skep_flood::Label::default();
        let publish = FloodInput::Publish { group: group.clone(), body, token, label };
        net.give(host, Input::Flood(publish));
    }
    // Sooner than neighbours compare what they have.
    net.pass(seconds(1));
    let accepted = |host: &Host| host.node.flood().stats().accepted;
    assert_eq!(net.hosts.values().map(accepted).collect::<Vec<_>>(), [2, 2, 2, 0, 0]);
}

#[test]
fn links_that_nobody_wants_are_let_go() {
    let mut net = flock_of(30);
    net.pass(seconds(60));
    net.assert_one_flock();
    let most = net.hosts.values().map(|host| host.node.links().count()).max().unwrap();
    assert!(most <= 16, "a node keeps {most} links");
}

#[test]
fn a_killed_node_is_silent_everywhere_and_back_as_a_new_life() {
    let mut net = flock_of(9);
    net.pass(seconds(20));
    net.kill(4);
    net.pass(seconds(1));
    net.assert_one_flock();
    assert_eq!(net.silences(4), 8);
    net.start(4, 1, &[0]);
    net.pass(seconds(5));
    net.assert_one_flock();
    assert_eq!(net.hosts[&4].node.incarnation(), Incarnation(2));
}

#[test]
fn a_node_that_lost_its_disk_takes_a_life_above_its_traces() {
    let mut net = flock_of(5);
    net.kill(2);
    net.start(2, 40, &[0]);
    net.pass(seconds(8));
    assert_eq!(net.hosts[&2].stored, Incarnation(41));
    net.kill(2);
    net.start(2, 0, &[0]);
    net.pass(seconds(8));
    assert_eq!(net.hosts[&2].stored, Incarnation(42));
    net.assert_one_flock();
}

#[test]
fn halves_part_and_meet_again() {
    let mut net = flock_of(16);
    net.pass(seconds(10));
    net.cut = Box::new(|a, b| (a < 8) != (b < 8));
    net.pass(seconds(60));
    for (n, host) in &net.hosts {
        let across: Vec<_> =
            host.node.links().filter(|link| id_index(link.peer) / 8 != n / 8).collect();
        assert_eq!(host.node.present().len(), 8, "what node {n} sees over {across:?}");
    }
    net.cut = Box::new(|_, _| false);
    net.pass(seconds(10));
    net.assert_one_flock();
}

#[test]
fn who_says_that_it_restarts_or_leaves_is_never_silent() {
    let mut net = flock_of(7);
    net.pass(seconds(10));
    net.give(3, Input::Stop(Farewell::Restarting(seconds(10))));
    net.kill(3);
    net.pass(seconds(2));
    let status = |net: &Net, n: usize| net.first().member_view(id(n)).unwrap().status;
    assert_eq!(status(&net, 3), Status::Restarting);
    net.start(3, 1, &[0]);
    net.pass(seconds(5));
    net.assert_one_flock();
    assert_eq!(net.silences(3), 0);
    net.give(5, Input::Stop(Farewell::Leaving));
    net.kill(5);
    net.pass(seconds(30));
    assert_eq!(status(&net, 5), Status::Left);
    assert_eq!(net.silences(5), 0);
}

/// A word that comes right before its link is closed is heard before the link is judged: of two
/// nodes nobody else could say that the other stopped as it should.
#[test]
fn the_last_word_of_the_only_other_node_is_heard() {
    for farewell in [Farewell::Restarting(seconds(10)), Farewell::Leaving] {
        for size in [2, 3] {
            let mut net = flock_of(size);
            net.pass(seconds(10));
            net.give(1, Input::Stop(farewell));
            net.kill(1);
            net.pass(seconds(2));
            assert_eq!(net.silences(1), 0, "of {size}: {farewell:?}");
            let status = net.first().member_view(id(1)).unwrap().status;
            assert!(matches!(status, Status::Restarting | Status::Left), "{status:?}");
        }
    }
}

#[test]
fn a_second_process_of_a_name_publishes_nothing_until_the_first_is_gone() {
    let mut net = flock_of(6);
    net.pass(seconds(10));
    // The same certificate on another host: reached at another address, it dials node 1.
    let first = net.hosts.remove(&3).unwrap();
    net.hosts.insert(33, first);
    for link in net.links.values_mut() {
        if link.0 == 3 {
            link.0 = 33;
        }
        if link.2 == 3 {
            link.2 = 33;
        }
    }
    net.start(3, 7, &[1]);
    net.pass(seconds(10));
    assert!(!net.hosts[&3].node.has_begun());
    assert!(net.events.contains(&(3, Event::NameTaken)));
    assert_eq!(net.silences(3), 0);
    assert_eq!(net.hosts[&33].node.incarnation(), Incarnation(1));
    net.kill(33);
    net.pass(seconds(15));
    assert!(net.hosts[&3].node.has_begun());
    net.assert_one_flock();
}

/// On a slow machine a handshake takes longer than a node looks around.
#[test]
fn a_second_process_that_reached_nobody_in_time_gives_the_name_up_all_the_same() {
    let mut net = flock_of(3);
    net.pass(seconds(10));
    let first = net.hosts.remove(&1).unwrap();
    net.hosts.insert(51, first);
    for link in net.links.values_mut() {
        for end in [&mut link.0, &mut link.2] {
            if *end == 1 {
                *end = 51;
            }
        }
    }
    net.events.clear();
    net.cut = Box::new(|from, to| from == 1 || to == 1);
    net.start(1, 7, &[0, 2]);
    net.pass(seconds(5));
    assert!(net.hosts[&1].node.has_begun(), "it reached nobody");
    net.cut = Box::new(|_, _| false);
    net.pass(seconds(20));
    assert!(!net.hosts[&1].node.has_begun(), "everybody turns it away");
    net.pass(seconds(60));
    let begun = net
        .events
        .iter()
        .filter(|(n, event)| *n == 1 && matches!(event, Event::Started { .. } | Event::NameTaken));
    let begun: Vec<_> = begun.map(|(_, event)| event).collect();
    let once = [&Event::Started { incarnation: Incarnation(8) }, &Event::NameTaken];
    assert_eq!(begun, once, "it does not come and go");
    assert!(net.hosts[&51].node.has_begun());
    assert_eq!(net.silences(1), 0);
    net.kill(51);
    net.pass(seconds(20));
    assert!(net.hosts[&1].node.has_begun());
    net.assert_one_flock();
}

#[test]
fn every_member_can_be_asked_over_the_links_of_others() {
    let mut net = flock_of(24);
    // Not the seed, to which all have dialled.
    let me = 5;
    let asker = net.hosts[&me].node.links().map(|link| link.peer).collect::<Vec<_>>();
    let ask = |n: usize| Input::Ask {
        token: Token(n as u64),
        to: id(n),
        service: skep_node::service::DIAL_BACK,
        body: Bytes::copy_from_slice(&n.to_be_bytes()),
        within: seconds(5),
    };
    let mut strangers = 0;
    for n in (0..24).filter(|n| *n != me) {
        net.give(me, ask(n));
        let answer = net.answers.pop().expect("an answer");
        assert_eq!(answer, Ok(Bytes::copy_from_slice(&n.to_be_bytes())));
        strangers += usize::from(!asker.contains(&id(n)));
    }
    assert!(strangers > 5, "hardly anybody needed another's link");
    // The first hop of a shortest way falls silent without a word: another way is found.
    let far = (0..24).find(|n| *n != me && !asker.contains(&id(*n))).expect("a stranger");
    let first = asker.iter().map(|peer| id_index(*peer)).collect::<Vec<_>>();
    let dead = first[0];
    net.cut = Box::new(move |from, to| from == dead || to == dead);
    net.give(me, ask(far));
    net.pass(seconds(6));
    assert_eq!(net.answers, [Ok(Bytes::copy_from_slice(&far.to_be_bytes()))]);
    net.give(me, ask(me));
    assert_eq!(net.answers.pop(), Some(Err(AskError::NoRoute)), "a node asks itself nothing");
}

#[test]
fn a_large_body_is_pulled_from_whom_estimates_have_as_nearest() {
    for (near, far) in [(1, 2), (2, 1)] {
        let mut net = flock_of(4);
        net.pass(seconds(5));
        let link_to = |net: &Net, peer: usize| {
            let ends = net.links.iter().find(|(_, link)| link.0 == 0 && link.2 == peer);
            *ends.unwrap().0
        };
        let sample = |peer: usize, ms: u64| Sample {
            peer: id(peer),
            bulk: false,
            least_rtt: Duration::from_millis(ms),
            acked: 0,
            rate: 0,
            sender_limited: true,
        };
        // What the kernel says of links takes the place of what pings over wires without delay
        // have shown; nothing else tells the flood.
        for _ in 0..8 {
            net.give(0, Input::Looked(vec![sample(near, 3), sample(far, 90)]));
        }
        net.cut = Box::new(|from, to| (from, to) == (3, 0));
        let (group, token) = (GroupName::all(), PublishToken(1));
        let body = Bytes::from(vec![7; 20_000]);
        let label = skep_flood::Label::default();
        net.give(3, Input::Flood(FloodInput::Publish { group, body, token, label }));
        net.pass(Duration::from_millis(20));
        net.cut = Box::new(|_, _| false);
        let announcement = net.lost.last().expect("it is announced").clone();
        // The far one is the first to announce it.
        for peer in [far, near] {
            let (link, frame) = (link_to(&net, peer), announcement.clone());
            net.give(0, Input::Frame { link, frame });
        }
        let (_, update) = *net.opened.iter().find(|(n, _)| *n == 0).expect("it is wanted");
        let opened = FloodInput::BodyOpened { id: update, missing: Some((true, vec![0])) };
        net.give(0, Input::Flood(opened));
        // Who has not got it says so, and the other is asked.
        assert_eq!(net.fetched_from.first(), Some(&(0, id(near))), "{near} is near, not {far}");
    }
}

#[test]
fn who_cannot_meet_is_pinged_over_the_links_of_others_and_kept_apart() {
    let mut net = Net::new();
    let cut = |from: usize, to: usize| [(2, 5), (5, 2)].contains(&(from, to));
    net.cut = Box::new(cut);
    for host in 0..8 {
        net.start(host, 0, &[0]);
    }
    net.pass(seconds(2400));
    let members: Vec<NodeId> = net.first().present().to_vec();
    assert_eq!(members.len(), 8);
    for (n, host) in &net.hosts {
        let known = host.node.between(net.now, id(2), id(5)).unwrap();
        assert_eq!(known.basis, Basis::Routed, "as {n} sees it");
        let apart: Vec<_> = host.node.costs(&members).apart().collect();
        let named: Vec<_> = apart.iter().map(|(a, b)| (members[*a], members[*b])).collect();
        assert_eq!(named, [(id(2).min(id(5)), id(2).max(id(5)))]);
    }
    assert!(net.answers.is_empty(), "the node's own pings showed outside");
    net.cut = Box::new(|_, _| false);
    net.pass(seconds(1800));
    let known = net.first().between(net.now, id(2), id(5)).unwrap();
    assert_ne!(known.basis, Basis::Routed);
    assert!(net.first().ways_of(id(2)).is_none());
}

#[test]
fn the_process_that_keeps_its_name_is_told_of_the_other_one() {
    // In a large flock the newcomer may knock where nobody has a link to the first.
    for (size, seed) in [(2, 0), (6, 1), (24, 1), (24, 9), (24, 17)] {
        let mut net = flock_of(size);
        net.pass(seconds(10));
        let first = net.hosts.remove(&1).unwrap();
        let seed = if seed == 1 { 0 } else { seed };
        net.hosts.insert(51, first);
        for link in net.links.values_mut() {
            for end in [&mut link.0, &mut link.2] {
                if *end == 1 {
                    *end = 51;
                }
            }
        }
        net.start(1, 7, &[seed]);
        net.pass(seconds(12));
        let told = |net: &Net| {
            let is = |(n, event): &&(usize, Event)| {
                *n == 51 && matches!(event, Event::NameContested { .. })
            };
            net.events.iter().filter(is).count()
        };
        assert_eq!(told(&net), 1, "once, among {size}, by way of {seed}");
        assert!(net.hosts[&51].node.name_contested(net.now).is_some());
        assert!(net.hosts[&51].node.has_begun() && !net.hosts[&1].node.has_begun());
        net.kill(1);
        net.pass(seconds(30));
        assert!(net.hosts[&51].node.name_contested(net.now).is_none(), "it is gone");
        assert_eq!(told(&net), 1);
    }
}

#[test]
fn goodbyes_are_words() {
    for goodbye in [Goodbye::Unneeded, Goodbye::NameTaken, Goodbye::Protocol] {
        assert_eq!(Goodbye::from_text(goodbye.as_str()), Some(goodbye));
    }
    assert_eq!(Goodbye::from_text("something newer"), None);
}

#[test]
fn no_update_crosses_a_link_whose_peer_s_certificate_has_expired() {
    let mut net = flock_of(2);
    let publish = |net: &mut Net, n: usize, token: u64| {
        let group = GroupName::all();
        let (body, token) = (Bytes::from_static(b"news"), PublishToken(token));
        let label = skep_flood::Label::default();
        net.give(n, Input::Flood(skep_flood::Input::Publish { group, body, token, label }));
        net.pass(seconds(5));
    };
    publish(&mut net, 0, 1);
    assert_eq!(net.logged, [1]);

    // Node 0 finds that the certificate of node 1 is over; node 1 knows nothing of that.
    let link = net.hosts[&0].node.links().next().unwrap().link;
    net.give(0, Input::Restrict { link, on: true });
    publish(&mut net, 0, 2);
    publish(&mut net, 1, 3);
    assert_eq!(net.logged, [1], "an update went over the link, this way or that");
    let refused = |net: &Net| {
        let is = |event: &Event| {
            matches!(event, Event::Rejected { peer, reason }
            if *peer == id(1) && reason.contains("renew"))
        };
        net.events.iter().filter(|(n, event)| *n == 0 && is(event)).count()
    };
    assert_eq!(refused(&net), 1, "said once, naming the node");
    // Membership goes on as ever.
    net.assert_one_flock();

    net.give(0, Input::Restrict { link, on: false });
    net.pass(seconds(60));
    let mut logged = net.logged.clone();
    logged.sort_unstable();
    assert_eq!(logged, [0, 1, 1], "what waited is repaired");
}

#[test]
fn of_a_fleet_that_starts_at_once_one_founds() {
    for first in [1, 0] {
        let mut net = Net::new();
        net.managed = true;
        // Whoever comes first may not be the one whose turn it is.
        (first..40).for_each(|host| net.start(host, 0, &[first]));
        (0..first).for_each(|host| net.start(host, 0, &[first]));
        net.pass(seconds(40));
        let founded = |(_, said): &&(usize, skep_managers::Output)| {
            matches!(said, skep_managers::Output::Event(skep_managers::Event::Formed { .. }))
        };
        assert_eq!(net.said.iter().filter(founded).count(), 1);
    }
}
