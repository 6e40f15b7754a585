//! A disk that does not take the node's life (BLOC-9).
//!
//! `state-without-lives.db` is a state of version 1 as `edge/store/src/state/schema.rs` makes it,
//! and then
//!
//! ```sql
//! CREATE TRIGGER no_lives BEFORE UPDATE OF incarnation ON node
//! BEGIN SELECT RAISE(ABORT, 'no life is kept here'); END;
//! ```
//!
//! so that everything works as ever up to the one write that must not fail.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::agents::Bloc;

const STATE: &[u8] = include_bytes!("state-without-lives.db");

#[test]
fn a_node_whose_life_cannot_be_kept_stops_before_it_said_anything() {
    let bloc = Bloc::new();
    let mut seed = bloc.agent("seed-1", "30d", &[], "");
    // Alone it would begin without a link, and nothing of this would be seen.
    let patient = "[timers]\nalone_after = \"30s\"\n";
    let mut node = bloc.agent("web-1", "30d", &[&seed], patient);
    seed.start();
    let state = node.dir.join("state");
    fs::create_dir(&state).unwrap();
    for (path, mode) in [(state.join("state.db"), 0o600), (state.clone(), 0o700)] {
        if mode == 0o600 {
            fs::write(&path, STATE).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    let log = node.start_in_vain();
    assert!(log.contains("no life is kept here"), "{log}");
    assert!(log.contains("stops unheard") && log.contains("make room on the disk"), "{log}");
    // It was linked, and nobody heard a fact of it.
    assert_eq!(seed.events("link-up").len(), 1);
    let member = seed.member("web-1");
    assert!(member["addresses"].as_array().is_none_or(Vec::is_empty), "{member}");
    assert_ne!(member["presence"], "present", "{member}");
    assert!(member["certificate_until"].is_null(), "{member}");
    assert_eq!(seed.ask(&["status"])["present"], 1);
}
