//! Publishing for clients: each update once, whatever breaks in between.

use skep_base::GroupName;
use skep_client_port::{Answer, Publication, Refusal, Slot};
use skep_flood::{Input, PublishToken, UpdateId};
use skep_lines::{Found, Id, Key, Logged, code};
use skep_node::Input as NodeInput;

use crate::spine::Spine;
use crate::updates::Publisher;

/// A publish that waits for the disk.
pub(super) struct Pending {
    groups: Vec<GroupName>,
    /// In the order of the groups, as far as they are durable.
    ids: Vec<Option<UpdateId>>,
    left: usize,
    refused: Option<Refusal>,
    key: Option<Key>,
    /// Whoever waits: more than one where the same key came again.
    slots: Vec<Slot>,
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
        let Publication { groups, key, body, slot } = publication;
        let groups = if groups.is_empty() { self.clients.site.clone() } else { groups };
        if let Err(refusal) = groups.iter().try_for_each(|group| self.clients.must_be_in(group)) {
            return slot.answer(Err(refusal));
        }
        let Some(slot) = self.unless_known(&groups, key.as_ref(), slot) else {
            return;
        };
        let number = self.clients.next_pending;
        self.clients.next_pending += 1;
        if let Some(key) = &key {
            self.clients.keyed.insert(key.clone(), number);
        }
        let pending = Pending {
            ids: vec![None; groups.len()],
            left: groups.len(),
            refused: None,
            key,
            slots: vec![slot],
            groups: groups.clone(),
        };
        self.clients.pending.insert(number, pending);
        for (at, group) in groups.into_iter().enumerate() {
            self.next_token += 1;
            let publisher = Publisher::Client { pending: number, at };
            self.publishing.insert(self.next_token, (publisher, self.clock.now()));
            let token = PublishToken(self.next_token);
            self.take(NodeInput::Flood(Input::Publish { group, body: body.clone(), token }));
        }
    }

    /// Answers a publish whose key is known; gives the slot back where it is not.
    fn unless_known(
        &mut self,
        groups: &[GroupName],
        key: Option<&Key>,
        slot: Slot,
    ) -> Option<Slot> {
        let Some(key) = key else {
            return Some(slot);
        };
        if let Some(pending) =
            self.clients.keyed.get(key).and_then(|number| self.clients.pending.get_mut(number))
        {
            pending.slots.push(slot);
            return None;
        }
        match self.clients.keys.find(key) {
            Found::New => return Some(slot),
            Found::Logged(logged) if usize::from(logged.groups) == groups.len() => {
                slot.answer(Ok(Answer::Published(self.ids_of(groups, logged))));
            }
            Found::Logged(_) => {
                let text = format!("key {key} was used for other groups");
                slot.answer(Err(Refusal::new(code::SEQUENCE, text)));
            }
            Found::TooOld => {
                let text = format!("key {key} is too old: nobody knows whether it was logged");
                slot.answer(Err(Refusal::new(code::FORGOTTEN, text)));
            }
        }
        None
    }

    /// The updates of one publish have consecutive sequences, in the order of its groups.
    fn ids_of(&self, groups: &[GroupName], logged: Logged) -> Vec<(GroupName, Id)> {
        let id = |sequence| Id {
            origin: self.clients.me.clone(),
            incarnation: logged.incarnation,
            sequence,
        };
        groups.iter().cloned().zip((logged.first..).map(id)).collect()
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
        let Pending { groups, ids, refused, key, slots, .. } = pending;
        if let Some(key) = &key {
            self.clients.keyed.remove(key);
        }
        if let Some(refusal) = refused {
            for slot in slots {
                slot.answer(Err(refusal.clone()));
            }
            return;
        }
        if let (Some(key), Some(Some(first))) = (&key, ids.first()) {
            let logged = Logged {
                incarnation: first.serial.incarnation.0,
                first: first.serial.sequence,
                groups: u8::try_from(groups.len()).unwrap_or(u8::MAX),
            };
            self.clients.keys.note(key, logged);
        }
        let name = |id: UpdateId| Id {
            origin: self.clients.me.clone(),
            incarnation: id.serial.incarnation.0,
            sequence: id.serial.sequence,
        };
        let named: Vec<(GroupName, Id)> =
            groups.into_iter().zip(ids.into_iter().flatten().map(name)).collect();
        for slot in slots {
            slot.answer(Ok(Answer::Published(named.clone())));
        }
    }
}
