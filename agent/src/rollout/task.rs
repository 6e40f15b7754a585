//! The task that owns all state of waves on this node.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use skep_base::{Digest, NodeId, Time};
use skep_control::api::{EventKind, PruneImages, WaveId, WaveState};
use skep_identity::IdentityHandle;
use skep_records::kind as record;
use skep_store::blobs::Blobs;
use skep_transport::{LinkId, TransportHandle};
use skep_wave::{Message, SCHEMA, Status, Statuses};
use tokio::sync::{Semaphore, mpsc};

use super::facts::{Facts, WaveKey, judge_certificate};
use super::job::{Job, Phase};
use super::ledger::Ledger;
use super::library::Whole;
use super::links::Links;
use super::peers::Query;
use super::prune::{PRUNE_AFTER, Prune};
use super::serve::{Rate, Server, frame};
use super::store::Done;
use super::tally::Tallies;
use super::{Command, Config, Parts};
use crate::clock::Clock;
use crate::reach::Reach;
use crate::spine::Request;

/// Waves worked on at one time; others wait.
const MAX_JOBS: usize = 4;
/// Work that waits for disks at one time, of the agent's few threads for it.
const ON_DISK: usize = 2;
/// Requests to the main loop that are gathered before they are sent.
const MAX_OUTBOX: usize = 64;
/// Progress is published at most so often; steps are published at once.
const PUBLISH: Duration = Duration::from_millis(500);
/// How often what changed slowly is looked at while anything is being fetched.
const TICK: Duration = Duration::from_millis(250);

/// All state of waves.
pub(super) struct Task {
    pub(super) me: NodeId,
    pub(super) clock: Clock,
    pub(super) identity: IdentityHandle,
    pub(super) config: Config,
    pub(super) root: PathBuf,
    pub(super) blobs: Arc<Blobs>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) tallies: Tallies,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) facts: Facts,
    pub(super) links: Links,
    pub(super) jobs: BTreeMap<WaveKey, Job>,
    pub(super) fetch_rate: Rate,
    pub(super) transport: TransportHandle,
    pub(super) reach: Reach,
    /// When a piece last came that was wanted, or a wave was begun with.
    pub(super) moved: Time,
    requests: mpsc::Sender<Request>,
    pub(super) server: Arc<Server>,
    pub(super) whole: BTreeMap<Digest, Whole>,
    pub(super) looking: BTreeMap<Digest, Vec<(LinkId, Query)>>,
    /// What this node says of its waves.
    statuses: Statuses,
    published: Time,
    unpublished: Option<Urgency>,
    /// For the main loop; sent when the task is about to wait.
    outbox: Vec<Request>,
    states: BTreeMap<WaveKey, WaveState>,
    states_at: Option<Time>,
    on_disk: Arc<Semaphore>,
    on_trees: Arc<Semaphore>,
    /// Of its own: who waits on a disk's thread for a step to end must not keep it from beginning.
    on_prune: Arc<Semaphore>,
    pub(super) pruning: Option<Prune>,
    /// When to prune without being asked.
    pub(super) prune_at: Option<Time>,
    attempts: u32,
    stopped: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Soon,
    Now,
}

impl Task {
    pub(super) fn new(
        parts: Parts,
        blobs: Arc<Blobs>,
        ledger: Ledger,
        commands: mpsc::UnboundedSender<Command>,
    ) -> Self {
        let rate = |rate: Option<skep_base::ByteSize>| rate.map(|size| size.0);
        let server = Server::new(
            parts.transport.clone(),
            Arc::clone(&blobs),
            parts.clock,
            rate(parts.config.send_rate),
        );
        let mut facts = Facts::new(parts.me);
        if let Some(own) = facts.members.get_mut(&parts.me) {
            let identity = parts.identity.current();
            own.name = Some(identity.info().node.clone());
            own.queen = identity.info().roles.contains(skep_identity::Role::Queen);
            own.orders = ledger.orders().clone();
            own.statuses = ledger.applied().clone();
        }
        Self {
            me: parts.me,
            clock: parts.clock,
            identity: parts.identity,
            root: parts.config.root.clone(),
            blobs,
            statuses: ledger.applied().clone(),
            ledger: Arc::new(Mutex::new(ledger)),
            tallies: Tallies::new(parts.state_dir.join("fetched")),
            commands,
            facts,
            links: Links::default(),
            jobs: BTreeMap::new(),
            fetch_rate: Rate::new(rate(parts.config.fetch_rate)),
            config: parts.config,
            transport: parts.transport,
            reach: parts.reach,
            moved: parts.clock.now(),
            requests: parts.requests,
            server: Arc::new(server),
            whole: BTreeMap::new(),
            looking: BTreeMap::new(),
            published: Time::ZERO,
            unpublished: None,
            outbox: Vec::new(),
            states: BTreeMap::new(),
            states_at: None,
            on_disk: Arc::new(Semaphore::new(ON_DISK)),
            on_trees: Arc::new(Semaphore::new(1)),
            on_prune: Arc::new(Semaphore::new(1)),
            pruning: None,
            prune_at: Some(parts.clock.now() + PRUNE_AFTER),
            attempts: 0,
            stopped: Arc::default(),
        }
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        self.begin();
        loop {
            self.flush().await;
            let wait = self.wait();
            let command = tokio::select! {
                command = inbox.recv() => command,
                () = tokio::time::sleep(wait) => {
                    self.tick();
                    continue;
                }
            };
            match command {
                None | Some(Command::Stop) => break,
                Some(command) => self.handle(command),
            }
            // What is there already is handled before anything is published.
            while let Ok(command) = inbox.try_recv() {
                if matches!(command, Command::Stop) {
                    return self.stop().await;
                }
                self.handle(command);
                if self.outbox.len() >= MAX_OUTBOX {
                    self.flush().await;
                }
            }
        }
        self.stop().await;
    }

    /// Says again what the ledger holds: the node's own records may have been lost with its state.
    fn begin(&mut self) {
        let ledger = self.lock_ledger();
        let orders = ledger.orders().clone();
        drop(ledger);
        if orders.newest() > 0 {
            self.publish(record::WAVE_ORDER, orders.to_body());
        }
        if !self.statuses.waves.is_empty() {
            self.unpublished = Some(Urgency::Now);
        }
    }

    async fn stop(mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        for job in self.jobs.values_mut() {
            job.cancel.store(true, Ordering::Relaxed);
        }
        // A tree that is being staged comes to a resting place before this is given.
        drop(self.on_trees.acquire().await);
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::LinkUp { link, node } => self.link_up(link, node),
            Command::Frame { link, frame, credit } => self.frame(link, &frame, credit),
            Command::LinkDown { link } => {
                if let Some(node) = self.links.remove(link) {
                    // A peer that closes at once is not dialled at once.
                    self.links.pause(node, self.clock.now());
                    self.peer_gone(node);
                    self.dial_peers();
                }
            }
            Command::Reached { node, linked } => {
                self.links.dial_ended(node, linked, self.clock.now());
            }
            Command::Record { owner, kind, schema, body } => {
                self.record(owner, (kind, schema), body.as_ref());
            }
            Command::Presence { node, present } => {
                self.facts.presence(node, present);
                self.links.forgive(node);
                self.retarget();
                self.look_at_states();
            }
            Command::Asked(question) => self.asked(question),
            Command::Done(Done(then)) => then(self),
            Command::Stop => {}
        }
    }

    fn record(&mut self, owner: NodeId, kind: (u16, u16), body: Option<&Bytes>) {
        let identity = self.identity.current();
        self.facts.record(owner, kind, body, |der| judge_certificate(identity.trust(), der));
        match kind.0 {
            record::WAVE_ORDER => {
                if owner == self.me {
                    self.recall_orders();
                }
                self.obey();
            }
            record::WAVE_STATUS => self.retarget(),
            _ => self.obey(),
        }
        self.look_at_states();
    }

    /// Orders of an earlier life that came back as a record; or the ledger knows better.
    fn recall_orders(&mut self) {
        let Some(own) = self.facts.members.get_mut(&self.me) else {
            return;
        };
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.recall(&own.orders);
        own.orders = ledger.orders().clone();
    }

    /// Begins with what is ordered and not applied, ends what is ordered no more.
    pub(super) fn obey(&mut self) {
        let mine: Vec<(WaveKey, skep_wave::Order)> =
            self.facts.mine().into_iter().map(|(key, order)| (key, order.clone())).collect();
        let keys: BTreeSet<WaveKey> = mine.iter().map(|(key, _)| *key).collect();
        self.jobs.retain(|key, job| {
            let stays = keys.contains(key);
            if !stays {
                job.cancel.store(true, Ordering::Relaxed);
                self.tallies.remove(*key);
            }
            stays
        });
        for (key, order) in mine {
            if self.jobs.contains_key(&key) {
                continue;
            }
            let applied = self.lock_ledger().applied_at(&order.image, &order.at).cloned();
            match applied {
                Some(done) if (done.queen, done.number) == (key.queen, key.number) => {}
                Some(done) if done.manifest == order.manifest && !order.again => {
                    self.have_already(key, done);
                }
                _ if self.jobs.len() < MAX_JOBS => self.start_job(key, &order),
                _ => {}
            }
        }
    }

    /// The wave brings what is there already (DLIF-20).
    fn have_already(&mut self, key: WaveKey, mut status: Status) {
        (status.queen, status.number) = (key.queen, key.number);
        (status.fetched, status.from_queen, status.sources, status.elapsed_ms) = (0, 0, 0, 0);
        status.bytes_have = status.bytes_all;
        if let Err(error) = self.lock_ledger().add_applied(status.clone()) {
            return tracing::error!(error = %super::store::chain(&error), "cannot note a wave");
        }
        self.publish_status(status, true);
        let id = self.wave_id(key);
        self.note(EventKind::Applied { id, error: None });
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        let due = |job: &Job| match job.phase {
            Phase::Failed { retry_at } => retry_at <= now,
            Phase::Seal | Phase::Disk | Phase::Manifest { .. } | Phase::Contents { .. } => false,
        };
        let again: Vec<WaveKey> =
            self.jobs.iter().filter(|(_, job)| due(job)).map(|(key, _)| *key).collect();
        for key in again {
            self.retry_job(key);
        }
        let keys: Vec<WaveKey> = self.jobs.keys().copied().collect();
        for key in keys {
            self.pump(key);
        }
        if self.jobs.values().any(Job::needs_links) {
            self.dial_peers();
        }
        if self.jobs.len() < MAX_JOBS {
            self.obey();
        }
        if self.states_at.is_some_and(|at| at <= now) {
            self.states_at = None;
            self.note_states();
        }
        if self.prune_at.is_some_and(|at| at <= now) {
            self.prune_at = None;
            self.prune(&PruneImages::default(), None);
        }
    }

    fn wait(&self) -> Duration {
        let now = self.clock.now();
        let jobs = self.jobs.values().filter_map(|job| match &job.phase {
            Phase::Failed { retry_at } => Some(*retry_at),
            Phase::Seal => Some(now + TICK),
            Phase::Manifest { transfer, .. } | Phase::Contents { transfer, .. } => {
                let due = transfer.deadline().unwrap_or(Time::NEVER);
                Some(due.max(self.fetch_rate.free_at()).min(now + TICK))
            }
            Phase::Disk => None,
        });
        let publish = self.unpublished.map(|_| self.published + self.pace());
        let next = jobs.chain(publish).chain(self.states_at).chain(self.prune_at).min();
        // Nothing is due for ever: a sleep of an hour costs nothing.
        next.map_or(Duration::from_secs(3600), |at| {
            at.since(now).clamp(Duration::from_millis(1), Duration::from_secs(3600))
        })
    }

    /// How often progress is published: less often among many.
    fn pace(&self) -> Duration {
        PUBLISH * u32::try_from(1 + self.facts.members.len() / 32).unwrap_or(u32::MAX)
    }

    /// Notes a wave's status for publishing: at once, or with what else changes soon.
    pub(super) fn say(&mut self, key: WaveKey, now: bool) {
        let at = self.clock.now();
        if let Some(job) = self.jobs.get_mut(&key) {
            job.measure(at);
            let status = job.status.clone();
            self.publish_status(status, now);
        }
    }

    pub(super) fn publish_status(&mut self, status: Status, now: bool) {
        self.statuses.note(status);
        let urgency = if now { Urgency::Now } else { Urgency::Soon };
        self.unpublished = self.unpublished.max(Some(urgency));
    }

    async fn flush(&mut self) {
        let now = self.clock.now();
        let due = match self.unpublished {
            None => false,
            Some(Urgency::Now) => true,
            Some(Urgency::Soon) => now.since(self.published) >= self.pace(),
        };
        if due {
            self.unpublished = None;
            self.published = now;
            self.publish(record::WAVE_STATUS, self.statuses.to_body());
            for job in self.jobs.values() {
                if let Some(transfer) = job.transfer() {
                    let report = transfer.report();
                    tracing::debug!(image = %job.order.image, %report, "fetches");
                }
            }
            if let Some(own) = self.facts.members.get_mut(&self.me) {
                own.statuses = self.statuses.clone();
            }
            self.look_at_states();
        }
        for request in std::mem::take(&mut self.outbox) {
            // The main loop never waits for this task, so waiting for it ends; when it is gone,
            // this task is about to be told to stop.
            drop(self.requests.send(request).await);
        }
    }

    pub(super) fn publish(&mut self, kind: u16, body: Vec<u8>) {
        let body = Some(Bytes::from(body));
        self.outbox.push(Request::Publish { kind, schema: SCHEMA, body });
    }

    pub(super) fn note(&mut self, kind: EventKind) {
        self.outbox.push(Request::Note(kind));
    }

    pub(super) fn look_at_states(&mut self) {
        let at = self.clock.now() + TICK;
        self.states_at.get_or_insert(at);
    }

    fn note_states(&mut self) {
        let states = super::listing::states(&self.facts);
        for (key, state) in &states {
            if self.states.get(key) != Some(state) {
                let id = self.wave_id(*key);
                self.note(EventKind::Wave { id, state: *state });
            }
        }
        self.states = states;
    }

    pub(super) fn send(&self, link: LinkId, message: &Message) {
        if let Err(error) = self.transport.send(link, frame(message)) {
            tracing::debug!(%link, %error, "a message was not sent");
        }
    }

    /// Logs what a peer did wrong, by name.
    pub(super) fn complain(&self, node: NodeId, what: &str) {
        let name = self.facts.name(node).map_or_else(|| node.to_string(), ToString::to_string);
        tracing::warn!(peer = %name, what, "a peer broke the rules of a wave");
    }

    pub(super) fn wave_id(&self, key: WaveKey) -> WaveId {
        super::listing::wave_id(&self.facts, key)
    }

    pub(super) fn own_name(&self) -> String {
        self.facts.name(self.me).map_or_else(|| self.me.to_string(), ToString::to_string)
    }

    /// How many attempts of waves there were.
    pub(super) const fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(super) const fn next_attempt(&mut self) -> u32 {
        self.attempts = self.attempts.wrapping_add(1);
        self.attempts
    }

    pub(super) fn lock_ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` on a thread that may wait for the disk, then `then` here.
    pub(super) fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(&mut Self, T) + Send + 'static,
    ) {
        self.elsewhere(Arc::clone(&self.on_disk), work, then);
    }

    /// The same for trees, one at a time.
    pub(super) fn on_trees<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(&mut Self, T) + Send + 'static,
    ) {
        self.elsewhere(Arc::clone(&self.on_trees), work, then);
    }

    /// The same for one step of a prune.
    pub(super) fn on_prune<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(&mut Self, T) + Send + 'static,
    ) {
        self.elsewhere(Arc::clone(&self.on_prune), work, then);
    }

    fn elsewhere<T: Send + 'static>(
        &self,
        permits: Arc<Semaphore>,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(&mut Self, T) + Send + 'static,
    ) {
        let commands = self.commands.clone();
        let stopped = Arc::clone(&self.stopped);
        tokio::spawn(async move {
            let Ok(permit) = permits.acquire_owned().await else {
                return;
            };
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            let worked = tokio::task::spawn_blocking(move || {
                let result = work();
                drop(permit);
                result
            });
            match worked.await {
                Ok(result) => {
                    let then = Done(Box::new(move |task: &mut Self| then(task, result)));
                    drop(commands.send(Command::Done(then)));
                }
                Err(error) => tracing::error!(%error, "work for a wave was lost"),
            }
        });
    }
}
