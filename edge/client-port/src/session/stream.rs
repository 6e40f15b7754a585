//! A long body on its way to a client: read from its file a portion at a time, as the client takes
//! it, so that none is ever in memory as a whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use skep_lines::Update;
use tokio::task::{JoinHandle, spawn_blocking};

use super::push::Of;
use crate::backend::{Opening, StoredBody};

/// Bytes that are read at once; as many may wait for the client when they are.
pub(super) const PORTION_BYTES: usize = 128 * 1024;

/// See the module.
pub(super) struct Streaming {
    /// To which subscription it goes.
    pub(super) of: Of,
    /// Of which update, without its body.
    pub(super) update: Update,
    pub(super) length: u64,
    /// How much was read.
    at: u64,
    state: State,
}

enum State {
    Opening(Opening),
    Open(Arc<File>),
    Reading(Arc<File>, JoinHandle<io::Result<Bytes>>),
}

/// What came of the next step.
pub(super) enum Step {
    /// The body is there: its portions follow.
    Open,
    /// It is gone from the log.
    Gone,
    /// Some of it.
    Portion(Bytes),
}

impl Streaming {
    pub(super) fn new(of: Of, update: Update, body: StoredBody) -> Self {
        let StoredBody { length, open } = body;
        Self { of, update, length, at: 0, state: State::Opening(open) }
    }

    pub(super) const fn is_done(&self) -> bool {
        self.at >= self.length
    }

    /// Goes on. Can be left at any point.
    pub(super) async fn next(&mut self) -> io::Result<Step> {
        loop {
            match &mut self.state {
                State::Opening(open) => {
                    let Some(file) = open.await else {
                        return Ok(Step::Gone);
                    };
                    self.state = State::Open(Arc::new(file));
                    return Ok(Step::Open);
                }
                State::Open(file) => {
                    let (file, at) = (Arc::clone(file), self.at);
                    let rest = usize::try_from(self.length - at).unwrap_or(PORTION_BYTES);
                    let reader = Arc::clone(&file);
                    let read = spawn_blocking(move || {
                        let mut bytes = vec![0; rest.min(PORTION_BYTES)];
                        reader.read_exact_at(&mut bytes, at)?;
                        Ok(bytes.into())
                    });
                    self.state = State::Reading(file, read);
                }
                State::Reading(file, read) => {
                    let bytes = read.await.map_err(io::Error::other)??;
                    self.at += bytes.len() as u64;
                    self.state = State::Open(Arc::clone(file));
                    return Ok(Step::Portion(bytes));
                }
            }
        }
    }
}
