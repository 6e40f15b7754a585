//! What scenarios do to a world.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skep_base::{GroupName, Nonce, Time, WallTime};
use skep_flood::{Input as FloodInput, Label, PublishToken};
use skep_node::{Birth, Farewell, Input, Me, Node, Source};
use skep_wire::Address;

use super::{Happening, WALL_AT_ZERO_MS, World};
use crate::disk::DiskModel;
use crate::host::{HostIx, Machine, Process};
use crate::keys::{SimKey, SimVerifier};
use crate::net::{Card, Power};
use crate::plant;

impl World {
    /// From now on all between two hosts takes `factor` times as long: it goes another way.
    pub fn detour(&mut self, a: HostIx, b: HostIx, factor: u32) {
        self.net.detours.insert((a.min(b), a.max(b)), factor);
        self.line(Some(a), "detour", Some(u64::from(b.0)), (factor.into(), 0), || None);
    }

    /// Starts the agent of a host, with what its disk holds.
    pub fn start(&mut self, host: HostIx) {
        if self.host(host).process.is_some() {
            return;
        }
        if self.net.station(host).power == Power::Off {
            self.net.power_on(host);
        }
        let nonce = Nonce(self.rng.bits());
        let birth = self.birth(host, nonce);
        let mut config = self.config.node.clone();
        config.fit.eligible = self.host(host).eligible.unwrap_or(config.fit.eligible);
        config.flood.groups.extend(self.host(host).groups.iter().cloned());
        let card = Card {
            id: birth.me.id,
            name: birth.me.name.clone(),
            bloc: self.host(host).bloc,
            incarnation: birth.me.stored.next(),
            nonce,
            addresses: birth.me.addresses.clone(),
        };
        let local = self.host(host).local(self.now);
        let node = Node::new(local, birth, config);
        let machine: Box<dyn Machine> = match self.config.bug {
            Some(bug) => plant::plant(bug, host, node),
            None => Box::new(node),
        };
        let (now, check_every) = (self.now, self.config.check_every.max(1));
        let state = self.host_mut(host);
        state.epoch += 1;
        state.disturbed = now;
        state.process = Some(Process {
            machine: Some(machine),
            foreseen: None,
            calls: host.0,
            check_every,
            tick_at: None,
            ticks_now: (now, 0),
            waiting: None,
            stopped: false,
            name_taken: false,
        });
        self.net.start(host, card);
        self.line(Some(host), "start", None, (nonce.0, 0), || None);
        self.open_cursor(host);
        self.hand_out();
        self.find_others(host);
        self.token_found(host);
        self.plan_tick(host);
        self.hand_out();
    }

    fn birth(&mut self, host: HostIx, nonce: Nonce) -> Birth {
        let (now, seed) = (self.now, self.rng.bits());
        let layouts = self.layouts();
        let managers = self.managers_of(host, seed);
        let state = self.host(host);
        Birth {
            me: Me {
                id: state.id,
                name: state.name.clone(),
                network: None,
                nonce,
                started: wall(now),
                stored: state.disk.incarnation,
                addresses: state.addresses.clone(),
                version: "sim".to_owned(),
            },
            seed,
            signer: Arc::new(SimKey::new(state.bloc, state.id)),
            verifier: Arc::new(SimVerifier { bloc: state.bloc }),
            layouts,
            records: state.disk.restored_records(now),
            address_book: state.disk.address_book(),
            log: state.disk.restored_log(now),
            log_next: state.disk.log_next,
            purged: state.disk.purged.values().cloned().collect(),
            managers: Box::new(managers),
            // What is shown comes from the managers' log, or from the neighbours.
            catalog: skep_catalog::Catalog::new(),
            clock_went_back: false,
        }
    }

    /// Everything that tells a new process of others.
    fn find_others(&mut self, host: HostIx) {
        let seeds = self.host(host).seeds.clone();
        if !seeds.is_empty() {
            self.tell_of(host, seeds, Source::Config);
        }
        let epoch = self.host(host).epoch;
        let soon = self.now + Duration::from_millis(self.rng.within(1..100));
        if self.config.multicast.is_some() && self.host(host).domain.is_some() {
            self.queue.push(soon, Happening::Announce { host, epoch });
        }
        if self.config.beacon.is_some() {
            self.queue.push(soon, Happening::AskBeacon { host, epoch });
        }
    }

    /// Tells a process of addresses, as its operator or another source would.
    pub fn tell_of(&mut self, host: HostIx, addresses: Vec<SocketAddr>, source: Source) {
        self.input(host, Input::Found { addresses, source });
    }

    /// Hands an input to a process.
    pub fn input(&mut self, host: HostIx, input: Input) {
        self.net.give(host, input);
        self.hand_out();
    }

    /// Ends the agent of a host with SIGKILL: its kernel closes its connections.
    pub fn kill(&mut self, host: HostIx) {
        self.disturb(host, "kill");
        self.end_process(host);
        self.watch_end(host, false);
        self.net.kill(self.now, host);
        self.hand_out();
    }

    /// Makes a host's disk slow, or as fast as all.
    pub(crate) fn slow_disk(&mut self, host: HostIx, model: Option<DiskModel>) {
        self.line(Some(host), "disk-speed", None, (u64::from(model.is_some()), 0), || None);
        self.host_mut(host).disk_model = model;
    }

    /// Sets a host's clock ahead, as if it had been suspended: what it waits for is due.
    pub(crate) fn jump_clock(&mut self, host: HostIx, by: Duration) {
        self.disturb(host, "clock-jump");
        self.host_mut(host).clock_ahead += by;
        if self.host(host).is_live() {
            self.plan_tick(host);
        }
    }

    /// Takes a host's power: no connection closes, and what was not durable is lost.
    pub fn cut_power(&mut self, host: HostIx) {
        self.disturb(host, "power-off");
        self.end_process(host);
        let now = self.now;
        self.watch_end(host, true);
        self.host_mut(host).disk.lose_power(now);
        self.net.power_off(host);
        self.hand_out();
    }

    /// Stops the agent of a host, which says so first, and ends it as soon as its farewell has been
    /// sent.
    pub fn stop(&mut self, host: HostIx, farewell: Farewell) {
        self.disturb(host, "stop");
        self.input(host, Input::Stop(farewell));
        self.end_process(host);
        self.net.kill(self.now, host);
        self.hand_out();
    }

    /// Stops the agent of a host with SIGSTOP.
    pub fn pause(&mut self, host: HostIx) {
        self.disturb(host, "pause");
        if let Some(process) = &mut self.host_mut(host).process {
            process.stopped = true;
            self.net.stop(host);
        }
    }

    /// Lets the agent go on.
    pub fn resume(&mut self, host: HostIx) {
        self.disturb(host, "resume");
        if let Some(process) = &mut self.host_mut(host).process {
            process.stopped = false;
            process.tick_at = None;
            self.net.resume(self.now, host);
            self.hand_out();
            self.plan_tick(host);
        }
    }

    /// Empties the disk of a host whose agent does not run.
    pub fn wipe_disk(&mut self, host: HostIx) {
        let now = self.now;
        self.disturb(host, "wipe");
        self.host_mut(host).disk = crate::disk::Disk::default();
        self.tokens.remove(&host);
        self.host_mut(host).disk.finish(now, Duration::ZERO);
        self.invariants.disk_lost(host);
        if let Some(watch) = &mut self.watch {
            watch.wiped(host);
        }
        self.ledger.handed.remove(&host);
    }

    /// Removes the address book of a host whose agent does not run.
    pub fn forget_addresses(&mut self, host: HostIx) {
        self.host_mut(host).disk.forget_addresses();
    }

    /// Gives a host other addresses, while its agent runs or not.
    pub fn set_addresses(&mut self, host: HostIx, addresses: &[SocketAddr]) {
        let addresses: Vec<Address> = addresses.iter().copied().map(Address::classify).collect();
        self.host_mut(host).addresses.clone_from(&addresses);
        self.net.listen(host, &addresses);
        self.input(host, Input::Addresses(addresses));
    }

    /// Divides the network: nothing passes between hosts of different parts. Hosts in no part see,
    /// and are seen by, all.
    pub fn split(&mut self, parts: &[Vec<HostIx>]) {
        let count = u8::try_from(parts.len()).unwrap_or(u8::MAX);
        let pairs = (1..=count).flat_map(|a| (1..=count).map(move |b| (a, b)));
        let cuts: Vec<_> = pairs.filter(|(a, b)| a != b).collect();
        self.net.reach.divide(parts, &cuts);
        self.disturb_all("split");
    }

    /// Lets nothing pass from the first part to the second; the other way stays open.
    pub fn cut_one_way(&mut self, from: &[HostIx], to: &[HostIx]) {
        self.net.reach.divide(&[from.to_vec(), to.to_vec()], &[(1, 2)]);
        self.disturb_all("cut-one-way");
    }

    /// Lets nothing pass between two hosts, one way or both.
    pub fn cut_pair(&mut self, a: HostIx, b: HostIx) {
        self.net.reach.cut(a, b);
        self.net.reach.cut(b, a);
        self.disturb_all("cut-pair");
    }

    /// Takes all cuts back.
    pub fn heal(&mut self) {
        self.net.reach.heal();
        self.disturb_all("heal");
    }

    /// Publishes an update to a group at a host, if its agent runs.
    pub fn publish(
        &mut self,
        host: HostIx,
        group: &GroupName,
        body: Bytes,
    ) -> Option<PublishToken> {
        if !self.host(host).is_live() {
            return None;
        }
        let token = self.ledger.publish(host, group, &body);
        let input =
            FloodInput::Publish { group: group.clone(), body, token, label: Label::default() };
        self.input(host, Input::Flood(input));
        Some(token)
    }

    fn end_process(&mut self, host: HostIx) {
        let state = self.host_mut(host);
        state.process = None;
        state.epoch += 1;
        self.invariants.ended(host);
    }

    fn disturb(&mut self, host: HostIx, what: &'static str) {
        let now = self.now;
        self.host_mut(host).disturbed = now;
        self.invariants.disturbed(now);
        self.line(Some(host), what, None, (0, 0), || None);
    }

    fn disturb_all(&mut self, what: &'static str) {
        let now = self.now;
        for host in &mut self.hosts {
            host.disturbed = now;
        }
        self.invariants.disturbed(now);
        self.line(None, what, None, (0, 0), || None);
    }
}

fn wall(now: Time) -> WallTime {
    WallTime::from_unix_ms(WALL_AT_ZERO_MS + now.as_nanos() / 1_000_000)
}
