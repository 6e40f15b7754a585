//! What was asked of masters, and what they promised: beside the system, and from nothing that a
//! catalog says.

use std::collections::BTreeMap;

use skep_base::Time;
use skep_catalog::{Granted, Outcome};

use crate::host::HostIx;

/// One command of the simulator's operator.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// At which host.
    pub(crate) host: HostIx,
    /// Which entry it sets, and to what.
    pub(crate) entry: (String, String),
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
        self.asked.insert(token, Asked { host, entry, at, granted: None });
        token
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
