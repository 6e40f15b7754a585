//! Receiving: what comes is set aside, verified in batches, kept and passed on.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry as Place;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{Digest, NodeId, Outbox, Time};

use crate::machine::{Output, Records, Rejection};
use crate::message::Entry;
use crate::record::{Content, MAX_RECORD_BYTES, Record, Signatory, Version, kind, peek};
use crate::store::{Full, MAX_KINDS_PER_OWNER, certificates_first};

/// Received records that may wait for verification; more are verified at once.
pub(crate) const MAX_PENDING: usize = 8_192;

/// Received records that wait to be verified.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// By record, certificates first: of each sender the newest version.
    records: BTreeMap<(u16, NodeId, u16), Candidates>,
    count: usize,
    /// When the first of them came.
    since: Option<Time>,
}

/// What several senders claim to be one record. Nearly always it is just one that claims anything.
#[derive(Debug)]
struct Candidates {
    first: Candidate,
    others: Vec<Candidate>,
}

impl Candidates {
    /// Adds what a sender claims, or replaces what it claimed before. Says whether there is one
    /// more now.
    fn add(&mut self, new: Candidate) -> bool {
        let Self { first, others } = self;
        let mut known = core::iter::once(&mut *first).chain(&mut *others);
        match known.find(|old| old.from == new.from) {
            Some(old) if old.version < new.version => *old = new.copied(),
            Some(_) => {}
            None => {
                let same = core::iter::once(&*first).chain(&*others).find(|old| old.raw == new.raw);
                let new = match same {
                    Some(same) => Candidate { raw: same.raw.clone(), ..new },
                    None => new.copied(),
                };
                others.push(new);
                return true;
            }
        }
        false
    }

    /// All of them, the newest first: once that verifies, the others are superfluous.
    fn newest_first(self) -> impl Iterator<Item = Candidate> {
        let Self { first, mut others } = self;
        others.sort_by_key(|candidate| core::cmp::Reverse(candidate.version));
        let newer = others.partition_point(|other| other.version > first.version);
        let older = others.split_off(newer);
        others.into_iter().chain(core::iter::once(first)).chain(older)
    }
}

#[derive(Debug)]
struct Candidate {
    from: NodeId,
    version: Version,
    raw: Bytes,
    last_heard: Time,
}

impl Candidate {
    /// With a copy of its bytes, or each record that is kept would keep the whole frame it came in.
    fn copied(self) -> Self {
        Self { raw: Bytes::copy_from_slice(&self.raw), ..self }
    }
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// When the first of what waits came.
    pub(crate) fn since(&self) -> Option<Time> {
        self.since
    }

    /// Sets a record aside. What a sender invents displaces only what it sent itself.
    fn add(&mut self, now: Time, owner: NodeId, kind: u16, new: Candidate) {
        self.since.get_or_insert(now);
        self.count +=
            usize::from(match self.records.entry((certificates_first(kind), owner, kind)) {
                Place::Occupied(mut waiting) => waiting.get_mut().add(new),
                Place::Vacant(place) => {
                    place.insert(Candidates { first: new.copied(), others: Vec::new() });
                    true
                }
            });
    }
}

impl Records {
    /// Puts received entries aside for the next batch, newest version per sender.
    pub(crate) fn receive(
        &mut self,
        now: Time,
        from: NodeId,
        entries: Vec<Entry>,
        out: &mut Outbox<Output>,
    ) {
        for Entry { age_ms, raw } in entries {
            self.statistics.received += 1;
            let age = Duration::from_millis(age_ms);
            let front = peek(&raw).filter(|_| raw.len() <= MAX_RECORD_BYTES);
            let Some((owner, kind, version)) = front else {
                self.reject(from, Rejection::Malformed, out);
                continue;
            };
            if age > self.config.purge_after {
                self.reject(from, Rejection::Purged, out);
                continue;
            }
            if self.is_known(from, owner, kind, version, now - age) {
                continue;
            }
            let candidate = Candidate { from, version, raw, last_heard: now - age };
            self.pending.add(now, owner, kind, candidate);
            if self.pending.len() >= MAX_PENDING {
                self.process_batch(now, out);
            }
        }
        self.flush_if_due(now, out);
    }

    /// Whether a record that came is known, in this version or a newer one. Then its age counts all
    /// the same: the minimum wins. And whoever sent the version that is about to be sent to it has
    /// it.
    fn is_known(
        &mut self,
        from: NodeId,
        owner: NodeId,
        kind: u16,
        version: Version,
        last_heard: Time,
    ) -> bool {
        let Some(state) = self.store.owners.get_mut(&owner) else {
            return false;
        };
        let Some(known) = state.version(kind) else {
            return false;
        };
        if known < version {
            return false;
        }
        state.last_heard = state.last_heard.max(last_heard);
        self.statistics.duplicates += 1;
        if known == version
            && let Some(peer) = self.peers.get_mut(&from)
        {
            peer.has(owner, kind);
        }
        true
    }

    pub(crate) fn flush_if_due(&mut self, now: Time, out: &mut Outbox<Output>) {
        if now >= self.batch_due() {
            self.process_batch(now, out);
        }
    }

    pub(crate) fn process_batch(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.pending.is_empty() && !self.has_news {
            return;
        }
        let before = self.statistics.accepted;
        self.verify_pending(now, out);
        self.last_batch = Some(now);
        self.last_kept = u32::try_from(self.statistics.accepted - before).unwrap_or(u32::MAX);
        self.send_news(now, out);
    }

    /// Verifies and keeps what was set aside.
    pub(crate) fn verify_pending(&mut self, now: Time, out: &mut Outbox<Output>) {
        let pending = core::mem::take(&mut self.pending);
        for ((_, owner, kind), candidates) in pending.records {
            for Candidate { from, version, raw, last_heard } in candidates.newest_first() {
                if self.is_known(from, owner, kind, version, last_heard) {
                    continue;
                }
                match Record::parse(raw) {
                    Ok(record) => self.verify_and_keep(now, from, &record, last_heard, out),
                    Err(_) => self.reject(from, Rejection::Malformed, out),
                }
            }
        }
    }

    fn verify_and_keep(
        &mut self,
        now: Time,
        from: NodeId,
        record: &Record,
        last_heard: Time,
        out: &mut Outbox<Output>,
    ) {
        let signatory = match self.verify(record) {
            Ok(signatory) => signatory,
            Err(reason) => return self.reject(from, reason, out),
        };
        if record.content.owner == self.me {
            return self.foreign_self(now, record, out);
        }
        match self.store.insert(record, signatory, last_heard) {
            Ok(()) => {
                self.statistics.accepted += 1;
                self.keep(Some(from), record, out);
            }
            Err(Full::Owners) => self.reject(from, Rejection::TooManyOwners, out),
            Err(Full::Kinds) => self.reject(from, Rejection::TooManyKinds, out),
        }
    }

    /// A record of ours that this life did not make. What an earlier life said and this one does
    /// not is taken back, or it would be repaired to and fro for ever.
    fn foreign_self(&mut self, now: Time, record: &Record, out: &mut Outbox<Output>) {
        let Content { kind, version, .. } = record.content;
        if self.own.incarnation.is_some_and(|ours| ours > version.incarnation) {
            if !self.own.facts.contains_key(&kind) && self.own.facts.len() < MAX_KINDS_PER_OWNER {
                self.own.facts.insert(kind, (record.content.schema, None));
                self.publish_fact(now, kind, out);
            }
        } else {
            let body = record.content.body.clone();
            out.push(Output::ForeignSelf { incarnation: version.incarnation, kind, body });
        }
    }

    pub(crate) fn verify(&mut self, record: &Record) -> Result<Option<Signatory>, Rejection> {
        let content = &record.content;
        let is_certificate = content.kind == kind::CERTIFICATE;
        let signatory = if is_certificate {
            self.certified(record).ok_or(Rejection::Certificate)?
        } else {
            self.store
                .signatory(content.owner, &content.signer)
                .ok_or(Rejection::UnknownCertificate)?
        };
        self.statistics.verified += 1;
        if record.verify(&signatory, &*self.verifier) {
            Ok(Some(signatory).filter(|_| is_certificate))
        } else {
            Err(Rejection::Signature)
        }
    }

    /// Whom a certificate record names, when it is its owner and the hash is right. A certificate
    /// that was verified once is remembered by its hash.
    fn certified(&mut self, record: &Record) -> Option<Signatory> {
        let content = &record.content;
        if content.retracted {
            return None;
        }
        if let Some(known) = self.store.signatory(content.owner, &content.signer) {
            return Some(known);
        }
        if Digest::of(&content.body) != content.signer {
            return None;
        }
        self.statistics.verified += 1;
        self.statistics.certificates += 1;
        let named = self.verifier.certificate(&content.body);
        named.filter(|signatory| signatory.node == content.owner)
    }

    pub(crate) fn reject(&mut self, from: NodeId, reason: Rejection, out: &mut Outbox<Output>) {
        *self.statistics.rejected.entry(reason).or_default() += 1;
        out.push(Output::Reject { from, reason });
    }
}
