//! From what is wrong to who was told of it.

mod alone;

use alloc::borrow::ToOwned as _;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{Outbox, Rng, Time, WallTime};

use crate::config::Config;
use crate::draft::{Draft, Entries, under_way};
use crate::incident::{
    Incident, Kind, MAX_NOTICES, MAX_STEP, MAX_TARGETS, MAX_TEXT_BYTES, MAX_TOLD, Notice, Scope,
    Sighting, cut,
};
use crate::letter::{Letter, MAX_ITEMS};
use crate::post::{self, Book, Figures};

/// Entries of incidents that are over which are kept though there is room: what happened lately.
const MAX_PAST: usize = MAX_NOTICES / 2;
/// An incident that is over is kept for so long though its clock says that it was over long ago.
const OVER_AT_LEAST: Duration = Duration::from_secs(3600);
/// A letter that a target refuses for good for so long is given up: it would keep all later ones
/// from it for ever. A day, so that somebody can mend what it is refused for.
const REFUSED_FOR: Duration = Duration::from_secs(24 * 3600);
/// A proposal that came to nothing is looked at again after so long.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// A proposal whose answer or effect is not seen for so long is taken for lost: entries say what
/// became of it, and their revisions keep it from happening twice.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// What a node has to do with the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Office {
    /// It is the master: it sees what is wrong with the flock, and tells the targets.
    Master,
    /// Another is: it sees what is wrong with itself.
    Served,
    /// Nobody is.
    Alone,
}

/// Numbers one [`Output::Write`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What may happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// This is all that is wrong now, as this node sees it. Whatever it saw before is not so any
    /// more.
    Sees {
        /// By the wall clock, for people.
        wall: WallTime,
        /// What is wrong.
        sightings: Vec<Sighting>,
    },
    /// The entries of the catalog, all of them, with their revisions.
    Entries {
        /// Those that say something.
        notices: Vec<(u64, Notice)>,
        /// Those of incidents of a known kind that say nothing that can be read: they are
        /// overwritten where the incident is seen, and keep nobody from being told.
        unreadable: Vec<(u64, Incident)>,
    },
    /// What this node has to do with them.
    Office(Office),
    /// The targets are these from now on, at most [`MAX_TARGETS`], with the kinds that each wants.
    /// How it goes with those that stay is not forgotten.
    Targets(Vec<(String, Vec<Kind>)>),
    /// What became of an [`Output::Write`].
    Wrote {
        /// Which.
        ticket: Ticket,
        /// Whether it surely happened.
        happened: bool,
    },
    /// What became of an [`Output::Post`].
    Posted {
        /// To whom.
        target: String,
        /// Which letter.
        letter: String,
        /// Whether it was taken; or why it was not.
        outcome: Result<(), Untaken>,
    },
}

/// Why a letter was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untaken {
    /// For people.
    pub why: String,
    /// Whether the target says that it will never take this letter.
    pub for_good: bool,
}

/// One entry shall say something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which entry.
    pub incident: Incident,
    /// The revision that it must have; it must not be there where none is given.
    pub expect: Option<u64>,
    /// What it says then; nothing removes it.
    pub notice: Option<Notice>,
}

/// A letter to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// To whom.
    pub target: String,
    /// What.
    pub letter: Letter,
}

/// What the desk wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Propose that all of these entries say something else, or none.
    Write {
        /// Comes back in [`Input::Wrote`].
        ticket: Ticket,
        /// At most 16 entries, and of [`crate::MAX_CHANGES_BYTES`].
        changes: Vec<Change>,
    },
    /// Hand a letter over. [`Input::Posted`] says what became of it.
    Post(Post),
    /// Something that people may want to know.
    Event(Event),
}

/// What people may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A target has taken a letter.
    Told {
        /// Which target.
        target: String,
        /// Which letter.
        letter: String,
    },
    /// A target has refused a letter for so long that it gets it no more: later ones wait for it.
    GivenUp {
        /// Which target.
        target: String,
        /// Which letter.
        letter: String,
        /// Why.
        why: String,
    },
    /// A target takes nothing; it is tried again and again.
    Failing {
        /// Which.
        target: String,
        /// Why.
        why: String,
    },
    /// An incident is in no entry, for there are too many.
    Dropped {
        /// Which.
        incident: Incident,
    },
}

/// A write that is not seen in the entries yet.
struct Writing {
    ticket: Ticket,
    expects: Vec<(Incident, Option<u64>)>,
    /// Whether it surely happened.
    happened: bool,
    until: Time,
    /// What it uses up if it happens: letters of targets, and dropped incidents to be told of.
    claimed: Vec<String>,
    dropped: u64,
}

/// The notification desk of one node.
pub struct Desk {
    config: Config,
    rng: Rng,
    office: Office,
    /// Since when there is no master.
    alone_since: Option<Time>,
    wall: (Time, WallTime),
    /// What is seen, and since when.
    seen: BTreeMap<Incident, (Time, Sighting)>,
    /// What was seen and is not any more, since when.
    unseen: BTreeMap<Incident, Time>,
    /// Entries of incidents that are over, and since when this desk knows that.
    over: BTreeMap<Incident, Time>,
    entries: Entries,
    /// Revisions of entries that say nothing.
    unreadable: BTreeMap<Incident, u64>,
    /// What this node tells by itself.
    own: Entries,
    posts: Vec<post::Post>,
    writing: Option<Writing>,
    /// No write before this.
    write_after: Time,
    tickets: u64,
    /// Incidents in no entry, since the start, and of those the ones that nobody was told of.
    dropped: (u64, u64),
    refused: BTreeMap<Incident, ()>,
    wake: Option<Time>,
}

impl Desk {
    /// A desk that has seen nothing yet.
    #[must_use]
    pub fn new(now: Time, config: Config, rng: Rng) -> Self {
        let targets = config.targets.iter().take(MAX_TARGETS);
        let posts = targets.map(|target| post::Post::new(now, target.clone())).collect();
        Self {
            config,
            rng,
            office: Office::Alone,
            alone_since: Some(now),
            wall: (now, WallTime::from_unix_ms(0)),
            seen: BTreeMap::new(),
            unseen: BTreeMap::new(),
            over: BTreeMap::new(),
            entries: Entries::new(),
            unreadable: BTreeMap::new(),
            own: Entries::new(),
            posts,
            writing: None,
            write_after: now,
            tickets: 0,
            dropped: (0, 0),
            refused: BTreeMap::new(),
            wake: None,
        }
    }

    /// Lets something happen.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        match input {
            Input::Sees { wall, sightings } => {
                self.wall = (now, wall);
                self.look(now, sightings);
            }
            Input::Entries { notices, unreadable } => self.read(notices, unreadable),
            Input::Office(office) => {
                if office != Office::Alone {
                    self.alone_since = None;
                } else if self.office != office || self.alone_since.is_none() {
                    self.alone_since = Some(now);
                }
                self.office = office;
            }
            Input::Targets(targets) => {
                let mut before = core::mem::take(&mut self.posts);
                for target in targets.into_iter().take(MAX_TARGETS) {
                    let at = before.iter().position(|post| post.target == target.0);
                    let post = at.map(|at| before.swap_remove(at).wanting(target.1.clone()));
                    self.posts.push(post.unwrap_or_else(|| post::Post::new(now, target)));
                }
            }
            Input::Wrote { ticket, happened } => self.wrote(now, ticket, happened),
            Input::Posted { target, letter, outcome } => {
                self.posted(now, &target, letter, outcome, out);
            }
        }
        self.tick(now, out);
    }

    /// When there is something to do, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        self.wake.map(|at| (at, "incidents are to be noted or told"))
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.wake = None;
        self.settle_write(now);
        self.tell_by_itself(now, out);
        if self.office == Office::Alone {
            return;
        }
        let writes = self.may_write(now);
        let mut draft = Draft::default();
        if writes {
            self.note(now, &mut draft, out);
        }
        if writes && self.office == Office::Served && self.is_wanted() {
            self.tell_of_dropped(now, &mut draft);
        }
        if self.office == Office::Master {
            if writes {
                self.tidy(now, &mut draft);
            }
            let entries = core::mem::take(&mut self.entries);
            self.deliver(now, Book::Flock, &entries, writes.then_some(&mut draft), out);
            self.entries = entries;
        }
        self.write(now, draft, out);
    }

    /// What must hold between calls.
    pub fn check(&self) {
        assert!(self.own.len() <= MAX_NOTICES, "what is told alone is bounded");
        assert!(self.seen.len() <= MAX_NOTICES, "what is seen is bounded");
        assert!(self.unseen.len() <= 3 * MAX_NOTICES, "what is not seen any more is bounded");
        assert!(self.entries.len() <= 2 * MAX_NOTICES, "what is remembered is bounded");
        for post in &self.posts {
            post.check();
        }
    }

    /// All incidents that are remembered, those that this node tells by itself last.
    pub fn notices(&self) -> impl Iterator<Item = (&Notice, bool)> {
        let shared = self.entries.values().map(|(_, notice)| (notice, false));
        shared.chain(self.own.values().map(|(_, notice)| (notice, true)))
    }

    /// How it goes with each target of this node.
    pub fn targets(&self) -> impl Iterator<Item = (&str, &Figures)> {
        self.posts.iter().map(|post| (post.target.as_str(), &post.figures))
    }

    /// Incidents that are in no entry, since the start.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped.0
    }

    fn wake_at(&mut self, at: Time) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn wall_now(&self, now: Time) -> WallTime {
        let (at, wall) = self.wall;
        let since = u64::try_from(now.since(at).as_millis()).unwrap_or(0);
        WallTime::from_unix_ms(wall.unix_ms.saturating_add(since))
    }

    fn read(&mut self, notices: Vec<(u64, Notice)>, unreadable: Vec<(u64, Incident)>) {
        self.entries.clear();
        self.unreadable.clear();
        for (revision, mut notice) in notices.into_iter().take(2 * MAX_NOTICES) {
            if !notice.is_plain() {
                self.unreadable.insert(notice.incident, revision);
                continue;
            }
            // There is room for all of this node's targets: what is told must be noted.
            let mut room = MAX_TOLD - MAX_TARGETS;
            let posts = &self.posts;
            notice.told.retain(|target, _| {
                let ours = posts.iter().any(|post| post.target == *target);
                room -= usize::from(!ours && room > 0);
                ours || room > 0
            });
            self.entries.insert(notice.incident.clone(), (revision, notice));
        }
        let unreadable = unreadable.into_iter().take(2 * MAX_NOTICES);
        self.unreadable.extend(unreadable.map(|(revision, incident)| (incident, revision)));
    }

    /// The revision of an entry, whatever it says.
    fn revision(&self, incident: &Incident) -> Option<u64> {
        let known = self.entries.get(incident).map(|(revision, _)| *revision);
        known.or_else(|| self.unreadable.get(incident).copied())
    }

    fn look(&mut self, now: Time, sightings: Vec<Sighting>) {
        let mut before = core::mem::take(&mut self.seen);
        for sighting in sightings.into_iter().take(MAX_NOTICES) {
            let since = before.remove(&sighting.incident).map_or(now, |(since, _)| since);
            self.unseen.remove(&sighting.incident);
            self.seen.insert(sighting.incident.clone(), (since, sighting));
        }
        for incident in before.into_keys() {
            self.unseen.entry(incident).or_insert(now);
        }
        let (entries, own) = (&self.entries, &self.own);
        self.unseen
            .retain(|incident, _| entries.contains_key(incident) || own.contains_key(incident));
        let seen = &self.seen;
        self.refused.retain(|incident, ()| seen.contains_key(incident));
    }

    /// Since when an incident that this node answers for is not seen any more.
    fn gone_since(&mut self, now: Time, incident: &Incident) -> Option<Time> {
        if self.seen.contains_key(incident) {
            return None;
        }
        Some(*self.unseen.entry(incident.clone()).or_insert(now))
    }

    /// What is opened and closed among the entries.
    fn note(&mut self, now: Time, draft: &mut Draft, out: &mut Outbox<Output>) {
        let master = self.office == Office::Master;
        let wanted = master || self.is_wanted();
        let sightings: Vec<(Time, Sighting)> = self.seen.values().cloned().collect();
        for (since, sighting) in sightings {
            let ours = match sighting.incident.kind.scope() {
                Scope::Flock => master && !self.posts.is_empty(),
                Scope::Node => wanted && (!master || !self.posts.is_empty()),
                Scope::Alone => false,
            };
            let at = since + self.config.settles(sighting.incident.kind);
            if !ours || draft.is_full() {
                continue;
            }
            if at > now {
                self.wake_at(at);
                continue;
            }
            let revision = self.revision(&sighting.incident);
            let known = self.entries.get(&sighting.incident).map(|(_, notice)| notice.clone());
            let own = self.own.contains_key(&sighting.incident);
            let notice = match known {
                None if self.entries.len() + draft.len() >= MAX_NOTICES => {
                    if !own {
                        self.drop(sighting.incident, out);
                    }
                    continue;
                }
                None if own => self.hands_over(&sighting.incident),
                None => Some(self.opened(now, &sighting)),
                Some(notice) if notice.is_open() || notice.incident.kind.is_momentary() => continue,
                // Those who are still being told of the one before hear that it is over first.
                Some(notice) if own && !self.is_settled(&notice) => None,
                Some(_) if own => self.hands_over(&sighting.incident),
                Some(notice) => Some(self.reopened(now, notice, &sighting)),
            };
            if let Some(notice) = notice {
                draft.put(revision, notice);
            }
        }
        self.close(now, draft);
    }

    /// Whether anybody is told of what a node notes that is not the master.
    fn is_wanted(&self) -> bool {
        self.entries.keys().any(|known| known.kind == Kind::Targets)
    }

    fn close(&mut self, now: Time, draft: &mut Draft) {
        let master = self.office == Office::Master;
        let open = self.entries.values().filter(|(_, notice)| {
            let ours = match notice.incident.kind.scope() {
                Scope::Flock => master && notice.incident.kind != Kind::Targets,
                Scope::Node => notice.seen_by == self.config.me,
                Scope::Alone => false,
            };
            ours && notice.is_open()
        });
        let open: Vec<(u64, Notice)> = open.cloned().collect();
        for (revision, mut notice) in open {
            let Some(since) = self.gone_since(now, &notice.incident) else { continue };
            if since + self.config.settle > now {
                self.wake_at(since + self.config.settle);
            } else if !draft.is_full() {
                notice.step += 1;
                notice.closed = Some(self.wall_now(now));
                draft.put(Some(revision), notice);
            }
        }
    }

    fn opened(&mut self, now: Time, sighting: &Sighting) -> Notice {
        Notice {
            incident: sighting.incident.clone(),
            id: format!("{:016x}", self.rng.bits()),
            what: sighting.what.clone(),
            hint: sighting.hint.clone(),
            seen_by: self.config.me.clone(),
            opened: self.wall_now(now),
            closed: None,
            step: 1,
            told: BTreeMap::new(),
        }
    }

    /// It is so again. While somebody is still being told that it was over, it goes on as the same
    /// occurrence: a letter under way must stay what it is.
    fn reopened(&mut self, now: Time, notice: Notice, sighting: &Sighting) -> Notice {
        let told = self.is_settled(&notice) && !notice.told.is_empty();
        if told || notice.step >= MAX_STEP {
            return self.opened(now, sighting);
        }
        let mut notice = Notice { step: notice.step + 1, closed: None, ..notice };
        if notice.told.values().all(|told| told.letter.is_none()) {
            notice.what.clone_from(&sighting.what);
            notice.hint.clone_from(&sighting.hint);
            notice.seen_by.clone_from(&self.config.me);
        }
        notice
    }

    /// Whether all whom the master tells know all of it, as far as they were told of any.
    fn is_settled(&self, notice: &Notice) -> bool {
        let all = self.entries.get(&Incident::new(Kind::Targets, "all"));
        let is_told = |target: &str| {
            all.is_none_or(|(_, all)| all.what.split(", ").any(|name| name == target))
        };
        notice.told.iter().all(|(target, told)| {
            !is_told(target) || (told.letter.is_none() && told.step == notice.step)
        })
    }

    fn drop(&mut self, incident: Incident, out: &mut Outbox<Output>) {
        if self.refused.insert(incident.clone(), ()).is_none() {
            self.dropped.0 += 1;
            self.dropped.1 += 1;
            out.push(Output::Event(Event::Dropped { incident }));
        }
    }

    /// The entries that are the master's own business: who is told, what is over for long, and that
    /// some was dropped.
    fn tidy(&mut self, now: Time, draft: &mut Draft) {
        if !self.posts.is_empty() {
            let names: Vec<&str> = self.targets().map(|(name, _)| name).collect();
            let what = cut(&names.join(", "), MAX_TEXT_BYTES);
            let incident = Incident::new(Kind::Targets, "all");
            let known = self.entries.get(&incident);
            if known.is_none_or(|(_, notice)| notice.what != what) && !draft.is_full() {
                let revision = self.revision(&incident);
                let sighting = Sighting { incident, what, hint: String::new() };
                draft.put(revision, self.opened(now, &sighting));
            }
        }
        let wall = self.wall_now(now);
        self.over.retain(|incident, _| {
            self.entries.get(incident).is_some_and(|(_, notice)| !notice.is_open())
        });
        let mut past: Vec<(WallTime, u64, Incident)> = Vec::new();
        for (revision, notice) in self.entries.values() {
            let over = !notice.is_open() && notice.incident.kind != Kind::Targets;
            if over && !self.is_busy(notice) && !self.seen.contains_key(&notice.incident) {
                let since = notice.closed.unwrap_or(notice.opened);
                // A target of another master's may still be being told: its letter must stay whole.
                let under_way = notice.told.values().any(|told| told.letter.is_some());
                if under_way && wall.since(since) <= self.config.keep {
                    continue;
                }
                past.push((since, *revision, notice.incident.clone()));
            }
        }
        past.sort();
        let surplus = past.len().saturating_sub(MAX_PAST);
        let surplus = surplus.max((self.entries.len() + MAX_ITEMS).saturating_sub(MAX_NOTICES));
        for (at, (since, revision, incident)) in past.into_iter().enumerate() {
            // The clock is that of whoever closed it, and may be days away from this node's.
            let known = now.since(*self.over.entry(incident.clone()).or_insert(now));
            let long = wall.since(since) > self.config.keep && known > OVER_AT_LEAST;
            if at < surplus || long || known > self.config.keep {
                draft.remove(revision, &incident);
            }
        }
        self.tell_of_dropped(now, draft);
    }

    fn tell_of_dropped(&mut self, now: Time, draft: &mut Draft) {
        let incident = Incident::new(Kind::Dropped, &self.config.me);
        let known = self.entries.get(&incident);
        let busy = known.is_some_and(|(_, notice)| {
            self.is_busy(notice) || notice.told.is_empty() || !self.is_settled(notice)
        });
        let full = known.is_none() && self.entries.len() >= MAX_NOTICES + MAX_ITEMS;
        if self.dropped.1 == 0 || busy || full || draft.is_full() {
            return;
        }
        let revision = self.revision(&incident);
        let dropped = self.dropped.1;
        let what = format!("{dropped} incidents were not noted, for {MAX_NOTICES} wait already");
        let hint = "look at `skep flock` and `skep members`; see why targets take no letters with \
                    `skep notify ls`"
            .to_owned();
        if draft.put(revision, self.opened(now, &Sighting { incident, what, hint })) {
            draft.dropped = dropped;
        }
    }

    /// Whether a target of this node is being told of it, or will be.
    fn is_busy(&self, notice: &Notice) -> bool {
        self.posts.iter().any(|post| {
            let told = notice.told.get(&post.target);
            post.is_due(notice) || told.is_some_and(|told| told.letter.is_some())
        })
    }

    /// Sends what is claimed, and claims what is due, for each target.
    fn deliver(
        &mut self,
        now: Time,
        book: Book,
        entries: &Entries,
        mut draft: Option<&mut Draft>,
        out: &mut Outbox<Output>,
    ) {
        let held = if book == Book::Own { self.handing_over() } else { Vec::new() };
        for at in 0..self.posts.len() {
            let post = &mut self.posts[at];
            if post.in_flight.is_some() {
                continue;
            }
            if let Some(name) = under_way(entries, &post.target) {
                if post.of(book).taken.as_ref() == Some(&name) {
                    if let Some(draft) = &mut draft {
                        draft.mark(entries, &post.target, &name);
                    }
                } else if post.next > now {
                    let next = post.next;
                    self.wake_at(next);
                } else {
                    let items = entries.values().filter_map(|(_, notice)| {
                        let claim = notice.told.get(&post.target)?.letter.as_ref()?;
                        (claim.letter == name).then_some((notice, claim))
                    });
                    let letter = Letter::of(&name, items);
                    post.in_flight = Some((book, name));
                    let target = post.target.clone();
                    out.push(Output::Post(Post { target, letter }));
                }
                continue;
            }
            post.of(book).taken = None;
            let due = entries.values().filter(|(_, notice)| post.is_due(notice));
            let due = due.filter(|(_, notice)| !held.contains(&notice.incident));
            let mut due: Vec<&(u64, Notice)> = due.collect();
            if due.is_empty() {
                post.of(book).due_since = None;
                continue;
            }
            due.sort_by_key(|(_, notice)| (notice.opened, &notice.incident));
            due.truncate(MAX_ITEMS);
            let claims = post.claims_at(now, book, &self.config);
            if claims > now {
                self.wake_at(claims);
                continue;
            }
            if let Some(draft) = &mut draft
                && draft.claim(&due, &post.target)
            {
                draft.claimed.push(post.target.clone());
            }
        }
    }

    fn posted(
        &mut self,
        now: Time,
        target: &str,
        letter: String,
        outcome: Result<(), Untaken>,
        out: &mut Outbox<Output>,
    ) {
        let Some(post) = self.posts.iter_mut().find(|post| post.target == *target) else { return };
        let Some((book, _)) = post.in_flight.as_ref().filter(|(_, name)| *name == letter) else {
            return;
        };
        let book = *book;
        match outcome {
            Ok(()) => {
                post.took(book, letter.clone());
                out.push(Output::Event(Event::Told { target: target.into(), letter }));
            }
            Err(Untaken { why, for_good }) => {
                let why = cut(&why, MAX_TEXT_BYTES);
                if for_good && post.refused_for(now, &letter) >= REFUSED_FOR {
                    post.gives_up(book, letter.clone());
                    let (target, why) = (target.to_owned(), why.clone());
                    out.push(Output::Event(Event::GivenUp { target, letter, why }));
                }
                if post.failed(now, why.clone(), &self.config, &mut self.rng) {
                    out.push(Output::Event(Event::Failing { target: target.into(), why }));
                }
            }
        }
    }

    fn may_write(&mut self, now: Time) -> bool {
        if self.writing.is_some() {
            return false;
        }
        if self.write_after > now {
            self.wake_at(self.write_after);
            return false;
        }
        true
    }

    fn write(&mut self, now: Time, draft: Draft, out: &mut Outbox<Output>) {
        if draft.is_empty() {
            return;
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let Draft { changes, claimed, dropped } = draft;
        let changes: Vec<Change> = changes
            .into_iter()
            .map(|(incident, (expect, notice))| Change { incident, expect, notice })
            .collect();
        let expects = changes.iter().map(|it| (it.incident.clone(), it.expect)).collect();
        let until = now + WRITE_PATIENCE;
        self.writing = Some(Writing { ticket, expects, happened: false, until, claimed, dropped });
        self.wake_at(until);
        out.push(Output::Write { ticket, changes });
    }

    fn wrote(&mut self, now: Time, ticket: Ticket, happened: bool) {
        let Some(writing) = self.writing.as_mut().filter(|it| it.ticket == ticket) else { return };
        if happened && !writing.happened {
            writing.happened = true;
            self.use_up(now);
        } else if !happened {
            self.writing = None;
            self.write_after = now + WRITE_AGAIN;
        }
    }

    /// What was written counts from here on: had it been refused, no letter would have gone out.
    fn use_up(&mut self, now: Time) {
        let Some(writing) = &mut self.writing else { return };
        for target in core::mem::take(&mut writing.claimed) {
            if let Some(post) = self.posts.iter_mut().find(|post| post.target == target) {
                post.claimed(now, Book::Flock, &self.config);
            }
        }
        self.dropped.1 = self.dropped.1.saturating_sub(core::mem::take(&mut writing.dropped));
    }

    /// A write is done with when the entries show it.
    fn settle_write(&mut self, now: Time) {
        let Some(writing) = &self.writing else { return };
        let shown =
            writing.expects.iter().all(|(incident, expect)| self.revision(incident) != *expect);
        if (writing.happened && shown) || writing.until <= now {
            if shown {
                self.use_up(now);
            }
            self.writing = None;
        } else {
            let until = writing.until;
            self.wake_at(until);
        }
    }
}
