//! What this host has to spare, measured (DVM-12): every ten seconds a handful of small files of
//! `/proc` and `/sys` is read beside the runtime. What of that others are told, and how seldom, is
//! the gauge's to say (`core/managers`); most hosts tell once.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use skep_managers::{Counters, Gauge, LinkCounters};
use skep_sensors::{Reading, Sensors};
use skep_wire::Address;
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::spine::Request;

/// Between two looks at the counters.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Measures until nobody wants to know.
pub(crate) async fn measure(
    sensors: Sensors,
    clock: Clock,
    listens: watch::Receiver<Vec<Address>>,
    requests: mpsc::Sender<Request>,
) {
    let mut gauge = Gauge::new(clock.now());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let addresses: BTreeSet<IpAddr> =
            listens.borrow().iter().map(|address| address.socket.ip()).collect();
        let sensors = sensors.clone();
        let read = move || sensors.read(&carriers(&addresses));
        let Ok(reading) = tokio::task::spawn_blocking(read).await else {
            return tracing::error!(
                "the counters of this host cannot be read: no more is measured"
            );
        };
        if let Some((resources, parts)) = gauge.sample(clock.now(), counters(&reading)) {
            tracing::info!(resources, ?parts, "what this host has to spare");
            if requests.send(Request::Spare { resources, parts }).await.is_err() {
                return;
            }
        }
    }
}

/// The interfaces that carry these addresses. Where none does, as behind address translation, all
/// that are up but the loopback.
fn carriers(addresses: &BTreeSet<IpAddr>) -> Vec<String> {
    let all = match skep_transport::interfaces() {
        Ok(all) => all,
        Err(error) => {
            tracing::debug!(%error, "the interfaces of this host cannot be listed");
            return Vec::new();
        }
    };
    let named =
        |it: &skep_transport::Interface| it.addresses.iter().any(|ip| addresses.contains(ip));
    let some = all.iter().any(|it| !it.loopback && named(it));
    let carries = |it: &&skep_transport::Interface| {
        it.up && !it.loopback && if some { named(it) } else { !it.addresses.is_empty() }
    };
    all.iter().filter(carries).map(|it| it.name.clone()).collect()
}

fn counters(reading: &Reading) -> Counters {
    let link = |it: &skep_sensors::Interface| LinkCounters {
        speed: it.speed,
        bytes: it.received.max(it.sent),
    };
    Counters {
        processors: reading.processors,
        busy: reading.busy,
        processor_wait: reading.processor_wait,
        memory: reading.memory,
        memory_wait: reading.memory_wait,
        disk: reading.disk,
        disk_wait: reading.disk_wait,
        links: reading.interfaces.iter().map(link).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loopback is no network: a host without another has none to speak of.
    #[test]
    fn what_carries_an_address_is_found_and_the_loopback_never() {
        let all = skep_transport::interfaces().unwrap();
        let loopback = all.iter().find(|it| it.loopback).unwrap();
        let outward = all.iter().filter(|it| it.up && !it.loopback && !it.addresses.is_empty());
        let outward: Vec<String> = outward.map(|it| it.name.clone()).collect();
        let nowhere = BTreeSet::from(["192.0.2.77".parse().unwrap()]);
        assert_eq!(carriers(&nowhere), outward);
        let inward: BTreeSet<IpAddr> = loopback.addresses.iter().copied().collect();
        assert_eq!(carriers(&inward), outward);
        for it in all.iter().filter(|it| outward.contains(&it.name)) {
            let named = carriers(&BTreeSet::from([it.addresses[0]]));
            assert!(named.len() == 1 && named[0] == it.name, "{named:?}");
        }
    }
}
