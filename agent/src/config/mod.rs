//! The configuration of one host: what it must know before it can join, and nothing that the whole
//! bloc must agree on.
//!
//! Each part has one job:
//!
//! * `low` mirrors the file one to one. Unknown keys are errors, with the nearest known one
//!   named.
//! * [`high`] is what the agent works with: typed, complete, checked. Numbers belong to the parts
//!   they steer, so `high` is made of those parts' own `Config` values.
//! * `layer` are settings from another kind of file, which stand over the TOML file's.
//! * [`floodd`] reads such files: floodd's own.
//! * [`origin`] remembers of each setting where its value comes from: default, file and line,
//!   environment, flag. Later ones win.
//!
//! [`mod@reference`] is the text that `skep config default` prints; a test holds it to the
//! defaults.

mod build;
mod error;
pub mod floodd;
pub mod high;
mod layer;
mod low;
pub mod origin;
pub mod reference;
pub mod telling;
#[cfg(test)]
mod tests;
mod units;
mod values;

use std::path::{Path, PathBuf};

pub use error::{ConfigError, ConfigErrors};
pub use high::Config;
use layer::Layered;
pub use origin::{Origin, Setting};

/// Where the configuration is unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/skep/skep.toml";
/// Longest file that is read: the reference with all its explanations is a hundredth of it.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Settings that the environment may give, for containers and service units.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    ("SKEP_STATE_DIR", "node.state_dir"),
    ("SKEP_SOCKET", "control.socket"),
    ("SKEP_LOG", "log.level"),
];
/// For tests only: milliseconds, which may be negative, by which the agent takes its wall clock to
/// be wrong. It is no setting, so that it can never stand in a file that is left behind.
pub const TEST_CLOCK_OFFSET: &str = "SKEP_TEST_CLOCK_OFFSET_MS";

/// A setting that the command line gives.
#[derive(Clone, Debug)]
pub struct Override {
    /// Such as `ca.serve`.
    pub key: &'static str,
    /// Its value.
    pub value: toml::Value,
    /// Such as `--serve`.
    pub flag: &'static str,
}

impl Override {
    /// What `skep ca serve` says beyond `skep agent`.
    #[must_use]
    pub const fn serve_ca() -> Self {
        Self { key: "ca.serve", value: toml::Value::Boolean(true), flag: "ca serve" }
    }

    /// What `--beacon` and `--beacon-key` say together (BLOC-2).
    #[must_use]
    pub fn beacon(address: &str, key: &str) -> [Self; 3] {
        let (on, flag) = (toml::Value::Boolean(true), "--beacon");
        let (address, key) = (toml::Value::from(address), toml::Value::from(key));
        [
            Self { key: "join.beacon.enabled", value: on, flag },
            Self { key: "join.beacon.address", value: address, flag },
            Self { key: "join.beacon.key", value: key, flag: "--beacon-key" },
        ]
    }
}

/// Reads the configuration: the file at `path`, or at [`DEFAULT_PATH`] where one is there, then the
/// process's environment, then `flags`.
///
/// # Errors
/// Everything that is wrong, each with its place and what to do.
pub fn load(path: Option<&Path>, flags: &[Override]) -> Result<Config, ConfigErrors> {
    load_with(path, &[], flags)
}

fn load_with(
    path: Option<&Path>,
    layer: &[Layered],
    flags: &[Override],
) -> Result<Config, ConfigErrors> {
    let environment = |name: &str| std::env::var_os(name);
    let environment = |name: &str| environment(name).map(|value| value.to_string_lossy().into());
    let file = match path {
        Some(path) => Some((path.to_owned(), read(path)?)),
        None if Path::new(DEFAULT_PATH).exists() => {
            let path = PathBuf::from(DEFAULT_PATH);
            let text = read(&path)?;
            Some((path, text))
        }
        None => None,
    };
    let file = file.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
    parse_with(file, layer, &environment, flags)
}

/// The same from a text that was read already; reads nothing by itself.
///
/// # Errors
/// Everything that is wrong, each with its place and what to do.
pub fn parse(
    file: Option<(&Path, &str)>,
    environment: &dyn Fn(&str) -> Option<String>,
    flags: &[Override],
) -> Result<Config, ConfigErrors> {
    parse_with(file, &[], environment, flags)
}

fn parse_with(
    file: Option<(&Path, &str)>,
    layer: &[Layered],
    environment: &dyn Fn(&str) -> Option<String>,
    flags: &[Override],
) -> Result<Config, ConfigErrors> {
    let (path, text) = file.unwrap_or((Path::new(""), ""));
    let source = error::Source { path, text };
    let low = low::read(&source)?;
    build::build(low, &source, layer, environment, flags)
}

fn read(path: &Path) -> Result<String, ConfigErrors> {
    let failed = |message: String, hint: Option<&str>| {
        ConfigErrors::from(ConfigError {
            path: Some(path.to_owned()),
            at: None,
            message,
            hint: hint.map(str::to_owned),
        })
    };
    let metadata = std::fs::metadata(path).map_err(|error| {
        failed(
            format!("cannot be read: {error}"),
            Some("`skep config default` prints one to begin with"),
        )
    })?;
    if metadata.len() > MAX_FILE_BYTES {
        return Err(failed(format!("is longer than {MAX_FILE_BYTES} bytes"), None));
    }
    let bytes =
        std::fs::read(path).map_err(|error| failed(format!("cannot be read: {error}"), None))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        failed(format!("is not UTF-8 text: see byte {at}"), None)
    })
}
