//! The operator's hand on the managers, and when each order is answered (DVM-1).
//!
//! An order is answered when it is done, and not when it is begun. A hold or a release is done when
//! its entry is decided and on every disk of the sync set, a promotion or demotion when the change
//! of the voters is decided, a transfer when the mastership ends.
//!
//! A hold stands on the roster, so that whoever is master next goes on with it. A promotion or
//! demotion is this master's alone: what is not done within its patience is taken back and refused.
//! When the mastership ends before the change of voters was written down, it surely did not happen,
//! and whoever asked may ask the next master; after that nobody here knows. Each order may be given
//! again: what is so already is done, or is refused because it is so.

use std::time::Duration;

use skep_base::{NodeId, Outbox, Time};

use crate::event::{Command, Output, Refusal, Token};
use crate::id::Lineage;
use crate::machine::Managers;
use crate::master::Mastership;
use crate::stored::{Place, Record};

/// A promotion or demotion that was not carried out by then is taken back. Whoever ordered it waits
/// for a little longer, and so hears of it.
const OFFICE_PATIENCE: Duration = Duration::from_secs(20);
/// Orders that wait for their entry to be safe: people give them, one after the other.
const MAX_PLACINGS: usize = 16;
/// Why a voter leaves that an operator demoted.
const ORDERED: &str = "an operator's order";

/// What becomes of a node by an operator's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Office {
    Taken,
    Left,
}

/// A promotion or demotion that is not done yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfficeOrder {
    node: NodeId,
    office: Office,
    token: Token,
    since: Time,
    /// The change of voters is in the log, and may be decided whoever is master then.
    proposed: bool,
}

/// An entry of the roster that somebody waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placing {
    index: u64,
    token: Token,
}

impl Mastership {
    /// Whom an operator wants for a backup.
    pub(crate) fn promoted(&self) -> Option<NodeId> {
        let order = self.office.filter(|order| order.office == Office::Taken);
        order.map(|order| order.node)
    }

    /// When the promotion of `node` comes to nothing, if it was ordered.
    pub(crate) fn promotion_ends(&self, node: NodeId) -> Option<Time> {
        self.promoted().filter(|promoted| *promoted == node)?;
        self.office.map(|order| order.since + OFFICE_PATIENCE)
    }

    /// A voter comes or goes by what was just proposed.
    pub(crate) fn office_proposed(&mut self, node: NodeId) {
        if let Some(order) = self.office.as_mut().filter(|order| order.node == node) {
            order.proposed = true;
        }
    }

    /// Answers what will not be done any more by this mastership.
    pub(crate) fn refuse_orders(&mut self, out: &mut Outbox<Output>) {
        if let Some(OfficeOrder { token, proposed, .. }) = self.office.take() {
            let surely_not = Refusal::NotMaster { master: None };
            let why = if proposed { Refusal::Unknown } else { surely_not };
            out.push(Output::Refused { token, why });
        }
        for Placing { token, .. } in self.placings.drain(..) {
            out.push(Output::Refused { token, why: Refusal::Unknown });
        }
    }

    pub(crate) fn check_orders(&self) {
        assert!(self.placings.len() <= MAX_PLACINGS, "{} orders wait", self.placings.len());
    }
}

impl Managers {
    /// An operator's order.
    pub(crate) fn command(
        &mut self,
        now: Time,
        token: Token,
        command: Command,
        out: &mut Outbox<Output>,
    ) {
        let taken = if command == Command::RecoverForce {
            self.recover(now, out).map(|()| out.push(Output::Done { token }))
        } else {
            self.may_decide().and_then(|()| self.order(now, token, command))
        };
        if let Err(why) = taken {
            out.push(Output::Refused { token, why });
        }
    }

    /// Takes an order of the master, which is answered later.
    fn order(&mut self, now: Time, token: Token, command: Command) -> Result<(), Refusal> {
        let me = self.me.id;
        match command {
            Command::StepDown => {
                let best = self.best_backup();
                let why = "has no backup to hand over to";
                self.hand_over(now, token, best.ok_or(Refusal::Node { node: me, why })?)
            }
            Command::Transfer(node) => self.hand_over(now, token, node),
            Command::Promote(node) => self.promote(now, token, node),
            Command::Demote(node) | Command::Hold(node) | Command::Remove(node) if node == me => {
                Err(Refusal::Node { node, why: "is the master: transfer first" })
            }
            Command::Demote(node) => self.demote(now, token, node),
            Command::Hold(node) => self.set_held(token, node, true),
            Command::Release(node) => self.set_held(token, node, false),
            Command::Remove(node) => self.remove(now, token, node),
            Command::RecoverForce => Err(Refusal::Changing),
        }
    }

    fn hand_over(&mut self, now: Time, token: Token, to: NodeId) -> Result<(), Refusal> {
        let no = |why| Err(Refusal::Node { node: to, why });
        if !self.votes(to) || to == self.me.id {
            return no("is no backup: `skep flock` lists them");
        }
        if self.unwanted(to).is_some() {
            return no("may not be master: see `skep flock roster` for what keeps it");
        }
        if self.mastership.as_ref().is_some_and(|it| it.transfer.is_some()) {
            return Err(Refusal::Changing);
        }
        self.transfer(now, to, Some(token));
        Ok(())
    }

    fn promote(&mut self, now: Time, token: Token, node: NodeId) -> Result<(), Refusal> {
        let no = |why| Err(Refusal::Node { node, why });
        if self.votes(node) {
            return no("is a manager already");
        }
        if !self.group.as_ref().is_some_and(|group| self.is_fit(group, node)) {
            return no("is not on the roster, not well or held: see `skep flock roster`");
        }
        self.take_office_order(now, token, node, Office::Taken)
    }

    fn demote(&mut self, now: Time, token: Token, node: NodeId) -> Result<(), Refusal> {
        let no = |why| Err(Refusal::Node { node, why });
        if !self.votes(node) {
            return no("is no backup: `skep flock` lists them");
        }
        if !self.has_spare() {
            return no("has nobody to take its place: add an eligible node, or release one");
        }
        self.take_office_order(now, token, node, Office::Left)?;
        if let Some(mastership) = &mut self.mastership {
            mastership.demote.entry(node).or_insert(ORDERED);
        }
        Ok(())
    }

    fn take_office_order(
        &mut self,
        now: Time,
        token: Token,
        node: NodeId,
        office: Office,
    ) -> Result<(), Refusal> {
        let mastership = self.mastership.as_mut().ok_or(Refusal::Changing)?;
        if mastership.office.is_some() {
            return Err(Refusal::Changing);
        }
        let order = OfficeOrder { node, office, token, since: now, proposed: false };
        mastership.office = Some(order);
        Ok(())
    }

    fn votes(&self, node: NodeId) -> bool {
        self.group.as_ref().is_some_and(|group| group.voters().contains(&node))
    }

    /// Whether anybody could take a backup's place.
    fn has_spare(&self) -> bool {
        self.group.as_ref().is_some_and(|group| {
            let voters = group.voters();
            let places = group.meta.roster.iter().map(|place| place.node);
            let mut others = places.filter(|node| !voters.contains(node) && *node != self.me.id);
            others.any(|node| self.is_fit(group, node))
        })
    }

    fn set_held(&mut self, token: Token, node: NodeId, held: bool) -> Result<(), Refusal> {
        self.has_room()?;
        let group = self.group.as_ref().ok_or(Refusal::Changing)?;
        let place = group.newest_place(node);
        let place = place.ok_or(Refusal::Node { node, why: "is not on the roster" })?;
        let record = Record::Roster(Place { held, ..place });
        self.write_roster(&record).map(|index| self.wait_for(index, token))
    }

    fn remove(&mut self, now: Time, token: Token, node: NodeId) -> Result<(), Refusal> {
        let no = |why| Err(Refusal::Node { node, why });
        self.has_room()?;
        let group = self.group.as_ref().ok_or(Refusal::Changing)?;
        if group.raft_of(node).is_some() {
            return no("is a manager or learner: demote it first");
        }
        if group.newest_place(node).is_none() {
            return no("is not on the roster");
        }
        if !self.may_change_roster(now) {
            return no("stays until a majority of the roster is there: see `skep flock`");
        }
        // Nodes enter and leave one at a time.
        let proposed = self.mastership.as_ref().and_then(|it| it.roster_proposed);
        if proposed.is_some_and(|at| at > group.applied.0) {
            return Err(Refusal::Changing);
        }
        self.write_roster(&Record::RosterGone(node)).map(|index| self.wait_for(index, token))
    }

    fn has_room(&self) -> Result<(), Refusal> {
        let waiting = self.mastership.as_ref().map_or(0, |it| it.placings.len());
        if waiting >= MAX_PLACINGS { Err(Refusal::Busy { waiting }) } else { Ok(()) }
    }

    fn wait_for(&mut self, index: u64, token: Token) {
        if let Some(mastership) = &mut self.mastership {
            mastership.placings.push(Placing { index, token });
        }
    }

    /// Writes something of the roster down; what is seen of a node is not until that is decided.
    pub(crate) fn write_roster(&mut self, record: &Record) -> Result<u64, Refusal> {
        let (Some(group), Some(mastership)) = (&mut self.group, &mut self.mastership) else {
            return Err(Refusal::Changing);
        };
        let index = group.engine.propose(record).ok_or(Refusal::Changing)?;
        mastership.roster_proposed = Some(index);
        Ok(index)
    }

    /// Answers orders whose entries are as safe as an acknowledged write.
    pub(crate) fn finish_placings(&mut self, out: &mut Outbox<Output>) {
        if self.mastership.as_ref().is_none_or(|it| it.placings.is_empty()) {
            return;
        }
        let safe = self.safe_everywhere();
        let (Some(group), Some(mastership)) = (&self.group, &mut self.mastership) else {
            return;
        };
        let upto = safe.min(group.applied.0);
        mastership.placings.retain(|placing| {
            let waits = placing.index > upto;
            if !waits {
                out.push(Output::Done { token: placing.token });
            }
            waits
        });
    }

    /// Answers a promotion or demotion that is done by the change of voters that was just decided.
    pub(crate) fn finish_office(&mut self, out: &mut Outbox<Output>) {
        let (Some(group), Some(mastership)) = (&self.group, &mut self.mastership) else {
            return;
        };
        // Half-way both the old and the new voters decide.
        let over = group.conf.outgoing.is_empty();
        let voters = group.voters();
        let done = |order: &mut OfficeOrder| {
            over && voters.contains(&order.node) == (order.office == Office::Taken)
        };
        if let Some(order) = mastership.office.take_if(done) {
            out.push(Output::Done { token: order.token });
        }
    }

    /// Takes back and refuses a promotion or demotion that comes to nothing.
    pub(crate) fn watch_office(&mut self, now: Time, out: &mut Outbox<Output>) {
        let (Some(group), Some(mastership)) = (&self.group, &mut self.mastership) else {
            return;
        };
        let under_way = group.engine.changes_pending() || !group.conf.outgoing.is_empty();
        let late = |order: &mut OfficeOrder| now.since(order.since) >= OFFICE_PATIENCE;
        let Some(order) = mastership.office.take_if(|order| !under_way && late(order)) else {
            return;
        };
        let OfficeOrder { node, office, token, .. } = order;
        let why = match office {
            Office::Taken => {
                "did not catch up within 20 s, and is no backup: see `skep flock` there, and ask \
                 again"
            }
            Office::Left => {
                "stays a backup, for nobody was ready to take its place within 20 s: see `skep \
                 flock`, and ask again"
            }
        };
        if mastership.demote.get(&node) == Some(&ORDERED) {
            mastership.demote.remove(&node);
        }
        out.push(Output::Refused { token, why: Refusal::Node { node, why } });
    }

    /// A node does not want to be a learner.
    pub(crate) fn declined_came(
        &mut self,
        from: NodeId,
        lineage: Lineage,
        out: &mut Outbox<Output>,
    ) {
        let ours = self.group.as_ref().is_some_and(|group| group.meta.lineage == lineage);
        let promoted =
            |order: &mut OfficeOrder| order.node == from && order.office == Office::Taken;
        if let Some(mastership) = self.mastership.as_mut().filter(|_| ours)
            && let Some(OfficeOrder { node, token, .. }) = mastership.office.take_if(promoted)
        {
            let why = "declined: `skep flock` there says what it waits for";
            out.push(Output::Refused { token, why: Refusal::Node { node, why } });
        }
    }
}
