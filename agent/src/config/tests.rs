//! The configuration from its user's side: what the reference says holds, and what is wrong is said
//! where it stands.

use std::path::Path;

use expect_test::{Expect, expect};

use super::{Config, ConfigErrors, Origin, Override, parse, reference};

fn none(_: &str) -> Option<String> {
    None
}

fn of(text: &str) -> Result<Config, ConfigErrors> {
    parse(Some((Path::new("skep.toml"), text)), &none, &[])
}

#[track_caller]
fn wrong(text: &str, expected: &Expect) {
    expected.assert_eq(&of(text).unwrap_err().to_string());
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

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    wrong(
        "[timers]\nheart_beat = \"1s\"\n",
        &expect![[r#"
        skep.toml:2:1: unknown key "heart_beat"
          hint: did you mean "heartbeat"? known here: heartbeat, suspect_after, silent_after, watch_every, alone_after, redial, redial_late, purge_after, repair_every, connect, handshake, unacknowledged, bulk_idle, drain"#]],
    );
    wrong(
        "[timer]\n",
        &expect![[r#"
        skep.toml:1:2: unknown key "timer"
          hint: did you mean "timers"? known here: node, listen, join, groups, timers, flood, limits, control, ca, wave, log"#]],
    );
    wrong(
        "[control]\nsocket = \"/run/x\"\n  colour = 1\n",
        &expect![[r#"
        skep.toml:3:3: unknown key "colour"
          hint: known here: socket, group"#]],
    );
}

#[test]
fn wrong_values_are_refused_where_they_stand() {
    wrong(
        "[timers]\nheartbeat = 1000\n",
        &expect![[
            r#"skep.toml:2:13: heartbeat: invalid type: integer `1000`, expected a span in quotes such as "250ms", "3s", "5min" or "72h""#
        ]],
    );
    wrong(
        "[timers]\n\nheartbeat = \"1 fortnight\"\n",
        &expect![[
            r#"skep.toml:3:13: heartbeat: "1 fortnight" is not a span such as 90s, 15min, 24h or 30d"#
        ]],
    );
    wrong(
        "[flood]\nstorage_max = \"4 potatoes\"\n",
        &expect![[r#"
            skep.toml:2:15: storage_max: not a size: "4 potatoes"; write a number and B, KiB, MiB, GiB, TiB, kB, MB, GB or TB
        "#]],
    );
    wrong(
        "[groups]\nextra = [\"web\", \"a/b\"]\n",
        &expect![[
            r#"skep.toml:2:17: extra: group name "a/b" may hold only letters, digits, dots and inner hyphens, not '/' there; expected the name of a group such as "web""#
        ]],
    );
    wrong(
        "[listen]\naddresses = [\"here\"]\n",
        &expect![[
            r#"skep.toml:2:14: addresses: invalid socket address syntax; expected an IP address with its port such as "192.0.2.7:7400" or "[::]:7400""#
        ]],
    );
    wrong(
        "[join]\naddresses = [\n  \"a:1\",\n  \"nowhere\",\n]\n",
        &expect![[
            r#"skep.toml:4:3: no port: write host:port, or [address]:port for IPv6; expected an address or name with its port such as "192.0.2.7:7400" or "seed.example:7400""#
        ]],
    );
    wrong(
        "[join.beacon]\nkey = \"00\"\n",
        &expect![
            "skep.toml:2:7: key: not a beacon's public key: expected the 64 hexadecimal digits that the beacon prints"
        ],
    );
    wrong(
        "[log]\nformat = \"xml\"\n",
        &expect!["skep.toml:2:10: format: unknown variant `xml`, expected `text` or `json`"],
    );
    wrong(
        "[ca]\nserve = yes\n",
        &expect![[r#"
            skep.toml:2:9: serve: string values must be quoted, expected literal string
              hint: text stands in quotes; a switch is true or false"#]],
    );
    wrong(
        "node = 3\n",
        &expect!["skep.toml:1:8: node: invalid type: integer `3`, expected a table"],
    );
    wrong("[ca]\nserve = true\nserve = true\n", &expect!["skep.toml:3:1: duplicate key"]);
}

#[test]
fn what_cannot_be_is_refused_all_at_once() {
    wrong(
        "[node]\nstate_dir = \"state\"\n[listen]\naddresses = []\nadvertise = [\"0.0.0.0:7400\"]\n\
         [join.multicast]\ngroup_v4 = \"10.0.0.1\"\n\
         [timers]\nredial = \"1h\"\n[log]\nlevel = \"x=loud\"\n",
        &expect![[r#"
            skep.toml:2:13: node.state_dir must be an absolute path
            skep.toml:4:13: listen.addresses must name at least one address
            skep.toml:5:13: listen.advertise must name addresses and ports that others can dial
            skep.toml:7:12: join.multicast.group_v4 must be a multicast address, or "0.0.0.0" to leave IPv4 out
            skep.toml:9:10: timers.redial must be between 100ms and 5s, or halves that never met merge late
            skep.toml:11:9: log.level must be error, warn, info, debug, trace or a filter of them"#]],
    );
}

#[test]
fn contradictions_name_both_sides() {
    wrong(
        "[timers]\nheartbeat = \"2s\"\n",
        &expect![
            "skep.toml:2:1: timers.suspect_after (2200ms) must be more than twice timers.heartbeat (2s), or one late beat makes a node suspect"
        ],
    );
    wrong(
        "[timers]\nsilent_after = \"2s\"\n",
        &expect![
            "skep.toml:2:1: timers.silent_after (2s) must be more than timers.suspect_after (2200ms)"
        ],
    );
    wrong(
        "[join.beacon]\nenabled = true\naddress = \"b:1\"\n",
        &expect!["skep.toml:2:1: join.beacon needs both address and key when it is enabled"],
    );
    wrong(
        "[flood]\npurge_age = \"20s\"\n",
        &expect!["skep.toml:2:1: flood.pull_timeout (30s) must be below flood.purge_age (20s)"],
    );
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
    let flags =
        [Override { key: "log.level", value: toml::Value::String("trace".into()), flag: "--log" }];
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
        serve = false                                # default
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
