//! Bounds on lines, files and blobs.

use super::{Check, Findings, Workspace};

#[cfg(test)]
use super::sample::Plant;

const COLUMNS_AT_MOST: usize = 100;
const LINES_AT_MOST: usize = 800;
const BLOB_BYTES_AT_MOST: u64 = 512 << 10;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "width",
        why: "two files fit beside each other on a screen",
        run: width,
        #[cfg(test)]
        plants: &[Plant {
            what: "a long line",
            edit: |workspace| {
                let line = format!("// {}\n", "long ".repeat(20));
                workspace.append("cli/src/lib.rs", &line);
            },
        }],
    },
    Check {
        name: "length",
        why: "a file is one concern; split it by concern before it hurts",
        run: length,
        #[cfg(test)]
        plants: &[Plant {
            what: "a long file",
            edit: |workspace| {
                workspace.append("cli/src/lib.rs", &"// line\n".repeat(LINES_AT_MOST));
            },
        }],
    },
    Check {
        name: "blobs",
        why: "what is once in the history is downloaded by everybody for ever",
        run: blobs,
        #[cfg(test)]
        plants: &[
            Plant {
                what: "a large file in the tree",
                edit: |workspace| {
                    workspace.paths.push(("docs/film.gif".to_owned(), BLOB_BYTES_AT_MOST + 1));
                },
            },
            Plant {
                what: "a large file of an older commit",
                edit: |workspace| {
                    workspace.blobs.push(("gone.bin".to_owned(), BLOB_BYTES_AT_MOST + 1));
                },
            },
        ],
    },
];

fn width(workspace: &Workspace, findings: &mut Findings) {
    let code = |extension: &str| matches!(extension, "rs" | "sh");
    for file in workspace.files.iter().filter(|file| code(file.extension())) {
        for (number, line) in file.lines() {
            let columns = line.chars().count();
            if columns > COLUMNS_AT_MOST && !line.contains("://") {
                findings.line(
                    &file.path,
                    number,
                    format!("{columns} columns, at most {COLUMNS_AT_MOST}"),
                );
            }
        }
    }
}

fn length(workspace: &Workspace, findings: &mut Findings) {
    for file in workspace.files.iter().filter(|file| file.extension() == "rs") {
        let lines = file.text.lines().count();
        if lines > LINES_AT_MOST {
            findings.file(&file.path, format!("{lines} lines, at most {LINES_AT_MOST}"));
        }
    }
}

fn blobs(workspace: &Workspace, findings: &mut Findings) {
    let large = |(_, size): &&(String, u64)| *size > BLOB_BYTES_AT_MOST;
    for (path, size) in workspace.paths.iter().filter(large) {
        findings.file(path, format!("{size} bytes, at most {BLOB_BYTES_AT_MOST}"));
    }
    for (path, size) in workspace.blobs.iter().filter(large) {
        findings.file(path, format!("{size} bytes in the history, at most {BLOB_BYTES_AT_MOST}"));
    }
}
