//! What is asked of the flock's master: at whichever node somebody asks, the wish goes to the
//! master, over a link if there is one, else from link to link, and the answer comes back.
//!
//! A wish is asked again for a while, so that nobody notices that a link broke, or that the master
//! was another in between. What may have happened is asked again only of the very process that may
//! have done it, which does nothing twice (see [`crate::heard`]).

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use core::time::Duration;

use bytes::Bytes;
use skep_base::{Digest, Incarnation, NodeId, Outbox, Time};
use skep_catalog::{Forward, Granted, Name, Order, Outcome, Stamp, Wish};
use skep_managers::{Authority, Command, Founding, Lineage, Refusal, Role, Strength, Token};
use skep_routing::{AskError, Ticket};
use skep_wire::{encode, kind};

use crate::api::Output;
use crate::heard::{Heard, Seen};
use crate::node::Node;
use crate::routed::FIRST_TOKEN;

/// How long a routed message of the managers may take: the next one follows soon.
pub(crate) const BRIEF: Duration = Duration::from_millis(400);
/// How long a wish may take before whoever asked is told that nobody knows what came of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer is waited for over the links of others before other ways are looked for.
const ROUTED_PATIENCE: Duration = Duration::from_secs(2);
/// Who asks whom the master sees waits no longer: what it hears is as old as that at most.
const ROLL_PATIENCE: Duration = Duration::from_secs(2);
/// A node that shall be a backup has to catch up first. For longer than the managers try, so that
/// whoever ordered it hears how it ended.
const OFFICE_PATIENCE: Duration = Duration::from_secs(25);
/// Who looks at the flock is shown what is known here, when the master says nothing for so long:
/// beyond the longest round trip that is borne, with one repetition.
const LOOK_PATIENCE: Duration = Duration::from_millis(1500);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(100);
/// How long a master is waited for after another was elected: it may have been deposed and say so.
const AFTER_CHANGE: Duration = Duration::from_millis(500);
/// How long a link to the master is wanted after a wish: an import is many.
const KEEP_LINK: Duration = Duration::from_secs(30);
/// Wishes of this node that wait.
pub(crate) const MAX_WISHES: usize = 1024;
/// Wishes of any node that wait for the managers here: more than all members of a large flock have
/// under way at once.
const MAX_ASKED: usize = 4096;
/// Outcomes that wait for their acknowledgement. More are never under way.
const MAX_DECIDED: usize = skep_managers::MAX_PROPOSALS;

// Machines do not know one another: that the one's page fits what the other carries is said here.
const _: () = assert!(skep_catalog::MAX_SHOWN_BYTES == skep_managers::MAX_SHOWN_BYTES);

/// See the module.
pub(crate) struct Desk {
    /// Names this process.
    life: u64,
    wishes: BTreeMap<u64, Pending>,
    serial: u64,
    /// What others asked of the managers here.
    heard: Heard,
    /// What the managers here were asked, and by whom.
    asked: BTreeMap<Token, Asker>,
    /// What came of commands, until they are acknowledged.
    decided: BTreeMap<u64, Outcome>,
    /// The master, while wishes go to it, and until when a link to it is wanted.
    link: Option<(NodeId, Time)>,
    /// Who was last known to be master.
    master: Option<NodeId>,
}

/// A wish of this node.
struct Pending {
    token: u64,
    wish: Wish,
    until: Time,
    /// Where it was sent; nothing while it waits for the next attempt.
    sent: Option<Sent>,
    /// The process that may have carried it out, and the one before it was asked last.
    may: Option<Process>,
    before: Option<Process>,
    again_at: Time,
}

/// A life of a node.
type Process = (NodeId, Incarnation);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Here,
    Link(NodeId),
    Routed(NodeId),
}

impl Pending {
    /// What whoever asked is told when there is no time left.
    fn unanswered(&self) -> Granted {
        let why = match &self.wish {
            Wish::RollCall => "the master did not say in time who of its roster is there",
            Wish::Look => "it did not answer in time",
            Wish::Manage(_) if self.may.is_some() => {
                "no answer of the master in time: whether it was done, or still is, is not known; \
                 look with `skep flock` and `skep flock roster`, and give the order again if it \
                 was not"
            }
            Wish::Propose(_) | Wish::Strengthen { .. } if self.may.is_some() => {
                "no answer of the master in time: whether it happened, or still does, is not \
                 known; look before asking again"
            }
            Wish::Propose(_) | Wish::Manage(_) | Wish::Strengthen { .. } => {
                "there was no master to ask: see `skep flock` for what is waited for"
            }
        };
        refused(why, self.may.is_none())
    }
}

impl Sent {
    const fn master(self) -> Option<NodeId> {
        match self {
            Self::Here => None,
            Self::Link(master) | Self::Routed(master) => Some(master),
        }
    }
}

/// Who asked.
enum Asker {
    Here(u64),
    Link { peer: NodeId, serial: u64 },
    Routed { ticket: Ticket, serial: u64 },
}

impl Asker {
    /// Who, where this is node `here`, and whether that is sure.
    const fn who(&self, here: NodeId) -> (NodeId, bool) {
        match self {
            Self::Here(_) => (here, true),
            Self::Link { peer, .. } => (*peer, true),
            Self::Routed { ticket, .. } => (ticket.origin, false),
        }
    }

    /// Who, and its number for the wish, if it is another node.
    const fn name(&self) -> Option<(NodeId, u64)> {
        match self {
            Self::Here(_) => None,
            Self::Link { peer, serial } => Some((*peer, *serial)),
            Self::Routed { ticket, serial } => Some((ticket.origin, *serial)),
        }
    }
}

impl Desk {
    /// The desk of the process that is named `life`.
    pub(crate) fn new(life: u64) -> Self {
        Self {
            life,
            wishes: BTreeMap::new(),
            serial: 0,
            heard: Heard::default(),
            asked: BTreeMap::new(),
            decided: BTreeMap::new(),
            link: None,
            master: None,
        }
    }

    pub(crate) fn deadline(&self) -> Option<(Time, &'static str)> {
        let wishes = self.wishes.values().map(|it| match it.sent {
            Some(_) => (it.until, "a wish was not answered"),
            None => (it.again_at.min(it.until), "a wish is asked again"),
        });
        let link = self.link.map(|(_, until)| (until, "a link to the master is needed no more"));
        wishes.chain(link).min()
    }

    pub(crate) fn decided(&mut self, index: u64, outcome: Outcome) {
        self.decided.insert(index, outcome);
        if self.decided.len() > MAX_DECIDED {
            self.decided.pop_first();
        }
    }

    pub(crate) fn check(&self) {
        assert!(self.wishes.len() <= MAX_WISHES && self.asked.len() <= MAX_ASKED);
        assert!(self.decided.len() <= MAX_DECIDED);
        self.heard.check();
    }

    pub(crate) fn wants_link(&self) -> Option<NodeId> {
        self.link.map(|(master, _)| master)
    }
}

impl Node {
    pub(crate) fn wish(&mut self, now: Time, token: u64, wish: Wish, out: &mut Outbox<Output>) {
        self.seldom_changed = true;
        if self.desk.wishes.len() >= MAX_WISHES {
            let why = "too much is asked of the master at once; ask again in a moment".into();
            let granted = Granted::Refused { why, again: true };
            return out.push(Output::Granted { token, granted });
        }
        self.desk.serial += 1;
        let serial = self.desk.serial;
        let patience = match wish {
            Wish::Manage(Order::Promote(_) | Order::Demote(_)) => OFFICE_PATIENCE,
            Wish::Manage(_) | Wish::Propose(_) | Wish::Strengthen { .. } => PATIENCE,
            Wish::RollCall => ROLL_PATIENCE,
            Wish::Look => LOOK_PATIENCE,
        };
        let until = now + patience;
        let (sent, may, before) = (None, None, None);
        let pending = Pending { token, wish, until, sent, may, before, again_at: now };
        self.desk.wishes.insert(serial, pending);
        self.submit(now, serial, out);
    }

    pub(crate) fn tick_desk(&mut self, now: Time, out: &mut Outbox<Output>) {
        if let Some((_, until)) = self.desk.link
            && until <= now
        {
            self.desk.link = None;
            self.lay_out_again = true;
        }
        let due: alloc::vec::Vec<u64> = self
            .desk
            .wishes
            .iter()
            .filter_map(|(serial, it)| {
                (it.until <= now || (it.sent.is_none() && it.again_at <= now)).then_some(*serial)
            })
            .collect();
        for serial in due {
            let late = self.desk.wishes.get(&serial).filter(|it| it.until <= now);
            let Some(late) = late else {
                self.submit(now, serial, out);
                continue;
            };
            let granted = late.unanswered();
            self.finish(serial, granted, out);
        }
    }

    /// Who is master may be another now. What waits for one is asked at once; what the one before
    /// was asked is known by it alone, and it is not waited for as long as it would be otherwise.
    pub(crate) fn desk_follows(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.desk.wishes.is_empty() {
            return; // Most of the time; who is master is not looked up for nobody.
        }
        let master = self.managed.known_master();
        if master.is_none() || master == self.desk.master {
            return;
        }
        self.desk.master = master;
        let mut waiting = alloc::vec::Vec::new();
        let mut unknown = alloc::vec::Vec::new();
        for (serial, wish) in &mut self.desk.wishes {
            match wish.sent {
                None if wish.may.is_some_and(|(who, _)| Some(who) != master) => {
                    unknown.push(*serial);
                }
                None => waiting.push(*serial),
                Some(sent) if sent.master().is_some_and(|to| Some(to) != master) => {
                    wish.until = wish.until.min(now + AFTER_CHANGE);
                }
                Some(_) => {}
            }
        }
        for serial in unknown {
            self.lost_sight(serial, out);
        }
        for serial in waiting {
            self.submit(now, serial, out);
        }
    }

    /// The process that may have carried a wish out leads no more, and nobody else knows of it.
    fn lost_sight(&mut self, serial: u64, out: &mut Outbox<Output>) {
        let why = match self.desk.wishes.get(&serial).map(|pending| &pending.wish) {
            Some(Wish::RollCall | Wish::Look) => "the master was lost meanwhile",
            Some(Wish::Manage(_)) => {
                "the master was lost meanwhile: whether it was done is not known; look with `skep \
                 flock` and `skep flock roster`, and give the order again if it was not"
            }
            _ => {
                "the master was lost meanwhile: whether it happened is not known; look before \
                 asking again"
            }
        };
        self.finish(serial, refused(why, false), out);
    }

    /// Sends a wish to the master, wherever that is.
    fn submit(&mut self, now: Time, serial: u64, out: &mut Outbox<Output>) {
        self.seldom_changed = true;
        let view = self.management(now);
        let master = view.flock.and_then(|flock| flock.master);
        let life =
            master.and_then(|master| self.membership.member(master)).map(|it| it.incarnation);
        let process = master.zip(life);
        let Some(pending) = self.desk.wishes.get_mut(&serial) else { return };
        let may = pending.may;
        pending.again_at = now + AGAIN;
        pending.sent = None;
        if may.is_some() && process.is_some() && may != process {
            return self.lost_sight(serial, out);
        }
        pending.before = may;
        if view.role == Role::Master && may.is_none() {
            pending.sent = Some(Sent::Here);
            pending.may = Some((self.id, self.membership.incarnation()));
            let wish = pending.wish.clone();
            return self.ask_managers(now, Asker::Here(serial), wish, out);
        }
        let other = process.filter(|(master, _)| *master != self.id);
        let Some((master, of)) = other else { return };
        pending.may = other;
        let (wish, left) = (pending.wish.clone(), pending.until.since(now));
        let looks = wish == Wish::Look;
        let first = self.desk.wishes.keys().next().copied().unwrap_or(serial);
        let name = Name { life: self.desk.life, serial, first };
        let body = Forward::Ask { name, of, wish }.to_body();
        let link = self.membership.link(master);
        let link = link.filter(|link| !self.restricted.contains_key(link));
        let sent = link.map_or(Sent::Routed(master), |_| Sent::Link(master));
        if let Some(pending) = self.desk.wishes.get_mut(&serial) {
            pending.sent = Some(sent);
        }
        // Who looks may be many, and often: they open no links to the master for that.
        if !looks {
            // A link that is there may be one that nobody else wants.
            self.lay_out_again |= self.desk.wants_link() != Some(master);
            self.desk.link = Some((master, now + KEEP_LINK));
        }
        if let Some(link) = link {
            return out.push(Output::Send { link, kind: kind::WISHES, body });
        }
        let (token, within) = (FIRST_TOKEN + serial, left.min(ROUTED_PATIENCE));
        self.ask_for_flock_as(now, token, master, (crate::service::WISH, body), within);
    }

    fn ask_managers(&mut self, now: Time, asker: Asker, wish: Wish, out: &mut Outbox<Output>) {
        self.desk.serial += 1;
        let token = Token(self.desk.serial);
        let full = self.desk.asked.len() >= MAX_ASKED;
        let (who, direct) = asker.who(self.id);
        self.desk.asked.insert(token, asker);
        if full {
            let why = "too much is asked of the master at once; ask again in a moment";
            return self.tell_asker(now, token, refused(why, true), out);
        }
        // Whoever is not the master says so, and judges nobody.
        if matches!(self.catalog.place(), skep_catalog::Place::Master { .. })
            && let Err(unwanted) = self.admit(who, direct, &wish)
        {
            return self.tell_asker(now, token, refused(&unwanted.why, unwanted.again), out);
        }
        let input = match wish {
            Wish::Propose(body) => skep_managers::Input::Propose { token, body },
            Wish::Manage(order) => {
                skep_managers::Input::Command { token, command: command_of(order) }
            }
            Wish::RollCall => skep_managers::Input::RollCall { token },
            Wish::Look => {
                let shown = self.shown(now);
                return self.tell_asker(now, token, shown, out);
            }
            // Whether it was signed is for the node to judge that uses it.
            Wish::Strengthen { token: founding, of } => match self.access.founding(&founding) {
                Ok(number) => {
                    let (number, of) = (Founding(number), of.map(Lineage));
                    skep_managers::Input::Strengthen { token, number, of }
                }
                Err(why) => {
                    let why = alloc::format!("the founding token is of no use: {why}");
                    return self.tell_asker(now, token, refused(&why, false), out);
                }
            },
        };
        self.manage(now, input);
    }

    /// Shows what this node knows as the master. That is done at once and changes nothing, so it is
    /// remembered of nobody, however often it is asked.
    fn show(&mut self, now: Time, asker: Asker, out: &mut Outbox<Output>) {
        let (who, direct) = asker.who(self.id);
        let granted = match self.admit(who, direct, &Wish::Look) {
            Ok(()) => self.shown(now),
            Err(unwanted) => refused(&unwanted.why, unwanted.again),
        };
        self.tell(now, asker, granted, out);
    }

    fn shown(&self, now: Time) -> Granted {
        match self.managed.look(now) {
            Ok(shown) => Granted::Shown(shown.to_bytes().into()),
            Err(why) => refused(&why.to_string(), true),
        }
    }

    /// A neighbour asks something of this node as the master, or the master answers.
    pub(crate) fn wish_came(
        &mut self,
        now: Time,
        from: NodeId,
        message: Forward,
        out: &mut Outbox<Output>,
    ) {
        match message {
            Forward::Ask { name, of, wish } => {
                let asker = Asker::Link { peer: from, serial: name.serial };
                self.asked_by_another(now, asker, (name, of), wish, out);
            }
            Forward::Answer { serial, granted } => {
                let sent = self.desk.wishes.get(&serial).and_then(|it| it.sent);
                if sent == Some(Sent::Link(from)) {
                    self.surely_answered(now, serial, granted, out);
                }
            }
            Forward::Restarted { serial } => {
                let sent = self.desk.wishes.get(&serial).and_then(|it| it.sent);
                if sent == Some(Sent::Link(from)) {
                    self.not_asked(now, serial, "the master was restarted", out);
                }
            }
        }
    }

    /// Another node asks something of this process, perhaps not for the first time.
    fn asked_by_another(
        &mut self,
        now: Time,
        asker: Asker,
        (name, of): (Name, Incarnation),
        wish: Wish,
        out: &mut Outbox<Output>,
    ) {
        let Some((from, serial)) = asker.name() else { return };
        if of != self.membership.incarnation() {
            return self.reply(now, asker, Forward::Restarted { serial }, out);
        }
        if wish == Wish::Look {
            return self.show(now, asker, out);
        }
        let linked = matches!(asker, Asker::Link { .. });
        let from = crate::heard::Asker { node: from, linked };
        let what = match &wish {
            Wish::Propose(command) => Digest::of(command),
            Wish::Manage(order) => Digest::of(&encode(order)),
            Wish::RollCall => Digest::of(b"the roll"),
            Wish::Strengthen { .. } | Wish::Look => Digest::of(&encode(&wish)),
        };
        match self.desk.heard.look(now, from, name, &what) {
            Seen::New => {
                let token = Token(self.desk.serial + 1);
                self.desk.heard.asks(from, serial, what, token);
                self.ask_managers(now, asker, wish, out);
            }
            // It is answered where it came from last: that way works.
            Seen::UnderWay(token) => {
                self.desk.asked.insert(token, asker);
            }
            Seen::Ended(granted) => self.tell(now, asker, granted, out),
            Seen::Past => {}
            Seen::Full => {
                let why = "too much is asked of the master at once; ask again in a moment";
                self.tell(now, asker, refused(why, true), out);
            }
        }
    }

    /// A routed request that the node itself carries out.
    pub(crate) fn asked_for_flock(
        &mut self,
        now: Time,
        ticket: Ticket,
        (service, body): (u8, Bytes),
        out: &mut Outbox<Output>,
    ) {
        let answer = |outcome| skep_routing::Input::Answer { ticket, outcome };
        if service == crate::service::MANAGERS {
            let from = ticket.origin;
            self.manage(now, skep_managers::Input::Message { from, body });
            return self.routed(now, answer(Ok(Bytes::new())));
        }
        match Forward::from_body(&body) {
            Ok(Forward::Ask { name, of, wish }) => {
                let asker = Asker::Routed { ticket, serial: name.serial };
                self.asked_by_another(now, asker, (name, of), wish, out);
            }
            Ok(Forward::Answer { .. } | Forward::Restarted { .. }) | Err(_) => {
                self.routed(now, answer(Err(skep_routing::Failure::Refused)));
            }
        }
    }

    /// What came of a routed request of the node itself.
    pub(crate) fn answered_for_flock(
        &mut self,
        now: Time,
        token: skep_routing::Token,
        outcome: Result<Bytes, AskError>,
        out: &mut Outbox<Output>,
    ) {
        let serial = token.0 - FIRST_TOKEN;
        let sent = self.desk.wishes.get(&serial).and_then(|it| it.sent);
        if !matches!(sent, Some(Sent::Routed(_))) {
            return;
        }
        match outcome.map(|body| Forward::from_body(&body)) {
            Ok(Ok(Forward::Answer { serial: of, granted })) if of == serial => {
                self.surely_answered(now, serial, granted, out);
            }
            Ok(Ok(Forward::Restarted { serial: of })) if of == serial => {
                self.not_asked(now, serial, "the master was restarted", out);
            }
            Ok(_) => {
                let why = "the master answered something else than was asked";
                self.surely_answered(now, serial, refused(why, false), out);
            }
            // Until there is a link to the master, many wishes are more than others pass on.
            Err(why) if why.is_worth_asking_again() => {
                self.not_asked(now, serial, &why.to_string(), out);
            }
            // The process that may have it is asked again, and knows.
            Err(why) => self.answered(now, serial, refused(&why.to_string(), true), out),
        }
    }

    /// Asks something of a node that there may be no link to, and waits for no answer.
    pub(crate) fn ask_for_flock(
        &mut self,
        now: Time,
        to: NodeId,
        service: u8,
        body: Bytes,
        within: Duration,
    ) {
        self.desk.serial += 1;
        let token = FIRST_TOKEN + self.desk.serial;
        self.ask_for_flock_as(now, token, to, (service, body), within);
    }

    fn ask_for_flock_as(
        &mut self,
        now: Time,
        token: u64,
        to: NodeId,
        (service, body): (u8, Bytes),
        within: Duration,
    ) {
        let token = skep_routing::Token(token);
        let routes = self.ways_to(to);
        self.routed(now, skep_routing::Input::Ask { token, routes, service, body, within });
    }

    /// The link over which wishes went is down: the process at its end, if it still is, is asked
    /// again over another way.
    pub(crate) fn link_of_desk_down(&mut self, now: Time, peer: NodeId) {
        for wish in self.desk.wishes.values_mut().filter(|it| it.sent == Some(Sent::Link(peer))) {
            wish.sent = None;
            wish.again_at = now + AGAIN;
            self.seldom_changed = true;
        }
    }

    pub(crate) fn accepted(
        &mut self,
        now: Time,
        token: Token,
        (index, stamp, strength): (u64, Stamp, Strength),
        out: &mut Outbox<Output>,
    ) {
        let outcome = self.desk.decided.remove(&index).unwrap_or(Outcome::Skipped);
        let strong = strength == Strength::Strong;
        self.tell_asker(now, token, Granted::Decided { index, stamp, strong, outcome }, out);
    }

    /// The managers here say who of the roster is there.
    pub(crate) fn called(
        &mut self,
        now: Time,
        token: Token,
        authority: Authority,
        out: &mut Outbox<Output>,
    ) {
        let count = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        let (roster, there) = (count(authority.roster), count(authority.there));
        let granted = Granted::Called { roster, there, strict: authority.holder.is_some() };
        self.tell_asker(now, token, granted, out);
    }

    pub(crate) fn ordered(&mut self, now: Time, token: Token, out: &mut Outbox<Output>) {
        if self.desk.asked.contains_key(&token) {
            self.tell_asker(now, token, Granted::Done, out);
        } else {
            out.push(Output::Managers(skep_managers::Output::Done { token }));
        }
    }

    pub(crate) fn refused(
        &mut self,
        now: Time,
        token: Token,
        why: &Refusal,
        out: &mut Outbox<Output>,
    ) {
        let again = match why {
            Refusal::NotMaster { .. }
            | Refusal::NoMaster(_)
            | Refusal::Busy { .. }
            | Refusal::NoLease
            | Refusal::NotYet { .. }
            | Refusal::Merging { .. } => true,
            Refusal::TooLarge { .. }
            | Refusal::Unknown
            | Refusal::Disk(_)
            | Refusal::Node { .. }
            | Refusal::Spent { .. }
            | Refusal::Changing => false,
        };
        if self.desk.asked.contains_key(&token) {
            let granted = Granted::Refused { why: why.to_string(), again };
            self.tell_asker(now, token, granted, out);
        } else {
            let why = why.clone();
            out.push(Output::Managers(skep_managers::Output::Refused { token, why }));
        }
    }

    pub(crate) fn wanted(
        &mut self,
        now: Time,
        token: Token,
        lineage: Lineage,
        out: &mut Outbox<Output>,
    ) {
        self.tell_asker(now, token, Granted::Wanted { lineage: lineage.0 }, out);
    }

    fn tell_asker(&mut self, now: Time, token: Token, granted: Granted, out: &mut Outbox<Output>) {
        let Some(asker) = self.desk.asked.remove(&token) else { return };
        if let Some((from, serial)) = asker.name() {
            self.desk.heard.ended(from, serial, token, &granted);
        }
        self.tell(now, asker, granted, out);
    }

    fn tell(&mut self, now: Time, asker: Asker, granted: Granted, out: &mut Outbox<Output>) {
        match asker {
            Asker::Here(serial) => self.surely_answered(now, serial, granted, out),
            Asker::Link { serial, .. } | Asker::Routed { serial, .. } => {
                self.reply(now, asker, Forward::Answer { serial, granted }, out);
            }
        }
    }

    fn reply(&mut self, now: Time, to: Asker, answer: Forward, out: &mut Outbox<Output>) {
        match to {
            Asker::Here(_) => {}
            Asker::Link { peer, .. } => self.send(peer, kind::WISHES, answer.to_body(), out),
            Asker::Routed { ticket, .. } => {
                let outcome = Ok(answer.to_body());
                self.routed(now, skep_routing::Input::Answer { ticket, outcome });
            }
        }
    }

    /// Surely nobody was asked this time.
    fn not_asked(&mut self, now: Time, serial: u64, why: &str, out: &mut Outbox<Output>) {
        if let Some(pending) = self.desk.wishes.get_mut(&serial) {
            pending.may = pending.before;
        }
        self.answered(now, serial, refused(why, true), out);
    }

    /// The process that was asked says what came of a wish.
    fn surely_answered(
        &mut self,
        now: Time,
        serial: u64,
        granted: Granted,
        out: &mut Outbox<Output>,
    ) {
        let mut granted = granted;
        if let Some(pending) = self.desk.wishes.get_mut(&serial) {
            pending.may = None;
            let asked = pending.sent.map(|sent| sent.master().unwrap_or(self.id));
            if asked.is_some_and(|master| !may_say(master, &granted)) {
                granted = refused("it answered something that cannot be read here", false);
            }
        }
        self.answered(now, serial, granted, out);
    }

    /// What came of a wish: asked again, where that is safe and there is time.
    fn answered(&mut self, now: Time, serial: u64, granted: Granted, out: &mut Outbox<Output>) {
        self.seldom_changed = true;
        let Some(pending) = self.desk.wishes.get_mut(&serial) else { return };
        let again = matches!(granted, Granted::Refused { again: true, .. });
        if again && now + AGAIN < pending.until {
            pending.sent = None;
            pending.again_at = now + AGAIN;
            return;
        }
        // Nothing of it happened this time: of an earlier attempt that says nothing.
        let granted = if again && pending.may.is_some() { pending.unanswered() } else { granted };
        self.finish(serial, granted, out);
    }

    fn finish(&mut self, serial: u64, granted: Granted, out: &mut Outbox<Output>) {
        if let Some(pending) = self.desk.wishes.remove(&serial) {
            out.push(Output::Granted { token: pending.token, granted });
        }
    }
}

/// Whether a master may say this: what it shows is of its own flock, and within its bounds.
fn may_say(master: NodeId, granted: &Granted) -> bool {
    let Granted::Shown(page) = granted else { return true };
    skep_managers::Shown::from_bytes(page).is_some_and(|shown| shown.is_of_master(master))
}

fn refused(why: &str, again: bool) -> Granted {
    Granted::Refused { why: String::from(why), again }
}

const fn command_of(order: Order) -> Command {
    match order {
        Order::StepDown => Command::StepDown,
        Order::Transfer(node) => Command::Transfer(node),
        Order::Promote(node) => Command::Promote(node),
        Order::Demote(node) => Command::Demote(node),
        Order::Hold(node) => Command::Hold(node),
        Order::Release(node) => Command::Release(node),
    }
}
