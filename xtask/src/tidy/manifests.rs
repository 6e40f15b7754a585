//! Rules for each crate's manifest and for the head of its root file.

use super::{Check, Findings, Workspace};

#[cfg(test)]
use super::sample::Plant;

/// Fewest lines of `//!` that can teach anything.
const TEACHING_LINES: usize = 3;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "names",
        why: "a crate is found by its folder: `core/flood` is `skep-flood`",
        run: names,
        #[cfg(test)]
        plants: &[Plant {
            what: "a package named unlike its folder",
            edit: |workspace| workspace.member("core/flood").name = "flooder".to_owned(),
        }],
    },
    Check {
        name: "manifest",
        why: "versions, editions and lints are said once, in the workspace",
        run: manifest,
        #[cfg(test)]
        plants: &[
            Plant {
                what: "a version of its own",
                edit: |workspace| workspace.member("cli").version = "0.1.0".to_owned(),
            },
            Plant {
                what: "a manifest without the workspace's lints",
                edit: |workspace| workspace.member("cli").manifest.clear(),
            },
            Plant {
                what: "an external version outside the workspace table",
                edit: |workspace| {
                    let manifest = &mut workspace.member("cli").manifest;
                    manifest.push_str("[dependencies]\nserde = \"1\"\n");
                },
            },
        ],
    },
    Check {
        name: "teaching",
        why: "the first page of a crate says what it is for before any code does",
        run: teaching,
        #[cfg(test)]
        plants: &[Plant {
            what: "a root file without a teaching comment",
            edit: |workspace| workspace.write("core/flood/src/lib.rs", "#![no_std]\npub fn f() {}"),
        }],
    },
    Check {
        name: "no-std",
        why: "without std the compiler itself forbids clocks, sockets, files and threads in core/",
        run: no_std,
        #[cfg(test)]
        plants: &[
            Plant {
                what: "a core crate with std",
                edit: |workspace| workspace.replace("core/flood/src/lib.rs", "#![no_std]", ""),
            },
            Plant {
                what: "a core crate that may stay undocumented",
                edit: |workspace| {
                    workspace.replace("core/flood/src/lib.rs", "#![warn(missing_docs)]", "");
                },
            },
        ],
    },
    Check {
        name: "clippy-files",
        why: "clippy takes the first file it finds, so core's repeats what the root's says",
        run: clippy_files,
        #[cfg(test)]
        plants: &[Plant {
            what: "a setting that core/ does not have",
            edit: |workspace| workspace.append("clippy.toml", "too-many-arguments-threshold = 5\n"),
        }],
    },
    Check {
        name: "lock",
        why: "everybody builds the same versions, and CI builds with --locked",
        run: lock,
        #[cfg(test)]
        plants: &[Plant {
            what: "no Cargo.lock",
            edit: |workspace| workspace.paths.retain(|(path, _)| path != "Cargo.lock"),
        }],
    },
];

fn names(workspace: &Workspace, findings: &mut Findings) {
    for member in &workspace.members {
        let last = member.folder.rsplit('/').next().unwrap_or_default();
        let wanted = format!("skep-{last}");
        if member.name != wanted {
            findings.file(
                &format!("{}/Cargo.toml", member.folder),
                format!("the package is named {}, not {wanted}", member.name),
            );
        }
    }
}

fn manifest(workspace: &Workspace, findings: &mut Findings) {
    const INHERITED: [&str; 5] = [
        "version.workspace = true",
        "edition.workspace = true",
        "rust-version.workspace = true",
        "license.workspace = true",
        "publish.workspace = true",
    ];
    for member in &workspace.members {
        let path = format!("{}/Cargo.toml", member.folder);
        if member.version != "0.0.0" {
            findings.file(&path, "nothing is released: the version is 0.0.0");
        }
        for line in INHERITED {
            if !member.manifest.lines().any(|have| have == line) {
                findings.file(&path, format!("missing `{line}`"));
            }
        }
        if !member.manifest.contains("[lints]\nworkspace = true\n") {
            findings.file(&path, "missing `[lints]` with `workspace = true`");
        }
        let mut in_dependencies = false;
        for (number, line) in (1..).zip(member.manifest.lines()) {
            if line.starts_with('[') {
                in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
            } else if in_dependencies && line.contains('=') && !line.contains("workspace = true") {
                findings.line(&path, number, "say the version in the workspace, once");
            }
        }
    }
}

fn teaching(workspace: &Workspace, findings: &mut Findings) {
    for member in &workspace.members {
        let Some(file) = workspace.file(&member.entry) else {
            findings.file(&member.entry, "the crate's root file is not part of the project");
            continue;
        };
        let head = file.text.lines().take_while(|line| line.starts_with("//!"));
        if head.filter(|line| line.len() > "//! ".len()).count() < TEACHING_LINES {
            findings.line(
                &member.entry,
                1,
                format!("begins with fewer than {TEACHING_LINES} lines of `//!` that teach"),
            );
        }
    }
}

/// Core crates whose engine needs `std`. `core/clippy.toml` still forbids them clocks and threads.
const NEEDS_STD: &[&str] = &["core/managers"];

fn no_std(workspace: &Workspace, findings: &mut Findings) {
    for member in workspace.members.iter().filter(|member| member.folder.starts_with("core/")) {
        let Some(file) = workspace.file(&member.entry) else {
            continue; // `teaching` has said so.
        };
        let has = |attribute: &str| file.text.lines().any(|line| line == attribute);
        if !has("#![no_std]") && !NEEDS_STD.contains(&member.folder.as_str()) {
            findings.file(&member.entry, "a core crate without `#![no_std]`");
        }
        if !has("#![warn(missing_docs)]") {
            findings.file(&member.entry, "a core crate without `#![warn(missing_docs)]`");
        }
    }
}

fn clippy_files(workspace: &Workspace, findings: &mut Findings) {
    let (root, core) = ("clippy.toml", "core/clippy.toml");
    let (Some(said), Some(repeated)) = (workspace.file(root), workspace.file(core)) else {
        findings.file(core, format!("this and {root} set the bounds that clippy checks"));
        return;
    };
    for (number, line) in said.lines().filter(|(_, line)| line.contains(" = ")) {
        if !repeated.text.lines().any(|have| have == line) {
            findings.line(root, number, format!("{core} does not repeat `{line}`"));
        }
    }
}

fn lock(workspace: &Workspace, findings: &mut Findings) {
    if !workspace.paths.iter().any(|(path, _)| path == "Cargo.lock") {
        findings.file("Cargo.lock", "is not committed");
    }
}
