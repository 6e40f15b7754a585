//! One wave on its way to this node: seal, manifest, contents, tree (DLIF-18 to DLIF-22).
//!
//! ```text
//!   find the seal ─▶ manifest's chunks ─▶ compare ─▶ contents' chunks ─▶ stage, switch ─▶ done
//!    here or asked     fetched               on disk     fetched            on disk
//! ```
//!
//! Each arrow is a method of [`Task`] in this file, called when what came before is over. An
//! attempt has a number; what comes from work of an earlier attempt is of no account.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use skep_base::{Digest, NodeId, Time};
use skep_control::api::EventKind;
use skep_image::{ManifestDigest, Seal};
use skep_store::blobs::{BlobError, Kept};
use skep_transport::{Credit, LinkId};
use skep_wave::{Arrival, Chunk, Limits, Message, Order, Part, Section, Status, Step, Transfer};

use super::facts::WaveKey;
use super::library::{self, Loaded, QueensOf, Whole};
use super::prune::PRUNE_AFTER;
use super::store::{Apply, Put, Trouble, Writer, chain};
use super::tally::Fetched;
use super::task::Task;

/// The first pause after a failure; doubled each time.
const RETRY: Duration = Duration::from_secs(2);
/// The longest pause after a failure that may pass: space may appear, a directory be made.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// A wave that this node has not yet.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) attempt: u32,
    pub(super) order: Order,
    pub(super) phase: Phase,
    pub(super) status: Status,
    pub(super) began: Time,
    pub(super) cancel: Arc<AtomicBool>,
    /// Nodes it fetched from, in all lives of this node.
    pub(super) sources: BTreeSet<NodeId>,
    /// Fetched before the part that is being fetched, in earlier lives too: in all, and from the
    /// queen.
    fetched_before: (u64, u64),
    writer: Option<Writer>,
    /// Keeps what is here from being pruned, while it is worked on.
    kept: Option<Kept>,
    /// What the image is made of, once that is known: what came of it stays over a failure.
    pub(super) known: Option<Arc<Loaded>>,
    failures: u32,
}

/// What is being waited for.
#[derive(Debug)]
pub(super) enum Phase {
    /// Somebody's seal.
    Seal,
    /// This node's disk.
    Disk,
    /// The manifest's chunks.
    Manifest { seal: Seal, transfer: Box<Transfer> },
    /// The contents' chunks.
    Contents { loaded: Arc<Loaded>, transfer: Box<Transfer> },
    /// The time to try again; never, where nothing but another wave or a restart helps.
    Failed { retry_at: Time },
}

impl Job {
    fn new(attempt: u32, key: WaveKey, order: &Order, began: Time) -> Self {
        let status = Status {
            queen: key.queen,
            number: key.number,
            image: order.image.clone(),
            manifest: order.manifest,
            at: order.at.clone(),
            step: Step::Comparing,
            bytes_have: 0,
            bytes_all: order.bytes,
            fetched: 0,
            from_queen: 0,
            sources: 0,
            elapsed_ms: 0,
            error: None,
            not_set: Vec::new(),
            not_set_count: 0,
        };
        Self {
            attempt,
            order: order.clone(),
            phase: Phase::Disk,
            status,
            began,
            cancel: Arc::default(),
            sources: BTreeSet::new(),
            fetched_before: (0, 0),
            writer: None,
            kept: None,
            known: None,
            failures: 0,
        }
    }

    /// The part that is being fetched.
    pub(super) const fn part(&self) -> Option<Part> {
        let section = match &self.phase {
            Phase::Manifest { .. } => Section::Manifest,
            Phase::Contents { .. } => Section::Contents,
            Phase::Seal | Phase::Disk | Phase::Failed { .. } => return None,
        };
        Some(Part { manifest: self.order.manifest, section })
    }

    pub(super) const fn transfer(&self) -> Option<&Transfer> {
        match &self.phase {
            Phase::Manifest { transfer, .. } | Phase::Contents { transfer, .. } => Some(transfer),
            Phase::Seal | Phase::Disk | Phase::Failed { .. } => None,
        }
    }

    pub(super) const fn transfer_mut(&mut self) -> Option<&mut Transfer> {
        match &mut self.phase {
            Phase::Manifest { transfer, .. } | Phase::Contents { transfer, .. } => Some(transfer),
            Phase::Seal | Phase::Disk | Phase::Failed { .. } => None,
        }
    }

    /// Whether it needs links to others.
    pub(super) const fn needs_links(&self) -> bool {
        matches!(self.phase, Phase::Seal | Phase::Manifest { .. } | Phase::Contents { .. })
    }

    /// Brings the status up to what the transfer says.
    pub(super) fn measure(&mut self, now: Time) {
        let (before, before_queen) = self.fetched_before;
        let (mut fetched, mut from_queen) = (0, 0);
        let mut contents = None;
        if let Some(transfer) = self.transfer() {
            let progress = transfer.progress();
            (fetched, from_queen) = (progress.fetched, progress.from_queen);
            if matches!(self.phase, Phase::Contents { .. }) {
                contents = Some(progress);
            }
            let sources = transfer.sources().clone();
            self.sources.extend(sources);
        }
        self.status.fetched = before + fetched;
        self.status.from_queen = before_queen + from_queen;
        if let Some(progress) = contents {
            (self.status.bytes_have, self.status.bytes_all) = (progress.have, progress.all);
        }
        self.status.sources = u16::try_from(self.sources.len()).unwrap_or(u16::MAX);
        self.status.elapsed_ms =
            u64::try_from(now.since(self.began).as_millis()).unwrap_or(u64::MAX);
    }

    fn rest(&mut self, now: Time) {
        self.measure(now);
        self.fetched_before = (self.status.fetched, self.status.from_queen);
        self.phase = Phase::Disk;
        self.writer = None;
    }
}

impl Task {
    /// Begins with a wave.
    pub(super) fn start_job(&mut self, key: WaveKey, order: &Order) {
        let attempt = self.next_attempt();
        let job = Job::new(attempt, key, order, self.clock.now());
        tracing::info!(image = %order.image, at = %order.at, wave = %self.wave_id(key), "begins");
        self.jobs.insert(key, job);
        self.say(key, true);
        let tallies = self.tallies.clone();
        let work = move || tallies.read(key);
        self.on_disk(work, move |task, fetched| task.go_on((key, attempt), &fetched));
    }

    /// What was fetched before this agent was killed counts, and begins the search for the rest.
    fn go_on(&mut self, id: (WaveKey, u32), fetched: &Fetched) {
        if let Some(job) = self.current(id) {
            job.fetched_before = (fetched.all(), fetched.by(id.0.queen));
            job.sources.extend(fetched.from.keys());
            self.find_seal(id.0);
        }
    }

    /// Tries once more.
    pub(super) fn retry_job(&mut self, key: WaveKey) {
        let attempt = self.next_attempt();
        if let Some(job) = self.jobs.get_mut(&key) {
            job.attempt = attempt;
            job.status.step = Step::Comparing;
            job.status.error = None;
            job.phase = Phase::Disk;
            self.find_seal(key);
            self.say(key, true);
        }
    }

    fn current(&mut self, (key, attempt): (WaveKey, u32)) -> Option<&mut Job> {
        self.jobs.get_mut(&key).filter(|job| job.attempt == attempt)
    }

    fn find_seal(&mut self, key: WaveKey) {
        let Some(job) = self.jobs.get(&key) else {
            return;
        };
        let (id, manifest) = ((key, job.attempt), job.order.manifest);
        let (blobs, image, version) =
            (Arc::clone(&self.blobs), job.order.image.clone(), job.order.version);
        let work = move || {
            let kept = blobs.keep()?;
            let bytes = blobs.image(&image, version)?;
            let seal = bytes.and_then(|bytes| Seal::decode(&bytes).ok());
            Ok::<_, BlobError>((kept, seal.filter(|seal| seal.manifest().0 == manifest)))
        };
        self.on_disk(work, move |task, found| match found {
            Ok((kept, seal)) => {
                if let Some(job) = task.current(id) {
                    job.kept = Some(kept);
                }
                match seal {
                    Some(seal) => task.have_seal(id, seal),
                    None => task.ask_for_seal(id),
                }
            }
            Err(error) => task.job_failed(id, &Trouble::passing(&error)),
        });
    }

    fn ask_for_seal(&mut self, id: (WaveKey, u32)) {
        let Some(job) = self.current(id) else {
            return;
        };
        job.phase = Phase::Seal;
        let message = Message::WantSeal(job.order.manifest);
        self.moved = self.clock.now();
        let links: Vec<LinkId> = self.links.nodes().map(|(_, link)| link).collect();
        for link in links {
            self.send(link, &message);
        }
        self.dial_peers();
    }

    /// A peer sent a seal.
    pub(super) fn seal_came(&mut self, from: NodeId, manifest: Digest, bytes: &[u8]) {
        let waiting = self
            .jobs
            .iter()
            .filter(|(_, job)| matches!(job.phase, Phase::Seal) && job.order.manifest == manifest);
        let ids: Vec<(WaveKey, u32)> = waiting.map(|(key, job)| (*key, job.attempt)).collect();
        if ids.is_empty() {
            return;
        }
        let identity = self.identity.current();
        let seal = Seal::decode(bytes).and_then(|seal| {
            seal.verify(&QueensOf(identity.trust()))?;
            Ok(seal)
        });
        match seal {
            Ok(seal) if seal.manifest() == ManifestDigest(manifest) => {
                for id in ids {
                    self.have_seal(id, seal.clone());
                }
            }
            Ok(_) => self.complain(from, "it sent the seal of another image than was asked for"),
            Err(error) => self.complain(from, &chain(&error)),
        }
    }

    fn have_seal(&mut self, id: (WaveKey, u32), seal: Seal) {
        let now = self.clock.now();
        let Some(job) = self.current(id) else {
            return;
        };
        job.rest(now);
        let blobs = Arc::clone(&self.blobs);
        let work = move || {
            let pieces = library::manifest_pieces(&seal);
            let here = library::here(&blobs, &pieces);
            (seal, pieces, here)
        };
        self.on_disk(work, move |task, (seal, pieces, here)| {
            let transfer = task.transfer(id.0, &pieces, &here);
            if transfer.is_complete() {
                task.load_manifest(id, seal);
            } else if let Some(job) = task.current(id) {
                job.phase = Phase::Manifest { seal, transfer: Box::new(transfer) };
                task.begin_fetching(id);
            }
        });
    }

    fn load_manifest(&mut self, id: (WaveKey, u32), seal: Seal) {
        let now = self.clock.now();
        let Some(job) = self.current(id) else {
            return;
        };
        job.rest(now);
        let (blobs, identity) = (Arc::clone(&self.blobs), self.identity.current());
        let work = move || {
            let again = seal.clone();
            let loaded = library::load(&blobs, seal, identity.trust())?;
            Ok::<_, library::LibraryError>(
                loaded
                    .map(|loaded| {
                        let here = library::here(&blobs, &loaded.contents);
                        (loaded, here)
                    })
                    .map_err(|_| again),
            )
        };
        self.on_disk(work, move |task, loaded| match loaded {
            Ok(Ok((loaded, here))) => task.compare(id, loaded, &here),
            // A chunk was damaged on this disk, and removed: it is fetched again.
            Ok(Err(seal)) => task.have_seal(id, seal),
            Err(error @ library::LibraryError::Blobs(_)) => {
                task.job_failed(id, &Trouble::passing(&error));
            }
            // A manifest that is refused stays so, whoever it is fetched from.
            Err(error) => task.job_failed(id, &Trouble::lasting(&error)),
        });
    }

    fn compare(&mut self, id: (WaveKey, u32), loaded: Loaded, here: &BTreeSet<Digest>) {
        let transfer = self.transfer(id.0, &loaded.contents, here);
        let Some(job) = self.current(id) else {
            return;
        };
        let header = loaded.manifest.header();
        if header.name != job.order.image || header.version != job.order.version {
            let message = format!(
                "the manifest is that of {} version {}, which was not ordered; ask its queen",
                header.name, header.version
            );
            return self.job_failed(id, &Trouble { message, passing: false });
        }
        let complete = transfer.is_complete();
        let loaded = Arc::new(loaded);
        job.known = Some(Arc::clone(&loaded));
        job.phase = Phase::Contents { loaded, transfer: Box::new(transfer) };
        if complete {
            self.contents_complete(id);
        } else {
            job.status.step = Step::Fetching;
            self.begin_fetching(id);
            self.say(id.0, true);
        }
    }

    fn transfer(&self, key: WaveKey, pieces: &[Vec<Chunk>], here: &BTreeSet<Digest>) -> Transfer {
        let ids = (self.me, key.queen);
        let pieces = pieces.iter().map(Vec::as_slice);
        let mut transfer = Transfer::new(ids, Limits::default(), pieces, here, self.clock.now());
        transfer.set_targets(self.live_targets(key));
        transfer
    }

    /// Tells who asked before what is here, and asks everybody what they have.
    fn begin_fetching(&mut self, id: (WaveKey, u32)) {
        let blobs = Arc::clone(&self.blobs);
        let (tallies, commands) = (self.tallies.clone(), self.commands.clone());
        let Some(job) = self.current(id) else {
            return;
        };
        match Writer::start((blobs, &tallies), id, commands) {
            Ok(writer) => job.writer = Some(writer),
            Err(error) => return self.job_failed(id, &Trouble::passing(&error)),
        }
        let (Some(part), Some(transfer)) = (job.part(), job.transfer()) else {
            return;
        };
        let pieces = transfer.have().as_bytes().to_vec();
        let have = Message::Have { of: part, pieces: pieces.into() };
        for link in self.links.interested(part) {
            self.send(link, &have);
        }
        let links: Vec<LinkId> = self.links.nodes().map(|(_, link)| link).collect();
        for link in links {
            self.send(link, &Message::Interest(part));
        }
        self.dial_peers();
        self.pump(id.0);
    }

    /// Asks for what may be asked for now.
    pub(super) fn pump(&mut self, key: WaveKey) {
        let now = self.clock.now();
        let Some(job) = self.jobs.get_mut(&key) else {
            return;
        };
        let attempt = job.attempt;
        let Some(transfer) = job.transfer_mut() else {
            return;
        };
        for ask in transfer.asks(now, self.fetch_rate.room(now)) {
            self.fetch_rate.take(ask.bytes, now);
            let message = Message::Want { request: attempt, chunks: ask.chunks };
            match self.links.to(ask.from) {
                Some(link) => self.send(link, &message),
                None => self.peer_gone(ask.from),
            }
        }
    }

    /// A chunk came.
    pub(super) fn chunk_came(
        &mut self,
        from: NodeId,
        (request, digest): (u32, Digest),
        bytes: Vec<u8>,
        credit: Credit,
    ) {
        let now = self.clock.now();
        let Some((key, job)) = self.jobs.iter_mut().find(|(_, job)| job.attempt == request) else {
            return;
        };
        let key = *key;
        let wanted = job
            .transfer_mut()
            .is_some_and(|transfer| transfer.arrived(from, &digest, now) == Arrival::Wanted);
        if !wanted {
            return;
        }
        self.moved = now;
        let put = Put { from, digest, bytes, credit };
        if !job.writer.as_ref().is_some_and(|writer| writer.put(put)) {
            let message = "the thread that writes chunks has ended".to_owned();
            self.job_failed((key, request), &Trouble { message, passing: true });
        }
    }

    /// A peer has not what it was asked for.
    pub(super) fn chunk_lacks(&mut self, from: NodeId, request: u32, digest: &Digest) {
        let job = self.jobs.iter_mut().find(|(_, job)| job.attempt == request);
        if let Some((key, job)) = job
            && let Some(transfer) = job.transfer_mut()
        {
            transfer.lacks(from, digest);
            let key = *key;
            self.pump(key);
        }
    }

    /// A chunk is on the disk, or not.
    pub(super) fn chunk_written(
        &mut self,
        id: (WaveKey, u32),
        from: NodeId,
        digest: &Digest,
        written: Result<(), BlobError>,
    ) {
        let now = self.clock.now();
        let Some(job) = self.current(id) else {
            return;
        };
        let part = job.part();
        let (Some(part), Some(transfer)) = (part, job.transfer_mut()) else {
            return;
        };
        match written {
            Ok(()) => {
                let whole = transfer.stored(from, digest, now);
                let complete = transfer.is_complete();
                if let Some(piece) = whole {
                    let got = Message::Got { of: part, pieces: vec![piece] };
                    for link in self.links.interested(part) {
                        self.send(link, &got);
                    }
                }
                if complete {
                    self.fetched(id);
                } else {
                    self.pump(id.0);
                }
                self.say(id.0, false);
            }
            Err(error @ BlobError::WrongBytes { .. }) => {
                transfer.wrong(from, digest, now);
                self.complain(from, &format!("{error}; it is asked for nothing for a while"));
                self.pump(id.0);
            }
            Err(error) => {
                transfer.not_stored(digest);
                self.job_failed(id, &Trouble::passing(&error));
            }
        }
    }

    fn fetched(&mut self, id: (WaveKey, u32)) {
        let Some(job) = self.current(id) else {
            return;
        };
        match &job.phase {
            Phase::Manifest { seal, .. } => {
                let seal = seal.clone();
                self.load_manifest(id, seal);
            }
            Phase::Contents { .. } => self.contents_complete(id),
            Phase::Seal | Phase::Disk | Phase::Failed { .. } => {}
        }
    }

    /// All of the image is here: it is kept as one, served, and applied.
    fn contents_complete(&mut self, id: (WaveKey, u32)) {
        let now = self.clock.now();
        let Some(job) = self.current(id) else {
            return;
        };
        let Phase::Contents { loaded, .. } = &job.phase else {
            return;
        };
        let loaded = Arc::clone(loaded);
        job.rest(now);
        job.status.step = Step::Staging;
        let (manifest, image, version) =
            (job.order.manifest, job.order.image.clone(), job.order.version);
        self.serve_whole(manifest, Whole::of(&loaded));
        self.say(id.0, true);
        let kind = EventKind::Image { image: image.clone(), version: manifest.abbreviated(12) };
        self.note(kind);
        let (blobs, seal) = (Arc::clone(&self.blobs), loaded.seal.encode());
        let work = move || blobs.put_image(&image, version, &seal);
        self.on_disk(work, move |task, kept| match kept {
            Ok(()) => task.apply(id, loaded),
            Err(error @ BlobError::VersionTaken { .. }) => {
                // The tree can be had all the same; only `image ls` will not show it.
                tracing::warn!(%error, "another image has this name and version here");
                task.apply(id, loaded);
            }
            Err(error) => task.job_failed(id, &Trouble::passing(&error)),
        });
    }

    fn apply(&mut self, id: (WaveKey, u32), loaded: Arc<Loaded>) {
        let now = self.clock.now();
        let as_user = self.config.as_user;
        let (blobs, ledger) = (Arc::clone(&self.blobs), Arc::clone(&self.ledger));
        let (root, commands) = (self.root.clone(), self.commands.clone());
        let Some(job) = self.current(id) else {
            return;
        };
        job.measure(now);
        let apply = Apply {
            blobs,
            ledger,
            loaded,
            root,
            at: job.order.at.clone(),
            as_user: as_user || job.order.as_user,
            cancel: Arc::clone(&job.cancel),
            status: job.status.clone(),
            key: id.0,
            job: id.1,
            commands,
        };
        self.on_trees(
            move || apply.run(),
            move |task, applied| match applied {
                Ok(status) => task.job_done(id, status),
                Err(trouble) => task.job_failed(id, &trouble),
            },
        );
    }

    /// The tree's thread is a step further.
    pub(super) fn job_step(&mut self, id: (WaveKey, u32), step: Step) {
        if let Some(job) = self.current(id) {
            job.status.step = step;
            self.say(id.0, true);
        }
    }

    fn job_done(&mut self, id: (WaveKey, u32), mut status: Status) {
        let now = self.clock.now();
        let Some(job) = self.current(id) else {
            return;
        };
        job.measure(now);
        status.elapsed_ms = job.status.elapsed_ms;
        self.jobs.remove(&id.0);
        // The ledger has the figures, and was on disk before this.
        self.tallies.remove(id.0);
        self.prune_at.get_or_insert(now + PRUNE_AFTER);
        let wave = self.wave_id(id.0);
        tracing::info!(%wave, fetched = status.fetched, sources = status.sources, "done");
        self.publish_status(status, true);
        self.note(EventKind::Applied { id: wave, error: None });
    }

    /// Something went wrong: it is said, and tried again where that may help.
    pub(super) fn job_failed(&mut self, id: (WaveKey, u32), trouble: &Trouble) {
        let now = self.clock.now();
        let wave = self.wave_id(id.0);
        let own_name = self.own_name();
        let Some(job) = self.current(id) else {
            return;
        };
        if job.cancel.load(Ordering::Relaxed) {
            return;
        }
        job.rest(now);
        let pause = RETRY.saturating_mul(1 << job.failures.min(8)).min(LONGEST_RETRY);
        job.failures += 1;
        let retry_at = if trouble.passing { now + pause } else { Time::NEVER };
        job.phase = Phase::Failed { retry_at };
        // Room may be what it lacks, and pruning what makes it.
        job.kept = None;
        job.status.step = Step::Failed;
        let message = format!("{own_name}: {}", trouble.message);
        tracing::error!(%wave, error = %message, again = trouble.passing, "the wave failed here");
        job.status.error = Some(message.clone());
        self.say(id.0, true);
        self.note(EventKind::Applied { id: wave, error: Some(message) });
    }
}
