//! Updates between the flood machine, the disk and whoever publishes or reads them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use skep_base::{GroupName, Trail, WallTime};
use skep_client_port::{ClientId, Push, Pusher};
use skep_control::Reply;
use skep_control::api::{
    Accepted, Body, Code, Commit, Committed, Cursor, EventKind, Missing, Published, ReadUpdates,
    Refusal, Update, UpdateId, Updates,
};
use skep_export::judge;
use skep_flood::{
    Delivered, DeliveredBody, Input, Label, LogEntry, Missed, Output, Position, PublishToken,
};
use skep_node::Input as NodeInput;
use skep_store::state::SavedCursor;

use crate::spine::Spine;

/// Subscribers and readers at one time; each holds one hand-over.
pub const MAX_READERS: usize = 4000;
/// Bytes of names that a subscriber's key is made of.
const SEPARATOR: char = '/';

/// Whoever reads the log of a group: a named subscriber, a client that follows, or one passing
/// read.
pub struct Reader {
    /// Of which group.
    pub group: GroupName,
    /// Its place is kept.
    pub durable: bool,
    /// The last hand-over, as far as it is not committed.
    pub given: VecDeque<Delivered>,
    /// What it was told is missing, as far as it is not committed.
    pub gaps: Vec<(Position, Missed)>,
    /// The client that it is pushed to.
    pub follower: Option<Follower>,
    next: Option<Position>,
    /// Records that were purged before it had them.
    lost: u64,
    waiting: Option<(Reply<Updates>, u32)>,
}

impl Reader {
    /// One that has read nothing yet.
    #[must_use]
    pub const fn new(group: GroupName, durable: bool) -> Self {
        Self {
            group,
            durable,
            given: VecDeque::new(),
            gaps: Vec::new(),
            follower: None,
            next: None,
            lost: 0,
            waiting: None,
        }
    }
}

/// A client of the client port that updates are pushed to.
pub struct Follower {
    /// Which.
    pub client: ClientId,
    /// The way to it.
    pub pusher: Pusher,
    /// It was told that it has everything.
    pub told_end: bool,
}

/// Who waits for an update to be durable.
pub enum Publisher {
    /// A call over the control socket.
    Control(Reply<Published>),
    /// A client of the client port.
    Client {
        /// Which of its publishes.
        pending: u64,
        /// Which of that publish's groups.
        at: usize,
    },
}

/// Readers by the name of their cursor.
#[derive(Default)]
pub struct Readers {
    by_name: BTreeMap<Arc<str>, Reader>,
    passing: u64,
}

impl Readers {
    /// The reader of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Reader> {
        self.by_name.get(name)
    }

    /// Likewise.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Reader> {
        self.by_name.get_mut(name)
    }

    /// Puts a reader in, in the place of one of that name.
    pub fn insert(&mut self, name: Arc<str>, reader: Reader) {
        self.by_name.insert(name, reader);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

impl Spine {
    /// Carries out what the flood machine wants.
    pub fn flood_output(&mut self, output: Output) {
        match output {
            Output::Send { .. } => {}
            Output::BodyOpen { .. }
            | Output::BodyLeaves { .. }
            | Output::BodyPiece { .. }
            | Output::BodyDrop { .. } => self.disk.body(output),
            Output::Serve { .. } => self.give(output),
            Output::Fetching { from } => self.need_bulk(from),
            Output::Append { entries, sync } => {
                self.note_updates(&entries);
                self.exports.count(&entries);
                self.disk.append(entries, sync);
            }
            Output::Read { token, items } => {
                self.reads_pending += 1;
                self.disk.read(token, items);
            }
            Output::Purge { below } => self.disk.purge(below),
            Output::Purged(marks) => self.disk.purged(marks),
            Output::Acknowledge { token, id, position } => match self.published(token) {
                Some(Publisher::Control(reply)) => {
                    let id = self.update_id(id);
                    reply.ok(Published { id, cursor: Cursor(position.next().0) });
                }
                Some(Publisher::Client { pending, at }) => {
                    self.client_published(pending, at, id);
                }
                None => {}
            },
            Output::Refuse { token, reason } => match self.published(token) {
                Some(Publisher::Control(reply)) => {
                    reply.refuse(Refusal::new(Code::Refused, reason.to_string()));
                }
                Some(Publisher::Client { pending, at: _ }) => {
                    self.client_refused(pending, &reason);
                }
                None => {}
            },
            Output::HandOver { name, updates, gaps, next } if self.exports.own(&name) => {
                self.export_handed_over(&name, updates, gaps, next);
            }
            Output::HandOver { name, updates, gaps, next } => {
                self.handed_over(&name, updates, gaps, next);
            }
            Output::PersistCursor { name, group, position } if self.exports.own(&name) => {
                self.export_stands(&name, position);
                self.disk.cursor_at_once(name.to_string(), group, position.0);
            }
            Output::PersistCursor { name, group, position } => {
                self.disk.cursor(name.to_string(), group, position.0);
            }
            Output::CursorGap { name, from, to } if self.exports.own(&name) => {
                self.export_lost(&name, to.0.saturating_sub(from.0));
            }
            Output::CursorGap { name, from, to } => {
                if let Some(reader) = self.readers.by_name.get_mut(&name) {
                    let lost = to.0.saturating_sub(from.0);
                    match &reader.follower {
                        Some(follower) => {
                            let group = reader.group.clone();
                            follower.pusher.push(Push::Lost { group, lost });
                        }
                        None => reader.lost += lost,
                    }
                }
            }
            Output::Gap { group, origin, up_to, reason, .. } => {
                let id = self.update_id(skep_flood::UpdateId { origin, serial: up_to });
                tracing::warn!(%group, %id, %reason, "updates are missing, given up for now");
                self.note(EventKind::Gap { group, id, why: Some(reason.to_string()) });
            }
            Output::Reject { from, reason } => {
                let peer = self.name_of(from);
                tracing::warn!(%peer, %reason, "refused what a peer sent");
            }
        }
    }

    /// Tells the flood how long it takes to each neighbour and back, as the kernel measures it.
    pub fn hand_round_trips(&mut self) {
        let links: Vec<_> = self.node.links().map(|link| (link.peer, link.link)).collect();
        for (peer, link) in links {
            let link = skep_transport::LinkId::from_number(link.0);
            if let Some(sample) = self.transport.sample(link) {
                let time = sample.tcp.rtt;
                self.take(NodeInput::Flood(Input::RoundTrip { peer, time }));
            }
        }
    }

    /// Who waits for a publish, and does so no longer.
    fn published(&mut self, token: PublishToken) -> Option<Publisher> {
        self.publishing.remove(&token.0).map(|(publisher, _)| publisher)
    }

    /// Publishes an update; answered when it is on disk here.
    /// What is said of its trail, and the process that publishes, are judged first.
    pub async fn publish(
        &mut self,
        group: GroupName,
        body: bytes::Bytes,
        (trail, pid): (Trail, Option<i32>),
        reply: Reply<Published>,
    ) {
        let came = self.exports.came_from(pid);
        let trail = match judge(&trail, &came, vec![group.clone()], true) {
            Ok(allowed) => allowed.trail,
            Err(looped) => {
                self.exports.note_loop(&looped);
                return reply.refuse(Refusal::new(Code::Refused, looped.to_string()));
            }
        };
        self.exports.note_reflood(&trail);
        let label = Label { trail, tag: Vec::new() };
        self.next_token += 1;
        let token = PublishToken(self.next_token);
        self.publishing.insert(self.next_token, (Publisher::Control(reply), self.clock.now()));
        self.feed(NodeInput::Flood(Input::Publish { group, body, token, label })).await;
    }

    /// Answers with what is there for a reader, or with nothing.
    pub async fn read_updates(
        &mut self,
        group: GroupName,
        query: ReadUpdates,
        reply: Reply<Updates>,
    ) {
        let max = query.max.unwrap_or(skep_control::api::MAX_UPDATES_A_READ);
        let durable = query.subscriber.is_some();
        let name = match &query.subscriber {
            Some(subscriber) => cursor_name(&group, subscriber),
            None => {
                self.readers.passing += 1;
                cursor_name(&group, &format!("{SEPARATOR}{}", self.readers.passing))
            }
        };
        if !self.readers.by_name.contains_key(&name) {
            if self.readers.by_name.len() >= MAX_READERS {
                let hint = "unsubscribe who no longer reads";
                return reply.refuse(Refusal::new(Code::Busy, "too many subscribers").hint(hint));
            }
            let reader = Reader::new(group.clone(), durable);
            self.readers.by_name.insert(Arc::clone(&name), reader);
            // A cursor of the API is the position that was read last, plus one.
            let from = match (query.after, durable) {
                (Some(after), _) => Some(Position(after.0)),
                (None, false) => Some(Position(0)),
                (None, true) => None,
            };
            let open = Input::CursorOpen { name: Arc::clone(&name), group, from, durable };
            self.feed(NodeInput::Flood(open)).await;
        }
        if let Some(reader) = self.readers.by_name.get_mut(&name) {
            if reader.follower.is_some() {
                let message = "a client of the client port reads as this subscriber";
                return reply.refuse(Refusal::new(Code::Conflict, message));
            }
            reader.waiting = Some((reply, max));
        }
        if !self.answer_reader(&name) {
            // It is being read from the disk, or there is nothing; then the server asks again when
            // the log grows.
            self.reading.push_back(name);
            if self.reads_pending == 0 {
                self.settle_readers().await;
            }
        }
    }

    /// Answers readers for whom nothing came although the disk had its turn.
    pub async fn settle_readers(&mut self) {
        for name in std::mem::take(&mut self.reading) {
            self.answer_reader(&name);
            // Where nothing was read, reading goes on where it began.
            let begun = self.node.flood().cursor_next(&name);
            let passing = self.readers.by_name.get_mut(&name).is_some_and(|reader| {
                if let Some((reply, _)) = reader.waiting.take() {
                    let next = reader.next.or(begun).map_or(Cursor(0), |next| Cursor(next.0));
                    let lost = std::mem::take(&mut reader.lost);
                    reply.ok(Updates { next, lost, ..Updates::default() });
                }
                !reader.durable
            });
            if passing {
                self.close_reader(&name).await;
            }
        }
    }

    /// Notes what comes into the log, for those who follow or measure.
    fn note_updates(&mut self, entries: &[LogEntry]) {
        for head in entries.iter().filter_map(|entry| entry.head.update()) {
            let (group, header) = (&head.group, &head.header);
            let id = self.update_id(header.id);
            let bytes = header.length;
            self.note(EventKind::Update { group: group.clone(), id, bytes, age_ms: header.age_ms });
        }
    }

    fn answer_reader(&mut self, name: &Arc<str>) -> bool {
        let Some(reader) = self.readers.by_name.get_mut(name) else {
            return true;
        };
        let nothing = reader.given.is_empty() && reader.gaps.is_empty();
        let (Some(next), false) = (reader.next, nothing) else {
            return false;
        };
        let Some((reply, max)) = reader.waiting.take() else {
            return true;
        };
        let given: Vec<Delivered> = reader.given.iter().take(max as usize).cloned().collect();
        // A part of a hand-over ends at its last update; all of it where everything stands.
        let all = given.len() == reader.given.len();
        let cursor = given.last().filter(|_| !all).map_or(next, |last| last.position.next());
        let gaps: Vec<_> = reader.gaps.iter().filter(|gap| gap.0 < cursor).cloned().collect();
        let lost = std::mem::take(&mut reader.lost);
        let wall = self.clock.wall();
        let updates = given
            .into_iter()
            .map(|update| Update {
                cursor: Cursor(update.position.next().0),
                id: self.update_id(update.id),
                age_ms: u64::try_from(update.age.as_millis()).unwrap_or(u64::MAX),
                logged: before(wall, update.logged),
                late: update.late,
                body: Body(in_memory(&update.body).to_vec()),
                stored: match update.body {
                    DeliveredBody::Here(_) => None,
                    DeliveredBody::Stored { length } => Some(length),
                },
            })
            .collect();
        let gaps = gaps.into_iter().map(|(position, missed)| self.missing(position, missed));
        let gaps = gaps.collect();
        reply.ok(Updates { updates, next: Cursor(cursor.0), lost, gaps });
        true
    }

    fn missing(&self, position: Position, missed: Missed) -> Missing {
        let (after, up_to, why) = self.missed_ids(&missed);
        Missing { cursor: Cursor(position.next().0), after, up_to, why }
    }

    /// The last update before a gap, the last one in it, and why there is one.
    #[must_use]
    pub fn missed_ids(&self, missed: &Missed) -> (Option<UpdateId>, UpdateId, String) {
        let id = |serial| {
            let id = skep_flood::UpdateId { origin: missed.origin, serial };
            self.update_id(id)
        };
        (missed.after.map(id), id(missed.up_to), missed.reason.to_string())
    }

    fn handed_over(
        &mut self,
        name: &Arc<str>,
        updates: Vec<Delivered>,
        gaps: Vec<(Position, Missed)>,
        next: Position,
    ) {
        for update in &updates {
            tracing::trace!(id = %update.id, "handed over");
        }
        let Some(reader) = self.readers.by_name.get_mut(name) else {
            return;
        };
        reader.next = Some(next);
        if reader.follower.is_some() {
            // Whoever has no name gets nothing twice.
            if reader.durable {
                reader.given.extend(updates.iter().cloned());
                reader.gaps.extend(gaps.iter().cloned());
            }
            self.push(&Arc::clone(name), updates, gaps);
        } else {
            reader.given.extend(updates);
            reader.gaps.extend(gaps);
            self.answer_reader(name);
        }
    }

    /// Notes how far a subscriber is.
    pub async fn commit(
        &mut self,
        group: GroupName,
        subscriber: &str,
        commit: Commit,
        reply: Reply<Committed>,
    ) {
        let name = cursor_name(&group, subscriber);
        let Some(reader) = self.readers.by_name.get_mut(&name) else {
            let message = format!("{subscriber} did not read group {group} since the agent began");
            let hint = "read as this subscriber first";
            return reply.refuse(Refusal::new(Code::Conflict, message).hint(hint));
        };
        let up_to = Position(commit.cursor.0);
        reader.given.retain(|update| update.position >= up_to);
        reader.gaps.retain(|(position, _)| *position >= up_to);
        let input = Input::CursorCommit { name, up_to };
        self.feed(NodeInput::Flood(input)).await;
        // Who is told so may rely on it, also when the agent is killed the moment after.
        self.disk.when_kept(move |kept| match kept {
            Ok(()) => reply.ok(Committed { cursor: commit.cursor }),
            Err(why) => {
                let refusal =
                    Refusal::new(Code::Internal, format!("the disk did not take it: {why}"));
                reply.refuse(refusal.hint("commit it again when the disk is well"));
            }
        });
    }

    /// Forgets a subscriber.
    pub async fn unsubscribe(
        &mut self,
        group: GroupName,
        subscriber: &str,
        reply: Reply<Accepted>,
    ) {
        let name = cursor_name(&group, subscriber);
        if self.readers.by_name.contains_key(&name) {
            self.close_reader(&name).await;
            self.disk.forget_cursor(name.to_string());
            reply.ok(Accepted { message: format!("{subscriber} no longer reads {group}") });
        } else {
            let message = format!("nobody named {subscriber} reads group {group}");
            reply.refuse(Refusal::new(Code::NotFound, message));
        }
    }

    /// Opens the cursors that the disk remembers.
    pub async fn open_cursors(&mut self, cursors: Vec<SavedCursor>) {
        for SavedCursor { name, group, position } in cursors {
            let name: Arc<str> = name.into();
            self.readers.by_name.insert(Arc::clone(&name), Reader::new(group.clone(), true));
            let from = Some(Position(position));
            self.feed(NodeInput::Flood(Input::CursorOpen { name, group, from, durable: true }))
                .await;
        }
    }

    /// Subscribers of a group: name and how far each is.
    #[must_use]
    pub fn subscribers(&self, group: &GroupName) -> Vec<skep_control::api::Subscriber> {
        self.readers
            .by_name
            .iter()
            .filter(|(_, reader)| reader.group == *group && reader.durable)
            .map(|(name, _)| {
                let figures = self.node.flood().cursor_figures(name);
                let (committed, behind) = figures.unwrap_or_default();
                skep_control::api::Subscriber {
                    name: name.split_once(SEPARATOR).map_or("", |(_, name)| name).to_owned(),
                    committed: Cursor(committed.0),
                    behind,
                }
            })
            .collect()
    }

    /// Lets a reader go.
    pub async fn close_reader(&mut self, name: &Arc<str>) {
        self.readers.by_name.remove(name);
        let name = Arc::clone(name);
        self.feed(NodeInput::Flood(Input::CursorClose { name })).await;
    }

    /// An update's identity with the name of its origin.
    #[must_use]
    pub fn update_id(&self, id: skep_flood::UpdateId) -> UpdateId {
        let member = self.node.member_view(id.origin);
        let own = || self.identity.current().info().node.clone();
        let origin = match member.and_then(|member| member.name.cloned()) {
            Some(name) => name,
            // Its own life may not have begun yet.
            None if id.origin == self.node.id() => own(),
            // An origin that was forgotten has no name any more; its identity is a valid one.
            None => id.origin.to_string().parse().unwrap_or_else(|_| own()),
        };
        UpdateId { origin, incarnation: id.serial.incarnation.0, sequence: id.serial.sequence }
    }
}

/// A body that is handed over in memory; nothing of one that is read from the log.
pub(crate) fn in_memory(body: &DeliveredBody) -> bytes::Bytes {
    match body {
        DeliveredBody::Here(bytes) => bytes.clone(),
        DeliveredBody::Stored { .. } => bytes::Bytes::new(),
    }
}

fn before(now: WallTime, span: Duration) -> WallTime {
    let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    WallTime::from_unix_ms(now.unix_ms.saturating_sub(span))
}

/// The name under which a subscriber's place is kept.
#[must_use]
pub fn cursor_name(group: &GroupName, subscriber: &str) -> Arc<str> {
    format!("{group}{SEPARATOR}{subscriber}").into()
}
