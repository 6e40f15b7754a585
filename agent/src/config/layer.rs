//! Settings that another file than the TOML one gives, each with its place there.

use std::path::PathBuf;

use super::error::ConfigError;
use super::origin::{Key, Origin};

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layered {
    /// Such as `group.web.ping_period`.
    pub(super) key: Key,
    /// As the TOML file would say it.
    pub(super) value: toml::Value,
    /// Which file.
    pub(super) path: PathBuf,
    /// Line and column there, from one.
    pub(super) at: (u32, u32),
}

impl Layered {
    /// Where it comes from.
    pub(super) fn origin(&self) -> Origin {
        Origin::File { path: self.path.clone(), line: self.at.0 }
    }

    /// Says that something is wrong with it.
    pub(super) fn error(&self, message: String) -> ConfigError {
        ConfigError { path: Some(self.path.clone()), at: Some(self.at), message, hint: None }
    }
}
