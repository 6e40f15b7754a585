//! The files of commands in `scenarios/managers` lead to what their logs say, whatever the build.
//! `SKEP_BLESS=1` writes the logs anew: look at the difference before it is committed.

#![expect(clippy::unwrap_used, reason = "this is a test, its own helpers included")]

use std::path::{Path, PathBuf};

use skep_sim::managed::script;

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/managers");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

#[test]
fn every_file_of_commands_leads_to_its_log() {
    let bless = std::env::var_os("SKEP_BLESS").is_some();
    let folders = folders();
    assert!(folders.len() >= 14, "{} scenarios", folders.len());
    let mut differ = Vec::new();
    for folder in folders {
        let commands = std::fs::read_to_string(folder.join("commands")).unwrap();
        let title = std::fs::read_to_string(folder.join("README.md")).unwrap();
        assert!(title.starts_with("# "), "{} says what it shows", folder.display());
        let log = match script::play(&commands, 1) {
            Ok(log) => log,
            Err(error) => panic!("{}: {error:#}", folder.display()),
        };
        let expected = folder.join("log.expect");
        if bless {
            std::fs::write(&expected, &log).unwrap();
        } else if log != std::fs::read_to_string(&expected).unwrap() {
            differ.push(format!("{}\n{log}", folder.display()));
        }
    }
    assert!(differ.is_empty(), "other than expected:\n{}", differ.join("\n"));
}

#[test]
fn a_file_that_asks_too_much_says_which_line_and_what_came_before() {
    let error = script::play("nodes 1\nstart n1\nuntil role n1 semi-master 3\n", 1).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("line 3: until role n1 semi-master 3"), "{error}");
    assert!(error.contains("founds generation 1"), "the log so far: {error}");
    let error = script::play("nodes 2\nstop n1\n", 1).unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error:#}");
}
