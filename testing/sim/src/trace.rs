//! One line per event, in fixed columns, and a digest of all of them.
//!
//! ```text
//!      time  host  event       peer      number  note
//!  1.204311    17  frame         42     16/212
//! ```

use std::collections::VecDeque;
use std::fmt;

use skep_base::Time;

use crate::HostIx;

/// Lines kept for the report of a failure.
const KEPT: usize = 60;

/// One event. Numbers only, so that a run that nobody looks at formats nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) at: Time,
    pub(crate) host: Option<HostIx>,
    pub(crate) event: &'static str,
    /// A host, or a link.
    pub(crate) other: Option<u64>,
    pub(crate) numbers: (u64, u64),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>13}", self.at.to_string())?;
        match self.host {
            Some(host) => write!(f, " {:>5}", host.0)?,
            None => write!(f, "     -")?,
        }
        write!(f, "  {:<14}", self.event)?;
        match self.other {
            Some(other) => write!(f, " {other:>7}")?,
            None => write!(f, "       -")?,
        }
        write!(f, " {:>8} {:>8}", self.numbers.0, self.numbers.1)
    }
}

/// Who reads the trace, line by line.
pub type Sink = Box<dyn FnMut(&str)>;

/// Where lines go.
pub(crate) struct Trace {
    hash: [u64; 2],
    lines: u64,
    last: VecDeque<(Line, Option<String>)>,
    sink: Option<Sink>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace of {} lines", self.lines)
    }
}

impl Trace {
    pub(crate) fn new(sink: Option<Sink>) -> Self {
        Self {
            hash: [0x736b_6570, 0x7369_6d00],
            lines: 0,
            last: VecDeque::with_capacity(KEPT + 1),
            sink,
        }
    }

    /// Adds a line. The note is for readers: it is made only when somebody reads, and is no part of
    /// the digest.
    pub(crate) fn line(&mut self, line: Line, note: impl FnOnce() -> Option<String>) {
        self.lines += 1;
        self.mix(line.at.as_nanos());
        self.mix(line.host.map_or(u64::MAX, |host| u64::from(host.0)));
        self.mix(line.event.bytes().fold(0, |sum, byte| sum << 7 ^ sum >> 57 ^ u64::from(byte)));
        self.mix(line.other.unwrap_or(u64::MAX));
        self.mix(line.numbers.0);
        self.mix(line.numbers.1);
        let mut kept_note = None;
        if let Some(sink) = &mut self.sink {
            let note = note();
            sink(&format!("{line}  {}", note.as_deref().unwrap_or_default()));
            kept_note = note;
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((line, kept_note));
    }

    /// Which run this was: equal for equal runs.
    pub(crate) fn digest(&self) -> u128 {
        u128::from(self.hash[0]) << 64 | u128::from(self.hash[1])
    }

    pub(crate) const fn lines(&self) -> u64 {
        self.lines
    }

    /// The last lines, for the report of a failure.
    pub(crate) fn last(&self) -> Vec<String> {
        let shown = |(line, note): &(Line, Option<String>)| {
            format!("{line}  {}", note.as_deref().unwrap_or_default())
        };
        self.last.iter().map(shown).collect()
    }

    const fn mix(&mut self, value: u64) {
        let [a, b] = self.hash;
        let a = (a ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let b = (b.rotate_left(31) ^ value ^ a).wrapping_mul(0xd6e8_feb8_6659_fd93);
        self.hash = [a ^ (b >> 32), b];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(host: u32) -> Line {
        Line {
            at: Time::from_millis(1204),
            host: Some(HostIx(host)),
            event: "frame",
            other: Some(42),
            numbers: (16, 212),
        }
    }

    #[test]
    fn lines_have_fixed_columns() {
        let text = line(17).to_string();
        assert_eq!(text, "     1.204000    17  frame               42       16      212");
    }

    #[test]
    fn the_digest_depends_on_every_line_and_on_no_note() {
        let run = |hosts: &[u32], note: &str| {
            let mut trace = Trace::new(Some(Box::new(|_| {})));
            for host in hosts {
                trace.line(line(*host), || Some(note.to_owned()));
            }
            trace.digest()
        };
        assert_eq!(run(&[1, 2], "a"), run(&[1, 2], "b"));
        assert_ne!(run(&[1, 2], ""), run(&[2, 1], ""));
        assert_ne!(run(&[1], ""), run(&[1, 1], ""));
    }
}
