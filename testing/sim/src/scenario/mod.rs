//! Named scenarios: each sets a world up, does something to it, and says what must come of that.

mod apart;
mod churn;
mod discovery;
mod estimates;
mod faults;
mod forming;
mod managers;
mod orders;
mod splits;
mod survivors;
mod switch;
mod topology;
mod updates;

use std::time::Duration;

use skep_base::GroupName;

use crate::host::HostIx;
use crate::report::Failure;
use crate::world::{Config, World};

/// What a scenario plays in; `Err` holds a [`Failure`] or why the world could not be set up.
pub type Played = anyhow::Result<()>;

/// A scenario.
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub about: &'static str,
    /// With how many nodes it is played unless told otherwise.
    pub nodes: usize,
    /// With how few it makes sense.
    pub least: usize,
    /// What is unusual about its world.
    pub configure: fn(&mut Config),
    /// What happens.
    pub play: fn(&mut World, usize) -> Played,
}

/// All scenarios, in the order of the command line's list.
pub const ALL: &[Scenario] = &[
    forming::FORM,
    forming::CROWD,
    forming::FORM_REGIONS,
    forming::ONE_BY_ONE,
    forming::SLOW_DISKS,
    faults::RACK,
    faults::CRASH,
    faults::POWER,
    faults::PAUSE,
    faults::RESTART_ALL,
    faults::POWER_ALL,
    faults::GOODBYE,
    faults::LOSS,
    faults::DUPLICATE,
    splits::HALVES,
    splits::ONE_WAY,
    splits::BRIDGE,
    splits::PAIRS,
    discovery::MULTICAST,
    discovery::BEACON,
    discovery::LATE_ADDRESS,
    discovery::MOVE,
    discovery::STRANGERS,
    updates::UPDATES,
    updates::OUTAGE,
    survivors::SURVIVORS,
    churn::CHURN,
    estimates::ESTIMATES,
    apart::APART,
    topology::TOPOLOGY,
    topology::MASTER,
    topology::NOISE,
    topology::DETOUR,
    switch::SWITCH,
    switch::GROUP,
    managers::MANAGERS,
    orders::ORDERS,
    managers::LOSSES,
];

/// The scenario of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// Nothing is unusual.
fn usual(_: &mut Config) {}

/// How long a flock of `n` may take to meet: generous, as a scenario is no benchmark.
fn patience(n: usize) -> Duration {
    Duration::from_secs(20) + Duration::from_millis(20) * u32::try_from(n).unwrap_or(u32::MAX)
}

/// Adds `n` hosts that all know the first.
fn hosts(world: &mut World, n: usize) -> anyhow::Result<Vec<HostIx>> {
    let hosts = world.add_hosts(n)?;
    for host in &hosts[1..] {
        world.set_seeds(*host, &hosts[..1]);
    }
    Ok(hosts)
}

/// Starts hosts within a second of one another, or of a hundred others where there are more.
fn start_within_a_second(world: &mut World, hosts: &[HostIx]) -> Result<(), Failure> {
    let count = u32::try_from(hosts.len().clamp(1, 100)).unwrap_or(1);
    let pause = Duration::from_secs(1) / count;
    for host in hosts {
        world.start(*host);
        world.run_for(pause)?;
    }
    Ok(())
}

/// A flock of `n` that has met and is at rest.
fn flock(world: &mut World, n: usize) -> anyhow::Result<Vec<HostIx>> {
    let hosts = hosts(world, n)?;
    start_within_a_second(world, &hosts)?;
    let took = world.until_at_rest(patience(n))?;
    world.measure("formed", took);
    Ok(hosts)
}

/// Publishes an update at each of `hosts`, and lets a little time pass between.
fn publish_at(world: &mut World, hosts: &[HostIx]) -> Result<(), Failure> {
    for host in hosts {
        let length = 1 + usize::try_from(world.rng.within(0..600)).unwrap_or(0);
        publish_sized(world, *host, length);
        world.run_for(Duration::from_millis(20))?;
    }
    Ok(())
}

fn publish_sized(world: &mut World, host: HostIx, length: usize) {
    let body: Vec<u8> =
        std::iter::repeat_with(|| world.rng.bits().to_le_bytes()).flatten().take(length).collect();
    world.publish(host, &GroupName::all(), body.into());
}
