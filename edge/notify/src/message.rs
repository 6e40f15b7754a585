//! A letter as a mail.

use std::fmt::Write as _;

use data_encoding::BASE64;
use skep_base::WallTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// Longest line that goes as it is; longer ones, and what is not ASCII, are encoded.
const MAX_LINE: usize = 900;
/// Where a list of addresses goes on in another line.
const FOLD_AT: usize = 78;
/// Bytes of a subject in one encoded word, which may have 75 characters.
const WORD_BYTES: usize = 42;

/// A mail before it has receivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The left side of its Message-ID: letters, digits, `.`, `-` and `_`.
    pub id: String,
    /// The right side.
    pub domain: String,
    /// The left side of the Message-ID that this one follows, if any.
    pub follows: Option<String>,
    /// When it was made.
    pub date: WallTime,
    /// One line.
    pub subject: String,
    /// Plain text, with `\n` between its lines.
    pub text: String,
}

impl Message {
    /// As it goes over the wire, from and to these: the same bytes each time.
    #[must_use]
    pub fn to_bytes(&self, from: &str, to: &[String]) -> Vec<u8> {
        let mut mail = String::new();
        let mut header = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            write!(mail, "{name}: {value}\r\n").ok();
        };
        header("Date", &date(self.date));
        header("From", &plain(from));
        header("To", &folded(to));
        header("Subject", &encoded(&plain(&self.subject)));
        header("Message-ID", &self.name(&self.id));
        if let Some(earlier) = &self.follows {
            header("In-Reply-To", &self.name(earlier));
            header("References", &self.name(earlier));
        }
        header("Auto-Submitted", "auto-generated");
        header("X-Auto-Response-Suppress", "All");
        header("MIME-Version", "1.0");
        header("Content-Type", "text/plain; charset=utf-8");
        let lines: Vec<String> = self.text.lines().map(plain).collect();
        let as_it_is = lines.iter().all(|line| line.is_ascii() && line.len() <= MAX_LINE);
        let way = if as_it_is { "7bit" } else { "base64" };
        header("Content-Transfer-Encoding", way);
        mail.push_str("\r\n");
        let body: String = lines.iter().flat_map(|line| [line, "\r\n"]).collect();
        if as_it_is {
            mail.push_str(&body);
        } else {
            for line in BASE64.encode(body.as_bytes()).as_bytes().chunks(76) {
                mail.push_str(&String::from_utf8_lossy(line));
                mail.push_str("\r\n");
            }
        }
        mail.into_bytes()
    }

    fn name(&self, id: &str) -> String {
        format!("<{}@{}>", word(id), word(&self.domain))
    }
}

/// Addresses, as many on a line as it usually has: a line of more than 998 bytes is none (RFC
/// 5322), and 32 addresses are more.
fn folded(addresses: &[String]) -> String {
    let mut text = String::new();
    let mut line = "To: ".len();
    for (at, address) in addresses.iter().enumerate() {
        let address = plain(address);
        if at > 0 {
            let fits = line + ", ".len() + address.len() < FOLD_AT;
            text.push_str(if fits { ", " } else { ",\r\n " });
            line = if fits { line + ", ".len() } else { 1 };
        }
        line += address.len();
        text.push_str(&address);
    }
    text
}

/// Only what any mail program takes in a Message-ID.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.chars().map(|c| if plain(c) { c } else { '-' }).collect()
}

/// One line: whatever is no character of one would begin another header, or reach a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A subject, in encoded words where it is not ASCII (RFC 2047).
fn encoded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let mut words: Vec<String> = vec![String::new()];
    for c in text.chars() {
        let full = words.last().is_some_and(|word| word.len() + c.len_utf8() > WORD_BYTES);
        if full {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    let encoded = |word: &String| format!("=?utf-8?B?{}?=", BASE64.encode(word.as_bytes()));
    words.iter().map(encoded).collect::<Vec<_>>().join(" ")
}

fn date(at: WallTime) -> String {
    let seconds = i64::try_from(at.unix_ms / 1000).unwrap_or(0);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    // RFC 2822 has no years before 1900, and a clock that is unset shows 1970.
    at.format(&Rfc2822).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(subject: &str, text: &str) -> String {
        let message = Message {
            id: "manager-lost.web-1.0f.1".into(),
            domain: "skep.example".into(),
            follows: None,
            date: WallTime::from_unix_ms(1_700_000_000_000),
            subject: subject.into(),
            text: text.into(),
        };
        let to = ["a@example.org".to_owned(), "b@example.org".to_owned()];
        String::from_utf8(message.to_bytes("skep@example.org", &to)).unwrap()
    }

    #[test]
    fn a_mail_is_plain_text_with_a_name_of_its_own() {
        let mail = message("web-1 is lost", "one\n.two\n");
        let (head, body) = mail.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "one\r\n.two\r\n");
        for line in [
            "Date: Tue, 14 Nov 2023 22:13:20 +0000",
            "From: skep@example.org",
            "To: a@example.org, b@example.org",
            "Subject: web-1 is lost",
            "Message-ID: <manager-lost.web-1.0f.1@skep.example>",
            "Auto-Submitted: auto-generated",
            "Content-Transfer-Encoding: 7bit",
        ] {
            assert!(head.split("\r\n").any(|it| it == line), "{line} is not in\n{head}");
        }
    }

    #[test]
    fn no_word_of_a_letter_makes_a_header() {
        let mail = message("x\r\nBcc: everybody@example.org", "y");
        assert!(!mail.contains("\r\nBcc"), "{mail}");
    }

    #[test]
    fn no_line_is_longer_than_a_server_takes_and_none_holds_control_characters() {
        let message = Message {
            id: "x".repeat(200),
            domain: "y".repeat(200),
            follows: Some("z".repeat(200)),
            date: WallTime::from_unix_ms(1_700_000_000_000),
            subject: "s".repeat(500),
            text: "one\rtwo\0three\x1b[2Jfour\n".into(),
        };
        let host = |at: usize| format!("{}@{}.example.org", "r".repeat(64), "h".repeat(20 + at));
        let to: Vec<String> = (0..32).map(host).collect();
        let mail = String::from_utf8(message.to_bytes("skep@example.org", &to)).unwrap();
        assert!(mail.split("\r\n").all(|line| line.len() <= 998), "{mail}");
        let inner = mail.replace("\r\n", "");
        assert!(!inner.contains(char::is_control), "{inner:?}");
        assert!(mail.ends_with("\r\n\r\none two three [2Jfour\r\n"), "{mail}");
        // Unfolded it is the list again.
        assert!(mail.replace("\r\n ", " ").contains(&format!("To: {}\r\n", to.join(", "))));
    }

    #[test]
    fn other_scripts_and_long_lines_are_encoded() {
        let mail = message(&"Größe ".repeat(20), "Käse\n");
        assert!(mail.is_ascii(), "{mail}");
        assert!(
            mail.contains("Content-Transfer-Encoding: base64\r\n\r\nS8Okc2UNCg==\r\n"),
            "{mail}"
        );
        let inner = |word: &str| {
            let inner = word.strip_prefix("=?utf-8?B?")?.strip_suffix("?=")?;
            Some(BASE64.decode(inner.as_bytes()).unwrap())
        };
        let all: Vec<u8> = mail.split_whitespace().filter_map(inner).flatten().collect();
        assert_eq!(String::from_utf8(all).unwrap(), "Größe ".repeat(20));
        assert!(message("x", &"long ".repeat(300)).contains("base64"));
    }
}
