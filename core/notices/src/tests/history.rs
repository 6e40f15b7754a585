//! What masters tell of their flock, and the list that is made of it.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{NodeName, Rng, Time, WallTime};

use crate::history::{
    FlockEvent, MAX_EVENT_NODES, MAX_EVENTS, MAX_HISTORY_BYTES, Tale, Under, Who, from_body,
    in_one_order, to_body,
};
use crate::teller::Teller;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn who(text: &str) -> Who {
    let nodes: Vec<NodeName> = text.split_whitespace().map(|it| it.parse().unwrap()).collect();
    Who::of(&nodes, nodes.len())
}

fn under(lineage: u64, epoch: u64) -> Under {
    Under { epoch, fork: 7, lineage, generation: 1 }
}

/// Nodes with a record each, all of which all have, and clocks that agree.
struct Flock {
    now: Time,
    tellers: Vec<Teller>,
    records: Vec<Vec<FlockEvent>>,
    published: usize,
}

impl Flock {
    fn of(nodes: usize) -> Self {
        let (tellers, records) = (vec![Teller::default(); nodes], vec![Vec::new(); nodes]);
        Self { now: Time::from_millis(10_000), tellers, records, published: 0 }
    }

    fn elects(&mut self, node: usize, lineage: u64, epoch: u64) {
        for (at, teller) in self.tellers.iter_mut().enumerate() {
            teller.office(self.now, (at == node).then_some(under(lineage, epoch)));
        }
    }

    /// All nodes but `gone` see it.
    fn see(&mut self, gone: &[usize], tale: &Tale) {
        for (at, teller) in self.tellers.iter_mut().enumerate() {
            if !gone.contains(&at) {
                teller.saw(self.now, None, tale.clone());
            }
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + SECOND;
            for at in 0..self.tellers.len() {
                let known: Vec<FlockEvent> = self.list().into_iter().map(|it| it.1).collect();
                let clocks = (self.now, WallTime::from_unix_ms(self.now.as_nanos() / 1_000_000));
                let own = self.records[at].clone();
                let body = self.tellers[at].tell(clocks, 3, own, &known);
                self.tellers[at].check();
                if let Some(body) = body {
                    self.records[at] = from_body(&body).unwrap();
                    self.published += 1;
                }
            }
        }
    }

    fn list(&self) -> Vec<(usize, FlockEvent)> {
        in_one_order(self.records.iter().cloned().enumerate())
    }

    fn words(&self) -> Vec<String> {
        let word = |(teller, event): &(usize, FlockEvent)| {
            let names = |who: &Who| {
                who.nodes.iter().map(|it| it.as_str().to_owned()).collect::<Vec<_>>().join("+")
            };
            let what = match &event.tale {
                Tale::Formed { .. } => "formed".to_owned(),
                Tale::Merged { ended, .. } => format!("merged {ended}"),
                Tale::Split(who) => format!("split {}", names(who)),
                Tale::Back(who) => format!("back {}", names(who)),
                Tale::MasterChanged => "master".to_owned(),
                Tale::Stable => "stable".to_owned(),
            };
            format!("{teller} {what}")
        };
        self.list().iter().map(word).collect()
    }
}

#[test]
fn the_master_alone_tells_and_an_idle_flock_publishes_nothing() {
    let mut flock = Flock::of(3);
    flock.elects(0, 1, 1);
    flock.see(&[], &Tale::Split(who("x y")));
    flock.run(MINUTE);
    assert_eq!(flock.words(), ["0 master", "0 split x+y"]);
    assert_eq!(flock.published, 1, "what comes together is one record");
    flock.run(100 * MINUTE);
    assert_eq!(flock.published, 1);
}

#[test]
fn what_the_master_before_told_is_not_told_again_and_what_it_could_not_is() {
    let mut flock = Flock::of(3);
    flock.elects(0, 1, 1);
    flock.see(&[], &Tale::Split(who("x")));
    flock.run(5 * SECOND);
    // The master parts as well, which only the others see, and the next one tells.
    flock.see(&[0], &Tale::Split(who("zero y")));
    flock.elects(1, 1, 2);
    flock.run(MINUTE);
    assert_eq!(flock.words(), ["0 master", "0 split x", "1 split zero+y", "1 master"]);
}

#[test]
fn what_both_told_is_there_once_whoever_heard_of_whom() {
    let mut flock = Flock::of(2);
    flock.see(&[], &Tale::Split(who("x y")));
    flock.elects(0, 1, 1);
    flock.run(3 * SECOND);
    // The second has not heard of the first's record, and saw one node more.
    let heard = core::mem::take(&mut flock.records[0]);
    flock.elects(1, 1, 2);
    flock.tellers[1].saw(flock.now, None, Tale::Split(who("z")));
    flock.run(3 * SECOND);
    flock.records[0] = heard;
    assert_eq!(flock.words(), ["0 split x+y", "0 master", "1 master", "1 split z"]);
    // It came back and parted again: that is another parting.
    flock.see(&[], &Tale::Back(who("x")));
    flock.run(3 * SECOND);
    flock.see(&[], &Tale::Split(who("x")));
    flock.run(3 * SECOND);
    assert_eq!(flock.words()[4..], ["1 back x", "1 split x"]);
}

#[test]
fn a_parting_long_after_one_whose_end_nobody_told_is_another() {
    let mut flock = Flock::of(1);
    flock.elects(0, 1, 1);
    for _ in 0..2 {
        flock.see(&[], &Tale::Split(who("x")));
        flock.run(11 * MINUTE);
    }
    assert_eq!(flock.words(), ["0 master", "0 split x", "0 split x"]);
}

#[test]
fn the_last_word_of_a_flock_that_merged_and_that_of_the_other_are_one() {
    let mut flock = Flock::of(2);
    flock.elects(0, 1, 1);
    let now = flock.now;
    flock.tellers[1].office(now, Some(under(2, 5)));
    flock.run(2 * SECOND);
    let now = flock.now;
    flock.tellers[1].office(now, None);
    let merged = |changes| Tale::Merged { ended: 2, before: None, changes };
    flock.tellers[1].ended(now, under(1, 5), merged(None));
    flock.tellers[0].saw(now, Some(1), merged(Some(4)));
    flock.run(MINUTE);
    assert_eq!(flock.words(), ["0 master", "1 master", "0 merged 2"]);
}

#[test]
fn what_a_node_saw_long_before_it_was_master_it_does_not_tell() {
    let mut flock = Flock::of(1);
    flock.see(&[], &Tale::Split(who("x")));
    flock.run(2 * MINUTE);
    flock.elects(0, 1, 1);
    flock.run(MINUTE);
    assert_eq!(flock.words(), ["0 master"]);
}

#[test]
fn a_flock_that_does_not_come_to_rest_publishes_at_a_pace_and_keeps_the_last() {
    let mut flock = Flock::of(1);
    flock.elects(0, 1, 1);
    for at in 0..600 {
        let tale = if at % 2 == 0 { Tale::Split(who("x")) } else { Tale::Back(who("x")) };
        flock.see(&[], &tale);
        flock.run(2 * SECOND);
    }
    assert!((30..=60).contains(&flock.published), "{} records in 20 min", flock.published);
    let own = &flock.records[0];
    assert_eq!(own.len(), MAX_EVENTS);
    assert!(own[MAX_EVENTS - 1].number > 500, "those let go of are counted: {:?}", own.last());
}

#[test]
fn a_record_fits_whatever_is_told_and_a_broken_one_is_refused() {
    let long = |n: usize| format!("{}{n:02}.{}", "a".repeat(60), "b".repeat(60)).parse().unwrap();
    let nodes: Vec<NodeName> = (0..20).map(long).collect();
    let event = |number| FlockEvent {
        number,
        when: WallTime::from_unix_ms(u64::MAX),
        under: Under { epoch: u64::MAX, fork: u64::MAX, lineage: u64::MAX, generation: u64::MAX },
        present: u32::MAX,
        tale: Tale::Split(Who::of(&nodes, 20)),
    };
    let mut events: Vec<FlockEvent> = (0..100).map(event).collect();
    let body = to_body(&mut events);
    assert!(body.len() <= MAX_HISTORY_BYTES && !events.is_empty(), "{} bytes", body.len());
    assert_eq!(from_body(&body), Ok(events.clone()));
    assert_eq!(events.last().map(|it| it.number), Some(99), "the newest stay");
    assert_eq!(events.iter().map(|it| it.present).max(), Some(u32::MAX));
    events.reverse();
    from_body(&skep_wire::encode(&events)).unwrap_err();
    let mut named = event(1);
    named.tale = Tale::Split(Who { nodes: vec![long(1); MAX_EVENT_NODES + 1], count: 99 });
    from_body(&skep_wire::encode(&vec![named])).unwrap_err();
    let mut rng = Rng::seeded(3);
    for _ in 0..2000 {
        let mut bytes = body.clone();
        let at = rng.index(bytes.len()).unwrap();
        bytes[at] ^= u8::try_from(rng.within(1..256)).unwrap();
        if let Ok(read) = from_body(&bytes) {
            assert!(read.len() <= MAX_EVENTS);
        }
    }
}

#[test]
fn the_bytes_of_a_record_stay_what_they_are() {
    let events = [
        Tale::Formed { before: Some("calm-glen".into()) },
        Tale::Merged { ended: 9, before: None, changes: Some(3) },
        Tale::Split(who("web-1")),
        Tale::Back(who("web-1")),
        Tale::MasterChanged,
        Tale::Stable,
    ];
    let event = |(number, tale): (u64, Tale)| FlockEvent {
        number,
        when: WallTime::from_unix_ms(5),
        under: Under { epoch: 1, fork: 2, lineage: 3, generation: 4 },
        present: 6,
        tale,
    };
    let mut all: Vec<FlockEvent> = (1..).zip(events).map(event).collect();
    let hex: String = to_body(&mut all).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "06010501020304060001\
         0963616c6d2d676c656e\
         020501020304060109000103\
         0305010203040602010577\
         65622d3101\
         040501020304060301057765622d3101\
         0505010203040604\
         0605010203040605"
    );
}
