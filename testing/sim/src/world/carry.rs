//! Carrying out what nodes want done.

use std::collections::VecDeque;
use std::time::Duration;

use skep_base::NodeId;
use skep_flood::{Input as FloodInput, Output as FloodOutput, Position};
use skep_node::{Event, Input, Output, Status};
use skep_wire::Frame;

use super::{Happening, World};
use crate::host::HostIx;
use crate::report::Checker;

/// How long a topology is computed for.
const COMPUTING: Duration = Duration::from_millis(500);
/// How long a knock that nobody answers is waited for.
const KNOCK_LIMIT: Duration = Duration::from_secs(3);

impl World {
    /// Does what a node wants, or queues it behind what its disk has not kept yet.
    pub(crate) fn carry_out_in_turn(&mut self, host: HostIx, output: Output) {
        let waiting = self.host_mut(host).process.as_mut().and_then(|p| p.waiting.as_mut());
        match waiting {
            Some(waiting) => waiting.push_back(output),
            None => self.carry_out(host, output),
        }
    }

    /// The disk has kept what came first; what waited for it is done.
    pub(crate) fn release(&mut self, host: HostIx) {
        let process = self.host_mut(host).process.as_mut();
        let Some(mut waiting) = process.and_then(|process| process.waiting.take()) else {
            return;
        };
        while let Some(output) = waiting.pop_front() {
            self.carry_out(host, output);
            let process = self.host_mut(host).process.as_mut();
            if let Some(again) = process.and_then(|process| process.waiting.as_mut()) {
                again.extend(waiting);
                return;
            }
        }
    }

    fn carry_out(&mut self, host: HostIx, output: Output) {
        let now = self.now;
        match output {
            Output::Send { link, kind, body } => {
                let frames = &mut self.host_mut(host).frames;
                frames.sent += 1;
                frames.sent_bytes += body.len() as u64;
                self.net.send(now, link, Frame { kind, body });
            }
            Output::Dial { dial, expect, addresses } => {
                self.line(Some(host), "dial", None, (dial.0, addresses.len() as u64), || {
                    Some(format!("{expect:?} {addresses:?}"))
                });
                self.net.dial(now, host, dial, expect, &addresses);
            }
            Output::Close { link, why } => {
                self.line(Some(host), "close", Some(link.0), (u64::from(why as u8), 0), || {
                    Some(format!("{why:?}"))
                });
                self.net.close(now, link, why);
            }
            Output::PersistRecord { owner, kind, raw } => {
                let model = self.disk_of(host);
                self.host_mut(host).disk.put_record(now, &model, (owner, kind), raw);
            }
            Output::ForgetRecords { owner } => self.host_mut(host).disk.forget_records(owner),
            Output::PersistIncarnation(incarnation) => {
                self.line(Some(host), "incarnation", None, (incarnation.0, 0), || None);
                if let Err(what) = self.invariants.began(host, incarnation) {
                    let name = &self.host(host).name;
                    let what = format!("{name} {what}");
                    self.fail(Checker::Invariant, what);
                }
                let takes = self.disk_of(host).sync;
                let state = self.host_mut(host);
                state.disk.incarnation = incarnation;
                let at = state.disk.finish(now, takes);
                let epoch = state.epoch;
                if let Some(process) = &mut state.process {
                    process.waiting = Some(VecDeque::new());
                }
                if let Some(card) = &mut self.net.station_mut(host).card {
                    card.incarnation = incarnation;
                }
                self.queue.push(at, Happening::Released { host, epoch });
            }
            Output::PersistAddress { node, name, addresses } => {
                self.host_mut(host).disk.put_address(node, name, addresses);
            }
            Output::Compute(job) => self.compute(host, &job),
            Output::Look => self.look(host),
            Output::Knock { peer, .. } => self.knock(host, peer),
            Output::Flood(output) => self.carry_out_flood(host, output),
            // Hosts of the simulator dial one another wherever the network lets them.
            Output::Routed(_) => {}
            Output::Managers(output) => self.carry_out_managers(host, output),
            Output::Granted { token, granted } => self.granted(host, token, &granted),
            Output::Catalog { .. } => {}
            Output::Event(event) => self.heard(host, event),
        }
    }

    /// Computes at once, and lets it have taken a while.
    fn compute(&mut self, host: HostIx, job: &skep_node::Job) {
        let answer = job.run();
        let (group, number) = (job.group().clone(), job.number());
        self.line(Some(host), "compute", None, (number, u64::from(answer.is_ok())), || {
            answer.as_ref().err().cloned()
        });
        let epoch = self.host(host).epoch;
        let input = Box::new(Input::Computed { group, job: number, answer });
        self.queue.push(self.now + COMPUTING, Happening::Computed { host, epoch, input });
    }

    /// The kernel's least round trip of each link is that of the quickest packet there and back.
    fn look(&mut self, host: HostIx) {
        let links = self.node(host).into_iter().flat_map(skep_node::Node::links);
        let samples = links.filter_map(|link| {
            let other = *self.by_id.get(&link.peer)?;
            Some(skep_node::Sample {
                peer: link.peer,
                bulk: false,
                least_rtt: self.net.round_trip(host, other),
                acked: 0,
                rate: 0,
                sender_limited: true,
            })
        });
        let input = Input::Looked(samples.collect());
        self.net.give(host, input);
    }

    /// Kernels answer for their processes, also for those that were stopped.
    fn knock(&mut self, host: HostIx, peer: NodeId) {
        let other = self.by_id.get(&peer).copied().filter(|other| {
            let there = self.host(*other).process.is_some();
            there && self.net.passes(host, *other) && self.net.passes(*other, host)
        });
        let took = other.map(|other| self.net.one_way(host, other) + self.net.one_way(other, host));
        let epoch = self.host(host).epoch;
        let at = self.now + took.unwrap_or(KNOCK_LIMIT);
        self.queue.push(at, Happening::Knocked { host, epoch, peer, took });
    }

    fn carry_out_flood(&mut self, host: HostIx, output: FloodOutput) {
        match output {
            FloodOutput::Append { entries, sync } => self.append(host, entries, sync),
            FloodOutput::Read { token, items } => {
                let takes = self.disk_of(host).write;
                let now = self.now;
                let state = self.host_mut(host);
                let records = items.iter().map(|item| state.disk.read(item)).collect();
                let at = state.disk.finish(now, takes);
                self.flood_input(host, at, FloodInput::Read { token, records });
            }
            FloodOutput::BodyOpen { .. }
            | FloodOutput::BodyLeaves { .. }
            | FloodOutput::BodyPiece { .. }
            | FloodOutput::BodyDrop { .. } => {
                let (now, takes) = (self.now, self.disk_of(host).write);
                let state = self.host_mut(host);
                if let Some(input) = state.disk.shelf.carry_out(output) {
                    let at = state.disk.finish(now, takes);
                    self.flood_input(host, at, input);
                }
            }
            FloodOutput::Fetching { .. } => {}
            FloodOutput::Serve { to, position, .. } => {
                let body = self.host(host).disk.body(position);
                self.serve(host, to, &skep_flood::shelf::frames(&output, &body));
            }
            FloodOutput::Purged(marks) => self.host_mut(host).disk.note_purged(marks),
            FloodOutput::Purge { below } => self.host_mut(host).disk.purge(below),
            FloodOutput::Acknowledge { token, id, .. } => {
                self.line(Some(host), "acknowledge", None, (token.0, id.serial.sequence), || None);
                let verdict = self.ledger.acknowledged(self.now, host, token, id);
                self.judge(host, verdict);
            }
            FloodOutput::Refuse { token, reason } => {
                self.line(Some(host), "refuse", None, (token.0, 0), || Some(reason.to_string()));
                self.ledger.refused(token);
            }
            FloodOutput::HandOver { name, updates, next, .. } => {
                let numbers = (updates.len() as u64, next.0);
                self.line(Some(host), "hand-over", None, numbers, || None);
                let verdict = self.ledger.handed_over(host, &updates);
                self.judge(host, verdict);
                let at = self.now + self.disk_of(host).write;
                self.flood_input(host, at, FloodInput::CursorCommit { name, up_to: next });
            }
            FloodOutput::PersistCursor { position, .. } => {
                self.host_mut(host).disk.cursor = position;
            }
            FloodOutput::CursorGap { from, to, .. } => {
                self.line(Some(host), "cursor-gap", None, (from.0, to.0), || None);
            }
            FloodOutput::Gap { origin, up_to, reason, .. } => {
                self.line(Some(host), "gap", None, (up_to.sequence, 0), || {
                    Some(format!("{origin:?} {reason}"))
                });
            }
            FloodOutput::Reject { from, reason } => {
                self.reject(host, format!("{reason}"), &format!("{from:?}"));
            }
            FloodOutput::Send { .. } => {
                let what = "a flood message came out of a node without a link to send it on";
                self.fail(Checker::Invariant, what);
            }
        }
    }

    /// Hosts of the simulator have one lane.
    fn serve(&mut self, host: HostIx, to: NodeId, frames: &[bytes::Bytes]) {
        let link = self.node(host).and_then(|node| node.links().find(|link| link.peer == to));
        let Some(link) = link.map(|link| link.link) else {
            return;
        };
        for body in frames {
            let frame = Frame { kind: skep_wire::kind::FLOOD, body: body.clone() };
            self.net.send(self.now, link, frame);
        }
    }

    fn append(&mut self, host: HostIx, entries: Vec<skep_flood::LogEntry>, sync: bool) {
        let (now, model) = (self.now, self.disk_of(host));
        let Some(last) = entries.last().map(|entry| entry.position) else {
            return;
        };
        let numbers = (last.0, entries.len() as u64);
        self.line(Some(host), "append", None, numbers, || None);
        let takes = if sync { model.sync } else { model.write };
        let state = self.host_mut(host);
        let at = state.disk.finish(now, takes);
        let durable_at = if sync { at } else { at + model.sync };
        let mut verdict = Ok(());
        for entry in entries {
            verdict = verdict.and(state.disk.append(now, durable_at, entry));
        }
        self.judge(host, verdict);
        let up_to = Position(last.0 + 1);
        self.flood_input(host, at, FloodInput::Appended { up_to, durable: sync });
    }

    fn flood_input(&mut self, host: HostIx, at: skep_base::Time, input: FloodInput) {
        let epoch = self.host(host).epoch;
        self.queue.push(at, Happening::Flood { host, epoch, input: Box::new(input) });
    }

    fn judge(&mut self, host: HostIx, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            let name = &self.host(host).name;
            let what = format!("{name} {what}");
            self.fail(Checker::Invariant, what);
        }
    }

    fn reject(&mut self, host: HostIx, reason: String, peer: &str) {
        self.line(Some(host), "reject", None, (0, 0), || Some(format!("{peer}: {reason}")));
        *self.rejected.entry(reason).or_default() += 1;
    }

    fn heard(&mut self, host: HostIx, event: Event) {
        match &event {
            Event::Status { node, status, present, .. } => {
                let other = self.by_id.get(node).map(|host| u64::from(host.0));
                let name = status_name(*status);
                self.line(Some(host), name, other, (*present as u64, 0), || None);
                if *status == Status::Silent
                    && let Some(about) = self.by_id.get(node).copied()
                {
                    self.judge_silence(host, about);
                }
            }
            Event::Rejected { peer, reason } => {
                let (peer, reason) = (format!("{peer:?}"), reason.clone());
                self.reject(host, reason, &peer);
            }
            Event::NameTaken => {
                self.line(Some(host), "name-taken", None, (0, 0), || None);
                if let Some(process) = &mut self.host_mut(host).process {
                    process.name_taken = true;
                }
            }
            Event::NameContested { by } => {
                let other = self.by_id.get(by).map(|host| u64::from(host.0));
                self.line(Some(host), "name-contested", other, (0, 0), || None);
            }
            Event::Started { incarnation } => {
                self.line(Some(host), "started", None, (incarnation.0, 0), || None);
                if let Some(process) = &mut self.host_mut(host).process {
                    process.name_taken = false;
                }
            }
            // What the kernel's samples of the link would say.
            Event::Linked { peer, .. } => {
                if let Some(there) = self.by_id.get(peer).copied() {
                    let time = self.net.round_trip(host, there);
                    let input = FloodInput::RoundTrip { peer: *peer, time };
                    self.net.give(host, Input::Flood(input));
                }
            }
            Event::Topology(happened) => {
                let note = format!("{happened:?}");
                self.line(Some(host), "topology", None, (0, 0), || Some(note));
            }
            Event::Ordered { owner, kind, stamp, body } => {
                let other = self.by_id.get(owner).map(|host| u64::from(host.0));
                let numbers = (u64::from(*kind), stamp.map_or(0, |stamp| stamp.epoch.0));
                self.line(Some(host), "ordered", other, numbers, || None);
                // Each slot of topologies is an owner's order of its own, under the same fence.
                let of_waves = *kind == skep_records::kind::WAVE_ORDER;
                let owner = if of_waves { *owner } else { NodeId::from_bytes([0; 16]) };
                let verdict = self.invariants.ordered(host, owner, *stamp, body.as_ref());
                self.judge(host, verdict);
            }
            Event::OrderRefused { owner, kind, stamp, seen } => {
                let other = self.by_id.get(owner).map(|host| u64::from(host.0));
                let numbers = (u64::from(*kind), 0);
                let note = format!("{stamp:?} after {seen:?}");
                self.line(Some(host), "order-refused", other, numbers, || Some(note));
            }
            Event::Forgotten { .. } | Event::Record { .. } | Event::Unlinked { .. } => {}
        }
        if self.keep_events {
            self.heard.push((self.now, host, event));
        }
    }

    /// The host's subscriber goes on where it was. As in the agent, before anything comes in: a
    /// power cut may have taken the end of the log, and what is written there again is not had yet.
    pub(crate) fn open_cursor(&mut self, host: HostIx) {
        let input = FloodInput::CursorOpen {
            name: "sim".into(),
            group: skep_base::GroupName::all(),
            from: Some(self.host(host).disk.cursor),
            durable: true,
        };
        self.net.give(host, Input::Flood(input));
    }
}

const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Unmet => "unmet",
        Status::Present => "present",
        Status::Silent => "silent",
        Status::Restarting => "restarting",
        Status::Left => "left",
    }
}
