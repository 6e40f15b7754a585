//! The agent's main loop: one task that owns the node and carries its wishes out.
//!
//! Everything that may happen reaches the node here, one thing at a time: links and frames from the
//! transport, calls from the control socket, answers from the disk, addresses from discovery,
//! requests from the other parts of the agent, and the passing of time. What the node wants done is
//! done before the next thing happens; frames to one link are gathered over a batch and sent as
//! one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, NodeName, Outbox, Time};
use skep_control::api::EventKind;
use skep_control::{BackendSide, Call, EventLog};
use skep_identity::{CertInfo, IdentityHandle, tls};
use skep_node::{Farewell, Goodbye, Input, LinkId, Node, Output, Source};
use skep_records::kind as record;
use skep_transport::TransportHandle;
use skep_wire::{Address, Lane, write_frame};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::authority::Authority;
use crate::certificates::{Certificates, Worth};
use crate::clock::Clock;
use crate::disk::{Disk, Done, MAKE_ROOM};
use crate::reach::Reach;
use crate::renewal::Asking;
use crate::rollout::Rollout;
use crate::status::DiskTrouble;

mod events;
mod links;
mod words;

pub use words::presence;

/// Events of the transport that are handled before the loop looks at anything else: enough to
/// gather frames, and little enough that a call never waits long.
const BATCH: usize = 256;
/// Asks of clients that are answered before the loop looks at links again: their updates share a
/// batch to the neighbours and to the disk.
const CLIENT_BATCH: usize = 16;
/// Requests from other parts of the agent that may wait.
pub const REQUEST_QUEUE: usize = 256;
/// Names the dials of errands, whose outcome the node need not hear of.
pub(crate) const ERRAND_DIAL: u64 = (1 << 63) - 1;
/// A node without a deadline is looked at this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// A master that stops waits for another as long as an election takes at most.
const HAND_OVER_PATIENCE: Duration = Duration::from_millis(1400);
/// How often it is noted on disk when each owner of records was heard.
const NOTE_AGES: Duration = Duration::from_secs(60);
/// How often the kernel is asked for the round trips of links.
const SAMPLE_LINKS: Duration = Duration::from_secs(10);
/// Between two times that the catalog goes to the disk.
pub(crate) const KEEP_CATALOG: Duration = Duration::from_secs(2);

/// What came of a routed request.
pub type RoutedAnswer = Result<Bytes, skep_routing::AskError>;

/// What other parts of the agent ask of the loop.
#[derive(Debug)]
pub enum Request {
    /// Addresses were found.
    Found(Vec<SocketAddr>, Source),
    /// This node's own addresses are now these.
    Addresses(Vec<Address>),
    /// The certificate was renewed.
    Renewed,
    /// Publish a record of this node.
    Publish {
        /// What it is about.
        kind: u16,
        /// How the body is laid out.
        schema: u16,
        /// The fact.
        body: Option<Bytes>,
    },
    /// Flood an update to everybody; whether it was taken is only logged.
    Announce(Bytes),
    /// Ask a node that serves the CA for the next certificate.
    AskCa(Bytes),
    /// What the CA served here answers to the node at the other end of a link.
    CaAnswers(LinkId, Bytes),
    /// A topology was computed, or could not be.
    Computed {
        /// For which group.
        group: skep_base::GroupName,
        /// Which job.
        job: u64,
        /// The topology; or why there is none.
        answer: Result<skep_topology::adoption::Answer, String>,
    },
    /// A bare connection to a node was there after this long, or none came to be.
    Knocked(NodeId, Option<Duration>),
    /// What the way to streams wants of the node.
    Reach(crate::reach::Wish),
    /// An export command has ended.
    Exported(Box<crate::export::Exported>),
    /// A hook has ended.
    Hooked {
        /// Which.
        hook: String,
        /// For which event.
        of: String,
        /// Whether it ended well.
        well: bool,
        /// How.
        ended: String,
    },
    /// A letter about incidents was handed over, or could not be.
    Posted {
        /// To which target.
        target: String,
        /// Which letter.
        letter: String,
        /// Why it was not taken.
        outcome: Result<(), skep_notices::Untaken>,
    },
    /// The name of somebody who asked is known.
    Called {
        /// Who.
        who: String,
        /// What he asked.
        request: Box<skep_control::Request>,
    },
    /// What this host has to spare was measured, and others should know.
    Spare {
        /// In all, 0 to 1000.
        resources: u16,
        /// Of what it is made.
        parts: skep_managers::Parts,
    },
    /// Targets that this node could not serve, and why.
    Lacks(BTreeMap<String, String>),
    /// Offer a founding token to the master, or give what is left of one.
    Strengthen {
        /// The token.
        token: skep_catalog::Token,
        /// For which history it was destroyed.
        of: Option<u64>,
        /// What came of it.
        reply: oneshot::Sender<skep_catalog::Granted>,
    },
    /// Note an event.
    Note(EventKind),
    /// Stop.
    Stop(Farewell),
}

/// What the loop remembers of a link besides what the node knows.
#[derive(Clone, Debug)]
pub struct LinkNote {
    /// Who.
    pub name: NodeName,
    /// The other end's socket.
    pub remote: SocketAddr,
    /// What its newest certificate says that it has shown over this link.
    pub certificate: CertInfo,
    /// What only the two ends of the link know.
    pub channel: tls::Channel,
    /// What the link is good for, as the node was last told.
    pub worth: Worth,
}

/// The loop's state. Fields that answers read are visible to [`crate::answer`].
pub struct Spine {
    /// Both clocks.
    pub clock: Clock,
    /// The node.
    pub node: Node,
    /// Its certificate.
    pub identity: IdentityHandle,
    /// Its links.
    pub transport: TransportHandle,
    /// Its disk.
    pub disk: Disk,
    /// What happened.
    pub log: EventLog,
    /// The certificate authority, where it is served here.
    pub authority: Option<Authority>,
    /// Waves.
    pub rollout: Rollout,
    /// The way to nodes that cannot be dialled.
    pub reach: Reach,
    /// Who waits for the answers to routed requests.
    pub asking: BTreeMap<skep_routing::Token, oneshot::Sender<RoutedAnswer>>,
    /// Who waits for what the master says.
    pub(crate) wishes: crate::catalog::Wishes,
    /// What operators ordered.
    pub(crate) orders: crate::orders::Orders,
    /// When the catalog goes to the disk, and when it did.
    pub(crate) catalog_due: Option<Time>,
    /// See above.
    pub(crate) catalog_kept: Time,
    /// Links that are up, by the transport's number.
    pub links: BTreeMap<LinkId, LinkNote>,
    /// Bulk links that are up, and to whom.
    pub bulk_links: BTreeMap<skep_transport::LinkId, NodeId>,
    /// Who is given pieces of large bodies.
    pub giving: crate::giving::Giving,
    /// Whether this node is well enough to manage.
    pub(crate) baseline: crate::baseline::Baseline,
    /// Where this node keeps what it keeps.
    pub(crate) state_dir: std::path::PathBuf,
    /// What is done about new waves in a part of the flock.
    pub split: crate::split::Split,
    /// Commands that compute the topologies of groups in place of the built-in way.
    pub generators: BTreeMap<skep_base::GroupName, crate::topology::Generator>,
    /// What was last asked about the topology of each group.
    pub computed: BTreeMap<skep_base::GroupName, skep_base::Digest>,
    /// Computations under way.
    pub computing: Vec<AbortOnDropHandle<()>>,
    /// A knock that is waited for.
    pub knocking: Option<AbortOnDropHandle<()>>,
    /// Where this node listens.
    pub addresses: Vec<Address>,
    /// When the process started, by both clocks.
    pub started: (Time, skep_base::WallTime),
    /// The build.
    pub version: String,
    /// Publishes that wait for the disk.
    pub publishing: BTreeMap<u64, (crate::updates::Publisher, Time)>,
    /// What clients of the client port have asked.
    pub clients: crate::clients::Clients,
    /// Numbers publishes.
    pub next_token: u64,
    /// What was found on the disk at the start.
    pub disk_findings: Vec<skep_control::api::Problem>,
    /// Since when the name is taken.
    pub duplicate: Option<Time>,
    /// Since when nobody else is present.
    pub alone: Option<Time>,
    /// The disk failed.
    pub disk_trouble: Option<DiskTrouble>,
    /// The wall clock was behind when the agent started.
    pub clock_went_back: bool,
    /// How long a member may be silent before it is forgotten.
    pub purge_age: Duration,
    /// The agent is stopping.
    pub stopping: Option<Farewell>,
    /// Until when it waits for another to be master in its stead.
    pub leaves_office: Option<Time>,
    /// Who reads the logs of groups.
    pub readers: crate::updates::Readers,
    /// What goes to commands.
    pub exports: crate::export::Exports,
    /// What becomes of the founding token that this node has.
    pub(crate) founding: Option<watch::Receiver<Option<crate::founding::Held>>>,
    /// What happens to the flock, and the hooks that learn of it.
    pub hooks: Option<crate::hooks::Hooks>,
    /// What this node tells the bloc of its flock.
    pub(crate) history: crate::history::History,
    /// Incidents, and who is told of them.
    pub(crate) notify: Option<crate::notify::Notify>,
    /// Reads that wait for the disk.
    pub reading: std::collections::VecDeque<Arc<str>>,
    /// Reads that the disk has not answered yet.
    pub reads_pending: usize,
    /// When ages go to the disk next.
    note_ages: Time,
    /// When the flood is told of the links' round trips next.
    sample_links: Time,
    /// Which life hellos name.
    life: Arc<AtomicU64>,
    /// How certificates of peers are judged.
    pub judging: tls::Settings,
    /// What renewal is waiting for.
    pub renewing: watch::Receiver<Option<Asking>>,
    pub(crate) certificates: Certificates,
    pub(crate) renewal: mpsc::Sender<Bytes>,
    /// Where other tasks ask this one.
    pub requests: mpsc::Sender<Request>,
    /// Who last said that the name is taken.
    pub(crate) told_by: Option<String>,
    /// This life could not be kept: nothing may be said as it.
    unheard: Option<String>,
    flock_changed: bool,
    out: Outbox<Output>,
    pub(crate) sends: BTreeMap<LinkId, Vec<u8>>,
}

/// Where things that happen come from.
pub struct Sources {
    /// The transport.
    pub transport: mpsc::Receiver<skep_transport::Event>,
    /// The control socket.
    pub control: BackendSide,
    /// The disk.
    pub disk: mpsc::Receiver<Done>,
    /// The client port.
    pub clients: mpsc::Receiver<skep_client_port::Ask>,
    /// The other parts of the agent.
    pub requests: mpsc::Receiver<Request>,
}

/// What the loop has to do with certificates.
pub struct CertificateParts {
    /// How those of peers are judged.
    pub judging: tls::Settings,
    /// Where answers of a CA go.
    pub answers: mpsc::Sender<Bytes>,
    /// What renewal is waiting for.
    pub asking: watch::Receiver<Option<Asking>>,
}

impl Spine {
    /// A loop around `parts`, not running yet.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is one part of the agent, named by type")]
    pub fn new(
        clock: Clock,
        node: Node,
        identity: IdentityHandle,
        transport: TransportHandle,
        disk: Disk,
        authority: Option<Authority>,
        rollout: Rollout,
        clients: crate::clients::Clients,
        reach: Reach,
        addresses: Vec<Address>,
        version: String,
        requests: mpsc::Sender<Request>,
        certificates: CertificateParts,
        life: Arc<AtomicU64>,
        found: (bool, Duration),
    ) -> Self {
        let CertificateParts { judging, answers: renewal, asking: renewing } = certificates;
        Self {
            reads_pending: 0,
            note_ages: clock.now() + NOTE_AGES,
            sample_links: clock.now(),
            life,
            judging,
            renewing,
            certificates: Certificates::default(),
            renewal,
            requests,
            started: (clock.now(), clock.wall()),
            clock,
            node,
            identity,
            transport,
            disk,
            log: EventLog::new(skep_control::EVENTS_KEPT, skep_control::FOLLOWER_QUEUE),
            authority,
            rollout,
            reach,
            asking: BTreeMap::new(),
            wishes: crate::catalog::Wishes::default(),
            orders: crate::orders::Orders::default(),
            catalog_due: None,
            catalog_kept: clock.now(),
            links: BTreeMap::new(),
            bulk_links: BTreeMap::new(),
            giving: crate::giving::Giving::default(),
            knocking: None,
            computing: Vec::new(),
            computed: BTreeMap::new(),
            generators: BTreeMap::new(),
            baseline: crate::baseline::Baseline::default(),
            state_dir: std::path::PathBuf::new(),
            split: crate::split::Split::default(),
            addresses,
            version,
            publishing: BTreeMap::new(),
            clients,
            next_token: 0,
            disk_findings: Vec::new(),
            duplicate: None,
            alone: Some(clock.now()),
            disk_trouble: None,
            clock_went_back: found.0,
            purge_age: found.1,
            stopping: None,
            leaves_office: None,
            readers: crate::updates::Readers::default(),
            exports: crate::export::Exports::default(),
            founding: None,
            hooks: None,
            history: crate::history::History::default(),
            notify: None,
            reading: std::collections::VecDeque::new(),
            told_by: None,
            unheard: None,
            flock_changed: false,
            out: Outbox::new(),
            sends: BTreeMap::new(),
        }
    }

    /// Runs until the agent is told to stop, and has said so to its peers.
    ///
    /// # Errors
    /// When the disk does not keep the life as which the node is about to speak. It has said
    /// nothing then: another start might take the same life for other facts.
    pub async fn run(mut self, mut sources: Sources) -> anyhow::Result<()> {
        if let Some(authority) = &self.authority {
            let body = Some(Bytes::copy_from_slice(&authority.ca().fingerprint().0));
            let kind = record::AUTHORITY;
            self.feed(Input::Publish { kind, schema: 1, body }).await;
        }
        self.tick().await;
        while self.stopping.is_none() && self.step(&mut sources).await {}
        self.leave_office(&mut sources).await;
        let unheard = self.unheard.clone();
        self.last_words(sources).await;
        match unheard {
            Some(why) => anyhow::bail!(
                "the disk does not keep which life of this node this is, so it stops unheard: \
                 {why}; {MAKE_ROOM}"
            ),
            None => Ok(()),
        }
    }

    /// Does what comes next. Says whether there is more to come.
    async fn step(&mut self, sources: &mut Sources) -> bool {
        // The disk comes last: what goes to neighbours is with their links by now.
        self.disk.hand_over();
        let now = self.clock.now();
        let due = self.node.deadline().map(|(at, _)| at).into_iter();
        let due = due.chain(self.exports.deadline()).chain(self.catalog_due);
        let due = due.chain(self.leaves_office).chain(self.telling_deadline()).min();
        let due = due.map_or(LONGEST_SLEEP, |at| at.since(now));
        tokio::select! {
            biased;
            event = sources.transport.recv() => {
                let Some(event) = event else { return false };
                if self.transport_batch(event, &mut sources.transport).await > 1 {
                    // Under load links are read first, so that more is worked on together; a
                    // lone event, and what it leads to, is not kept waiting.
                    tokio::task::yield_now().await;
                }
            }
            Some(done) = sources.disk.recv() => self.disk_done(done, &sources.control).await,
            Some(call) = sources.control.calls.recv() => self.call(call).await,
            Some(ask) = sources.clients.recv() => {
                self.client_asks(ask, &mut sources.clients).await;
            }
            Some(request) = sources.requests.recv() => self.request(request).await,
            () = tokio::time::sleep(due) => {}
        }
        // What happened together is worked on together; a timer of the runtime would be late.
        if self.node.deadline().is_some_and(|(at, _)| at <= self.clock.now()) {
            self.tick().await;
        }
        if self.catalog_due.is_some_and(|at| at <= self.clock.now()) {
            self.keep_catalog();
        }
        if self.exports.deadline().is_some_and(|at| at <= self.clock.now()) {
            self.tick_exports().await;
        }
        if self.telling_deadline().is_some_and(|at| at <= self.clock.now()) {
            self.tick_notify().await;
        }
        true
    }

    /// A master that stops hands over first, so that nobody waits for an election; but not for
    /// longer than an election would take.
    async fn leave_office(&mut self, sources: &mut Sources) {
        let now = self.clock.now();
        let is_master = self.node.management(now).role == skep_managers::Role::Master;
        if !is_master || self.unheard.is_some() {
            return;
        }
        self.leaves_office = Some(now + HAND_OVER_PATIENCE);
        let token = crate::management::LEAVES_OFFICE;
        self.feed(Input::Managers(skep_managers::Input::Stopping { token })).await;
        while self.leaves_office.is_some_and(|at| self.clock.now() < at) {
            if !self.step(sources).await {
                break;
            }
        }
        self.leaves_office = None;
    }

    /// Lets something happen to the node and carries out what it wants.
    pub async fn feed(&mut self, input: Input) {
        self.take(input);
        self.carry_out().await;
    }

    /// Lets something happen to the node; what it wants is carried out later.
    pub fn take(&mut self, input: Input) {
        self.node.handle(self.clock.now(), input, &mut self.out);
    }

    async fn tick(&mut self) {
        let now = self.clock.now();
        if now >= self.note_ages {
            self.note_ages = now + NOTE_AGES;
            let owners: Vec<NodeId> = self.node.members().map(|member| member.node).collect();
            let age = |owner: &NodeId| (*owner, self.node.records().age(*owner, now));
            self.disk.ages(owners.iter().map(age).collect(), self.clock.wall());
        }
        if now >= self.sample_links {
            self.sample_links = now + SAMPLE_LINKS;
            self.hand_round_trips();
        }
        self.look_at_dates();
        self.look_at_baseline();
        self.node.tick(self.clock.now(), &mut self.out);
        self.carry_out().await;
    }

    async fn disk_done(&mut self, done: Done, control: &BackendSide) {
        match done {
            Done::Flood(input) => {
                let grew = matches!(input, skep_flood::Input::Appended { .. });
                let read = matches!(input, skep_flood::Input::Read { .. });
                self.feed(Input::Flood(input)).await;
                if read {
                    self.reads_pending = self.reads_pending.saturating_sub(1);
                    if self.reads_pending == 0 {
                        self.settle_readers().await;
                    }
                }
                if grew {
                    control.appended.send_modify(|grown| *grown += 1);
                }
            }
            Done::Managers(input) => self.feed(Input::Managers(input)).await,
            Done::Works => {
                tracing::info!("the disk takes everything again");
                self.disk_trouble = None;
            }
            Done::Failed { message, hint } => {
                tracing::error!(%message, %hint, "the disk failed");
                let trouble = (message.clone(), hint.clone());
                let now = self.clock.now();
                let since = self.disk_trouble.as_ref().map_or(now, |trouble| trouble.since);
                self.note(EventKind::Problem { message, hint: Some(hint) });
                let (message, hint) = trouble;
                self.disk_trouble = Some(DiskTrouble { since, message, hint });
            }
        }
    }

    async fn request(&mut self, request: Request) {
        match request {
            Request::Found(addresses, source) => {
                self.feed(Input::Found { addresses, source }).await;
            }
            Request::Addresses(addresses) => {
                self.addresses.clone_from(&addresses);
                self.feed(Input::Addresses(addresses)).await;
            }
            Request::Renewed => self.renewed().await,
            Request::Publish { kind, schema, body } => {
                self.feed(Input::Publish { kind, schema, body }).await;
            }
            Request::Announce(body) => {
                self.next_token += 1;
                let token = skep_flood::PublishToken(self.next_token);
                let group = skep_base::GroupName::all();
                let label = skep_flood::Label::default();
                let input = skep_flood::Input::Publish { group, body, token, label };
                self.feed(Input::Flood(input)).await;
            }
            Request::AskCa(request) => self.ask_ca(request).await,
            Request::CaAnswers(link, answer) => self.say(link, &answer),
            Request::Computed { group, job, answer } => {
                if answer.is_err() {
                    self.computed.remove(&group);
                }
                self.feed(Input::Computed { group, job, answer }).await;
            }
            Request::Knocked(peer, took) => self.feed(Input::Knocked { peer, took }).await,
            Request::Reach(wish) => self.wish(wish).await,
            Request::Exported(ended) => self.exported(*ended).await,
            Request::Hooked { hook, of, well, ended } => self.hooked(hook, of, well, ended),
            Request::Posted { target, letter, outcome } => {
                self.posted(target, letter, outcome).await;
            }
            Request::Called { who, request } => self.answer_called(who, *request).await,
            Request::Spare { resources, parts } => {
                self.feed(Input::Spare { resources, parts }).await;
            }
            Request::Lacks(lacking) => self.lacks(lacking),
            Request::Strengthen { token, of, reply } => {
                let wish = skep_catalog::Wish::Strengthen { token, of };
                self.wish_for(wish, crate::catalog::Waiting::Strengthen(reply)).await;
            }
            Request::Note(kind) => self.note(kind),
            Request::Stop(farewell) => self.stopping = Some(farewell),
        }
    }

    /// Answers what clients asked, and what waits behind it.
    async fn client_asks(
        &mut self,
        first: skep_client_port::Ask,
        more: &mut mpsc::Receiver<skep_client_port::Ask>,
    ) {
        self.client_ask(first).await;
        for _ in 0..CLIENT_BATCH {
            match more.try_recv() {
                Ok(ask) => self.client_ask(ask).await,
                Err(_) => return,
            }
        }
    }

    async fn call(&mut self, call: Call) {
        tracing::debug!(caller = ?call.caller, "asked over the control socket");
        self.answer_caller(call.caller.uid, call.request).await;
    }

    /// Notes an event in the log that `skep events` shows.
    pub fn note(&mut self, kind: EventKind) {
        let monotonic_us = self.clock.now().as_nanos() / 1000;
        self.log.push(self.clock.wall(), monotonic_us, kind);
    }

    /// Carries out what the node wants.
    pub async fn carry_out(&mut self) {
        self.drain_outbox().await;
        self.note_flock();
        self.flush();
    }

    async fn drain_outbox(&mut self) {
        while let Some(output) = self.out.pop() {
            match output {
                Output::Send { link, kind, body } => {
                    write_frame(kind, &body, self.sends.entry(link).or_default());
                }
                Output::Dial { dial, expect, addresses } => {
                    let dial = skep_transport::DialId(dial.0);
                    self.transport.dial(dial, addresses, expect, Lane::Control);
                }
                Output::Close { link, why } => {
                    if why == Goodbye::NameTaken {
                        self.report_second_process(link);
                    }
                    self.flush();
                    self.transport.close(skep_transport::LinkId::from_number(link.0), why.as_str());
                }
                Output::PersistIncarnation(incarnation) => {
                    if let Err(why) = self.disk.incarnation(incarnation).await {
                        self.unheard = Some(why);
                        self.stopping = Some(Farewell::Leaving);
                        while self.out.pop().is_some() {}
                        return;
                    }
                }
                Output::PersistRecord { owner, kind, raw } => {
                    let age = self.node.records().age(owner, self.clock.now());
                    // What this node hears is said anew in each life.
                    let ours = owner == self.node.id() && kind != record::WATCH;
                    self.disk.record(owner, kind, &raw, (age, self.clock.wall()), ours);
                }
                Output::ForgetRecords { owner } => self.disk.forget(owner),
                Output::PersistAddress { node, name, addresses } => {
                    self.disk.address(node, name, addresses);
                }
                Output::Compute(job) => self.compute(job),
                Output::Look => self.look(),
                Output::Knock { peer, addresses } => self.knock(peer, addresses),
                Output::Flood(output) => self.flood_output(output),
                Output::Routed(output) => self.routed(output),
                Output::Managers(output) => self.managers_output(output),
                Output::Granted { token, granted } => {
                    Box::pin(self.granted(token, granted)).await;
                }
                Output::Catalog { keys } => self.catalog_changed(&keys),
                Output::Event(event) => self.node_event(event),
            }
        }
    }

    /// Keeps the catalog as it is shown, for the next start.
    fn keep_catalog(&mut self) {
        self.catalog_due = None;
        self.catalog_kept = self.clock.now();
        self.disk.catalog(self.node.catalog().catalog().to_bytes());
    }

    pub(crate) fn flush(&mut self) {
        for (link, frames) in std::mem::take(&mut self.sends) {
            let id = skep_transport::LinkId::from_number(link.0);
            // A link that is down or too slow reports that by itself.
            if let Err(error) = self.transport.send(id, frames.into()) {
                tracing::debug!(link = link.0, %error, "a frame was not sent");
            }
        }
    }

    /// The name of a node, or its identity where nobody said it.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> String {
        let name = self.node.member_view(node).and_then(|member| member.name.cloned());
        name.map_or_else(|| node.to_string(), |name| name.to_string())
    }

    /// Tells the peers, waits until they were told, and lets the disk finish.
    async fn last_words(mut self, sources: Sources) {
        let farewell = self.stopping.unwrap_or(Farewell::Restarting(Duration::from_secs(30)));
        tracing::info!(?farewell, "stopping");
        crate::boot::tell_manager(sd_notify::NotifyState::Stopping);
        drop(sources);
        self.exports.stop();
        self.stop_telling();
        if self.unheard.is_none() {
            self.feed(Input::Stop(farewell)).await;
        }
        self.transport.shutdown(Goodbye::Stopping.as_str()).await;
        self.reach.stop();
        self.rollout.stop().await;
        self.disk.close().await;
    }
}
