//! Working ahead: what nodes will be asked next is asked on several threads, and nobody can tell.
//!
//! What a node does reaches another no sooner than the quickest packet. So of all that is planned
//! for less than that time from now on, the next call of each node is known before any of it has
//! happened: nothing that happens meanwhile to others can change it. These calls are made ahead, by
//! a [`Crew`](crate::crew::Crew), while the world does everything in its order: it traces, checks
//! and carries out, and where it would call a node it finds that call's outcome. The trace is the
//! same, whoever made which call and when.
//!
//! Calls that are foreseen are ticks, and frames that arrive over healthy connections. Whatever
//! else happens to one host only makes what follows there unforeseeable; what may touch two hosts
//! at once, as the end of a connection does, ends the search.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use bytes::Bytes;
use skep_base::{Outbox, Time};
use skep_node::{Deadline, Input, LinkId, Output};

use super::{Happening, World};
use crate::crew::{Crew, Outcome, SLOTS};
use crate::host::{Host, HostIx, Machine};
use crate::net::{NetEvent, Network};

/// What a node is asked.
#[derive(Debug)]
pub(crate) enum Ask {
    Input(Input),
    /// To do what is due, if anything is.
    Tick,
}

/// What it answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) out: Outbox<Output>,
    /// Why it ticked, if it did.
    pub(crate) ticked: Option<&'static str>,
    /// When it has something to do next.
    pub(crate) due: Option<Deadline>,
}

/// A call: what is asked, when by the host's clock, and whether what must hold is looked at then.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) now: Time,
    pub(crate) ask: Ask,
    pub(crate) check: bool,
}

impl Call {
    pub(crate) fn make(self, machine: &mut dyn Machine) -> Answer {
        let Self { now, ask, check } = self;
        let mut out = Outbox::new();
        let mut ticked = None;
        match ask {
            Ask::Input(input) => machine.handle(now, input, &mut out),
            Ask::Tick => {
                if let Some((_, why)) = machine.deadline().filter(|(due, _)| *due <= now) {
                    machine.tick(now, &mut out);
                    ticked = Some(why);
                }
            }
        }
        if check {
            machine.check();
        }
        Answer { out, ticked, due: machine.deadline() }
    }
}

type Panic = Box<dyn Any + Send>;

/// A call to make.
struct Job {
    machine: Box<dyn Machine>,
    call: Call,
}

/// A call that was made.
struct Made {
    machine: Box<dyn Machine>,
    answer: Result<Answer, Panic>,
}

fn make(Job { mut machine, call }: Job) -> Made {
    let answer = catch_unwind(AssertUnwindSafe(|| call.make(&mut *machine)));
    Made { machine, answer }
}

/// A call that was foreseen for a process, until it comes.
pub(crate) struct Foreseen {
    /// The frame, where it is one.
    frame: Option<(LinkId, Bytes)>,
    /// Where somebody has made it already.
    answer: Option<Result<Answer, Panic>>,
}

impl Foreseen {
    /// The call comes. Its answer, if it was made.
    ///
    /// # Panics
    /// When another call was foreseen, which is a bug here; and where the machine itself did.
    pub(crate) fn comes(self, call: &Call) -> Option<Answer> {
        let is_right = match (&call.ask, &self.frame) {
            (Ask::Tick, None) => true,
            (Ask::Input(Input::Frame { link, frame }), Some((foreseen, body))) => {
                let same = |a: &Bytes, b: &Bytes| a.as_ptr() == b.as_ptr() && a.len() == b.len();
                link == foreseen && same(&frame.body, body)
            }
            _ => false,
        };
        assert!(is_right, "another call was foreseen than {call:?}");
        self.answer.map(|answer| answer.unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

/// An event that was looked at and whose turn has not come.
struct Drawn {
    order: u64,
    /// To whom it happens, if it is to one host only.
    host: Option<HostIx>,
    /// The call that it makes, if that was handed out.
    call: Option<Planned>,
}

/// A call that was handed out.
struct Planned {
    slot: usize,
    frame: Option<(LinkId, Bytes)>,
}

/// Everything that is done ahead.
pub(super) struct Ahead {
    crew: Crew<Job, Made>,
    /// In the order in which their turns come.
    drawn: VecDeque<Drawn>,
    /// How many of them happen to each host.
    to_host: Vec<u32>,
    /// One of them may touch any host: nothing behind it can be foreseen.
    blocked: bool,
}

/// What an event does, as far as can be foreseen.
enum Prospect {
    /// It makes this call.
    Calls(HostIx, Time, Ask),
    /// It happens to this host only.
    Touches(HostIx),
    /// Nobody can say.
    Unknown,
}

impl Ahead {
    pub(super) fn new(threads: std::num::NonZero<usize>) -> std::io::Result<Self> {
        let crew = Crew::new(threads, make)?;
        Ok(Self { crew, drawn: VecDeque::new(), to_host: Vec::new(), blocked: false })
    }

    /// Takes note of an event that was looked at.
    fn note(&mut self, drawn: Drawn) {
        match drawn.host {
            Some(host) => *self.count(host) += 1,
            None => self.blocked = true,
        }
        self.drawn.push_back(drawn);
    }

    fn count(&mut self, host: HostIx) -> &mut u32 {
        if self.to_host.len() <= host.index() {
            self.to_host.resize(host.index() + 1, 0);
        }
        &mut self.to_host[host.index()]
    }

    /// The turn of an event has come.
    fn turn(&mut self, order: u64) -> Option<Drawn> {
        let drawn = self.drawn.pop_front_if(|drawn| drawn.order == order)?;
        match drawn.host {
            Some(host) => *self.count(host) -= 1,
            None => self.blocked = false,
        }
        Some(drawn)
    }
}

impl World {
    /// Hands out the calls that will come for sure. The first that comes is left to the caller.
    pub(super) fn work_ahead(&mut self, end: Time) {
        let Self { ahead: Some(ahead), queue, hosts, net, now, .. } = self else {
            return;
        };
        let Some(first) = queue.next_at() else {
            return;
        };
        let horizon = (first.max(*now) + net.quickest()).min(end + Duration::from_nanos(1));
        let mut handed_out = false;
        while !ahead.blocked
            && ahead.drawn.len() < SLOTS
            && let Some((at, order, happening)) = queue.draw(horizon)
        {
            let local = (*now).max(at);
            let (host, call) = match prospect(hosts, net, local, happening) {
                Prospect::Calls(host, ..) if ahead.drawn.is_empty() => (Some(host), None),
                Prospect::Calls(host, local, ask) if *ahead.count(host) == 0 => {
                    (Some(host), hosts[host.index()].hand_out(&mut ahead.crew, local, ask))
                }
                Prospect::Calls(host, ..) | Prospect::Touches(host) => (Some(host), None),
                Prospect::Unknown => (None, None),
            };
            handed_out |= call.is_some();
            ahead.note(Drawn { order, host, call });
        }
        if handed_out {
            ahead.crew.begin();
        }
    }

    /// An event's turn has come: the machine that it was foreseen to call is back in its process,
    /// and the answer with it, if there is one. Says whose.
    pub(super) fn bring_back(&mut self, order: u64) -> Option<HostIx> {
        let Self { ahead: Some(ahead), hosts, .. } = self else {
            return None;
        };
        let Drawn { host, call, .. } = ahead.turn(order)?;
        let (host, Planned { slot, frame }) = (host?, call?);
        let (machine, answer) = match ahead.crew.take(slot)? {
            Outcome::Untouched(Job { machine, .. }) => (machine, None),
            Outcome::Done(Made { machine, answer }) => (machine, Some(answer)),
        };
        if let Some(process) = &mut hosts[host.index()].process {
            process.machine = Some(machine);
            process.foreseen = Some(Foreseen { frame, answer });
        }
        Some(host)
    }

    /// Something went wrong: what was foreseen never comes, and the machines are back for whoever
    /// looks at the wreck.
    pub(super) fn call_off(&mut self) {
        let next = |world: &Self| Some(world.ahead.as_ref()?.drawn.front()?.order);
        while let Some(order) = next(self) {
            if let Some(host) = self.bring_back(order)
                && let Some(process) = &mut self.host_mut(host).process
            {
                process.foreseen = None;
            }
        }
    }
}

impl Host {
    /// Hands a call of this host's machine out, together with the machine.
    fn hand_out(&mut self, crew: &mut Crew<Job, Made>, now: Time, ask: Ask) -> Option<Planned> {
        let process = self.process.as_mut()?;
        let machine = process.machine.take()?;
        let frame = match &ask {
            Ask::Input(Input::Frame { link, frame }) => Some((*link, frame.body.clone())),
            Ask::Input(_) | Ask::Tick => None,
        };
        let call = Call { now, ask, check: process.is_checked_next() };
        Some(Planned { slot: crew.put(Job { machine, call }), frame })
    }
}

/// What an event that is planned for `at` will do.
fn prospect(hosts: &[Host], net: &Network, at: Time, happening: &Happening) -> Prospect {
    match happening {
        Happening::Tick { host, at: planned } => {
            let state = &hosts[host.index()];
            let comes = state.process.as_ref().is_some_and(|process| {
                process.tick_at == Some(*planned) && !process.stopped && process.machine.is_some()
            });
            if comes {
                Prospect::Calls(*host, state.local(at), Ask::Tick)
            } else {
                Prospect::Touches(*host)
            }
        }
        Happening::Net(NetEvent::Arrive { conn, dir }) => match net.foresee(at, *conn, *dir) {
            Some((host, Some((link, frame)))) => {
                let input = Input::Frame { link, frame };
                Prospect::Calls(host, hosts[host.index()].local(at), Ask::Input(input))
            }
            Some((host, None)) => Prospect::Touches(host),
            None => Prospect::Unknown,
        },
        Happening::Flood { host, .. }
        | Happening::Released { host, .. }
        | Happening::Computed { host, .. }
        | Happening::Knocked { host, .. }
        | Happening::Token { host, .. }
        | Happening::Found { host, .. } => Prospect::Touches(*host),
        Happening::Net(_) | Happening::Announce { .. } | Happening::AskBeacon { .. } => {
            Prospect::Unknown
        }
    }
}
