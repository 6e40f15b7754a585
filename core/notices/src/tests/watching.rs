//! A flock as one of its nodes sees it.

use alloc::borrow::ToOwned as _;
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{NodeName, Outbox, Time};

use crate::{FlockSeen, Happened, Seen, Watch, WatchConfig, What};

fn names(text: &str) -> BTreeSet<NodeName> {
    text.split_whitespace().map(|name| name.parse().unwrap()).collect()
}

fn seen(lineage: u64, master: &str, present: &str) -> Seen {
    let master = Some(master).filter(|name| !name.is_empty());
    let flock = FlockSeen {
        name: alloc::format!("flock-{lineage}"),
        lineage,
        parent: None,
        generation: 1,
        master: master.map(|name| name.parse().unwrap()),
    };
    Seen { flock: Some(flock), role: "eligible", present: names(present), gone: BTreeSet::new() }
}

/// A watch, and what it tells in the course of time.
struct Story {
    watch: Watch,
    now: Time,
}

impl Story {
    fn new() -> Self {
        Self { watch: Watch::new(WatchConfig::default()), now: Time::from_millis(1000) }
    }

    fn sees(&mut self, seen: Seen) -> Vec<Happened> {
        let mut out = Outbox::new();
        self.watch.handle(self.now, seen, &mut out);
        self.watch.check();
        out.drain().collect()
    }

    fn after(&mut self, span: Duration) -> Vec<Happened> {
        let end = self.now + span;
        let mut out = Outbox::new();
        while let Some((at, _)) = self.watch.deadline().filter(|(at, _)| *at <= end) {
            self.now = at;
            self.watch.tick(at, &mut out);
            self.watch.check();
        }
        self.now = end;
        out.drain().collect()
    }
}

fn whats(events: &[Happened]) -> Vec<What> {
    events.iter().map(|event| event.what).collect()
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_flock_forms_and_is_stable_once() {
    let mut story = Story::new();
    assert_eq!(whats(&story.sees(seen(1, "a", "a b c"))), [What::Formed, What::MasterChanged]);
    let calm = story.watch.stable_at();
    assert!(!story.watch.is_stable() && calm == Some(story.now + Duration::from_secs(30)));
    assert_eq!(whats(&story.after(MINUTE)), [What::Stable]);
    assert_eq!(story.after(100 * MINUTE), [], "it is stable and goes on being so");
    assert!(story.watch.is_stable() && story.watch.stable_at().is_none());
    story.sees(seen(1, "a", "a b c"));
    assert!(story.watch.is_stable(), "nothing has changed");
    story.sees(seen(1, "a", "a b"));
    assert!(!story.watch.is_stable());
}

#[test]
fn a_flock_without_a_master_is_not_stable() {
    let mut story = Story::new();
    assert_eq!(whats(&story.sees(seen(1, "", "a b c"))), [What::Formed]);
    assert_eq!(story.after(MINUTE), []);
    assert!(!story.watch.is_stable() && story.watch.stable_at().is_none());
    story.sees(seen(1, "a", "a b c"));
    assert_eq!(whats(&story.after(MINUTE)), [What::Stable]);
}

#[test]
fn a_rack_that_is_cut_off_parts_as_one_and_comes_back_as_one() {
    let mut story = Story::new();
    story.sees(seen(1, "a", "a b c d"));
    story.after(MINUTE);
    assert_eq!(story.sees(seen(1, "a", "a b c")), [], "more may go in a moment");
    story.after(Duration::from_millis(300));
    story.sees(seen(1, "a", "a b"));
    let split = story.after(Duration::from_secs(2));
    assert_eq!(whats(&split), [What::Split]);
    assert_eq!(split[0].nodes, names("c d").into_iter().collect::<Vec<_>>());
    story.sees(seen(1, "a", "a b c"));
    story.sees(seen(1, "a", "a b c d"));
    let merged = story.after(MINUTE);
    assert_eq!(whats(&merged), [What::Merged, What::Stable]);
    assert_eq!(merged[0].count, 2);
}

#[test]
fn who_says_that_it_goes_has_not_parted() {
    let mut story = Story::new();
    story.sees(seen(1, "a", "a b c"));
    story.after(MINUTE);
    let left = Seen { gone: names("c"), ..seen(1, "a", "a b") };
    assert_eq!(story.sees(left), []);
    assert_eq!(whats(&story.after(MINUTE)), [What::Stable]);
    assert_eq!(story.sees(seen(1, "a", "a b c")), [], "and who comes after that is a newcomer");
}

#[test]
fn a_moments_silence_is_nothing() {
    let mut story = Story::new();
    story.sees(seen(1, "a", "a b c"));
    story.after(MINUTE);
    story.sees(seen(1, "a", "a b"));
    story.after(Duration::from_millis(200));
    story.sees(seen(1, "a", "a b c"));
    assert_eq!(whats(&story.after(MINUTE)), [What::Stable], "though it is counted anew");
}

#[test]
fn another_master_is_told_once_and_none_is_no_other() {
    let mut story = Story::new();
    story.sees(seen(1, "a", "a b c"));
    assert_eq!(story.sees(seen(1, "", "a b c")), []);
    assert_eq!(story.sees(seen(1, "a", "a b c")), [], "it is the same as before");
    let changed = story.sees(seen(1, "b", "a b c"));
    assert_eq!(whats(&changed), [What::MasterChanged]);
    assert_eq!(changed[0].before, Some("a".to_owned()));
    assert_eq!(changed[0].nodes, vec!["b".parse().unwrap()]);
}

#[test]
fn a_part_that_founds_itself_again_forms_and_one_that_goes_on_in_another_merges() {
    let mut story = Story::new();
    story.sees(seen(1, "a", "a b c"));
    let mut forked = seen(2, "b", "b c");
    forked.flock.as_mut().unwrap().parent = Some(1);
    let events = story.sees(forked);
    assert_eq!(whats(&events), [What::Formed, What::MasterChanged]);
    assert_eq!(events[0].before, Some("flock-1".to_owned()));
    story.after(Duration::from_secs(2));
    let events = story.sees(seen(1, "a", "a b c"));
    assert_eq!(whats(&events), [What::Merged, What::MasterChanged]);
}

/// What a node that does not vote sees while the flock has no master.
fn in_no_flock(present: &str) -> Seen {
    Seen { flock: None, ..seen(1, "", present) }
}

#[test]
fn a_node_that_knows_of_no_flock_while_there_is_no_master_is_in_the_same_one_afterwards() {
    let mut story = Story::new();
    story.sees(seen(1, "a", "a b c"));
    story.after(MINUTE);
    assert_eq!(story.sees(in_no_flock("b c")), []);
    assert_eq!(whats(&story.sees(seen(1, "b", "b c"))), [What::MasterChanged]);
}

#[test]
fn a_flock_that_is_another_after_such_a_time_formed_or_merged_and_its_last_name_is_told() {
    for (parent, what) in [(Some(1), What::Formed), (None, What::Merged)] {
        let mut story = Story::new();
        story.sees(seen(1, "a", "a b c"));
        assert_eq!(story.sees(in_no_flock("a b c")), []);
        let mut other = seen(2, "b", "a b c");
        other.flock.as_mut().unwrap().parent = parent;
        let events = story.sees(other);
        assert_eq!(whats(&events), [what, What::MasterChanged]);
        assert_eq!(events[0].before, Some("flock-1".to_owned()));
    }
}

#[test]
fn a_role_is_told_when_it_changes() {
    let mut story = Story::new();
    assert_eq!(whats(&story.sees(seen(1, "a", "a b"))), [What::Formed, What::MasterChanged]);
    let backup = Seen { role: "backup", ..seen(1, "a", "a b") };
    let events = story.sees(backup);
    assert_eq!(whats(&events), [What::RoleChanged]);
    assert_eq!(events[0].before, Some("eligible".to_owned()));
}
