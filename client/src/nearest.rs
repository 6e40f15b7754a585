//! Which agent is nearest: the agent's hints, of which several are tried at once, and the answer
//! kept for a while (FLOOD-11).

use std::time::{Duration, Instant};

use skep_base::NodeName;
use skep_lines::{Hint, Reply};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::link::Dialler;
use crate::look::rows;
use crate::options::Options;
use crate::server::Server;

/// Hints that are tried: the agent ranked them by its own distance, which is near the client's.
const TRIED: usize = 8;
/// How long one may take to answer. One that takes longer is not near.
const TRY_TIME: Duration = Duration::from_secs(2);
/// How long an answer is kept: networks change, and a restart of an agent should not be asked for
/// again by every one of its clients.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// An agent, and how far away it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near {
    /// Whose agent.
    pub node: NodeName,
    /// How to reach it from here; none where it serves no clients of other hosts, or did not
    /// answer.
    pub server: Option<Server>,
    /// The round trip of a command from here, where it was tried and answered.
    pub measured: Option<Duration>,
    /// The round trip from the agent that was asked.
    pub hint: Option<Duration>,
}

/// An answer, and when it was measured.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) nodes: Vec<Near>,
    at: Instant,
}

impl Kept {
    pub(crate) fn now(nodes: Vec<Near>) -> Self {
        Self { nodes, at: Instant::now() }
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.at.elapsed() < KEPT_FOR
    }
}

/// Tries the first hints, and ranks all by what was measured, then by hint.
pub(crate) async fn measure(dialler: &Dialler, options: &Options, reply: &Reply) -> Vec<Near> {
    let mut hints: Vec<(Near, Vec<Server>)> = rows(reply).filter_map(hint).collect();
    // The agent itself is reached the way it was reached.
    if let Some((near, servers)) =
        hints.iter_mut().find(|(near, _)| near.hint == Some(Duration::ZERO))
    {
        near.server = None;
        servers.splice(0..0, options.servers.first().cloned());
    }
    let mut tries = JoinSet::new();
    let serving = hints.iter().enumerate().filter(|(_, (_, servers))| !servers.is_empty());
    for (at, (_, servers)) in serving.take(TRIED) {
        for server in servers.clone() {
            if matches!(server, Server::Tls(_)) && !dialler.speaks_tls() {
                continue;
            }
            let dialler = dialler.clone();
            tries.spawn(async move {
                let tried = timeout(TRY_TIME, round_trip(&dialler, &server)).await;
                (at, server, tried.ok().flatten())
            });
        }
    }
    while let Some(tried) = tries.join_next().await {
        if let Ok((at, server, Some(took))) = tried
            && let Some((near, _)) = hints.get_mut(at)
            && near.measured.is_none_or(|before| took < before)
        {
            near.measured = Some(took);
            near.server = Some(server);
        }
    }
    let mut nodes: Vec<Near> = hints.into_iter().map(|(near, _)| near).collect();
    let unknown = Duration::MAX;
    nodes.sort_by_key(|near| (near.measured.unwrap_or(unknown), near.hint.unwrap_or(unknown)));
    nodes
}

async fn round_trip(dialler: &Dialler, server: &Server) -> Option<Duration> {
    let mut link = dialler.dial(server).await.ok()?;
    let sent = Instant::now();
    let reply = link.ask("noop").await.ok()?;
    reply.is_done().then(|| sent.elapsed())
}

fn hint(row: &str) -> Option<(Near, Vec<Server>)> {
    let Hint { node, rtt: hint, servers, routed: _ } = Hint::read(row)?;
    let servers = servers.iter().filter_map(|word| word.parse().ok()).collect();
    Some((Near { node, server: None, measured: None, hint }, servers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_read() {
        let (near, servers) = hint("inferno 4171 plain:10.0.0.1:2000 tls:[::1]:2443 odd").unwrap();
        assert_eq!(near.hint, Some(Duration::from_micros(4171)));
        assert_eq!(servers.len(), 2);
        assert_eq!(hint("valhalla ?").unwrap().0.hint, None);
        assert!(hint("").is_none());
    }
}
