//! One record: its content, its signature, and the bytes that carry both for ever.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::{Digest, Incarnation, NodeId};
use skep_wire::{Malformed, decode, decode_front, encode};

/// Longest body of a record. What needs more is an update or an image, not a record.
pub const MAX_BODY_BYTES: usize = 4096;
/// Longest record as it travels: the body with its header and signature.
pub const MAX_RECORD_BYTES: usize = MAX_BODY_BYTES + 256;

/// What precedes the content under the signature, so that a signature made for a record is good for
/// nothing else.
const SIGNATURE_CONTEXT: &[u8] = b"skep record 1\0";

/// The numbers of the record kinds of this release. Others are kept and relayed unread.
pub mod kind {
    /// The owner's certificate in DER. Signed with the key it certifies.
    pub const CERTIFICATE: u16 = 1;
    /// Who the node is and where it listens: `skep-membership`.
    pub const NODE: u16 = 2;
    /// Whom the node hears: `skep-membership`.
    pub const WATCH: u16 = 3;
    /// The node serves the bloc's CA: the CA's fingerprint.
    pub const AUTHORITY: u16 = 4;
    /// What the node measured of others, and where it is: `skep-estimates`.
    pub const ESTIMATES: u16 = 5;
    /// Whom no link can join with the node, and how far they are over others: `skep-estimates`.
    pub const WAYS: u16 = 6;
    /// What the node says of the managers of its flock: `skep-managers`.
    pub const MANAGERS: u16 = 7;
    /// Where the node serves clients: `skep-lines`.
    pub const CLIENT_PORTS: u16 = 8;
    /// What the catalog is, signed by the master: `skep-catalog`.
    pub const CATALOG: u16 = 9;
    /// What the node may become among the managers, where that is not what every node may:
    /// `skep-node`.
    pub const ELIGIBILITY: u16 = 10;
    /// What operators ordered at the node lately, and what came of it: the agent.
    pub const ORDERS: u16 = 11;
    /// What happened to the flock while the node was its master: `skep-notices`.
    pub const FLOCK_EVENTS: u16 = 12;
    /// A wave that the queen orders: `skep-wave`.
    pub const WAVE_ORDER: u16 = 16;
    /// How far the node is with its waves, and which it applied last: `skep-wave`.
    pub const WAVE_STATUS: u16 = 17;
    /// The first of sixteen slots for topologies that the node decrees: `skep-topology`.
    pub const TOPOLOGY: u16 = 32;
}

/// Which version of a record this is: newest wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// The owner's life.
    pub incarnation: Incarnation,
    /// Counted over all records of one life.
    pub sequence: u64,
}

/// What the owner signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Content {
    /// Whose fact this is.
    pub owner: NodeId,
    /// What it is about: one of [`kind`], or something newer.
    pub kind: u16,
    /// How the body is laid out, within its kind.
    pub schema: u16,
    /// Newest wins.
    pub version: Version,
    /// BLAKE3 of the certificate whose key signed this.
    pub signer: Digest,
    /// The owner takes the fact back. The record stays, without a body, until it is forgotten.
    pub retracted: bool,
    /// The fact, opaque here. Of a record that was read it is a part of the record's own bytes.
    pub body: Bytes,
}

/// A record, decoded, with the bytes it came as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What the owner signed.
    pub content: Content,
    raw: Bytes,
    /// The content's bytes, a part of `raw`.
    signed: Bytes,
    signature: [u8; 64],
}

/// A record as it travels, read where it lies: the content's bytes, then the signature's.
type Envelope<'a> = (&'a serde_bytes::Bytes, &'a serde_bytes::Bytes);

/// [`Content`], read where it lies: the same fields in the same order.
#[derive(Deserialize)]
struct ContentFields<'a> {
    owner: NodeId,
    kind: u16,
    schema: u16,
    version: Version,
    signer: Digest,
    retracted: bool,
    #[serde(borrow)]
    body: &'a serde_bytes::Bytes,
}

impl Content {
    fn read(bytes: &Bytes) -> Result<Self, Malformed> {
        let fields: ContentFields<'_> = decode("record content", bytes)?;
        let ContentFields { owner, kind, schema, version, signer, retracted, body } = fields;
        let body = bytes.slice_ref(body);
        Ok(Self { owner, kind, schema, version, signer, retracted, body })
    }
}

/// What the content begins with.
#[derive(Deserialize)]
struct Front {
    owner: NodeId,
    kind: u16,
    _schema: u16,
    version: Version,
}

/// Which version of which record these bytes claim to be: most of what comes over several links is
/// known already, and need not be decoded to see that.
pub(crate) fn peek(raw: &[u8]) -> Option<(NodeId, u16, Version)> {
    let content: &serde_bytes::Bytes = decode_front("record", raw).ok()?;
    let front: Front = decode_front("record content", content).ok()?;
    Some((front.owner, front.kind, front.version))
}

impl Record {
    /// Signs `content` with the owner's key.
    #[must_use]
    pub fn sign(content: Content, signer: &dyn Signer) -> Self {
        let bytes = encode(&content);
        let signature = signer.sign(&in_context(&bytes));
        let envelope: Envelope<'_> =
            (serde_bytes::Bytes::new(&bytes), serde_bytes::Bytes::new(&signature));
        let raw = Bytes::from(encode(&envelope));
        Self { content, raw, signed: bytes.into(), signature }
    }

    /// Reads a record's bytes. The signature is not checked yet.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are over [`MAX_RECORD_BYTES`], are not a record, or when a
    /// retraction has a body.
    pub fn parse(raw: Bytes) -> Result<Self, Malformed> {
        let malformed = Malformed { what: "record" };
        if raw.len() > MAX_RECORD_BYTES {
            return Err(malformed);
        }
        let (signed, signature): Envelope<'_> = decode("record", &raw)?;
        let signed = raw.slice_ref(signed);
        let signature: [u8; 64] = signature.as_ref().try_into().map_err(|_| malformed)?;
        let content = Content::read(&signed)?;
        if content.body.len() > MAX_BODY_BYTES || (content.retracted && !content.body.is_empty()) {
            return Err(malformed);
        }
        Ok(Self { content, raw, signed, signature })
    }

    /// Whether the key of `signatory` signed this, for the node it belongs to.
    #[must_use]
    pub fn verify(&self, signatory: &Signatory, verifier: &dyn Verifier) -> bool {
        signatory.node == self.content.owner
            && verifier.verify(&signatory.key, &in_context(&self.signed), &self.signature)
    }

    /// The record's bytes, as the owner made them.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Newest wins.
    #[must_use]
    pub fn version(&self) -> Version {
        self.content.version
    }
}

fn in_context(content: &[u8]) -> Vec<u8> {
    let mut signed = Vec::with_capacity(SIGNATURE_CONTEXT.len() + content.len());
    signed.extend_from_slice(SIGNATURE_CONTEXT);
    signed.extend_from_slice(content);
    signed
}

/// Whom a certificate names, and the key it certifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signatory {
    /// The node that the certificate names.
    pub node: NodeId,
    /// Its Ed25519 public key.
    pub key: [u8; 32],
}

/// How certificates and signatures are judged. Injected: the agent uses the TLS provider's library,
/// the simulator remembers results for the whole process.
pub trait Verifier: Send + Sync {
    /// Whom the certificate names, if its chain ends at the bloc's CA. Today's date is not asked:
    /// retained facts are judged by their chain (architecture, section 2).
    fn certificate(&self, der: &[u8]) -> Option<Signatory>;

    /// The roles that a certificate of the bloc's CA gives its holder, as words.
    fn roles(&self, _der: &[u8]) -> BTreeSet<String> {
        BTreeSet::new()
    }

    /// The founding number of a founding token that the bloc's CA signed and that is not over.
    ///
    /// # Errors
    /// What is wrong with it, for whoever has it.
    fn founding(&self, _token: &[u8]) -> Result<u64, String> {
        Err("this node reads no founding tokens".into())
    }

    /// Whether `signature` over `message` was made with `key`.
    fn verify(&self, key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool;
}

/// The node's own key. Injected, and replaced when the certificate is renewed.
pub trait Signer: Send + Sync {
    /// The node's certificate in DER.
    fn certificate(&self) -> Bytes;

    /// Signs `message`.
    fn sign(&self, message: &[u8]) -> [u8; 64];
}
