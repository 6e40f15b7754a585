//! The engine's rounds: what of them goes to the disk, what is sent before and after that, and what
//! comes of the entries that are decided.

use skep_base::{NodeId, Outbox, Time};

use crate::config::{MAX_IMAGE_BYTES, MAX_ROSTER};
use crate::disk::After;
use crate::engine::{Engine, Round};
use crate::event::{Event, Output};
use crate::group::{Effect, Group};
use crate::machine::{Managers, newest};
use crate::message::{Engine as Packet, EngineBody, Message};
use crate::stored::{Cut, ImageChange, StoredEntry, Write};

impl Managers {
    /// Lets the engine run until it wants nothing more.
    pub(crate) fn pump(&mut self, now: Time, out: &mut Outbox<Output>) {
        while let Some(group) = self.group.as_mut().filter(|group| group.engine.is_ready()) {
            let life = group.life;
            let round = group.engine.round(now);
            let mut round = Self::with_images(group, round);
            let wires = std::mem::take(&mut round.now);
            self.send_wires(wires, out);
            self.keep_round(&mut round, out);
            let then = std::mem::take(&mut round.then);
            #[cfg(test)]
            let then = if crate::plant::is(crate::plant::Bug::NoPersist) {
                self.send_wires(then, out);
                Vec::new()
            } else {
                then
            };
            let after = After::Round { life, number: round.number, wires: then };
            if let Some(after) = self.disk.behind(after) {
                self.after(after, out);
            }
            self.apply(now, life, round, out);
        }
    }

    fn with_images(group: &mut Group, mut round: Round) -> Round {
        round.now.retain_mut(|(to, _, body)| {
            let EngineBody::Snapshot { index, log_term, bytes } = body else {
                return true;
            };
            let (image, encoded) = group.image_for(*to);
            (*index, *log_term) = (image.index, image.term);
            *bytes = encoded.len() as u64;
            encoded.len() <= MAX_IMAGE_BYTES
        });
        round
    }

    /// Gives the disk what a round of the engine wants kept.
    fn keep_round(&mut self, round: &mut Round, out: &mut Outbox<Output>) {
        let mut write = Write::default();
        if let Some(image) = &round.image {
            write.cut = Cut::All;
            write.image = ImageChange::Replace(image.to_bytes());
        } else if let Some(first) = round.entries.first().filter(|_| round.overwrites) {
            write.cut = Cut::From(first.index);
        }
        let stored = round.entries.drain(..).map(|entry| StoredEntry {
            index: entry.index,
            body: skep_wire::encode(&entry).into(),
        });
        write.entries = stored.collect();
        if round.hard {
            self.state.voter = self.group.as_ref().map(|group| group.engine.voter());
        }
        self.state_changed |= round.sync;
        if write != Write::default() || self.state_changed {
            self.write(write, Vec::new(), out);
        }
        if let (Some(group), Some(image)) = (&mut self.group, round.image.take()) {
            group.install(image);
            let founding = group.meta.founding;
            self.state.seen = newest(self.state.seen, group.stamp());
            self.state_changed = true;
            self.saw_founding(founding);
            self.tell_catalog(out);
        }
    }

    fn apply(&mut self, now: Time, life: u64, round: Round, out: &mut Outbox<Output>) {
        for entry in &round.decided {
            let Some(group) = self.group.as_mut().filter(|group| group.life == life) else {
                return;
            };
            let effect = group.apply(entry);
            self.took_effect(now, effect, out);
        }
    }

    fn took_effect(&mut self, now: Time, effect: Effect, out: &mut Outbox<Output>) {
        match effect {
            Effect::Nothing => {}
            Effect::Placed { node, held: true } => {
                if self.held_since.len() >= MAX_ROSTER {
                    self.held_since.clear();
                }
                self.held_since.entry(node).or_insert(now);
            }
            Effect::Placed { node, held: false } => {
                self.held_since.remove(&node);
                self.stays_in_office(node);
            }
            Effect::Catalog(entry) => out.push(Output::Committed(entry)),
            Effect::Stamped { master } => self.stamped(now, master, out),
            Effect::SyncSet => self.sync_changed(out),
            Effect::Founded { founding } => self.founded(founding, out),
            Effect::Voters => self.voters_changed(now, out),
            Effect::Absorbed { lineage, changes } => {
                self.bump_epoch();
                out.push(Output::Event(Event::Absorbed { lineage, changes }));
            }
            Effect::Ended { into } => self.dissolve(now, Some(into), "its flock merged", out),
        }
    }

    /// Writes, with the newest state where it changed.
    pub(crate) fn write(&mut self, mut write: Write, after: Vec<After>, out: &mut Outbox<Output>) {
        if let Some(group) = &self.group {
            self.state.voter = Some(group.engine.voter());
        }
        if std::mem::take(&mut self.state_changed) {
            write.state = Some(self.state.to_bytes());
        }
        self.disk.write(write, after, out);
    }

    pub(crate) fn after(&mut self, after: After, out: &mut Outbox<Output>) {
        match after {
            After::Send(to, Message::AuthorityGiven { lineage, round }) if to == self.me.id => {
                self.authority_given(to, lineage, round);
            }
            After::Send(to, message) => self.send(to, &message, out),
            After::Obey(token) => out.push(Output::Obeyed { token }),
            After::Round { life, number, wires } => {
                let Some(group) = self.group.as_mut().filter(|group| group.life == life) else {
                    return;
                };
                group.engine.persisted(number);
                self.send_wires(wires, out);
            }
        }
    }

    /// Says `message` once everything that this node decided before is on disk.
    pub(crate) fn send_when_safe(
        &mut self,
        to: NodeId,
        message: Message,
        out: &mut Outbox<Output>,
    ) {
        if self.disk.is_overdue() {
            return; // Whoever asks asks again.
        }
        let after = After::Send(to, message);
        if self.state_changed {
            self.write(Write::default(), vec![after], out);
        } else if let Some(after) = self.disk.behind(after) {
            self.after(after, out);
        }
    }

    pub(crate) fn send(&self, to: NodeId, message: &Message, out: &mut Outbox<Output>) {
        if to != self.me.id {
            out.push(Output::Send { to, body: message.to_bytes() });
        }
    }

    fn send_wires(&self, wires: Vec<(crate::RaftId, u64, EngineBody)>, out: &mut Outbox<Output>) {
        let Some(group) = &self.group else {
            return;
        };
        let engine: &Engine = &group.engine;
        for (raft, term, body) in wires {
            let Some(to) = group.node_of(raft) else {
                continue;
            };
            let (lineage, fork, from) = (engine.lineage, engine.fork, engine.raft);
            let packet = Packet { lineage, fork, from, to: raft, term, body };
            self.send(to, &Message::Engine(packet), out);
        }
    }
}
