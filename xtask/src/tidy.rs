//! What the compiler and clippy cannot see, checked over `cargo metadata` and the tree.
//!
//! `ARCHITECTURE.md` says that the folder is the permission, that every raw dependency has an owner
//! and that documents are true. A rule that nothing checks decays, so each of them is a [`Check`]
//! here: a pure function from a [`Workspace`] to findings. The whole list runs as
//! `cargo xtask tidy` and as a plain test of this crate, so no extra tool is needed.
//!
//! A checker that has never failed proves nothing. Every check therefore carries *plants*: small
//! edits of a sound workspace that break its rule. One test plants each of them and demands that
//! the check finds it, and that the sound workspace stays without findings.

mod docs;
mod layers;
mod licences;
mod manifests;
mod owners;
mod sizes;
mod text;
mod workspace;

#[cfg(test)]
mod sample;

use std::fmt;

pub use workspace::{Dependency, External, Kind, Member, SourceFile, Workspace};

/// One rule of the project and the function that looks for breaches of it.
pub struct Check {
    /// What the finding is filed under, and `cargo xtask tidy --list` prints.
    pub name: &'static str,
    /// Why the rule exists.
    pub why: &'static str,
    /// Looks at the whole workspace and reports each breach.
    pub run: fn(&Workspace, &mut Findings),
    /// Edits of a sound workspace, each of which this check must find.
    #[cfg(test)]
    plants: &'static [sample::Plant],
}

/// Every check, in the order in which findings are easiest to mend.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    [
        manifests::CHECKS,
        layers::CHECKS,
        owners::CHECKS,
        licences::CHECKS,
        text::CHECKS,
        sizes::CHECKS,
        docs::CHECKS,
    ]
    .into_iter()
    .flatten()
}

/// Runs every check.
#[must_use]
pub fn run(workspace: &Workspace) -> Vec<Finding> {
    checks().flat_map(|check| run_one(check, workspace)).collect()
}

fn run_one(check: &Check, workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Findings { check: check.name, found: Vec::new() };
    (check.run)(workspace, &mut findings);
    findings.found
}

/// One breach of one rule, at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the check.
    pub check: &'static str,
    /// Path below the root.
    pub path: String,
    /// Line, counted from one, where there is one.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": [{}] {}", self.check, self.message)
    }
}

/// Where a check puts what it finds.
pub struct Findings {
    check: &'static str,
    found: Vec<Finding>,
}

impl Findings {
    /// A breach by a whole file or crate.
    pub fn file(&mut self, path: &str, message: impl Into<String>) {
        self.push(path, None, message.into());
    }

    /// A breach on one line, counted from one.
    pub fn line(&mut self, path: &str, line: usize, message: impl Into<String>) {
        self.push(path, Some(line), message.into());
    }

    fn push(&mut self, path: &str, line: Option<usize>, message: String) {
        self.found.push(Finding { check: self.check, path: path.to_owned(), line, message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn this_workspace_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let workspace = Workspace::load(&root).unwrap();
        let findings: Vec<String> = run(&workspace).iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }

    #[test]
    fn a_sound_workspace_has_no_findings() {
        assert_eq!(run(&sample::sound()), []);
    }

    #[test]
    fn every_check_finds_each_of_its_plants() {
        for check in checks() {
            assert!(!check.plants.is_empty(), "{} has no plant", check.name);
            for plant in check.plants {
                let mut workspace = sample::sound();
                (plant.edit)(&mut workspace);
                let found = run_one(check, &workspace);
                assert!(!found.is_empty(), "{} misses: {}", check.name, plant.what);
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = checks().map(|check| check.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_finding_names_the_place_first() {
        let finding = Finding {
            check: "width",
            path: "cli/src/lib.rs".to_owned(),
            line: Some(7),
            message: "101 columns".to_owned(),
        };
        assert_eq!(finding.to_string(), "cli/src/lib.rs:7: [width] 101 columns");
    }
}
