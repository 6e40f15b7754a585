//! What other nodes say and ask over bulk links, and which of them this node needs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use skep_base::{Digest, NodeId};
use skep_transport::{Credit, LinkId};
use skep_wave::{Bitmap, Message, Part, Section, Step};
use skep_wire::{Frame, kind};
use tokio::sync::mpsc;

use super::Command;
use super::facts::WaveKey;
use super::job::{Job, Phase};
use super::library::{self, Whole};
use super::links::peers_of;
use super::serve::{WANTS_QUEUE, Wanted};
use super::task::Task;
use crate::reach::Relays;

/// Versions that are known to be whole here; any other is looked for again when it is asked for.
const MAX_WHOLE: usize = 64;
/// Versions that are looked for at one time; peers that ask for more are told that they are
/// lacking.
const MAX_LOOKING: usize = 16;
/// With nothing coming for so long, a wave may be fetched over relays: longer than it takes to be
/// linked to those that can be reached, and to learn what they have.
const STALLED: Duration = Duration::from_secs(5);

/// A question about a version that is being looked for on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Query {
    Seal,
    Interest(Section),
}

impl Task {
    pub(super) fn link_up(&mut self, link: LinkId, node: NodeId) {
        let (wants, inbox) = mpsc::channel(WANTS_QUEUE);
        tracing::debug!(%link, %node, "a bulk link is up");
        self.links.add((link, node), wants);
        tokio::spawn(Arc::clone(&self.server).serve(link, inbox, self.config.serve));
        let asks: Vec<Message> = self
            .jobs
            .values()
            .filter_map(|job| match (&job.phase, job.part()) {
                (Phase::Seal, _) => Some(Message::WantSeal(job.order.manifest)),
                (_, part) => part.map(Message::Interest),
            })
            .collect();
        for ask in asks {
            self.send(link, &ask);
        }
    }

    pub(super) fn frame(&mut self, link: LinkId, frame: &Frame, credit: Credit) {
        let Some(node) = self.links.node(link) else {
            return;
        };
        if frame.kind != kind::CHUNKS {
            return tracing::debug!(kind = frame.kind, "skipped a frame of a kind not known here");
        }
        let message = match Message::from_body(&frame.body) {
            Ok(message) => message,
            Err(error) => {
                self.complain(node, &error.to_string());
                return self.transport.close(link, "a message that cannot be read");
            }
        };
        match message {
            Message::Interest(part) => self.interest(link, part),
            Message::WantSeal(manifest) => self.query(link, manifest, Query::Seal),
            Message::Have { of, pieces } => self.peer_has(node, of, &pieces),
            Message::Got { of, pieces } => {
                let now = self.clock.now();
                for key in self.fetching(of) {
                    if let Some(transfer) = self.jobs.get_mut(&key).and_then(Job::transfer_mut) {
                        transfer.peer_got(node, &pieces, now);
                    }
                    self.pump(key);
                }
            }
            Message::Seal { manifest, bytes } => self.seal_came(node, manifest, &bytes),
            Message::LackSeal(_) => {}
            Message::Want { request, chunks } => {
                let wanted = Wanted { request, chunks };
                let link_state = self.links.up.get(&link);
                if link_state.is_some_and(|state| state.wants.try_send(wanted).is_err()) {
                    self.complain(node, "it asks for more than it may at once");
                    self.transport.close(link, "too many requests at once");
                }
            }
            Message::Chunk { request, digest, bytes } => {
                self.chunk_came(node, (request, digest), bytes.into_vec(), credit);
            }
            Message::Lack { request, digest } => self.chunk_lacks(node, request, &digest),
        }
    }

    /// The waves that fetch a part.
    fn fetching(&self, part: Part) -> Vec<WaveKey> {
        let fetching = self.jobs.iter().filter(|(_, job)| job.part() == Some(part));
        fetching.map(|(key, _)| *key).collect()
    }

    fn peer_has(&mut self, node: NodeId, part: Part, pieces: &[u8]) {
        let now = self.clock.now();
        for key in self.fetching(part) {
            let transfer = self.jobs.get_mut(&key).and_then(Job::transfer_mut);
            if transfer.is_some_and(|transfer| !transfer.peer_has(node, pieces, now)) {
                self.complain(node, "it says it has pieces that the image does not have");
            }
            self.pump(key);
        }
    }

    /// Nothing leads to the node any more.
    pub(super) fn peer_gone(&mut self, node: NodeId) {
        let keys: Vec<WaveKey> = self.jobs.keys().copied().collect();
        for key in keys {
            if let Some(transfer) = self.jobs.get_mut(&key).and_then(Job::transfer_mut) {
                transfer.peer_gone(node);
                self.pump(key);
            }
        }
    }

    fn interest(&mut self, link: LinkId, part: Part) {
        if !self.config.serve {
            return;
        }
        self.links.interest(link, part);
        let fetching = self.jobs.values().find(|job| job.part() == Some(part));
        if let Some(transfer) = fetching.and_then(Job::transfer) {
            let pieces = transfer.have().as_bytes().to_vec().into();
            return self.send(link, &Message::Have { of: part, pieces });
        }
        self.query(link, part.manifest, Query::Interest(part.section));
    }

    fn query(&mut self, link: LinkId, manifest: Digest, query: Query) {
        if let Some(whole) = self.whole.get(&manifest).cloned() {
            return self.answer(link, manifest, query, Some(&whole));
        }
        // What is being fetched is not whole; peers are told when its seal and pieces are here.
        let fetched = self.jobs.values().any(|job| job.order.manifest == manifest);
        let known = self.looking.get(&manifest).map_or(0, Vec::len);
        if fetched && !matches!(query, Query::Seal) || known >= WANTS_QUEUE {
            return self.answer(link, manifest, query, None);
        }
        if let Some(waiting) = self.looking.get_mut(&manifest) {
            return waiting.push((link, query));
        }
        if self.looking.len() >= MAX_LOOKING {
            return self.answer(link, manifest, query, None);
        }
        self.looking.insert(manifest, vec![(link, query)]);
        let (blobs, identity) = (Arc::clone(&self.blobs), self.identity.current());
        let work = move || library::find(&blobs, manifest, identity.trust());
        self.on_disk(work, move |task, found| {
            let found = found.unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot look for an image that a peer asked for");
                None
            });
            for (link, query) in task.looking.remove(&manifest).unwrap_or_default() {
                task.answer(link, manifest, query, found.as_ref());
            }
            if let Some(whole) = found {
                task.serve_whole(manifest, whole);
            }
        });
    }

    fn answer(&mut self, link: LinkId, manifest: Digest, query: Query, whole: Option<&Whole>) {
        let message = match (query, whole) {
            (Query::Seal, Some(whole)) => {
                Message::Seal { manifest, bytes: whole.seal.to_vec().into() }
            }
            (Query::Seal, None) => Message::LackSeal(manifest),
            (Query::Interest(section), Some(whole)) => {
                let count = match section {
                    Section::Manifest => whole.manifest_pieces,
                    Section::Contents => whole.contents_pieces,
                };
                let pieces = Bitmap::full(count).as_bytes().to_vec().into();
                Message::Have { of: Part { manifest, section }, pieces }
            }
            (Query::Interest(_), None) => return,
        };
        self.send(link, &message);
    }

    /// A version is whole here from now on.
    pub(super) fn serve_whole(&mut self, manifest: Digest, whole: Whole) {
        for section in [Section::Manifest, Section::Contents] {
            for link in self.links.interested(Part { manifest, section }) {
                self.answer(link, manifest, Query::Interest(section), Some(&whole));
            }
        }
        if self.whole.len() >= MAX_WHOLE {
            self.whole.pop_first();
        }
        self.whole.insert(manifest, whole);
    }

    /// Makes links to whom the waves being fetched need. Where one of them can be met at a relay
    /// only, that is done when nothing comes from anybody else: a relay bears every byte twice.
    pub(super) fn dial_peers(&mut self) {
        let now = self.clock.now();
        let fetching = self.jobs.iter().filter(|(_, job)| job.needs_links());
        let mut wanted = BTreeSet::new();
        for (key, _) in fetching {
            wanted.extend(peers_of(self.me, &self.live_targets(*key)));
            wanted.insert(key.queen);
        }
        wanted.remove(&self.me);
        let stalled = now.since(self.moved) >= STALLED;
        let relays = if stalled { Relays::Allowed } else { Relays::Spared };
        for node in wanted {
            let present = self.facts.members.get(&node).is_some_and(|member| member.present);
            if present && self.links.may_dial(node, now) {
                let (reach, commands) = (self.reach.clone(), self.commands.clone());
                tokio::spawn(async move {
                    let reached = reach.link_to(node, relays).await;
                    if let Err(why) = &reached {
                        tracing::debug!(%node, %why, "no bulk link");
                    }
                    let linked = reached.is_ok();
                    // The task may have ended meanwhile.
                    drop(commands.send(Command::Reached { node, linked }));
                });
            }
        }
    }

    /// The present targets of a wave that have not failed.
    pub(super) fn live_targets(&self, key: WaveKey) -> Vec<NodeId> {
        let Some(order) = self.facts.wave(key) else {
            return vec![self.me];
        };
        let failed = |node: &NodeId| {
            let statuses = self.facts.members.get(node).map(|member| &member.statuses);
            let status = statuses.and_then(|statuses| statuses.of(key.queen, key.number));
            status.is_some_and(|status| status.step == Step::Failed)
        };
        let present =
            |node: &NodeId| self.facts.members.get(node).is_some_and(|member| member.present);
        let targets = self.facts.targets(order).filter(|node| *node != key.queen);
        targets.filter(|node| present(node) && !failed(node)).collect()
    }

    pub(super) fn retarget(&mut self) {
        let keys: Vec<WaveKey> = self.jobs.keys().copied().collect();
        for key in keys {
            let targets = self.live_targets(key);
            if let Some(transfer) = self.jobs.get_mut(&key).and_then(Job::transfer_mut) {
                transfer.set_targets(targets);
                self.pump(key);
            }
        }
    }
}
