//! What a master was asked, and what came of it, for as long as whoever asked waits for that: the
//! same wish may come again over another way, when a link broke or a route fell silent, and nothing
//! is done twice.
//!
//! Who asks numbers its wishes, and says with each which is the first that it still waits for.
//! So an outcome is kept until its asker has it, and there are never more of them than wishes
//! under way.

use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use skep_base::{Digest, NodeId, Time};
use skep_catalog::{Granted, Name};
use skep_managers::Token;

use crate::desk::MAX_WISHES;

/// Wishes of all nodes that are kept, with their outcomes: more than all members of a large flock
/// have under way at once.
const MAX_KEPT: usize = 8192;
/// Askers over the links of others are kept up to so many: a member that went bad can ask in as
/// many names as it likes.
const MAX_ASKERS: usize = 4096;
/// Wishes over the links of others that nobody waits for any more are kept up to so many, those of
/// last: that nobody waits is what was said over those links.
const MAX_PAST: usize = 1024;
/// Nobody waits as long for a wish of its own: longer than a promotion may take.
const KEPT: Duration = Duration::from_secs(60);
/// As much time passes between two looks at most, so that no wish that is under way is forgotten
/// when the clock jumps, as after a suspension. What is kept for longer is bounded all the same.
const LONGEST_STEP: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    of: BTreeMap<Asker, Asked>,
    /// What came over the links of others, and is waited for no more: a copy may be on its way over
    /// the node's own link.
    past: VecDeque<Past>,
    /// Over all nodes.
    kept: usize,
    /// When nodes are looked for that asked nothing for long.
    purge_at: Time,
    /// Its own time, in steps, as of when it was last looked by the node's.
    own: Time,
    looked: Time,
}

/// Who asks, and whether that is sure: over a link, and not over those of others, each of whom
/// could ask in its name. What came over those says nothing of what comes over the link, but where
/// it is the very same wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asker {
    pub(crate) node: NodeId,
    pub(crate) linked: bool,
}

/// What one node asked.
#[derive(Debug)]
struct Asked {
    life: u64,
    /// Nobody waits for those before.
    first: u64,
    last: Time,
    wishes: BTreeMap<u64, Kept>,
}

#[derive(Debug)]
struct Kept {
    what: Digest,
    known: Known,
}

#[derive(Debug)]
struct Past {
    node: NodeId,
    life: u64,
    serial: u64,
    since: Time,
    kept: Kept,
}

#[derive(Clone, Debug)]
enum Known {
    UnderWay(Token),
    Ended(Granted),
}

/// What is known of a wish that comes in.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Nothing: it may be carried out.
    New,
    /// The managers are at it.
    UnderWay(Token),
    /// This came of it.
    Ended(Granted),
    /// Whoever asked has its answer.
    Past,
    /// It is one too many.
    Full,
}

impl Heard {
    pub(crate) fn look(&mut self, now: Time, from: Asker, name: Name, what: &Digest) -> Seen {
        let now = self.passes(now);
        let Name { life, serial, first } = name;
        let other = self.of.get(&Asker { linked: !from.linked, ..from });
        let other = other.filter(|it| it.life == life);
        // A copy that others took long to pass on, of what the node itself has its answer to.
        if !from.linked && other.is_some_and(|it| serial < it.first) {
            return Seen::Past;
        }
        let past = self.past.iter().rev().filter(|_| from.linked);
        let past = past.filter(|it| (it.node, it.life, it.serial) == (from.node, life, serial));
        let other = other.and_then(|it| it.wishes.get(&serial)).into_iter();
        let mut other = other.chain(past.map(|it| &it.kept)).filter(|it| it.what == *what);
        let elsewhere = other.next().map(|it| it.known.clone());
        // Whoever has a link is a member, of which there are only so many.
        if !from.linked && self.of.len() >= MAX_ASKERS && !self.of.contains_key(&from) {
            return Seen::Full;
        }
        // What comes over others leaves room for those that ask themselves.
        let room = if from.linked { MAX_KEPT } else { MAX_KEPT / 2 };
        let fresh = || Asked { life, first, last: now, wishes: BTreeMap::new() };
        let asked = self.of.entry(from).or_insert_with(fresh);
        if asked.life != life {
            self.kept -= asked.wishes.len();
            *asked = fresh();
        }
        asked.last = now;
        asked.first = asked.first.max(first);
        let waited = asked.wishes.split_off(&asked.first);
        self.kept -= asked.wishes.len();
        let past = core::mem::replace(&mut asked.wishes, waited);
        for (serial, kept) in past.into_iter().filter(|_| !from.linked) {
            if self.past.len() >= MAX_PAST {
                self.past.pop_front();
            }
            let node = from.node;
            self.past.push_back(Past { node, life, serial, since: now, kept });
        }
        if serial < asked.first {
            return Seen::Past;
        }
        let here = asked.wishes.get(&serial).map(|kept| kept.known.clone());
        match here.or(elsewhere) {
            Some(Known::UnderWay(token)) => Seen::UnderWay(token),
            Some(Known::Ended(granted)) => Seen::Ended(granted),
            None if asked.wishes.len() >= MAX_WISHES || self.kept >= room => Seen::Full,
            None => Seen::New,
        }
    }

    /// What [`Heard::look`] called new is asked of the managers.
    pub(crate) fn asks(&mut self, from: Asker, serial: u64, what: Digest, token: Token) {
        if let Some(asked) = self.of.get_mut(&from) {
            asked.wishes.insert(serial, Kept { what, known: Known::UnderWay(token) });
            self.kept += 1;
        }
    }

    /// What came of it. What surely did not happen may be asked again.
    pub(crate) fn ended(&mut self, node: NodeId, serial: u64, token: Token, granted: &Granted) {
        let again = matches!(granted, Granted::Refused { again: true, .. });
        let is_it = |known: &Known| matches!(known, Known::UnderWay(of) if *of == token);
        if again {
            self.past.retain(|it| it.node != node || !is_it(&it.kept.known));
        }
        for past in self.past.iter_mut().filter(|it| (it.node, it.serial) == (node, serial)) {
            if is_it(&past.kept.known) {
                past.kept.known = Known::Ended(granted.clone());
            }
        }
        // The way that it is answered over may be another than it was first asked over.
        for linked in [true, false] {
            let Some(asked) = self.of.get_mut(&Asker { node, linked }) else { continue };
            let Some(kept) = asked.wishes.get_mut(&serial) else { continue };
            if !is_it(&kept.known) {
                continue; // Of an earlier life of that node.
            }
            if again {
                asked.wishes.remove(&serial);
                self.kept -= 1;
            } else {
                kept.known = Known::Ended(granted.clone());
            }
        }
    }

    /// Time passes. What it is by its own.
    fn passes(&mut self, now: Time) -> Time {
        self.own = self.own + now.since(self.looked).min(LONGEST_STEP);
        self.looked = self.looked.max(now);
        self.purge(self.own);
        self.own
    }

    fn purge(&mut self, now: Time) {
        if now < self.purge_at {
            return;
        }
        self.purge_at = now + KEPT;
        self.of.retain(|_, asked| now.since(asked.last) < KEPT);
        self.past.retain(|it| now.since(it.since) < KEPT);
        self.kept = self.of.values().map(|asked| asked.wishes.len()).sum();
    }

    pub(crate) fn check(&self) {
        let kept: usize = self.of.values().map(|asked| asked.wishes.len()).sum();
        assert!(kept == self.kept && kept <= MAX_KEPT, "{kept} wishes kept, {} said", self.kept);
        let routed = self.of.keys().filter(|asker| !asker.linked).count();
        assert!(routed <= MAX_ASKERS, "{routed} askers over others are kept");
        assert!(self.past.len() <= MAX_PAST, "{} past wishes are kept", self.past.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::from_bytes([7; NodeId::LEN]);
    const LINK: Asker = Asker { node: NODE, linked: true };
    const ROUTE: Asker = Asker { node: NODE, linked: false };

    const fn name(serial: u64, first: u64) -> Name {
        Name { life: 1, serial, first }
    }

    fn refused(again: bool) -> Granted {
        Granted::Refused { why: "so".into(), again }
    }

    fn look(heard: &mut Heard, from: Asker, name: Name) -> Seen {
        let seen = heard.look(Time::ZERO, from, name, &Digest::of(b"wish"));
        heard.check();
        seen
    }

    /// As it passes where somebody asks now and then.
    fn pass(heard: &mut Heard, span: Duration) {
        let steps = span.as_secs() / LONGEST_STEP.as_secs();
        for step in 1..=u32::try_from(steps).unwrap() {
            heard.passes(Time::ZERO + LONGEST_STEP * step);
        }
    }

    fn asks(heard: &mut Heard, from: Asker, serial: u64, token: u64) {
        assert!(matches!(look(heard, from, name(serial, 0)), Seen::New));
        heard.asks(from, serial, Digest::of(b"wish"), Token(token));
        heard.check();
    }

    #[test]
    fn what_comes_again_is_told_what_came_of_it() {
        let mut heard = Heard::default();
        asks(&mut heard, LINK, 3, 9);
        assert!(matches!(look(&mut heard, LINK, name(3, 3)), Seen::UnderWay(Token(9))));
        heard.ended(NODE, 3, Token(9), &Granted::Done);
        assert!(matches!(look(&mut heard, LINK, name(3, 3)), Seen::Ended(Granted::Done)));
        // Whoever waits for later ones has this one's outcome.
        assert!(matches!(look(&mut heard, LINK, name(5, 4)), Seen::New));
        assert!(matches!(look(&mut heard, LINK, name(3, 3)), Seen::Past));
    }

    #[test]
    fn the_same_wish_is_known_over_any_way_and_another_s_in_its_name_is_not_it() {
        let mut heard = Heard::default();
        asks(&mut heard, ROUTE, 1, 1);
        assert!(matches!(look(&mut heard, LINK, name(1, 0)), Seen::UnderWay(Token(1))));
        heard.ended(NODE, 1, Token(1), &Granted::Done);
        assert!(matches!(look(&mut heard, LINK, name(1, 0)), Seen::Ended(Granted::Done)));
        let other = heard.look(Time::ZERO, LINK, name(1, 0), &Digest::of(b"other"));
        assert!(matches!(other, Seen::New));
        // Nor does it say what the node waits for.
        assert!(matches!(look(&mut heard, ROUTE, name(9, 9)), Seen::New));
        assert!(matches!(look(&mut heard, LINK, name(2, 0)), Seen::New));
    }

    #[test]
    fn a_copy_that_others_pass_on_late_is_not_done_again() {
        let mut heard = Heard::default();
        asks(&mut heard, LINK, 1, 1);
        heard.ended(NODE, 1, Token(1), &Granted::Done);
        assert!(matches!(look(&mut heard, LINK, name(2, 2)), Seen::New));
        assert!(matches!(look(&mut heard, ROUTE, name(1, 1)), Seen::Past));
    }

    /// Others could say in its name that it waits no more; what it asks then is another wish.
    #[test]
    fn a_copy_that_comes_late_over_the_link_is_not_done_again() {
        let mut heard = Heard::default();
        for serial in 1..=2 {
            asks(&mut heard, ROUTE, serial, serial);
        }
        heard.ended(NODE, 1, Token(1), &Granted::Done);
        assert!(matches!(look(&mut heard, ROUTE, name(3, 3)), Seen::New));
        assert!(matches!(look(&mut heard, LINK, name(1, 1)), Seen::Ended(Granted::Done)));
        assert!(matches!(look(&mut heard, LINK, name(2, 1)), Seen::UnderWay(Token(2))));
        heard.ended(NODE, 2, Token(2), &refused(false));
        let seen = look(&mut heard, LINK, name(2, 1));
        assert!(matches!(seen, Seen::Ended(Granted::Refused { .. })), "{seen:?}");
        let other = heard.look(Time::ZERO, LINK, name(2, 1), &Digest::of(b"other"));
        assert!(matches!(other, Seen::New));
        let next = Name { life: 2, serial: 1, first: 1 };
        assert!(matches!(look(&mut heard, LINK, next), Seen::New));
    }

    #[test]
    fn wishes_that_nobody_waits_for_are_kept_up_to_a_bound_and_for_a_while() {
        let mut heard = Heard::default();
        let past = MAX_PAST as u64 + 10;
        for serial in 0..past {
            assert!(matches!(look(&mut heard, ROUTE, name(serial, serial)), Seen::New));
            heard.asks(ROUTE, serial, Digest::of(b"wish"), Token(serial));
            heard.ended(NODE, serial, Token(serial), &Granted::Done);
        }
        assert!(matches!(look(&mut heard, ROUTE, name(past, past)), Seen::New));
        assert!(matches!(look(&mut heard, LINK, name(past - 1, 0)), Seen::Ended(Granted::Done)));
        assert!(matches!(look(&mut heard, LINK, name(0, 0)), Seen::New), "long ago");
        pass(&mut heard, KEPT * 2);
        let later = Time::ZERO + KEPT * 2;
        let seen = heard.look(later, LINK, name(past - 2, 0), &Digest::of(b"wish"));
        assert!(matches!(seen, Seen::New));
        heard.check();
    }

    #[test]
    fn a_wish_that_is_under_way_is_not_forgotten_when_the_clock_jumps() {
        let mut heard = Heard::default();
        asks(&mut heard, LINK, 1, 1);
        for jump in 1..5 {
            let now = Time::ZERO + KEPT * 10 * jump;
            let seen = heard.look(now, LINK, name(1, 1), &Digest::of(b"wish"));
            assert!(matches!(seen, Seen::UnderWay(Token(1))), "jump {jump}: {seen:?}");
        }
    }

    #[test]
    fn what_surely_did_not_happen_is_carried_out_when_it_comes_again() {
        let mut heard = Heard::default();
        asks(&mut heard, LINK, 1, 1);
        heard.ended(NODE, 1, Token(1), &refused(true));
        asks(&mut heard, LINK, 1, 2);
        // Of the first time: another is under way.
        heard.ended(NODE, 1, Token(1), &refused(false));
        assert!(matches!(look(&mut heard, LINK, name(1, 1)), Seen::UnderWay(Token(2))));
    }

    #[test]
    fn one_that_asks_without_end_takes_no_more_than_its_share() {
        let mut heard = Heard::default();
        let (limit, what) = (MAX_WISHES as u64, Digest::of(b"wish"));
        for serial in 0..limit {
            assert!(matches!(heard.look(Time::ZERO, LINK, name(serial, 0), &what), Seen::New));
            heard.asks(LINK, serial, what, Token(serial));
        }
        assert!(matches!(look(&mut heard, LINK, name(limit, 0)), Seen::Full));
        // Its next life has as much room, and after a while nothing is left of either.
        let next = Name { life: 2, serial: 0, first: 0 };
        assert!(matches!(look(&mut heard, LINK, next), Seen::New));
        let other = Asker { node: NodeId::from_bytes([8; NodeId::LEN]), linked: true };
        pass(&mut heard, KEPT * 2);
        assert!(matches!(heard.look(Time::ZERO + KEPT * 2, other, next, &what), Seen::New));
        heard.check();
        assert_eq!(heard.of.len(), 1);
    }

    #[test]
    fn one_that_asks_in_many_names_takes_no_more_than_there_is_for_all() {
        let mut heard = Heard::default();
        let mut refused = 0;
        for number in 0..MAX_ASKERS as u64 + 100 {
            let mut bytes = [0; NodeId::LEN];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            let node = NodeId::from_bytes(bytes);
            let seen = heard.look(
                Time::ZERO,
                Asker { node, linked: false },
                name(0, 0),
                &Digest::of(b"wish"),
            );
            refused += usize::from(matches!(seen, Seen::Full));
        }
        heard.check();
        assert_eq!(refused, 100);
        // Whoever has a link or asked before is served, and in a while everybody is.
        assert!(matches!(look(&mut heard, LINK, name(0, 0)), Seen::New));
        let first = Asker { node: NodeId::from_bytes([0; NodeId::LEN]), linked: false };
        assert!(matches!(look(&mut heard, first, name(1, 0)), Seen::New));
        pass(&mut heard, KEPT * 2);
        let later = heard.look(Time::ZERO + KEPT * 2, LINK, name(0, 0), &Digest::of(b"wish"));
        assert!(matches!(later, Seen::New));
    }
}
