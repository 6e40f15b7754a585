//! Long bodies: what comes in of them is kept piece by piece, and what the log holds is opened for
//! those that read it part by part.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use skep_flood::{Body, Input, Kept, LogEntry, Output, Position, UpdateId};
use skep_store::bodies::Verdict;
use skep_store::log::{BodyFile, Source};
use tokio::sync::oneshot;

use super::{Job, MAKE_ROOM, Worker};

/// The way to the thread for those that read long bodies.
#[derive(Clone, Debug)]
pub struct BodyReader(std::sync::mpsc::Sender<Vec<Job>>);

impl BodyReader {
    pub(super) const fn new(jobs: std::sync::mpsc::Sender<Vec<Job>>) -> Self {
        Self(jobs)
    }

    /// Opens the body of a record of the log. Nothing where it is there no more.
    pub async fn open(&self, position: Position) -> Option<BodyFile> {
        let (tell, told) = oneshot::channel();
        self.0.send(vec![Job::Open(position, tell)]).ok()?;
        told.await.ok().flatten()
    }

    /// The same for those that take it from a file: what is handed over as stored is one, with the
    /// body at its beginning.
    pub async fn open_file(&self, position: Position) -> Option<File> {
        match self.open(position).await? {
            BodyFile::File { file, .. } => Some(file),
            BodyFile::Bytes(_) => None,
        }
    }
}

impl Worker {
    /// Does what the flood machine wants with a body that is pulled, and tells it what came of it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else is about bodies")]
    pub(super) fn body(&mut self, output: Output) {
        let answer = match output {
            Output::BodyOpen { id, length, digest } => {
                let begun = self.incoming.begin(&name(id), length, digest);
                let missing = self.incoming_worked(begun);
                let missing = missing.map(|begun| (begun.leaves, begun.missing));
                Input::BodyOpened { id, missing }
            }
            Output::BodyLeaves { id, leaves } => {
                let verdict = self.incoming.leaves(&name(id), &leaves);
                Input::LeavesKept { id, kept: kept(self.incoming_worked(verdict)) }
            }
            Output::BodyPiece { id, piece, bytes } => {
                let verdict = self.incoming.piece(&name(id), piece, &bytes);
                Input::PieceKept { id, piece, kept: kept(self.incoming_worked(verdict)) }
            }
            Output::BodyDrop { id } => return self.forget_body(id),
            _ => return,
        };
        self.tell(answer);
    }

    fn incoming_worked<T>(&mut self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if !std::mem::replace(&mut self.broken, true) {
                    let message = format!("cannot keep a large update that comes in: {error}");
                    self.failed(&message, MAKE_ROOM);
                }
                None
            }
        }
    }

    pub(super) fn open_body(
        &mut self,
        position: Position,
        tell: oneshot::Sender<Option<BodyFile>>,
    ) {
        let body = self.log.body(position.0).unwrap_or_else(|error| {
            self.log_failed(&error);
            None
        });
        if tell.send(body).is_err() {
            tracing::debug!("nobody waits for a body any more");
        }
    }

    pub(super) fn forget_body(&mut self, id: UpdateId) {
        if let Err(error) = self.incoming.remove(&name(id)) {
            tracing::warn!(%id, %error, "what came of a large update could not be removed");
        }
    }

    /// The file that holds the body of an entry, where one does.
    pub(super) fn file_of(&mut self, entry: &LogEntry) -> io::Result<Option<PathBuf>> {
        match (&entry.body, fetched(entry)) {
            (Body::Spooled(spool), _) => Ok(Some(self.spools.path(spool.0))),
            (Body::Fetched, Some(id)) => self.incoming.finish(&name(id)).map(Some),
            (Body::Fetched | Body::Here(_), _) => Ok(None),
        }
    }
}

/// The update of an entry whose body was pulled.
pub(super) fn fetched(entry: &LogEntry) -> Option<UpdateId> {
    let head = entry.head.update().filter(|_| entry.body == Body::Fetched)?;
    Some(head.header.id)
}

/// The body of an entry, as the log takes it.
pub(super) fn source<'a>(entry: &'a LogEntry, file: Option<&'a Path>) -> Source<'a> {
    let header = entry.head.update().map(|head| &head.header);
    match (&entry.body, file, header) {
        (Body::Here(bytes), ..) => Source::Bytes(bytes),
        (Body::Fetched | Body::Spooled(_), Some(path), Some(header)) => {
            let digest = header.digest.map_or([0; 32], |digest| digest.0);
            Source::File { path, length: header.length, digest }
        }
        (Body::Fetched | Body::Spooled(_), ..) => Source::Bytes(&[]),
    }
}

/// The name under which a body comes in.
fn name(id: UpdateId) -> String {
    format!("{}-{}-{}", id.origin, id.serial.incarnation.0, id.serial.sequence)
}

const fn kept(verdict: Option<Verdict>) -> Kept {
    match verdict {
        Some(Verdict::Kept) => Kept::Yes,
        Some(Verdict::Wrong) => Kept::Wrong,
        Some(Verdict::Unchecked) => Kept::Unchecked,
        None => Kept::No,
    }
}
