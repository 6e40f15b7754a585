//! What applications ask over the client port, answered from the main loop's own state.
//!
//! The port (`skep-client-port`) speaks the protocol and knows its clients; here is what the
//! commands mean: `publish` hands updates to the flood and remembers keys, `subscribe` ties
//! subscribers to cursors of the log, `views` shows groups, links and figures (FLOOD-4 to
//! FLOOD-13).

mod channels;
pub mod port;
mod publish;
mod spools;
mod subscribe;
mod views;

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_base::{GroupName, NodeName};
use skep_client_port::{Answer, Ask, ClientId, Refusal};
use skep_lines::{Key, Keys, code};
use skep_node::Farewell;

use crate::config::Config;
use crate::spine::Spine;

pub use publish::keys_in;

/// What the main loop remembers of clients.
pub struct Clients {
    /// The name under which this node publishes.
    me: NodeName,
    /// Where data goes that names no group: every group that the configuration names, or `all`
    /// where it names none.
    site: Vec<GroupName>,
    /// The groups that this node is in.
    groups: Vec<GroupName>,
    keys: Keys,
    /// Publishes of clients that wait for the disk.
    pending: BTreeMap<u64, publish::Pending>,
    next_pending: u64,
    /// Of these, the ones with a key: a retry that comes meanwhile waits for the same.
    keyed: BTreeMap<Key, u64>,
    /// Connections over which a publish with a key was refused for now, and which: those that
    /// were sent after it must not be logged before it.
    refused: BTreeMap<ClientId, Key>,
    /// Where other nodes serve clients, as this one's configuration says.
    known_ports: BTreeMap<NodeName, String>,
    /// The reader's name of each subscription.
    subscriptions: BTreeMap<(ClientId, GroupName), Arc<str>>,
}

impl Clients {
    /// Nobody is connected yet; these keys were used before.
    #[must_use]
    pub fn new(me: NodeName, config: &Config, keys: Keys) -> Self {
        let groups: Vec<GroupName> = config.flood.groups.iter().cloned().collect();
        let known = config.peers.iter();
        let known = known.filter_map(|(node, peer)| Some((node.clone(), peer.client.as_ref()?)));
        let named = groups.iter().filter(|group| **group != GroupName::all()).cloned();
        let mut site: Vec<GroupName> = named.collect();
        if site.is_empty() {
            site.push(GroupName::all());
        }
        Self {
            me,
            site,
            groups,
            keys,
            pending: BTreeMap::new(),
            next_pending: 0,
            keyed: BTreeMap::new(),
            refused: BTreeMap::new(),
            known_ports: known.map(|(node, client)| (node, client.to_string())).collect(),
            subscriptions: BTreeMap::new(),
        }
    }

    fn must_be_in(&self, group: &GroupName) -> Result<(), Refusal> {
        if self.groups.contains(group) {
            return Ok(());
        }
        let text = format!("{} is not in group {group}; try groups", self.me);
        Err(Refusal::new(code::NOT_FOUND, text))
    }
}

impl Spine {
    /// Answers what a client asked.
    pub async fn client_ask(&mut self, ask: Ask) {
        match ask {
            Ask::Publish(batch) => self.publish_for_clients(batch).await,
            Ask::Group { group, slot } => slot.answer(self.group_view(&group).map(Answer::Group)),
            Ask::Groups(slot) => slot.answer(Ok(Answer::Groups(self.group_views()))),
            Ask::Statistics(slot) => slot.answer(Ok(Answer::Statistics(self.statistics()))),
            Ask::Topology { group, slot } => {
                slot.answer(self.topology_for_clients(&group).map(Answer::Topology));
            }
            Ask::Nearest(slot) => slot.answer(Ok(Answer::Nearest(self.nearest()))),
            Ask::Subscribe { client, subscribe, pusher, slot } => {
                self.subscribe(client, subscribe, pusher, slot).await;
            }
            Ask::Ack { client, group, cursor, slot } => {
                self.client_ack(client, group, cursor, slot).await;
            }
            Ask::Unsubscribe { client, group, slot } => {
                self.client_unsubscribe(client, group, slot).await;
            }
            Ask::Forget { group, name, slot } => self.forget(&group, &name, slot).await,
            Ask::Serve { name, reply } => self.serve_channel(&name, reply),
            Ask::Channel { node, name, reply } => self.open_channel(node, name, reply),
            Ask::Exit { who, slot } => {
                tracing::info!(client = %who, "asked to exit by a client");
                self.stopping = Some(Farewell::Restarting(crate::answer::BACK_WITHIN));
                slot.answer(Ok(Answer::Done("stopping".to_owned())));
            }
        }
    }
}
