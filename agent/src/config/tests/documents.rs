//! `profile = "documents"`: the whole of the managers' timers under it, and which statement of the
//! founding documents each of them is.

use std::time::Duration;

use skep_managers::Config;

use super::of;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Where a figure comes from.
enum From {
    /// From this requirement, whose line has these words.
    Said(&'static str, &'static str),
    /// From none, for this reason.
    Unsaid(&'static str),
}
use From::{Said, Unsaid};

/// Every timer that is a setting: its key, its figure in seconds, and where that comes from.
const TIMERS: [(&str, u64, From); 9] = [
    ("backup_silent", 5 * MINUTE, Said("DVM-7", "ONE TIME-OUT (5 min or so)")),
    ("backup_reached", 5 * MINUTE, Said("DVM-7", "wait ONE TIME-OUT (5 min or so), re-check")),
    ("given_up", 24 * HOUR, Said("DVM-13", "After 24 h unavailable")),
    ("alone", MINUTE, Said("DVM-25", "time-out about 1 minute")),
    ("orphaned", MINUTE, Unsaid("scenario 6 is Skep's own: as long as for a manager alone")),
    ("orphaned_holding", 5 * MINUTE, Unsaid("scenario 6: the time-out of DVM-7, as for a backup")),
    ("min_stay", 10 * MINUTE, Unsaid("DVM-12 weighs uptime, and says not how often")),
    ("better_for", HOUR, Unsaid("DVM-11 orders the list, and says not how soon")),
    ("solitude", 3 * DAY, Said("DVM-18", "Solitude of about 3 days")),
];
/// Settings of the managers that are no timers.
const OTHERS: [&str; 4] = ["eligible", "profile", "resources", "split"];

#[test]
fn dvm_7_13_18_25_the_documents_profile_has_every_figure_of_the_documents() {
    let config = of("[managers]\nprofile = \"documents\"\n").unwrap();
    let text = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/requirements.md");
    let requirements = std::fs::read_to_string(text).unwrap();
    for (key, seconds, from) in &TIMERS {
        // The figure as the configuration writes it, by way of one that says it.
        let said = of(&format!("[managers]\n{key} = \"{seconds}s\"\n")).unwrap();
        let of_key = |config: &super::Config| {
            let key = format!("managers.{key}");
            config.settings.iter().find(|it| it.key == key).and_then(|it| it.value.clone())
        };
        assert!(of_key(&said).is_some(), "{key} is no setting");
        assert_eq!(of_key(&config), of_key(&said), "{key}");
        match from {
            Said(id, words) => {
                let line = format!("- **{id}** ");
                let line = requirements.lines().find(|it| it.starts_with(&line));
                assert!(line.is_some_and(|it| it.contains(words)), "{key}: {id} says {line:?}");
            }
            Unsaid(why) => assert!(!why.is_empty(), "{key}"),
        }
    }
    let keys = config.settings.iter().filter_map(|it| it.key.strip_prefix("managers."));
    let left: Vec<&str> = keys
        .filter(|key| !OTHERS.contains(key) && TIMERS.iter().all(|(timer, ..)| timer != key))
        .collect();
    assert_eq!(left, Vec::<&str>::new(), "each timer has a figure here");

    // What is in force is that, and of all the rest what it is without the profile: how soon a
    // backup is elected keeps two masters apart, and is no setting (docs/configuration.md).
    let figure = |key: &str| {
        let found = TIMERS.iter().find(|(timer, ..)| *timer == key);
        Duration::from_secs(found.unwrap().1)
    };
    let wanted = Config {
        backup_silent: figure("backup_silent"),
        backup_reached: figure("backup_reached"),
        given_up: figure("given_up"),
        alone: figure("alone"),
        orphaned: figure("orphaned"),
        orphaned_holding: figure("orphaned_holding"),
        min_stay: figure("min_stay"),
        better_for: figure("better_for"),
        solitude: figure("solitude"),
        ..Config::default()
    };
    assert_eq!(config.managers.timers, wanted);
    assert_eq!(config.managers.timers, Config::documents());
}

#[test]
fn a_timer_beside_the_documents_profile_holds_and_the_others_stay() {
    let config = of("[managers]\nprofile = \"documents\"\nalone = \"30s\"\n").unwrap();
    let wanted = Config { alone: Duration::from_secs(30), ..Config::documents() };
    assert_eq!(config.managers.timers, wanted);
}
