//! What an entry says, before anybody interprets it: a few named values.
//!
//! The body of an entry describes itself, so that an old build can show, export and compare what a
//! newer one wrote, and only that which acts on an entry has to know its schema.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use skep_wire::{decode, encode};

/// Named values in one entry: more is a file, not an entry.
pub const MAX_FIELDS: usize = 64;
/// Members of one list.
pub const MAX_LIST: usize = 1024;
/// Longest name of a field.
const MAX_FIELD_NAME_BYTES: usize = 64;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Field {
    /// Words.
    Text(String),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// Words, in the order in which they were given.
    List(Vec<String>),
}

impl Field {
    /// What it is, for messages.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Number(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::List(_) => "a list",
        }
    }
}

impl fmt::Display for Field {
    /// As TOML has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => quoted(f, text),
            Self::Number(number) => number.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
            Self::List(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { ", " })?;
                    quoted(f, item)?;
                }
                f.write_str("]")
            }
        }
    }
}

/// A basic string of TOML.
fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if c.is_control() => write!(f, "\\u{:04X}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

/// Why something is no set of fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// A name that none may have.
    #[error("{0:?} is no name of a field: 1 to 64 lower-case letters, digits and '_'")]
    Name(String),
    /// Too many.
    #[error("more than {MAX_FIELDS} fields")]
    Many,
    /// A list that is too long.
    #[error("{0} lists more than {MAX_LIST}")]
    Long(String),
    /// Bytes that are no fields at all, or not in their one order.
    #[error("bytes that are no fields")]
    Malformed,
}

/// Named values, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<String, Field>);

impl Fields {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Sets one.
    ///
    /// # Errors
    /// [`FieldsError`] says which bound it breaks.
    pub fn set(&mut self, name: &str, field: Field) -> Result<(), FieldsError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let fits = !name.is_empty() && name.len() <= MAX_FIELD_NAME_BYTES;
        if !(fits && name.bytes().all(plain)) {
            return Err(FieldsError::Name(name.chars().take(64).collect()));
        }
        if let Field::List(items) = &field
            && items.len() > MAX_LIST
        {
            return Err(FieldsError::Long(name.into()));
        }
        self.0.insert(name.into(), field);
        if self.0.len() > MAX_FIELDS { Err(FieldsError::Many) } else { Ok(()) }
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Field> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Field)> {
        self.0.iter().map(|(name, field)| (name.as_str(), field))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As the body of an entry: the same fields are the same bytes.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        encode(&self.0.iter().collect::<Vec<_>>())
    }

    /// From the body of an entry.
    ///
    /// # Errors
    /// [`FieldsError`].
    pub fn from_body(body: &[u8]) -> Result<Self, FieldsError> {
        let pairs: Vec<(String, Field)> =
            decode("fields", body).map_err(|_| FieldsError::Malformed)?;
        if !pairs.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            return Err(FieldsError::Malformed);
        }
        let mut fields = Self::new();
        for (name, field) in pairs {
            fields.set(&name, field)?;
        }
        Ok(fields)
    }
}
