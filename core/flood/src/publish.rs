//! What this node publishes: numbered, flooded at once, acknowledged when durable.

use alloc::vec::Vec;

use bytes::Bytes;
use skep_base::{Digest, GroupName, NodeId, Outbox, Time};

use crate::event::{Body, Label, LogEntry, LogHead, Output, PublishToken, Refusal, Spooled};
use crate::group::Fresh;
use crate::id::{Position, Serial, UpdateId};
use crate::life::{GroupIx, LifeKey};
use crate::machine::{Flood, age_ms, millis};
use crate::message::{Header, StoredHead};

/// Own updates that may wait for the disk: at 40,000 a second that is more than a second of fsync.
const MAX_UNACKNOWLEDGED: usize = 65_536;

impl Flood {
    pub(crate) fn publish(
        &mut self,
        now: Time,
        group: &GroupName,
        body: Bytes,
        (token, label): (PublishToken, Label),
        out: &mut Outbox<Output>,
    ) {
        let length = body.len() as u64;
        let large = length >= self.config.eager_below.0;
        let digest = large.then(|| Digest::of(&body));
        let what = (length, digest, Body::Here(body));
        self.publish_body(now, group, what, (token, label), out);
    }

    pub(crate) fn publish_spooled(
        &mut self,
        now: Time,
        group: &GroupName,
        body: Spooled,
        (token, label): (PublishToken, Label),
        out: &mut Outbox<Output>,
    ) {
        let what = (body.length, Some(body.digest), Body::Spooled(body.spool));
        self.publish_body(now, group, what, (token, label), out);
    }

    fn publish_body(
        &mut self,
        now: Time,
        group: &GroupName,
        (length, digest, body): (u64, Option<Digest>, Body),
        (token, label): (PublishToken, Label),
        out: &mut Outbox<Output>,
    ) {
        let (ix, predecessor) = match self.may_publish(group, length, &label) {
            Ok(allowed) => allowed,
            Err(reason) => return out.push(Output::Refuse { token, reason }),
        };
        self.sequence += 1;
        let serial = Serial { incarnation: self.incarnation, sequence: self.sequence };
        let id = UpdateId { origin: self.me, serial };
        let Label { trail, tag } = label;
        let header = Header { id, predecessor, age_ms: 0, length, digest, trail };
        let small = match &body {
            Body::Here(bytes) if digest.is_none() => Some(bytes.clone()),
            Body::Here(_) | Body::Fetched | Body::Spooled(_) => None,
        };
        let Some(position) = self.append(now, ix, &header, millis(now), (body, tag), None) else {
            let reason = Refusal::Storage;
            return out.push(Output::Refuse { token, reason });
        };
        if let Some(group) = self.groups.get_mut(group) {
            group.last_own = Some(serial);
        }
        self.sync = true;
        self.stats.published += 1;
        self.unacknowledged.push_back((position, token, id));
        if let Some(body) = small {
            self.pass_on(now, ix, Fresh::answer(header, millis(now), body), out);
        }
    }

    fn may_publish(
        &self,
        group: &GroupName,
        length: u64,
        label: &Label,
    ) -> Result<(GroupIx, Option<Serial>), Refusal> {
        let Some(group) = self.groups.get(group) else {
            return Err(Refusal::NotMember(group.clone()));
        };
        if !self.begun {
            return Err(Refusal::NotBegun);
        }
        if !label.trail.is_sound() {
            return Err(Refusal::LongTrail(label.trail.len()));
        }
        let limit = self.config.body_max.0;
        if length > limit {
            return Err(Refusal::TooLarge { length, limit });
        }
        let waiting = self.unacknowledged.len();
        if waiting >= MAX_UNACKNOWLEDGED {
            return Err(Refusal::Overloaded { waiting });
        }
        Ok((group.ix, group.last_own))
    }

    /// Puts an update into the log and the index. Nothing when too many origins are known. A large
    /// one is announced to the neighbours when it is written.
    pub(crate) fn append(
        &mut self,
        now: Time,
        ix: GroupIx,
        header: &Header,
        born: i64,
        (body, tag): (Body, Vec<u8>),
        from: Option<NodeId>,
    ) -> Option<Position> {
        let key = LifeKey::of(ix, header.id);
        let sequence = header.id.serial.sequence;
        let late = self.index.is_late(key, sequence);
        let name = self.group_name(ix)?.clone();
        let size = (header.length, header.is_large());
        let position = self
            .index
            .append(key, sequence, header.predecessor, size, (born, millis(now)))
            .ok()
            .map(Position)?;
        self.stats.late += u64::from(late);
        let mut header = header.clone();
        header.age_ms = age_ms(now, born);
        let head = StoredHead { tag, group: name, header, late };
        if head.header.is_large() {
            self.unannounced.push_back((position, ix, from));
        }
        self.cache.push(position, &head, &body);
        let head = LogHead::Update(head);
        self.appending.push(LogEntry { position, head, body });
        self.make_room();
        Some(position)
    }

    pub(crate) fn appended(
        &mut self,
        now: Time,
        up_to: Position,
        durable: bool,
        out: &mut Outbox<Output>,
    ) {
        let up_to = up_to.min(Position(self.index.next()));
        self.written = self.written.max(up_to);
        while let Some(&(position, token, id)) = self.unacknowledged.front() {
            if !durable || position >= up_to {
                break;
            }
            self.unacknowledged.pop_front();
            out.push(Output::Acknowledge { token, id, position });
        }
        while let Some(&(position, ix, from)) = self.unannounced.front() {
            if position >= self.written {
                break;
            }
            self.unannounced.pop_front();
            self.announce(now, position, ix, from);
        }
        self.feed_cursors(now, out);
    }

    fn announce(&mut self, now: Time, position: Position, ix: GroupIx, from: Option<NodeId>) {
        let born = self.index.entry(position.0).map(|entry| entry.born);
        let header = self.cache.head(position.0).map(|it| it.0.header.clone());
        // Without its header in memory it was appended long ago: a comparison will show it.
        if let (Some(born), Some(header)) = (born, header)
            && let Some(group) = self.group_at(ix)
        {
            let known_by = from.into_iter().collect();
            group.fresh.push(Fresh { header, born, body: Bytes::new(), known_by, late: false });
        }
        self.wake_at(now, "announcements");
    }

    pub(crate) fn append_failed(&mut self, now: Time, from: Position, out: &mut Outbox<Output>) {
        self.stats.dropped_storage += self.index.truncate(from.0);
        self.cache.truncate(from.0);
        self.appending.retain(|entry| entry.position < from);
        // Not at once: a disk that is full now is full a moment later.
        self.failed_notes.extend(self.notes.split_off(&from.0).into_values());
        self.written = self.written.min(from);
        self.unannounced.retain(|(position, ..)| *position < from);
        while let Some(&(position, token, _)) = self.unacknowledged.back() {
            if position < from {
                break;
            }
            self.unacknowledged.pop_back();
            let reason = Refusal::Storage;
            out.push(Output::Refuse { token, reason });
        }
        for cursor in self.cursors.values_mut() {
            cursor.next = cursor.next.min(Position(self.index.next()));
            cursor.committed = cursor.committed.min(cursor.next);
        }
        self.wake_at(now + self.config.compare_period, "compare");
    }
}
