//! Routed requests: what goes between their machine, the links and the agent.

use core::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};
use skep_routing::Token;
use skep_wire::kind;

use crate::api::{Event, Output};
use crate::node::Node;

/// The node's own requests are numbered from here. See [`crate::Input::Ask`].
const FIRST_PING: u64 = 1 << 63;
/// How long a ping over others may take. Its routes share the time; nobody waits for it.
const PING_WITHIN: Duration = Duration::from_secs(9);

/// What may be asked over others: see [`crate::Input::Ask`]. Part of the wire format.
pub mod service {
    /// Open a stream to me, at one of these addresses.
    pub const DIAL_BACK: u8 = 1;
    /// Meet me at this relay.
    pub const MEET: u8 = 2;
    /// Make a bulk link to me, at one of these addresses.
    pub const LINK_BACK: u8 = 3;
    /// Answer at once; I cannot dial you. The node answers it itself, and it never shows.
    pub const PING: u8 = 4;
    /// A message of the managers, where there is no link. Carried out by the node itself.
    pub const MANAGERS: u8 = 5;
    /// Something is asked of the master. Carried out by the node itself.
    pub const WISH: u8 = 6;
}

/// Tokens of what the node itself asks about the flock: those of the agent count from one.
pub(crate) const FIRST_TOKEN: u64 = 1 << 62;

impl Node {
    pub(crate) fn routed(&mut self, now: Time, input: skep_routing::Input) {
        self.seldom_changed = true;
        self.routing.handle(now, input, &mut self.from_routing);
    }

    /// Asks a node over the links of others to answer at once. One at a time: a newer one takes the
    /// place of an older, whose answer is dropped.
    pub(crate) fn ping_over_others(&mut self, now: Time, peer: NodeId) {
        self.pings += 1;
        let token = Token(FIRST_PING + self.pings);
        self.pinging = Some((token, peer));
        let (service, body, within) = (service::PING, Bytes::new(), PING_WITHIN);
        let routes = self.ways_to(peer);
        self.routed(now, skep_routing::Input::Ask { token, routes, service, body, within });
    }

    /// Tells the machine over whom it may send, when that has changed.
    pub(crate) fn hand_peers(&mut self, now: Time) {
        if core::mem::take(&mut self.peers_changed) {
            let peers = self.membership.links().map(|link| link.peer).collect();
            self.routed(now, skep_routing::Input::Peers { peers });
        }
    }

    pub(crate) fn carry_from_routing(&mut self, now: Time, out: &mut Outbox<Output>) {
        while let Some(output) = self.from_routing.pop() {
            match output {
                skep_routing::Output::Send { to, body } => {
                    self.send(to, kind::ROUTED, body, out);
                }
                skep_routing::Output::Reject { from, reason } => {
                    let reason = alloc::format!("{reason}");
                    out.push(Output::Event(Event::Rejected { peer: from, reason }));
                }
                skep_routing::Output::Request { ticket, service: service::PING, .. } => {
                    let outcome = Ok(Bytes::new());
                    self.routed(now, skep_routing::Input::Answer { ticket, outcome });
                    self.estimate(now, skep_estimates::Input::Pinged { by: ticket.origin });
                }
                skep_routing::Output::Answered { token, outcome, took }
                    if token >= Token(FIRST_PING) =>
                {
                    let ours = self.pinging.take_if(|(pinged, _)| *pinged == token);
                    if let Some((_, peer)) = ours {
                        let took = outcome.ok().map(|_| took);
                        self.estimate(now, skep_estimates::Input::Answered { peer, took });
                    }
                }
                skep_routing::Output::Request {
                    ticket,
                    service: service @ (service::MANAGERS | service::WISH),
                    body,
                    ..
                } => self.asked_for_flock(now, ticket, (service, body), out),
                skep_routing::Output::Answered { token, outcome, .. } if token.0 >= FIRST_TOKEN => {
                    self.answered_for_flock(now, token, outcome, out);
                }
                asked @ (skep_routing::Output::Request { .. }
                | skep_routing::Output::Answered { .. }) => out.push(Output::Routed(asked)),
            }
        }
    }
}
