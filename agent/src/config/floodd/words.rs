//! What a value of a floodd file may be: each kind with what is expected where it is something
//! else.

use std::net::IpAddr;
use std::time::Duration;

use skep_base::{GroupName, NodeName};

use super::sexp::{Kind, Value};
use crate::config::high::{Command, Location};

/// Longest span that anybody means: ten years.
const MAX_SECONDS: f64 = 10.0 * 366.0 * 86_400.0;
/// Characters of a value that are shown in an error.
const SHOWN: usize = 64;

/// A kind of value.
pub(super) trait Word: Sized {
    /// What to write.
    const EXPECTED: &str;

    /// The values behind a parameter's name, as one of this kind; else what is wrong with them,
    /// where there is more to say than what was expected.
    fn of(values: &[Value]) -> Result<Self, Option<String>>;
}

/// The only one of `values`.
fn only(values: &[Value]) -> Result<&Value, Option<String>> {
    match values {
        [value] => Ok(value),
        [] | [..] => Err(None),
    }
}

fn atom(values: &[Value]) -> Result<&str, Option<String>> {
    match &only(values)?.kind {
        Kind::Atom(atom) => Ok(atom),
        Kind::Text(_) | Kind::List(_) => Err(None),
    }
}

/// A name may be an atom or a text: both were written.
fn word(values: &[Value]) -> Result<&str, Option<String>> {
    match &only(values)?.kind {
        Kind::Atom(word) | Kind::Text(word) => Ok(word),
        Kind::List(_) => Err(None),
    }
}

/// What stands there, in words.
pub(super) fn found(values: &[Value]) -> String {
    let shown = |text: &str| -> String {
        let cut: String = text.chars().take(SHOWN).collect();
        if cut.len() < text.len() { format!("{cut}…") } else { cut }
    };
    match values {
        [] => "nothing".to_owned(),
        [value] => match &value.kind {
            Kind::Atom(atom) => format!("`{}`", shown(atom)),
            Kind::Text(text) => format!("the text {:?}", shown(text)),
            Kind::List(_) => "a list".to_owned(),
        },
        [..] => format!("{} values", values.len()),
    }
}

/// Name or text as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host(pub(super) String);

impl Word for Host {
    const EXPECTED: &str = "the name of a host such as valhalla or valhalla.usc.edu";

    fn of(values: &[Value]) -> Result<Self, Option<String>> {
        // What is dialled is looked at again by whoever dials; this is what a name can be at all.
        let host = word(values)?;
        let sound = !host.is_empty()
            && host.len() <= 253
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        sound.then(|| Self(host.to_ascii_lowercase())).ok_or(None)
    }
}

impl Word for NodeName {
    const EXPECTED: &str = "the name of a site such as inferno";

    fn of(values: &[Value]) -> Result<Self, Option<String>> {
        Self::new(word(values)?).map_err(|error| Some(error.to_string()))
    }
}

impl Word for GroupName {
    const EXPECTED: &str = "the name of a group such as mirror-1";

    fn of(values: &[Value]) -> Result<Self, Option<String>> {
        Self::new(word(values)?).map_err(|error| Some(error.to_string()))
    }
}

impl Word for IpAddr {
    const EXPECTED: &str = "an internet address such as 192.0.2.7 or 2001:db8::7";

    fn of(values: &[Value]) -> Result<Self, Option<String>> {
        word(values)?.parse().map_err(|_| None)
    }
}

/// A port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Port(pub(super) u16);

impl Word for Port {
    const EXPECTED: &str = "a port between 1 and 65535 such as 2000";

    fn of(values: &[Value]) -> Result<Self, Option<String>> {
        let port = atom(values)?.parse().map_err(|_| None)?;
        (port != 0).then_some(Self(port)).ok_or(None)
    }
}

impl Word for u64 {
    const EXPECTED: &str = "a number of bytes such as 100000000";

    fn of(values: &[Value]) -> Result<Self, Option<String>> {
        atom(values)?.parse().map_err(|_| None)
    }
}

/// How many disjoint paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connectivity(pub(super) usize);

impl Word for Connectivity {
    const EXPECTED: &str = "a number of disjoint paths, 1 or more, such as 2";

    fn of(values: &[Value]) -> Result<Self, Option<String>> {
        let k = atom(values)?.parse().map_err(|_| None)?;
        (k > 0).then_some(Self(k)).ok_or(None)
    }
}

impl Word for Duration {
    const EXPECTED: &str = "a number of seconds, more than 0, such as 15.0";

    fn of(values: &[Value]) -> Result<Self, Option<String>> {
        let seconds = number(atom(values)?)?;
        let sound = seconds > 0.0 && seconds <= MAX_SECONDS;
        let span = if sound { Self::try_from_secs_f64(seconds).ok() } else { None };
        let milliseconds = span.map_or(0, |span| u64::try_from(span.as_millis()).unwrap_or(0));
        if milliseconds == 0 {
            return Err(None);
        }
        Ok(Self::from_millis(milliseconds))
    }
}

/// A number as people write it: digits, perhaps a point, perhaps a sign. `nan` and `inf` are none.
fn number(text: &str) -> Result<f64, Option<String>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value: f64 = text.parse().map_err(|_| None)?;
    (plain && value.is_finite()).then_some(value).ok_or(None)
}

/// Degrees north.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Latitude(pub(super) f64);

impl Word for Latitude {
    const EXPECTED: &str = "degrees between -90 and 90, north is positive, such as 34.02";

    fn of(values: &[Value]) -> Result<Self, Option<String>> {
        let degrees = number(atom(values)?)?;
        (-90.0..=90.0).contains(&degrees).then_some(Self(degrees)).ok_or(None)
    }
}

/// Degrees east.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Longitude(pub(super) f64);

impl Word for Longitude {
    const EXPECTED: &str = "degrees between -180 and 180, east is positive, such as -118.29";

    fn of(values: &[Value]) -> Result<Self, Option<String>> {
        let degrees = number(atom(values)?)?;
        (-180.0..=180.0).contains(&degrees).then_some(Self(degrees)).ok_or(None)
    }
}

impl Word for Location {
    const EXPECTED: &str = "latitude and longitude in degrees such as 34.02 -118.29";

    /// Two numbers, plain or as a list of their own.
    fn of(values: &[Value]) -> Result<Self, Option<String>> {
        let pair = match values {
            [Value { kind: Kind::List(pair), .. }] => pair,
            _ => values,
        };
        let [latitude, longitude] = pair else {
            return Err(None);
        };
        let latitude = Latitude::of(std::slice::from_ref(latitude))?.0;
        let longitude = Longitude::of(std::slice::from_ref(longitude))?.0;
        Ok(Self { latitude, longitude })
    }
}

impl Word for Command {
    const EXPECTED: &str =
        "a command for /bin/sh, in double quotes where it has blanks, such as /usr/local/bin/filer";

    fn of(values: &[Value]) -> Result<Self, Option<String>> {
        let command = Self::Shell(word(values)?.to_owned());
        command.check().map_err(|why| Some(format!("a command {why}")))?;
        Ok(command)
    }
}
