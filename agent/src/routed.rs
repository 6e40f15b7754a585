//! The main loop's part in reaching nodes: what [`crate::reach`] wishes, and routed requests.

use std::net::SocketAddr;

use skep_base::NodeId;
use skep_node::{Input, Status};
use skep_routing::{Output, Token};

use crate::reach::{Whereabouts, Wish};
use crate::spine::Spine;

impl Spine {
    /// Carries out what the way to streams wants of the node.
    pub async fn wish(&mut self, wish: Wish) {
        match wish {
            // Whoever asked may have given up: then nobody misses the answer.
            Wish::Whereabouts { node, reply } => drop(reply.send(self.whereabouts(node))),
            Wish::Ask { to, service, body, within, reply } => {
                self.next_token += 1;
                let token = Token(self.next_token);
                self.asking.insert(token, reply);
                self.feed(Input::Ask { token, to, service, body, within }).await;
            }
            Wish::Answer { ticket, outcome } => self.feed(Input::Answer { ticket, outcome }).await,
        }
    }

    /// What came of routed requests, and what others ask.
    pub fn routed(&mut self, output: Output) {
        match output {
            Output::Request { ticket, service, body, within: _ } => {
                self.reach.request(ticket, service, &body);
            }
            Output::Answered { token, outcome, took: _ } => {
                if let Some(reply) = self.asking.remove(&token) {
                    drop(reply.send(outcome));
                }
            }
            // The node keeps these to itself.
            Output::Send { .. } | Output::Reject { .. } => {}
        }
    }

    fn whereabouts(&self, node: NodeId) -> Option<Whereabouts> {
        let member = self.node.member_view(node)?;
        if member.status != Status::Present {
            return None;
        }
        let mut relays: Vec<NodeId> = Vec::new();
        let ways = self.node.ways_to(node);
        // Those nearest to it first: they are linked to it now.
        let nearest = ways.iter().filter_map(|way| way.iter().rev().nth(1));
        let all = ways.iter().flatten();
        for relay in nearest.chain(all).filter(|relay| **relay != node) {
            if !relays.contains(relay) {
                relays.push(*relay);
            }
        }
        Some(Whereabouts {
            name: member.name?.clone(),
            addresses: self.addresses_of(node),
            relays: relays.into_iter().map(|relay| (relay, self.addresses_of(relay))).collect(),
            ours: self.addresses.iter().map(|address| address.socket).collect(),
        })
    }

    fn addresses_of(&self, node: NodeId) -> Vec<SocketAddr> {
        let facts = self.node.member_view(node).and_then(|member| member.facts);
        facts.map_or_else(Vec::new, |facts| {
            facts.addresses.iter().map(|address| address.socket).collect()
        })
    }
}
