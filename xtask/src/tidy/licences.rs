//! Whose code we ship, under which terms and from where.

use super::{Check, Findings, Workspace};

#[cfg(test)]
use super::sample::Plant;

/// Terms that go with MIT OR Apache-2.0 in one binary. `deny.toml` repeats them.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// Packages that are built, for all platforms and tests. A lean set builds in minutes on two cores.
const PACKAGES_AT_MOST: usize = 320;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "licences",
        why: "what we ship must be free to ship",
        run: licences,
        #[cfg(test)]
        plants: &[
            Plant {
                what: "a copyleft dependency",
                edit: |workspace| {
                    workspace.externals[0].licence = Some("AGPL-3.0-only".to_owned());
                },
            },
            Plant {
                what: "a conjunction with a copyleft half",
                edit: |workspace| {
                    workspace.externals[0].licence = Some("MIT AND GPL-2.0-only".to_owned());
                },
            },
            Plant {
                what: "a dependency without any licence",
                edit: |workspace| workspace.externals[0].licence = None,
            },
        ],
    },
    Check {
        name: "sources",
        why: "a fresh machine reaches crates.io and nothing else",
        run: sources,
        #[cfg(test)]
        plants: &[Plant {
            what: "a git dependency",
            edit: |workspace| {
                workspace.externals[0].source = "git+https://example.org/serde".to_owned();
            },
        }],
    },
    Check {
        name: "budget",
        why: "every crate costs build time and trust",
        run: budget,
        #[cfg(test)]
        plants: &[Plant {
            what: "hundreds of crates",
            edit: |workspace| {
                let one = workspace.externals[0].clone();
                workspace.externals.resize(PACKAGES_AT_MOST + 1, one);
            },
        }],
    },
];

fn licences(workspace: &Workspace, findings: &mut Findings) {
    for external in &workspace.externals {
        let subject = format!("{} {}", external.name, external.version);
        let Some(expression) = &external.licence else {
            findings.file("Cargo.lock", format!("{subject} declares no licence"));
            continue;
        };
        match accepted(expression) {
            Some(true) => {}
            Some(false) => findings.file(
                "Cargo.lock",
                format!("{subject} is under {expression}, which is not on the list"),
            ),
            None => findings.file(
                "Cargo.lock",
                format!("{subject} declares {expression:?}, which is no licence expression"),
            ),
        }
    }
}

fn sources(workspace: &Workspace, findings: &mut Findings) {
    for external in workspace.externals.iter().filter(|found| found.source != CRATES_IO) {
        findings.file(
            "Cargo.lock",
            format!("{} {} comes from {}", external.name, external.version, external.source),
        );
    }
}

fn budget(workspace: &Workspace, findings: &mut Findings) {
    let count = workspace.externals.iter().filter(|external| external.built).count();
    if count > PACKAGES_AT_MOST {
        findings.file("Cargo.lock", format!("{count} packages, budget {PACKAGES_AT_MOST}"));
    }
}

/// Whether an SPDX expression can be met with the allowed terms, or `None` if it is malformed.
///
/// `AND` binds tighter than `OR`; the slash of old manifests is `OR`.
fn accepted(expression: &str) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = either(&mut rest)?;
    rest.is_empty().then_some(met)
}

fn either(words: &mut &[&str]) -> Option<bool> {
    let mut met = both(words)?;
    while take(words, "OR") {
        met |= both(words)?;
    }
    Some(met)
}

fn both(words: &mut &[&str]) -> Option<bool> {
    let mut met = term(words)?;
    while take(words, "AND") {
        met &= term(words)?;
    }
    Some(met)
}

fn term(words: &mut &[&str]) -> Option<bool> {
    if take(words, "(") {
        let met = either(words)?;
        return take(words, ")").then_some(met);
    }
    let (first, rest) = words.split_first()?;
    if matches!(*first, "AND" | "OR" | "WITH" | ")") {
        return None;
    }
    *words = rest;
    let mut name = (*first).to_owned();
    if take(words, "WITH") {
        let (exception, rest) = words.split_first()?;
        *words = rest;
        name = format!("{name} WITH {exception}");
    }
    Some(ALLOWED.contains(&name.as_str()))
}

fn take(words: &mut &[&str], wanted: &str) -> bool {
    match words.split_first() {
        Some((first, rest)) if *first == wanted => {
            *words = rest;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_met_by_any_allowed_choice() {
        for fine in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0-only OR MIT",
            "(MIT OR GPL-2.0-only) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "ISC AND (Apache-2.0 OR ISC) AND MIT",
        ] {
            assert_eq!(accepted(fine), Some(true), "{fine}");
        }
        for refused in [
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "MIT AND (GPL-3.0-only OR LGPL-2.1-only)",
            "GPL-2.0-only WITH Classpath-exception-2.0",
        ] {
            assert_eq!(accepted(refused), Some(false), "{refused}");
        }
    }

    #[test]
    fn what_is_no_expression_is_said_to_be_none() {
        for malformed in ["", "MIT OR", "(MIT", "MIT Apache-2.0", "AND", "MIT WITH"] {
            assert_eq!(accepted(malformed), None, "{malformed:?}");
        }
    }
}
