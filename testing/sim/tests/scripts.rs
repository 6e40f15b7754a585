//! The files of commands in `scenarios/managers` lead to what their logs say, whatever the build.
//! `SKEP_BLESS=1` writes the logs anew: look at the difference before it is committed.

#![expect(clippy::unwrap_used, reason = "this is a test, its own helpers included")]

use std::path::{Path, PathBuf};

use skep_sim::Failure;
use skep_sim::managed::script;
use skep_sim::plant::Bug;

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/managers");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

/// What a folder's commands lead to, where that is something else than its log.
fn played(folder: &Path, bless: bool) -> Option<String> {
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
        return None;
    }
    let differs = log != std::fs::read_to_string(&expected).unwrap();
    differs.then(|| format!("{}\n{log}", folder.display()))
}

fn resume(panic: Box<dyn std::any::Any + Send>) -> Vec<String> {
    std::panic::resume_unwind(panic)
}

#[test]
fn every_file_of_commands_leads_to_its_log() {
    let bless = std::env::var_os("SKEP_BLESS").is_some();
    let folders = folders();
    assert!(folders.len() >= 38, "{} scenarios", folders.len());
    let halves = folders.split_at(folders.len() / 2);
    // Each is a world of its own.
    let differ: Vec<String> = std::thread::scope(|scope| {
        let [one, other] = [halves.0, halves.1].map(|half| {
            scope.spawn(move || half.iter().filter_map(|folder| played(folder, bless)).collect())
        });
        [one, other].into_iter().flat_map(|half| half.join().unwrap_or_else(resume)).collect()
    });
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

/// The commands pass; with the bug planted they fail by what was planted and by nothing else.
fn must_be_found(bug: Bug, commands: &str) {
    assert!(Bug::IN_SCRIPTS.contains(&bug));
    script::play(commands, 1).unwrap_or_else(|error| panic!("fails without a bug: {error:#}"));
    let error = script::play_with(commands, 1, Some(bug));
    let error = error.err().unwrap_or_else(|| panic!("{bug:?} is not found"));
    let found = error.downcast_ref::<Failure>().unwrap_or_else(|| panic!("{bug:?}: {error:#}"));
    assert_eq!(found.checker, bug.found_by(), "{bug:?}: {found}");
    assert!(found.what.contains(bug.shows_as()), "{bug:?}: {found}");
}

/// n2 has the bugs that sit in one host.
const FIVE: &str = "\
nodes 5
start n1
until master n1 5
start n2 n3
until managed 20
start n4 n5
run 3
";

#[test]
fn the_checker_sees_catalogs_that_differ_at_rest() {
    // n5 learns from the managers' log, so that n2 does not.
    must_be_found(
        Bug::DeafToCatalog,
        "nodes 5\nstart n1\nuntil master n1 5\nstart n3 n4\nuntil managed 20\nstart n5\nrun 5\n\
         start n2\nrun 3\nwrite n1 5\nuntil agreed 30\n",
    );
}

#[test]
fn the_checker_sees_a_stamp_that_falls_on_a_host() {
    must_be_found(Bug::ForgetsItsStamps, &format!("{FIVE}kill n2\nstart n2\nuntil managed 40\n"));
}

#[test]
fn the_checker_sees_two_that_say_they_have_strict_authority() {
    must_be_found(
        Bug::ClaimsAuthority,
        "nodes 5 weak\nstart n2\nuntil master n2 8\nstart n1 n3\nuntil managed 20\nstart n4 n5\n\
         run 3\ntoken n2\nuntil strict 10\npause n2\nrun 20\nuntil strict 10\n",
    );
}

#[test]
fn the_checker_sees_a_node_that_votes_as_before_its_demotion() {
    must_be_found(
        Bug::VotesAsBefore,
        "nodes 4\nstart n1\nuntil master n1 5\nstart n2 n3\nuntil managed 20\nstart n4\nrun 3\n\
         pause n2\nuntil managed 40\nresume n2\nuntil role n2 eligible 40\nrun 3\n\
         pause n3\nuntil managed 40\nuntil role n2 backup 10\nrun 1\n",
    );
}

#[test]
fn the_checker_sees_a_semi_master_that_acknowledges() {
    must_be_found(
        Bug::AcknowledgesAlone,
        "nodes 3\nstart n1\nuntil master n1 5\nstart n2 n3\nuntil managed 20\npower-off n1 n3\n\
         until role n2 semi-master 30\nwrite n2 1\nrun 1\n",
    );
}

#[test]
fn the_checker_sees_a_holding_node_that_acknowledges() {
    must_be_found(
        Bug::AcknowledgesAlone,
        "nodes 3\nstart n1\nuntil master n1 5\nstart n2 n3\nuntil managed 20\npower-off all\n\
         start n2\nuntil role n2 holding 10\nwrite n2 1\nrun 1\n",
    );
}

#[test]
fn the_checker_sees_a_flock_with_one_backup_that_could_have_two() {
    must_be_found(Bug::ReplacesNobody, &format!("{FIVE}power-off n3\nuntil managed 40\n"));
}

#[test]
fn the_checker_sees_two_strong_generations_of_one_number() {
    must_be_found(
        Bug::SignsOneNumber,
        "nodes 6\nsplit n1 n2 n3 | n4 n5 n6\nstart all\nuntil masters 2 20\nuntil managed 40\n\
         until strict 10\ntoken n5\nrun 10\n",
    );
}

#[test]
fn the_checker_sees_two_masters_that_meet_and_both_stay() {
    must_be_found(
        Bug::MergesWithNobody,
        "nodes 4\nsplit n1 n3 n4 | n2\nstart n1\nuntil master n1 5\nstart n2 n3 n4\n\
         until masters 2 20\nuntil managed 40\nwrite n2 3\nheal\nuntil managed 60\n",
    );
}

#[test]
fn the_checker_sees_a_former_master_that_is_neither_holding_nor_eligible() {
    must_be_found(
        Bug::KeepsItsOffice,
        "nodes 5\nstart n2\nuntil master n2 8\nstart n1 n3\nuntil managed 20\nstart n4 n5\n\
         run 3\npause n2\nuntil managed 40\nresume n2\nuntil managed 60\n",
    );
}

/// Whether a reason that a log tells of a change of role can be that of this change. Written by
/// what the roles mean, not by what the managers say.
fn suits(from: &str, to: &str, why: &str) -> bool {
    let manages = ["backup", "master"].contains(&to);
    match why {
        "it started" => from == "host" && !manages && to != "semi-master",
        "it is eligible now" | "its baseline is well again" | "it is a learner" => to == "eligible",
        "it was promoted" => (from, to) == ("eligible", "backup"),
        "it founded a flock" | "it founded the next generation" => manages,
        "it was elected" => to == "master",
        "it was elected, and its first stamp is awaited"
        | "it was elected again, and its first stamp is awaited"
        | "it hears a master again" => to == "backup",
        "it handed over"
        | "another was elected"
        | "it lost its majority, or another stands for election" => {
            (from, to) == ("master", "backup")
        }
        "the live master confirmed it" | "enough of the managers compared logs" => {
            ["holding", "retired"].contains(&from) && ["eligible", "backup"].contains(&to)
        }
        "it has heard no master for too long" => to == "semi-master",
        "nobody takes over what it holds" => from == "holding" && to != "eligible",
        "its flock merged"
        | "it met a flock that leads"
        | "its flock is founded anew"
        | "everything it held is handed over"
        | "it was demoted"
        | "it was demoted while it was away" => ["eligible", "host"].contains(&to),
        "it is not eligible any more" => to == "host",
        "its baseline is not well" | "its disk takes nothing" | "it hands over what it holds" => {
            to == "holding"
        }
        "it meets others again" => (from, to) == ("retired", "holding"),
        "it met nobody for too long" => to == "retired",
        _ => false,
    }
}

/// The logs are read by people: what they say of a role is about that role.
#[test]
fn no_log_tells_a_change_of_role_with_the_reason_of_another() {
    const ROLES: [&str; 7] =
        ["host", "eligible", "backup", "master", "semi-master", "holding", "retired"];
    let mut changes = 0;
    for folder in folders() {
        let log = std::fs::read_to_string(folder.join("log.expect")).unwrap();
        for line in log.lines() {
            let Some((before, after)) = line.split_once(" -> ") else { continue };
            let Some((to, why)) = after.split_once(": ") else { continue };
            let Some(from) = before.split_whitespace().last() else { continue };
            assert!(ROLES.contains(&from) && ROLES.contains(&to), "{line}");
            assert!(suits(from, to, why), "{}: {line}", folder.display());
            changes += 1;
        }
    }
    assert!(changes >= 300, "{changes} changes of roles are looked at");
}
