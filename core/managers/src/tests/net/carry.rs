//! What comes next, and how the outputs of machines are carried out.

use std::time::Duration;

use bytes::Bytes;
use skep_base::{Incarnation, Outbox, Time};

use super::{Asked, Event_, FLOODED, Makes, Net, global, id, local};
use crate::stored::{Image, State};
use crate::tests::role::suits;
use crate::*;

impl Net {
    /// One event, or one tick, no later than `end`.
    pub(super) fn step(&mut self, end: Time) -> bool {
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        let awake = self.up().filter(|on| !self.hosts[*on].paused);
        let ticks = awake.filter_map(|on| {
            let (at, _) = self.machine(on).deadline()?;
            Some((global(at, self.hosts[on].drift).max(self.now), on))
        });
        let tick = ticks.min();
        let due = [queued, tick.map(|(at, _)| at)].into_iter().flatten().min();
        let Some(at) = due.filter(|at| *at <= end) else { return false };
        self.steps = if at > self.now { 0 } else { self.steps + 1 };
        assert!(self.steps < 100_000, "time stands still for {tick:?}\n{}", self.dump());
        self.now = self.now.max(at);
        match tick {
            Some((when, on)) if queued.is_none_or(|queued| when < queued) => {
                self.settle(on, |machine, now, out| machine.tick(now, out));
            }
            _ => {
                let (_, event) = self.queue.pop_first().unwrap();
                self.event(event);
            }
        }
        true
    }

    pub(super) fn event(&mut self, event: Event_) {
        match event {
            Event_::Input(on, life, _) | Event_::Synced(on, life, _)
                if self.hosts[on].life != life => {}
            Event_::Heard { of, life, .. } if self.hosts[of].life != life => {}
            Event_::Input(on, ..)
            | Event_::Synced(on, ..)
            | Event_::Heard { to: on, .. }
            | Event_::Look(on, _)
            | Event_::Order(on, _)
                if self.hosts[on].paused =>
            {
                self.hosts[on].backlog.push_back(event);
            }
            // What was under way when a way broke is lost.
            Event_::Input(on, _, Input::Message { from, .. })
                if self.is_cut(on, usize::from(from.as_bytes()[0]) - 1) => {}
            Event_::Input(on, _, input) => {
                if self.hosts[on].machine.is_some() {
                    self.give(on, input);
                }
            }
            Event_::Synced(on, _, ticket) => self.synced(on, ticket),
            Event_::Heard { to, of, body, .. } => {
                if self.hosts[to].machine.is_some() && self.hosts[to].present.contains(&of) {
                    self.give(to, Input::Announced { node: id(of), body });
                }
            }
            Event_::Look(to, of) => self.look(to, of),
            Event_::Order(to, stamp) => self.give_order(to, stamp),
        }
    }

    pub(super) fn look(&mut self, to: usize, of: usize) {
        if self.hosts[to].machine.is_none() {
            return;
        }
        let there = self.hosts[of].machine.is_some() && !self.is_cut(to, of);
        let was = self.hosts[to].present.contains(&of);
        let node = id(of);
        if there {
            // Also when it was there all the while: it may be another life of it.
            self.hosts[to].present.insert(of);
            let incarnation = Incarnation(self.hosts[of].life);
            let (eligible, resources) = (self.hosts[of].eligible, self.hosts[of].resources);
            self.give(to, Input::Member { node, incarnation, eligible, resources });
            self.give(to, Input::LinkUp { node });
            if let Some(body) = self.hosts[of].announcement.clone() {
                self.give(to, Input::Announced { node, body });
            }
        } else if was {
            self.hosts[to].present.remove(&of);
            self.give(to, Input::LinkDown { node, why: Down::Silent });
            self.give(to, Input::Silent { node });
        }
    }

    pub(super) fn settle(
        &mut self,
        on: usize,
        act: impl FnOnce(&mut Managers, Time, &mut Outbox<Output>),
    ) {
        let now = local(self.now, self.hosts[on].drift);
        let mut out = Outbox::new();
        let Some(machine) = self.hosts[on].machine.as_mut() else { return };
        act(machine, now, &mut out);
        machine.check();
        let outputs: Vec<Output> = out.drain().collect();
        for output in outputs {
            self.output(on, output);
        }
        self.check(on);
        // At once, and after all that was said before.
        if let Some(items) = self.hosts[on].made.take() {
            let entries = items.len() as u64;
            self.give(on, Input::HandOver { items, entries });
        }
    }

    pub(super) fn output(&mut self, on: usize, output: Output) {
        let (now, life) = (self.now, self.hosts[on].life);
        match output {
            Output::Send { to, body } => {
                assert!(body.len() <= MAX_MESSAGE_BYTES);
                self.messages += 1;
                // What was tampered with may name a node that there is not.
                let to = usize::from(to.as_bytes()[0]).wrapping_sub(1);
                if to >= self.hosts.len() {
                    return;
                }
                let lost = self.loss > 0.0 && self.rng.chance(self.loss);
                let lost = lost || self.deaf.contains(&(on, to));
                if !lost && !self.is_cut(on, to) && self.hosts[to].machine.is_some() {
                    let delay = self.rng.within(self.latency.0 * 1000..self.latency.1 * 1000 + 1);
                    let peer = self.hosts[to].life;
                    let input = Input::Message { from: id(on), body: body.clone() };
                    let lag = self.lag.get(&to).copied().unwrap_or_default();
                    let at = now + Duration::from_micros(delay) + lag;
                    if self.tampered > 0.0 && self.rng.chance(self.tampered) {
                        let body = self.tamper(&body);
                        let input = Input::Message { from: id(on), body };
                        self.push(at, Event_::Input(to, peer, input));
                    }
                    self.push(at, Event_::Input(to, peer, input));
                }
            }
            Output::Persist { ticket, write } => {
                let host = &mut self.hosts[on];
                host.writes.push_back((ticket, write));
                let delay = self.rng.within(host.disk_delay.0..host.disk_delay.1 + 1);
                self.push(now + Duration::from_millis(delay), Event_::Synced(on, life, ticket));
            }
            Output::Announce { body } => {
                self.hosts[on].announcement = Some(body.clone());
                for to in 0..self.hosts.len() {
                    if to != on && !self.is_cut(on, to) {
                        let body = body.clone();
                        self.push(now + FLOODED, Event_::Heard { to, of: on, life, body });
                    }
                }
            }
            Output::Install { lineage, .. } => {
                self.note(format!("{on} installs {lineage:?}"));
                let host = &mut self.hosts[on];
                host.catalog.clear();
                host.lineage = Some(lineage);
            }
            Output::Committed(entry) => self.committed(on, entry),
            Output::Accepted { token, index, strength, .. } => {
                self.check_accepted(on, index, strength);
                let body = self.proposed[&token.0].clone();
                self.hosts[on].accepted.insert(token.0, (index, strength));
                self.acknowledged.push((body, on, now));
            }
            Output::Refused { token, why } => {
                self.hosts[on].refused.insert(token.0, why);
            }
            Output::Done { token } => {
                self.hosts[on].done.insert(token.0);
            }
            Output::Called { token, authority } => {
                self.hosts[on].called.insert(token.0, authority);
            }
            Output::Wanted { token, lineage } => {
                self.hosts[on].wanted.insert(token.0, lineage);
            }
            Output::ReadGranted { token, index, .. } => {
                self.hosts[on].reads.insert(token.0, index);
            }
            Output::Obeyed { token } => self.obeyed(on, token),
            Output::Disobeyed { .. } => self.orders.1 += 1,
            Output::WantCheckpoint => self.hosts[on].wants_checkpoint = true,
            Output::WantHandOver { checkpoint, entries, common } => {
                let after = checkpoint.map_or(0, |(index, _)| index);
                self.make_items(on, Asked { after, entries, common });
            }
            Output::Pin(_) => {}
            Output::Event(event) => {
                self.note(format!("{on} {event:?}"));
                if matches!(event, Event::SyncSet { .. }) {
                    self.check_joined(on);
                }
                if let Event::RoleChanged { from, to, why } = event
                    && !suits(from, to, why)
                {
                    self.faults.push(format!("{on} is {to}, was {from}, and says: {why}"));
                }
                self.hosts[on].events.push(event);
            }
            Output::Reject { from, reason } => self.hosts[on].rejects.push((from, reason)),
        }
    }

    /// The message with some of its bytes changed. Numbers take one to ten bytes, so that most of
    /// what comes out can be read.
    pub(super) fn tamper(&mut self, body: &[u8]) -> Bytes {
        let mut bytes = body.to_vec();
        for _ in 0..self.rng.within(1..4) {
            let Some(at) = self.rng.index(bytes.len()) else { break };
            match self.rng.within(0..5) {
                0 => bytes[at] ^= 1 << self.rng.within(0..7),
                1 => bytes[at] = bytes[at].wrapping_add(1),
                2 => bytes[at] = u8::try_from(self.rng.within(0..128)).unwrap(),
                3 => bytes.insert(at, 0xff),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes.into()
    }

    /// Whoever knows an entry knows it by the same name.
    fn check_name(&mut self, on: usize, entry: &Decided) {
        let name = (entry.stamp.fork, entry.term, entry.index);
        let known = self.named.entry(name).or_insert_with(|| entry.body.clone());
        if *known != entry.body {
            self.faults.push(format!("{on} has another entry under {name:?}"));
        }
    }

    /// What a host makes of a history that merges into another.
    fn make_items(&mut self, on: usize, asked: Asked) {
        self.note(format!(
            "{on} makes items of {} entries after {}, {} common",
            asked.entries.len(),
            asked.after,
            asked.common
        ));
        let mut last = asked.after;
        for entry in &asked.entries {
            if entry.index <= last {
                self.faults.push(format!("{on} makes items of {} after {last}", entry.index));
            }
            last = entry.index;
            self.check_name(on, entry);
        }
        let host = &mut self.hosts[on];
        let longest = Bytes::from_static(&[b'x'; MAX_ENTRY_BYTES + 1]);
        host.made = match host.makes {
            Makes::Items => {
                let lacks = asked.entries.iter().filter(|entry| entry.index > asked.common);
                Some(lacks.map(|entry| entry.body.clone()).collect())
            }
            Makes::Nothing => None,
            Makes::TooMuch => {
                let item = longest.slice(1..);
                Some(vec![item; MAX_HAND_OVER_BYTES / MAX_ENTRY_BYTES + 1])
            }
            Makes::TooLong => Some(vec![longest]),
        };
        host.asked.push(asked);
    }

    pub(super) fn committed(&mut self, on: usize, entry: Decided) {
        self.check_name(on, &entry);
        let Decided { index, stamp, term, ref body, .. } = entry;
        let lineage = self.hosts[on].lineage.expect("an entry of no history");
        let known = self.decided.entry(lineage).or_default();
        let first = known.entry(index).or_insert_with(|| (stamp, term, body.clone()));
        if *first != (stamp, term, body.clone()) {
            self.faults.push(format!("{on} decided another entry at {index} of {lineage:?}"));
        }
        let last = self.hosts[on].catalog.keys().next_back().copied().unwrap_or(0);
        if index <= last {
            self.faults.push(format!("{on} was given {index} after {last}"));
        }
        self.hosts[on].catalog.insert(index, entry);
    }

    pub(super) fn synced(&mut self, on: usize, ticket: Ticket) {
        if let Some(why) = self.hosts[on].disk_faulty {
            self.give(on, Input::PersistFailed { ticket, why });
            return;
        }
        let host = &mut self.hosts[on];
        while host.writes.front().is_some_and(|(at, _)| *at <= ticket) {
            let (_, write) = host.writes.pop_front().unwrap();
            apply(&mut host.disk, write);
        }
        // What is on disk can be read at any moment, and the stamp in it never falls. A long log
        // is not read each time.
        if host.disk.entries.len() < 200 {
            host.disk.read(id(on)).expect("a disk that cannot be read");
        }
        let state = host.disk.state.as_ref().expect("no state");
        let state: State = skep_wire::decode("state", state).unwrap();
        if state.seen.epoch < host.seen.epoch {
            self.faults.push(format!("the stamp of {on} fell to {}", state.seen));
        }
        let pledged = state.pledge.map_or(Founding(0), |pledge| pledge.founding);
        if pledged < host.pledged {
            self.faults.push(format!("{on} promised under {pledged:?} after a higher number"));
        }
        self.hosts[on].pledged = pledged;
        self.hosts[on].seen = state.seen;
        self.give(on, Input::Persisted { ticket });
    }
}

fn apply(disk: &mut Restored, write: Write) {
    match write.cut {
        Cut::Nothing => {}
        Cut::From(index) => disk.entries.retain(|entry| entry.index < index),
        Cut::Through(index) => disk.entries.retain(|entry| entry.index > index),
        Cut::All => disk.entries.clear(),
    }
    match write.image {
        ImageChange::Keep => {}
        ImageChange::Replace(image) => {
            assert!(Image::from_bytes(&image).is_some(), "an image that cannot be read");
            disk.image = Some(image);
        }
        ImageChange::Drop => disk.image = None,
    }
    disk.entries.extend(write.entries);
    if let Some(state) = write.state {
        let _readable: State = skep_wire::decode("state", &state).unwrap();
        disk.state = Some(state);
    }
}
