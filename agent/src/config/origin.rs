//! Where each setting's value comes from.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Where a value comes from. Later ones win over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of a file.
    File {
        /// Which file.
        path: PathBuf,
        /// Which line, from one.
        line: u32,
    },
    /// An environment variable.
    Environment {
        /// Which.
        name: &'static str,
    },
    /// A flag of the command line.
    Flag {
        /// Which.
        name: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { name } => write!(f, "environment {name}"),
            Self::Flag { name } => write!(f, "flag {name}"),
        }
    }
}

/// What a setting is called, with its section before the last dot. A group or node whose name has
/// dots keeps them: `group.web.example.connectivity`.
pub type Key = Cow<'static, str>;

/// One setting in force.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// Such as `timers.heartbeat`.
    pub key: Key,
    /// Its value as the file would say it; none where it is unset and may be.
    pub value: Option<toml::Value>,
    /// Where it comes from.
    pub origin: Origin,
}

/// The settings as a file that says the same, each with its origin behind it where `origins` is
/// asked for.
#[must_use]
pub fn show(settings: &[Setting], origins: bool) -> String {
    let mut text = String::new();
    let mut section = "";
    for setting in settings {
        let (of, key) = setting.key.rsplit_once('.').unwrap_or(("", &setting.key));
        if of != section {
            let blank = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{blank}{}\n", heading(of)));
            section = of;
        }
        let line = match &setting.value {
            Some(value) => format!("{key} = {value}"),
            None => format!("# {key} is not set"),
        };
        if origins {
            text.push_str(&format!("{line:<44} # {}\n", setting.origin));
        } else {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

/// The line that begins a section. A group's or node's name with dots stands in quotes there.
#[must_use]
pub fn heading(section: &str) -> String {
    match section.split_once('.') {
        Some((kind @ ("group" | "peers"), name)) if name.contains('.') => {
            format!("[{kind}.\"{name}\"]")
        }
        _ => format!("[{section}]"),
    }
}
