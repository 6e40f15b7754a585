//! A machine that has no time: both processors busy, its disk syncing, agents that stand still for
//! most of a second, or frames that get lost. Nothing of that is a reason for another master.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde::Deserialize;
use skep_base::Rng;
use skep_lab::Path;

use super::super::Setting;
use super::super::clock::Micros;
use super::super::figure::{Better, Figure};
use super::super::fleet::{Fleet, Ground};
use super::super::membership::{count, formed, left_out};
use super::super::software::Seen;
use super::flock::until_managed;
use crate::say;

const NODES: usize = 9;
/// How long each kind of trouble lasts, and where it shall be quick.
const LASTS: Duration = Duration::from_secs(600);
const LASTS_QUICK: Duration = Duration::from_secs(30);
/// The longest time that an agent stands still, in milliseconds.
const LONGEST_FREEZE: u64 = 900;
/// The share of frames that is lost.
const LOSS: f64 = 0.05;
/// The same where it is heavy.
const HEAVY_LOSS: f64 = 0.2;

/// What is done to the flock for as long as it lasts.
struct Trouble {
    what: &'static str,
    freezes: bool,
    /// The share of frames that is lost.
    loss: f64,
    /// As many changes of master may follow.
    changes: f64,
}

/// Changes of master and wrong silences under freezes, and apart from that under loss.
///
/// # Errors
/// When the flock does not form, or the trouble cannot be made.
pub fn stress(setting: &Setting) -> Result<Vec<Figure>> {
    let freezes =
        Trouble { what: "freezes of up to 900 ms", freezes: true, loss: 0.0, changes: 0.0 };
    let loss = Trouble { what: "5 % of the frames lost", freezes: false, loss: LOSS, changes: 0.0 };
    in_turn(setting, "stress", &[freezes, loss])
}

/// Changes of master under both at once.
///
/// # Errors
/// As [`stress`].
pub fn harsh(setting: &Setting) -> Result<Vec<Figure>> {
    let both = Trouble {
        what: "freezes of up to 900 ms and 5 % of the frames lost",
        freezes: true,
        loss: LOSS,
        changes: 1.0,
    };
    in_turn(setting, "harsh", &[both])
}

/// Changes of master where a fifth of all frames is lost.
///
/// # Errors
/// As [`stress`].
pub fn lossy(setting: &Setting) -> Result<Vec<Figure>> {
    let loss =
        Trouble { what: "20 % of the frames lost", freezes: false, loss: HEAVY_LOSS, changes: 1.0 };
    in_turn(setting, "lossy", &[loss])
}

fn in_turn(setting: &Setting, name: &str, troubles: &[Trouble]) -> Result<Vec<Figure>> {
    if setting.quick && !setting.named_by_only {
        say(format_args!("left out {name}: it takes ten minutes or twenty; name it to have one"));
        return Ok(Vec::new());
    }
    if left_out(name) {
        return Ok(Vec::new());
    }
    let mut figures = Vec::new();
    for trouble in troubles {
        figures.extend(under(setting, trouble)?);
    }
    Ok(figures)
}

fn under(setting: &Setting, trouble: &Trouble) -> Result<Vec<Figure>> {
    let lasts = if setting.quick { LASTS_QUICK } else { LASTS };
    let mut fleet = formed(setting.skep()?, NODES, Ground::Lab)?;
    until_managed(&fleet, &(0..NODES).collect::<Vec<_>>())?;
    let since = Micros::now();
    let busy = Busy::new(&fleet)?;
    if trouble.loss > 0.0 {
        fleet.lab()?.set_all_paths(|_, _| Path::lossy(trouble.loss))?;
    }
    if trouble.freezes {
        freeze_in_turn(&mut fleet, lasts)?;
    } else {
        thread::sleep(lasts);
    }
    fleet.lab()?.set_all_paths(|_, _| Path::default())?;
    drop(busy);
    // What was noted is read before it is counted.
    fleet.wait("events of the last moment", LASTS, |_| Some(()))?;
    let name = |counted: &str| {
        let (seconds, what) = (lasts.as_secs(), trouble.what);
        setting.named(&format!("busy for {seconds} s, N={NODES}, {what}: {counted}"))
    };
    let changes = changes(&fleet, since)?;
    let mut figures = Vec::from([Figure::of(
        &name("changes of master"),
        "",
        &[changes],
        Better::Lower,
        trouble.changes,
    )?]);
    // With both at once, or with a fifth lost, a node may be away for longer than is allowed.
    if trouble.changes == 0.0 {
        let silences = silences(&fleet, since)?;
        figures.push(Figure::of(&name("wrong silences"), "", &[silences], Better::Lower, 0.0)?);
    }
    Ok(figures)
}

/// One agent after the other stands still, drawn by chance, with as long a rest in between.
fn freeze_in_turn(fleet: &mut Fleet, lasts: Duration) -> Result<()> {
    let mut rng = Rng::seeded(1);
    let end = Instant::now() + lasts;
    while Instant::now() < end {
        let victim = usize::try_from(rng.within(0..NODES as u64))?;
        let freeze = Duration::from_millis(rng.within(100..LONGEST_FREEZE));
        fleet.signal(victim, Signal::STOP)?;
        // A process of ours that gets no processor in time would freeze it for longer: the agent
        // is woken by one that needs little.
        thread::sleep(freeze);
        fleet.signal(victim, Signal::CONT)?;
        thread::sleep(freeze);
    }
    Ok(())
}

/// Stamps under which there was a master since then.
fn changes(fleet: &Fleet, since: Micros) -> Result<f64> {
    #[derive(Deserialize)]
    struct Line {
        monotonic_us: u64,
        event: String,
        #[serde(default)]
        what: String,
    }
    let mut stamps = BTreeSet::new();
    for number in 0..fleet.len() {
        let lines = fleet.events(number).filter_map(|line| serde_json::from_str::<Line>(line).ok());
        for line in lines.filter(|line| Micros(line.monotonic_us) >= since) {
            if line.event == "managers"
                && let Some((_, stamp)) = line.what.split_once(" is master, stamp ")
            {
                stamps.insert(stamp.to_owned());
            }
        }
    }
    count(u64::try_from(stamps.len())?)
}

/// How often anybody took anybody for silent: nobody was away for long enough.
fn silences(fleet: &Fleet, since: Micros) -> Result<f64> {
    let silent = |number: usize| {
        fleet.sightings(number, since).filter(|noted| noted.seen == Seen::Silent).count()
    };
    count(u64::try_from((0..fleet.len()).map(silent).sum::<usize>())?)
}

/// Programs that leave nothing of the machine to others; they end with it.
struct Busy {
    children: Vec<Child>,
}

impl Busy {
    fn new(fleet: &Fleet) -> Result<Self> {
        let mut busy = Self { children: Vec::new() };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores {
            busy.start("while :; do :; done")?;
        }
        let folder = fleet.seat(0)?.folder.parent().context("a folder of the fleet")?;
        let file = folder.join("synced");
        busy.start(&format!(
            "while :; do dd if=/dev/zero of='{}' bs=1M count=8 conv=fsync; done",
            file.display()
        ))?;
        Ok(busy)
    }

    fn start(&mut self, line: &str) -> Result<()> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(line);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.children.push(command.spawn().context("keeping the machine busy")?);
        Ok(())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
