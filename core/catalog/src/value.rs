//! What entries of the kinds of this build say, and what is refused before it is proposed.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use skep_base::{Digest, GroupName, NodeName};

use crate::fields::{Field, Fields};
use crate::key::{Key, Kind};
use crate::target::Target;

/// Longest text that is for people alone.
const MAX_ABOUT_BYTES: usize = 1024;
/// Disjoint paths that a group may ask for: as in an agent's configuration.
const MAX_CONNECTIVITY: i64 = 8;

/// Why an entry is not proposed: what, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct Invalid {
    /// Which entry.
    pub key: Key,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// A group (FLOOD-25).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// For people.
    pub about: Option<String>,
    /// Disjoint paths between any two members.
    pub connectivity: Option<u8>,
    /// Who computes its overlay.
    pub topology_master: Option<NodeName>,
    /// Nodes that shall be in it.
    pub members: Vec<NodeName>,
}

/// Who may do what (section 6 of the design: default deny between nodes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Nodes by name, `role:NAME`, or `*`.
    pub who: Vec<String>,
    /// What they may.
    pub may: Vec<String>,
    /// In which groups; in all where none is named.
    pub groups: Vec<GroupName>,
}

/// A node that is expelled; the entry is named for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expelled {
    /// Why, for people.
    pub reason: String,
    /// Only this certificate; any of the node where none is named.
    pub certificate: Option<Digest>,
}

/// Something that the whole bloc agrees on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What it is set to.
    pub value: Field,
}

/// An entry, interpreted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// See [`Group`].
    Group(Group),
    /// See [`Rule`].
    Rule(Rule),
    /// See [`Expelled`].
    Expelled(Expelled),
    /// See [`Setting`].
    Setting(Setting),
    /// See [`Target`].
    Target(Target),
}

/// The fields that an entry of a kind may have, for messages and completion.
#[must_use]
pub const fn fields_known(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::GROUP => &["about", "connectivity", "members", "topology_master"],
        Kind::RULE => &["groups", "may", "who"],
        Kind::EXPELLED => &["certificate", "reason"],
        Kind::SETTING => &["value"],
        Kind::TARGET => crate::target::FIELDS,
        _ => &[],
    }
}

/// What a rule may permit.
const RIGHTS: [&str; 7] = [
    crate::access::RIGHT_CATALOG,
    "channel",
    crate::access::RIGHT_FLOCK,
    "join-address",
    "publish",
    "subscribe",
    "wave",
];

/// Interprets an entry of a kind that operators write, in the newest schema that this build knows
/// ([`crate::Payload::read`]), or says what is wrong with it.
///
/// # Errors
/// [`Invalid`] names the field and says what would do.
pub fn check(key: &Key, fields: &Fields) -> Result<Value, Invalid> {
    let reader = Reader { key, fields };
    if key.kind() == Kind::TARGET {
        reader.no_secrets()?;
    }
    reader.only(fields_known(key.kind()))?;
    match key.kind() {
        Kind::GROUP => reader.group().map(Value::Group),
        Kind::RULE => reader.rule().map(Value::Rule),
        Kind::EXPELLED => reader.expelled().map(Value::Expelled),
        Kind::SETTING => reader.setting().map(Value::Setting),
        Kind::TARGET => reader.target().map(Value::Target),
        other => Err(reader.invalid(
            format!("entries of kind {other} are not written by hand"),
            "write group, rule, expelled, setting or target".into(),
        )),
    }
}

/// The fields of one entry, as they are checked.
pub(crate) struct Reader<'a> {
    pub(crate) key: &'a Key,
    pub(crate) fields: &'a Fields,
}

impl Reader<'_> {
    fn group(&self) -> Result<Group, Invalid> {
        self.named::<GroupName>(self.key.name())?;
        let topology_master = self.text("topology_master")?;
        Ok(Group {
            about: self.about("about")?,
            connectivity: self.number("connectivity", 1, MAX_CONNECTIVITY)?,
            topology_master: topology_master.map(|name| self.named(name)).transpose()?,
            members: self.names("members")?,
        })
    }

    fn rule(&self) -> Result<Rule, Invalid> {
        let who = self.wanted("who", self.list("who")?)?;
        for one in &who {
            let name = one.strip_prefix("role:").unwrap_or(one);
            if one != "*" {
                self.named::<NodeName>(name)?;
            }
        }
        let may = self.wanted("may", self.list("may")?)?;
        if let Some(unknown) = may.iter().find(|right| !RIGHTS.contains(&right.as_str())) {
            let what = format!("may: {unknown:?} is nothing that a rule can permit");
            return Err(self.invalid(what, format!("name some of {}", RIGHTS.join(", "))));
        }
        Ok(Rule { who, may, groups: self.names("groups")? })
    }

    fn expelled(&self) -> Result<Expelled, Invalid> {
        self.named::<NodeName>(self.key.name())?;
        let certificate = self.text("certificate")?.map(|text| {
            text.parse().map_err(|_| {
                let hint = "copy the fingerprint from `skep cert show`, or leave it out";
                self.invalid("certificate: not 64 hexadecimal digits".into(), hint.into())
            })
        });
        let reason = self.about("reason")?;
        let Some(reason) = reason.filter(|reason| !reason.is_empty()) else {
            let hint = "say why, for whoever wonders later: reason=\"stolen laptop\"";
            return Err(self.invalid("reason: is missing".into(), hint.into()));
        };
        Ok(Expelled { reason, certificate: certificate.transpose()? })
    }

    fn setting(&self) -> Result<Setting, Invalid> {
        let Some(value) = self.fields.get("value") else {
            let hint = "say what it is set to: value=…";
            return Err(self.invalid("value: is missing".into(), hint.into()));
        };
        Ok(Setting { value: value.clone() })
    }

    fn only(&self, known: &[&str]) -> Result<(), Invalid> {
        match self.fields.iter().find(|(name, _)| !known.contains(name)) {
            Some((name, _)) => {
                let what = format!("{name}: no such field in entries of kind {}", self.key.kind());
                Err(self.invalid(what, format!("there are {}", known.join(", "))))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn invalid(&self, what: String, hint: String) -> Invalid {
        Invalid { key: self.key.clone(), what, hint }
    }

    fn other_type(&self, name: &str, found: &Field, wanted: &str) -> Invalid {
        let what = format!("{name}: {} where {wanted} is expected", found.what());
        self.invalid(what, format!("give {wanted}, such as in `skep catalog set --help`"))
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Invalid> {
        match self.fields.get(name) {
            None => Ok(None),
            Some(Field::Text(text)) => Ok(Some(text)),
            Some(other @ (Field::Number(_) | Field::Flag(_) | Field::List(_))) => {
                Err(self.other_type(name, other, "a text"))
            }
        }
    }

    fn about(&self, name: &str) -> Result<Option<String>, Invalid> {
        let text = self.text(name)?;
        match text.filter(|text| text.len() > MAX_ABOUT_BYTES) {
            Some(long) => {
                let what = format!("{name}: {} bytes, at most {MAX_ABOUT_BYTES}", long.len());
                Err(self.invalid(what, "put the long version where documents are".into()))
            }
            None => Ok(text.map(Into::into)),
        }
    }

    fn number(&self, name: &str, low: i64, high: i64) -> Result<Option<u8>, Invalid> {
        match self.fields.get(name) {
            None => Ok(None),
            Some(Field::Number(n)) if (low..=high).contains(n) => Ok(u8::try_from(*n).ok()),
            Some(Field::Number(n)) => {
                let what = format!("{name}: {n} is not within {low} and {high}");
                Err(self.invalid(what, format!("give {low} to {high}")))
            }
            Some(other @ (Field::Text(_) | Field::Flag(_) | Field::List(_))) => {
                Err(self.other_type(name, other, "a number"))
            }
        }
    }

    pub(crate) fn list(&self, name: &str) -> Result<Vec<String>, Invalid> {
        match self.fields.get(name) {
            None => Ok(Vec::new()),
            Some(Field::List(items)) => Ok(items.clone()),
            Some(other @ (Field::Text(_) | Field::Flag(_) | Field::Number(_))) => {
                Err(self.other_type(name, other, "a list"))
            }
        }
    }

    pub(crate) fn wanted(&self, name: &str, items: Vec<String>) -> Result<Vec<String>, Invalid> {
        if items.is_empty() {
            let hint = format!("name at least one: {name}=[\"…\"]");
            return Err(self.invalid(format!("{name}: is missing or empty"), hint));
        }
        Ok(items)
    }

    fn names<T>(&self, name: &str) -> Result<Vec<T>, Invalid>
    where
        T: core::str::FromStr<Err = skep_base::NameError>,
    {
        self.list(name)?.iter().map(|text| self.named(text)).collect()
    }

    fn named<T>(&self, text: &str) -> Result<T, Invalid>
    where
        T: core::str::FromStr<Err = skep_base::NameError>,
    {
        text.parse().map_err(|error: skep_base::NameError| {
            let hint = "names are labels of letters, digits and hyphens with dots between them";
            self.invalid(format!("{error}"), hint.into())
        })
    }
}
