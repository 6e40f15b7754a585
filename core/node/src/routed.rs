//! Routed requests: what goes between their machine, the links and the agent.

use skep_base::{Outbox, Time};
use skep_wire::kind;

use crate::api::{Event, Output};
use crate::node::Node;

/// What may be asked over others: see [`crate::Input::Ask`]. Part of the wire format.
pub mod service {
    /// Open a stream to me, at one of these addresses.
    pub const DIAL_BACK: u8 = 1;
    /// Meet me at this relay.
    pub const MEET: u8 = 2;
    /// Make a bulk link to me, at one of these addresses.
    pub const LINK_BACK: u8 = 3;
}

impl Node {
    pub(crate) fn routed(&mut self, now: Time, input: skep_routing::Input) {
        self.seldom_changed = true;
        self.routing.handle(now, input, &mut self.from_routing);
    }

    /// Tells the machine over whom it may send, when that has changed.
    pub(crate) fn hand_peers(&mut self, now: Time) {
        if core::mem::take(&mut self.peers_changed) {
            let peers = self.membership.links().map(|link| link.peer).collect();
            self.routed(now, skep_routing::Input::Peers { peers });
        }
    }

    pub(crate) fn carry_from_routing(&mut self, out: &mut Outbox<Output>) {
        while let Some(output) = self.from_routing.pop() {
            match output {
                skep_routing::Output::Send { to, body } => {
                    self.send(to, kind::ROUTED, body, out);
                }
                skep_routing::Output::Reject { from, reason } => {
                    let reason = alloc::format!("{reason}");
                    out.push(Output::Event(Event::Rejected { peer: from, reason }));
                }
                asked @ (skep_routing::Output::Request { .. }
                | skep_routing::Output::Answered { .. }) => out.push(Output::Routed(asked)),
            }
        }
    }
}
