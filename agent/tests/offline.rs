//! Commands that need no agent, carried out by the binary as an administrator would.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// Carries `words` out in `dir`.
fn skep(dir: &Path, words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(words.split_whitespace())
        .current_dir(dir)
        .env_remove("SKEP_CONFIG")
        .output()
        .unwrap()
}

/// What it printed, when it succeeded.
fn done(dir: &Path, words: &str) -> String {
    let output = skep(dir, words);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skep {words}: {wrong}");
    String::from_utf8(output.stdout).unwrap()
}

/// What it complained of, when it failed.
fn failed(dir: &Path, words: &str) -> String {
    let output = skep(dir, words);
    assert_eq!(output.status.code(), Some(1), "skep {words}");
    String::from_utf8(output.stderr).unwrap()
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_certificate_is_made_ahead_once_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert!(done(dir, "ca init --bloc example --dir ca").contains("example"));
    assert!(failed(dir, "ca init --bloc other --dir ca").contains("there is a CA"));
    done(dir, "ca issue queen-1 --role queen --network rack-a --dir ca");
    let mode = fs::metadata(dir.join("queen-1/node.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(dir.join("queen-1/ca.pem").exists() && dir.join("queen-1/node.pem").exists());

    let shown = json(&done(dir, "cert show --identity queen-1 --json"));
    assert_eq!(shown["node"], "queen-1");
    assert_eq!(shown["bloc"], "example");
    assert_eq!(shown["network"], "rack-a");
    assert_eq!(shown["roles"], serde_json::json!(["queen"]));
    assert!(done(dir, "cert show --identity queen-1").contains("renewed from"));

    // Neither the name nor the files of another are taken.
    assert!(failed(dir, "ca issue queen-1 --dir ca --out else").contains("--replace"));
    assert!(!dir.join("else").exists());
    assert!(failed(dir, "ca issue web-1 --dir ca --out queen-1").contains("not written over"));
    // The refusal came before the CA noted the name.
    done(dir, "ca issue web-1 --dir ca");
    done(dir, "ca issue queen-1 --replace --dir ca --out again");
}

#[test]
fn the_founding_token_comes_with_the_first_certificate_and_the_next_number_when_it_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    done(dir, "ca init --bloc example --dir ca");
    let first = done(dir, "ca issue web-1 --dir ca");
    assert!(first.contains("founding") && first.contains("web-1/founding.token"), "{first}");
    assert!(!done(dir, "ca issue web-2 --dir ca").contains("founding"));
    assert!(!dir.join("web-2/founding.token").exists());

    // Nobody is there to be asked.
    let asked = failed(dir, "ca refound web-2 --dir ca");
    assert!(asked.contains("number 1") && asked.contains("--yes"), "{asked}");
    assert!(!dir.join("web-2/founding.token").exists());
    let next = done(dir, "ca refound web-2 --dir ca --yes");
    assert!(next.contains("number 2"), "{next}");
    let file = dir.join("web-2/founding.token");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let word = fs::read_to_string(&file).unwrap();
    assert!(!next.contains(word.trim()), "it is a secret");
    assert!(failed(dir, "ca refound web-2 --dir ca --yes").contains("not written over"));
    let other = done(dir, "ca refound web-1 --dir ca --yes --out else --valid 2h");
    assert!(other.contains("number 3") && dir.join("else/founding.token").exists());
    assert!(failed(dir, "ca refound web-1 --dir ca --yes --out more --valid 90d").contains("30 d"));
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    done(dir, "ca init --bloc example --dir ca");
    done(dir, "ca issue web-1 --dir ca");
    let key = dir.join("web-1/node.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(failed(dir, "cert show --identity web-1").contains("node.key"));
}

#[test]
fn an_invitation_is_alone_on_standard_output_and_joining_keeps_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    done(dir, "ca init --bloc example --dir ca");
    // A port that was just free: whoever answers there now is no CA either.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let invite = skep(dir, &format!("ca invite --node web-7 --address {free} --dir ca"));
    let token = String::from_utf8(invite.stdout).unwrap();
    assert_eq!(token.lines().count(), 1);
    assert!(token.starts_with("skep-invite-"), "{token}");
    assert!(String::from_utf8_lossy(&invite.stderr).contains("works once"));

    let join = format!("join {} --identity id", token.trim());
    let wrong = failed(dir, &join);
    assert!(wrong.contains("web-7 has no certificate yet"), "{wrong}");
    assert!(wrong.contains(&free.to_string()), "{wrong}");
    let key = fs::read(dir.join("id/joining.key")).unwrap();
    failed(dir, &join);
    assert_eq!(fs::read(dir.join("id/joining.key")).unwrap(), key);

    let other = failed(dir, &format!("{join} --node web-8"));
    assert!(other.contains("for node web-7, not for web-8"), "{other}");
    assert!(failed(dir, "join nonsense --identity id").contains("no invitation"));
}

#[test]
fn the_default_configuration_is_sound_and_says_what_is_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("skep.toml"), done(dir, "config default")).unwrap();
    assert!(done(dir, "config check skep.toml").contains("is sound"));
    let shown = done(dir, "config show --config skep.toml");
    fs::write(dir.join("shown.toml"), &shown).unwrap();
    assert_eq!(done(dir, "config show --config shown.toml"), shown);
    assert!(done(dir, "config show --config skep.toml --origin").contains("skep.toml:"));

    fs::write(dir.join("wrong.toml"), "[node]\nstate_dirr = \"/x\"\n").unwrap();
    let wrong = failed(dir, "config check wrong.toml");
    assert!(wrong.contains("wrong.toml:2:1") && wrong.contains("state_dir"), "{wrong}");
}

#[test]
fn an_image_is_built_by_a_queen_only_and_told_apart_from_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    done(dir, "ca init --bloc example --dir ca");
    done(dir, "ca issue queen-1 --role queen --dir ca");
    done(dir, "ca issue web-1 --dir ca");
    for node in ["queen-1", "web-1"] {
        let (state, identity) = (dir.join(format!("state-{node}")), dir.join(node));
        let text = format!("[node]\nstate_dir = {state:?}\nidentity_dir = {identity:?}\n");
        fs::write(dir.join(format!("{node}.toml")), text).unwrap();
    }
    fs::create_dir(dir.join("site")).unwrap();
    fs::write(dir.join("site/page"), "hello").unwrap();

    let refused = failed(dir, "image build site --name web --config web-1.toml");
    assert!(refused.contains("web-1 is no queen"), "{refused}");
    let first = json(&done(dir, "image build site --name web --config queen-1.toml --json"));
    assert_eq!((&first["number"], &first["new_bytes"]), (&1.into(), &5.into()));
    fs::write(dir.join("site/more"), "more").unwrap();
    let second = json(&done(dir, "image build site --name web --config queen-1.toml --json"));
    assert_eq!(second["number"], 2);
    assert_eq!((&second["new_bytes"], &second["reused_bytes"]), (&4.into(), &5.into()));

    done(dir, "image verify web --at site --config queen-1.toml");
    let digits = first["version"].as_str().unwrap();
    let older = format!("image verify web --at site --config queen-1.toml --version {digits}");
    let output = skep(dir, &older);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("more is not in the image"), "{told}");
    assert!(failed(dir, "image verify other --config queen-1.toml").contains("no image other"));
}

#[test]
fn a_configuration_of_floodd_is_imported_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/floodd.conf");
    fs::copy(sample, dir.join("floodd.conf")).unwrap();
    let state = format!("[node]\nstate_dir = \"{}\"\n", dir.join("state").display());
    fs::write(dir.join("base.toml"), state).unwrap();
    let toml = done(dir, "config import floodd.conf --site inferno --config base.toml");
    fs::write(dir.join("skep.toml"), &toml).unwrap();
    assert!(done(dir, "config check skep.toml").contains("is sound"));
    let output = skep(dir, "config import floodd.conf --site master");
    assert!(String::from_utf8_lossy(&output.stderr).contains("notice: floodd.conf:"));

    let wrong = failed(dir, "config import floodd.conf --site styx --config base.toml");
    assert!(wrong.contains("no site is named styx"), "{wrong}");
    let wrong = failed(dir, "config import floodd.conf --config base.toml");
    assert!(wrong.contains("name it with --site: master, inferno"), "{wrong}");
    fs::write(dir.join("wrong.conf"), "(:local\n (:export-comand cat))").unwrap();
    let wrong = failed(dir, "config import wrong.conf --site inferno");
    assert!(wrong.contains("wrong.conf:2:3: unknown parameter `:export-comand`"), "{wrong}");
    assert!(wrong.contains("did you mean :export-command?"), "{wrong}");

    // Which site an agent runs, its certificate says.
    let wrong = failed(dir, "agent --floodd floodd.conf --config base.toml");
    assert!(wrong.contains("no usable identity"), "{wrong}");
    done(dir, "ca init --bloc example --dir ca");
    done(dir, "ca issue styx --dir ca --out state/identity");
    let wrong = failed(dir, "agent --floodd floodd.conf --config base.toml");
    assert!(wrong.contains("it defines master, inferno"), "{wrong}");
    done(dir, "ca issue inferno --dir ca --out inferno");
    fs::remove_dir_all(dir.join("state/identity")).unwrap();
    fs::rename(dir.join("inferno"), dir.join("state/identity")).unwrap();
    let shown = done(dir, "config show --floodd floodd.conf --config base.toml --origin");
    assert!(shown.contains("# floodd.conf:38"), "{shown}");
    assert!(done(dir, "config import floodd.conf --config base.toml").contains("site inferno"));
}
