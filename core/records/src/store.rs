//! The records that a node holds, and the sums by which two nodes find out where they differ.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{ById, Digest, NodeId, Time};

use crate::{Item, Record, Signatory, Version, kind};

/// Owners a node keeps records of: the 10,000 nodes of a large bloc and room for those that left.
pub const MAX_OWNERS: usize = 16_384;
/// Kinds one owner may have, known here or not.
pub const MAX_KINDS_PER_OWNER: usize = 32;
/// Buckets that owners are spread over by their identity.
pub(crate) const BUCKETS: usize = 1024;
/// Certificates remembered of one owner: today's, and the one before it while records signed with
/// it are still on their way.
const CERTIFICATES_PER_OWNER: usize = 2;

/// A record in the store.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Newest wins.
    pub version: Version,
    /// How the body is laid out.
    pub schema: u16,
    /// The owner took it back.
    pub retracted: bool,
    /// The fact.
    pub body: Bytes,
    /// The record's bytes.
    pub raw: Bytes,
    sum: u64,
}

#[derive(Debug)]
pub(crate) struct Owner {
    /// The kinds of its records, in order. There are few, and what a thousand owners take counts.
    /// Which version is held is asked for each record that comes, so that is kept together.
    held: Vec<(u16, Version)>,
    /// The records, in the same order.
    records: Vec<Stored>,
    certificates: Vec<(Digest, Signatory)>,
    /// When a present watcher last heard the owner, by this node's clock; now, while `present`.
    pub(crate) last_heard: Time,
    pub(crate) present: bool,
}

impl Owner {
    fn new(last_heard: Time) -> Self {
        // Of a living node there are these three at least, and one certificate.
        let (held, records) = (Vec::with_capacity(3), Vec::with_capacity(3));
        Self { held, records, certificates: Vec::with_capacity(1), last_heard, present: false }
    }

    pub(crate) fn get(&self, kind: u16) -> Option<&Stored> {
        self.records.get(self.place(kind).ok()?)
    }

    /// Which version of a record is held.
    pub(crate) fn version(&self, kind: u16) -> Option<Version> {
        let (_, version) = self.held.iter().find(|(known, _)| *known == kind)?;
        Some(*version)
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = (u16, &Stored)> + '_ {
        self.held.iter().zip(&self.records).map(|((kind, _), stored)| (*kind, stored))
    }

    fn place(&self, kind: u16) -> Result<usize, usize> {
        self.held.binary_search_by_key(&kind, |(known, _)| *known)
    }

    /// Keeps a record. Returns the sum of the one whose place it takes.
    fn put(&mut self, kind: u16, stored: Stored) -> Option<u64> {
        let held = (kind, stored.version);
        match self.place(kind) {
            Ok(at) => {
                self.held[at] = held;
                Some(core::mem::replace(&mut self.records[at], stored).sum)
            }
            Err(at) => {
                self.held.insert(at, held);
                self.records.insert(at, stored);
                None
            }
        }
    }
}

/// Why a record was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Owners,
    Kinds,
}

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) owners: ById<Owner>,
    buckets: Vec<u64>,
    root: u64,
    count: u32,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self { owners: ById::new(), buckets: vec![0; BUCKETS], root: 0, count: 0 }
    }

    pub(crate) fn root(&self) -> (u64, u32) {
        (self.root, self.count)
    }

    pub(crate) fn get(&self, owner: NodeId, kind: u16) -> Option<&Stored> {
        self.owners.get(&owner)?.get(kind)
    }

    pub(crate) fn version(&self, owner: NodeId, kind: u16) -> Option<Version> {
        self.owners.get(&owner)?.version(kind)
    }

    /// Whom the certificate with this hash names, if the store knows it.
    pub(crate) fn signatory(&self, owner: NodeId, certificate: &Digest) -> Option<Signatory> {
        let known = &self.owners.get(&owner)?.certificates;
        known.iter().find(|(hash, _)| hash == certificate).map(|(_, signatory)| *signatory)
    }

    /// Keeps a verified record that is newer than what was there. `signatory` comes with records
    /// of kind [`kind::CERTIFICATE`].
    pub(crate) fn insert(
        &mut self,
        record: &Record,
        signatory: Option<Signatory>,
        last_heard: Time,
    ) -> Result<(), Full> {
        let content = &record.content;
        if self.owners.len() >= MAX_OWNERS && self.owners.get(&content.owner).is_none() {
            return Err(Full::Owners);
        }
        let owner = self.owners.get_or_insert_with(content.owner, || Owner::new(last_heard));
        if owner.records.len() >= MAX_KINDS_PER_OWNER && owner.place(content.kind).is_err() {
            return Err(Full::Kinds);
        }
        owner.last_heard = owner.last_heard.max(last_heard);
        if let Some(signatory) = signatory {
            owner.certificates.retain(|(hash, _)| *hash != content.signer);
            owner.certificates.truncate(CERTIFICATES_PER_OWNER - 1);
            owner.certificates.insert(0, (content.signer, signatory));
        }
        let sum = Digest::of(record.raw()).short();
        let stored = Stored {
            version: content.version,
            schema: content.schema,
            retracted: content.retracted,
            body: content.body.clone(),
            raw: record.raw().clone(),
            sum,
        };
        let old = owner.put(content.kind, stored);
        self.count(content.owner, old, Some(sum));
        Ok(())
    }

    /// Forgets every record of `owner` and says which kinds there were.
    pub(crate) fn remove(&mut self, owner: NodeId) -> Vec<u16> {
        let Some(gone) = self.owners.remove(&owner) else {
            return Vec::new();
        };
        for stored in &gone.records {
            self.count(owner, Some(stored.sum), None);
        }
        gone.held.into_iter().map(|(kind, _)| kind).collect()
    }

    fn count(&mut self, owner: NodeId, old: Option<u64>, new: Option<u64>) {
        let change = new.unwrap_or(0).wrapping_sub(old.unwrap_or(0));
        let bucket = &mut self.buckets[usize::from(bucket_of(owner))];
        *bucket = bucket.wrapping_add(change);
        self.root = self.root.wrapping_add(change);
        self.count += u32::from(new.is_some());
        self.count -= u32::from(old.is_some());
    }

    /// How long ago a present watcher last heard `owner`.
    pub(crate) fn age(&self, owner: NodeId, now: Time) -> Duration {
        match self.owners.get(&owner) {
            Some(owner) if owner.present => Duration::ZERO,
            Some(owner) => now.since(owner.last_heard),
            None => Duration::ZERO,
        }
    }

    /// The buckets that hold anything, with their sums.
    pub(crate) fn filled_buckets(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        (0_u16..).zip(&self.buckets).filter(|(_, sum)| **sum != 0).map(|(at, sum)| (at, *sum))
    }

    /// The sum of one bucket, 0 for a number that no bucket has.
    pub(crate) fn bucket(&self, at: u16) -> u64 {
        self.buckets.get(usize::from(at)).copied().unwrap_or(0)
    }

    /// What is held in one bucket, certificates first within each owner.
    pub(crate) fn items_in(&self, bucket: u16) -> impl Iterator<Item = Item> + '_ {
        let (first, last) = owners_of(bucket);
        self.owners.between(first, last).flat_map(|(id, owner)| {
            owner.held.iter().map(|(kind, version)| Item {
                owner: *id,
                kind: *kind,
                version: *version,
            })
        })
    }

    /// The sums, computed again from the records: what the kept ones must equal.
    pub(crate) fn check(&self) {
        let mut buckets = vec![0_u64; BUCKETS];
        let (mut root, mut count) = (0_u64, 0_u32);
        self.owners.check();
        for (id, owner) in self.owners.iter() {
            assert!(owner.records.len() <= MAX_KINDS_PER_OWNER, "too many kinds of {id:?}");
            assert!(owner.held.is_sorted_by_key(|(kind, _)| *kind), "kinds of {id:?} in disorder");
            let versions = owner.records.iter().map(|stored| stored.version);
            assert!(
                owner.held.iter().map(|(_, version)| *version).eq(versions),
                "another version of {id:?} is held than is said"
            );
            for stored in &owner.records {
                let bucket = &mut buckets[usize::from(bucket_of(*id))];
                *bucket = bucket.wrapping_add(stored.sum);
                root = root.wrapping_add(stored.sum);
                count += 1;
            }
        }
        assert!(self.owners.len() <= MAX_OWNERS, "too many owners");
        assert_eq!(
            (root, count),
            (self.root, self.count),
            "the root is not the sum of the records"
        );
        assert_eq!(buckets, self.buckets, "a bucket is not the sum of its records");
    }
}

/// Certificates first, so that each precedes what it signed.
pub(crate) fn certificates_first(kind: u16) -> u16 {
    if kind == kind::CERTIFICATE { 0 } else { kind.max(1) }
}

/// The bucket of an owner: the first ten bits of its identity, which is itself a digest.
pub(crate) fn bucket_of(owner: NodeId) -> u16 {
    let bytes = owner.as_bytes();
    u16::from_be_bytes([bytes[0], bytes[1]]) >> 6
}

fn owners_of(bucket: u16) -> (NodeId, NodeId) {
    let (mut first, mut last) = ([0x00; NodeId::LEN], [0xFF; NodeId::LEN]);
    first[..2].copy_from_slice(&(bucket << 6).to_be_bytes());
    last[..2].copy_from_slice(&((bucket << 6) | 0x3F).to_be_bytes());
    (NodeId::from_bytes(first), NodeId::from_bytes(last))
}
