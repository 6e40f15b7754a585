//! What waits for a hook.

use crate::{Line, MAX_LINE, Run};

#[test]
fn never_two_of_one_hook_run_at_once() {
    let mut line = Line::default();
    line.push("split", 1);
    line.push("merged", 2);
    assert_eq!(line.next_run(), Some(Run { event: 1, folded: 0, dropped: 0 }));
    assert_eq!(line.next_run(), None, "one runs");
    line.ended();
    assert_eq!(line.next_run().map(|run| run.event), Some(2));
    assert_eq!(line.load(), (true, 0));
}

#[test]
fn those_of_one_sort_are_folded_into_the_newest_at_its_place() {
    let mut line = Line::default();
    for event in [1, 2, 3] {
        line.push("split", event);
        line.push("merged", event * 10);
    }
    assert_eq!(line.next_run(), Some(Run { event: 3, folded: 2, dropped: 0 }));
    line.ended();
    assert_eq!(line.next_run(), Some(Run { event: 30, folded: 2, dropped: 0 }));
    line.ended();
    assert_eq!(line.next_run(), None);
}

#[test]
fn what_is_beyond_the_bound_is_dropped_oldest_first_and_counted() {
    let mut line = Line::default();
    for event in 0..MAX_LINE + 3 {
        line.push(event, event);
    }
    let first = line.next_run().unwrap();
    assert_eq!((first.event, first.dropped), (3, 3));
    line.ended();
    assert_eq!(line.next_run().unwrap().dropped, 0, "it was told once");
}
