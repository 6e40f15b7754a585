//! The application's side: what an agent sends, cut into replies and pushed updates.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;
use core::str::FromStr;

use bytes::{Bytes, BytesMut};
use skep_base::GroupName;

use crate::id::Id;
use crate::reply::{Reply, code};

/// Longest line of a reply, its end included.
const MAX_REPLY_LINE_BYTES: usize = 4096;
/// Longest reply: the members of the largest group.
pub const MAX_REPLY_BYTES: usize = 4 * 1024 * 1024;

/// What an agent said next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The greeting, or the reply to the oldest command that has none yet.
    Reply(Reply),
    /// An update of a group that was subscribed to.
    Update(Update),
    /// One that is too long to be told whole: its body follows in parts.
    Long(Long),
    /// Some of its body.
    Part(Bytes),
    /// All of its body came.
    LongEnd,
    /// Updates did not come to this node, or were dropped before the subscriber had them.
    Gap(Gap),
    /// So much is gone from the log that nobody knows which updates it was (FLOOD-1).
    Lost {
        /// In which group.
        group: GroupName,
        /// How many places of the log; those of other groups among them count as well.
        lost: u64,
    },
    /// The subscriber has all that is in the log now.
    CaughtUp {
        /// In which group.
        group: GroupName,
        /// Where the log ended.
        cursor: u64,
    },
}

/// An update as a subscriber gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// To which group it was published.
    pub group: GroupName,
    /// What to acknowledge when it is dealt with; a place in this agent's log, and nobody else's.
    pub cursor: u64,
    /// The same on every node and at every hand-over.
    pub id: Id,
    /// Milliseconds since it was published.
    pub age_ms: u64,
    /// Whether a later one of the same origin was handed over before it.
    pub late: bool,
    /// What was published.
    pub body: Bytes,
}

/// An update as a subscriber gets it, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Long {
    /// To which group it was published.
    pub group: GroupName,
    /// What to acknowledge when it is dealt with.
    pub cursor: u64,
    /// The same on every node and at every hand-over.
    pub id: Id,
    /// Milliseconds since it was published.
    pub age_ms: u64,
    /// Whether a later one of the same origin was handed over before it.
    pub late: bool,
    /// The length of its body.
    pub size: u64,
}

/// Updates of one origin that a subscriber does not get; what to do about it is the application's
/// to say (FLOOD-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// In which group.
    pub group: GroupName,
    /// What to acknowledge when it is dealt with.
    pub cursor: u64,
    /// The last update before them; nothing where none was ever seen.
    pub after: Option<Id>,
    /// The last one that is missing.
    pub up_to: Id,
    /// Why, in words.
    pub why: String,
}

/// Bytes that no agent sends. There is no way back into step: connect again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no agent's client port: {what}")]
pub struct Malformed {
    /// What is wrong with it.
    pub what: &'static str,
}

/// Cuts an agent's bytes into what was [`Said`].
#[derive(Debug)]
pub struct ReplyDecoder {
    whole_max: u64,
    /// The lines of a reply whose last has not come.
    open: Option<Reply>,
    open_bytes: usize,
    /// An update whose body is coming in.
    body: Option<Coming>,
}

#[derive(Debug)]
enum Coming {
    /// To be told whole, and its length.
    Whole(Update, usize),
    /// In parts, of which so much is left.
    Parts(u64),
}

impl ReplyDecoder {
    /// A decoder that tells updates of at most `whole_max` bytes whole, and longer ones in parts:
    /// so much it may keep in memory.
    #[must_use]
    pub const fn new(whole_max: u64) -> Self {
        Self { whole_max, open: None, open_bytes: 0, body: None }
    }

    /// The next thing said, or nothing until more has come in.
    ///
    /// # Errors
    /// [`Malformed`], after which nothing can be read any more.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Said>, Malformed> {
        loop {
            if self.body.is_some() {
                return self.body(input);
            }
            let Some(line) = take_line(input)? else {
                return Ok(None);
            };
            let (number, last, text) = parts(&line)?;
            self.open_bytes += line.len();
            if self.open_bytes > MAX_REPLY_BYTES {
                return Err(wrong("a reply without end"));
            }
            if self.open.is_none() && last {
                match number {
                    code::UPDATE => {
                        self.open_bytes = 0;
                        match self.begun(text)? {
                            Some(long) => return Ok(Some(Said::Long(long))),
                            None => continue,
                        }
                    }
                    code::GAP | code::LOST | code::CAUGHT_UP => {
                        self.open_bytes = 0;
                        return pushed(number, text).map(Some);
                    }
                    _ => {}
                }
            }
            let reply = self.open.get_or_insert(Reply { code: number, lines: Vec::new() });
            if reply.code != number {
                return Err(wrong("a reply with two numbers"));
            }
            reply.lines.push(text.to_owned());
            if last && let Some(reply) = self.open.take() {
                self.open_bytes = 0;
                return Ok(Some(Said::Reply(reply)));
            }
        }
    }

    /// An update begins; gives what is told of a long one before its body.
    fn begun(&mut self, text: &str) -> Result<Option<Long>, Malformed> {
        let long = long(text)?;
        let whole = Some(long.size).filter(|size| *size <= self.whole_max);
        if let Some(size) = whole.and_then(|size| usize::try_from(size).ok()) {
            let Long { group, cursor, id, age_ms, late, .. } = long;
            let update = Update { group, cursor, id, age_ms, late, body: Bytes::new() };
            self.body = Some(Coming::Whole(update, size));
            return Ok(None);
        }
        self.body = Some(Coming::Parts(long.size));
        Ok(Some(long))
    }

    fn body(&mut self, input: &mut BytesMut) -> Result<Option<Said>, Malformed> {
        let said = match &mut self.body {
            Some(Coming::Parts(left)) if *left > 0 => {
                if input.is_empty() {
                    return Ok(None);
                }
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= taken as u64;
                return Ok(Some(Said::Part(input.split_to(taken).freeze())));
            }
            Some(Coming::Whole(_, length)) if input.len() < *length + 2 => return Ok(None),
            _ if input.len() < 2 => return Ok(None),
            Some(Coming::Whole(update, length)) => {
                let body = input.split_to(*length).freeze();
                Said::Update(Update { body, ..update.clone() })
            }
            Some(Coming::Parts(_)) | None => Said::LongEnd,
        };
        if *input.split_to(2) != *b"\r\n" {
            return Err(wrong("an update longer than it said"));
        }
        self.body = None;
        Ok(Some(said))
    }
}

/// Writes the line before an update's body of `size` bytes: `150 GROUP CURSOR ID AGE SIZE [late]`.
/// The body follows, and a line end.
///
/// # Errors
/// The writer's.
pub fn write_update_head(
    update: &Update,
    size: u64,
    out: &mut impl core::fmt::Write,
) -> core::fmt::Result {
    let Update { group, cursor, id, age_ms, late, .. } = update;
    let late = if *late { " late" } else { "" };
    write!(out, "{} {group} {cursor} {id} {age_ms} {size}{late}\r\n", code::UPDATE)
}

/// Writes the line of a gap: `151 GROUP CURSOR AFTER|- UP-TO WHY`.
///
/// # Errors
/// The writer's.
pub fn write_gap(gap: &Gap, out: &mut impl core::fmt::Write) -> core::fmt::Result {
    let Gap { group, cursor, after, up_to, why } = gap;
    write!(out, "{} {group} {cursor} ", code::GAP)?;
    match after {
        Some(after) => write!(out, "{after} {up_to} {why}\r\n"),
        None => write!(out, "- {up_to} {why}\r\n"),
    }
}

fn take_line(input: &mut BytesMut) -> Result<Option<String>, Malformed> {
    let Some(end) = input.iter().take(MAX_REPLY_LINE_BYTES).position(|byte| *byte == b'\n') else {
        if input.len() < MAX_REPLY_LINE_BYTES {
            return Ok(None);
        }
        return Err(wrong("a line without end"));
    };
    let line = input.split_to(end + 1);
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Ok(Some(String::from_utf8_lossy(line).into_owned()))
}

/// Number, whether the line is the last of its reply, text.
fn parts(line: &str) -> Result<(u16, bool, &str), Malformed> {
    let number = line.get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.and_then(|digits| digits.parse().ok());
    let number = number.ok_or_else(|| wrong("a line without a number"))?;
    match line.get(3..) {
        Some("") => Ok((number, true, "")),
        Some(rest) => match (rest.strip_prefix(' '), rest.strip_prefix('-')) {
            (Some(text), _) => Ok((number, true, text)),
            (None, Some(text)) => Ok((number, false, text)),
            (None, None) => Err(wrong("a number without its blank")),
        },
        None => Err(wrong("a number without its blank")),
    }
}

fn long(text: &str) -> Result<Long, Malformed> {
    let mut words = text.split(' ');
    let long = Long {
        group: word(&mut words)?,
        cursor: word(&mut words)?,
        id: word(&mut words)?,
        age_ms: word(&mut words)?,
        late: false,
        size: word(&mut words)?,
    };
    Ok(Long { late: words.any(|word| word == "late"), ..long })
}

fn pushed(number: u16, text: &str) -> Result<Said, Malformed> {
    let mut words = text.splitn(5, ' ');
    let group = word(&mut words)?;
    let value = word(&mut words)?;
    Ok(match number {
        code::GAP => Said::Gap(Gap {
            group,
            cursor: value,
            after: match words.next() {
                Some("-") => None,
                after => Some(word(&mut after.into_iter())?),
            },
            up_to: word(&mut words)?,
            why: words.next().unwrap_or_default().to_owned(),
        }),
        code::LOST => Said::Lost { group, lost: value },
        _ => Said::CaughtUp { group, cursor: value },
    })
}

fn word<'a, T: FromStr>(words: &mut impl Iterator<Item = &'a str>) -> Result<T, Malformed> {
    let word = words.next().and_then(|word| word.parse().ok());
    word.ok_or_else(|| wrong("a push that says something else"))
}

const fn wrong(what: &'static str) -> Malformed {
    Malformed { what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn said(wire: &[u8], portion: usize) -> Result<Vec<Said>, Malformed> {
        let (mut decoder, mut input) = (ReplyDecoder::new(1000), BytesMut::new());
        let mut found = Vec::new();
        for bytes in wire.chunks(portion) {
            input.extend_from_slice(bytes);
            while let Some(next) = decoder.next(&mut input)? {
                found.push(next);
            }
        }
        Ok(found)
    }

    fn sample() -> Update {
        Update {
            group: "web".parse().unwrap(),
            cursor: 94,
            id: "inferno:7:1042".parse().unwrap(),
            age_ms: 3,
            late: true,
            body: Bytes::from_static(b"250 no reply\r\n\0"),
        }
    }

    #[test]
    fn replies_and_pushes_come_in_any_portions() {
        let mut wire = Vec::new();
        Reply::new(code::READY, "ready").write(&mut wire);
        let mut head = String::new();
        write_update_head(&sample(), sample().body.len() as u64, &mut head).unwrap();
        wire.extend_from_slice(head.as_bytes());
        wire.extend_from_slice(&sample().body);
        wire.extend_from_slice(b"\r\n153 web 17 lost\r\n152 web 99 all\r\n");
        let gap = |after| Gap {
            group: "web".parse().unwrap(),
            cursor: 95,
            after,
            up_to: "inferno:7:9".parse().unwrap(),
            why: "they are over the purge age".to_owned(),
        };
        let mut line = String::new();
        write_gap(&gap(None), &mut line).unwrap();
        write_gap(&gap("inferno:7:1".parse().ok()), &mut line).unwrap();
        wire.extend_from_slice(line.as_bytes());
        let list = Reply::new(code::DONE, "2").before("a").before("b");
        list.write(&mut wire);
        let group = || "web".parse().unwrap();
        let expected = [
            Said::Reply(Reply::new(code::READY, "ready")),
            Said::Update(sample()),
            Said::Lost { group: group(), lost: 17 },
            Said::CaughtUp { group: group(), cursor: 99 },
            Said::Gap(gap(None)),
            Said::Gap(gap("inferno:7:1".parse().ok())),
            Said::Reply(list),
        ];
        for portion in [1, 2, 5, 1000] {
            assert_eq!(said(&wire, portion).unwrap(), expected, "{portion}");
        }
    }

    #[test]
    fn a_long_update_comes_in_parts_that_take_no_memory() {
        let body: Vec<u8> = (0..10_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let mut wire = b"150 web 7 inferno:7:1 3 10000 late\r\n".to_vec();
        wire.extend_from_slice(&body);
        wire.extend_from_slice(b"\r\n152 web 7 all\r\n");
        for portion in [1, 999, 20_000] {
            let mut said = said(&wire, portion).unwrap();
            let Said::Long(long) = said.remove(0) else { panic!("its head comes first") };
            assert_eq!((long.cursor, long.size, long.late), (7, 10_000, true));
            let group = "web".parse().unwrap();
            assert_eq!(said.pop(), Some(Said::CaughtUp { group, cursor: 7 }));
            assert_eq!(said.pop(), Some(Said::LongEnd));
            let mut parts = Vec::new();
            for part in said {
                let Said::Part(part) = part else { panic!("{part:?} between parts") };
                parts.extend_from_slice(&part);
            }
            assert_eq!(parts, body, "{portion}");
        }
    }

    #[test]
    fn what_no_agent_says_is_refused_within_bounds() {
        let wrong = |wire: &[u8]| said(wire, 100).unwrap_err().what;
        assert_eq!(wrong(b"HTTP/1.1 400 Bad Request\r\n"), "a line without a number");
        assert_eq!(wrong(b"250x\n"), "a number without its blank");
        assert_eq!(wrong(b"250-a\n251 b\n"), "a reply with two numbers");
        assert_eq!(wrong(&[b'1'; 5000]), "a line without end");
        assert_eq!(wrong(b"150 web 1 a:1:1 0 -1\n"), "a push that says something else");
        let long = [&b"150 web 1 a:1:1 0 1001\n"[..], &[b'x'; 1001], b"abcd"].concat();
        assert_eq!(wrong(&long), "an update longer than it said");
        assert_eq!(wrong(b"150 web 1 a:1:1 0 1\nabcd"), "an update longer than it said");
        assert_eq!(wrong(b"150 web\n"), "a push that says something else");
        let endless = format!("250-{}\r\n", "x".repeat(1000)).repeat(5000);
        assert_eq!(said(endless.as_bytes(), 9000).unwrap_err().what, "a reply without end");
        assert_eq!(said(b"250\r\n", 9).unwrap(), [Said::Reply(Reply::new(250, "".to_owned()))]);
    }
}
