//! Which host's packets get to which.

use std::collections::BTreeSet;

use crate::HostIx;

/// Cuts in the network. Each cut is one way; what is cut both ways is two cuts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// The side each host stands on while the network is divided.
    sides: Vec<u8>,
    /// From which side no packet gets to which.
    cut_sides: BTreeSet<(u8, u8)>,
    /// From which host no packet gets to which.
    cut_pairs: BTreeSet<(HostIx, HostIx)>,
}

impl Reach {
    pub(crate) fn add_host(&mut self) {
        self.sides.push(0);
    }

    /// Whether packets from `from` get to `to`.
    pub(crate) fn is_open(&self, from: HostIx, to: HostIx) -> bool {
        if self.cut_sides.is_empty() && self.cut_pairs.is_empty() {
            return true;
        }
        let sides = (self.sides[from.index()], self.sides[to.index()]);
        !self.cut_sides.contains(&sides) && !self.cut_pairs.contains(&(from, to))
    }

    /// Divides the network: each host is on the side of the list it stands in, 0 for the others.
    /// No packet passes from one side to the other of a pair in `cuts`.
    pub(crate) fn divide(&mut self, lists: &[Vec<HostIx>], cuts: &[(u8, u8)]) {
        self.sides.fill(0);
        for (side, hosts) in (1..).zip(lists) {
            for host in hosts {
                self.sides[host.index()] = side;
            }
        }
        self.cut_sides = cuts.iter().copied().collect();
    }

    /// Lets no packet from `from` get to `to`.
    pub(crate) fn cut(&mut self, from: HostIx, to: HostIx) {
        self.cut_pairs.insert((from, to));
    }

    /// Takes all cuts back.
    pub(crate) fn heal(&mut self) {
        self.cut_sides.clear();
        self.cut_pairs.clear();
    }
}
