//! What waits to be sent over one link, counted in bytes.
//!
//! Anybody may put frames in; the link's task takes them out. The queue never blocks: a peer that
//! lets it fill up loses its link and delays nobody else.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::handle::SendError;

/// Slots of an empty queue that are worth keeping.
const KEPT_SLOTS: usize = 16;

/// A bounded queue of frames with one taker.
#[derive(Debug)]
pub(crate) struct SendQueue {
    limit: usize,
    state: Mutex<State>,
    room: Notify,
}

#[derive(Debug)]
struct State {
    frames: VecDeque<Bytes>,
    /// Of the frames here and of those that the task holds and has not written yet.
    bytes: usize,
    order: Order,
    taker: Option<Waker>,
}

/// What the task is to do with the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Send and receive.
    Run,
    /// Send what waits, say goodbye and close.
    Close(String),
    /// The peer takes too little: close at once.
    Overrun,
    /// The link is gone; nothing is taken any more.
    Gone,
}

impl SendQueue {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            state: Mutex::new(State {
                frames: VecDeque::new(),
                bytes: 0,
                order: Order::Run,
                taker: None,
            }),
            room: Notify::new(),
        }
    }

    /// Adds a frame. One that does not fit costs the peer its link.
    pub(crate) fn push(&self, frame: Bytes) -> Result<(), SendError> {
        let (taker, fits) = {
            let mut state = self.lock();
            if state.order != Order::Run {
                return Err(SendError::Down);
            }
            let fits = state.bytes + frame.len() <= self.limit;
            if fits {
                state.bytes += frame.len();
                state.frames.push_back(frame);
            } else {
                state.order = Order::Overrun;
                state.frames = VecDeque::new();
            }
            (state.taker.take(), fits)
        };
        wake(taker);
        if fits {
            return Ok(());
        }
        self.room.notify_waiters();
        Err(SendError::TooSlow)
    }

    /// Tells the task to close the link. The first reason stays.
    pub(crate) fn close(&self, reason: &str) {
        let waker = {
            let mut state = self.lock();
            if state.order != Order::Run {
                return;
            }
            state.order = Order::Close(reason.to_owned());
            state.taker.take()
        };
        wake(waker);
        self.room.notify_waiters();
    }

    /// Marks the link as gone and forgets what waits.
    pub(crate) fn end(&self) {
        {
            let mut state = self.lock();
            state.order = Order::Gone;
            state.frames = VecDeque::new();
            state.taker = None;
        }
        self.room.notify_waiters();
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Waits until `wanted` more bytes fit.
    pub(crate) async fn room(&self, wanted: usize) -> Result<(), SendError> {
        if wanted > self.limit {
            return Err(SendError::TooLong);
        }
        loop {
            let notified = self.room.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            {
                let state = self.lock();
                if state.order != Order::Run {
                    return Err(SendError::Down);
                }
                if state.bytes + wanted <= self.limit {
                    return Ok(());
                }
            }
            notified.await;
        }
    }

    /// Moves frames of up to about `budget` bytes to `out`, at least one if any waits and
    /// `budget` is not zero, and says what to do. `taker` is woken when there is more.
    pub(crate) fn take(&self, budget: usize, out: &mut VecDeque<Bytes>, taker: &Waker) -> Order {
        let mut state = self.lock();
        let mut taken = 0;
        while taken < budget
            && let Some(frame) = state.frames.pop_front()
        {
            taken += frame.len();
            out.push_back(frame);
        }
        if state.frames.is_empty() && state.frames.capacity() > KEPT_SLOTS {
            state.frames = VecDeque::new();
        }
        if !state.taker.as_ref().is_some_and(|kept| kept.will_wake(taker)) {
            state.taker = Some(taker.clone());
        }
        state.order.clone()
    }

    /// Notes that the task has written `bytes` of what it took.
    pub(crate) fn written(&self, bytes: usize) {
        {
            // The goodbye is written and was never queued.
            let mut state = self.lock();
            state.bytes = state.bytes.saturating_sub(bytes);
        }
        self.room.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &SendQueue, budget: usize) -> (Vec<usize>, Order) {
        let mut out = VecDeque::new();
        let order = queue.take(budget, &mut out, Waker::noop());
        (out.iter().map(Bytes::len).collect(), order)
    }

    #[test]
    fn frames_come_out_in_order_and_in_batches() {
        let queue = SendQueue::new(100);
        for len in [10, 20, 30] {
            queue.push(Bytes::from(vec![0; len])).unwrap();
        }
        assert_eq!(take(&queue, 15), (vec![10, 20], Order::Run));
        assert_eq!(queue.bytes(), 60);
        queue.written(30);
        assert_eq!(queue.bytes(), 30);
        assert_eq!(take(&queue, 15), (vec![30], Order::Run));
    }

    #[test]
    fn one_byte_too_many_ends_the_link_and_frees_the_memory() {
        let queue = SendQueue::new(100);
        queue.push(Bytes::from(vec![0; 100])).unwrap();
        let over = queue.push(Bytes::from_static(b"x"));
        assert_eq!(over, Err(SendError::TooSlow));
        assert_eq!(take(&queue, 1000), (vec![], Order::Overrun));
        assert_eq!(queue.push(Bytes::new()), Err(SendError::Down));
    }

    #[tokio::test]
    async fn who_waits_for_room_is_let_in_when_bytes_were_written() {
        let queue = std::sync::Arc::new(SendQueue::new(100));
        queue.push(Bytes::from(vec![0; 80])).unwrap();
        let waiter = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move { queue.room(50).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        queue.written(30);
        assert_eq!(waiter.await.unwrap(), Ok(()));
        assert_eq!(queue.room(101).await, Err(SendError::TooLong));
        queue.close("done");
        assert_eq!(queue.room(1).await, Err(SendError::Down));
    }
}
