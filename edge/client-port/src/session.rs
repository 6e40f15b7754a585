//! One client: reads its commands, asks the agent, answers in their order, pushes what it
//! subscribed to.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use skep_base::GroupName;
use skep_export::Came;
use skep_lines::{
    Command, CommandError, Decoder, Event, Framing, Gap, Publish, Reply, Subscribe, Update, code,
    write_gap, write_update_head,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, WriteHalf, split};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::answer::{self, Answer, Refusal};
use crate::backend::{Ask, ClientId, Joined, Note, Publication, Push, Pusher, Slot, Who};
use crate::body::{Body, SpoolError};
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
/// Publications that go to the agent at once.
const BATCH: usize = 256;
/// Bytes that a body over the limit may have beyond it before the client is cut off: it is read to
/// its end, so that the reply finds somebody.
const DISCARD_BYTES: u64 = 64 << 20;
/// Memory that a publication takes besides its body.
const PUBLICATION_BYTES: usize = 256;
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
    held: VecDeque<(GroupName, Push)>,
    /// A channel that the connection is to become.
    wanted: Option<Wanted>,
    /// The connection is a channel from the next moment on: nothing more is a command.
    joined: bool,
    /// Nothing more comes from it.
    ended: bool,
    /// Nothing more that came from it is understood.
    closing: bool,
}

/// A body that is coming in.
struct Incoming {
    /// What it is for, or why it is refused when it has come.
    publish: Result<Publish, Reply>,
    body: Body,
}

struct Subscription {
    /// The number of the reply to `subscribe`: nothing is pushed before it.
    reply: u64,
    /// It acknowledges by itself.
    named: bool,
    /// The last place that the client was given.
    given: u64,
    /// Without a name, it is acknowledged for the client when the client has taken it.
    owed: bool,
}

/// What woke the session.
enum Woken {
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
    Note(Note),
    Channel(Result<Joined, Refusal>),
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
        let waits =
            !self.replies.is_empty() || !self.subscriptions.is_empty() || self.wanted.is_some();
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

    async fn ask(&self, ask: Ask) {
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

    async fn command(&mut self, command: Command) {
        Counts::add(&self.shared.counts.commands, 1);
        match command {
            Command::Data(publish) => self.expect(Ok(publish), None),
            Command::Binary { size, publish } => self.expect(Ok(publish), Some(size)),
            Command::Help => self.say(answer::help()),
            Command::Noop => self.say(Reply::new(code::DONE, "still here")),
            Command::Quit => {
                self.say(Reply::new(code::CLOSING, "good-bye"));
                self.closing = true;
            }
            channel @ (Command::Serve { .. } | Command::Channel { .. }) => {
                self.send_batch().await;
                self.want(channel).await;
            }
            other @ (Command::Group(_)
            | Command::Groups
            | Command::Statistics
            | Command::Topology(_)
            | Command::Nearest
            | Command::Subscribe(_)
            | Command::Ack { .. }
            | Command::Unsubscribe(_)
            | Command::Forget { .. }
            | Command::Exit) => {
                // The agent is asked in the order of the commands.
                self.send_batch().await;
                self.question(other).await;
            }
        }
    }

    /// The connection is to become a channel.
    async fn want(&mut self, command: Command) {
        if !self.subscriptions.is_empty() {
            let text = "you are subscribed: open the channel over a connection of its own";
            return self.say(Reply::new(code::SEQUENCE, text));
        }
        if let Some((wanted, ask)) = Wanted::of(command) {
            self.wanted = Some(wanted);
            self.ask(ask).await;
        }
    }

    async fn question(&mut self, command: Command) {
        let client = self.id;
        let ask = match command {
            Command::Group(group) => Ask::Group { group, slot: self.slot(None) },
            Command::Groups => Ask::Groups(self.slot(None)),
            Command::Statistics => Ask::Statistics(self.slot(None)),
            Command::Topology(group) => Ask::Topology { group, slot: self.slot(None) },
            Command::Nearest => Ask::Nearest(self.slot(None)),
            Command::Subscribe(subscribe) => {
                if let Some(refusal) = self.may_subscribe(&subscribe) {
                    return self.say(refusal);
                }
                let reply = self.first + self.replies.len() as u64;
                let named = subscribe.name.is_some();
                let subscription = Subscription { reply, named, given: 0, owed: false };
                self.subscriptions.insert(subscribe.group.clone(), subscription);
                let pusher = Pusher(self.notes_in.clone());
                Ask::Subscribe { client, subscribe, pusher, slot: self.slot(None) }
            }
            Command::Ack { group, cursor } => {
                if let Some(refusal) = self.may_ack(&group, cursor) {
                    return self.say(refusal);
                }
                Ask::Ack { client, group, cursor, slot: Some(self.slot(None)) }
            }
            Command::Unsubscribe(group) => {
                if self.subscriptions.remove(&group).is_none() {
                    let text = format!("you are not subscribed to {group}");
                    return self.say(Reply::new(code::SEQUENCE, text));
                }
                Ask::Unsubscribe { client, group, slot: Some(self.slot(None)) }
            }
            Command::Forget { group, name } => Ask::Forget { group, name, slot: self.slot(None) },
            Command::Exit if !(self.shared.host.may_exit)(&self.who) => {
                tracing::warn!(client = %self.who, "a client asked us to exit, and may not");
                let text = "this agent's configuration does not let you: see client.exit_allowed";
                return self.say(Reply::new(code::DENIED, text));
            }
            Command::Exit => Ask::Exit { who: self.who.clone(), slot: self.slot(None) },
            Command::Data(_)
            | Command::Binary { .. }
            | Command::Serve { .. }
            | Command::Channel { .. }
            | Command::Help
            | Command::Noop
            | Command::Quit => return,
        };
        self.ask(ask).await;
    }

    fn may_subscribe(&self, subscribe: &Subscribe) -> Option<Reply> {
        let group = &subscribe.group;
        if self.subscriptions.contains_key(group) {
            let text = format!("you are subscribed to {group} already");
            return Some(Reply::new(code::SEQUENCE, text));
        }
        (self.subscriptions.len() >= MAX_SUBSCRIPTIONS).then(|| {
            let text =
                format!("a client may have {MAX_SUBSCRIPTIONS} subscriptions: connect twice");
            Reply::new(code::BUSY, text)
        })
    }

    fn may_ack(&self, group: &GroupName, cursor: u64) -> Option<Reply> {
        let Some(subscription) = self.subscriptions.get(group) else {
            let text = format!("you are not subscribed to {group}");
            return Some(Reply::new(code::SEQUENCE, text));
        };
        // What was not written yet cannot have been dealt with.
        (cursor > subscription.given).then(|| {
            let given = subscription.given;
            Reply::new(code::SEQUENCE, format!("{cursor} was not given yet: {group} is at {given}"))
        })
    }

    fn wrong(&mut self, error: &CommandError) {
        let reply = answer::wrong(error);
        match error {
            CommandError::Publish { size, .. } => self.expect(Err(reply), *size),
            CommandError::Unknown(_)
            | CommandError::Characters
            | CommandError::Usage { .. }
            | CommandError::Size(_) => self.say(reply),
        }
    }

    /// A body follows: text where no size is given.
    fn expect(&mut self, publish: Result<Publish, Reply>, size: Option<u64>) {
        let limit = self.shared.config.body_max;
        if size.is_some_and(|size| size > limit + DISCARD_BYTES) {
            let Refusal { code, text } = answer::too_large(limit);
            self.say(Reply::new(code, format!("{text}; closing")));
            self.closing = true;
            return;
        }
        if size.is_none() {
            self.say(Reply::new(code::SEND, "end with a line that holds one dot"));
        }
        self.incoming = Some(Incoming { publish, body: Body::new(size) });
    }

    async fn part(&mut self, part: &[u8]) {
        let limit = self.shared.config.body_max;
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        let length = incoming.body.length() + part.len() as u64;
        if incoming.publish.is_ok() && length > limit {
            let Refusal { code, text } = answer::too_large(limit);
            incoming.publish = Err(Reply::new(code, text));
            incoming.body = Body::new(None);
        }
        if incoming.publish.is_ok() {
            if let Err(error) = incoming.body.push(part, &self.shared.spool).await {
                incoming.publish = Err(not_kept(&error));
                incoming.body = Body::new(None);
            }
        } else {
            incoming.body.skip(part.len());
            if incoming.body.length() > DISCARD_BYTES {
                self.say(Reply::new(code::TOO_LARGE, "an update without end: closing"));
                self.incoming = None;
                self.closing = true;
            }
        }
    }

    /// All of a body is there.
    async fn whole(&mut self) {
        let Some(Incoming { publish, body }) = self.incoming.take() else {
            return;
        };
        Counts::add(&self.shared.counts.bodies, 1);
        let publish = match publish {
            Ok(publish) => publish,
            Err(reply) => return self.say(reply),
        };
        let length = usize::try_from(body.length()).unwrap_or(usize::MAX);
        let Some(room) = self.room(length.saturating_add(PUBLICATION_BYTES)).await else {
            return self.say(Reply::new(code::GOING, Refusal::stopping().text));
        };
        let body = match body.into_bytes().await {
            Ok(body) => body,
            Err(error) => return self.say(not_kept(&error)),
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

    async fn send_batch(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.ask(Ask::Publish(batch)).await;
        }
    }

    fn note(&mut self, first: Note) {
        let mut next = Some(first);
        while let Some(note) = next {
            match note {
                Note::Answer(number, answer) => self.answered(number, answer),
                Note::Push(push) => self.held.extend(push.group().map(|group| (group, push))),
            }
            next = self.notes.try_recv().ok();
        }
    }

    fn answered(&mut self, number: u64, answer: Result<Answer, Refusal>) {
        let at = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        let mut answer = answer;
        if let Ok(Answer::Statistics(figures)) = &mut answer {
            figures.extend(self.shared.statistics());
        }
        if let Some(place) = self.replies.get_mut(at) {
            *place = Some(answer::reply(answer));
        }
    }

    /// Writes the replies whose turn it is.
    fn render(&mut self) {
        while let Some(Some(reply)) = self.replies.front() {
            self.out.append(|tail| reply.write(tail));
            self.replies.pop_front();
            self.first += 1;
        }
    }

    /// Pushes what may be pushed. Of a group that is no longer subscribed to nothing is.
    fn deliver(&mut self) {
        for (group, push) in std::mem::take(&mut self.held) {
            match self.subscriptions.get(&group) {
                Some(subscription) if subscription.reply >= self.first => {
                    self.held.push_back((group, push));
                }
                Some(_) => self.pushed(push),
                None => {}
            }
        }
    }

    fn pushed(&mut self, push: Push) {
        match push {
            Push::Lost { group, lost } => {
                self.line(&format!("{} {group} {lost} lost\r\n", code::LOST));
            }
            Push::Ended { group } => {
                self.subscriptions.remove(&group);
            }
            Push::Taken { group } => {
                self.subscriptions.remove(&group);
                self.go("another client has subscribed under the same name");
            }
            Push::CaughtUp { group, cursor } => {
                self.line(&format!("{} {group} {cursor} caught up\r\n", code::CAUGHT_UP));
            }
            Push::Updates { updates, gaps } => self.batch_pushed(updates, gaps),
        }
    }

    fn batch_pushed(&mut self, updates: Vec<Update>, gaps: Vec<Gap>) {
        let last = updates.last().map(|update| (&update.group, update.cursor));
        let last_gap = gaps.last().map(|gap| (&gap.group, gap.cursor));
        let Some((group, cursor)) = last.max(last_gap) else {
            return;
        };
        if let Some(subscription) = self.subscriptions.get_mut(group) {
            subscription.given = cursor;
            subscription.owed = !subscription.named;
        }
        Counts::add(&self.shared.counts.pushed, updates.len() as u64);
        let mut gaps = gaps.into_iter().peekable();
        for update in updates {
            while let Some(gap) = gaps.next_if(|gap| gap.cursor < update.cursor) {
                self.gap(&gap);
            }
            let mut head = String::new();
            if write_update_head(&update, &mut head).is_ok() {
                self.line(&head);
                self.out.body(update.body);
                self.line("\r\n");
            }
        }
        for gap in gaps {
            self.gap(&gap);
        }
    }

    fn gap(&mut self, gap: &Gap) {
        let mut line = String::new();
        if write_gap(gap, &mut line).is_ok() {
            self.line(&line);
        }
    }

    /// Acknowledges what clients without a name have taken: then more comes.
    async fn pay(&mut self) {
        if self.out.bytes() >= OUTPUT_BYTES || !self.subscriptions.values().any(|one| one.owed) {
            return;
        }
        let owed = self.subscriptions.iter_mut().filter(|(_, one)| one.owed);
        let owed: Vec<_> = owed
            .map(|(group, one)| {
                one.owed = false;
                (group.clone(), one.given)
            })
            .collect();
        for (group, cursor) in owed {
            self.ask(Ask::Ack { client: self.id, group, cursor, slot: None }).await;
        }
    }

    fn line(&mut self, line: &str) {
        self.out.append(|tail| tail.extend_from_slice(line.as_bytes()));
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

fn not_kept(error: &SpoolError) -> Reply {
    match error {
        SpoolError::Full => Reply::new(code::BUSY, error.to_string()),
        SpoolError::Io(source) => {
            tracing::error!(error = %source, "the spool of the client port failed");
            Reply::new(code::FAILED, error.to_string())
        }
    }
}
