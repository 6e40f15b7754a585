use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use skep_base::{NodeId, Outbox, Time};
use skep_wire::encode;

use crate::{
    AskError, Failure, Input, Key, MAX_BODY_BYTES, MAX_FORWARDED_PER_S, MAX_HOPS,
    MAX_SERVED_OF_ONE, Message, Outcome, Output, Path, Routing, Ticket, Token, Unsound,
};

const WITHIN: Duration = Duration::from_secs(9);
const ECHO: u8 = 7;

fn id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn route(nodes: &[u8]) -> Vec<NodeId> {
    nodes.iter().copied().map(id).collect()
}

/// Machines joined by links, whose messages arrive at once and in order.
struct Net {
    now: Time,
    nodes: BTreeMap<NodeId, Routing>,
    links: BTreeSet<(NodeId, NodeId)>,
    /// Links that look up and lose everything.
    dead: BTreeSet<(NodeId, NodeId)>,
    carried_out: Vec<(NodeId, Ticket, Bytes)>,
    answered: Vec<(Token, Result<Bytes, AskError>)>,
    took: Vec<Duration>,
    rejected: Vec<(NodeId, Unsound)>,
}

impl Net {
    fn new(links: &[(u8, u8)]) -> Self {
        let mut net = Self {
            now: Time::ZERO,
            nodes: BTreeMap::new(),
            links: BTreeSet::new(),
            dead: BTreeSet::new(),
            carried_out: Vec::new(),
            answered: Vec::new(),
            took: Vec::new(),
            rejected: Vec::new(),
        };
        for (one, other) in links {
            net.links.extend([(id(*one), id(*other)), (id(*other), id(*one))]);
        }
        let ids: BTreeSet<NodeId> = net.links.iter().map(|(from, _)| *from).collect();
        net.nodes = ids.into_iter().map(|node| (node, Routing::new(node, 1))).collect();
        net.tell_peers();
        net
    }

    fn cut(&mut self, one: u8, other: u8) {
        self.links.remove(&(id(one), id(other)));
        self.links.remove(&(id(other), id(one)));
        self.tell_peers();
    }

    fn tell_peers(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in ids {
            let of_node = self.links.iter().filter(|(from, _)| *from == node);
            let peers = of_node.map(|(_, to)| *to).collect();
            self.input(node, Input::Peers { peers });
        }
    }

    fn input(&mut self, node: NodeId, input: Input) {
        let mut queue = VecDeque::from([(node, input)]);
        while let Some((node, input)) = queue.pop_front() {
            let mut out = Outbox::new();
            let machine = self.nodes.get_mut(&node).unwrap();
            machine.handle(self.now, input, &mut out);
            machine.check();
            self.carry(node, &mut out, &mut queue);
        }
    }

    fn carry(
        &mut self,
        node: NodeId,
        out: &mut Outbox<Output>,
        queue: &mut VecDeque<(NodeId, Input)>,
    ) {
        for output in out.drain() {
            match output {
                Output::Send { to, body } => {
                    assert!(self.links.contains(&(node, to)), "sent where there is no link");
                    if !self.dead.contains(&(node, to)) {
                        queue.push_back((to, Input::Received { from: node, body }));
                    }
                }
                Output::Request { ticket, service, body, .. } => {
                    self.carried_out.push((node, ticket, body.clone()));
                    let outcome = if service == ECHO { Ok(body) } else { Err(Failure::NoService) };
                    queue.push_back((node, Input::Answer { ticket, outcome }));
                }
                Output::Answered { token, outcome, took } => {
                    self.answered.push((token, outcome));
                    self.took.push(took);
                }
                Output::Reject { from, reason } => self.rejected.push((from, reason)),
            }
        }
    }

    fn ask(&mut self, token: u64, routes: &[&[u8]], service: u8, body: &'static [u8]) {
        let routes = routes.iter().map(|nodes| route(nodes)).collect();
        let (token, body) = (Token(token), Bytes::from_static(body));
        self.input(id(1), Input::Ask { token, routes, service, body, within: WITHIN });
    }

    fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in ids {
            let mut out = Outbox::new();
            let machine = self.nodes.get_mut(&node).unwrap();
            machine.tick(self.now, &mut out);
            let mut queue = VecDeque::new();
            self.carry(node, &mut out, &mut queue);
            for (node, input) in queue {
                self.input(node, input);
            }
        }
    }
}

#[test]
fn a_request_goes_over_others_and_its_answer_comes_back() {
    let mut net = Net::new(&[(1, 2), (2, 3), (3, 4)]);
    net.ask(5, &[&[2, 3, 4]], ECHO, b"dial me");
    assert_eq!(net.answered, [(Token(5), Ok(Bytes::from_static(b"dial me")))]);
    let (at, ticket, _) = net.carried_out.first().unwrap();
    assert_eq!((*at, ticket.origin), (id(4), id(1)));
    assert!(net.nodes[&id(2)].served.is_empty(), "a node on the way keeps something");
}

#[test]
fn a_service_that_the_target_does_not_know_is_not_tried_elsewhere() {
    let mut net = Net::new(&[(1, 2), (2, 4), (1, 3), (3, 4)]);
    net.ask(1, &[&[2, 4], &[3, 4]], ECHO + 1, b"");
    assert_eq!(net.answered, [(Token(1), Err(Failure::NoService.into()))]);
    assert_eq!(net.carried_out.len(), 1);
}

#[test]
fn a_broken_route_gives_way_to_the_next() {
    let mut net = Net::new(&[(1, 2), (2, 4), (1, 3), (3, 4)]);
    net.cut(2, 4);
    net.ask(1, &[&[2, 4], &[3, 4]], ECHO, b"x");
    assert_eq!(net.answered, [(Token(1), Ok(Bytes::from_static(b"x")))]);
    net.cut(3, 4);
    net.ask(2, &[&[2, 4], &[3, 4]], ECHO, b"x");
    assert_eq!(net.answered[1], (Token(2), Err(Failure::NoLink.into())));
    net.ask(3, &[&[9, 4]], ECHO, b"x");
    assert_eq!(net.answered[2], (Token(3), Err(AskError::NoRoute)));
}

#[test]
fn a_silent_route_gives_way_and_the_request_is_carried_out_once() {
    let mut net = Net::new(&[(1, 2), (2, 4), (1, 3), (3, 4)]);
    // The request arrives; its answer does not.
    net.dead.insert((id(4), id(2)));
    net.ask(1, &[&[2, 4], &[3, 4]], ECHO, b"x");
    assert!(net.answered.is_empty());
    let (due, _) = net.nodes[&id(1)].deadline().unwrap();
    assert_eq!(due, Time::ZERO + WITHIN / 2, "the routes share the time");
    net.wait(WITHIN / 2);
    assert_eq!(net.answered, [(Token(1), Ok(Bytes::from_static(b"x")))]);
    assert_eq!(net.took, [Duration::ZERO], "the route that was given up is no part of the time");
    assert_eq!(net.carried_out.len(), 1, "carried out twice");
    net.wait(WITHIN * 3);
    assert!(net.nodes.values().all(|node| node.served.is_empty()), "remembered for ever");
}

#[test]
fn an_answer_over_a_route_that_was_given_up_took_since_that_was_tried() {
    let mut net = Net::new(&[(1, 2), (2, 4), (1, 3), (3, 4)]);
    // Neither answer arrives, until the first does after all.
    net.dead.extend([(id(4), id(2)), (id(4), id(3))]);
    net.ask(1, &[&[2, 4], &[3, 4]], ECHO, b"x");
    let key = net.carried_out.first().unwrap().1.key;
    net.wait(WITHIN / 2);
    net.now = net.now + WITHIN / 4;
    let answer = |from: u8, outcome| {
        let path = Path { nodes: route(&[1, from, 4]), at: 0 };
        Input::Received {
            from: id(from),
            body: encode(&Message::Answer { path, key, outcome }).into(),
        }
    };
    net.input(id(1), answer(9, Outcome::Done(Vec::new())));
    assert!(net.answered.is_empty(), "an answer over a way that was never tried is none");
    net.input(id(1), answer(2, Outcome::Done(Vec::new())));
    assert_eq!((net.answered.len(), &net.took[..]), (1, &[WITHIN / 2 + WITHIN / 4][..]));
}

#[test]
fn what_may_have_arrived_over_one_route_is_not_taken_back_by_another() {
    let mut net = Net::new(&[(1, 2), (2, 4), (1, 3), (3, 4)]);
    net.dead.insert((id(4), id(2)));
    net.cut(3, 4);
    net.ask(1, &[&[2, 4], &[3, 4]], ECHO, b"x");
    net.wait(WITHIN / 2);
    assert_eq!(net.carried_out.len(), 1, "it arrived, and its answer did not");
    let [(_, Err(why))] = &net.answered[..] else { panic!("{:?}", net.answered) };
    assert!(!why.is_worth_asking_again(), "{why}");
    // Where each route says that it led nowhere it may.
    net.ask(2, &[&[3, 4]], ECHO, b"x");
    assert!(net.answered[1].1.as_ref().is_err_and(AskError::is_worth_asking_again));
}

#[test]
fn without_an_answer_the_request_ends_in_time() {
    let mut net = Net::new(&[(1, 2), (2, 4)]);
    net.dead.insert((id(2), id(4)));
    net.ask(1, &[&[2, 4]], ECHO, b"x");
    net.wait(WITHIN);
    assert_eq!(net.answered, [(Token(1), Err(AskError::TimedOut))]);
    assert_eq!(net.nodes[&id(1)].deadline(), None);
}

#[test]
fn what_no_honest_node_sends_is_rejected() {
    let mut net = Net::new(&[(1, 2), (2, 3), (3, 4)]);
    let request = |nodes: &[u8], at: u8, length: usize| {
        let path = Path { nodes: route(nodes), at };
        let key = Key { life: 1, serial: 1 };
        let body = vec![0; length];
        encode(&Message::Request { path, key, within_ms: 1000, service: ECHO, body })
    };
    let long: Vec<u8> = (1..).take(MAX_HOPS + 2).collect();
    let cases = [
        (b"\xff\xff".to_vec(), Unsound::Malformed),
        (request(&[1], 0, 0), Unsound::Length(1)),
        (request(&long, 1, 0), Unsound::Length(MAX_HOPS + 2)),
        (request(&[1, 2, 1], 1, 0), Unsound::Loop),
        (request(&[1, 2, 3], 2, 0), Unsound::Astray),
        (request(&[4, 2, 3], 1, 0), Unsound::Astray),
        (request(&[1, 2, 3], 200, 0), Unsound::Astray),
        (request(&[1, 2, 3], 1, MAX_BODY_BYTES + 1), Unsound::TooLong(MAX_BODY_BYTES + 1)),
    ];
    for (body, reason) in cases {
        net.input(id(2), Input::Received { from: id(1), body: body.into() });
        assert_eq!(net.rejected.pop(), Some((id(1), reason)));
    }
    assert!(net.carried_out.is_empty());
}

#[test]
fn an_eager_peer_is_passed_on_within_bounds_and_keeps_nobody_out() {
    let mut net = Net::new(&[(1, 2), (2, 3), (4, 2)]);
    let asks = u64::from(MAX_FORWARDED_PER_S) + 10;
    for token in 0..asks {
        net.ask(token, &[&[2, 3]], ECHO, b"");
    }
    let busy = Err(AskError::Failed(Failure::Busy));
    let refused = net.answered.iter().filter(|(_, outcome)| *outcome == busy).count();
    assert_eq!(net.carried_out.len(), MAX_SERVED_OF_ONE, "one origin fills the target");
    assert_eq!(net.answered.len() - refused, MAX_SERVED_OF_ONE);
    let (routes, body) = (vec![route(&[2, 3])], Bytes::new());
    let ask = Input::Ask { token: Token(999), routes, service: ECHO, body, within: WITHIN };
    net.input(id(4), ask);
    assert_eq!(net.answered.last(), Some(&(Token(999), Ok(Bytes::new()))));
}

#[test]
fn the_wire_form_stays_as_it_is() {
    let path = Path { nodes: route(&[1, 2]), at: 1 };
    let key = Key { life: 3, serial: 300 };
    let ones = [1_u8; 16];
    let twos = [2_u8; 16];
    let head = |variant: u8| {
        let mut bytes = vec![variant, 2];
        bytes.extend(ones);
        bytes.extend(twos);
        bytes.extend([1, 3, 0xac, 2]);
        bytes
    };
    let mut request = head(0);
    request.extend([0xe8, 7, 7, 2, b'h', b'i']);
    let body = b"hi".to_vec();
    let message = Message::Request { path: path.clone(), key, within_ms: 1000, service: 7, body };
    assert_eq!(encode(&message), request);
    let mut answer = head(1);
    answer.extend([1, 2]);
    let outcome = Outcome::Failed(Failure::NoService);
    assert_eq!(encode(&Message::Answer { path, key, outcome }), answer);
}

proptest! {
    #[test]
    fn bytes_from_a_peer_never_make_it_fail(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut net = Net::new(&[(1, 2), (2, 3)]);
        net.input(id(2), Input::Received { from: id(1), body: body.into() });
    }
}
