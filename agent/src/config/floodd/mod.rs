//! floodd's own configuration files (FLOOD-14..21, FLOOD-37..40): s-expressions of sites, groups
//! and what is local, read word for word and turned into Skep's settings.
//!
//! ```text
//! (:site-define (:site-name inferno) (:hostname inferno) (:client-port 2000) (:data-port 2001))
//! (:group-define (:group-name mirror-1) (:site master) (:site inferno) (:master-site master))
//! (:local (:export-command /usr/local/bin/filer))
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`sexp`] | text to values with their places |
//! | `words` | what each kind of value may be |
//! | `file` | values to sites, groups and local parameters; what is wrong with them |
//! | `mapping` | what that means for one site: settings of `skep.toml`, and notices |
//! | `import` | those settings as a `skep.toml` with comments |
//!
//! One file may serve all sites. Which of them a node is, its certificate says: the node's name is
//! the site's name. docs/floodd.md says parameter by parameter what becomes of it.

mod file;
mod import;
mod mapping;
pub mod sexp;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};

use skep_base::NodeName;

use super::layer::Layered;
use super::{Config, ConfigError, ConfigErrors, MAX_FILE_BYTES, Override};
use sexp::Place;

/// A file that was read, and is sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Floodd {
    path: PathBuf,
    file: file::File,
}

/// What it means for one site.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapped {
    site: NodeName,
    layer: Vec<Layered>,
    notices: Vec<Notice>,
}

/// Where Skep does something else than floodd did, or what somebody may not have meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    path: PathBuf,
    at: Place,
    text: String,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.at, self.text)
    }
}

/// No site has the node's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSite {
    path: PathBuf,
    me: NodeName,
    sites: Vec<NodeName>,
}

impl fmt::Display for UnknownSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Sites that an error names: a screen's line of them.
        const NAMED: usize = 8;
        let named: Vec<&str> = self.sites.iter().take(NAMED).map(NodeName::as_str).collect();
        let more = if self.sites.len() > NAMED { ", …" } else { "" };
        write!(f, "{}: no site is named {}; ", self.path.display(), self.me)?;
        if named.is_empty() {
            return f
                .write_str("the file defines none: it needs a (:site-define ...) for this node");
        }
        write!(
            f,
            "it defines {}{more}. A site's name is the node's name in its certificate: see `skep \
             cert show`",
            named.join(", ")
        )
    }
}

impl std::error::Error for UnknownSite {}

impl Floodd {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and what was expected.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let failed = |message: String| {
            let path = Some(path.to_owned());
            ConfigErrors::from(ConfigError { path, at: None, message, hint: None })
        };
        let unread = |error: std::io::Error| failed(format!("cannot be read: {error}"));
        if std::fs::metadata(path).map_err(unread)?.len() > MAX_FILE_BYTES {
            return Err(failed(format!("is longer than {MAX_FILE_BYTES} bytes")));
        }
        let bytes = std::fs::read(path).map_err(unread)?;
        Self::parse(path, &bytes)
    }

    /// The same from bytes that were read already. Comments may be in any encoding.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and what was expected.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ConfigErrors> {
        let text = String::from_utf8_lossy(bytes);
        Ok(Self { path: path.to_owned(), file: file::read(path, &text)? })
    }

    /// The names of the sites and of their hosts.
    pub fn sites(&self) -> impl Iterator<Item = (&NodeName, Option<&str>)> {
        self.file.sites.iter().map(|site| {
            (&site.name.value, site.hostname.as_ref().map(|host| host.value.0.as_str()))
        })
    }

    /// What the file means for the site `me`.
    ///
    /// # Errors
    /// [`UnknownSite`] names the sites that there are.
    pub fn map(&self, me: &NodeName) -> Result<Mapped, UnknownSite> {
        mapping::map(&self.path, &self.file, me)
    }
}

impl Mapped {
    /// What to tell the operator.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// The configuration in force when these settings stand over those of a `skep.toml`.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and what to do.
    pub fn load(&self, toml: Option<&Path>, flags: &[Override]) -> Result<Config, ConfigErrors> {
        super::load_with(toml, &self.layer, flags)
    }

    /// The same from a text that was read already; reads nothing by itself.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and what to do.
    pub fn parse(
        &self,
        toml: Option<(&Path, &str)>,
        environment: &dyn Fn(&str) -> Option<String>,
        flags: &[Override],
    ) -> Result<Config, ConfigErrors> {
        super::parse_with(toml, &self.layer, environment, flags)
    }

    /// A `skep.toml` that says the same, with comments.
    #[must_use]
    pub fn to_toml(&self) -> String {
        import::write(self)
    }
}
