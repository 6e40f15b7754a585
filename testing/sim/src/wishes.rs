//! What was asked of masters, and what they promised: beside the system, and from nothing that a
//! catalog says.

use std::collections::BTreeMap;

use skep_base::Time;
use skep_catalog::{Field, Granted, Outcome, Payload};

use crate::host::HostIx;

/// One command of the simulator's operator.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// At which host.
    pub(crate) host: HostIx,
    /// Which entry it sets, and to what.
    pub(crate) entry: (String, String),
    /// What that is as a number, where it was asked for with one.
    pub(crate) value: Option<u64>,
    /// When.
    pub(crate) at: Time,
    /// What came of it, and when.
    pub(crate) granted: Option<(Time, Granted)>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    asked: BTreeMap<u64, Asked>,
}

impl Wishes {
    /// Notes a wish; gives its token.
    pub(crate) fn ask(&mut self, at: Time, host: HostIx, entry: (String, String)) -> u64 {
        let token = self.asked.len() as u64 + 1;
        let value = number_in(&entry.1);
        self.asked.insert(token, Asked { host, entry, value, at, granted: None });
        token
    }

    /// A number that no wish has asked for.
    pub(crate) fn next_number(&self) -> u64 {
        self.asked.len() as u64 + 1
    }

    /// When it was asked.
    pub(crate) fn asked_at(&self, token: u64) -> Option<Time> {
        self.asked.get(&token).map(|asked| asked.at)
    }

    /// What came of it, and when.
    pub(crate) fn answer_to(&self, token: u64) -> Option<&(Time, Granted)> {
        self.asked.get(&token)?.granted.as_ref()
    }

    /// What it sets its entry to, as the log has it.
    pub(crate) fn value_of(&self, token: u64) -> Option<&str> {
        self.asked.get(&token).filter(|asked| asked.value.is_some()).map(|it| it.entry.1.as_str())
    }

    /// Notes what came of one.
    ///
    /// # Errors
    /// When nobody asked, or it was answered before.
    pub(crate) fn granted(
        &mut self,
        at: Time,
        host: HostIx,
        token: u64,
        granted: &Granted,
    ) -> Result<(), String> {
        let asked = self.asked.get_mut(&token).filter(|asked| asked.host == host);
        let asked = asked.ok_or_else(|| format!("answers the wish {token}, which it never had"))?;
        if asked.granted.replace((at, granted.clone())).is_some() {
            return Err(format!("answers the wish {token} twice"));
        }
        Ok(())
    }

    /// The wishes that were promised to have happened.
    pub(crate) fn promised(&self) -> impl Iterator<Item = (&u64, &Asked, u64)> {
        self.asked.iter().filter_map(|(token, asked)| match &asked.granted {
            Some((_, Granted::Decided { index, outcome: Outcome::Applied { .. }, .. })) => {
                Some((token, asked, *index))
            }
            _ => None,
        })
    }

    /// How many wait for their answer.
    pub(crate) fn open(&self) -> usize {
        self.asked.values().filter(|asked| asked.granted.is_none()).count()
    }
}

/// A number as entries say it, so that no other number is found in its bytes.
pub(crate) fn text_of(value: u64) -> String {
    format!("={value}=")
}

fn number_in(text: &str) -> Option<u64> {
    text.strip_prefix('=')?.strip_suffix('=')?.parse().ok()
}

/// The number that an entry says.
pub(crate) fn value_in(payload: &Payload) -> Option<u64> {
    match payload.fields()?.get("value")? {
        Field::Text(text) => number_in(text),
        Field::Number(_) | Field::Flag(_) | Field::List(_) => None,
    }
}
