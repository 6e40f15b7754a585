//! Threads that wait for disks: one that writes the chunks of a wave, and whoever has leave to
//! read, compare and stage.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use skep_base::{Digest, NodeId};
use skep_hostfs::{
    ApplyError, ApplyOptions, BoxError, ChunkSource, LeftOut, Observer, Opened, Stage, Stopped,
    Tag, Target, clean_leftovers,
};
use skep_image::{ChunkRef, ManifestDigest};
use skep_store::blobs::{BlobError, Blobs};
use skep_transport::Credit;
use skep_wave::{Status, Step};
use tokio::sync::mpsc::UnboundedSender;

use super::Command;
use super::facts::WaveKey;
use super::ledger::Ledger;
use super::library::Loaded;
use super::tally::Tallies;
use super::task::Task;

/// What is to be done by the task once work on another thread is over.
pub(super) struct Done(pub(super) Box<dyn FnOnce(&mut Task) + Send>);

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Done")
    }
}

/// What went wrong with a wave on this node.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// Why, with the path and what to do.
    pub(super) message: String,
    /// Whether trying again may help without anybody's doing.
    pub(super) passing: bool,
}

impl Trouble {
    pub(super) fn passing(error: &dyn Error) -> Self {
        Self { message: chain(error), passing: true }
    }

    pub(super) fn lasting(error: &dyn Error) -> Self {
        Self { message: chain(error), passing: false }
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// One chunk to write.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) from: NodeId,
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
    /// Given back when the chunk is on its way to the disk.
    pub(super) credit: Credit,
}

/// A thread that writes the chunks of one wave. It ends when this is dropped. What waits for it is
/// bounded by the credit of the frames it came in.
#[derive(Debug)]
pub(super) struct Writer(mpsc::Sender<Put>);

impl Writer {
    /// Starts the thread for wave `key`; `job` tells this attempt from others.
    pub(super) fn start(
        (blobs, tallies): (Arc<Blobs>, &Tallies),
        (key, job): (WaveKey, u32),
        commands: UnboundedSender<Command>,
    ) -> std::io::Result<Self> {
        let (puts, inbox) = mpsc::channel::<Put>();
        let mut tally = tallies.open(key)?;
        let work = move || {
            // While this lives nothing is collected, in whatever process.
            let writer = blobs.writer();
            for put in inbox {
                let written = match &writer {
                    Ok(writer) => {
                        let count = || tally.note(put.from, put.bytes.len());
                        writer.put_after(&put.digest, &put.bytes, count).map(drop)
                    }
                    Err(error) => Err(BlobError::Io {
                        what: format!("get leave to write: {error}"),
                        path: PathBuf::new(),
                        cause: std::io::ErrorKind::Other.into(),
                    }),
                };
                drop(put.credit);
                let (from, digest) = (put.from, put.digest);
                let then = move |task: &mut Task| {
                    task.chunk_written((key, job), from, &digest, written);
                };
                if commands.send(Command::Done(Done(Box::new(then)))).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("skep-chunks".to_owned()).spawn(work)?;
        Ok(Self(puts))
    }

    /// Hands a chunk over; `false` when the thread has ended.
    pub(super) fn put(&self, put: Put) -> bool {
        self.0.send(put).is_ok()
    }
}

/// What applying a tree needs.
pub(super) struct Apply {
    pub(super) blobs: Arc<Blobs>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) loaded: Arc<Loaded>,
    pub(super) root: PathBuf,
    pub(super) at: String,
    pub(super) as_user: bool,
    pub(super) cancel: Arc<AtomicBool>,
    /// What the ledger is to say once the tree is switched.
    pub(super) status: Status,
    pub(super) key: WaveKey,
    pub(super) job: u32,
    pub(super) commands: UnboundedSender<Command>,
}

impl Apply {
    /// Stages, switches, notes, and removes the old tree. Returns what could not be set.
    pub(super) fn run(mut self) -> Result<Status, Trouble> {
        let target = Target::new(&self.root, Path::new(&self.at))
            .map_err(|error| Trouble::passing(&error))?;
        let digest = self.loaded.seal.manifest();
        let tag = Tag::of(&digest.0);
        let left = self
            .switch(&target, digest, &tag)
            .map_err(|error| Trouble { passing: is_passing(&error), message: chain(&error) })?;
        tracing::info!(at = %self.at, image = %self.status.image, %left, "applied");
        if let Err(error) = clean_leftovers(&target, Some(&tag)) {
            tracing::warn!(%error, "stages of earlier waves stay beside the tree");
        }
        Ok(self.status)
    }

    fn switch(
        &mut self,
        target: &Target,
        digest: ManifestDigest,
        tag: &Tag,
    ) -> Result<LeftOut, ApplyError> {
        let loaded = Arc::clone(&self.loaded);
        let options = ApplyOptions { tag: tag.clone(), as_user: self.as_user };
        let mut source = Chunks(Arc::clone(&self.blobs));
        let mut watch = Watch {
            cancel: Arc::clone(&self.cancel),
            key: self.key,
            job: self.job,
            commands: self.commands.clone(),
        };
        let opened = Stage::open(target, (&loaded.manifest, digest), &options, &mut watch)?;
        let switched = match opened {
            Opened::Switched(switched) => switched,
            Opened::Stage(stage) => {
                let whole = stage.fill(&mut source, &mut watch)?;
                watch.say(Step::Switching);
                whole.switch(&mut watch)?
            }
        };
        // From here on nothing stops it: the ledger must say what the disk has.
        let left = switched.left_out();
        self.status.not_set = left.named.iter().take(16).map(ToString::to_string).collect();
        self.status.not_set_count = left.count;
        self.status.step = Step::Done;
        let noted = {
            let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.add_applied(self.status.clone())
        };
        if let Err(error) = noted {
            // The tree is whole and active. After a restart it is compared, and found so.
            tracing::error!(error = %chain(&error), "cannot note the applied wave");
        }
        let left = left.clone();
        if let Err(error) = switched.discard_old(&mut skep_hostfs::Quiet) {
            tracing::warn!(error = %chain(&error), "the old tree stays beside the new one");
        }
        Ok(left)
    }
}

fn is_passing(error: &ApplyError) -> bool {
    match error {
        ApplyError::Full { .. }
        | ApplyError::Host(_)
        | ApplyError::MissingChunk { .. }
        | ApplyError::WrongChunk { .. }
        | ApplyError::Source { .. }
        | ApplyError::Busy(_)
        | ApplyError::Stopped(_)
        // Somebody may move away what is in the way.
        | ApplyError::TargetKind { .. } => true,
        ApplyError::NotPermitted { .. }
        | ApplyError::MountPoint(_)
        | ApplyError::NoExchange(_) => false,
    }
}

struct Chunks(Arc<Blobs>);

impl ChunkSource for Chunks {
    fn chunk(&mut self, chunk: &ChunkRef) -> Result<Option<Vec<u8>>, BoxError> {
        Ok(self.0.get(&chunk.digest)?)
    }
}

struct Watch {
    cancel: Arc<AtomicBool>,
    key: WaveKey,
    job: u32,
    commands: UnboundedSender<Command>,
}

impl Watch {
    fn say(&self, step: Step) {
        let (key, job) = (self.key, self.job);
        let then = move |task: &mut Task| task.job_step((key, job), step);
        drop(self.commands.send(Command::Done(Done(Box::new(then)))));
    }
}

impl Observer for Watch {
    fn step(&mut self, _: skep_hostfs::Step<'_>) -> Result<(), Stopped> {
        if self.cancel.load(Ordering::Relaxed) { Err(Stopped) } else { Ok(()) }
    }
}
