//! The catalog, asked over the control socket: what it says, what it said, and what it shall say.
//!
//! Reads are answered from this node's copy, which says how fresh it is. Writes go to the flock's
//! master, wherever that is, and are answered when they are decided and kept (DVM-1, BLOC-26).

mod import;
mod shown;

use std::collections::BTreeMap;
use std::path::Path;

use skep_base::NodeId;
use skep_catalog::{
    Command, Expect, Granted, Invalid, Key, Kind, MAX_WHO_BYTES, Outcome, Payload, Stamp, Wish,
    Write, check, reapply,
};
use skep_control::api::{
    Catalog, CatalogDiff, CatalogHistory, CatalogText, Code, DiffCatalog, EventKind, Freshness,
    ReadCatalog, Refusal, StartWave, Text, Wave, WriteCatalog, Written,
};
use skep_control::{Reply, Request};
use skep_managers::Reach;
use skep_node::Input;
use tokio::task::JoinSet;

use tokio::sync::oneshot;

use crate::look::Looking;
use crate::orders::OrderWaits;
use crate::spine::Spine;
use crate::status::millis;
use import::Import;

/// Entries that one event names.
const MAX_NAMED: usize = 64;

/// Who waits for what the master says.
pub(crate) enum Waiting {
    /// For one write.
    Write(Reply<Written>),
    /// For an order.
    Order(OrderWaits),
    /// For a step of an import.
    Import(Box<Import>),
    /// The task that looks after the founding token.
    Strengthen(oneshot::Sender<Granted>),
    /// The desk that notes incidents.
    Notice(skep_notices::Ticket),
    /// A wave, for what the master sees of its roster.
    Wave(StartWave, Reply<Wave>),
    /// Somebody who looks at the flock.
    Look(Looking),
}

/// Wishes under way, by token.
#[derive(Default)]
pub(crate) struct Wishes {
    waiting: BTreeMap<u64, Waiting>,
    /// Who asks what is being answered now. What waits carries its own: others ask meanwhile.
    asked_by: String,
    /// Callers whose names are being looked up; they end with this.
    callers: JoinSet<()>,
}

/// Whether people are told who asked this.
fn tells_who(request: &Request) -> bool {
    matches!(
        request,
        Request::ManageFlock { .. }
            | Request::WriteCatalog { .. }
            | Request::CatalogImport { .. }
            | Request::CatalogReapply { .. }
    )
}

impl Spine {
    /// Answers what somebody asks; once his name is known, where it matters.
    pub(crate) async fn answer_caller(&mut self, uid: u32, request: Request) {
        while self.wishes.callers.try_join_next().is_some() {}
        if !tells_who(&request) {
            return self.answer(request).await;
        }
        let requests = self.requests.clone();
        // A host's list of users may be long, and its disk slow.
        self.wishes.callers.spawn(async move {
            let who = tokio::task::spawn_blocking(move || skep_runner::User::called(uid)).await;
            let who = who.unwrap_or_else(|_| format!("uid {uid}"));
            let called = crate::spine::Request::Called { who, request: Box::new(request) };
            if requests.send(called).await.is_err() {
                tracing::trace!("the agent has ended");
            }
        });
    }

    /// Answers a caller whose name is known.
    pub(crate) async fn answer_called(&mut self, who: String, request: Request) {
        self.wishes.asked_by = who;
        self.answer(request).await;
    }

    /// Who asks what is being answered now.
    pub(crate) fn asked_by(&self) -> String {
        self.wishes.asked_by.clone()
    }

    /// Answers what is asked about the catalog and the flock's management.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller hands on these alone")]
    pub(crate) async fn answer_catalog(&mut self, request: Request) {
        match request {
            Request::ManageFlock { order, reply } => self.manage_flock(order, reply).await,
            Request::FlockRecovery(reply) => reply.ok(self.flock_recovery()),
            Request::Catalog { query, reply } => reply.send(self.catalog(&query)),
            Request::CatalogEntry { key, reply } => reply.send(self.catalog_entry(&key)),
            Request::CatalogDiff { query, reply } => reply.send(self.catalog_diff(query)),
            Request::CatalogExport(reply) => {
                let text = skep_catalog::export(self.node.catalog().catalog());
                reply.ok(CatalogText { text, freshness: Some(self.freshness()) });
            }
            Request::WriteCatalog { write, reply } => match self.write_of(&write) {
                Ok(write) => self.propose(vec![write], Waiting::Write(reply)).await,
                Err(refusal) => reply.refuse(refusal),
            },
            Request::CatalogImport { query, text, reply } => {
                match Import::plan(self.node.catalog().catalog(), query, &text) {
                    Ok(import) => self.import(import.answered_by(reply, self.asked_by())).await,
                    Err(refusal) => reply.refuse(refusal),
                }
            }
            Request::CatalogReapply { name, reply } => self.reapply(&name, reply).await,
            // The caller has looked.
            _ => tracing::error!("a question about something else than the catalog"),
        }
    }

    fn catalog(&self, query: &ReadCatalog) -> Result<Catalog, Refusal> {
        let catalog = self.node.catalog().catalog();
        let freshness = self.freshness();
        let wanted =
            |key: &Key| query.kind.as_ref().is_none_or(|kind| key.kind().to_string() == *kind);
        let entries = catalog.entries().into_iter().filter(|(key, _, _)| wanted(key));
        Ok(Catalog {
            index: freshness.index,
            stamp: freshness.stamp.clone(),
            root: Text(catalog.root()),
            current: !freshness.stale,
            signed_by: freshness.signed_by.clone(),
            known_ms: freshness.known_ms,
            freshness: Some(freshness),
            entries: entries.map(|(key, version, _)| shown::entry(key, version)).collect(),
        })
    }

    fn catalog_entry(&self, key: &str) -> Result<CatalogHistory, Refusal> {
        let key = key_of(key)?;
        let Some(slot) = self.node.catalog().catalog().slot(&key) else {
            return Err(absent(&key));
        };
        let versions = slot.versions().iter().rev().map(|version| shown::entry(&key, version));
        let freshness = Some(self.freshness());
        Ok(CatalogHistory { versions: versions.collect(), cut: slot.is_cut(), freshness })
    }

    fn catalog_diff(&self, query: DiffCatalog) -> Result<CatalogDiff, Refusal> {
        let catalog = self.node.catalog().catalog();
        let (from, to) = (query.from, query.to.unwrap_or(catalog.index()));
        if from > to {
            let message = format!("there is nothing between index {from} and index {to}");
            return Err(Refusal::new(Code::Malformed, message).hint("give the earlier one first"));
        }
        let changes = catalog.diff(from, to).iter().map(shown::change).collect();
        Ok(CatalogDiff { from, to, changes, freshness: Some(self.freshness()) })
    }

    /// How fresh is what this node shows of the catalog (DVM-17).
    fn freshness(&self) -> Freshness {
        let now = self.clock.now();
        let replica = self.node.catalog();
        let (catalog, known) = (replica.catalog(), replica.freshness(now));
        let signed = known.head.filter(|_| known.current);
        let under = signed.map_or_else(Stamp::default, |(_, head)| head.stamp);
        let (master, unreached, reached_before) = match self.node.reach(now) {
            Reach::Master(master) => (Some(master), None, true),
            Reach::Nobody { since, before } => (None, Some(millis(now.since(since))), before),
        };
        let name = |node: NodeId| self.name_of(node).parse().ok();
        Freshness {
            stale: master.is_none() || !known.current,
            master: master.and_then(name),
            unreached_ms: unreached,
            reached_before,
            flock: self.node.management(now).flock.map(|flock| flock.name),
            index: catalog.index(),
            stamp: under.max(catalog.stamp()).to_string(),
            newest_signed: known.current,
            signed_by: known.head.and_then(|(owner, _)| name(owner)),
            known_ms: millis(known.known_for),
            changed: catalog.newest().map(|version| version.when),
        }
    }

    /// What shall be written, checked.
    fn write_of(&self, write: &WriteCatalog) -> Result<Write, Refusal> {
        let key = key_of(&write.key)?;
        if key.kind() == Kind::NOTICE && write.fields.is_some() {
            let message = format!("{key} is of the incidents, which agents note");
            return Err(Refusal::new(Code::Refused, message)
                .hint("remove it, and it is noted again where it is so: see `skep notify ls`"));
        }
        if key.kind() == Kind::CONFLICT && write.fields.is_some() {
            let message = format!("{key} is of the conflict log, which merges write");
            return Err(Refusal::new(Code::Refused, message)
                .hint("apply it with `skep catalog conflicts --apply NAME`, or remove it"));
        }
        let put = write.fields.as_ref().map(|fields| payload(&key, fields)).transpose()?;
        if key.kind() == Kind::TARGET && put.is_some() {
            self.may_add_target(&key)?;
        }
        // The master looks again: what is here may be older than what it has.
        let outdated =
            put.as_ref().and_then(|put| self.node.catalog().catalog().outdated(&key, put));
        if let Some(outdated) = outdated {
            return Err(refusal_of(&outdated));
        }
        let expect = match (write.new, write.revision) {
            (true, _) => Expect::Absent,
            (false, Some(revision)) => Expect::Revision(revision),
            (false, None) => Expect::Anything,
        };
        Ok(Write { key, expect, put })
    }

    async fn reapply(&mut self, name: &str, reply: Reply<Written>) {
        let key = match key_of(&format!("{}/{name}", Kind::CONFLICT)) {
            Ok(key) => key,
            Err(refusal) => return reply.refuse(refusal),
        };
        let catalog = self.node.catalog().catalog();
        let author = self.author(&self.wishes.asked_by);
        let Some(command) = reapply(catalog, &key, author, self.clock.wall()) else {
            return reply.refuse(absent(&key));
        };
        self.propose_command(&command, Waiting::Write(reply)).await;
    }

    pub(crate) async fn propose(&mut self, writes: Vec<Write>, waiting: Waiting) {
        let who =
            if let Waiting::Order(order) = &waiting { order.who() } else { &self.wishes.asked_by };
        let command = Command { who: self.author(who), when: self.clock.wall(), writes };
        self.propose_command(&command, waiting).await;
    }

    async fn propose_command(&mut self, command: &Command, waiting: Waiting) {
        match command.to_bytes() {
            Ok(bytes) => self.wish_for(Wish::Propose(bytes), waiting).await,
            Err(error) => {
                let hint = "what is large belongs in an image or a file, and its name here";
                let refusal = Refusal::new(Code::TooLarge, error.to_string()).hint(hint);
                self.not_granted(waiting, refusal).await;
            }
        }
    }

    /// Who writes, for people.
    fn author(&self, who: &str) -> String {
        let identity = self.identity.current();
        let who = format!("{who} at {}", identity.info().node);
        who.chars()
            .scan(0, |bytes, c| {
                *bytes += c.len_utf8();
                (*bytes <= MAX_WHO_BYTES).then_some(c)
            })
            .collect()
    }

    pub(crate) async fn wish_for(&mut self, wish: Wish, waiting: Waiting) {
        self.next_token += 1;
        let token = self.next_token;
        self.wishes.waiting.insert(token, waiting);
        // What comes at once is carried out with what follows.
        Box::pin(self.feed(Input::Wish { token, wish })).await;
    }

    /// What the master said.
    pub(crate) async fn granted(&mut self, token: u64, granted: Granted) {
        let Some(waiting) = self.wishes.waiting.remove(&token) else { return };
        match (waiting, granted) {
            (Waiting::Strengthen(reply), granted) => drop(reply.send(granted)),
            (Waiting::Order(waiting), granted) => self.order_granted(waiting, granted).await,
            (Waiting::Wave(order, reply), said) => self.roll_called(order, reply, said),
            (Waiting::Look(looking), said) => self.looked(looking, &said),
            (Waiting::Write(reply), Granted::Decided { index, stamp, strong, outcome }) => {
                let written = |changed: Vec<Key>| Written {
                    index,
                    stamp: stamp.to_string(),
                    strength: strength(strong).to_owned(),
                    changed: changed.iter().map(ToString::to_string).collect(),
                };
                reply.send(happened(outcome).map(written));
            }
            (Waiting::Import(import), Granted::Decided { strong, outcome, .. }) => {
                let import = import.stepped(happened(outcome).map(|_| strength(strong)));
                self.import(import).await;
            }
            (Waiting::Notice(ticket), Granted::Decided { outcome, .. }) => {
                self.notices_wrote(ticket, matches!(outcome, Outcome::Applied { .. }));
            }
            (waiting, Granted::Refused { why, again }) => {
                let code = if again { Code::Unavailable } else { Code::Refused };
                self.not_granted(waiting, Refusal::new(code, why)).await;
            }
            (
                waiting,
                Granted::Done | Granted::Called { .. } | Granted::Wanted { .. } | Granted::Shown(_),
            ) => {
                let message = "the master answered something else than was asked";
                self.not_granted(waiting, Refusal::new(Code::Internal, message)).await;
            }
        }
    }

    async fn not_granted(&mut self, waiting: Waiting, refusal: Refusal) {
        match waiting {
            // Answered before this is asked.
            Waiting::Strengthen(_) | Waiting::Look(_) => {}
            Waiting::Write(reply) => reply.refuse(refusal),
            Waiting::Wave(_, reply) => reply.refuse(refusal),
            Waiting::Order(waiting) => self.order_ended(waiting.asked(), Err(refusal)),
            Waiting::Notice(ticket) => {
                tracing::debug!(why = %refusal.message, "incidents were not noted");
                self.notices_wrote(ticket, false);
            }
            Waiting::Import(import) => {
                let import = import.stepped(Err(refusal));
                Box::pin(self.import(import)).await;
            }
        }
    }

    /// Goes on with an import, or answers it.
    async fn import(&mut self, import: Import) {
        let Some((writes, import)) = import.next() else { return };
        let who = self.author(import.author());
        let command = Command { who, when: self.clock.wall(), writes };
        Box::pin(self.propose_command(&command, Waiting::Import(Box::new(import)))).await;
    }

    /// Entries of the catalog say something else now.
    pub(crate) fn catalog_changed(&mut self, keys: &[Key]) {
        self.catalog_due.get_or_insert(self.catalog_kept + super::spine::KEEP_CATALOG);
        if keys.is_empty() {
            return;
        }
        let index = self.node.catalog().catalog().index();
        let named = keys.iter().take(MAX_NAMED).map(ToString::to_string).collect();
        self.note(EventKind::Catalog { index, keys: named });
        if keys.iter().any(|key| matches!(key.kind(), Kind::NOTICE | Kind::CONFLICT)) {
            self.notices_changed();
        }
        if keys.iter().any(|key| key.kind() == Kind::TARGET) {
            self.targets_changed();
        }
        if keys.iter().any(|key| key.kind() == Kind::EXPELLED) {
            self.close_expelled();
        }
    }

    /// Whether the catalog says that a node is a member no more.
    pub(crate) fn is_expelled(&self, certificate: &skep_identity::CertInfo) -> bool {
        self.node.catalog().catalog().expels(&certificate.node, Some(&certificate.hash))
    }

    /// Closes the links to nodes that are members no more.
    fn close_expelled(&mut self) {
        let expelled: Vec<(skep_node::LinkId, skep_base::NodeName)> = self
            .links
            .iter()
            .filter(|(_, note)| self.is_expelled(&note.certificate))
            .map(|(link, note)| (*link, note.name.clone()))
            .collect();
        for (link, name) in expelled {
            tracing::warn!(%name, "expelled by the catalog: its link is closed");
            self.transport.close(skep_transport::LinkId::from_number(link.0), EXPELLED);
        }
    }
}

/// What a node is told that is a member no more.
pub(crate) const EXPELLED: &str = "expelled";

fn strength(strong: bool) -> &'static str {
    if strong { "strong" } else { "weak" }
}

fn happened(outcome: Outcome) -> Result<Vec<Key>, Refusal> {
    match outcome {
        Outcome::Applied { changed } => Ok(changed),
        Outcome::Conflict { key, expected, found } => {
            let found =
                found.map_or("is not there".to_owned(), |at| format!("is at revision {at}"));
            let expected = match expected {
                Expect::Absent => "should not have been there".to_owned(),
                Expect::Revision(revision) => format!("should have been at revision {revision}"),
                Expect::Anything => "should have been anything".to_owned(),
            };
            let message = format!("{key} {expected}, and {found}");
            Err(Refusal::new(Code::Conflict, message)
                .hint(format!("look at it with `skep catalog get {key}`, and decide again")))
        }
        Outcome::Refused(refusal) => Err(refusal_of(&refusal)),
        Outcome::Skipped => {
            let message = "the command was decided, and what came of it is not known here";
            Err(Refusal::new(Code::Internal, message).hint("look with `skep catalog get`"))
        }
    }
}

/// Why a write cannot happen, and what to do.
fn refusal_of(why: &skep_catalog::Refusal) -> Refusal {
    let refusal = Refusal::new(Code::Refused, why.to_string());
    match why {
        skep_catalog::Refusal::Schema { key, .. } => refusal.hint(format!(
            "update this node's skep, or set it on a node that is newer; where its newer meaning \
             is not wanted any more, `skep catalog rm {key}` first"
        )),
        skep_catalog::Refusal::Malformed
        | skep_catalog::Refusal::Absent { .. }
        | skep_catalog::Refusal::Full => refusal,
    }
}

/// The name of an entry, as an operator gave it.
fn key_of(text: &str) -> Result<Key, Refusal> {
    text.parse().map_err(|error: skep_catalog::KeyError| {
        Refusal::new(Code::Malformed, error.to_string())
            .hint("`skep catalog get` lists the entries, `skep catalog set --help` the kinds")
    })
}

fn absent(key: &Key) -> Refusal {
    Refusal::new(Code::NotFound, format!("{key} is not in the catalog"))
        .hint("`skep catalog get` lists the entries")
}

/// Whether an entry may say this: what is said outside, in addresses and URLs, is checked too.
pub(crate) fn well_formed(key: &Key, fields: &skep_catalog::Fields) -> Result<(), Invalid> {
    if key.kind() == Kind::TARGET {
        // Where the host keeps its secrets makes no difference.
        return crate::notify::targets::read_entry(key, fields, Path::new("/")).map(drop);
    }
    check(key, fields).map(drop)
}

/// What an operator wants an entry to say, checked.
pub(crate) fn payload(
    key: &Key,
    fields: &BTreeMap<String, skep_control::api::Field>,
) -> Result<Payload, Refusal> {
    let mut all = skep_catalog::Fields::new();
    for (name, field) in fields {
        let set = all.set(name, shown::field_of(field));
        set.map_err(|error| Refusal::new(Code::Refused, format!("{key}: {error}")))?;
    }
    well_formed(key, &all)
        .map_err(|invalid| Refusal::new(Code::Refused, invalid.to_string()).hint(invalid.hint))?;
    Ok(Payload::of(key.kind(), &all))
}
