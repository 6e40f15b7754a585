//! Passing bytes on between two members that cannot dial each other.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use skep_base::NodeId;
use skep_transport::PeerStream;
use skep_wire::kind;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::lock;
use super::message::Cookie;

/// Pairs whose bytes are passed on at one time.
pub(super) const MAX_PAIRS: usize = 64;
/// Nodes that may wait for their other half.
const MAX_HALVES: usize = 128;
/// How long a node may wait for its other half: it was asked to come before this one did.
const HALF_WITHIN: Duration = Duration::from_secs(15);
/// Bytes held for each direction of a pair.
const PASSED_BYTES: usize = 32 * 1024;

/// The halves that wait, and what is passed on.
#[derive(Default)]
pub(super) struct Relay {
    halves: Mutex<HashMap<Cookie, Half>>,
    pairs: AtomicUsize,
    /// Bytes of all pairs so far.
    passed: AtomicU64,
}

struct Half {
    who: NodeId,
    meets: oneshot::Sender<Box<PeerStream>>,
}

impl Relay {
    /// Joins a stream to the one that showed, or will show, the same cookie, and passes bytes on
    /// until either end hangs up.
    pub(super) async fn join(&self, mut stream: Box<PeerStream>, who: NodeId, cookie: Cookie) {
        let waits = match self.other_half(stream, who, cookie) {
            Role::Second => return,
            Role::First(mine, waits) => {
                stream = mine;
                waits
            }
            Role::Denied(mut mine, why) => {
                drop(mine.write_frame(kind::DENIED, why.as_bytes()).await);
                return;
            }
        };
        let other = timeout(HALF_WITHIN, waits).await;
        lock(&self.halves).remove(&cookie);
        let Ok(Ok(other)) = other else {
            drop(stream.write_frame(kind::DENIED, b"the other node did not come").await);
            return;
        };
        self.pass_on(stream, other).await;
    }

    /// Gives a stream to its waiting half, or makes it one.
    fn other_half(&self, stream: Box<PeerStream>, who: NodeId, cookie: Cookie) -> Role {
        let mut halves = lock(&self.halves);
        if let Some(half) = halves.remove(&cookie) {
            if half.who == who {
                return Role::Denied(stream, "a node cannot meet itself");
            }
            return match half.meets.send(stream) {
                Ok(()) => Role::Second,
                Err(stream) => Role::Denied(stream, "the other node has gone"),
            };
        }
        if halves.len() >= MAX_HALVES || self.pairs.load(Ordering::Relaxed) >= MAX_PAIRS {
            return Role::Denied(stream, "this node passes on as much as it may; try another");
        }
        let (meets, waits) = oneshot::channel();
        halves.insert(cookie, Half { who, meets });
        Role::First(stream, waits)
    }

    /// Pairs whose bytes are passed on now, and the bytes of all so far.
    pub(super) fn load(&self) -> (usize, u64) {
        (self.pairs.load(Ordering::Relaxed), self.passed.load(Ordering::Relaxed))
    }

    async fn pass_on(&self, mut one: Box<PeerStream>, mut other: Box<PeerStream>) {
        self.pairs.fetch_add(1, Ordering::Relaxed);
        let passed = async {
            one.write_frame(kind::GRANTED, &[]).await?;
            other.write_frame(kind::GRANTED, &[]).await?;
            let ((from_one, to_one), (from_other, to_other)) = (split(one), split(other));
            // Either that fails drops both, and neither end takes what came for all.
            tokio::try_join!(self.one_way(from_one, to_other), self.one_way(from_other, to_one))
        };
        match passed.await {
            Ok(_) => tracing::debug!("passed bytes on between two nodes, until both had said all"),
            Err(error) => tracing::debug!(%error, "what was passed on broke off"),
        }
        self.pairs.fetch_sub(1, Ordering::Relaxed);
    }

    async fn one_way(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut buffer = vec![0; PASSED_BYTES];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return to.shutdown().await;
            }
            to.write_all(&buffer[..read]).await?;
            to.flush().await?;
            self.passed.fetch_add(read as u64, Ordering::Relaxed);
        }
    }
}

enum Role {
    First(Box<PeerStream>, oneshot::Receiver<Box<PeerStream>>),
    Second,
    Denied(Box<PeerStream>, &'static str),
}
