//! One client: reads its commands, asks the agent, answers in their order, pushes what it
//! subscribed to.

mod commands;
mod publish;
mod push;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use skep_base::GroupName;
use skep_export::Came;
use skep_lines::{Decoder, Event, Framing, Reply, code};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, WriteHalf, split};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use self::publish::Incoming;
pub(crate) use self::publish::PUBLICATION_BYTES;
use self::push::{Item, Of, Subscription};
use self::stream::{PORTION_BYTES, Step, Streaming};
use crate::answer::{self, Refusal};
use crate::backend::{Ask, ClientId, Joined, Note, Publication, Push, Slot, Who};
use crate::channel::{self, Wanted};
use crate::outgoing::Outgoing;
use crate::server::{Counts, Shared};

/// Commands of one client that may wait for their answers. When so many do, it is read no further.
pub const MAX_PIPELINE: usize = 1024;
/// Groups that one client may be subscribed to at a time.
pub const MAX_SUBSCRIPTIONS: usize = 16;
/// Bytes that are read ahead of what is understood.
const INPUT_BYTES: usize = 64 * 1024;
/// A client for which so much waits is read no further, so it cannot ask for more.
const OUTPUT_BYTES: usize = 256 * 1024;
/// How much of what waits for all clients is too much; then a client must be quick.
const PRESSED_BYTES: u64 = 256 << 20;
/// How long a client may take nothing then.
const PRESSED_STALL: Duration = Duration::from_secs(2);
/// How long a client that is sent away gets to take its last reply, while what it still sends is
/// read and dropped: bytes that nobody reads would make the kernel drop the reply.
const LINGER: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Session {
    shared: Arc<Shared>,
    who: Who,
    /// The batches of export commands that it seems to belong to.
    came: Arc<[Came]>,
    id: ClientId,
    stop: watch::Receiver<bool>,
    decoder: Decoder,
    input: BytesMut,
    out: Outgoing,
    /// What of `out` is counted in [`Counts`].
    counted: u64,
    /// Replies that are not written, the oldest first; nothing where the answer is awaited.
    replies: VecDeque<Option<Reply>>,
    /// The number of the first of them.
    first: u64,
    notes: mpsc::UnboundedReceiver<Note>,
    notes_in: mpsc::UnboundedSender<Note>,
    batch: Vec<Publication>,
    incoming: Option<Incoming>,
    subscriptions: BTreeMap<GroupName, Subscription>,
    /// Pushes that wait for the reply to their `subscribe`: of each at most one batch.
    held: VecDeque<(Of, Push)>,
    /// What is pushed next: what stands behind a long body waits for it.
    lined_up: VecDeque<(Of, Item)>,
    /// A long body that is being pushed. Nothing else is written meanwhile.
    stream: Option<Streaming>,
    /// A channel that the connection is to become.
    wanted: Option<Wanted>,
    /// The connection is a channel from the next moment on: nothing more is a command.
    joined: bool,
    /// Nothing more comes from it.
    ended: bool,
    /// Nothing more that came from it is understood.
    closing: bool,
}

/// What woke the session.
enum Woken {
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
    Note(Note),
    Channel(Result<Joined, Refusal>),
    Body(io::Result<Step>),
    Late,
    Stop,
}

impl Session {
    pub(crate) fn new(
        shared: Arc<Shared>,
        who: Who,
        came: Arc<[Came]>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let (notes_in, notes) = mpsc::unbounded_channel();
        Counts::add(&shared.counts.accepted, 1);
        Self {
            id: shared.client(),
            decoder: Decoder::new(shared.config.line_max),
            shared,
            who,
            came,
            stop,
            input: BytesMut::new(),
            out: Outgoing::default(),
            counted: 0,
            replies: VecDeque::new(),
            first: 0,
            notes,
            notes_in,
            batch: Vec::new(),
            incoming: None,
            subscriptions: BTreeMap::new(),
            held: VecDeque::new(),
            lined_up: VecDeque::new(),
            stream: None,
            wanted: None,
            joined: false,
            ended: false,
            closing: false,
        }
    }

    /// Serves the client until it or the agent goes.
    pub(crate) async fn run(mut self, stream: impl AsyncRead + AsyncWrite) {
        let who = self.who.clone();
        tracing::debug!(client = %who, "a client came");
        let (mut reader, mut writer) = split(stream);
        self.say(answer::greeting(&self.shared.host.node, &self.shared.host.version));
        let served = self.serve(&mut reader, &mut writer).await;
        if self.incoming.is_some() {
            Counts::add(&self.shared.counts.broken_off, 1);
            tracing::info!(client = %who, "a client broke off in the middle of an update");
        }
        for group in std::mem::take(&mut self.subscriptions).into_keys() {
            self.ask(Ask::Unsubscribe { client: self.id, group, slot: None }).await;
        }
        if let Ok(Some(joined)) = served {
            let (framing, joined) = joined;
            let pass = channel::pass(&mut reader, &mut writer, (&self.input, framing), joined);
            let passed = pass.await;
            self.count_waiting(true);
            return match passed {
                Ok((sent, received)) => {
                    tracing::debug!(client = %who, sent, received, "a channel has ended");
                }
                Err(error) => tracing::debug!(client = %who, %error, "a channel broke off"),
            };
        }
        if served.is_ok() {
            let goodbye = async {
                writer.shutdown().await?;
                let mut rest = [0; 4096];
                while reader.read(&mut rest).await? > 0 {}
                io::Result::Ok(())
            };
            drop(timeout(LINGER, goodbye).await);
        }
        self.count_waiting(true);
        tracing::debug!(client = %who, "a client went");
    }

    /// Gives the channel that the connection has become; nothing when it has ended.
    async fn serve<R, W>(
        &mut self,
        reader: &mut R,
        writer: &mut WriteHalf<W>,
    ) -> io::Result<Option<(Framing, Joined)>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite,
    {
        let mut stop = self.stop.clone();
        let (mut heard, mut moved) = (Instant::now(), Instant::now());
        let mut unflushed = false;
        let ahead = INPUT_BYTES.max(self.shared.config.line_max);
        let mut joined = None;
        loop {
            self.decode().await;
            self.send_batch().await;
            self.render();
            self.deliver();
            self.pay().await;
            let said = self.replies.is_empty() && self.out.is_empty() && !unflushed;
            let said = said && self.stream.is_none();
            if said && (self.closing || self.joined) {
                return Ok(joined);
            }
            let open = !self.closing && !self.ended && !self.joined;
            let may_read = open && self.input.len() < ahead && self.has_room();
            let late = self.deadline(heard, moved);
            let writing = !self.out.is_empty() || unflushed;
            if may_read && self.input.capacity() - self.input.len() < INPUT_BYTES / 8 {
                self.input.reserve(INPUT_BYTES / 4);
            }
            let woken = tokio::select! {
                read = reader.read_buf(&mut self.input), if may_read => Woken::Read(read),
                wrote = write_some(writer, self.out.front()), if writing => Woken::Wrote(wrote),
                Some(note) = self.notes.recv() => Woken::Note(note),
                answer = answer_of(&mut self.wanted), if self.wanted.is_some() => {
                    Woken::Channel(answer)
                }
                step = step_of(&mut self.stream), if self.may_stream() => Woken::Body(step),
                () = sleep_until(late) => Woken::Late,
                _ = stop.wait_for(|stop| *stop), if !self.closing => Woken::Stop,
            };
            match woken {
                Woken::Read(Ok(0)) => self.ended = true,
                Woken::Read(Ok(_)) => heard = Instant::now(),
                Woken::Wrote(Ok(bytes)) => {
                    moved = Instant::now();
                    unflushed = bytes > 0;
                    self.out.written(bytes);
                }
                Woken::Read(Err(error)) | Woken::Wrote(Err(error)) => return Err(error),
                Woken::Note(note) => {
                    if self.out.is_empty() {
                        moved = Instant::now();
                    }
                    self.note(note);
                }
                Woken::Body(step) => {
                    if self.out.is_empty() {
                        moved = Instant::now();
                    }
                    // Half a body is told: there is no way back into step.
                    self.streamed(step?);
                }
                Woken::Channel(answer) => {
                    let framing = self.wanted.take().map(|wanted| wanted.framing);
                    match answer {
                        Ok(channel) => {
                            self.say(channel::open(&channel));
                            self.joined = true;
                            joined = framing.map(|framing| (framing, channel));
                        }
                        Err(refusal) => self.say(Reply::new(refusal.code, refusal.text)),
                    }
                }
                Woken::Late if writing => {
                    Counts::add(&self.shared.counts.too_slow, 1);
                    tracing::info!(client = %self.who, "a client takes nothing: cut off");
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Woken::Late => self.go("you were silent for too long"),
                Woken::Stop => self.go("the agent stops: connect again in a moment"),
            }
            self.count_waiting(false);
        }
    }

    /// When the client is too late with what it should do.
    fn deadline(&self, heard: Instant, moved: Instant) -> Instant {
        let config = &self.shared.config;
        if !self.out.is_empty() {
            let pressed = self.shared.counts.waiting.load(Ordering::Relaxed) > PRESSED_BYTES;
            return moved + if pressed { PRESSED_STALL.min(config.stall) } else { config.stall };
        }
        let waits = !self.replies.is_empty()
            || !self.subscriptions.is_empty()
            || self.stream.is_some()
            || self.wanted.is_some();
        if waits && self.incoming.is_none() {
            // Somebody who only listens may do so for ever; this is looked at again.
            return Instant::now() + Duration::from_secs(86_400);
        }
        heard + config.idle
    }

    /// The session ends: what is owed is still answered.
    fn go(&mut self, why: &str) {
        if !self.closing {
            self.say(Reply::new(code::GOING, why));
            self.closing = true;
        }
    }

    fn has_room(&self) -> bool {
        self.replies.len() < MAX_PIPELINE && self.out.bytes() < OUTPUT_BYTES
    }

    const fn may_stream(&self) -> bool {
        self.stream.is_some() && self.out.bytes() < PORTION_BYTES
    }

    /// A reply in its turn.
    fn say(&mut self, reply: Reply) {
        self.replies.push_back(Some(reply));
    }

    /// A place in the order of replies that is filled later.
    fn slot(&mut self, room: Option<OwnedSemaphorePermit>) -> Slot {
        let number = self.first + self.replies.len() as u64;
        self.replies.push_back(None);
        Slot::new(self.notes_in.clone(), number, room)
    }

    async fn ask(&mut self, ask: Ask) {
        // An agent that is gone drops the ask, and with it the slot says so.
        drop(self.shared.asks.send(ask).await);
    }

    /// Understands what came in, as far as there is room for the answers.
    async fn decode(&mut self) {
        if self.ended && self.wanted.as_ref().is_some_and(|wanted| wanted.ends_with_input) {
            self.closing = true;
        }
        while !self.closing && self.wanted.is_none() && !self.joined && self.has_room() {
            let Some(event) = self.decoder.next(&mut self.input) else {
                // What came last is understood; half a line or half a body is nothing.
                self.closing = self.ended;
                return;
            };
            match event {
                Event::Command(command) => self.command(command).await,
                Event::Wrong(error) => self.wrong(&error),
                Event::Body(part) => self.part(&part).await,
                Event::BodyEnd => self.whole().await,
                Event::Lost(why) => {
                    self.say(Reply::new(code::ARGUMENT, format!("{why}: closing")));
                    self.closing = true;
                }
            }
        }
    }

    /// Keeps the count of what waits for all clients.
    fn count_waiting(&mut self, gone: bool) {
        let now = if gone { 0 } else { self.out.bytes() as u64 };
        let waiting = &self.shared.counts.waiting;
        if now >= self.counted {
            waiting.fetch_add(now - self.counted, Ordering::Relaxed);
        } else {
            waiting.fetch_sub(self.counted - now, Ordering::Relaxed);
        }
        self.counted = now;
    }
}

/// Waits for a channel's answer.
async fn answer_of(wanted: &mut Option<Wanted>) -> Result<Joined, Refusal> {
    match wanted {
        Some(wanted) => wanted.answer().await,
        None => std::future::pending().await,
    }
}

/// Waits for more of a long body.
async fn step_of(stream: &mut Option<Streaming>) -> io::Result<Step> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

/// Writes what the socket takes at once; with nothing to write, gets out what is held back.
async fn write_some<W: AsyncWrite>(writer: &mut WriteHalf<W>, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(bytes).await {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        written => written,
    }
}
