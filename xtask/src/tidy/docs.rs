//! Documents are true: links lead somewhere and cited requirements exist.

use std::collections::BTreeSet;

use super::{Check, Findings, SourceFile, Workspace};

#[cfg(test)]
use super::sample::Plant;

/// The list of everything the founding documents ask for.
const REQUIREMENTS: &str = "docs/requirements.md";
/// The page from which a reader finds every other.
const INDEX: &str = "docs/README.md";
const PREFIXES: [&str; 5] = ["DLIF-", "MULTI-", "BLOC-", "DVM-", "FLOOD-"];

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "links",
        why: "a link that leads nowhere is worse than none",
        run: links,
        #[cfg(test)]
        plants: &[
            Plant {
                what: "a link to a file that is not there",
                edit: |workspace| workspace.append("README.md", "[gone](docs/gone.md)\n"),
            },
            Plant {
                what: "a link to a heading that is not there",
                edit: |workspace| workspace.append("README.md", "[gone](docs/guide.md#gone)\n"),
            },
            Plant {
                what: "a link to a heading of the same page that is not there",
                edit: |workspace| workspace.append("README.md", "[gone](#gone)\n"),
            },
        ],
    },
    Check {
        name: "index",
        why: "a page that no reader finds was not written",
        run: index,
        #[cfg(test)]
        plants: &[
            Plant {
                what: "a page that the index does not link",
                edit: |workspace| workspace.write("docs/lost.md", "# Lost\n"),
            },
            Plant {
                what: "a page in a folder whose link is of the folder alone",
                edit: |workspace| {
                    workspace.write("docs/protocol/lost.md", "# Lost\n");
                    workspace.append("docs/README.md", "[all](protocol)\n");
                },
            },
            Plant {
                what: "pages without an index",
                edit: |workspace| workspace.files.retain(|file| file.path != INDEX),
            },
        ],
    },
    Check {
        name: "shown",
        why: "a page that names a test which is gone shows nothing",
        run: tests_named,
        #[cfg(test)]
        plants: &[
            Plant {
                what: "a test that is gone from its file",
                edit: |workspace| {
                    workspace.append("docs/guide.md", "`core/base/src/lib.rs::it_holds`\n");
                },
            },
            Plant {
                what: "a test in a file that is gone",
                edit: |workspace| workspace.append("docs/guide.md", "`core/gone.rs::it_holds`\n"),
            },
        ],
    },
    Check {
        name: "requirements",
        why: "a cited identifier is a promise about a line of the founding documents",
        run: requirements,
        #[cfg(test)]
        plants: &[
            Plant {
                what: "an identifier that does not exist",
                edit: |workspace| {
                    workspace.append("cli/src/lib.rs", concat!("// FLOOD", "-99\n"));
                },
            },
            Plant {
                what: "a range that ends beyond the list",
                edit: |workspace| {
                    workspace.append("README.md", concat!("FLOOD", "-33..99\n"));
                },
            },
        ],
    },
];

fn links(workspace: &Workspace, findings: &mut Findings) {
    for file in workspace.files.iter().filter(|file| file.extension() == "md") {
        for (number, line) in prose(file) {
            for target in targets(&line) {
                if let Err(why) = resolve(workspace, &file.path, target) {
                    findings.line(&file.path, number, format!("link to {target}: {why}"));
                }
            }
        }
    }
}

fn index(workspace: &Workspace, findings: &mut Findings) {
    let Some(index) = workspace.file(INDEX) else {
        findings.file(INDEX, "is missing, so no page can be found");
        return;
    };
    let lines = prose(index);
    let linked: BTreeSet<String> = lines
        .iter()
        .flat_map(|(_, line)| targets(line))
        .filter_map(|target| beside(INDEX, target.split('#').next()?))
        .collect();
    let pages = workspace.files.iter().filter(|file| file.extension() == "md");
    let pages = pages.filter(|file| file.path.starts_with("docs/") && file.path != INDEX);
    for page in pages.filter(|page| !linked.contains(&page.path)) {
        findings.file(&page.path, format!("is not linked from {INDEX}"));
    }
}

/// Lines outside fenced code, with inline code blanked.
fn prose(file: &SourceFile) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (number, line) in file.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let outside = line.split('`').step_by(2);
            lines.push((number, outside.collect::<Vec<_>>().join("`")));
        }
    }
    lines
}

fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

fn resolve(workspace: &Workspace, from: &str, target: &str) -> Result<(), &'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() {
        from.to_owned()
    } else {
        beside(from, path).ok_or("leads out of the project")?
    };
    let folder = format!("{path}/");
    let there = workspace.paths.iter().any(|(have, _)| *have == path || have.starts_with(&folder));
    if !there {
        return Err("no such file");
    }
    match workspace.file(&path) {
        Some(page) if !anchor.is_empty() && !headings(page).contains(anchor) => {
            Err("no such heading")
        }
        _ => Ok(()),
    }
}

/// `target` as seen from the folder of `from`.
fn beside(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Anchors as GitHub makes them from headings.
fn headings(page: &SourceFile) -> BTreeSet<String> {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    page.text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title.chars().filter(kept).collect::<String>().replace(' ', "-")
        })
        .collect()
}

fn tests_named(workspace: &Workspace, findings: &mut Findings) {
    for page in workspace.files.iter().filter(|file| file.extension() == "md") {
        for (number, line) in page.lines() {
            for (file, test) in tests_in(line) {
                let file = format!("{file}.rs");
                let there = |source: &SourceFile| source.text.contains(&format!("fn {test}("));
                if !workspace.file(&file).is_some_and(there) {
                    findings.line(&page.path, number, format!("no test {test} in {file}"));
                }
            }
        }
    }
}

/// What stands in a line as `` `path/to/file.rs::test` ``.
fn tests_in(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split('`').skip(1).step_by(2).filter_map(|code| code.split_once(".rs::"))
}

fn requirements(workspace: &Workspace, findings: &mut Findings) {
    let Some(list) = workspace.file(REQUIREMENTS) else {
        findings.file(REQUIREMENTS, "is missing, so no identifier can be checked");
        return;
    };
    let known: BTreeSet<String> = list
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("- **"))
        .filter_map(|line| line.split("**").next().map(str::to_owned))
        .collect();
    let cites = |file: &&SourceFile| {
        matches!(file.extension(), "rs" | "md" | "toml") && file.path != REQUIREMENTS
    };
    for file in workspace.files.iter().filter(cites) {
        for (number, line) in file.lines() {
            for id in cited(line).iter().filter(|id| !known.contains(*id)) {
                findings.line(&file.path, number, format!("{id} is not in {REQUIREMENTS}"));
            }
        }
    }
}

/// Identifiers a line cites; of a range such as `BLOC-15..18` both ends.
fn cited(line: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for prefix in PREFIXES {
        for rest in line.split(prefix).skip(1) {
            let Some((first, mut rest)) = number(rest) else {
                continue;
            };
            ids.push(format!("{prefix}{first}"));
            while let Some((next, after)) = further(rest) {
                ids.push(format!("{prefix}{next}"));
                rest = after;
            }
        }
    }
    ids
}

/// The number after `..`, a dash or a comma.
fn further(text: &str) -> Option<(u32, &str)> {
    const JOINTS: [&str; 4] = ["..", "–", "-", ", "];
    let after = JOINTS.iter().find_map(|joint| text.strip_prefix(joint))?;
    number(after)
}

fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read() {
        let line = concat!("as (DLIF", "-16..24, BLOC", "-9, 10) and DVM", "-3–5 say");
        assert_eq!(
            cited(line),
            [
                concat!("DLIF", "-16"),
                concat!("DLIF", "-24"),
                concat!("BLOC", "-9"),
                concat!("BLOC", "-10"),
                concat!("DVM", "-3"),
                concat!("DVM", "-5"),
            ]
        );
        assert!(cited("FLOODED-1 FLOOD-").is_empty());
    }

    #[test]
    fn a_link_is_read_from_its_own_folder() {
        assert_eq!(beside("docs/a.md", "../README.md").as_deref(), Some("README.md"));
        assert_eq!(beside("docs/a.md", "protocol/b.md").as_deref(), Some("docs/protocol/b.md"));
        assert_eq!(beside("README.md", "../x"), None);
    }

    #[test]
    fn code_holds_no_links() {
        let page = SourceFile {
            path: "a.md".to_owned(),
            text: "```\n[x](y)\n```\n`[x](y)` [z](w)\n".to_owned(),
        };
        let lines = prose(&page);
        let found: Vec<&str> = lines.iter().flat_map(|(_, line)| targets(line)).collect();
        assert_eq!(found, ["w"]);
    }

    #[test]
    fn anchors_are_those_of_a_rendered_page() {
        let page = SourceFile {
            path: "a.md".to_owned(),
            text: "# What always holds, and why\n".to_owned(),
        };
        assert!(headings(&page).contains("what-always-holds-and-why"));
    }
}
