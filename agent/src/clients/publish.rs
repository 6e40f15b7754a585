//! Publishing for clients: each update once, whatever breaks in between.

use bytes::Bytes;
use skep_base::{GroupName, NodeId, Trail};
use skep_client_port::{Answer, ClientId, Content, LaidDown, Publication, Refusal, Slot};
use skep_export::{Allowed, judge};
use skep_flood::{Input, Label, PublishToken, Restored, Serial, SpoolId, Spooled, UpdateId};
use skep_lines::{Found, Id, Key, Keys, Logged, Tag, code};
use skep_node::Input as NodeInput;

use crate::clients::Clients;
use crate::spine::Spine;
use crate::updates::Publisher;

/// Connections of which it is remembered that a publish was refused: those made last, more than are
/// served at one time unless that is raised.
const MAX_REFUSED: usize = 4096;

/// A publish that waits for the disk.
pub(super) struct Pending {
    client: ClientId,
    groups: Vec<GroupName>,
    /// In the order of the groups, as far as they are durable.
    ids: Vec<Option<UpdateId>>,
    /// How many of them an earlier life, or an earlier try, had logged already.
    known: usize,
    left: usize,
    refused: Option<Refusal>,
    key: Option<Key>,
    /// The file of a long body, until the log has it.
    _laid_down: Option<LaidDown>,
    /// Whoever waits: more than one where the same key came again.
    slots: Vec<Slot>,
}

/// What is known of a publish before it is one.
enum Before {
    /// The slot found its answer, or waits with another.
    Settled,
    /// These of its updates are in the log already; none, where nothing is known of it.
    Logged(Slot, Vec<UpdateId>),
}

/// The keys of updates of `me` that an earlier life has left in the log.
#[must_use]
pub fn keys_in(log: &[Restored], me: NodeId) -> Keys {
    let mut keys = Keys::new();
    for record in log.iter().filter(|it| skep_flood::message::StoredHead::may_have_tag(&it.head)) {
        let Some(head) = skep_flood::message::StoredHead::from_bytes(&record.head) else {
            continue;
        };
        let id = head.header.id;
        if let Some(tag) = Tag::from_bytes(&head.tag).filter(|_| id.origin == me) {
            keys.restore(&tag, id.serial.incarnation.0, id.serial.sequence);
        }
    }
    keys
}

impl Spine {
    /// Hands updates of a client to the flood, all of one portion at once.
    pub(super) async fn publish_for_clients(&mut self, batch: Vec<Publication>) {
        for publication in batch {
            self.publish_one(publication);
        }
        self.carry_out().await;
    }

    fn publish_one(&mut self, publication: Publication) {
        let Publication { client, groups, key, trail, came, body, slot } = publication;
        let named = !groups.is_empty();
        let groups = if named { groups } else { self.clients.site.clone() };
        if let Err(refusal) = groups.iter().try_for_each(|group| self.clients.must_be_in(group)) {
            return slot.answer(Err(refusal));
        }
        let Allowed { groups, trail } = match judge(&trail, &came, groups, named) {
            Ok(allowed) => allowed,
            Err(looped) => {
                self.exports.note_loop(&looped);
                return slot.answer(Err(Refusal::new(code::LOOP, looped.to_string())));
            }
        };
        if let Some(refusal) = key.as_ref().and_then(|key| self.clients.out_of_turn(client, key)) {
            return slot.answer(Err(refusal));
        }
        let Before::Logged(slot, known) = self.before(&groups, key.as_ref(), slot) else {
            return;
        };
        self.exports.note_reflood(&trail);
        let (body, laid_down) = match body {
            Content::Here(bytes) => (Flooded::Here(bytes), None),
            Content::LaidDown(laid) => (Flooded::Spooled(spooled(&laid)), Some(laid)),
        };
        let number = self.clients.next_pending;
        self.clients.next_pending += 1;
        if let Some(key) = &key {
            self.clients.keyed.insert(key.clone(), number);
        }
        let mut ids: Vec<Option<UpdateId>> = known.iter().copied().map(Some).collect();
        ids.resize(groups.len(), None);
        let pending = Pending {
            client,
            ids,
            known: known.len(),
            left: groups.len() - known.len(),
            refused: None,
            key: key.clone(),
            _laid_down: laid_down,
            slots: vec![slot],
            groups: groups.clone(),
        };
        self.clients.pending.insert(number, pending);
        let of = groups.len();
        for (at, group) in groups.into_iter().enumerate().skip(known.len()) {
            self.next_token += 1;
            let publisher = Publisher::Client { pending: number, at };
            self.publishing.insert(self.next_token, (publisher, self.clock.now()));
            let token = PublishToken(self.next_token);
            let label = label(key.as_ref(), &trail, (at, of));
            self.take(NodeInput::Flood(match &body {
                Flooded::Here(body) => Input::Publish { group, body: body.clone(), token, label },
                Flooded::Spooled(body) => {
                    Input::PublishSpooled { group, body: *body, token, label }
                }
            }));
        }
    }

    /// Answers a publish whose key is known; gives the slot back where it is not, or not all of it.
    fn before(&mut self, groups: &[GroupName], key: Option<&Key>, slot: Slot) -> Before {
        let Some(key) = key else {
            return Before::Logged(slot, Vec::new());
        };
        if let Some(pending) =
            self.clients.keyed.get(key).and_then(|number| self.clients.pending.get_mut(number))
        {
            pending.slots.push(slot);
            return Before::Settled;
        }
        let refusal = match self.clients.keys.find(key) {
            Found::New => return Before::Logged(slot, Vec::new()),
            Found::Logged(parts)
                if parts.iter().all(|part| usize::from(part.of) == groups.len()) =>
            {
                let ids = self.ids_of(&parts);
                if ids.len() < groups.len() {
                    return Before::Logged(slot, ids);
                }
                slot.answer(Ok(Answer::Published(self.named(groups, &ids))));
                return Before::Settled;
            }
            Found::Logged(_) => {
                Refusal::new(code::SEQUENCE, format!("key {key} was used for other groups"))
            }
            Found::TooOld => {
                let text = format!("key {key} is too old: nobody knows whether it was logged");
                Refusal::new(code::FORGOTTEN, text)
            }
        };
        slot.answer(Err(refusal));
        Before::Settled
    }

    /// The updates of one part of a publish have consecutive sequences, in the order of its groups.
    fn ids_of(&self, parts: &[Logged]) -> Vec<UpdateId> {
        let origin = self.node.id();
        let of_part = |part: &Logged| {
            let incarnation = skep_base::Incarnation(part.incarnation);
            let sequences = part.first..part.first + u64::from(part.groups);
            sequences
                .map(move |sequence| UpdateId { origin, serial: Serial { incarnation, sequence } })
        };
        parts.iter().flat_map(of_part).collect()
    }

    fn named(&self, groups: &[GroupName], ids: &[UpdateId]) -> Vec<(GroupName, Id)> {
        let name = |id: &UpdateId| Id {
            origin: self.clients.me.clone(),
            incarnation: id.serial.incarnation.0,
            sequence: id.serial.sequence,
        };
        groups.iter().cloned().zip(ids.iter().map(name)).collect()
    }

    /// One of the updates of a publish is durable.
    pub fn client_published(&mut self, number: u64, at: usize, id: UpdateId) {
        if let Some(pending) = self.clients.pending.get_mut(&number) {
            if let Some(place) = pending.ids.get_mut(at) {
                *place = Some(id);
            }
            self.one_less(number);
        }
    }

    /// One of the updates of a publish was refused.
    pub fn client_refused(&mut self, number: u64, reason: &skep_flood::Refusal) {
        if let Some(pending) = self.clients.pending.get_mut(&number) {
            let code = match reason {
                skep_flood::Refusal::NotMember(_) => code::NOT_FOUND,
                skep_flood::Refusal::NotBegun => code::NOT_YET,
                skep_flood::Refusal::TooLarge { .. } => code::TOO_LARGE,
                skep_flood::Refusal::LongTrail(_) => code::LOOP,
                skep_flood::Refusal::Overloaded { .. } => code::BUSY,
                skep_flood::Refusal::Storage => code::FAILED,
            };
            pending.refused = Some(Refusal::new(code, reason.to_string()));
            self.one_less(number);
        }
    }

    fn one_less(&mut self, number: u64) {
        let done = self.clients.pending.get_mut(&number).is_some_and(|pending| {
            pending.left = pending.left.saturating_sub(1);
            pending.left == 0
        });
        if !done {
            return;
        }
        let Some(pending) = self.clients.pending.remove(&number) else {
            return;
        };
        if let Some(key) = &pending.key {
            self.clients.keyed.remove(key);
            note_logged(&mut self.clients.keys, key, &pending);
        }
        let Pending { client, groups, ids, refused, slots, key, .. } = pending;
        if let Some(refusal) = refused {
            if let Some(key) = key.filter(|_| refusal.is_temporary()) {
                self.clients.note_refused(client, key);
            }
            for slot in slots {
                slot.answer(Err(refusal.clone()));
            }
            return;
        }
        let ids: Vec<UpdateId> = ids.into_iter().flatten().collect();
        let named = self.named(&groups, &ids);
        for slot in slots {
            slot.answer(Ok(Answer::Published(named.clone())));
        }
    }
}

impl Clients {
    /// Why a publish cannot be taken before an earlier one of the same client, which was refused
    /// for now, has come again. A client that sent many ahead would else find them out of order.
    fn out_of_turn(&mut self, client: ClientId, key: &Key) -> Option<Refusal> {
        let refused = self.refused.get(&client)?;
        if refused.publisher == key.publisher && key.number > refused.number {
            let text = format!("{refused} was refused before it: send that first, or connect anew");
            return Some(Refusal::new(code::BUSY, text));
        }
        self.refused.remove(&client);
        None
    }

    fn note_refused(&mut self, client: ClientId, key: Key) {
        if self.refused.len() >= MAX_REFUSED {
            // The connection that was made longest ago.
            self.refused.pop_first();
        }
        let first = self.refused.entry(client).or_insert_with(|| key.clone());
        if first.publisher == key.publisher && key.number < first.number {
            *first = key;
        }
    }
}

/// What the flood is given of a body.
enum Flooded {
    Here(Bytes),
    Spooled(Spooled),
}

fn spooled(laid: &LaidDown) -> Spooled {
    Spooled { spool: SpoolId(laid.number()), length: laid.length(), digest: laid.digest() }
}

/// What goes with the update to one of the groups of a publish.
fn label(key: Option<&Key>, trail: &Trail, (at, of): (usize, usize)) -> Label {
    let number = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
    let tag = key.map(|key| Tag { key: key.clone(), at: number(at), of: number(of) });
    Label { trail: trail.clone(), tag: tag.map_or_else(Vec::new, |tag| tag.to_bytes()) }
}

/// Remembers what of a publish was logged now. A disk that failed may have taken the first of its
/// updates: a retry logs the others.
fn note_logged(keys: &mut Keys, key: &Key, pending: &Pending) {
    let new = pending.ids.iter().skip(pending.known);
    let new: Vec<UpdateId> = new.map_while(|id| *id).collect();
    if let Some(first) = new.first() {
        let number = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
        let logged = Logged {
            incarnation: first.serial.incarnation.0,
            first: first.serial.sequence,
            groups: number(new.len()),
            of: number(pending.groups.len()),
        };
        keys.note(key, logged);
    }
}
