//! Measuring for the node: what the kernel knows of links, and knocks at doors.

use std::net::SocketAddr;
use std::time::Duration;

use skep_base::NodeId;
use skep_estimates::Place;
use skep_node::{Input, Sample};
use skep_transport::LinkSample;
use tokio_util::task::AbortOnDropHandle;

use crate::config::high::{Config, Group};
use crate::spine::{Request, Spine};

/// What the node measures. A node in several groups has one schedule, that of the most eager: each
/// group is a part of `all`, so a node drawn for one is drawn for the others as well.
#[must_use]
pub fn config(config: &Config) -> skep_estimates::Config {
    let periods = |of: fn(&Group) -> Duration, default: Duration| {
        config.groups.values().map(of).min().unwrap_or(default)
    };
    let defaults = skep_estimates::Config::default();
    let location = config.node.location.as_ref();
    skep_estimates::Config {
        ping_period: periods(|group| group.ping_period, defaults.ping_period),
        bandwidth_period: periods(|group| group.bandwidth_period, defaults.bandwidth_period),
        estimates_period: periods(|group| group.estimates_period, defaults.estimates_period),
        place: location.and_then(|at| Place::from_degrees(at.latitude, at.longitude)),
    }
}

impl Spine {
    /// Asks the kernel about every link of either lane, and tells the node.
    pub fn look(&mut self) {
        let control = self.links.iter().map(|(link, note)| {
            (skep_transport::LinkId::from_number(link.0), note.certificate.id, false)
        });
        let bulk = self.bulk_links.iter().map(|(link, peer)| (*link, *peer, true));
        let sampled = control.chain(bulk).filter_map(|(link, peer, bulk)| {
            // What is known of the way to a relay says nothing of the peer.
            let sample = self.transport.sample(link).filter(|sample| !sample.relayed)?;
            Some(in_core_words(peer, bulk, &sample))
        });
        let samples: Vec<Sample> = sampled.collect();
        self.take(Input::Looked(samples));
    }

    /// Knocks at a node's door; the answer comes as a request. One at a time: knocks are rare, and
    /// one that is still waited for is one too many already.
    pub fn knock(&mut self, peer: NodeId, addresses: Vec<SocketAddr>) {
        if self.knocking.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (transport, requests) = (self.transport.clone(), self.requests.clone());
        let task = tokio::spawn(async move {
            let took = transport.knock(addresses).await;
            if requests.send(Request::Knocked(peer, took)).await.is_err() {
                tracing::trace!("the agent has ended");
            }
        });
        self.knocking = Some(AbortOnDropHandle::new(task));
    }
}

fn in_core_words(peer: NodeId, bulk: bool, sample: &LinkSample) -> Sample {
    Sample {
        peer,
        bulk,
        least_rtt: sample.tcp.min_rtt,
        acked: sample.tcp.bytes_acked,
        rate: sample.tcp.delivery_rate,
        sender_limited: sample.tcp.app_limited,
    }
}
