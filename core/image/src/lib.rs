//! What an image is: chunks, the manifest that names them, the queen's seal on it, and the pieces a
//! wave moves (DLIF-7, DLIF-16 to DLIF-24, MULTI-7).
//!
//! An image is a tree or a single file as the queen had it at one moment. Contents are cut into
//! [chunks](chunk) where the bytes themselves say so, so that a change in the middle of a file
//! moves one or two chunks and no more: only differences travel. The [`Manifest`] lists every entry
//! with all its metadata and the chunks of its contents; it is a sequence of bytes with one
//! spelling, and its digest *is* the version's identity. Manifests may be large, so they are cut
//! into chunks and fetched like any other content; what travels in one message is the [`Seal`],
//! which holds the digest, the list of the manifest's own chunks, and the queen's signature over
//! both.
//!
//! ```text
//!   wave order ── ManifestDigest ──▶ Seal (one message, signed)
//!                                      │ chunks of the manifest
//!                                      ▼
//!                                   Manifest ── entries ── chunks ──▶ Pieces (what peers exchange)
//! ```
//!
//! Everything here may come from a hostile peer. A manifest is accepted whole or refused whole:
//! [`Manifest::decode`] names the first rule that is broken, and afterwards a [`Manifest`] *is*
//! valid: sorted, without duplicates, every parent a directory that came before, no path that could
//! leave the tree. Nothing later checks again.

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

pub mod changes;
pub mod chunk;
mod codec;
mod digester;
pub mod entry;
pub mod limits;
pub mod manifest;
pub mod path;
pub mod pieces;
pub mod seal;

pub use changes::{Change, Changes};
pub use chunk::{CHUNK_AVERAGE, CHUNK_MAX, CHUNK_MIN, ChunkRef, Chunker, Emit, chunks_of};
pub use digester::Digester;
pub use entry::{Contents, Entry, EntryError, Hole, Kind, Metadata, Node, Timestamp, Xattr};
pub use manifest::{Header, ImageKind, Manifest, ManifestDigest, ManifestError, Totals};
pub use path::{PathError, TreePath};
pub use pieces::Pieces;
pub use seal::{JudgeSigner, Refused, Seal, SealError, Signer};
