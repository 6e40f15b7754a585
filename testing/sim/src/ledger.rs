//! What the world's users were promised: which updates were published, acknowledged, handed over.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use skep_base::{Digest, GroupName, Time};
use skep_flood::{Delivered, DeliveredBody, PublishToken, UpdateId};

use crate::HostIx;

/// An update that its publisher was told will reach every live member.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) group: GroupName,
    pub(crate) body: Digest,
    pub(crate) at: Time,
}

#[derive(Clone, Debug)]
struct Pending {
    host: HostIx,
    group: GroupName,
    body: Digest,
}

/// The books.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    next: u64,
    pending: BTreeMap<PublishToken, Pending>,
    pub(crate) promised: BTreeMap<UpdateId, Promise>,
    pub(crate) refused: u64,
    /// What each host's subscriber was handed.
    pub(crate) handed: BTreeMap<HostIx, BTreeSet<UpdateId>>,
}

impl Ledger {
    pub(crate) fn publish(
        &mut self,
        host: HostIx,
        group: &GroupName,
        body: &Bytes,
    ) -> PublishToken {
        self.next += 1;
        let token = PublishToken(self.next);
        let pending = Pending { host, group: group.clone(), body: Digest::of(body) };
        self.pending.insert(token, pending);
        token
    }

    /// Notes an acknowledgement. Says what is wrong with it, if anything is.
    pub(crate) fn acknowledged(
        &mut self,
        now: Time,
        host: HostIx,
        token: PublishToken,
        id: UpdateId,
    ) -> Result<(), String> {
        let Some(pending) = self.pending.remove(&token).filter(|pending| pending.host == host)
        else {
            return Err(format!("acknowledges {id}, which nobody there waits for"));
        };
        let promise = Promise { group: pending.group, body: pending.body, at: now };
        match self.promised.insert(id, promise) {
            None => Ok(()),
            Some(_) => Err(format!("gives the identity {id} to a second update")),
        }
    }

    pub(crate) fn refused(&mut self, token: PublishToken) {
        self.pending.remove(&token);
        self.refused += 1;
    }

    /// Notes what a subscriber was handed. Says what is wrong with it, if anything is.
    pub(crate) fn handed_over(
        &mut self,
        host: HostIx,
        updates: &[Delivered],
    ) -> Result<(), String> {
        let handed = self.handed.entry(host).or_default();
        for update in updates {
            if let Some(promise) = self.promised.get(&update.id)
                && !is_body(&promise.body, &update.body)
            {
                return Err(format!("hands {} over with another body", update.id));
            }
            handed.insert(update.id);
        }
        Ok(())
    }
}

/// Whether what is handed over is what was promised. What is only named is compared in the log.
fn is_body(promised: &Digest, body: &DeliveredBody) -> bool {
    match body {
        DeliveredBody::Here(bytes) => *promised == Digest::of(bytes),
        DeliveredBody::Stored { .. } => true,
    }
}
