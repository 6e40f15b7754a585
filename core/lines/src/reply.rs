//! Numbered replies in the manner of SMTP: `250-more follows`, `250 the last line`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

/// The numbers. The first digit says what to do: 1 pushed between replies, 2 done, 3 go on, 4 not
/// now, try again, 5 never as it stands.
pub mod code {
    /// Pushed: an update, its bytes follow.
    pub const UPDATE: u16 = 150;
    /// Pushed: updates did not come to this node, or were dropped before the subscriber had them.
    pub const GAP: u16 = 151;
    /// Pushed: the subscriber has all that is in the log now.
    pub const CAUGHT_UP: u16 = 152;
    /// Pushed: so much is gone from the log that nobody knows which updates it was.
    pub const LOST: u16 = 153;
    /// The help.
    pub const HELP: u16 = 214;
    /// The greeting.
    pub const READY: u16 = 220;
    /// The connection is closed as the client wished.
    pub const CLOSING: u16 = 221;
    /// Done.
    pub const DONE: u16 = 250;
    /// The channel is open: what follows are its bytes.
    pub const OPEN: u16 = 255;
    /// Send the text.
    pub const SEND: u16 = 354;
    /// The agent closes the connection: it stops, is full, or the client was idle.
    pub const GOING: u16 = 421;
    /// Not now: the node does not know yet which of its lives this is.
    pub const NOT_YET: u16 = 450;
    /// The node that serves the channel cannot be reached now.
    pub const UNREACHABLE: u16 = 454;
    /// The disk failed. The update may have been flooded already, and is not promised.
    pub const FAILED: u16 = 451;
    /// Too much at once.
    pub const BUSY: u16 = 452;
    /// No such command.
    pub const UNKNOWN: u16 = 500;
    /// An argument is missing, wrong, or too much.
    pub const ARGUMENT: u16 = 501;
    /// Not in this order, or not twice.
    pub const SEQUENCE: u16 = 503;
    /// No such group, subscriber or key.
    pub const NOT_FOUND: u16 = 550;
    /// The body is too long.
    pub const TOO_LARGE: u16 = 552;
    /// This client may not.
    pub const DENIED: u16 = 553;
    /// The publisher has published so much since that nobody knows whether this key was logged.
    pub const FORGOTTEN: u16 = 554;
    /// It has come through that group's export command already (FLOOD-42).
    pub const LOOP: u16 = 555;
}

/// Longest line of a reply, without number and end: what is longer is cut.
const MAX_TEXT_BYTES: usize = 1000;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// One of [`code`], or something newer.
    pub code: u16,
    /// At least one line.
    pub lines: Vec<String>,
}

impl Reply {
    /// A reply of one line.
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self { code, lines: Vec::from([text.into()]) }
    }

    /// With a line before the last.
    #[must_use]
    pub fn before(mut self, text: impl Into<String>) -> Self {
        let last = self.lines.len().saturating_sub(1);
        self.lines.insert(last, text.into());
        self
    }

    /// The last line: a summary, or all there is.
    #[must_use]
    pub fn text(&self) -> &str {
        self.lines.last().map_or("", String::as_str)
    }

    /// Whether it was done.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether the same may succeed later.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        self.code / 100 == 4
    }

    /// Appends it to `out`. What would break a line or a terminal is replaced.
    pub fn write(&self, out: &mut impl Extend<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (at, line) in self.lines.iter().enumerate() {
            let mut head = Head::default();
            let separator = if at == last { ' ' } else { '-' };
            if write!(head, "{}{separator}", self.code.min(999)).is_ok() {
                out.extend(head.bytes.into_iter().take(head.length));
            }
            let shown = line.bytes().take(MAX_TEXT_BYTES);
            out.extend(shown.map(|byte| if byte < b' ' || byte == 0x7f { b'?' } else { byte }));
            out.extend(*b"\r\n");
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text())
    }
}

/// A number and what follows it, without an allocation: replies are many.
#[derive(Default)]
struct Head {
    bytes: [u8; 8],
    length: usize,
}

impl fmt::Write for Head {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let room = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn written(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_last_line_is_told_by_its_blank() {
        let reply = Reply::new(code::DONE, "2 groups").before("group all").before("group web");
        assert_eq!(written(&reply), "250-group all\r\n250-group web\r\n250 2 groups\r\n");
        assert_eq!(reply.text(), "2 groups");
    }

    #[test]
    fn nobody_breaks_out_of_a_line() {
        let reply = Reply::new(code::DONE, "a\r\n250 fake\x1b[2J\0");
        assert_eq!(written(&reply), "250 a??250 fake?[2J?\r\n");
        let long = Reply::new(code::DONE, "x".repeat(5000));
        assert_eq!(written(&long), format!("250 {}\r\n", "x".repeat(1000)));
    }
}
