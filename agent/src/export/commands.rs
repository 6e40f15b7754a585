//! Which clients are programs of export commands, and what stands behind what they publish
//! (FLOOD-42).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use skep_base::{GroupName, Trail};
use skep_client_port::{Caller, Provenance};
use skep_export::Came;
use skep_runner::{Origin, Peer, Runner};

/// The commands of all exports: how they are run, and which batch each was given last.
#[derive(Clone)]
pub struct Commands {
    runner: Runner,
    /// By the purpose of the run, which is the name of the export's cursor.
    batches: Arc<Mutex<BTreeMap<Arc<str>, Batch>>>,
}

#[derive(Clone)]
struct Batch {
    of: GroupName,
    through: Trail,
}

impl Commands {
    /// None were run yet.
    #[must_use]
    pub fn new(runner: Runner) -> Self {
        Self { runner, batches: Arc::default() }
    }

    /// What runs them.
    #[must_use]
    pub const fn runner(&self) -> &Runner {
        &self.runner
    }

    /// The next run of the command of this cursor gets a batch that came through these.
    pub fn begins(&self, cursor: &Arc<str>, of: &GroupName, through: &Trail) {
        let batch = Batch { of: of.clone(), through: through.clone() };
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.insert(Arc::clone(cursor), batch);
    }

    fn came(&self, purpose: &Arc<str>, sure: bool) -> Option<Came> {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let Batch { of, through } = batches.get(purpose)?.clone();
        Some(Came { through, of, sure })
    }
}

impl Provenance for Commands {
    fn any(&self) -> bool {
        self.runner.runs_any()
    }

    fn of(&self, caller: Caller) -> Vec<Came> {
        let peer = match caller {
            Caller::Process(pid) => Peer::Process(pid),
            Caller::Tcp { ours, theirs } => Peer::Tcp { ours, theirs },
        };
        match self.runner.origin(peer) {
            Origin::Elsewhere => Vec::new(),
            Origin::Command(purpose) => self.came(&purpose, true).into_iter().collect(),
            Origin::Gone(any) => any.iter().filter_map(|one| self.came(one, false)).collect(),
        }
    }
}
