//! Updates that a client publishes: their bodies as they come in, and on to the agent.

use std::sync::Arc;

use skep_lines::{Publish, Reply, code};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Session;
use crate::answer::{self, Refusal};
use crate::backend::{Ask, Publication};
use crate::body::{Body, SpoolError};
use crate::server::Counts;

/// Publications that go to the agent at once.
const BATCH: usize = 256;
/// Bytes of a refused body that are read to its end, so that the reply comes in its place and the
/// next command is understood. Of a longer one the client is told at once, and cut off.
const DISCARD_BYTES: u64 = 64 << 20;
/// Memory that a publication takes besides its body.
pub(crate) const PUBLICATION_BYTES: usize = 256;

/// A body that is coming in.
pub(super) struct Incoming {
    /// What it is for, or why it is refused when it has come.
    publish: Result<Publish, Reply>,
    body: Body,
    /// Its size, where it was said.
    size: Option<u64>,
    /// Bytes that came, also those that are not kept.
    came: u64,
}

impl Session {
    /// A body follows: text where no size is given.
    pub(super) fn expect(&mut self, publish: Result<Publish, Reply>, size: Option<u64>) {
        let limit = self.shared.config.body_max;
        let publish = publish.and_then(|publish| match size {
            Some(size) if size > limit => {
                let Refusal { code, text } = answer::too_large(limit);
                Err(Reply::new(code, text))
            }
            Some(size) => {
                self.shared.spool.has_room(size).map_err(|error| not_kept(&error))?;
                Ok(publish)
            }
            None => Ok(publish),
        });
        if size.is_none() {
            self.say(Reply::new(code::SEND, "end with a line that holds one dot"));
        }
        self.incoming = Some(Incoming { publish, body: Body::new(size), size, came: 0 });
        self.give_up_on_much();
    }

    pub(super) async fn part(&mut self, part: &[u8]) {
        let limit = self.shared.config.body_max;
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        incoming.came += part.len() as u64;
        if incoming.publish.is_err() {
            incoming.body.skip(part.len());
        } else if incoming.came > limit {
            let Refusal { code, text } = answer::too_large(limit);
            incoming.refuse(Reply::new(code, text));
        } else if let Err(error) = incoming.body.push(part, &self.shared.spool).await {
            incoming.refuse(not_kept(&error));
        }
        self.give_up_on_much();
    }

    /// Cuts a client off when too much is to come, or has come, of what is refused.
    fn give_up_on_much(&mut self) {
        let Some(Incoming { publish: Err(reply), body, size, came }) = &self.incoming else {
            return;
        };
        let to_come = size.map_or(0, |size| size - came.min(&size));
        if body.length().max(to_come) > DISCARD_BYTES {
            let reply = Reply::new(reply.code, format!("{}; closing", reply.text()));
            self.say(reply);
            self.incoming = None;
            self.closing = true;
        }
    }

    /// All of a body is there.
    pub(super) async fn whole(&mut self) {
        let Some(Incoming { publish, body, .. }) = self.incoming.take() else {
            return;
        };
        Counts::add(&self.shared.counts.bodies, 1);
        let publish = match publish {
            Ok(publish) => publish,
            Err(reply) => return self.say(reply),
        };
        let body = match body.finish().await {
            Ok(body) => body,
            Err(error) => return self.say(not_kept(&error)),
        };
        let Some(room) = self.room(body.in_memory() + PUBLICATION_BYTES).await else {
            return self.say(Reply::new(code::GOING, Refusal::stopping().text));
        };
        let slot = self.slot(Some(room));
        let Publish { groups, key, trail } = publish;
        let came = Arc::clone(&self.came);
        let client = self.id;
        self.batch.push(Publication { client, groups, key, trail, came, body, slot });
        if self.batch.len() >= BATCH {
            self.send_batch().await;
        }
    }

    /// Memory for a publication; waits until the log has taken others.
    async fn room(&mut self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let all = self.shared.config.memory.min(Semaphore::MAX_PERMITS);
        let permits = u32::try_from(bytes.min(all)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.shared.memory);
        if let Ok(room) = Arc::clone(&memory).try_acquire_many_owned(permits) {
            return Some(room);
        }
        // What this client has in hand itself must not be what it waits for.
        self.send_batch().await;
        memory.acquire_many_owned(permits).await.ok()
    }

    pub(super) async fn send_batch(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.ask(Ask::Publish(batch)).await;
        }
    }
}

impl Incoming {
    /// What follows is not kept, and what came is not any more.
    fn refuse(&mut self, reply: Reply) {
        self.publish = Err(reply);
        self.body = Body::new(None);
    }
}

fn not_kept(error: &SpoolError) -> Reply {
    match error {
        SpoolError::Full => Reply::new(code::BUSY, error.to_string()),
        SpoolError::Io(source) => {
            tracing::error!(error = %source, "a long update of a client cannot be kept");
            Reply::new(code::FAILED, error.to_string())
        }
    }
}
