//! Publishing: what this node says itself, and how news leave it.

use alloc::vec::Vec;

use bytes::Bytes;
use skep_base::{Digest, NodeId, Outbox, Time};

use crate::machine::{Output, Records};
use crate::message::{Entry, MAX_BATCH_BYTES, Message};
use crate::record::{Content, MAX_BODY_BYTES, Record, Version, kind};
use crate::store::certificates_first;
use crate::sync::Peer;

impl Records {
    pub(crate) fn publish(
        &mut self,
        now: Time,
        kind: u16,
        schema: u16,
        body: Option<Bytes>,
        out: &mut Outbox<Output>,
    ) {
        debug_assert!(body.as_ref().is_none_or(|body| body.len() <= MAX_BODY_BYTES));
        let unchanged = self.own.facts.get(&kind) == Some(&(schema, body.clone()));
        self.own.facts.insert(kind, (schema, body));
        if !unchanged && self.own.incarnation.is_some() {
            self.publish_fact(now, kind, out);
            self.flush_if_due(now, out);
        }
    }

    pub(crate) fn publish_all(&mut self, now: Time, out: &mut Outbox<Output>) {
        let certificate = self.own.signer.certificate();
        self.own.facts.insert(kind::CERTIFICATE, (1, Some(certificate)));
        if self.own.incarnation.is_none() {
            return;
        }
        let mut kinds: Vec<u16> = self.own.facts.keys().copied().collect();
        kinds.sort_by_key(|kind| certificates_first(*kind));
        for kind in kinds {
            self.publish_fact(now, kind, out);
        }
        self.flush_if_due(now, out);
    }

    pub(crate) fn publish_fact(&mut self, now: Time, kind: u16, out: &mut Outbox<Output>) {
        let (Some(incarnation), Some((schema, body))) =
            (self.own.incarnation, self.own.facts.get(&kind))
        else {
            return;
        };
        self.own.sequence += 1;
        self.statistics.published += 1;
        let certificate = self.own.signer.certificate();
        let content = Content {
            owner: self.me,
            kind,
            schema: *schema,
            version: Version { incarnation, sequence: self.own.sequence },
            signer: Digest::of(&certificate),
            retracted: body.is_none(),
            body: body.clone().unwrap_or_default(),
        };
        let record = Record::sign(content, &*self.own.signer);
        let signatory =
            (kind == kind::CERTIFICATE).then(|| self.verifier.certificate(&certificate)).flatten();
        if self.store.insert(&record, signatory, now).is_ok() {
            self.keep(None, &record, out);
        }
    }

    /// A record was stored: the disk, the composer and the neighbours hear of it.
    pub(crate) fn keep(&mut self, from: Option<NodeId>, record: &Record, out: &mut Outbox<Output>) {
        let Content { owner, kind, .. } = record.content;
        out.push(Output::Persist { owner, kind, raw: record.raw().clone() });
        out.push(Output::Changed { owner, kind });
        for (peer, state) in &mut self.peers {
            if state.floods() && Some(*peer) != from {
                state.queue(owner, kind);
                self.has_news = true;
            }
        }
    }

    /// Sends each flood link what was queued for it, in batches, certificates first.
    pub(crate) fn send_news(&mut self, now: Time, out: &mut Outbox<Output>) {
        if !core::mem::take(&mut self.has_news) {
            return;
        }
        let peers: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| peer.has_news()).map(|(id, _)| *id).collect();
        for to in peers {
            let wanted = self.peers.get_mut(&to).map(Peer::take_news).unwrap_or_default();
            self.send_records(now, to, wanted.into_iter(), None, out);
        }
    }

    /// Sends the records named, in frames of at most [`MAX_BATCH_BYTES`]. With `done`, the last
    /// frame is sent even when empty and carries that flag.
    pub(crate) fn send_records(
        &mut self,
        now: Time,
        to: NodeId,
        wanted: impl Iterator<Item = (NodeId, u16)>,
        done: Option<bool>,
        out: &mut Outbox<Output>,
    ) {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (owner, kind) in wanted {
            let Some(stored) = self.store.get(owner, kind) else {
                continue;
            };
            let age = self.store.age(owner, now);
            if age > self.config.purge_after {
                continue;
            }
            if bytes + stored.raw.len() > MAX_BATCH_BYTES {
                let entries = core::mem::take(&mut entries);
                out.push(Output::Send { to, message: Message::Records { entries, done: false } });
                bytes = 0;
            }
            // Room for the age and the length besides the record.
            bytes += stored.raw.len() + 16;
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            entries.push(Entry { age_ms, raw: stored.raw.clone() });
            self.statistics.sent += 1;
        }
        if !entries.is_empty() || done.is_some() {
            let done = done.unwrap_or(false);
            out.push(Output::Send { to, message: Message::Records { entries, done } });
        }
    }
}
