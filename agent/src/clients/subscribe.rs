//! Subscribers of the client port: each a cursor of the log.

use std::sync::Arc;

use skep_base::GroupName;
use skep_client_port::{Answer, ClientId, Push, Pushed, Pusher, Refusal, Slot, StoredBody};
use skep_flood::{Delivered, DeliveredBody, Input, Missed, Position};
use skep_lines::{Gap, Id, Start, Subscribe, Update, code};
use skep_node::Input as NodeInput;

use crate::spine::Spine;
use crate::updates::{Follower, MAX_READERS, Reader, cursor_name};

impl Spine {
    /// Pushes a group's updates to a client from now on.
    pub(super) async fn subscribe(
        &mut self,
        client: ClientId,
        subscribe: Subscribe,
        pusher: Pusher,
        slot: Slot,
    ) {
        let Subscribe { group, name, start } = subscribe;
        if let Err(refusal) = self.clients.must_be_in(&group) {
            pusher.push(Push::Ended { group });
            return slot.answer(Err(refusal));
        }
        let durable = name.is_some();
        let cursor = match &name {
            Some(name) => cursor_name(&group, name),
            // No named subscriber has a blank in its name.
            None => cursor_name(&group, &format!(" {}", client.0)),
        };
        let known = self.readers.get(&cursor).is_some();
        if !known && self.readers.len() >= MAX_READERS {
            pusher.push(Push::Ended { group });
            let text = "too many subscribers: forget those that no longer read";
            return slot.answer(Err(Refusal::new(code::BUSY, text)));
        }
        self.take_over(&cursor, client, &group);
        self.clients.subscriptions.insert((client, group.clone()), Arc::clone(&cursor));
        let follower = Follower { client, pusher: pusher.clone(), told_end: false };
        let resumes = known && start == Start::Default;
        if !resumes {
            self.readers.insert(Arc::clone(&cursor), Reader::new(group.clone(), durable));
        }
        let (mut again, mut gaps) = (Vec::new(), Vec::new());
        if let Some(reader) = self.readers.get_mut(&cursor) {
            reader.follower = Some(follower);
            again.extend(reader.given.iter().cloned());
            gaps.extend(reader.gaps.iter().cloned());
        }
        let log = self.node.flood();
        let begin = match start {
            Start::Default if resumes => {
                // What was given and not acknowledged comes first.
                let committed = log.cursor(&cursor).map(|cursor| cursor.committed);
                again.first().map(|first| first.position).or(committed).unwrap_or_default()
            }
            Start::Default | Start::Now => log.written(),
            Start::First => Position(0),
            Start::After(after) => Position(after),
        };
        if resumes {
            slot.answer(Ok(Answer::Place { group, cursor: begin.0 }));
            if !again.is_empty() || !gaps.is_empty() {
                self.push(&cursor, again, gaps);
            }
        } else {
            let name = Arc::clone(&cursor);
            let of = group.clone();
            let open = Input::CursorOpen { name, group, from: Some(begin), durable };
            self.feed(NodeInput::Flood(open)).await;
            self.answer_place(durable, of.clone(), begin.0, move |answer| {
                if answer.is_err() {
                    pusher.push(Push::Ended { group: of });
                }
                slot.answer(answer);
            });
        }
        self.tell_end(&cursor);
    }

    /// Whoever subscribed under that name before is sent away: it may be the same program, whose
    /// connection broke without our seeing it.
    fn take_over(&mut self, cursor: &Arc<str>, client: ClientId, group: &GroupName) {
        let before = self.readers.get_mut(cursor).and_then(|reader| reader.follower.take());
        if let Some(before) = before {
            self.clients.subscriptions.remove(&(before.client, group.clone()));
            if before.client != client {
                before.pusher.push(Push::Taken { group: group.clone() });
            }
        }
    }

    /// Pushes what the log hands over, where a client follows.
    pub fn push(
        &mut self,
        cursor: &Arc<str>,
        updates: Vec<Delivered>,
        gaps: Vec<(Position, Missed)>,
    ) {
        let Some(reader) = self.readers.get(cursor) else {
            return;
        };
        let Some(follower) = &reader.follower else {
            return;
        };
        let group = &reader.group;
        let updates = updates
            .into_iter()
            .map(|update| {
                let stored = self.stored(&update);
                let update = Update {
                    group: group.clone(),
                    cursor: update.position.next().0,
                    id: self.line_id(update.id),
                    age_ms: u64::try_from(update.age.as_millis()).unwrap_or(u64::MAX),
                    late: update.late,
                    body: crate::updates::in_memory(&update.body),
                };
                Pushed { update, stored }
            })
            .collect();
        let of = |origin, serial| self.line_id(skep_flood::UpdateId { origin, serial });
        let gaps = gaps
            .into_iter()
            .map(|(position, missed)| Gap {
                group: group.clone(),
                cursor: position.next().0,
                after: missed.after.map(|serial| of(missed.origin, serial)),
                up_to: of(missed.origin, missed.up_to),
                why: missed.reason.to_string(),
            })
            .collect();
        follower.pusher.push(Push::Updates { updates, gaps });
    }

    /// A body that is read from the log as the client takes it.
    fn stored(&self, update: &Delivered) -> Option<StoredBody> {
        let DeliveredBody::Stored { length } = update.body else {
            return None;
        };
        let (reader, position) = (self.disk.reader(), update.position);
        let open = Box::pin(async move { reader.open_file(position).await });
        Some(StoredBody { length, open })
    }

    fn line_id(&self, id: skep_flood::UpdateId) -> Id {
        let id = self.update_id(id);
        Id { origin: id.origin, incarnation: id.incarnation, sequence: id.sequence }
    }

    /// Says once that a subscriber has everything.
    fn tell_end(&mut self, cursor: &Arc<str>) {
        let log = self.node.flood();
        let end = log.written();
        if !log.cursor(cursor).is_some_and(|cursor| cursor.caught_up) {
            return;
        }
        let Some(reader) = self.readers.get_mut(cursor) else {
            return;
        };
        let group = reader.group.clone();
        if let Some(follower) = reader.follower.as_mut().filter(|follower| !follower.told_end) {
            follower.told_end = true;
            follower.pusher.push(Push::CaughtUp { group, cursor: end.0 });
        }
    }

    /// A client has dealt with what it was given up to a place.
    pub(super) async fn client_ack(
        &mut self,
        client: ClientId,
        group: GroupName,
        cursor: u64,
        slot: Option<Slot>,
    ) {
        let Some(name) = self.clients.subscriptions.get(&(client, group.clone())).cloned() else {
            if let Some(slot) = slot {
                let text = format!("you are not subscribed to {group}");
                slot.answer(Err(Refusal::new(code::SEQUENCE, text)));
            }
            return;
        };
        let up_to = Position(cursor);
        if let Some(reader) = self.readers.get_mut(&name) {
            reader.given.retain(|update| update.position >= up_to);
            reader.gaps.retain(|(position, _)| *position >= up_to);
        }
        let commit = Input::CursorCommit { name: Arc::clone(&name), up_to };
        self.feed(NodeInput::Flood(commit)).await;
        if let Some(slot) = slot {
            let durable = self.readers.get(&name).is_some_and(|reader| reader.durable);
            self.answer_place(durable, group, cursor, |answer| slot.answer(answer));
        }
        self.tell_end(&name);
    }

    /// Says where a subscriber is. One with a name may rely on it, also when the agent is killed
    /// the moment after: it is kept before.
    fn answer_place(
        &mut self,
        durable: bool,
        group: GroupName,
        cursor: u64,
        answer: impl FnOnce(Result<Answer, Refusal>) + Send + 'static,
    ) {
        let place = Answer::Place { group, cursor };
        if !durable {
            return answer(Ok(place));
        }
        self.disk.when_kept(move |kept| {
            answer(kept.map(|()| place).map_err(|why| {
                Refusal::new(code::FAILED, format!("the disk did not take it, say it again: {why}"))
            }));
        });
    }

    /// A client wants no more, or is gone. What it has a name for stays.
    pub(super) async fn client_unsubscribe(
        &mut self,
        client: ClientId,
        group: GroupName,
        slot: Option<Slot>,
    ) {
        if let Some(name) = self.clients.subscriptions.remove(&(client, group.clone())) {
            let durable = self.readers.get_mut(&name).is_some_and(|reader| {
                reader.follower = None;
                reader.durable
            });
            if !durable {
                self.close_reader(&name).await;
            }
        }
        if let Some(slot) = slot {
            slot.answer(Ok(Answer::Done(format!("no more of {group}"))));
        }
    }

    /// Forgets a subscriber's name.
    pub(super) async fn forget(&mut self, group: &GroupName, name: &str, slot: Slot) {
        let cursor = cursor_name(group, name);
        if self.readers.get(&cursor).is_none() {
            let text = format!("nobody named {name} reads group {group}");
            return slot.answer(Err(Refusal::new(code::NOT_FOUND, text)));
        }
        if let Some(follower) = self.readers.get_mut(&cursor).and_then(|one| one.follower.take()) {
            self.clients.subscriptions.remove(&(follower.client, group.clone()));
            follower.pusher.push(Push::Taken { group: group.clone() });
        }
        self.close_reader(&cursor).await;
        self.disk.forget_cursor(cursor.to_string());
        slot.answer(Ok(Answer::Done(format!("{name} is forgotten in {group}"))));
    }
}
