//! Dialling: several addresses of one node raced, the first that leads to it wins.
//!
//! Addresses are tried in the order given, each a little after the one before unless that failed
//! already. One connection at a time is in its handshake: a second one, to the same node, would
//! only cost both ends their work twice; but an address that accepts and then says nothing holds
//! the others up for a moment only.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use skep_base::NodeId;
use skep_wire::Lane;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::event::{DialFailure, DialId, Event, expected_text};
use crate::fault::HandshakeError;
use crate::handshake::{self, Established};
use crate::shared::Shared;
use crate::socket::{Socket, SocketIo};
use crate::stream::PeerStream;
use crate::sys::tcp_info;

/// Addresses tried in one dial; any more are left out.
pub(crate) const MAX_DIAL_ADDRESSES: usize = 16;

/// What is wanted.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) dial: DialId,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) expected: Option<NodeId>,
    pub(crate) lane: Lane,
}

type Attempts = Vec<(SocketAddr, DialFailure)>;

/// Dials, and runs the link that comes of it or reports the failure.
pub(crate) async fn run(shared: Arc<Shared>, wanted: Wanted) {
    let dial = wanted.dial;
    let closing = shared.closing.clone();
    let outcome = tokio::select! {
        () = closing.cancelled() => Err((DialFailure::Closing, Vec::new())),
        outcome = in_turn(&shared, wanted) => outcome,
    };
    let (why, attempts) = match outcome {
        Ok(established) => {
            if established.begin(&shared, Some(dial)) {
                return;
            }
            (DialFailure::Closing, Vec::new())
        }
        Err(failure) => failure,
    };
    report(&shared, dial, why, attempts).await;
}

/// Tells the agent that a dial came to nothing.
pub(crate) async fn report(shared: &Shared, dial: DialId, why: DialFailure, attempts: Attempts) {
    let event = Event::DialFailed { dial, why, attempts };
    if shared.events.send(event).await.is_err() {
        tracing::trace!("the agent has ended");
    }
}

/// Waits for a place among the dials, then races.
async fn in_turn(
    shared: &Arc<Shared>,
    wanted: Wanted,
) -> Result<Box<Established>, (DialFailure, Attempts)> {
    let waiting = shared.waiting_dials.fetch_add(1, Ordering::Relaxed);
    let place = if waiting < shared.config.max_waiting_dials {
        shared.dials.acquire().await.ok()
    } else {
        None
    };
    shared.waiting_dials.fetch_sub(1, Ordering::Relaxed);
    if place.is_none() {
        return Err((DialFailure::Overloaded, Vec::new()));
    }
    race(shared, wanted).await
}

async fn race(
    shared: &Arc<Shared>,
    wanted: Wanted,
) -> Result<Box<Established>, (DialFailure, Attempts)> {
    let mut waiting = distinct(wanted.addresses).into_iter();
    let gate = Arc::new(Semaphore::new(1));
    let mut attempts = JoinSet::new();
    let mut failed = Attempts::new();
    let stagger = shared.config.connect_stagger;
    let mut next_start = Instant::now();
    let mut next_opening = Instant::now() + shared.config.handshake_stagger;
    loop {
        if attempts.is_empty() || next_start <= Instant::now() {
            if let Some(address) = waiting.next() {
                let gate = Arc::clone(&gate);
                let (shared, expected) = (Arc::clone(shared), wanted.expected);
                let lane = wanted.lane;
                attempts.spawn(async move {
                    let outcome = attempt(&shared, address, expected, lane, &gate).await;
                    (address, outcome)
                });
                next_start = Instant::now() + stagger;
            } else if attempts.is_empty() {
                break;
            }
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended {
                Ok((_, Ok(established))) => return Ok(established),
                Ok((address, Err(failure))) => {
                    note(shared, address, wanted.expected, &failure);
                    failed.push((address, failure));
                    next_start = Instant::now();
                }
                Err(error) => tracing::error!(%error, "an attempt to dial broke off"),
            },
            () = sleep_until(next_start), if more => {}
            () = sleep_until(next_opening) => {
                gate.add_permits(1);
                next_opening = Instant::now() + shared.config.handshake_stagger;
            }
        }
    }
    let why = failed
        .iter()
        .map(|(_, failure)| failure)
        .max_by_key(|failure| failure.weight())
        .cloned()
        .unwrap_or(DialFailure::NoAddress);
    Err((why, failed))
}

/// One address: TCP, then the gate, then TLS and hello.
async fn attempt(
    shared: &Shared,
    address: SocketAddr,
    expected: Option<NodeId>,
    lane: Lane,
    gate: &Semaphore,
) -> Result<Box<Established>, DialFailure> {
    let config = &shared.config;
    let stream = match timeout(config.connect_timeout, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(connect_failure(&error)),
        Err(_) => return Err(DialFailure::TimedOut),
    };
    let socket = Socket::new(stream, address, config, &shared.totals)
        .map_err(|error| connect_failure(&error))?;
    let Ok(_turn) = gate.acquire().await else {
        return Err(DialFailure::Closing);
    };
    shake_hands(shared, SocketIo::direct(Arc::new(socket)), expected, lane).await
}

async fn shake_hands(
    shared: &Shared,
    io: SocketIo,
    expected: Option<NodeId>,
    lane: Lane,
) -> Result<Box<Established>, DialFailure> {
    let until = Instant::now() + shared.config.handshake_timeout;
    handshake::dial(shared, io, expected, lane, until).await.map_err(DialFailure::Handshake)
}

/// The dialler's half of a connection within a stream that somebody else passes on.
pub(crate) async fn over(
    shared: Arc<Shared>,
    stream: Box<PeerStream>,
    dial: DialId,
    expected: NodeId,
    lane: Lane,
) {
    let address = stream.socket().remote();
    let closing = shared.closing.clone();
    let outcome = tokio::select! {
        () = closing.cancelled() => Err(DialFailure::Closing),
        outcome = shake_hands(&shared, SocketIo::over(stream), Some(expected), lane) => outcome,
    };
    let why = match outcome {
        Ok(established) => {
            if established.begin(&shared, Some(dial)) {
                return;
            }
            DialFailure::Closing
        }
        Err(why) => why,
    };
    note(&shared, address, Some(expected), &why);
    report(&shared, dial, why.clone(), vec![(address, why)]).await;
}

/// A node that answers and cannot be talked to is worth a line and a count, as one that knocks is;
/// an address at which nobody is, is not: dialling never stops.
fn note(shared: &Shared, address: SocketAddr, expected: Option<NodeId>, failure: &DialFailure) {
    match failure {
        DialFailure::Handshake(HandshakeError::Myself | HandshakeError::Closing) => {}
        DialFailure::Handshake(why) => {
            shared.refusals.note(address, why);
        }
        DialFailure::NoAddress
        | DialFailure::Overloaded
        | DialFailure::Closing
        | DialFailure::Refused
        | DialFailure::TimedOut
        | DialFailure::Unreachable(_) => {
            let wanted = expected_text(expected.as_ref());
            tracing::debug!(%address, %wanted, "cannot dial: {failure}");
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what the system says otherwise is shown in its own words"
)]
fn connect_failure(error: &io::Error) -> DialFailure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => DialFailure::Refused,
        io::ErrorKind::TimedOut => DialFailure::TimedOut,
        _ => DialFailure::Unreachable(error.to_string()),
    }
}

/// Connects and hangs up: how long that took by the kernel's own clock.
pub(crate) async fn knock(
    addresses: Vec<SocketAddr>,
    limit: Duration,
    closing: &CancellationToken,
) -> Option<Duration> {
    for address in distinct(addresses) {
        let begun = Instant::now();
        let connecting = timeout(limit, TcpStream::connect(address));
        let stream = tokio::select! {
            () = closing.cancelled() => return None,
            outcome = connecting => match outcome {
                Ok(Ok(stream)) => stream,
                Ok(Err(_)) | Err(_) => continue,
            },
        };
        let took = begun.elapsed();
        let handshake = tcp_info::read(&stream).ok().map(|tcp| tcp.rtt);
        // A reset leaves nothing behind in either kernel.
        if let Err(error) = SockRef::from(&stream).set_linger(Some(Duration::ZERO)) {
            tracing::trace!(%error, "a knock is closed the slow way");
        }
        return Some(handshake.filter(|rtt| !rtt.is_zero()).map_or(took, |rtt| rtt.min(took)));
    }
    None
}

fn distinct(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut kept = Vec::new();
    for address in addresses {
        if kept.len() < MAX_DIAL_ADDRESSES && !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_knock_finds_the_address_where_somebody_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let closing = CancellationToken::new();
        let limit = Duration::from_secs(5);
        let took = knock(vec![gone, there], limit, &closing).await;
        assert!(took.is_some_and(|took| took > Duration::ZERO && took < limit), "{took:?}");
        assert_eq!(knock(vec![gone], limit, &closing).await, None);
        closing.cancel();
        assert_eq!(knock(Vec::new(), limit, &closing).await, None);
    }

    #[test]
    fn an_address_is_tried_once_and_only_so_many_are() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let many: Vec<_> = (0..100).flat_map(|port| [address(port), address(port)]).collect();
        let kept = distinct(many);
        assert_eq!(kept.len(), MAX_DIAL_ADDRESSES);
        assert_eq!(kept[..2], [address(0), address(1)]);
    }
}
