//! floodd's files: the document's own sample word for word, every parameter, every error.

use std::path::Path;

use expect_test::{expect, expect_file};
use skep_base::NodeName;

use super::{Floodd, Mapped};
use crate::config::high::{Command, Location};
use crate::config::{Config, Origin, parse};

/// The sample of the document, word for word.
const SAMPLE: &str = include_str!("../../../../docs/examples/floodd.conf");
/// Every parameter once.
const FULL: &str = include_str!("tests/full.conf");

fn none(_: &str) -> Option<String> {
    None
}

fn read(text: &str) -> Floodd {
    Floodd::parse(Path::new("floodd.conf"), text.as_bytes()).unwrap()
}

fn mapped(text: &str, site: &str) -> Mapped {
    read(text).map(&site.parse().unwrap()).unwrap()
}

fn config(mapped: &Mapped) -> Config {
    mapped.parse(None, &none, &[]).unwrap()
}

fn notices(mapped: &Mapped) -> String {
    mapped.notices().iter().map(|notice| format!("{notice}\n")).collect()
}

#[test]
fn the_sample_of_the_document_says_what_it_said() {
    let requirements = include_str!("../../../../docs/requirements.md");
    assert!(requirements.contains("group \"mirror-1\", master \"master\""), "FLOOD-40");
    let config = config(&mapped(SAMPLE, "inferno"));
    let listen: Vec<String> = config.listen.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["0.0.0.0:2001", "[::]:2001"]);
    let client = config.client;
    assert_eq!(client.listen, ["127.0.0.1:2000".parse().unwrap(), "[::1]:2000".parse().unwrap()]);
    assert!(client.exit_allowed.is_empty() && client.tls.is_empty());
    let join: Vec<String> = config.join.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(join, ["valhalla:2001"]);
    let master = &config.peers[&"master".parse().unwrap()];
    assert_eq!(master.client.as_ref().unwrap().to_string(), "valhalla:2000");
    let group = &config.groups[&"mirror-1".parse().unwrap()];
    let periods =
        [group.ping_period, group.bandwidth_period, group.estimates_period, group.update_period];
    assert_eq!(periods.map(|period| period.as_secs()), [15, 60, 30, 120]);
    assert_eq!(group.topology_master, Some("master".parse().unwrap()));
    let names: Vec<&str> = group.members.iter().map(NodeName::as_str).collect();
    assert_eq!(names, ["master", "inferno"]);
    let export = group.export.as_ref().unwrap();
    assert_eq!(export.command, Command::Shell("/homes/dante/mirrord/inferno/bin/filer".into()));
    assert_eq!(config.records.purge_after.as_secs(), 600);
    assert_eq!(config.groups.len(), 2, "all and mirror-1");
}

#[test]
fn the_same_file_serves_the_other_site() {
    let config = config(&mapped(SAMPLE, "master"));
    let join: Vec<String> = config.join.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(join, ["inferno:2001"]);
    assert!(config.peers.contains_key(&"inferno".parse().unwrap()));
}

#[test]
fn every_parameter_has_its_setting() {
    let mapped = mapped(FULL, "b");
    let config = config(&mapped);
    let set = config.settings.iter().filter(|setting| setting.origin != Origin::Default);
    let set: String = set
        .map(|setting| {
            format!("{} = {}  # {}\n", setting.key, setting.value.as_ref().unwrap(), setting.origin)
        })
        .collect();
    expect![[r#"
        node.latitude = -33.87  # floodd.conf:12
        node.longitude = 151.21  # floodd.conf:12
        listen.addresses = ["0.0.0.0:2101", "[::]:2101"]  # floodd.conf:12
        listen.advertise = ["[2001:db8::b]:2101"]  # floodd.conf:11
        peers.a.addresses = ["192.0.2.7:2001", "alpha.example:2001"]  # floodd.conf:7
        peers.a.client = "192.0.2.7:2000"  # floodd.conf:6
        peers.a.latitude = 34.02  # floodd.conf:8
        peers.a.longitude = -118.29  # floodd.conf:8
        peers.c.addresses = ["gamma:2201"]  # floodd.conf:14
        peers.c.client = "gamma:2200"  # floodd.conf:14
        peers.c.latitude = 52.5  # floodd.conf:15
        peers.c.longitude = 13.4  # floodd.conf:15
        peers.d.addresses = ["192.0.2.9:2301"]  # floodd.conf:17
        peers.d.client = "192.0.2.9:2300"  # floodd.conf:17
        peers.d.latitude = 0.0  # floodd.conf:18
        peers.d.longitude = 0.0  # floodd.conf:18
        group.web.ping_period = "2500ms"  # floodd.conf:25
        group.web.bandwidth_period = "1min"  # floodd.conf:26
        group.web.estimates_period = "30s"  # floodd.conf:27
        group.web.update_period = "2min"  # floodd.conf:29
        group.web.connectivity = 2  # floodd.conf:24
        group.web.topology_master = "a"  # floodd.conf:23
        group.web.topology_generator = "/usr/local/bin/steiner --k 2 | sort"  # floodd.conf:30
        group.web.members = ["a", "b", "c"]  # floodd.conf:21
        export.command = 'cat >> "/srv/web/updates"'  # floodd.conf:36
        timers.redial_late = "45s"  # floodd.conf:28
        timers.purge_after = "24h"  # floodd.conf:38
        flood.storage_max = "100000000 B"  # floodd.conf:35
        flood.purge_age = "2h"  # floodd.conf:37
        client.enabled = true  # floodd.conf:12
        client.port = 2100  # floodd.conf:12
    "#]]
    .assert_eq(&set);
    expect_file!["tests/full-b-notices.txt"].assert_eq(&notices(&mapped));
    let here = Location { latitude: -33.87, longitude: 151.21 };
    assert_eq!(config.node.location, Some(here));
}

#[test]
fn what_is_imported_is_commented_and_says_the_same() {
    for (text, site, file) in [
        (SAMPLE, "inferno", expect_file!["tests/sample.toml"]),
        (FULL, "b", expect_file!["tests/full.toml"]),
        (FULL, "a", expect_file!["tests/full-a.toml"]),
    ] {
        let mapped = mapped(text, site);
        let toml = mapped.to_toml();
        file.assert_eq(&toml);
        let imported = parse(Some((Path::new("skep.toml"), &toml)), &none, &[]).unwrap();
        let direct = config(&mapped);
        assert_eq!(imported.settings.len(), direct.settings.len());
        for (imported, direct) in imported.settings.iter().zip(&direct.settings) {
            assert_eq!((&imported.key, &imported.value), (&direct.key, &direct.value));
            let defaults = (imported.origin == Origin::Default, direct.origin == Origin::Default);
            assert_eq!(defaults.0, defaults.1, "{} is said in both or in none", direct.key);
        }
        assert_eq!(imported.groups, direct.groups);
        assert_eq!(imported.peers, direct.peers);
        assert_eq!(imported.client, direct.client);
        assert_eq!(imported.join, direct.join);
        assert_eq!(imported.flood, direct.flood);
        assert!(toml.lines().all(|line| line.chars().count() <= 100), "{toml}");
    }
}

#[test]
fn the_file_stands_over_the_configuration_and_below_the_environment() {
    let mapped = mapped(SAMPLE, "inferno");
    let toml = "[client]\nport = 9000\naddresses = [\"10.0.0.1\"]\n[groups]\nextra = [\"web\"]\n\
                [group.mirror-1]\nconnectivity = 2\nping_period = \"1s\"\n\
                [export]\nformat = \"framed\"\n";
    let environment = |name: &str| (name == "SKEP_STATE_DIR").then(|| "/srv/skep".to_owned());
    let toml = Some((Path::new("skep.toml"), toml));
    let config = mapped.parse(toml, &environment, &[]).unwrap();
    assert_eq!(config.client.listen, ["10.0.0.1:2000".parse().unwrap()]);
    assert_eq!(config.node.state_dir, Path::new("/srv/skep"));
    let group = &config.groups[&"mirror-1".parse().unwrap()];
    assert_eq!((group.connectivity, group.ping_period.as_secs()), (2, 15));
    assert_eq!(config.groups.len(), 3);
    assert_eq!(group.export.as_ref().unwrap().format, crate::config::high::ExportFormat::Framed);
}

#[test]
fn a_setting_that_contradicts_the_configuration_is_said_where_it_stands() {
    let mapped = mapped(FULL, "b");
    let toml = Some((Path::new("skep.toml"), "[flood]\npull_timeout = \"30d\"\n"));
    let error = mapped.parse(toml, &none, &[]).unwrap_err();
    expect!["floodd.conf:37:1: flood.pull_timeout (30d) must be below flood.purge_age (2h)"]
        .assert_eq(&error.to_string());
}

#[test]
fn a_node_that_is_no_site_is_told_which_there_are() {
    let site = |n| {
        format!("(:site-define (:site-name s{n}) (:hostname h) (:client-port 1) (:data-port 2))")
    };
    let many: String = (0..20).map(site).collect();
    let of = |text: &str| read(text).map(&"styx".parse().unwrap()).unwrap_err().to_string();
    let told = [of(SAMPLE), of(""), of(&many)].join("\n");
    expect_file!["tests/no-such-site.txt"].assert_eq(&told);
}

#[test]
fn values_out_of_what_works_are_brought_into_it_and_that_is_said() {
    let text = "(:site-define (:site-name a) (:hostname h) (:client-port 1) (:data-port 2))\n\
        (:group-define (:group-name g) (:site a) (:ping-period 0.25) (:connectivity 40)\n\
        (:join-period 3600) (:master-site b) (:site aa))\n\
        (:group-define (:group-name other) (:site b))\n\
        (:group-define (:group-name all) (:site a))\n\
        (:local (:data-storage-max 1000) (:log-purge-period 20) (:site-purge-period 1))\n";
    let mapped = mapped(text, "a");
    expect_file!["tests/out-of-range.txt"].assert_eq(&notices(&mapped));
    let config = config(&mapped);
    assert_eq!(config.flood.storage_max.0, 65_536);
    assert_eq!(config.flood.body_max.0, 16_384);
    assert_eq!(config.flood.pull_timeout.as_secs(), 10);
    assert_eq!(config.membership.redial_late.as_secs(), 300);
    assert!(config.groups.values().all(|group| group.export.is_none()));
    let exported =
        format!("{text}(:local (:export-command /bin/cat))").replace("(:local (:d", "; ");
    let config = self::config(&self::mapped(&exported, "a"));
    assert!(config.groups.values().all(|group| group.export.is_some()), "all as well");
}

#[test]
fn comments_may_be_in_any_encoding_and_words_may_not() {
    let with = |bytes: &[u8]| {
        let site = b"(:site-define (:site-name a) (:hostname h) (:client-port 1) (:data-port 2))\n";
        Floodd::parse(Path::new("floodd.conf"), &[bytes, site].concat())
    };
    assert!(with(b"# Z\xfcrich\r\n").is_ok());
    let error = with(b"(Z\xfcrich)").unwrap_err().to_string();
    expect!["floodd.conf:1:3: bytes that are not UTF-8: expected text"].assert_eq(&error);
}

/// A site that is sound, so that each wrong file is wrong in one thing.
const SITE: &str =
    "(:site-define (:site-name a) (:hostname h) (:client-port 2000) (:data-port 2001)";

/// What is wrong, and the file: `SITE` stands for [`SITE`].
const WRONG: &[(&str, &str)] = &[
    ("a list that is never closed", "SITE)\n(:local\n  (:site-purge-period 600)\n"),
    ("one parenthesis too many", "SITE))\n"),
    ("a text that is never closed", "(:local (:export-command \"cat))\n"),
    ("a misspelt form", "(:site-defin (:site-name a))"),
    ("a parameter outside its form", "(:ping-period 15.0)"),
    ("something else", "(a b) 7 \"x\" ()"),
    ("a form that is a list of lists", "((:local))"),
    ("a misspelt parameter", "SITE (:lattitud 3))"),
    ("another misspelt one", "(:group-define (:group-name g) (:site a) (:conectivity 2))"),
    ("a parameter without its colon", "(:local (export-command /bin/cat))"),
    ("a parameter of another form", "SITE (:ping-period 15))\n(:local (:client-port 2))"),
    ("a parameter that is like none", "(:local (:colour blue))"),
    ("no parameter at all", "(:local 7 () \"x\" ((a)))"),
    (
        "a port in words",
        "(:site-define (:site-name a) (:hostname h) (:client-port two)\n(:data-port 0))",
    ),
    ("a port of two", "SITE (:client-port 1 2))"),
    ("a parameter twice", "SITE\n (:hostname i))"),
    ("a parameter without value", "(:local (:data-storage-max))"),
    ("bytes with a unit", "(:local (:data-storage-max 64MB))"),
    ("negative seconds", "(:local (:site-purge-period -5) (:log-purge-period 0))"),
    ("seconds that are none", "(:local (:site-purge-period nan) (:log-purge-period 1e99))"),
    ("seconds in quotes", "(:local (:site-purge-period \"600\"))"),
    ("a name that cannot be", "(:group-define (:group-name mirror_1) (:site \"a b\"))"),
    ("a name that is a list", "(:group-define (:group-name (g)) (:site a) (:master-site))"),
    (
        "a host that cannot be",
        "SITE (:inet-address 1.2.3))\n(:site-define (:site-name b)\n (:hostname \"x y\") \
         (:client-port 1) (:data-port 2))",
    ),
    ("a command with blanks outside quotes", "(:local (:export-command cat -n))"),
    ("an empty command", "(:local (:export-command \" \"))"),
    ("a place beyond the pole", "SITE (:lattitude 91) (:longitude 0))"),
    ("half a place", "SITE (:latitude 9))"),
    ("a place twice", "SITE (:coordinate 1 2) (:longitude 2))"),
    ("a latitude in both spellings", "SITE (:latitude 1)\n(:lattitude 1) (:longitude 2))"),
    ("a coordinate of one", "SITE (:coordinate (1)))"),
    ("a connectivity of nothing", "(:group-define (:group-name g) (:site a) (:connectivity 0))"),
    ("a site that is hardly one", "(:site-define (:hostname h))"),
    ("a site that is nowhere", "(:site-define (:site-name a) (:client-port 1) (:data-port 2))"),
    ("a group of nobody", "(:group-define (:connectivity 2))"),
    ("two sites of one name", "SITE)\nSITE)"),
    (
        "two groups of one name",
        "(:group-define (:group-name g) (:site a))\n(:group-define (:group-name G) (:site a))",
    ),
    ("a site twice in a group", "(:group-define (:group-name g) (:site a) (:site A))"),
    ("two locals", "(:local)\n(:local)"),
    ("a control character", "(:local\u{1})"),
];

#[test]
fn what_is_wrong_is_said_where_it_stands() {
    let mut shown = String::new();
    for (what, text) in WRONG {
        let text = text.replace("SITE", SITE);
        let errors = Floodd::parse(Path::new("floodd.conf"), text.as_bytes()).unwrap_err();
        let text = text.replace('\u{1}', "^A");
        shown.push_str(&format!("=== {what}\n{}\n---\n{errors}\n\n", text.trim_end()));
    }
    expect_file!["tests/errors.txt"].assert_eq(&shown);
}

#[test]
fn a_missing_file_is_named() {
    let error = Floodd::load(Path::new("/nonexistent/floodd.conf")).unwrap_err();
    let expected =
        "/nonexistent/floodd.conf: cannot be read: No such file or directory (os error 2)";
    assert_eq!(error.to_string(), expected);
}
