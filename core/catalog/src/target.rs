//! Who is told of what is wrong, as the whole bloc agrees on it.
//!
//! An entry is read by every node, kept by every node and in every backup. So it holds no secret:
//! it *names* one, which is a file that each host keeps for itself. Nor does it hold a program:
//! whoever may write entries would run it on every master.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::value::{Invalid, Reader};

/// Targets in the catalog that a node uses at most.
pub const MAX_CATALOG_TARGETS: usize = 8;
/// Longest name of a target, as in an agent's configuration.
const MAX_NAME_BYTES: usize = 32;
/// Longest name of a file with a secret.
const MAX_SECRET_BYTES: usize = 128;
/// Receivers of one mail, and kinds of incidents.
const MAX_LISTED: usize = 32;
/// Longest server or URL.
const MAX_PLACE_BYTES: usize = 1024;

/// Somebody who is told of incidents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How letters get there.
    pub way: Way,
    /// The kinds of incidents that it wants; all where none is named.
    pub kinds: Vec<String>,
}

/// How letters get to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a mail server.
    Smtp {
        /// Its name, and perhaps its port.
        server: String,
        /// Whether others can read what goes there.
        tls: Tls,
        /// The file of the authorities that its certificate may be of.
        ca: Option<String>,
        /// As whom, and the file with the password.
        login: Option<(String, String)>,
        /// The sender.
        from: String,
        /// The receivers.
        to: Vec<String>,
    },
    /// By the own mail system of whichever host is master.
    Sendmail {
        /// The sender.
        from: String,
        /// The receivers.
        to: Vec<String>,
    },
    /// By a URL.
    Webhook {
        /// Where.
        url: String,
        /// The file with what letters are signed with.
        secret: Option<String>,
        /// The file of the authorities that its certificate may be of.
        ca: Option<String>,
    },
}

/// Whether others can read what goes to a mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Turned into TLS before anything is said.
    Starttls,
    /// TLS from the start.
    Tls,
    /// They can.
    None,
}

/// The fields that a target may have.
pub(crate) const FIELDS: &[&str] =
    &["ca", "from", "kinds", "secret", "server", "tls", "to", "url", "user", "way"];
/// Fields that a secret would be looked for in.
const SECRETS: [&str; 5] = ["key", "pass", "password", "password_file", "token"];
const SECRET_HINT: &str = "put it into a file in notify.secrets_dir of every node that may be \
                           master, mode 600, and name that file: secret=NAME";

impl Reader<'_> {
    pub(crate) fn target(&self) -> Result<Target, Invalid> {
        let plain =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        let name = self.key.name();
        if name.len() > MAX_NAME_BYTES || !name.chars().all(plain) {
            let hint = "1 to 32 lower-case letters, digits, '-' and '_'";
            return Err(self.invalid("that is no name of a target".into(), hint.into()));
        }
        let kinds = self.few("kinds")?;
        let way = match self.text("way")? {
            Some("smtp") => self.smtp()?,
            Some("sendmail") => {
                self.has_only("sendmail", &["from", "to"])?;
                let (from, to) = self.mail()?;
                Way::Sendmail { from, to }
            }
            Some("webhook") => {
                self.has_only("webhook", &["ca", "secret", "url"])?;
                let url = self.needed("url", "https://chat.example/hook")?;
                Way::Webhook { url, secret: self.file("secret")?, ca: self.file("ca")? }
            }
            Some("command") => {
                let what = "way: a program is each host's own matter, and in no entry".into();
                let hint = "write [notify.command.NAME] into the configuration of the hosts";
                return Err(self.invalid(what, hint.into()));
            }
            Some(_) | None => {
                let what = "way: is missing, or none that there is".into();
                return Err(self.invalid(what, "give smtp, sendmail or webhook".into()));
            }
        };
        Ok(Target { way, kinds })
    }

    /// What is said where somebody wrote a secret itself.
    pub(crate) fn no_secrets(&self) -> Result<(), Invalid> {
        match self.fields.iter().find(|(name, _)| SECRETS.contains(name)) {
            Some((name, _)) => {
                let what = format!("{name}: every node would read it, and every backup hold it");
                Err(self.invalid(what, SECRET_HINT.into()))
            }
            None => Ok(()),
        }
    }

    fn smtp(&self) -> Result<Way, Invalid> {
        self.has_only("smtp", &["ca", "from", "secret", "server", "tls", "to", "user"])?;
        let server = self.needed("server", "mail.example.org:587")?;
        let tls = match self.text("tls")? {
            None | Some("starttls") => Tls::Starttls,
            Some("tls") => Tls::Tls,
            Some("none") => Tls::None,
            Some(_) => {
                let what = "tls: no way to speak to a mail server".into();
                return Err(self.invalid(what, "give starttls, tls or none".into()));
            }
        };
        let user = self.text("user")?.map(String::from);
        let login = match (user, self.file("secret")?) {
            (Some(user), Some(secret)) => Some((user, secret)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                let what = "user: is given together with secret, or neither is".into();
                return Err(self.invalid(what, SECRET_HINT.into()));
            }
        };
        if tls == Tls::None && login.is_some() {
            let what = "tls: a password goes to no mail server without TLS".into();
            return Err(self.invalid(what, "give tls=starttls or tls=tls".into()));
        }
        let (from, to) = self.mail()?;
        Ok(Way::Smtp { server, tls, ca: self.file("ca")?, login, from, to })
    }

    fn mail(&self) -> Result<(String, Vec<String>), Invalid> {
        let from = self.needed("from", "skep@example.org")?;
        Ok((from, self.wanted("to", self.few("to")?)?))
    }

    /// That no field is there which means nothing for this way.
    fn has_only(&self, way: &str, known: &[&str]) -> Result<(), Invalid> {
        let known = |name: &str| known.contains(&name) || matches!(name, "way" | "kinds");
        match self.fields.iter().find(|(name, _)| !known(name)) {
            Some((name, _)) => {
                let what = format!("{name}: means nothing for a target of way {way}");
                Err(self.invalid(what, format!("leave {name} out")))
            }
            None => Ok(()),
        }
    }

    fn needed(&self, name: &str, such_as: &str) -> Result<String, Invalid> {
        let text = self.text(name)?.filter(|text| !text.is_empty());
        let fits = text.filter(|text| text.len() <= MAX_PLACE_BYTES);
        fits.map(String::from).ok_or_else(|| {
            let what = format!("{name}: is missing, or longer than {MAX_PLACE_BYTES} bytes");
            self.invalid(what, format!("give it, such as {name}={such_as}"))
        })
    }

    fn few(&self, name: &str) -> Result<Vec<String>, Invalid> {
        let items = self.list(name)?;
        if items.len() > MAX_LISTED {
            let what = format!("{name}: {} of them, at most {MAX_LISTED}", items.len());
            return Err(self.invalid(what, "send it to a mailing list".into()));
        }
        Ok(items)
    }

    /// The name of a file, without a way to any other directory.
    fn file(&self, name: &str) -> Result<Option<String>, Invalid> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins && text.len() <= MAX_SECRET_BYTES && text.chars().all(plain) {
            return Ok(Some(text.into()));
        }
        let what = format!("{name}: no plain name of a file");
        let hint = "give the name alone, of letters, digits, '.', '-', '_' and '@': the directory \
                    is notify.secrets_dir of each host";
        Err(self.invalid(what, hint.into()))
    }
}
