//! The disk: one thread that owns the update log and the small durable state.
//!
//! The main loop never waits for a disk, but for one write: the node's incarnation, which must be
//! down before anything that carries it is sent. Everything else is queued here, carried out in
//! order, and gathered: what is queued while one sync runs shares the next one, and facts that the
//! peers hold as well wait for a moment, so that only their newest version is written.

mod bodies;
mod gather;
mod managers;

use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use skep_base::{ByteSize, GroupName, Incarnation, NodeId, NodeName, WallTime};
use skep_flood::{
    Body, LogEntry, LogRecord, Output, Position, PurgedMark, ReadItem, ReadToken, Restored, Serial,
};
use skep_store::bodies::{Incoming, Spools};
use skep_store::log::{BodyFile, Entry, LogError, Options};
use skep_store::state::{Change, SavedCursor, SavedPurged, SavedRecord, State};
use skep_store::{Log, StateLock};
use tokio::sync::{mpsc, oneshot};

pub use self::bodies::BodyReader;
use self::bodies::{fetched, source};
use self::gather::Gathered;
use crate::clock::Clock;

/// Jobs that one round takes before it syncs.
const ROUND: usize = 4096;
/// Bytes of bodies that are appended at once: one write of so much takes about a millisecond.
const APPEND_BYTES: usize = 1 << 20;
/// How often the wall clock is noted, so that ages grow over a stop and a clock that went back is
/// seen.
const NOTE_CLOCK: Duration = Duration::from_secs(10);

/// What to do about a disk that takes nothing.
pub const MAKE_ROOM: &str =
    "make room on the disk of the state directory, and see whether it is healthy";

/// Called once with whether it is kept, or in words why not.
type Kept = Box<dyn FnOnce(Result<(), &str>) + Send>;

/// What the thread is asked to do.
enum Job {
    Incarnation(Incarnation, oneshot::Sender<Result<(), String>>),
    Keep(Vec<Change>),
    /// The same so that a power cut does not take it.
    Secure(Vec<Change>),
    /// Keep what the peers hold as well.
    Gather(Vec<Change>),
    /// Say when all that was asked to be kept before is.
    Tell(Kept),
    Append {
        entries: Vec<LogEntry>,
        sync: bool,
    },
    Read {
        token: ReadToken,
        items: Vec<ReadItem>,
    },
    /// For a body that is pulled.
    Body(Box<Output>),
    /// Open a body of the log.
    Open(Position, oneshot::Sender<Option<BodyFile>>),
    Purge(Position),
    /// Keep this for the managers, and tell them when a power cut does not take it.
    Managers(skep_managers::Ticket, skep_managers::Write),
    /// Keep the catalog as it is shown.
    Catalog(Bytes),
    Close(oneshot::Sender<()>),
}

/// What the thread has done.
#[derive(Debug)]
pub enum Done {
    /// For the flood machine.
    Flood(skep_flood::Input),
    /// For the managers.
    Managers(skep_managers::Input),
    /// The disk takes everything again after it failed.
    Works,
    /// The disk failed: what, and what to do. Said once for as long as it fails.
    Failed {
        /// What.
        message: String,
        /// What to do.
        hint: String,
    },
}

/// The way to the thread. What is asked of it waits until [`Disk::hand_over`]: waking a thread
/// costs more than most of what it is woken for, and neighbours should not wait for that.
pub struct Disk {
    jobs: std::sync::mpsc::Sender<Vec<Job>>,
    waiting: Vec<Job>,
    thread: Option<JoinHandle<()>>,
    spools: Spools,
}

/// What the disk held at the start.
pub struct Found {
    /// The last life.
    pub incarnation: Incarnation,
    /// Retained records with their owners' ages.
    pub records: Vec<(Bytes, Duration)>,
    /// Where other nodes were reached.
    pub address_book: Vec<(NodeId, NodeName, Vec<SocketAddr>)>,
    /// The update log's records.
    pub log: Vec<Restored>,
    /// The position after the last of them.
    pub log_next: Position,
    /// The highest update of each origin that was purged.
    pub purged: Vec<PurgedMark>,
    /// Subscribers: name, group, first position not committed.
    pub cursors: Vec<SavedCursor>,
    /// What the wall clock showed last time; certificates are judged by no earlier time.
    pub noted: WallTime,
    /// The wall clock is behind that.
    pub clock_went_back: bool,
    /// What the managers kept.
    pub managers: skep_managers::Restored,
    /// The catalog as it was shown last.
    pub catalog: skep_catalog::Catalog,
    /// What is torn or damaged.
    pub problems: Vec<skep_control::api::Problem>,
}

struct Worker {
    lock: StateLock,
    state: State,
    log: Log,
    incoming: Incoming,
    managers: skep_store::ManagersStore,
    /// Nothing of the managers is kept any more: a write of theirs failed.
    managers_failed: bool,
    dir: std::path::PathBuf,
    spools: Spools,
    clock: Clock,
    noted: WallTime,
    not_before: WallTime,
    gathered: Gathered,
    done: mpsc::Sender<Done>,
    /// The log failed, and this was said.
    broken: bool,
    /// The state failed, and this was said.
    state_broken: bool,
}

impl Disk {
    /// Opens the state directory, which must belong to nobody else, and starts the thread. What the
    /// wall clock shows before `not_before` it shows wrongly, and that is never noted.
    ///
    /// # Errors
    /// What cannot be opened, and why.
    pub fn open(
        dir: &Path,
        clock: Clock,
        not_before: WallTime,
        storage_max: ByteSize,
    ) -> anyhow::Result<(Self, Found, mpsc::Receiver<Done>)> {
        let lock = StateLock::acquire(dir)?;
        let state = State::open(dir)?;
        let wall = clock.wall();
        let noted = state.wall()?;
        let mut log_found = Vec::new();
        let (log, opened) = Log::open(&dir.join("log"), Options::default(), |found| {
            log_found.push(Restored {
                position: Position(found.position),
                head: Bytes::copy_from_slice(found.head),
                body_bytes: found.body_bytes,
                stored_for: wall.since(found.written),
            });
        })?;
        let incoming_dir = dir.join("incoming");
        // A quarter of the room is for what comes in; what nobody pulls any more may take as much.
        let incoming = Incoming::open(&incoming_dir, storage_max.0 / 4)
            .with_context(|| format!("cannot open {}", incoming_dir.display()))?;
        let mut problems = crate::problems::of_log(&opened);
        let (managers, restored) = managers::open(dir, &mut problems)?;
        let catalog = managers::read_catalog(dir, &mut problems);
        let found = Found {
            incarnation: state.incarnation()?,
            records: state.records()?.into_iter().map(|saved| aged(saved, wall)).collect(),
            address_book: state
                .address_book()?
                .into_iter()
                .map(|saved| (saved.node, saved.name, saved.addresses))
                .collect(),
            log_next: Position(log.next()),
            purged: state.purged()?.into_iter().map(mark).collect(),
            log: log_found,
            cursors: state.cursors()?,
            noted,
            clock_went_back: wall < noted,
            managers: restored,
            catalog,
            problems,
        };
        let spools = Spools::new(&incoming_dir);
        let (done, results) = mpsc::channel(1024);
        let (jobs, queue) = std::sync::mpsc::channel();
        let mut worker = Worker {
            lock,
            state,
            log,
            incoming,
            managers,
            managers_failed: false,
            dir: dir.to_owned(),
            spools: spools.clone(),
            clock,
            not_before,
            noted: wall,
            gathered: Gathered::default(),
            done,
            broken: false,
            state_broken: false,
        };
        let thread = std::thread::Builder::new()
            .name("disk".into())
            .spawn(move || worker.run(&queue))
            .context("cannot start the disk's thread")?;
        Ok((Self { jobs, waiting: Vec::new(), thread: Some(thread), spools }, found, results))
    }

    /// Notes the node's life, and waits until it is down.
    ///
    /// # Errors
    /// Why it is not, in words: nothing may be sent as that life.
    pub async fn incarnation(&mut self, incarnation: Incarnation) -> Result<(), String> {
        let (tell, told) = oneshot::channel();
        self.send(Job::Incarnation(incarnation, tell));
        self.hand_over();
        told.await.unwrap_or_else(|_| Err("the disk's thread has ended".to_owned()))
    }

    /// Keeps a record, and how long ago its owner was heard. Nobody else may hold one of `ours`
    /// yet, so it does not wait.
    pub fn record(
        &mut self,
        owner: NodeId,
        kind: u16,
        raw: &Bytes,
        age: (Duration, WallTime),
        ours: bool,
    ) {
        let (age, noted) = age;
        let record = Change::Record { owner, kind, raw: raw.to_vec() };
        let changes = vec![record, Change::Age { owner, age, noted }];
        self.send(if ours { Job::Keep(changes) } else { Job::Gather(changes) });
    }

    /// Notes how long ago owners were heard.
    pub fn ages(&mut self, ages: Vec<(NodeId, Duration)>, noted: WallTime) {
        let note = |(owner, age)| Change::Age { owner, age, noted };
        self.send(Job::Gather(ages.into_iter().map(note).collect()));
    }

    /// Deletes an owner's records.
    pub fn forget(&mut self, owner: NodeId) {
        self.send(Job::Gather(vec![Change::Forget { owner }]));
    }

    /// Keeps where a node was reached.
    pub fn address(&mut self, node: NodeId, name: NodeName, addresses: Vec<SocketAddr>) {
        self.send(Job::Gather(vec![Change::Address { node, name, addresses }]));
    }

    /// Appends to the update log.
    pub fn append(&mut self, entries: Vec<LogEntry>, sync: bool) {
        self.send(Job::Append { entries, sync });
    }

    /// Reads from the update log.
    pub fn read(&mut self, token: ReadToken, items: Vec<ReadItem>) {
        self.send(Job::Read { token, items });
    }

    /// Does what the flood machine wants with a body that is pulled.
    pub fn body(&mut self, output: Output) {
        self.send(Job::Body(Box::new(output)));
    }

    /// For those that read long bodies.
    #[must_use]
    pub fn reader(&self) -> BodyReader {
        BodyReader::new(self.jobs.clone())
    }

    /// Where long bodies are laid down that are to be published.
    #[must_use]
    pub fn spools(&self) -> Spools {
        self.spools.clone()
    }

    /// Keeps what was purged of each origin. Said before [`Disk::purge`], so that the log never
    /// lacks what is not noted as purged.
    pub fn purged(&mut self, marks: Vec<PurgedMark>) {
        let change = |mark: PurgedMark| {
            let PurgedMark { group, origin, serial } = mark;
            let (incarnation, sequence) = (serial.incarnation, serial.sequence);
            Change::Purged(SavedPurged { group, origin, incarnation, sequence })
        };
        self.send(Job::Keep(marks.into_iter().map(change).collect()));
    }

    /// Lets old records of the update log go.
    pub fn purge(&mut self, below: Position) {
        self.send(Job::Purge(below));
    }

    /// Keeps how far a subscriber is.
    pub fn cursor(&mut self, name: String, group: GroupName, position: u64) {
        self.send(Job::Keep(vec![Change::Cursor { name, group, position }]));
    }

    /// Keeps how far an export is, before anything that is asked for later and so that a power cut
    /// does not take it: what was handed to a command should not be handed to it again.
    pub fn cursor_at_once(&mut self, name: String, group: GroupName, position: u64) {
        self.send(Job::Secure(vec![Change::Cursor { name, group, position }]));
    }

    /// Calls `tell` on the disk's thread when what was asked to be kept before is in the file, so
    /// that a killed agent finds it again, or with why it is not.
    pub fn when_kept(&mut self, tell: impl FnOnce(Result<(), &str>) + Send + 'static) {
        self.send(Job::Tell(Box::new(tell)));
    }

    /// Forgets a subscriber.
    pub fn forget_cursor(&mut self, name: String) {
        self.send(Job::Keep(vec![Change::ForgetCursor { name }]));
    }

    /// Keeps something for the managers.
    pub fn managers(&mut self, ticket: skep_managers::Ticket, write: skep_managers::Write) {
        self.send(Job::Managers(ticket, write));
    }

    /// Keeps the catalog as it is shown.
    pub fn catalog(&mut self, bytes: Bytes) {
        self.send(Job::Catalog(bytes));
    }

    /// Lets everything reach the disk and ends the thread.
    pub async fn close(mut self) {
        let (tell, told) = oneshot::channel();
        self.send(Job::Close(tell));
        self.hand_over();
        drop(told.await);
        if let Some(thread) = self.thread.take()
            && tokio::task::spawn_blocking(move || thread.join()).await.is_err()
        {
            tracing::error!("the disk's thread did not end well");
        }
    }

    /// Lets the thread begin with everything that was asked of it.
    pub fn hand_over(&mut self) {
        if !self.waiting.is_empty() && self.jobs.send(std::mem::take(&mut self.waiting)).is_err() {
            tracing::error!("the disk's thread is gone; nothing is kept any more");
        }
    }

    fn send(&mut self, job: Job) {
        self.waiting.push(job);
    }
}

impl Worker {
    fn run(&mut self, queue: &std::sync::mpsc::Receiver<Vec<Job>>) {
        loop {
            let mut round = match queue.recv_timeout(self.patience()) {
                Ok(jobs) => jobs,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => Vec::new(),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    self.keep_state(Vec::new(), true);
                    return self.finish();
                }
            };
            while round.len() < ROUND
                && let Ok(more) = queue.try_recv()
            {
                round.extend(more);
            }
            let ends = |job: &Job| matches!(job, Job::Close(_));
            let last = round.iter().any(ends);
            let (state, log) = round.into_iter().partition::<Vec<Job>, _>(is_state);
            self.keep_state(state, last);
            if let Some(tell) = self.keep_log(log) {
                self.finish();
                reached(tell);
                return;
            }
        }
    }

    /// Does what concerns the update log, in order, and syncs once. Gives who waits for the end.
    fn keep_log(&mut self, jobs: Vec<Job>) -> Option<oneshot::Sender<()>> {
        let mut closing = None;
        let mut sync = false;
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut promises = Vec::new();
        for job in jobs {
            match job {
                Job::Append { entries: more, sync: wanted } => {
                    sync |= wanted;
                    // Without a body that should be in the store, all it is with would fail.
                    let alone = more.iter().any(|entry| !matches!(entry.body, Body::Here(_)));
                    if alone || bytes >= APPEND_BYTES || !continues(&entries, &more) {
                        bytes = 0;
                        self.append(&std::mem::take(&mut entries));
                    }
                    bytes += more.iter().map(body_bytes).sum::<usize>();
                    entries.extend(more);
                    if alone {
                        self.append(&std::mem::take(&mut entries));
                    }
                }
                Job::Read { token, items } => {
                    self.append(&std::mem::take(&mut entries));
                    self.read(token, &items);
                }
                Job::Body(output) => {
                    self.append(&std::mem::take(&mut entries));
                    self.body(*output);
                }
                Job::Open(position, tell) => {
                    self.append(&std::mem::take(&mut entries));
                    self.open_body(position, tell);
                }
                Job::Purge(below) => {
                    self.append(&std::mem::take(&mut entries));
                    if let Err(error) = self.log.purge(below.0) {
                        tracing::warn!(%error, "old updates could not be removed");
                    }
                }
                Job::Managers(ticket, write) => promises.push((ticket, write)),
                Job::Catalog(bytes) => self.keep_catalog(&bytes),
                Job::Close(tell) => closing = Some(tell),
                Job::Incarnation(..)
                | Job::Keep(_)
                | Job::Secure(_)
                | Job::Gather(_)
                | Job::Tell(_) => {}
            }
        }
        self.keep_promises(&promises);
        self.append(&entries);
        if sync {
            self.sync();
        }
        closing
    }

    /// How long the thread may wait for the next job.
    fn patience(&self) -> Duration {
        let due = self.gathered.due().map(|at| at.saturating_duration_since(Instant::now()));
        due.map_or(NOTE_CLOCK, |due| due.min(NOTE_CLOCK))
    }

    /// Writes what may not wait, and with it what waited; alone, what waited long enough.
    fn keep_state(&mut self, jobs: Vec<Job>, closing: bool) {
        let now = Instant::now();
        let mut waiting = Vec::new();
        let mut told = Vec::new();
        let mut urgent = Vec::new();
        let mut secure = false;
        for job in jobs {
            match job {
                Job::Incarnation(incarnation, tell) => {
                    urgent.push(Change::Incarnation(incarnation));
                    waiting.push(tell);
                }
                Job::Keep(more) => urgent.extend(more),
                Job::Secure(more) => {
                    urgent.extend(more);
                    secure = true;
                }
                Job::Gather(more) => self.gathered.add(now, more),
                Job::Tell(tell) => told.push(tell),
                Job::Append { .. }
                | Job::Read { .. }
                | Job::Body(_)
                | Job::Open(..)
                | Job::Purge(_)
                | Job::Managers(..)
                | Job::Catalog(_)
                | Job::Close(_) => {}
            }
        }
        let wall = self.clock.wall();
        let plausible = wall >= self.not_before;
        let moved = wall.since(self.noted) >= NOTE_CLOCK || wall < self.noted;
        let note_clock = plausible && moved;
        let due = closing || self.gathered.due().is_some_and(|at| now >= at);
        // What one waits for is in this round, in an earlier one, or was put back after a failure.
        if urgent.is_empty() && !note_clock && !due && (told.is_empty() || !self.state_broken) {
            told.into_iter().for_each(|tell| tell(Ok(())));
            return;
        }
        let mut changes = self.gathered.take();
        changes.append(&mut urgent);
        if plausible {
            self.noted = wall;
            changes.push(Change::Wall(wall));
        }
        // The node's life must survive a power cut at once; most of the rest is known to the peers.
        let kept = self.state.apply(&changes, secure || !waiting.is_empty());
        let kept = kept.map_err(|error| in_words(&error));
        match &kept {
            Ok(()) => self.works_again(|worker| &mut worker.state_broken),
            Err(error) => {
                self.gathered.put_back(now, changes);
                if !std::mem::replace(&mut self.state_broken, true) {
                    self.failed(error, MAKE_ROOM);
                }
            }
        }
        for tell in waiting {
            if tell.send(kept.clone()).is_err() {
                tracing::debug!("nobody waits for the disk any more");
            }
        }
        for tell in told {
            tell(kept.as_ref().copied().map_err(String::as_str));
        }
    }

    /// What the managers wait for. After a failure nothing of theirs is kept: they step down.
    fn keep_promises(&mut self, writes: &[(skep_managers::Ticket, skep_managers::Write)]) {
        if self.managers_failed {
            return;
        }
        let told = match managers::keep(&mut self.managers, self.clock.wall(), writes) {
            Ok(None) => return,
            Ok(Some(ticket)) => skep_managers::Input::Persisted { ticket },
            Err((ticket, why, words)) => {
                self.managers_failed = true;
                self.failed(&words, MAKE_ROOM);
                skep_managers::Input::PersistFailed { ticket, why }
            }
        };
        drop(self.done.blocking_send(Done::Managers(told)));
    }

    fn keep_catalog(&self, bytes: &[u8]) {
        // The neighbours have it: it is said, and tried again when it changes.
        if let Err(error) = managers::write_catalog(&self.dir, bytes) {
            tracing::warn!(%error, "the catalog was not kept");
        }
    }

    fn append(&mut self, entries: &[LogEntry]) {
        let Some(first) = entries.first().map(|entry| entry.position) else {
            return;
        };
        let heads: Vec<Vec<u8>> = entries.iter().map(|entry| entry.head.to_bytes()).collect();
        // After a failure the machine hands out again from the position that failed.
        if first.0 != self.log.next() {
            return;
        }
        let files: std::io::Result<Vec<_>> = entries.iter().map(|it| self.file_of(it)).collect();
        let files = match files {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(%error, "the body of an update is not in the store");
                return self.tell(skep_flood::Input::AppendFailed { from: first });
            }
        };
        let records: Vec<Entry<'_>> = heads
            .iter()
            .zip(entries)
            .zip(&files)
            .map(|((head, entry), file)| Entry { head, body: source(entry, file.as_deref()) })
            .collect();
        let appended = self.log.append(self.clock.wall(), &records);
        match appended {
            Ok(_) => {
                for id in entries.iter().filter_map(fetched) {
                    self.forget_body(id);
                }
                self.works_again(|worker| &mut worker.broken);
                let up_to = Position(self.log.next());
                self.tell(skep_flood::Input::Appended { up_to, durable: false });
            }
            Err(error) => {
                self.tell(skep_flood::Input::AppendFailed { from: first });
                self.log_failed(&error);
            }
        }
    }

    fn sync(&mut self) {
        match self.log.sync() {
            Ok(up_to) => {
                let up_to = Position(up_to);
                self.tell(skep_flood::Input::Appended { up_to, durable: true });
            }
            Err(error) => {
                // Whoever waits for what never reached the disk is told so.
                let from = Position(self.log.durable());
                self.tell(skep_flood::Input::AppendFailed { from });
                self.log_failed(&error);
            }
        }
    }

    fn read(&mut self, token: ReadToken, items: &[ReadItem]) {
        let records = items
            .iter()
            .map(|item| match self.log.read(item.position.0, item.length) {
                Ok(stored) => stored
                    .map(|stored| LogRecord { head: stored.head.into(), body: stored.body.into() }),
                Err(error) => {
                    self.log_failed(&error);
                    None
                }
            })
            .collect();
        self.tell(skep_flood::Input::Read { token, records });
    }

    fn finish(&mut self) {
        if let Err(error) = self.log.sync() {
            tracing::error!(%error, "the update log could not be synced at the end");
        }
        tracing::debug!(lock = %self.lock.path().display(), "the state directory is free");
    }

    fn log_failed(&mut self, error: &LogError) {
        if !std::mem::replace(&mut self.broken, true) {
            self.failed(&in_words(error), MAKE_ROOM);
        }
    }

    /// Says when both the state and the log take what they are given again.
    fn works_again(&mut self, part: impl FnOnce(&mut Self) -> &mut bool) {
        if std::mem::take(part(self)) && !self.broken && !self.state_broken {
            drop(self.done.blocking_send(Done::Works));
        }
    }

    fn failed(&self, message: &str, hint: &str) {
        let (message, hint) = (message.to_owned(), hint.to_owned());
        drop(self.done.blocking_send(Done::Failed { message, hint }));
    }

    fn tell(&self, input: skep_flood::Input) {
        drop(self.done.blocking_send(Done::Flood(input)));
    }
}

/// An error with what caused it.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        words = format!("{words}: {deeper}");
        cause = deeper.source();
    }
    words
}

/// Tells whoever waits that the disk has it.
fn reached(tell: oneshot::Sender<()>) {
    if tell.send(()).is_err() {
        tracing::debug!("nobody waits for the disk any more");
    }
}

/// Whether `more` stands right behind `entries`. After a failure it may not: what was on its way
/// then is given up, and positions begin again where it failed.
fn continues(entries: &[LogEntry], more: &[LogEntry]) -> bool {
    let next = entries.last().map(|last| last.position.next());
    next.is_none_or(|next| more.first().is_none_or(|first| first.position == next))
}

/// Bytes of a body that is written with its entry.
fn body_bytes(entry: &LogEntry) -> usize {
    match &entry.body {
        Body::Here(bytes) => bytes.len(),
        Body::Fetched | Body::Spooled(_) => 0,
    }
}

fn is_state(job: &Job) -> bool {
    matches!(
        job,
        Job::Incarnation(..) | Job::Keep(_) | Job::Secure(_) | Job::Gather(_) | Job::Tell(_)
    )
}

fn mark(saved: SavedPurged) -> PurgedMark {
    let SavedPurged { group, origin, incarnation, sequence } = saved;
    PurgedMark { group, origin, serial: Serial { incarnation, sequence } }
}

/// A record with its owner's age now: it grew over the stop by the wall clock's advance.
fn aged(saved: SavedRecord, wall: WallTime) -> (Bytes, Duration) {
    let age = saved.age.map_or(Duration::ZERO, |(age, noted)| age + wall.since(noted));
    (saved.raw.into(), age)
}

#[cfg(test)]
mod tests {
    use skep_base::Trail;
    use skep_flood::message::{Header, StoredHead};
    use skep_flood::{LogHead, UpdateId};

    use super::*;

    fn entry(position: u64) -> LogEntry {
        let origin = NodeId::from_bytes([1; 16]);
        let serial = Serial { incarnation: Incarnation(1), sequence: position + 1 };
        let id = UpdateId { origin, serial };
        let header = Header {
            id,
            predecessor: None,
            age_ms: 0,
            length: 1,
            digest: None,
            trail: Trail::none(),
        };
        let head = StoredHead { group: GroupName::all(), header, late: false, tag: Vec::new() };
        let head = LogHead::Update(head);
        LogEntry { position: Position(position), head, body: Body::Here(Bytes::from_static(b"x")) }
    }

    fn entries(positions: std::ops::Range<u64>) -> Vec<LogEntry> {
        positions.map(entry).collect()
    }

    #[tokio::test]
    async fn what_waits_is_appended_at_once_but_for_what_a_failure_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (mut disk, found, mut done) =
            Disk::open(dir.path(), Clock::of_process(), WallTime::default(), ByteSize(1 << 20))
                .unwrap();
        assert_eq!(found.log_next, Position(0));
        disk.append(entries(0..2), false);
        disk.append(entries(2..3), false);
        // On its way when an append failed; then the machine began again where it had.
        disk.append(entries(7..9), false);
        disk.append(entries(3..5), true);
        disk.hand_over();
        disk.close().await;
        let mut appended = Vec::new();
        while let Some(done) = done.recv().await {
            match done {
                Done::Flood(skep_flood::Input::Appended { up_to, durable }) => {
                    appended.push((up_to.0, durable));
                }
                other
                @ (Done::Flood(_) | Done::Managers(_) | Done::Works | Done::Failed { .. }) => {
                    panic!("{other:?}")
                }
            }
        }
        assert_eq!(appended, [(3, false), (5, false), (5, true)]);
        let (disk, found, _) =
            Disk::open(dir.path(), Clock::of_process(), WallTime::default(), ByteSize(1 << 20))
                .unwrap();
        assert_eq!(found.log.len(), 5);
        disk.close().await;
    }
}
