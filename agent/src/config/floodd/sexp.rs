//! A reader of s-expressions that knows where everything stands.
//!
//! ```text
//! file  = { value }
//! value = atom | string | "(" { value } ")"
//! ```
//!
//! An *atom* is a run of characters other than white space, parentheses, `"` and `;`. A *string*
//! is between `"` and may go over several lines; `\"`, `\\`, `\n`, `\r` and `\t` stand for what
//! they do in C. A comment begins with `;` anywhere outside a string, or with `#` where a value
//! could begin, and goes to the end of its line: `a#b` is an atom.
//!
//! Whatever comes in, reading takes memory in proportion to the file and never recurses: depth,
//! values and the length of each are bounded.

use std::fmt;

/// Lists within lists: the format has three levels.
pub const MAX_DEPTH: usize = 16;
/// Atoms, strings and lists in one file: some tens of thousands of sites.
pub const MAX_VALUES: usize = 1 << 18;
/// Bytes of one atom or string: the longest command that the configuration takes.
pub const MAX_VALUE_BYTES: usize = 16 * 1024;

/// Line and column, from one; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One value and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its first character: a list's parenthesis, a string's quote.
    pub at: Place,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A word or a number.
    Atom(String),
    /// A text in quotes, without them.
    Text(String),
    /// A list.
    List(Vec<Value>),
}

/// Why a text cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {fault}")]
pub struct Unreadable {
    /// Where.
    pub at: Place,
    /// Why.
    pub fault: Fault,
}

/// Why a text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// `(` without its `)`.
    #[error("this list is never closed: expected \")\" before the end of the file")]
    Open,
    /// `)` without its `(`.
    #[error("this \")\" closes nothing: there are more \")\" than \"(\" before it")]
    Closed,
    /// `"` without its end.
    #[error("this text is never closed: expected \"\\\"\" before the end of the file")]
    OpenText,
    /// A backslash before something that it says nothing about.
    #[error("unknown escape: expected one of \\\" \\\\ \\n \\r \\t")]
    Escape,
    /// A character that nobody can see.
    #[error("a control character: expected text")]
    Control,
    /// Bytes that are no text.
    #[error("bytes that are not UTF-8: expected text")]
    NotText,
    /// Over [`MAX_DEPTH`].
    #[error("more than {MAX_DEPTH} lists within one another")]
    Deep,
    /// Over [`MAX_VALUES`].
    #[error("more than {MAX_VALUES} values in one file")]
    Many,
    /// Over [`MAX_VALUE_BYTES`].
    #[error("longer than {MAX_VALUE_BYTES} bytes")]
    Long,
}

/// Reads all values of `text`. Replacement characters (U+FFFD), which stand for bytes that were no
/// text, are refused outside comments.
///
/// # Errors
/// The first fault and its place.
pub fn read(text: &str) -> Result<Vec<Value>, Unreadable> {
    let mut reader = Reader { rest: text.chars().peekable(), at: Place { line: 1, column: 1 } };
    // The innermost list last; the file itself first.
    let mut open: Vec<(Place, Vec<Value>)> = Vec::new();
    let mut whole = Vec::new();
    let mut count = 0;
    while let Some(next) = reader.skip_to_value() {
        let at = reader.at;
        if next != ')' {
            count += 1;
        }
        if count > MAX_VALUES {
            return Err(Unreadable { at, fault: Fault::Many });
        }
        let kind = match next {
            '(' => {
                if open.len() == MAX_DEPTH {
                    return Err(Unreadable { at, fault: Fault::Deep });
                }
                reader.step();
                open.push((at, Vec::new()));
                continue;
            }
            ')' => {
                let (at, values) = open.pop().ok_or(Unreadable { at, fault: Fault::Closed })?;
                reader.step();
                let parent = open.last_mut().map_or(&mut whole, |(_, values)| values);
                parent.push(Value { at, kind: Kind::List(values) });
                continue;
            }
            '"' => Kind::Text(reader.string()?),
            _ => Kind::Atom(reader.atom()?),
        };
        open.last_mut().map_or(&mut whole, |(_, values)| values).push(Value { at, kind });
    }
    match open.pop() {
        Some((at, _)) => Err(Unreadable { at, fault: Fault::Open }),
        None => Ok(whole),
    }
}

struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    at: Place,
}

impl Reader<'_> {
    /// The first character of the next value, or a closing parenthesis; comments are over.
    fn skip_to_value(&mut self) -> Option<char> {
        while let Some(next) = self.rest.peek().copied() {
            match next {
                '#' | ';' => while self.step().is_some_and(|c| c != '\n') {},
                _ if next.is_whitespace() => {
                    self.step();
                }
                _ => return Some(next),
            }
        }
        None
    }

    fn step(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        if next == '\n' {
            self.at = Place { line: self.at.line.saturating_add(1), column: 1 };
        } else {
            self.at.column = self.at.column.saturating_add(1);
        }
        Some(next)
    }

    const fn fault(&self, fault: Fault) -> Unreadable {
        Unreadable { at: self.at, fault }
    }

    /// Adds a character to a value that begins at `from`.
    fn add(&self, to: &mut String, c: char, from: Place) -> Result<(), Unreadable> {
        if c == char::REPLACEMENT_CHARACTER {
            return Err(self.fault(Fault::NotText));
        }
        if to.len() + c.len_utf8() > MAX_VALUE_BYTES {
            return Err(Unreadable { at: from, fault: Fault::Long });
        }
        to.push(c);
        Ok(())
    }

    fn atom(&mut self) -> Result<String, Unreadable> {
        let from = self.at;
        let mut atom = String::new();
        while let Some(next) = self.rest.peek().copied() {
            if next.is_whitespace() || matches!(next, '(' | ')' | '"' | ';') {
                break;
            }
            if next.is_control() {
                return Err(self.fault(Fault::Control));
            }
            self.add(&mut atom, next, from)?;
            self.step();
        }
        Ok(atom)
    }

    fn string(&mut self) -> Result<String, Unreadable> {
        let from = self.at;
        let mut text = String::new();
        self.step();
        loop {
            let Some(next) = self.rest.peek().copied() else {
                return Err(Unreadable { at: from, fault: Fault::OpenText });
            };
            let meant = match next {
                '"' => {
                    self.step();
                    return Ok(text);
                }
                '\\' => self.escaped(from)?,
                '\n' | '\r' | '\t' => next,
                _ if next.is_control() => return Err(self.fault(Fault::Control)),
                _ => next,
            };
            self.add(&mut text, meant, from)?;
            self.step();
        }
    }

    /// What a backslash and the character after it mean; stands at the latter then.
    fn escaped(&mut self, text: Place) -> Result<char, Unreadable> {
        let at = self.at;
        self.step();
        match self.rest.peek() {
            Some(c @ ('"' | '\\')) => Ok(*c),
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some(_) => Err(Unreadable { at, fault: Fault::Escape }),
            None => Err(Unreadable { at: text, fault: Fault::OpenText }),
        }
    }
}

/// Values as a text that reads back as them: atoms as they are, texts in quotes.
#[must_use]
pub fn write(values: &[Value]) -> String {
    let mut text = String::new();
    // What is still to be said, the next last: a value, or the end of a list.
    let mut rest: Vec<Option<&Value>> = values.iter().rev().map(Some).collect();
    while let Some(next) = rest.pop() {
        let Some(value) = next else {
            text.push(')');
            continue;
        };
        if !text.is_empty() && !text.ends_with('(') {
            text.push(' ');
        }
        match &value.kind {
            Kind::Atom(atom) => text.push_str(atom),
            Kind::Text(of) => {
                text.push('"');
                for c in of.chars() {
                    match c {
                        '"' | '\\' => text.extend(['\\', c]),
                        '\n' => text.push_str("\\n"),
                        '\r' => text.push_str("\\r"),
                        '\t' => text.push_str("\\t"),
                        _ => text.push(c),
                    }
                }
                text.push('"');
            }
            Kind::List(of) => {
                text.push('(');
                rest.push(None);
                rest.extend(of.iter().rev().map(Some));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        match read(text) {
            Ok(values) => write(&values),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn values_are_atoms_texts_and_lists() {
        assert_eq!(said(""), "");
        assert_eq!(said("(:a b (c) () 1.5)(d)"), "(:a b (c) () 1.5) (d)");
        assert_eq!(said("a\"b c\"d(e)"), "a \"b c\" d (e)");
        assert_eq!(said(r#""a\"b\\c\n\t\r""#), r#""a\"b\\c\n\t\r""#);
        assert_eq!(said("\"two\nlines\""), "\"two\\nlines\"");
        assert_eq!(said("\u{a0}ä\u{3000}ß\r\n"), "ä ß");
    }

    #[test]
    fn comments_go_to_the_end_of_their_line() {
        assert_eq!(said("# one\n;;; two (\n  # three \"\na#b ;c\n(d;e)\n)#"), "a#b (d)");
        assert_eq!(said("a;b"), "a");
        assert_eq!(said("\"a;b#c\" ; \u{fffd} \u{7}"), "\"a;b#c\"");
    }

    #[test]
    fn places_are_lines_and_characters() {
        let values = read("ä (\n  \"x\ny\" z)").unwrap();
        let Kind::List(list) = &values[1].kind else { panic!("a list") };
        let places: Vec<String> = [&values[0], &values[1], &list[0], &list[1]]
            .iter()
            .map(|value| value.at.to_string())
            .collect();
        assert_eq!(places, ["1:1", "1:3", "2:3", "3:4"]);
    }

    #[test]
    fn what_cannot_be_read_is_said_where_it_begins() {
        let open = "never closed: expected \")\" before the end of the file";
        assert_eq!(said("(a)\n (b (c)"), format!("2:2: this list is {open}"));
        assert_eq!(said("(a)\n  )"), format!("2:3: {}", Fault::Closed));
        assert_eq!(said("(\"a)\n"), format!("1:2: {}", Fault::OpenText));
        assert_eq!(said("\"a\\"), format!("1:1: {}", Fault::OpenText));
        assert_eq!(said("\"ab\\x\""), format!("1:4: {}", Fault::Escape));
        assert_eq!(said("ab\u{1}"), format!("1:3: {}", Fault::Control));
        assert_eq!(said("\"a\u{0}\""), format!("1:3: {}", Fault::Control));
        assert_eq!(said("(a \u{fffd})"), format!("1:4: {}", Fault::NotText));
    }

    #[test]
    fn depth_length_and_count_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(said(&nested(MAX_DEPTH)), nested(MAX_DEPTH));
        assert_eq!(said(&nested(MAX_DEPTH + 1)), format!("1:17: {}", Fault::Deep));
        let long = "x".repeat(MAX_VALUE_BYTES);
        assert_eq!(said(&long), long);
        assert_eq!(said(&format!(" {long}x")), format!("1:2: {}", Fault::Long));
        assert_eq!(said(&format!("\"{long}x\"")), format!("1:1: {}", Fault::Long));
        assert_eq!(read(&"a ".repeat(MAX_VALUES)).unwrap().len(), MAX_VALUES);
        assert_eq!(read(&"a ".repeat(MAX_VALUES + 1)).unwrap_err().fault, Fault::Many);
        let lists = read(&"()".repeat(MAX_VALUES + 1));
        assert_eq!(lists.unwrap_err().fault, Fault::Many, "lists count as well");
    }
}
