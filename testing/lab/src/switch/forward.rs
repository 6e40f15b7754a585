//! What happens to a frame between two ports, and when it comes out: without a clock, a device or
//! a thread, so that delay, order, loss and rate are tested as arithmetic.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use skep_base::{Rng, Time};

use crate::rules::{Dropped, Line, Path, Port, Rules};

/// Frames that one direction of one pair may have under way: about 24 MB of full frames, which is
/// 100 ms of a gigabit and a half. Beyond it the line is full.
const MAX_UNDER_WAY: usize = 16_384;

/// Frames under way, and the state of every line that was used.
#[derive(Debug)]
pub(crate) struct Forwarder {
    rules: Rules,
    rng: Rng,
    lines: BTreeMap<Line, LineState>,
    under_way: BinaryHeap<Reverse<Due>>,
    accepted: u64,
    dropped: Dropped,
}

#[derive(Debug, Default)]
struct LineState {
    /// When the sending port will have sent what it holds.
    busy_until: Time,
    /// When the last frame that kept its place comes out.
    last_due: Time,
    under_way: usize,
}

/// A frame that comes out at `at`; frames of one time come out in the order they went in.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Time,
    order: u64,
    line: Line,
    frame: Arc<[u8]>,
}

impl Forwarder {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            rules: Rules::default(),
            rng,
            lines: BTreeMap::new(),
            under_way: BinaryHeap::new(),
            accepted: 0,
            dropped: Dropped::default(),
        }
    }

    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    pub(crate) fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Counts a frame that its receiver had no room for.
    pub(crate) fn count_full_receiver(&mut self) {
        self.dropped.queue += 1;
    }

    /// Takes a frame that came out of `from` at `now`, on its way to `to`.
    pub(crate) fn accept(&mut self, now: Time, line: Line, frame: Arc<[u8]>) {
        if self.rules.is_cut(line) {
            self.dropped.cut += 1;
            return;
        }
        let path = self.rules.path(line);
        if self.rng.chance(path.loss) {
            self.dropped.lost += 1;
            return;
        }
        let state = self.lines.entry(line).or_default();
        if state.under_way >= MAX_UNDER_WAY {
            self.dropped.queue += 1;
            return;
        }
        let Some(sent) = send(state, now, &path, frame.len()) else {
            self.dropped.queue += 1;
            return;
        };
        let at = if self.rng.chance(path.reorder) {
            sent
        } else {
            let travel = path.delay + path.jitter.mul_f64(self.rng.unit());
            state.last_due = state.last_due.max(sent + travel);
            state.last_due
        };
        state.under_way += 1;
        self.accepted += 1;
        self.under_way.push(Reverse(Due { at, order: self.accepted, line, frame }));
    }

    /// When the next frame comes out.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.under_way.peek().map(|Reverse(due)| due.at)
    }

    /// A frame whose time has come, and where it comes out. A cut also takes what was under way
    /// when it fell.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<(Port, Arc<[u8]>)> {
        while self.next_due().is_some_and(|at| at <= now) {
            let Reverse(due) = self.under_way.pop()?;
            if let Some(state) = self.lines.get_mut(&due.line) {
                state.under_way -= 1;
            }
            if self.rules.is_cut(due.line) {
                self.dropped.cut += 1;
                continue;
            }
            return Some((due.line.1, due.frame));
        }
        None
    }
}

/// When the last byte has left the sending port; nothing when its queue is full.
fn send(state: &mut LineState, now: Time, path: &Path, bytes: usize) -> Option<Time> {
    let Some(rate) = path.rate else {
        return Some(now);
    };
    let start = state.busy_until.max(now);
    if start.since(now) > Path::LONGEST_QUEUE {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "frame sizes and rates are far below 2⁵²")]
    let seconds = bytes as f64 / (rate.0.max(1)) as f64;
    state.busy_until = start + Duration::from_secs_f64(seconds);
    Some(state.busy_until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::ByteSize;

    const A: Port = Port(1);
    const B: Port = Port(2);

    fn forwarder(path: Path) -> Forwarder {
        let mut rules = Rules::default();
        rules.set_path(A, B, path);
        let mut forwarder = Forwarder::new(Rng::seeded(7));
        forwarder.set_rules(rules);
        forwarder
    }

    /// Sends numbered frames, one a millisecond, and returns (number, time in ms) as they come out.
    fn send_numbered(forwarder: &mut Forwarder, count: u32, bytes: usize) -> Vec<(u32, u64)> {
        let mut out = Vec::new();
        let mut now = Time::ZERO;
        for number in 0..count {
            let mut frame = number.to_be_bytes().to_vec();
            frame.resize(bytes, 0);
            forwarder.accept(now, (A, B), frame.into());
            now = now + Duration::from_millis(1);
        }
        while let Some(at) = forwarder.next_due() {
            while let Some((_, frame)) = forwarder.pop_due(at) {
                let number = u32::from_be_bytes(frame[..4].try_into().unwrap());
                out.push((number, at.as_nanos() / 1_000_000));
            }
        }
        out
    }

    #[test]
    fn delay_is_exact_and_jitter_keeps_the_order() {
        let delay = Duration::from_millis(10);
        let out = send_numbered(&mut forwarder(Path::delayed(delay)), 5, 64);
        assert_eq!(out, [(0, 10), (1, 11), (2, 12), (3, 13), (4, 14)]);
        let path = Path { delay, jitter: Duration::from_millis(20), ..Path::default() };
        let out = send_numbered(&mut forwarder(path), 500, 64);
        assert!(out.iter().map(|(number, _)| *number).eq(0..500), "jitter kept the order");
        let spread: Vec<u64> = out.iter().map(|(number, at)| at - u64::from(*number)).collect();
        assert!(spread.iter().all(|ms| (10..=30).contains(ms)));
        assert!(
            spread.iter().min() < spread.iter().max(),
            "some frames really were later than others"
        );
    }

    #[test]
    fn reordering_lets_frames_overtake() {
        let path = Path { delay: Duration::from_millis(10), reorder: 0.25, ..Path::default() };
        let out = send_numbered(&mut forwarder(path), 400, 64);
        let overtakes = out.windows(2).filter(|pair| pair[0].0 > pair[1].0).count();
        assert_eq!(out.len(), 400);
        assert!((40..=160).contains(&overtakes), "{overtakes} of 400");
    }

    #[test]
    fn losses_are_counted_and_near_what_was_asked() {
        let mut forwarder = forwarder(Path::lossy(0.2));
        let out = send_numbered(&mut forwarder, 10_000, 64);
        let lost = usize::try_from(forwarder.dropped().lost).unwrap();
        assert_eq!(out.len() + lost, 10_000);
        assert!((1_800..=2_200).contains(&lost), "{lost} of 10000");
    }

    #[test]
    fn a_rate_spreads_frames_out_and_a_full_queue_drops() {
        // 1000 bytes at 100 kB/s: 10 ms each, though one comes in every millisecond.
        let path = Path { rate: Some(ByteSize(100_000)), ..Path::default() };
        let mut forwarder = forwarder(path);
        let out = send_numbered(&mut forwarder, 100, 1000);
        assert_eq!(out[..3], [(0, 10), (1, 20), (2, 30)]);
        let queued = usize::try_from(forwarder.dropped().queue).unwrap();
        assert!(queued > 0);
        assert_eq!(out.len() + queued, 100);
    }

    #[test]
    fn a_cut_takes_what_is_under_way_in_its_direction_only() {
        let mut forwarder = forwarder(Path::delayed(Duration::from_millis(10)));
        forwarder.accept(Time::ZERO, (A, B), vec![1].into());
        forwarder.accept(Time::ZERO, (B, A), vec![2].into());
        let mut rules = Rules::default();
        rules.cut_one_way(A, B);
        forwarder.set_rules(rules);
        forwarder.accept(Time::ZERO, (A, B), vec![3].into());
        let end = Time::from_millis(1000);
        let (to, frame) = forwarder.pop_due(end).unwrap();
        assert_eq!((to, frame.as_ref()), (A, [2].as_slice()));
        assert_eq!(forwarder.pop_due(end), None);
        assert_eq!(forwarder.dropped().cut, 2);
    }
}
