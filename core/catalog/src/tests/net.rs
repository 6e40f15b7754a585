//! Replicas on a line, joined by wires that lose what the test wants lost.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};

use super::{STAMP, command, write};
use crate::*;

pub(crate) fn id(at: usize) -> NodeId {
    NodeId::from_bytes([u8::try_from(at + 1).unwrap(); 16])
}

pub(crate) struct Net {
    pub(crate) now: Time,
    pub(crate) replicas: Vec<Replica>,
    /// Which messages get lost: asked for each, with its number.
    pub(crate) lose: fn(u64) -> bool,
    pub(crate) sent: u64,
    pub(crate) bytes: usize,
    pub(crate) rejected: Vec<alloc::string::String>,
    cut: BTreeSet<(usize, usize)>,
    queue: VecDeque<(usize, Input)>,
}

impl Net {
    /// `n` in a row, of which the first one is the master.
    pub(crate) fn new(n: usize) -> Self {
        let replica = |at| Replica::new(id(at), Config::default(), Catalog::new());
        let mut net = Self {
            now: Time::from_millis(1),
            replicas: (0..n).map(replica).collect(),
            lose: |_| false,
            sent: 0,
            bytes: 0,
            rejected: Vec::new(),
            cut: BTreeSet::new(),
            queue: VecDeque::new(),
        };
        net.lead(0, STAMP);
        net.link();
        net
    }

    pub(crate) fn lead(&mut self, at: usize, stamp: Stamp) {
        self.feed(at, Input::Place(Place::Master { lineage: 5, stamp }));
        let index = self.replicas[at].catalog().index() + 1;
        self.feed(
            at,
            Input::Committed {
                at: Dot { stamp, term: 1, index },
                origin: Origin::Own,
                command: None,
            },
        );
        self.settle();
    }

    /// Cuts the wire between a replica and the next one.
    pub(crate) fn cut(&mut self, at: usize) {
        self.cut.insert((at, at + 1));
        self.link();
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.link();
    }

    fn link(&mut self) {
        for at in 0..self.replicas.len() {
            let joined = |a: usize, b: usize| !self.cut.contains(&(a, b));
            let before = at.checked_sub(1).filter(|other| joined(*other, at));
            let after = Some(at + 1).filter(|b| *b < self.replicas.len() && joined(at, *b));
            let peers = before.into_iter().chain(after).map(id).collect();
            self.feed(at, Input::Neighbours(peers));
        }
        self.settle();
    }

    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) {
        let index = self.replicas[0].catalog().index() + 1;
        let stamp = self.replicas[0].catalog().stamp();
        let bytes = command(alloc::vec![write(name, Expect::Anything, value)]);
        self.feed(
            0,
            Input::Committed {
                at: Dot { stamp, term: 1, index },
                origin: Origin::Own,
                command: Some(bytes),
            },
        );
    }

    pub(crate) fn feed(&mut self, at: usize, input: Input) {
        let mut out = Outbox::new();
        self.replicas[at].handle(self.now, input, &mut out);
        self.carry(at, out);
    }

    fn carry(&mut self, at: usize, mut out: Outbox<Output>) {
        for output in out.drain() {
            match output {
                Output::Send { to, body } => self.sent_to(at, to, body),
                // A record: it reaches everybody.
                Output::Publish(head) => {
                    for to in (0..self.replicas.len()).filter(|to| *to != at) {
                        self.queue.push_back((to, Input::Head { owner: id(at), head }));
                    }
                }
                Output::Reject { reason, .. } => self.rejected.push(reason),
                Output::Changed { .. }
                | Output::Decided { .. }
                | Output::NotTaken { .. }
                | Output::Epoch(_) => {}
            }
        }
        self.replicas[at].check();
    }

    fn sent_to(&mut self, at: usize, to: NodeId, body: Bytes) {
        self.sent += 1;
        self.bytes += body.len();
        let to = (0..self.replicas.len()).find(|other| id(*other) == to).unwrap();
        if !(self.lose)(self.sent) && !self.cut.contains(&(at.min(to), at.max(to))) {
            self.queue.push_back((to, Input::Message { from: id(at), body }));
        }
    }

    /// Lets everything arrive, and what is due happen, until nothing is due any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..200_000 {
            if let Some((at, input)) = self.queue.pop_front() {
                self.feed(at, input);
                continue;
            }
            let due = self.replicas.iter().filter_map(|it| it.deadline()).map(|(at, _)| at).min();
            let Some(due) = due else { return };
            self.now = self.now.max(due) + Duration::from_millis(1);
            for at in 0..self.replicas.len() {
                let mut out = Outbox::new();
                self.replicas[at].tick(self.now, &mut out);
                self.carry(at, out);
            }
        }
        panic!("the replicas never come to rest");
    }

    /// How many different catalogs are shown.
    pub(crate) fn roots(&self) -> usize {
        let roots: BTreeMap<_, usize> =
            self.replicas.iter().map(|it| (it.catalog().root().0, 1)).collect();
        roots.len()
    }
}
