//! The configuration from its user's side: what the reference says holds, and what is wrong is said
//! where it stands.

mod documents;

use std::path::Path;

use expect_test::{expect, expect_file};

use super::high::{Command, ExportFormat, Location};
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
            Some(heading) if heading.starts_with('[') => heading,
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
    ("a log for three bodies", "[flood]\nstorage_max = \"20 MiB\"\nbody_max = \"8 MiB\"\n"),
    ("a body that no spool holds", "[client]\nspool_max = \"20 MiB\"\n"),
    ("a misspelt key of one group", "[group.web]\nconectivity = 2\n"),
    ("a group that cannot be", "[group.\"a b\"]\nconnectivity = 2\n"),
    (
        "values of a group that cannot be",
        "[group.web]\nping_period = \"1ms\"\nconnectivity = 9\ntopology_master = \"a b\"\n",
    ),
    (
        "more of them",
        "[group.web]\nping_period = \"1ms\"\nconnectivity = 9\nexport_command = [\"mirror\"]\n\
         topology_generator = \"\"\n",
    ),
    ("a command in numbers", "[export]\ncommand = 7\n"),
    ("a format that is none", "[export]\nformat = \"xml\"\n"),
    ("retries that never grow", "[export]\nretry_first = \"10s\"\nretry_last = \"1s\"\n"),
    ("half a place", "[node]\nlatitude = 52.5\n"),
    ("a place beyond the pole", "[peers.x]\nlatitude = 91\nlongitude = 0\n"),
    ("a peer that is nowhere", "[peers.x]\naddresses = [\"x\"]\n"),
    ("an exit for a sentence", "[client]\nexit_allowed = [\"every body\"]\n"),
    ("an exit for too many bits", "[client]\nexit_allowed = [\"10.0.0.0/40\"]\n"),
    ("a hook for what never happens", "[hook.x]\non = [\"spilt\"]\ncommand = \"true\"\n"),
    ("a hook that does nothing", "[hook.x]\non = [\"split\"]\n"),
    ("a hook with a sentence for a name", "[hook.\"when split\"]\ncommand = \"true\"\n"),
    ("a mail to nowhere", "[notify.smtp.ops]\nserver = \"mail\"\nfrom = \"skep@example.org\"\n"),
    (
        "a mail to everywhere",
        "[notify.smtp.ops]\nserver = \"mail\"\nfrom = \"a@b.c\"\n\
         to = [\"ops\", \"a@b.c, d@e.f\"]\n",
    ),
    (
        "a password for everybody",
        "[notify.smtp.ops]\nserver = \"mail\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\ntls = \"none\"\n\
         user = \"skep\"\npassword_file = \"/etc/p\"\n",
    ),
    (
        "a password of nobody",
        "[notify.smtp.ops]\nserver = \"m\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\n\
        password_file = \"/etc/p\"\n",
    ),
    ("a password in the file", "[notify.smtp.ops]\npassword = \"hush\"\n"),
    ("a webhook in the clear", "[notify.webhook.x]\nurl = \"http://chat.example/\"\n"),
    (
        "two targets of one name",
        "[notify.webhook.x]\nurl = \"https://a.b/\"\n[notify.command.x]\ncommand = \"true\"\n",
    ),
    ("an incident of no kind", "[notify.command.x]\ncommand = \"true\"\nkinds = [\"fire\"]\n"),
    ("no letters at all", "[notify]\nper_hour = 0\nretry_first = \"1h\"\nsettle = \"7d\"\n"),
    ("one port for both", "[client]\nenabled = true\ntls_port = 2000\naddresses = [\"::\"]\n"),
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
        format = "raw"                               # default
        socket = "/tmp/s"                            # environment SKEP_SOCKET
        socket = "/tmp/s-client.sock"                # default
        serve = true                                 # flag ca serve
        serve = true                                 # default
        level = "trace"                              # flag --log
        format = "json"                              # /etc/s.toml:3"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_beacon_may_be_named_on_the_command_line() {
    let key = "5b".repeat(32);
    let flags = Override::beacon("beacon.example:7402", &key);
    let text = "[join.beacon]\naddress = \"other.example:1\"\n";
    let config = parse(Some((Path::new("skep.toml"), text)), &none, &flags).unwrap();
    let beacon = config.join.beacon.unwrap();
    assert_eq!(beacon.address.to_string(), "beacon.example:7402");
    assert_eq!(beacon.key.to_string(), key);
    let error = parse(None, &none, &Override::beacon("b:1", "00")).unwrap_err().to_string();
    assert!(error.starts_with("flag --beacon-key: join.beacon.key: "), "{error}");
    assert!(error.contains("64 hexadecimal digits"), "{error}");
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
fn a_group_has_what_all_have_and_what_is_its_own() {
    let config = of("[groups]\nextra = [\"db\"]\nconnectivity = 2\nping_period = \"20s\"\n\
        [group.Web]\nping_period = \"5s\"\ntopology_master = \"web-1\"\n\
        export_command = [\"/bin/cat\"]\n[group.\"a.b\"]\nconnectivity = 1\n\
        [export]\ncommand = \"cat >> /srv/all\"\nformat = \"framed\"\n")
    .unwrap();
    let names: Vec<&str> = config.groups.keys().map(|group| group.as_str()).collect();
    assert_eq!(names, ["a.b", "all", "db", "web"]);
    let group = |name: &str| &config.groups[&name.parse().unwrap()];
    assert_eq!((group("db").connectivity, group("a.b").connectivity), (2, 1));
    assert_eq!(group("db").ping_period.as_secs(), 20);
    assert_eq!(group("web").ping_period.as_secs(), 5);
    assert_eq!(group("web").topology_master, Some("web-1".parse().unwrap()));
    let export = |name: &str| group(name).export.as_ref();
    assert_eq!(export("all"), None, "what the bloc says to itself is not exported");
    let shared = export("db").unwrap();
    assert_eq!(shared.command, Command::Shell("cat >> /srv/all".into()));
    assert_eq!(shared.format, ExportFormat::Framed);
    assert_eq!(export("web").unwrap().command, Command::Program(vec!["/bin/cat".into()]));
    assert_eq!(export("web").unwrap().format, ExportFormat::Framed);
    let again = of(&config.show(true)).unwrap();
    assert_eq!(again.groups, config.groups);
    assert_eq!(again.settings.len(), config.settings.len());
}

#[test]
fn peers_are_dialled_and_clients_served_where_they_are_told() {
    let config = of("[join]\naddresses = [\"a:1\"]\n\
        [peers.inferno]\naddresses = [\"a:1\", \"b:2\"]\nlatitude = 34\nlongitude = -118.3\n\
        [client]\nenabled = true\ntls_port = 2443\nexit_allowed = [\"10.0.0.0/8\", \"ops\"]\n")
    .unwrap();
    let dialled: Vec<String> = config.join.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(dialled, ["a:1", "b:2"]);
    let peer = &config.peers[&"inferno".parse().unwrap()];
    assert_eq!(peer.location, Some(Location { latitude: 34.0, longitude: -118.3 }));
    let client = config.client;
    let shown = |sockets: &[std::net::SocketAddr]| {
        sockets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown(&client.listen), "127.0.0.1:2000 [::1]:2000");
    assert_eq!(shown(&client.tls), "0.0.0.0:2443 [::]:2443");
    assert_eq!(client.exit_allowed.len(), 2);
    let client = of("[control]\nsocket = \"/srv/a.sock\"\n").unwrap().client;
    assert!(client.listen.is_empty() && client.tls.is_empty());
    assert_eq!(client.socket, Path::new("/srv/a-client.sock"));
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
