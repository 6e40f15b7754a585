//! Rules for the text of sources: what may not be left behind, and what a test may not do.

use super::{Check, Findings, SourceFile, Workspace};

#[cfg(test)]
use super::sample::Plant;

/// Marks that say "unfinished". Written in halves so that this file passes its own check.
const UNFINISHED: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X"),
    concat!("dbg", "!"),
    concat!("todo", "!"),
    concat!("unimplemented", "!"),
];
const IGNORE: &str = concat!("#[", "ignore");
const ALLOWS: [&str; 2] = [concat!("#[", "allow("), concat!("#![", "allow(")];
/// Ways to wait for luck instead of for a condition.
const SLEEPS: [&str; 3] =
    [concat!("thread::", "sleep"), concat!("time::", "sleep"), concat!("thread_", "sleep")];
/// Where the kernel is asked what no safe wrapper asks, each time with its reason.
const UNSAFE_ALLOWED: [&str; 6] = [
    "edge/control/",
    "edge/hostfs/",
    "edge/runner/",
    "edge/transport/",
    "testing/fuzz/",
    "testing/lab/",
];
const UNSAFE: [&str; 4] = [
    concat!("unsafe", " {"),
    concat!("unsafe", " fn"),
    concat!("unsafe", " impl"),
    concat!("expect(unsafe", "_code"),
];
/// A comment with this word and a reason, on the line or the one above, lets a test sleep.
const SLEEP_REASON: &str = "// sleeps:";

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "unfinished",
        why: "what is not built is not in the tree; what is left out is said in the README",
        run: unfinished,
        #[cfg(test)]
        plants: &[
            Plant {
                what: "a note to oneself",
                edit: |workspace| {
                    workspace.append("cli/src/lib.rs", concat!("// FIX", "ME later\n"));
                },
            },
            Plant {
                what: "a body left out",
                edit: |workspace| {
                    workspace
                        .append("cli/src/lib.rs", concat!("fn f() { unimplemented", "!() }\n"));
                },
            },
        ],
    },
    Check {
        name: "ignored",
        why: "a test that is ignored is a test that nobody runs",
        run: ignored,
        #[cfg(test)]
        plants: &[Plant {
            what: "an ignored test",
            edit: |workspace| {
                workspace.append("cli/src/lib.rs", concat!("#[", "ignore]\nfn f() {}\n"));
            },
        }],
    },
    Check {
        name: "allowed",
        why: "`expect` with a reason tells when it is no longer needed; `allow` never does",
        run: allowed,
        #[cfg(test)]
        plants: &[
            Plant {
                what: "an allowed lint",
                edit: |workspace| {
                    workspace.append("cli/src/lib.rs", concat!("#[", "allow(dead_code)]\n"));
                },
            },
            Plant {
                what: "a lint allowed for the whole crate",
                edit: |workspace| {
                    workspace.append("cli/src/lib.rs", concat!("#![", "allow(dead_code)]\n"));
                },
            },
        ],
    },
    Check {
        name: "unsafe",
        why: "unsafe code stays in the few crates that speak to the kernel themselves",
        run: unsafe_code,
        #[cfg(test)]
        plants: &[Plant {
            what: "unsafe code in the command line",
            edit: |workspace| {
                workspace.append("cli/src/lib.rs", concat!("fn f() { unsafe", " { g() } }\n"));
            },
        }],
    },
    Check {
        name: "sleeping",
        why: "a test waits for a condition with a deadline, never for luck",
        run: sleeping,
        #[cfg(test)]
        plants: &[
            Plant {
                what: "a sleep in a test module",
                edit: |workspace| {
                    workspace.append(
                        "cli/src/lib.rs",
                        concat!("#[cfg(test)]\nmod tests {\n std::thread::", "sleep(d);\n}\n"),
                    );
                },
            },
            Plant {
                what: "a sleep in a test file",
                edit: |workspace| {
                    workspace
                        .write("cli/tests/a.rs", concat!("tokio::time::", "sleep(d).await;\n"));
                },
            },
            Plant {
                what: "an excuse without a reason",
                edit: |workspace| {
                    workspace.write(
                        "cli/tests/a.rs",
                        concat!("tokio::time::", "sleep(d).await; // sleeps:\n"),
                    );
                },
            },
        ],
    },
];

fn rust(workspace: &Workspace) -> impl Iterator<Item = &SourceFile> {
    workspace.files.iter().filter(|file| file.extension() == "rs")
}

fn unfinished(workspace: &Workspace, findings: &mut Findings) {
    for file in rust(workspace) {
        for (number, line) in file.lines() {
            for mark in UNFINISHED.iter().filter(|mark| stands_alone(line, mark)) {
                findings.line(&file.path, number, format!("`{mark}` left behind"));
            }
        }
    }
}

/// Whether `word` occurs in `line` without a letter, digit or underscore before or after it.
fn stands_alone(line: &str, word: &str) -> bool {
    let joined = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, rest) = line.split_at(at);
        let after = rest.strip_prefix(word).unwrap_or_default();
        !before.ends_with(joined) && !after.starts_with(joined)
    })
}

fn ignored(workspace: &Workspace, findings: &mut Findings) {
    for file in rust(workspace) {
        for (number, _) in file.lines().filter(|(_, line)| line.contains(IGNORE)) {
            findings.line(&file.path, number, "say in one line at run time what cannot run");
        }
    }
}

fn allowed(workspace: &Workspace, findings: &mut Findings) {
    for file in rust(workspace) {
        for (number, line) in file.lines() {
            if ALLOWS.iter().any(|attribute| line.contains(attribute)) {
                findings.line(&file.path, number, "use `expect` with a reason");
            }
        }
    }
}

fn unsafe_code(workspace: &Workspace, findings: &mut Findings) {
    let barred = |file: &&SourceFile| !UNSAFE_ALLOWED.iter().any(|at| file.path.starts_with(at));
    for file in rust(workspace).filter(barred) {
        for (number, line) in file.lines() {
            if UNSAFE.iter().any(|mark| line.contains(mark)) {
                findings.line(&file.path, number, "this crate has no business with unsafe code");
            }
        }
    }
}

fn sleeping(workspace: &Workspace, findings: &mut Findings) {
    for file in rust(workspace) {
        let mut in_tests = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
        let mut above = "";
        for (number, line) in file.lines() {
            // Tests stand last in a file, so all that follows the attribute belongs to them.
            in_tests |= line == "#[cfg(test)]";
            let sleeps = SLEEPS.iter().any(|call| line.contains(call));
            if in_tests && sleeps && !excused(above) && !excused(line) {
                findings.line(
                    &file.path,
                    number,
                    format!("wait for a condition, or say why with `{SLEEP_REASON} ...`"),
                );
            }
            above = line;
        }
    }
}

fn excused(line: &str) -> bool {
    line.split_once(SLEEP_REASON).is_some_and(|(_, reason)| reason.trim().len() >= 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_inside_a_word_is_no_mark() {
        let mark = concat!("XX", "X");
        assert!(!stands_alone(concat!("mktemp /tmp/a.XX", "XXXX"), mark));
        assert!(stands_alone(concat!("// XX", "X: later"), mark));
        assert!(!stands_alone("", mark));
    }

    #[test]
    fn a_sleep_with_a_reason_is_let_pass() {
        assert!(excused("    // sleeps: the clock of the kernel is what is measured"));
        assert!(!excused("    // sleeps: why"));
    }
}
