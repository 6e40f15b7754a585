//! The configuration from its user's side: what the reference says holds, and what is wrong is said
//! where it stands.

use std::path::Path;

use expect_test::{expect, expect_file};

use super::{Config, ConfigErrors, Origin, Override, parse, reference};

fn none(_: &str) -> Option<String> {
    None
}

fn of(text: &str) -> Result<Config, ConfigErrors> {
    parse(Some((Path::new("skep.toml"), text)), &none, &[])
}

#[test]
fn the_reference_says_the_defaults_and_all_of_them() {
    let defaults = parse(None, &none, &[]).unwrap();
    let reference = of(reference::TEXT).unwrap();
    assert_eq!(defaults.settings.len(), reference.settings.len());
    let mut last_line = 0;
    for (default, said) in defaults.settings.iter().zip(&reference.settings) {
        assert_eq!(default.key, said.key);
        assert_eq!(default.value, said.value, "{}", default.key);
        assert_eq!(default.origin, Origin::Default);
        match &said.origin {
            Origin::File { line, .. } => {
                assert!(*line > last_line, "{} is out of order", said.key);
                last_line = *line;
            }
            Origin::Default => {
                assert_eq!(said.value, None, "{} is missing", said.key);
                let name = said.key.rsplit('.').next().unwrap();
                assert!(reference::TEXT.contains(&format!("\n# {name} = ")), "{}", said.key);
            }
            other @ (Origin::Environment { .. } | Origin::Flag { .. }) => {
                panic!("{} comes from {other}", said.key)
            }
        }
    }
}

#[test]
fn the_parts_keep_their_own_defaults() {
    let config = of(reference::TEXT).unwrap();
    assert_eq!(config.flood, skep_flood::Config::default());
    assert_eq!(config.transport, skep_transport::Config::default());
    assert_eq!(config.control, skep_control::Config::default());
    let membership = skep_membership::Config::default();
    assert_eq!(config.membership.heartbeat, membership.heartbeat);
    assert_eq!(config.membership.silent_after, membership.silent_after);
    assert_eq!(config.records.purge_after, skep_records::Config::default().purge_after);
}

#[test]
fn what_is_commented_out_in_the_reference_is_valid_when_it_is_not() {
    let text: String = reference::TEXT
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.contains(" = ") && !setting.contains("  ") => setting,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let config = of(&text).unwrap();
    assert_eq!(config.join.address_file.as_deref(), Some(Path::new("/etc/skep/addresses")));
    assert!(config.settings.iter().all(|setting| setting.value.is_some()));
}

#[test]
fn what_is_shown_is_a_file_that_says_the_same() {
    let config =
        of("[node]\nstate_dir = \"/srv/skep\"\n\n[timers]\nheartbeat = \"500ms\"\n").unwrap();
    let again = of(&config.show(true)).unwrap();
    for (before, after) in config.settings.iter().zip(&again.settings) {
        assert_eq!(before.value, after.value, "{}", before.key);
    }
}

/// Each wrong file, and what is said of it: `tests/errors.txt` shows both.
const WRONG: &[(&str, &str)] = &[
    ("a misspelt key", "[timers]\nheart_beat = \"1s\"\n"),
    ("a misspelt section", "[timer]\n"),
    ("a key that is like no other", "[control]\nsocket = \"/run/x\"\n  colour = 1\n"),
    ("a span without its unit", "[timers]\nheartbeat = 1000\n"),
    ("a span with a unit of its own", "[timers]\n\nheartbeat = \"1 fortnight\"\n"),
    ("a size in potatoes", "[flood]\nstorage_max = \"4 potatoes\"\n"),
    ("one wrong name of two", "[groups]\nextra = [\"web\", \"a/b\"]\n"),
    ("no address", "[listen]\naddresses = [\"here\"]\n"),
    ("one wrong address of two", "[join]\naddresses = [\n  \"a:1\",\n  \"nowhere\",\n]\n"),
    ("half a key", "[join.beacon]\nkey = \"00\"\n"),
    ("a word that is no choice", "[log]\nformat = \"xml\"\n"),
    ("a switch in other words", "[ca]\nserve = yes\n"),
    ("a value for a section", "node = 3\n"),
    ("the same key twice", "[ca]\nserve = true\nserve = true\n"),
    (
        "several values that cannot be",
        "[node]\nstate_dir = \"state\"\n[listen]\naddresses = []\nadvertise = [\"0.0.0.0:7400\"]\n\
         [join.multicast]\ngroup_v4 = \"10.0.0.1\"\n[timers]\nredial = \"1h\"\n\
         [log]\nlevel = \"x=loud\"\n",
    ),
    ("a heartbeat too slow for suspicion", "[timers]\nheartbeat = \"2s\"\n"),
    ("silence before suspicion", "[timers]\nsilent_after = \"2s\"\n"),
    ("half a beacon", "[join.beacon]\nenabled = true\naddress = \"b:1\"\n"),
    ("a pull that outlasts the purge", "[flood]\npurge_age = \"20s\"\n"),
    ("a log for three bodies", "[flood]\nstorage_max = \"20 MiB\"\n"),
];

#[test]
fn what_is_wrong_is_said_where_it_stands() {
    let mut shown = String::new();
    for (what, text) in WRONG {
        let errors = of(text).unwrap_err();
        shown.push_str(&format!("=== {what}\n{text}---\n{errors}\n\n"));
    }
    expect_file!["tests/errors.txt"].assert_eq(&shown);
}

#[test]
fn a_key_as_long_as_the_file_is_refused_without_being_compared() {
    let error = of(&format!("[log]\n{} = 1\n", "x".repeat(1 << 19))).unwrap_err();
    assert_eq!(error.0[0].hint.as_deref(), Some("known here: level, format"));
}

#[test]
fn columns_count_characters() {
    let error = of("# müßig\n[log]\nlevel = \"ä\" ü\n").unwrap_err().0.remove(0);
    assert_eq!(error.at, Some((3, 13)), "{error}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let environment = |name: &str| match name {
        "SKEP_LOG" => Some("debug".to_owned()),
        "SKEP_SOCKET" => Some("/tmp/s".to_owned()),
        "SKEP_TEST_CLOCK_OFFSET_MS" => Some("-3600000".to_owned()),
        _ => None,
    };
    let trace = toml::Value::String("trace".into());
    let flags = [Override { key: "log.level", value: trace, flag: "--log" }, Override::serve_ca()];
    let text = "[log]\nlevel = \"warn\"\nformat = \"json\"\n";
    let config = parse(Some((Path::new("/etc/s.toml"), text)), &environment, &flags).unwrap();
    assert_eq!(config.log.level, "trace");
    assert_eq!(config.test_clock_offset_ms, -3_600_000);
    let shown = config.show(true);
    let lines: Vec<&str> = shown
        .lines()
        .filter(|line| ["level", "format", "socket", "serve"].iter().any(|k| line.starts_with(k)))
        .collect();
    expect![[r#"
        socket = "/tmp/s"                            # environment SKEP_SOCKET
        serve = true                                 # flag ca serve
        serve = true                                 # default
        level = "trace"                              # flag --log
        format = "json"                              # /etc/s.toml:3"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_wrong_environment_is_named() {
    let environment = |name: &str| match name {
        "SKEP_STATE_DIR" => Some("here".to_owned()),
        "SKEP_TEST_CLOCK_OFFSET_MS" => Some("1h".to_owned()),
        _ => None,
    };
    let error = parse(None, &environment, &[]).unwrap_err();
    expect![[r#"
        node.state_dir must be an absolute path (environment SKEP_STATE_DIR)
        environment SKEP_TEST_CLOCK_OFFSET_MS must be a number of milliseconds"#]]
    .assert_eq(&error.to_string());
}

#[test]
fn directories_follow_the_state_directory_unless_they_are_named() {
    let config = of("[node]\nstate_dir = \"/srv/skep\"\n[ca]\ndir = \"/srv/ca\"\n").unwrap();
    assert_eq!(config.node.identity_dir, Path::new("/srv/skep/identity"));
    assert_eq!(config.ca.dir, Path::new("/srv/ca"));
}

#[test]
fn every_node_is_in_all() {
    let config = of("[groups]\nextra = [\"web\"]\n").unwrap();
    let groups: Vec<&str> = config.flood.groups.iter().map(|group| group.as_str()).collect();
    assert_eq!(groups, ["all", "web"]);
}

#[test]
fn a_missing_file_is_named_with_what_to_do() {
    let error = super::load(Some(Path::new("/nonexistent/skep.toml")), &[]).unwrap_err();
    expect![[r#"
        /nonexistent/skep.toml: cannot be read: No such file or directory (os error 2)
          hint: `skep config default` prints one to begin with"#]]
    .assert_eq(&error.to_string());
}
