//! The demonstration holds on a small tree, with real processes.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

#[test]
fn three_nodes_meet_obey_lose_one_and_welcome_another() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("etc/deep/er")).unwrap();
    fs::write(tree.join("empty"), "").unwrap();
    // Cut into several chunks, none of them like another.
    let large: Vec<u8> = (0..300_000_u32).flat_map(|n| (n ^ (n >> 3)).to_le_bytes()).collect();
    fs::write(tree.join("etc/large"), large).unwrap();
    fs::write(tree.join("etc/deep/er/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(tree.join("etc/deep/er/run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::hard_link(tree.join("etc/large"), tree.join("same")).unwrap();
    symlink("etc/large", tree.join("link")).unwrap();
    let place = dir.path().join("place");
    fs::create_dir(&place).unwrap();

    let output = Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(["demo", "--nodes", "3", "--tree"])
        .arg(&tree)
        .env("TMPDIR", &place)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}\n{wrong}", output.status);
    assert!(said.contains("each of 3 sees all 3 present"), "{said}");
    assert!(said.contains("3 of 3 nodes switched to /tree"), "{said}");
    assert!(said.contains("node-2; all others see it silent"), "{said}");
    assert!(said.contains("node-4, not there before"), "{said}");
    assert!(said.contains("4 of 4 copies are equal"), "{said}");
    let left: Vec<_> = fs::read_dir(&place).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn a_tree_that_is_not_there_ends_it_with_logs_and_without_leftovers() {
    let place = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(["demo", "--nodes", "3", "--tree", "/nowhere/at/all"])
        .env("TMPDIR", place.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(wrong.contains("/nowhere/at/all"), "{wrong}");
    assert!(wrong.contains("the end of the log of node-3"), "{wrong}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}
