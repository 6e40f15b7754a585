//! Age: how long ago anybody present heard an owner, and what comes from this node's own disk.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};

use crate::machine::{Output, Records, Rejection};
use crate::record::{Content, Record, kind};

impl Records {
    pub(crate) fn presence(&mut self, now: Time, owner: NodeId, present: bool) {
        if let Some(owner) = self.store.owners.get_mut(&owner) {
            if owner.present || present {
                owner.last_heard = now;
            }
            owner.present = present;
        }
    }

    pub(crate) fn purge(&mut self, now: Time, out: &mut Outbox<Output>) {
        let old: Vec<NodeId> = self
            .store
            .owners
            .iter()
            .map(|(id, _)| id)
            .filter(|id| **id != self.me && self.store.age(**id, now) > self.config.purge_after)
            .copied()
            .collect();
        for owner in old {
            self.store.remove(owner);
            out.push(Output::Forgotten { owner });
        }
    }

    /// Takes a record from this node's own disk. What no longer verifies is left out: another CA
    /// may have been laid on the disk since.
    pub(crate) fn restore(
        &mut self,
        now: Time,
        raw: Bytes,
        age: Duration,
        out: &mut Outbox<Output>,
    ) {
        let Ok(record) = Record::parse(raw) else {
            return self.reject(self.me, Rejection::Malformed, out);
        };
        let content = &record.content;
        if age > self.config.purge_after && content.owner != self.me {
            return out.push(Output::Forgotten { owner: content.owner });
        }
        if content.owner == self.me {
            // Facts of an earlier life that still stand are said again by the next one.
            if content.kind > kind::WATCH && !content.retracted {
                let body = content.body.clone();
                self.own.facts.entry(content.kind).or_insert((content.schema, Some(body)));
            }
            return;
        }
        let signatory = match self.verify(&record) {
            Ok(signatory) => signatory,
            Err(reason) => return self.reject(self.me, reason, out),
        };
        if self.store.insert(&record, signatory, now - age).is_ok() {
            let Content { owner, kind, .. } = record.content;
            out.push(Output::Changed { owner, kind });
        }
    }
}
