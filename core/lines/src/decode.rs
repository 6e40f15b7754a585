//! The agent's side: what a client sends, cut into events.

use bytes::{Bytes, BytesMut};

use crate::command::{Command, CommandError};
use crate::text::{Piece, Unstuff};

/// Longest line of a command unless it is chosen otherwise, its end included: sixteen groups with
/// names of full length, and a key.
pub const LINE_BYTES: usize = 4096;

/// What a client said next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A command. After `data` and `binary` parts of the body follow, whatever is answered.
    Command(Command),
    /// A line that is none. The stream is in step; after [`CommandError::Publish`] parts of the
    /// body follow.
    Wrong(CommandError),
    /// Some of the body.
    Body(Bytes),
    /// All of the body came.
    BodyEnd,
    /// The stream cannot be understood any more: answer, and close the connection. Nothing comes
    /// after this.
    Lost(&'static str),
}

/// Cuts a client's bytes into [`Event`]s. The input is the caller's: a decoder takes events off its
/// front and leaves what is not complete, which is at most the longest line. So a caller that
/// stops reading while the input is longer than that is never stuck.
#[derive(Debug)]
pub struct Decoder {
    line_max: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Line,
    Text(Unstuff),
    Bytes { left: u64 },
    Lost,
}

impl State {
    const fn of_body(size: Option<u64>) -> Self {
        match size {
            Some(left) => Self::Bytes { left },
            None => Self::Text(Unstuff::new()),
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(LINE_BYTES)
    }
}

impl Decoder {
    /// At the start of a connection whose lines have at most `line_max` bytes.
    #[must_use]
    pub const fn new(line_max: usize) -> Self {
        Self { line_max, state: State::Line }
    }

    /// The next event, or nothing until more has come in.
    pub fn next(&mut self, input: &mut BytesMut) -> Option<Event> {
        match &mut self.state {
            State::Line => self.line(input),
            State::Text(text) => match text.next(input) {
                Piece::Text(text) => Some(Event::Body(text)),
                Piece::Wait => None,
                Piece::End => {
                    self.state = State::Line;
                    Some(Event::BodyEnd)
                }
            },
            State::Bytes { left: 0 } => {
                self.state = State::Line;
                Some(Event::BodyEnd)
            }
            State::Bytes { .. } if input.is_empty() => None,
            State::Bytes { left } => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= taken as u64;
                Some(Event::Body(input.split_to(taken).freeze()))
            }
            State::Lost => {
                input.clear();
                None
            }
        }
    }

    /// Whether a body is coming in.
    #[must_use]
    pub const fn in_body(&self) -> bool {
        matches!(self.state, State::Text(_) | State::Bytes { .. })
    }

    fn line(&mut self, input: &mut BytesMut) -> Option<Event> {
        let mut seen = input.iter().take(self.line_max);
        let Some(end) = seen.position(|byte| *byte == b'\n') else {
            if input.len() < self.line_max {
                return None;
            }
            self.state = State::Lost;
            input.clear();
            return Some(Event::Lost("the line is too long"));
        };
        let line = input.split_to(end + 1);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let command = match Command::parse(line) {
            Ok(command) => command,
            Err(CommandError::Size(_)) => {
                self.state = State::Lost;
                return Some(Event::Lost("binary wants a number of bytes: digits, and no sign"));
            }
            Err(error) => {
                if let CommandError::Publish { size, .. } = &error {
                    self.state = State::of_body(*size);
                }
                return Some(Event::Wrong(error));
            }
        };
        if let Command::Data(_) = &command {
            self.state = State::of_body(None);
        }
        if let Command::Binary { size, .. } = &command {
            self.state = State::of_body(Some(*size));
        }
        Some(Event::Command(command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned as _;
    use alloc::vec::Vec;

    fn events(wire: &[u8], portion: usize) -> Vec<Event> {
        let (mut decoder, mut input, mut found) = (Decoder::default(), BytesMut::new(), Vec::new());
        for bytes in wire.chunks(portion) {
            input.extend_from_slice(bytes);
            while let Some(event) = decoder.next(&mut input) {
                // Portions of a body are joined: how they came is nobody's business.
                match (found.last_mut(), event) {
                    (Some(Event::Body(so_far)), Event::Body(more)) => {
                        *so_far = [&so_far[..], &more[..]].concat().into();
                    }
                    (_, event) => found.push(event),
                }
            }
        }
        assert!(input.len() < LINE_BYTES, "what is left is bounded");
        found
    }

    fn command(line: &str) -> Event {
        Event::Command(Command::parse(line.as_bytes()).unwrap())
    }

    fn body(text: &str) -> Event {
        Event::Body(text.to_owned().into())
    }

    #[test]
    fn commands_and_bodies_come_in_any_portions() {
        let wire =
            b"groups\r\ndata web\na\n..b\n.\nbinary 5 web\r\n.\n\0\r\nnoop\nbinary 0\nquit\n";
        let expected = [
            command("groups"),
            command("data web"),
            body("a\n.b\n"),
            Event::BodyEnd,
            command("binary 5 web"),
            body(".\n\0\r\n"),
            Event::BodyEnd,
            command("noop"),
            command("binary 0"),
            Event::BodyEnd,
            command("quit"),
        ];
        for portion in [1, 2, 3, 7, 1000] {
            assert_eq!(events(wire, portion), expected, "{portion}");
        }
    }

    #[test]
    fn a_wrong_line_is_told_and_the_next_is_read() {
        let found = events(b"what\n\nnoop\n", 100);
        assert!(matches!(found[0], Event::Wrong(CommandError::Unknown(_))));
        assert!(matches!(found[1], Event::Wrong(_)));
        assert_eq!(found[2], command("noop"));
    }

    #[test]
    fn the_body_of_a_wrong_publish_is_no_command() {
        let found = events(b"data a/b\nexit\n.\nbinary 5 a/b\nexit\nnoop\n", 100);
        let expected = [body("exit\n"), Event::BodyEnd];
        assert!(matches!(found[0], Event::Wrong(CommandError::Publish { size: None, .. })));
        assert_eq!(found[1..3], expected);
        assert!(matches!(found[3], Event::Wrong(CommandError::Publish { size: Some(5), .. })));
        assert_eq!(found[4..6], expected);
        assert_eq!(found[6], command("noop"));
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        for portion in [1, 1000, 10_000] {
            let found = events(&[b'a'; 10_000][..LINE_BYTES], portion);
            assert!(matches!(found[..], [Event::Lost(_)]), "{portion}");
        }
        let longest = [&[b' '; LINE_BYTES - 5][..], b"noop\n"].concat();
        assert_eq!(events(&longest, 1000), [command("noop")]);
    }

    #[test]
    fn after_a_size_that_is_none_nothing_is_believed() {
        for line in ["binary -1\nexit\n", "binary\nexit\n", "binary 1x\nexit\n"] {
            assert!(matches!(events(line.as_bytes(), 100)[..], [Event::Lost(_)]), "{line}");
        }
    }

    #[test]
    fn a_body_that_stops_has_no_end() {
        let found = events(b"binary 10\nhello", 100);
        assert_eq!(found, [command("binary 10"), body("hello")]);
        let found = events(b"data\nhello\n.", 100);
        assert_eq!(found, [command("data"), body("hello\n")]);
    }
}
