//! What is done to a flock and its managers. Each fault says whether it came about: a run that
//! names one and exercised nothing of it has shown nothing.

use std::time::Duration;

use skep_managers::Role;

use super::clients::Clients;
use super::rest::{MANAGED_WITHIN, held_only_by, managed, master_of, role_of, until_managed};
use crate::disk::DiskModel;
use crate::host::HostIx;
use crate::plant::Bug;
use crate::report::Failure;
use crate::world::World;

/// The sync set is calm when it was not another for so long.
const CALM: Duration = Duration::from_secs(3);

/// Managers whose disk is slow in turn, until one of them had to wait for it.
const SLOWED: usize = 4;

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A manager's process is killed, or its host loses power, and comes back.
    Kill,
    /// A manager is stopped by SIGSTOP, and goes on.
    Pause,
    /// Some are cut off from the others.
    Cut,
    /// Nothing passes from some to the others; everything the other way.
    OneWay,
    /// Two halves reach one another only over one node.
    Bridge,
    /// Each node reaches a majority, and no two the same one.
    Ring,
    /// Some are cut off and are not, again and again.
    Flapping,
    /// A manager's disk takes a second for what takes milliseconds.
    SlowDisk,
    /// A manager comes back with an empty disk.
    LostDisk,
    /// A manager's clock jumps ahead, as after a suspension.
    ClockJump,
    /// All are restarted at once.
    AllRestarted,
    /// Two managers lose power, the third founds the next generation, and the two return with what
    /// their disks hold.
    OldDisks,
    /// Two flocks merge, and one of the two masters is killed in the middle of it.
    KilledMerge,
}

/// A run names these two by its seed.
pub(crate) const ALL: [Fault; 13] = [
    Fault::Kill,
    Fault::Pause,
    Fault::Cut,
    Fault::OneWay,
    Fault::Bridge,
    Fault::Ring,
    Fault::Flapping,
    Fault::SlowDisk,
    Fault::LostDisk,
    Fault::ClockJump,
    Fault::AllRestarted,
    Fault::OldDisks,
    Fault::KilledMerge,
];

/// How many pairs there are.
pub(crate) const PAIRS: u64 = (ALL.len() * ALL.len()) as u64;

/// The pair of a seed. So many seeds in a row as there are pairs play each of them once.
pub(crate) fn pair_of(seed: u64) -> [Fault; 2] {
    let count = ALL.len() as u64;
    // Neighbouring seeds differ in both, and few begin with a pair of one kind.
    let (first, shift) = (seed % count, (seed / count + seed % count * 5 + 3) % count);
    let at = |number: u64| ALL[usize::try_from(number % count).unwrap_or(0)];
    [at(first), at(first + shift)]
}

/// Who plays it, and with what.
pub(crate) struct Stage<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) hosts: &'a [HostIx],
    pub(crate) clients: &'a mut Clients,
}

impl Stage<'_> {
    /// Plays a fault and takes it back. Says whether it came about.
    pub(crate) fn play(&mut self, fault: Fault) -> Result<bool, Failure> {
        self.world.line(None, "fault", None, (0, 0), || Some(format!("{fault:?}")));
        self.world.until(MANAGED_WITHIN, "led by anybody", |world| {
            master_of(world).map(drop).ok_or_else(|| "nobody leads".to_owned())
        })?;
        match fault {
            Fault::Kill => self.kill(),
            Fault::Pause => self.pause(),
            Fault::Cut => self.cut(),
            Fault::OneWay => self.one_way(),
            Fault::Bridge => self.bridge(),
            Fault::Ring => self.ring(),
            Fault::Flapping => self.flapping(),
            Fault::SlowDisk => self.slow_disk(),
            Fault::LostDisk => self.lost_disk(),
            Fault::ClockJump => self.clock_jump(),
            Fault::AllRestarted => self.all_restarted(),
            Fault::OldDisks => self.old_disks(),
            Fault::KilledMerge => self.killed_merge(),
        }
    }

    /// Everything that was done is undone.
    pub(crate) fn heal(&mut self) {
        self.world.heal();
        for host in self.hosts {
            self.world.slow_disk(*host, None);
            if self.world.host(*host).process.is_none() {
                self.world.start(*host);
            } else if !self.world.host(*host).is_live() {
                self.world.resume(*host);
            }
        }
    }

    fn work(&mut self, millis: std::ops::Range<u64>) -> Result<(), Failure> {
        let span = Duration::from_millis(self.world.rng.within(millis));
        self.clients.work(self.world, span)
    }

    /// The master, or as often another manager; or anybody, where there is none.
    fn victim(&mut self) -> HostIx {
        let backup = |host: &HostIx| role_of(self.world, *host) == Some(Role::Backup);
        let backups: Vec<HostIx> = self.hosts.iter().copied().filter(backup).collect();
        let master = master_of(self.world);
        let at = self.world.rng.index(backups.len());
        let backup = at.map(|at| backups[at]).filter(|_| self.world.rng.chance(0.5));
        backup.or(master).unwrap_or(self.hosts[0])
    }

    /// Some hosts, a manager among them, fewer than half or half of all.
    fn some(&mut self) -> (Vec<HostIx>, Vec<HostIx>) {
        let first = self.victim();
        let mut others: Vec<HostIx> =
            self.hosts.iter().copied().filter(|host| *host != first).collect();
        self.world.rng.shuffle(&mut others);
        let more = self.world.rng.index(self.hosts.len() / 2).unwrap_or(0);
        let rest = others.split_off(more);
        others.push(first);
        (others, rest)
    }

    /// Does something to the world; not where the planted bug is that faults do nothing. Whether
    /// it came about is to be seen in the world, never taken from having called this.
    fn inflict(&mut self, deed: impl FnOnce(&mut World)) {
        if self.world.config.bug != Some(Bug::DoesNothing) {
            deed(self.world);
        }
    }

    fn down(&mut self, host: HostIx) {
        if self.world.rng.chance(0.5) {
            self.inflict(|world| world.kill(host));
        } else {
            self.inflict(|world| world.cut_power(host));
        }
    }

    fn kill(&mut self) -> Result<bool, Failure> {
        let victim = self.victim();
        let life = self.world.host(victim).epoch;
        self.down(victim);
        self.work(500..25_000)?;
        self.world.start(victim);
        self.work(500..5_000)?;
        Ok(self.world.host(victim).epoch > life)
    }

    fn pause(&mut self) -> Result<bool, Failure> {
        let victim = self.victim();
        self.inflict(|world| world.pause(victim));
        let stopped = !self.world.host(victim).is_live();
        self.work(200..20_000)?;
        self.inflict(|world| world.resume(victim));
        self.work(500..5_000)?;
        Ok(stopped && self.world.host(victim).is_live())
    }

    /// Whether any two live hosts cannot reach one another, in one direction at least.
    fn is_cut(&self) -> bool {
        let world = &*self.world;
        let mut pairs = world.live().flat_map(|a| world.live().map(move |b| (a, b)));
        pairs.any(|(a, b)| a != b && !world.net.passes(a, b))
    }

    /// Works through whatever the network is now, and heals it.
    fn while_cut(&mut self) -> Result<bool, Failure> {
        let cut = self.is_cut();
        self.work(1_000..45_000)?;
        self.world.heal();
        self.work(500..5_000)?;
        Ok(cut && !self.is_cut())
    }

    fn cut(&mut self) -> Result<bool, Failure> {
        let (some, rest) = self.some();
        self.inflict(|world| world.split(&[some, rest]));
        self.while_cut()
    }

    fn one_way(&mut self) -> Result<bool, Failure> {
        let (some, rest) = self.some();
        if self.world.rng.chance(0.5) {
            self.inflict(|world| world.cut_one_way(&some, &rest));
        } else {
            self.inflict(|world| world.cut_one_way(&rest, &some));
        }
        self.while_cut()
    }

    fn bridge(&mut self) -> Result<bool, Failure> {
        let (some, mut rest) = self.some();
        rest.pop();
        self.inflict(|world| world.split(&[some, rest]));
        self.while_cut()
    }

    fn ring(&mut self) -> Result<bool, Failure> {
        let mut ring = self.hosts.to_vec();
        self.world.rng.shuffle(&mut ring);
        let reach = ring.len() / 4 + 1;
        for (a, one) in ring.iter().enumerate() {
            for (b, other) in ring.iter().enumerate().skip(a + 1) {
                if (b - a).min(ring.len() - (b - a)) > reach {
                    self.inflict(|world| world.cut_pair(*one, *other));
                }
            }
        }
        self.while_cut()
    }

    fn flapping(&mut self) -> Result<bool, Failure> {
        let (some, rest) = self.some();
        let mut cuts = 0;
        for _ in 0..self.world.rng.within(4..12) {
            self.inflict(|world| world.split(&[some.clone(), rest.clone()]));
            cuts += u32::from(self.is_cut());
            self.work(100..2_500)?;
            self.world.heal();
            self.work(100..1_500)?;
        }
        Ok(cuts >= 3)
    }

    fn slow_disk(&mut self) -> Result<bool, Failure> {
        let slow = DiskModel::slow();
        // A manager that just lost its office, or lags far behind, may write nothing all the while.
        for _ in 0..SLOWED {
            let victim = self.victim();
            if let Some(watch) = &mut self.world.watch {
                watch.slowest.remove(&victim);
            }
            self.inflict(|world| world.slow_disk(victim, Some(slow)));
            self.work(4_000..20_000)?;
            self.world.slow_disk(victim, None);
            self.work(500..5_000)?;
            let slowest = self.world.watch.as_ref().and_then(|watch| watch.slowest.get(&victim));
            if slowest.is_some_and(|took| *took >= slow.sync) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn lost_disk(&mut self) -> Result<bool, Failure> {
        let victim = self.victim();
        let lost = held_only_by(self.world, victim);
        self.down(victim);
        let held = self.world.host(victim).disk.manages();
        self.work(100..15_000)?;
        self.inflict(|world| {
            world.lost.extend(lost);
            world.wipe_disk(victim);
        });
        let gone = !self.world.host(victim).disk.manages();
        self.world.start(victim);
        self.work(1_000..15_000)?;
        Ok(held && gone)
    }

    fn clock_jump(&mut self) -> Result<bool, Failure> {
        let mut jumps = 0;
        for _ in 0..self.world.rng.within(1..4) {
            let victim = self.victim();
            let before = self.world.host(victim).local(self.world.now());
            let span = [300, 2_000, 20_000, 400_000][self.world.rng.index(4).unwrap_or(0)];
            self.inflict(|world| world.jump_clock(victim, Duration::from_millis(span)));
            jumps += u32::from(self.world.host(victim).local(self.world.now()) > before);
            self.work(500..6_000)?;
        }
        Ok(jumps > 0)
    }

    fn all_restarted(&mut self) -> Result<bool, Failure> {
        let lives: Vec<u32> = self.hosts.iter().map(|it| self.world.host(*it).epoch).collect();
        let kill = self.world.rng.chance(0.5);
        for host in self.hosts {
            if kill {
                self.inflict(|world| world.kill(*host));
            } else {
                self.inflict(|world| world.cut_power(*host));
            }
        }
        let pause = Duration::from_millis(self.world.rng.within(50..4_000));
        self.world.run_for(pause)?;
        let mut order = self.hosts.to_vec();
        self.world.rng.shuffle(&mut order);
        for host in order {
            self.world.start(host);
            self.work(0..200)?;
        }
        self.work(1_000..8_000)?;
        let again = |(host, life): (&HostIx, &u32)| self.world.host(*host).epoch > *life;
        Ok(self.hosts.iter().zip(&lives).all(again))
    }

    fn generation(&self) -> u64 {
        let generations = self.world.live().filter_map(|host| {
            let now = self.world.host(host).local(self.world.now());
            let view = self.world.node(host)?.management(now);
            let leads = view.role == Role::Master;
            view.flock.filter(|_| leads).map(|flock| flock.generation.0)
        });
        generations.max().unwrap_or(0)
    }

    /// Waits until the sync set is whole and was not another for some seconds: who leaves it just
    /// before it is alone waits for the others, as it must, and founds nothing.
    fn until_calm(&mut self) -> Result<(), Failure> {
        let mut left = MANAGED_WITHIN;
        loop {
            until_managed(self.world)?;
            let version = self.sync_version();
            self.clients.work(self.world, CALM)?;
            left = left.saturating_sub(CALM);
            let calm = managed(self.world).is_ok() && self.sync_version() == version;
            if calm || left.is_zero() {
                return Ok(());
            }
        }
    }

    fn sync_version(&self) -> Option<u64> {
        let master = master_of(self.world)?;
        let now = self.world.host(master).local(self.world.now());
        let flock = self.world.node(master)?.management(now).flock?;
        Some(flock.sync_version)
    }

    fn old_disks(&mut self) -> Result<bool, Failure> {
        self.until_calm()?;
        let before = self.generation();
        let manages =
            |host: &HostIx| matches!(role_of(self.world, *host), Some(Role::Master | Role::Backup));
        let mut managers: Vec<HostIx> = self.hosts.iter().copied().filter(manages).collect();
        self.world.rng.shuffle(&mut managers);
        // Two of three: the third has everything that was acknowledged, as long as it is in the
        // newest sync set.
        managers.truncate(2);
        for host in &managers {
            self.inflict(|world| world.cut_power(*host));
        }
        let mut waited = Duration::ZERO;
        while self.generation() <= before && waited < MANAGED_WITHIN {
            self.clients.work(self.world, Duration::from_secs(1))?;
            waited += Duration::from_secs(1);
        }
        let forked = self.generation() > before;
        self.work(10_000..90_000)?;
        for host in &managers {
            self.world.start(*host);
            self.work(0..6_000)?;
        }
        self.work(5_000..20_000)?;
        Ok(forked)
    }

    fn killed_merge(&mut self) -> Result<bool, Failure> {
        self.until_calm()?;
        let backup = |host: &HostIx| role_of(self.world, *host) == Some(Role::Backup);
        let Some(last) = self.hosts.iter().copied().find(backup) else { return Ok(false) };
        let idle = |host: &HostIx| role_of(self.world, *host) == Some(Role::Eligible);
        let mut part: Vec<HostIx> = self.hosts.iter().copied().filter(idle).take(3).collect();
        part.push(last);
        let rest = self.hosts.iter().copied().filter(|host| !part.contains(host)).collect();
        self.inflict(|world| world.split(&[part, rest]));
        let mut waited = Duration::ZERO;
        let masters = |world: &World| {
            world.live().filter(|host| role_of(world, *host) == Some(Role::Master)).count()
        };
        while masters(self.world) < 2 && waited < MANAGED_WITHIN {
            self.clients.work(self.world, Duration::from_secs(1))?;
            waited += Duration::from_secs(1);
        }
        self.work(2_000..20_000)?;
        let two: Vec<HostIx> = self
            .world
            .live()
            .filter(|host| role_of(self.world, *host) == Some(Role::Master))
            .collect();
        if two.len() != 2 {
            return Ok(false);
        }
        self.world.heal();
        let merging = |world: &World| world.watch.as_ref().is_some_and(|it| !it.merging.is_empty());
        self.world.until_event(Duration::from_secs(60), "about to merge", merging)?;
        let victim = self.world.rng.index(two.len()).map_or(last, |at| two[at]);
        let life = self.world.host(victim).epoch;
        self.down(victim);
        self.work(500..20_000)?;
        self.world.start(victim);
        self.work(500..5_000)?;
        Ok(self.world.host(victim).epoch > life)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn as_many_seeds_as_there_are_pairs_play_each_pair_once() {
        let count = ALL.len() as u64;
        let pairs: BTreeSet<String> =
            (0..count * count).map(|seed| format!("{:?}", pair_of(seed))).collect();
        assert_eq!(pairs.len(), ALL.len() * ALL.len());
    }
}
