//! The text after `data`: lines up to one that holds a single dot, with the dots of other lines
//! doubled (RFC 5321, section 4.5.2).
//!
//! What is flooded are the bytes of the lines *as they came*, line ends included: updates are
//! opaque (FLOOD-3), so CR LF stays CR LF. A line begins after LF, whatever stands before it. The
//! line of one dot may end in LF or CR LF and is no part of the text.

use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

/// Takes the dots out and finds the end. Keeps nothing: it is handed what came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unstuff {
    at_line_start: bool,
}

/// What was found next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Some of the text.
    Text(Bytes),
    /// Its end.
    End,
    /// More must come in first.
    Wait,
}

impl Unstuff {
    pub(crate) const fn new() -> Self {
        Self { at_line_start: true }
    }

    /// Takes the next piece off the front of `input`.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Piece {
        if self.at_line_start && input.first() == Some(&b'.') {
            match **input {
                [_, b'\n', ..] => return end(input, 2),
                [_, b'\r', b'\n', ..] => return end(input, 3),
                [_] | [_, b'\r'] => return Piece::Wait,
                // A line that began with a dot: one of two is dropped.
                _ => {
                    drop(input.split_to(1));
                    self.at_line_start = false;
                }
            }
        }
        // Whole lines at once, up to one that begins with a dot.
        let mut taken = 0;
        while let Some(rest) = input.get(taken..).filter(|rest| !rest.is_empty()) {
            if self.at_line_start && rest.first() == Some(&b'.') {
                break;
            }
            match rest.iter().position(|byte| *byte == b'\n') {
                Some(at) => {
                    taken += at + 1;
                    self.at_line_start = true;
                }
                None => {
                    taken += rest.len();
                    self.at_line_start = false;
                }
            }
        }
        if taken == 0 { Piece::Wait } else { Piece::Text(input.split_to(taken).freeze()) }
    }
}

fn end(input: &mut BytesMut, bytes: usize) -> Piece {
    drop(input.split_to(bytes));
    Piece::End
}

/// Writes `body` as the lines that follow `data`, the end included. A body that does not end with
/// a line end gets one, which becomes part of the update: `binary` leaves a body as it is.
pub fn stuff(body: &[u8], out: &mut Vec<u8>) {
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if body.last().is_some_and(|last| *last != b'\n') {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    /// The text and what is left behind it, however the input is cut.
    fn unstuff(input: &[u8], cuts: &[usize]) -> Option<(Vec<u8>, Vec<u8>)> {
        let (mut machine, mut buffer, mut text) = (Unstuff::new(), BytesMut::new(), Vec::new());
        let mut rest = input;
        let mut cuts = cuts.iter().copied().chain(core::iter::repeat(usize::MAX));
        loop {
            match machine.next(&mut buffer) {
                Piece::Text(piece) => text.extend_from_slice(&piece),
                Piece::End => return Some((text, [&buffer[..], rest].concat())),
                Piece::Wait if rest.is_empty() => return None,
                Piece::Wait => {
                    let cut = cuts.next().map_or(rest.len(), |cut| cut.clamp(1, rest.len()));
                    let (more, later) = rest.split_at(cut);
                    buffer.extend_from_slice(more);
                    rest = later;
                }
            }
        }
    }

    #[track_caller]
    fn assert_text(input: &[u8], expected: &[u8]) {
        for cuts in [vec![], vec![1; 64], vec![2; 64], vec![3; 64]] {
            let found = unstuff(&[input, b"quit\r\n"].concat(), &cuts);
            assert_eq!(found, Some((expected.to_vec(), b"quit\r\n".to_vec())), "{cuts:?}");
        }
    }

    #[test]
    fn the_text_ends_with_a_line_of_one_dot() {
        assert_text(b".\n", b"");
        assert_text(b".\r\n", b"");
        assert_text(b"a\n.\n", b"a\n");
        assert_text(b"a\r\n.\r\n", b"a\r\n");
        assert_text(b"\n\n.\n", b"\n\n");
    }

    #[test]
    fn one_dot_of_two_is_dropped() {
        assert_text(b"..\n.\n", b".\n");
        assert_text(b"...a\n.b\n.\n", b"..a\nb\n");
        assert_text(b"a.\n.\n", b"a.\n");
        assert_text(b".\rx\n.\n", b"\rx\n");
    }

    #[test]
    fn bytes_that_are_no_text_stay() {
        assert_text(b"\0\xff\r\r\n.\n", b"\0\xff\r\r\n");
    }

    #[test]
    fn without_its_end_there_is_none() {
        for open in [&b""[..], b".", b".\r", b"a\n.", b"a.\n", b"a", b"..\n"] {
            assert_eq!(unstuff(open, &[]), None, "{open:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_stuffed_comes_out_as_it_was(
            body in proptest::collection::vec(prop_oneof![
                Just(b'.'), Just(b'\r'), Just(b'\n'), any::<u8>()
            ], 0..200),
            cuts in proptest::collection::vec(1_usize..8, 0..64),
        ) {
            let mut wire = Vec::new();
            stuff(&body, &mut wire);
            wire.extend_from_slice(b"noop\n");
            let (text, rest) = unstuff(&wire, &cuts).unwrap();
            let mut expected = body.clone();
            if body.last().is_some_and(|last| *last != b'\n') {
                expected.extend_from_slice(b"\r\n");
            }
            prop_assert_eq!(text, expected);
            prop_assert_eq!(rest, b"noop\n");
        }
    }
}
