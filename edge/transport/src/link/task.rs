//! The one task of a link: it reads frames, writes what the queue holds, and ends with the link.
//!
//! Reading and writing are polled by turns in one task, so a peer that does not read cannot keep us
//! from reading, and neither costs a second task or a channel. Whatever waits is handed to TLS in
//! one write: small frames share a record, and an idle link holds no buffer at all.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use skep_identity::tls::Refusal;
use skep_wire::{Frame, FrameReader, Lane, kind, write_frame};
use tokio::io::{AsyncBufRead as _, AsyncBufReadExt as _, AsyncWrite as _};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::TlsStream;

use crate::event::{Credit, DownReason, Event, LinkId, ProtocolFault};
use crate::link::queue::Order;
use crate::link::registry::{Link, Reservation};
use crate::socket::{Socket, SocketIo};

/// Bytes taken from the queue at a time: four records of TLS.
const BATCH_BYTES: usize = 64 * 1024;
/// Frames given to TLS in one write.
const BATCH_FRAMES: usize = 64;
/// Reads in one turn before others are let in.
const READS_PER_TURN: usize = 32;
/// How long a closed link is still read, so that unread bytes do not reset the connection before
/// the peer has read our goodbye.
const LINGER: Duration = Duration::from_secs(1);
/// Longest text of a goodbye, in characters.
pub(crate) const MAX_GOODBYE_CHARS: usize = 200;

/// What a link works with.
pub(crate) struct LinkTask {
    pub(crate) link: Arc<Link>,
    pub(crate) tls: TlsStream<SocketIo>,
    pub(crate) reader: FrameReader,
    pub(crate) events: mpsc::Sender<Event>,
    /// Bytes of this lane that may wait for the agent.
    pub(crate) unread: Arc<Semaphore>,
    pub(crate) idle: Duration,
    pub(crate) write_stall: Duration,
    pub(crate) drain: Duration,
    pub(crate) reservation: Reservation,
}

/// What changes while the link runs.
struct Progress {
    /// Taken from the queue and not given to TLS yet.
    out: VecDeque<Bytes>,
    /// Whether TLS may hold bytes that the kernel did not take.
    unflushed: bool,
    /// A frame for which the agent has no room yet. Nothing is read meanwhile.
    delivery: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    /// When the kernel last took bytes, and how many it had taken then.
    moved: (Instant, u64),
    received: Instant,
    sent: Instant,
    /// The reason for which this side closes, and until when it may take.
    closing: Option<(String, Instant)>,
}

impl LinkTask {
    /// Runs the link to its end. The agent is told `up` first, and `LinkDown` last.
    pub(crate) async fn run(mut self, up: Event) {
        let why =
            if self.events.send(up).await.is_ok() { self.converse().await } else { agent_gone() };
        let events = self.events.clone();
        let (link, lingering) = self.end(&why);
        if events.send(Event::LinkDown { link, why }).await.is_err() {
            return;
        }
        if let Some(socket) = lingering {
            // Boxed, or every link would keep room for it from its first day.
            Box::pin(socket.linger(LINGER)).await;
        }
    }

    /// Gives back all that the link held, before the agent hears of its end, so that no later send
    /// can seem to have worked. Not part of `run`, which would keep room for it all the time.
    fn end(self, why: &DownReason) -> (LinkId, Option<Arc<Socket>>) {
        let (id, socket) = (self.link.id, Arc::clone(&self.link.socket));
        tracing::debug!(link = %id, remote = %socket.remote(), "link down: {why}");
        self.link.queue.end();
        self.reservation.registry().remove(id);
        drop(self);
        if *why == DownReason::TooSlow {
            socket.abort_on_close();
        }
        (id, matches!(why, DownReason::Local(_)).then_some(socket))
    }

    async fn converse(&mut self) -> DownReason {
        let now = Instant::now();
        let mut state = Progress {
            out: VecDeque::new(),
            unflushed: false,
            delivery: None,
            moved: (now, 0),
            received: now,
            sent: now,
            closing: None,
        };
        let mut timer = pin!(sleep_until(now + self.idle));
        let why = poll_fn(|cx| self.turn(cx, &mut state, timer.as_mut())).await;
        if let Some(delivery) = state.delivery.take()
            && !delivery.await
        {
            return agent_gone();
        }
        why
    }

    fn turn(
        &mut self,
        cx: &mut Context<'_>,
        state: &mut Progress,
        timer: Pin<&mut Sleep>,
    ) -> Poll<DownReason> {
        if let Poll::Ready(lost) = self.write(cx, state) {
            // A peer that went away may have said why before it did.
            return match self.read(cx, state) {
                Poll::Ready(said @ DownReason::Goodbye(_)) if state.closing.is_none() => {
                    Poll::Ready(said)
                }
                Poll::Ready(_) | Poll::Pending => Poll::Ready(lost),
            };
        }
        if let Poll::Ready(why) = self.read(cx, state) {
            return Poll::Ready(match state.closing.take() {
                Some((text, _)) => DownReason::Local(text),
                None => why,
            });
        }
        self.watch_clock(cx, state, timer)
    }

    /// Gives TLS all that waits, and the kernel all that TLS holds. Ready when the link ends.
    fn write(&mut self, cx: &mut Context<'_>, state: &mut Progress) -> Poll<DownReason> {
        loop {
            if let Poll::Ready(why) = self.refill(cx, state) {
                return Poll::Ready(why);
            }
            if state.out.is_empty() {
                return self.flush(cx, state);
            }
            if !state.unflushed {
                state.unflushed = true;
                state.moved = (Instant::now(), self.link.socket.sent_bytes());
            }
            let mut slices = [IoSlice::new(&[]); BATCH_FRAMES];
            let mut count = 0;
            for (slice, frame) in slices.iter_mut().zip(&state.out) {
                *slice = IoSlice::new(frame);
                count += 1;
            }
            let written = Pin::new(&mut self.tls).poll_write_vectored(cx, &slices[..count]);
            match written {
                Poll::Ready(Ok(bytes)) => {
                    advance(&mut state.out, bytes);
                    self.link.queue.written(bytes);
                    state.sent = Instant::now();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(lost(&error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Takes the next frames from the queue, the goodbye after the last of them. Ready when the
    /// link ends without one.
    fn refill(&mut self, cx: &mut Context<'_>, state: &mut Progress) -> Poll<DownReason> {
        if state.closing.is_some() {
            return Poll::Pending;
        }
        // Orders are heard even while the last batch still waits for the peer.
        let budget = if state.out.is_empty() { BATCH_BYTES } else { 0 };
        let order = self.link.queue.take(budget, &mut state.out, cx.waker());
        match order {
            Order::Run => {
                if state.out.is_empty() && state.out.capacity() > BATCH_FRAMES {
                    state.out = VecDeque::new();
                }
            }
            Order::Overrun => return Poll::Ready(DownReason::TooSlow),
            Order::Gone => return Poll::Ready(agent_gone()),
            Order::Close(text) => {
                if state.out.is_empty() {
                    state.out.push_back(goodbye(&text));
                    state.closing = Some((text, Instant::now() + self.drain));
                }
            }
        }
        Poll::Pending
    }

    fn flush(&mut self, cx: &mut Context<'_>, state: &mut Progress) -> Poll<DownReason> {
        if state.unflushed {
            match Pin::new(&mut self.tls).poll_flush(cx) {
                Poll::Ready(Ok(())) => state.unflushed = false,
                Poll::Ready(Err(error)) => return Poll::Ready(lost(&error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let Some((text, _)) = &state.closing else {
            return Poll::Pending;
        };
        // However the shutdown goes, the link ends for the reason that was asked for.
        Pin::new(&mut self.tls).poll_shutdown(cx).map(|_| DownReason::Local(text.clone()))
    }

    /// Reads and hands frames to the agent. Ready when the link ends.
    fn read(&mut self, cx: &mut Context<'_>, state: &mut Progress) -> Poll<DownReason> {
        for _ in 0..READS_PER_TURN {
            loop {
                if let Some(delivery) = &mut state.delivery {
                    if !std::task::ready!(delivery.as_mut().poll(cx)) {
                        return Poll::Ready(agent_gone());
                    }
                    state.delivery = None;
                }
                match self.reader.next_frame() {
                    Ok(Some(frame)) => {
                        if let Some(why) = self.receive(frame, state) {
                            return Poll::Ready(why);
                        }
                    }
                    Ok(None) => break,
                    Err(fault) => return protocol(fault.into()),
                }
            }
            self.reader.release_memory();
            match std::task::ready!(Pin::new(&mut self.tls).poll_fill_buf(cx)) {
                Ok([]) if self.reader.pending_bytes() > 0 => {
                    return protocol(ProtocolFault::Truncated);
                }
                Ok([]) => return Poll::Ready(DownReason::Closed),
                Ok(bytes) => {
                    let count = bytes.len();
                    reserve_whole_frame(&mut self.reader);
                    self.reader.feed(bytes);
                    self.tls.consume(count);
                    state.received = Instant::now();
                }
                Err(error) => return Poll::Ready(lost(&error)),
            }
        }
        // Enough for one turn; the rest when others had theirs.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn receive(&self, frame: Frame, state: &mut Progress) -> Option<DownReason> {
        match frame.kind {
            kind::GOODBYE => Some(DownReason::Goodbye(goodbye_text(&frame.body))),
            kind::HELLO => Some(DownReason::Protocol(ProtocolFault::SecondHello)),
            _ if state.closing.is_some() => None,
            _ => {
                state.delivery = self.deliver(frame);
                None
            }
        }
    }

    /// Hands a frame over at once, or gives back what must be waited for.
    fn deliver(&self, frame: Frame) -> Option<Pin<Box<dyn Future<Output = bool> + Send>>> {
        let link = self.link.id;
        // Even an empty frame costs something; no body is over 2³² bytes.
        let cost = u32::try_from(frame.body.len()).unwrap_or(u32::MAX).max(64);
        let events = self.events.clone();
        match Arc::clone(&self.unread).try_acquire_many_owned(cost) {
            Ok(permit) => {
                let credit = Credit(permit);
                match events.try_send(Event::Frame { link, frame, credit }) {
                    Ok(()) => None,
                    Err(TrySendError::Full(event) | TrySendError::Closed(event)) => {
                        Some(Box::pin(async move { events.send(event).await.is_ok() }))
                    }
                }
            }
            Err(_) => {
                let unread = Arc::clone(&self.unread);
                Some(Box::pin(async move {
                    let Ok(permit) = unread.acquire_many_owned(cost).await else {
                        return false;
                    };
                    let credit = Credit(permit);
                    events.send(Event::Frame { link, frame, credit }).await.is_ok()
                }))
            }
        }
    }

    fn watch_clock(
        &self,
        cx: &mut Context<'_>,
        state: &mut Progress,
        mut timer: Pin<&mut Sleep>,
    ) -> Poll<DownReason> {
        loop {
            let due = self.due(state);
            if due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            std::task::ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if let Some(why) = self.overdue(state, now) {
                return Poll::Ready(why);
            }
            let next = self.due(state);
            timer.as_mut().reset(next);
        }
    }

    /// The earliest time at which something may have lasted too long.
    fn due(&self, state: &Progress) -> Instant {
        let mut due = self.quiet_since(state) + self.idle;
        if state.unflushed {
            due = due.min(state.moved.0 + self.write_stall);
        }
        if let Some((_, until)) = state.closing {
            due = due.min(until);
        }
        due
    }

    fn overdue(&self, state: &mut Progress, now: Instant) -> Option<DownReason> {
        if let Some((text, until)) = &state.closing
            && *until <= now
        {
            return Some(DownReason::Local(text.clone()));
        }
        if state.delivery.is_some() {
            // It is the agent that is slow; the peer may have sent a great deal.
            state.received = now;
        }
        let sent_bytes = self.link.socket.sent_bytes();
        if sent_bytes != state.moved.1 {
            state.moved = (now, sent_bytes);
        }
        if state.unflushed && state.moved.0 + self.write_stall <= now {
            return Some(DownReason::TooSlow);
        }
        (self.quiet_since(state) + self.idle <= now).then(|| match self.link.lane {
            Lane::Control => DownReason::TimedOut,
            Lane::Bulk | Lane::Stream => DownReason::Local("idle".to_owned()),
        })
    }

    /// A control link lives by what it hears; a bulk link also by what it says.
    fn quiet_since(&self, state: &Progress) -> Instant {
        match self.link.lane {
            Lane::Control => state.received,
            Lane::Bulk | Lane::Stream => state.received.max(state.sent),
        }
    }
}

/// The frame that says why a link is closed.
pub(crate) fn goodbye(text: &str) -> Bytes {
    let text: String = text.chars().take(MAX_GOODBYE_CHARS).collect();
    let mut frame = Vec::new();
    write_frame(kind::GOODBYE, text.as_bytes(), &mut frame);
    frame.into()
}

/// A goodbye's text, made fit for a log.
pub(crate) fn goodbye_text(body: &[u8]) -> String {
    String::from_utf8_lossy(body)
        .chars()
        .filter(|char| !char.is_control())
        .take(MAX_GOODBYE_CHARS)
        .collect()
}

/// Before the rest of a long frame is read, takes the room for all of it at once. The length was
/// checked by the reader when it found the frame incomplete.
pub(crate) fn reserve_whole_frame(reader: &mut FrameReader) {
    let buffer = reader.buffer();
    if let Some(length) = buffer.first_chunk::<4>() {
        let whole = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(0) + 4;
        buffer.reserve(whole.saturating_sub(buffer.len()));
    }
}

fn advance(out: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(front) = out.front_mut() {
        if written < front.len() {
            front.advance(written);
            return;
        }
        written -= front.len();
        out.pop_front();
    }
}

fn agent_gone() -> DownReason {
    DownReason::Local("the agent has ended".to_owned())
}

fn protocol(fault: ProtocolFault) -> Poll<DownReason> {
    Poll::Ready(DownReason::Protocol(fault))
}

/// What an error of the connection says about its end.
fn lost(error: &io::Error) -> DownReason {
    if let Some(refusal) = Refusal::of_io(error) {
        return DownReason::Protocol(ProtocolFault::Tls(refusal.to_string()));
    }
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "all other errors of a socket are ends that the peer's host brought about"
    )]
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => DownReason::Closed,
        io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown => DownReason::TimedOut,
        io::ErrorKind::InvalidData => DownReason::Protocol(ProtocolFault::Tls(error.to_string())),
        _ => DownReason::Reset,
    }
}
