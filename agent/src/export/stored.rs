//! Long bodies for a command: read from the log's files while it takes them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use skep_control::api::Body;
use skep_runner::{Input, Portions};

use super::layout::{Entry, EntryBody};
use crate::disk::BodyReader;

/// Bytes that are read at once. A multiple of three, so that the portions in base64 make the whole
/// in base64.
const PORTION_BYTES: u64 = 192 * 1024;

/// What is made of a body for a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Its bytes.
    AsItIs,
    /// As JSON can hold them.
    Base64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stored {
    file: Arc<File>,
    length: u64,
    encoding: Encoding,
}

impl Stored {
    /// The first `length` bytes of a file.
    pub(super) fn input(file: &Arc<File>, length: u64, encoding: Encoding) -> Input {
        Input::Portions(Arc::new(Self { file: Arc::clone(file), length, encoding }))
    }
}

impl Portions for Stored {
    fn portion(&self, number: u64) -> io::Result<Option<Bytes>> {
        let from = number.saturating_mul(PORTION_BYTES);
        let rest = self.length.saturating_sub(from).min(PORTION_BYTES);
        if rest == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(rest).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, from)?;
        Ok(Some(match self.encoding {
            Encoding::AsItIs => bytes.into(),
            Encoding::Base64 => Body(bytes).to_string().into(),
        }))
    }
}

/// Opens what of a batch is in the log's files. What is there no more is told as a gap; says how
/// many that were.
pub(super) async fn open(batch: Vec<Entry>, bodies: &BodyReader) -> (Vec<Entry>, u64) {
    let (mut opened, mut gone) = (Vec::with_capacity(batch.len()), 0);
    for entry in batch {
        opened.push(match entry {
            Entry::Update {
                id,
                age,
                late,
                trail,
                body: EntryBody::Stored { position, length },
            } => match bodies.open_file(position).await {
                Some(file) => {
                    let body = EntryBody::File(Arc::new(file), length);
                    Entry::Update { id, age, late, trail, body }
                }
                None => {
                    gone += 1;
                    let why = "this node dropped it for lack of room before it was exported";
                    Entry::Gap { after: None, up_to: id, why: why.to_owned() }
                }
            },
            Entry::Update { .. } | Entry::Gap { .. } => entry,
        });
    }
    (opened, gone)
}
