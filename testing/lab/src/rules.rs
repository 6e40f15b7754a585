//! What the network between the hosts does to their frames, as one value that is replaced whole:
//! a partition of a hundred hosts is one event and not five thousand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use skep_base::ByteSize;

/// The plug a host hangs on. Numbered from 1 in the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Port(pub(crate) u16);

/// One direction of one pair of hosts: from, to.
pub(crate) type Line = (Port, Port);

/// How one direction between two hosts behaves. The default is a perfect cable.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Path {
    /// How long every frame travels.
    pub delay: Duration,
    /// Up to how much longer it may travel. Frames do not overtake one another because of it.
    pub jitter: Duration,
    /// The share of frames, 0–1, that skip the delay and so overtake those before them.
    pub reorder: f64,
    /// The share of frames, 0–1, that are lost.
    pub loss: f64,
    /// Bytes a second, or no limit. What would have to queue for longer than
    /// [`Path::LONGEST_QUEUE`] is dropped, as a real port does.
    pub rate: Option<ByteSize>,
}

impl Path {
    /// The depth of a rate-limited path's queue, in time.
    pub const LONGEST_QUEUE: Duration = Duration::from_millis(200);

    /// A path that only takes time.
    #[must_use]
    pub fn delayed(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// A path that only loses frames, `loss` of them from 0 to 1.
    #[must_use]
    pub fn lossy(loss: f64) -> Self {
        Self { loss, ..Self::default() }
    }

    /// Whether a kernel bridge can do it: it can drop frames and nothing else.
    pub(crate) fn needs_a_switch(&self) -> bool {
        let Self { delay, jitter, reorder, loss: _, rate } = self;
        !delay.is_zero() || !jitter.is_zero() || *reorder > 0.0 || rate.is_some()
    }
}

/// Frames that did not arrive, by reason, since the lab was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Because the pair was cut.
    pub cut: u64,
    /// By chance.
    pub lost: u64,
    /// Because a queue was full.
    pub queue: u64,
}

/// The whole network.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rules {
    cut: BTreeSet<Line>,
    paths: BTreeMap<Line, Path>,
}

impl Rules {
    pub(crate) fn cut_one_way(&mut self, from: Port, to: Port) {
        self.cut.insert((from, to));
    }

    pub(crate) fn join(&mut self, a: Port, b: Port) {
        self.cut.remove(&(a, b));
        self.cut.remove(&(b, a));
    }

    pub(crate) fn join_all(&mut self) {
        self.cut.clear();
    }

    /// Cuts every pair of which the ends are in different groups, and joins every other pair.
    pub(crate) fn partition(&mut self, groups: &[Vec<Port>]) {
        self.cut.clear();
        for (at, group) in groups.iter().enumerate() {
            for other in &groups[at + 1..] {
                for &a in group {
                    for &b in other {
                        self.cut.extend([(a, b), (b, a)]);
                    }
                }
            }
        }
    }

    pub(crate) fn set_path(&mut self, from: Port, to: Port, path: Path) {
        if path == Path::default() {
            self.paths.remove(&(from, to));
        } else {
            self.paths.insert((from, to), path);
        }
    }

    pub(crate) fn is_cut(&self, line: Line) -> bool {
        self.cut.contains(&line)
    }

    pub(crate) fn path(&self, line: Line) -> Path {
        self.paths.get(&line).copied().unwrap_or_default()
    }

    pub(crate) fn cuts(&self) -> impl Iterator<Item = Line> {
        self.cut.iter().copied()
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = (Line, Path)> {
        self.paths.iter().map(|(line, path)| (*line, *path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_cuts_between_groups_and_nowhere_else() {
        let [a, b, c, d] = [1, 2, 3, 4].map(Port);
        let mut rules = Rules::default();
        rules.cut_one_way(a, b);
        rules.partition(&[vec![a, b], vec![c]]);
        let cuts: Vec<Line> = rules.cuts().collect();
        assert_eq!(cuts, [(a, c), (b, c), (c, a), (c, b)]);
        assert!(!rules.is_cut((d, a)), "a host in no group sees everyone");
        rules.join(a, c);
        assert_eq!(rules.cuts().count(), 2);
        rules.join_all();
        assert_eq!(rules, Rules::default());
    }

    #[test]
    fn a_perfect_path_is_no_rule() {
        let [a, b] = [1, 2].map(Port);
        let mut rules = Rules::default();
        rules.set_path(a, b, Path::lossy(0.5));
        assert_eq!(rules.paths().count(), 1);
        assert_eq!(rules.path((b, a)), Path::default());
        rules.set_path(a, b, Path::default());
        assert_eq!(rules, Rules::default());
    }
}
