//! What a host has to spare: from its counters to a number of a thousand (DVM-12).
//!
//! | part | weight | what it is |
//! |---|---|---|
//! | network | 4 | speed of the fastest link with a listening address, less what passes over it |
//! | processor | 4 | processors, less what is busy, less the time that work waits for one |
//! | memory | 1 | the share that is available, less the time that work waits for memory |
//! | disk | 1 | room (half of it free is all one wants), less the time that work waits for it |
//!
//! A part is 0 to 1000, and a fact that the host does not say takes the middle: [`UNKNOWN`]. A
//! link's speed counts 200 for each power of ten above 1 Mbit/s (10 Gbit/s: 800), processors 400
//! and 120 for each doubling (8: 760). Each part grows with what is free and falls with what is
//! used, never otherwise. The whole is the weighted mean.
//!
//! Loads come and go within seconds, and every telling is a record that all nodes keep. So a
//! [`Gauge`] smooths over minutes and tells in steps of a hundred, the first time after a minute,
//! then only when what it measures is a whole step off what was told for five minutes, and never
//! twice within ten.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_base::Time;

/// What a node has to spare that has not said it, of 1000.
pub const USUAL_RESOURCES: u16 = 500;
/// What a fact counts that a host does not say.
const UNKNOWN: u16 = 500;
/// The speed that a link is taken to have whose interface does not say it, in Mbit/s: those of
/// virtual machines.
const USUAL_SPEED: u64 = 1000;
/// The weights of network, processor, memory, disk.
const WEIGHTS: [u32; 4] = [4, 4, 1, 1];
/// Steps in which a node tells what it has to spare.
const STEP: u16 = 100;
/// So much of each new sample goes into the mean: with one every ten seconds two minutes' worth.
const SHARE: f64 = 1.0 / 12.0;
/// Before this nothing is told: a host that starts has more to do than it will have.
const WARM_UP: Duration = Duration::from_secs(60);
/// So long must what is measured be a step off what was told.
const OFF_FOR: Duration = Duration::from_secs(300);
/// Between two tellings.
const TELL_EVERY: Duration = Duration::from_secs(600);
/// Samples further apart say nothing of what lies between them: the host slept.
const LONGEST_GAP: Duration = Duration::from_secs(120);
/// Interfaces looked at.
const MAX_LINKS: usize = 64;

/// What a host has to spare, part by part, each of 1000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// See the module.
    pub network: u16,
    /// See the module.
    pub processor: u16,
    /// See the module.
    pub memory: u16,
    /// See the module.
    pub disk: u16,
}

impl Parts {
    /// None of them more than all: for what came from another node.
    #[must_use]
    pub fn bounded(self) -> Self {
        let Self { network, processor, memory, disk } = self;
        Self {
            network: network.min(1000),
            processor: processor.min(1000),
            memory: memory.min(1000),
            disk: disk.min(1000),
        }
    }

    /// The whole, of 1000: network and processor count four times what memory and disk do.
    #[must_use]
    pub fn total(self) -> u16 {
        let parts = [self.network, self.processor, self.memory, self.disk];
        let sum: u32 =
            parts.iter().zip(WEIGHTS).map(|(part, weight)| u32::from(*part) * weight).sum();
        u16::try_from(sum / WEIGHTS.iter().sum::<u32>()).unwrap_or(1000).min(1000)
    }
}

/// An interface that carries a listening address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Its speed in Mbit/s, if it says one.
    pub speed: Option<u64>,
    /// Bytes that it received and sent, whichever are more, since it is up.
    pub bytes: u64,
}

/// What a host's counters say at one moment. What it does not say is nothing here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Processors that are on.
    pub processors: Option<u32>,
    /// Time that they were busy, and all of their time, since the host started, in one unit.
    pub busy: Option<(u64, u64)>,
    /// Of the last minute, how many thousandths some work waited for a processor.
    pub processor_wait: Option<u16>,
    /// Memory that is available, and all of it, in one unit.
    pub memory: Option<(u64, u64)>,
    /// Of the last minute, how many thousandths some work waited for memory.
    pub memory_wait: Option<u16>,
    /// Room on the disk that holds this node's state, and its size, in one unit.
    pub disk: Option<(u64, u64)>,
    /// Of the last minute, how many thousandths some work waited for a disk.
    pub disk_wait: Option<u16>,
    /// Its interfaces that carry listening addresses, always in the same order.
    pub links: Vec<LinkCounters>,
}

/// Thousandths of `part` in `whole`.
fn share(part: u64, whole: u64) -> u16 {
    let thousandths = u128::from(part) * 1000 / u128::from(whole.max(1));
    u16::try_from(thousandths.min(1000)).unwrap_or(1000)
}

/// `value` less so many thousandths of it.
fn less(value: u16, thousandths: Option<u16>) -> u16 {
    let left = 1000 - u32::from(thousandths.unwrap_or(0).min(1000));
    u16::try_from(u32::from(value) * left / 1000).unwrap_or(0)
}

/// Grows by `step` with each whole power of `base`, evenly in between.
fn by_powers(value: u64, base: u64, step: u64) -> u64 {
    let (mut power, mut score) = (1_u64, 0);
    while value >= power.saturating_mul(base) && score < 100_000 {
        power = power.saturating_mul(base);
        score += step;
    }
    let span = power.saturating_mul(base).saturating_sub(power).max(1);
    score + value.saturating_sub(power).saturating_mul(step) / span
}

fn bounded(score: u64) -> u16 {
    u16::try_from(score.min(1000)).unwrap_or(1000)
}

/// What links are worth over which `bytes` passed in `span`.
fn network(links: &[(Option<u64>, u64)], span: Duration) -> u16 {
    let worth = |(speed, bytes): &(Option<u64>, u64)| {
        let speed = speed.unwrap_or(USUAL_SPEED).max(1);
        // Bits a second of a megabit: bytes × 8 / 10⁶ / seconds.
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
        let used = bytes.saturating_mul(8) / 1000 / millis;
        less(bounded(by_powers(speed, 10, 200)), Some(share(used, speed)))
    };
    links.iter().map(worth).max().unwrap_or(UNKNOWN)
}

fn processor(now: &Counters, busy: Option<(u64, u64)>) -> u16 {
    let Some(processors) = now.processors else {
        return UNKNOWN;
    };
    let capacity = bounded(400 + by_powers(u64::from(processors.max(1)), 2, 120));
    let busy = busy.map_or(1000 - UNKNOWN, |(busy, all)| share(busy, all));
    less(less(capacity, Some(busy)), now.processor_wait)
}

/// What the host had to spare between two looks, if they can be compared.
fn parts(before: &Counters, now: &Counters, span: Duration) -> Parts {
    let passed = |then: Option<(u64, u64)>, now: Option<(u64, u64)>| {
        let ((busy_then, all_then), (busy, all)) = (then?, now?);
        let all = all.checked_sub(all_then).filter(|all| *all > 0)?;
        Some((busy.saturating_sub(busy_then).min(all), all))
    };
    let same = before.links.len() == now.links.len();
    let links: Vec<(Option<u64>, u64)> = (now.links.iter().take(MAX_LINKS).enumerate())
        .map(|(at, link)| {
            let then = before.links.get(at).filter(|_| same).map_or(link.bytes, |it| it.bytes);
            (link.speed, link.bytes.saturating_sub(then))
        })
        .collect();
    let memory = now.memory.map_or(UNKNOWN, |(free, all)| share(free, all));
    let room = now.disk.map_or(UNKNOWN, |(free, all)| share(free.saturating_mul(2), all));
    Parts {
        network: network(&links, span),
        processor: processor(now, passed(before.busy, now.busy)),
        memory: less(memory, now.memory_wait),
        disk: less(room, now.disk_wait),
    }
}

/// Smooths what is measured, and says when others should be told.
#[derive(Debug)]
pub struct Gauge {
    started: Time,
    last: Option<(Time, Counters)>,
    mean: Option<[f64; 4]>,
    told: Option<(Time, u16)>,
    /// Since when what is measured is a step off what was told.
    off: Option<Time>,
}

impl Gauge {
    /// One that was told nothing yet.
    #[must_use]
    pub const fn new(now: Time) -> Self {
        Self { started: now, last: None, mean: None, told: None, off: None }
    }

    /// What is measured now, smoothed.
    #[must_use]
    pub fn parts(&self) -> Option<Parts> {
        let [network, processor, memory, disk] = self.mean?.map(whole);
        Some(Parts { network, processor, memory, disk })
    }

    /// Takes a look at the counters. Gives what others are to be told, when they are: the whole in
    /// steps of a hundred, and the parts as they are now.
    pub fn sample(&mut self, now: Time, counters: Counters) -> Option<(u16, Parts)> {
        let before = self.last.replace((now, counters));
        let (_, counters) = self.last.as_ref()?;
        let (then, before) = before?;
        let span = now.since(then);
        if span.is_zero() || span > LONGEST_GAP {
            return None;
        }
        let Parts { network, processor, memory, disk } = parts(&before, counters, span);
        let new = [network, processor, memory, disk].map(f64::from);
        let mean = self.mean.get_or_insert(new);
        for (mean, new) in mean.iter_mut().zip(new) {
            *mean += (new - *mean) * SHARE;
        }
        let parts = self.parts()?;
        let total = parts.total();
        let Some((at, told)) = self.told else {
            if now.since(self.started) < WARM_UP {
                return None;
            }
            return Some(self.tell(now, total, parts));
        };
        if total.abs_diff(told) < STEP {
            self.off = None;
            return None;
        }
        let off = *self.off.get_or_insert(now);
        let settled = now.since(off) >= OFF_FOR && now.since(at) >= TELL_EVERY;
        settled.then(|| self.tell(now, total, parts))
    }

    fn tell(&mut self, now: Time, total: u16, parts: Parts) -> (u16, Parts) {
        let told = (total + STEP / 2) / STEP * STEP;
        self.told = Some((now, told));
        self.off = None;
        (told, parts)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a mean of numbers up to 1000"
)]
fn whole(mean: f64) -> u16 {
    mean.round().clamp(0.0, 1000.0) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Duration = Duration::from_secs(10);

    fn idle() -> Counters {
        Counters {
            processors: Some(8),
            busy: Some((0, 0)),
            processor_wait: Some(0),
            memory: Some((80, 100)),
            memory_wait: Some(0),
            disk: Some((60, 100)),
            disk_wait: Some(0),
            links: vec![LinkCounters { speed: Some(10_000), bytes: 0 }],
        }
    }

    fn measured(change: impl Fn(&mut Counters)) -> Parts {
        let before = idle();
        let mut now = idle();
        now.busy = Some((0, 1000));
        change(&mut now);
        parts(&before, &now, SAMPLE)
    }

    #[test]
    fn dvm_12_network_and_processor_count_more_than_disk() {
        let all = measured(|_| {});
        assert_eq!(all, Parts { network: 800, processor: 760, memory: 800, disk: 1000 });
        assert_eq!(all.total(), 804);
        let total = |change: &dyn Fn(&mut Counters)| measured(change).total();
        let slow = total(&|now| now.links[0].speed = Some(10));
        let busy = total(&|now| now.busy = Some((750, 1000)));
        let full = total(&|now| now.disk = Some((0, 100)));
        assert!(slow < full && busy < full, "{slow} {busy} {full}");
        let best = Parts { network: 1000, processor: 1000, memory: 1000, disk: 1000 };
        assert_eq!((best.total(), Parts::default().total()), (1000, 0));
    }

    #[test]
    fn each_part_falls_with_what_is_used_and_grows_with_what_is_there() {
        let falls = |change: &dyn Fn(&mut Counters, u64), part: &dyn Fn(Parts) -> u16| {
            let scores: Vec<u16> =
                (0..=20).map(|step| part(measured(|now| change(now, step * 50)))).collect();
            let sorted = scores.windows(2).all(|pair| pair[0] >= pair[1]);
            assert!(sorted && scores[0] > scores[20], "{scores:?}");
        };
        let wait = |value: u64| u16::try_from(value).ok();
        falls(&|now, used| now.busy = Some((used, 1000)), &|it| it.processor);
        falls(&|now, used| now.processor_wait = wait(used), &|it| it.processor);
        falls(&|now, used| now.links[0].bytes = used * 12_500_000, &|it| it.network);
        falls(&|now, used| now.memory = Some((1000 - used, 1000)), &|it| it.memory);
        falls(&|now, used| now.memory_wait = wait(used), &|it| it.memory);
        falls(&|now, used| now.disk = Some((1000 - used, 1000)), &|it| it.disk);
        falls(&|now, used| now.disk_wait = wait(used), &|it| it.disk);
        falls(&|now, step| now.links[0].speed = Some(20_000 - step * 19), &|it| it.network);
        falls(&|now, step| now.processors = u32::try_from(32 - step / 50).ok(), &|it| it.processor);
    }

    #[test]
    fn what_a_host_does_not_say_counts_as_the_middle() {
        let nothing = parts(&Counters::default(), &Counters::default(), SAMPLE);
        let all = UNKNOWN;
        assert_eq!(nothing, Parts { network: all, processor: all, memory: all, disk: all });
        let virtual_link = measured(|now| now.links[0].speed = None);
        assert_eq!(virtual_link.network, 600, "as one of a gigabit");
        assert_eq!(measured(|now| now.links.clear()).network, UNKNOWN);
        // Counters that went back, and numbers without sense.
        let mut then = idle();
        then.busy = Some((900, 1000));
        then.links[0].bytes = u64::MAX;
        let mut now = idle();
        now.busy = Some((1, 5));
        (now.memory, now.disk) = (Some((u64::MAX, 1)), Some((u64::MAX, 0)));
        now.processors = Some(u32::MAX);
        now.links[0] = LinkCounters { speed: Some(u64::MAX), bytes: 1 };
        let odd = parts(&then, &now, SAMPLE);
        assert!([odd.network, odd.processor, odd.memory, odd.disk].iter().all(|it| *it <= 1000));
    }

    /// Feeds a gauge a load for a while. Gives what it told.
    fn feed(
        gauge: &mut Gauge,
        at: &mut (Time, u64, u64),
        busy: u64,
        span: Duration,
    ) -> Vec<(Time, u16)> {
        let mut told = Vec::new();
        let end = at.0 + span;
        while at.0 < end {
            at.0 = at.0 + SAMPLE;
            at.1 += busy;
            at.2 += 1000;
            let counters = Counters { busy: Some((at.1, at.2)), ..idle() };
            told.extend(gauge.sample(at.0, counters).map(|(total, _)| (at.0, total)));
        }
        told
    }

    #[test]
    fn a_gauge_tells_once_after_a_minute_and_then_only_lasting_steps() {
        let start = Time::from_millis(1_000);
        let mut gauge = Gauge::new(start);
        let mut at = (start, 0, 0);
        let minutes = |count: u64| Duration::from_secs(count * 60);
        let told = feed(&mut gauge, &mut at, 0, minutes(60));
        assert_eq!(told.len(), 1, "an idle host says what it has once: {told:?}");
        assert!(told[0].0 >= start + WARM_UP && told[0].1 == 800, "{told:?}");
        // A minute of hard work each five minutes is no step.
        for _ in 0..20 {
            assert_eq!(feed(&mut gauge, &mut at, 900, minutes(1)), []);
            assert_eq!(feed(&mut gauge, &mut at, 0, minutes(4)), []);
        }
        // Neither is a load that wanders around the step for hours.
        for load in [280, 360, 300, 340, 270, 350].iter().cycle().take(60) {
            assert_eq!(feed(&mut gauge, &mut at, *load, minutes(1)), [], "{load}");
            assert_eq!(feed(&mut gauge, &mut at, 100, minutes(1)), []);
        }
        // One that stays is told once, when it has stayed.
        let since = at.0;
        let told = feed(&mut gauge, &mut at, 900, minutes(60));
        let [(when, total)] = told[..] else { panic!("{told:?}") };
        assert!(when >= since + OFF_FOR && total == 500, "{total}");
        let told = feed(&mut gauge, &mut at, 0, minutes(60));
        assert!(told.len() == 1 && told[0].1 == 800, "{told:?}");
    }

    #[test]
    fn a_host_that_slept_says_nothing_of_the_time_between() {
        let mut gauge = Gauge::new(Time::from_millis(0));
        let mut at = (Time::from_millis(0), 0, 0);
        feed(&mut gauge, &mut at, 0, Duration::from_secs(300));
        let before = gauge.parts();
        at.0 = at.0 + Duration::from_secs(36_000);
        let counters = Counters { busy: Some((at.1 + 99_000, at.2 + 99_000)), ..idle() };
        assert_eq!(gauge.sample(at.0, counters), None);
        assert_eq!(gauge.parts(), before);
    }
}
