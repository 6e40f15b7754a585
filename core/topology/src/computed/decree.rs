//! A topology as bytes on the wire (FLOOD-27).
//!
//! A *decree* is small enough for a record: which group, which stamp, a digest of the members, and
//! the body or its digest. The *body* is the members and the edges. Of up to about 160 sites it
//! stands in the decree itself; a larger one travels by itself, addressed by its digest, so that it
//! is pulled once and from the nearest who has it, while whoever only compares reads the decree.
//!
//! ```text
//! body:   version (1 byte) · number of members · members (16 bytes each, ascending)
//!         · for each member: number of neighbours after it, then each as a gap
//! ```
//!
//! Numbers are variable: seven bits a byte, the lowest first, the eighth says that more follow. A
//! gap is the distance from the neighbour before, or from the member itself, less one. So an edge
//! takes two bytes, and 5,000 members with three links each take 97 KiB, of which 80 are
//! identities: a node must be able to use a topology whose members it does not know all of yet.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use skep_base::{Digest, GroupName, NodeId};
use skep_wire::Malformed;

use super::problem::MAX_SITES;
use super::topology::Topology;
use crate::connectivity::index;

/// The body's first byte.
const VERSION: u8 = 1;
/// Longest body: 10,000 members with 64 links each.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// Longest body that stands in the decree: with group, digests and a signature it stays below the
/// 4 KiB of a record.
pub const MAX_INLINE_BYTES: usize = 3 << 10;
/// Edges of a body, for each of its members.
const MAX_EDGES_PER_MEMBER: usize = 32;
/// Nobody asks for more disjoint paths than that.
pub const MAX_CONNECTIVITY: u8 = 32;

/// Which of two decrees is the newer: the greater epoch. Equal epochs of two forks are told apart
/// and neither replaces the other.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp {
    /// Grows with each decree.
    pub epoch: u64,
    /// Tells apart what two masters decreed at one time without knowing of each other.
    pub fork: u64,
}

/// What the record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decree {
    /// Of which group.
    pub group: GroupName,
    /// How new.
    pub stamp: Stamp,
    /// The connectivity it was made for.
    pub k: u8,
    /// The digest of the list of members: who sees others present uses the hash overlay.
    pub members: Digest,
    /// The topology itself.
    pub body: Body,
}

/// Where the topology is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Here.
    Here(Vec<u8>),
    /// To be asked for by its digest.
    Apart {
        /// Of the bytes.
        digest: Digest,
        /// How many.
        length: u32,
    },
}

/// Why bytes are no decree, or no body of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecreeError {
    /// Not even the right form.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A body of a version that is not known here.
    #[error("the topology is of version {0}, which this build does not know: upgrade it")]
    Version(u8),
    /// Bounds, order or lengths are not kept.
    #[error("the topology's body is not well formed: {0}")]
    Body(&'static str),
    /// The bytes are not those that the decree names.
    #[error("the topology's body has another digest, length or list of members than its decree")]
    OtherBody,
}

impl Decree {
    /// The decree of `topology`, and the body that must travel by itself, if it must.
    #[must_use]
    pub fn new(group: GroupName, stamp: Stamp, topology: &Topology) -> (Self, Option<Vec<u8>>) {
        let bytes = encode(topology);
        let members = topology.member_digest();
        let k = u8::try_from(topology.connectivity()).unwrap_or(MAX_CONNECTIVITY);
        let k = k.min(MAX_CONNECTIVITY);
        if bytes.len() <= MAX_INLINE_BYTES {
            return (Self { group, stamp, k, members, body: Body::Here(bytes) }, None);
        }
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let body = Body::Apart { digest: Digest::of(&bytes), length };
        (Self { group, stamp, k, members, body }, Some(bytes))
    }

    /// The record's body.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        skep_wire::encode(self)
    }

    /// The decree in a record's body.
    ///
    /// # Errors
    /// [`DecreeError`] when it is none, or breaks a bound.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecreeError> {
        let decree: Self = skep_wire::decode("topology decree", bytes)?;
        let length = match &decree.body {
            Body::Here(bytes) if bytes.len() > MAX_INLINE_BYTES => MAX_BODY_BYTES + 1,
            Body::Here(bytes) => bytes.len(),
            Body::Apart { length, .. } => usize::try_from(*length).unwrap_or(usize::MAX),
        };
        if length > MAX_BODY_BYTES {
            return Err(DecreeError::Body("longer than a body may be"));
        }
        if decree.k > MAX_CONNECTIVITY {
            return Err(DecreeError::Body("a connectivity beyond all use"));
        }
        Ok(decree)
    }

    /// The topology: from the decree itself, or from the body that came by itself.
    ///
    /// # Errors
    /// [`DecreeError`] when there is no body, or not the one that the decree names.
    pub fn topology(&self, apart: Option<&[u8]>) -> Result<Topology, DecreeError> {
        let bytes = match (&self.body, apart) {
            (Body::Here(bytes), _) => bytes.as_slice(),
            (Body::Apart { digest, length }, Some(bytes)) => {
                if usize::try_from(*length) != Ok(bytes.len()) || Digest::of(bytes) != *digest {
                    return Err(DecreeError::OtherBody);
                }
                bytes
            }
            (Body::Apart { .. }, None) => return Err(DecreeError::OtherBody),
        };
        let topology = decode(bytes, self.k)?;
        if topology.member_digest() != self.members {
            return Err(DecreeError::OtherBody);
        }
        Ok(topology)
    }
}

fn encode(topology: &Topology) -> Vec<u8> {
    let members = topology.members();
    let room = 8 + members.len() * (NodeId::LEN + 1) + topology.edges().len() * 2;
    let mut bytes = Vec::with_capacity(room);
    bytes.push(VERSION);
    put(&mut bytes, index(members.len()));
    members.iter().for_each(|id| bytes.extend_from_slice(id.as_bytes()));
    let mut edges = topology.edges();
    for from in 0..index(members.len()) {
        let (own, rest) = edges.split_at(edges.partition_point(|(a, _)| *a <= from));
        put(&mut bytes, index(own.len()));
        let mut last = from;
        for (_, to) in own {
            put(&mut bytes, to - last - 1);
            last = *to;
        }
        edges = rest;
    }
    bytes
}

fn decode(bytes: &[u8], k: u8) -> Result<Topology, DecreeError> {
    const SHORT: DecreeError = DecreeError::Body("it ends too early");
    if bytes.len() > MAX_BODY_BYTES {
        return Err(DecreeError::Body("longer than a body may be"));
    }
    let (version, mut rest) = bytes.split_first().ok_or(SHORT)?;
    if *version != VERSION {
        return Err(DecreeError::Version(*version));
    }
    let n = take(&mut rest)?;
    // Checked against what is there before anything is kept.
    let (ids, mut rest) = rest.split_at_checked(n as usize * NodeId::LEN).ok_or(SHORT)?;
    if n as usize > MAX_SITES {
        return Err(DecreeError::Body("more members than a topology may have"));
    }
    let (ids, _) = ids.as_chunks();
    let members: Vec<NodeId> = ids.iter().map(|id| NodeId::from_bytes(*id)).collect();
    if !members.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err(DecreeError::Body("members out of order"));
    }
    let mut edges = Vec::new();
    for from in 0..n {
        let mut last = from;
        for _ in 0..take(&mut rest)? {
            let to = last.checked_add(take(&mut rest)?).and_then(|to| to.checked_add(1));
            last = to.filter(|to| *to < n).ok_or(DecreeError::Body("an edge to nobody"))?;
            if edges.len() == MAX_EDGES_PER_MEMBER * members.len() {
                return Err(DecreeError::Body("more edges than a topology may have"));
            }
            edges.push((from, last));
        }
    }
    if !rest.is_empty() {
        return Err(DecreeError::Body("bytes are left over"));
    }
    Ok(Topology::new(members, usize::from(k), &edges))
}

fn put(bytes: &mut Vec<u8>, mut number: u32) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0x7f);
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn take(bytes: &mut &[u8]) -> Result<u32, DecreeError> {
    let mut number = 0_u32;
    for shift in [0, 7, 14, 21] {
        let (byte, rest) = bytes.split_first().ok_or(DecreeError::Body("it ends too early"))?;
        *bytes = rest;
        number |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            // One number, one spelling: the digest of a body is its name.
            let padded = *byte == 0 && shift > 0;
            return if padded { Err(DecreeError::Body("a padded number")) } else { Ok(number) };
        }
    }
    Err(DecreeError::Body("a number beyond all use"))
}
