//! The catalog: commands in the managers' log, what replicas say to one another, whole catalogs.

use skep_base::{Digest, WallTime};
use skep_catalog::{
    BUCKETS, Catalog, Command, Delta, Dot, Expect, Field, Fields, Give, Head, Key, Kind, Message,
    Origin, Outcome, Payload, Stamp, Tell, Want, Write, check,
};

use super::{Seed, Target};

/// What is proposed, and applied.
pub(super) const COMMAND: Target = Target {
    name: "catalog-command",
    decode: fuzz_command,
    seeds: || vec![("set", set()), ("both", both())],
    accepts: |data| Command::from_bytes(data).is_ok(),
};

/// What goes over links, and what a master signs.
pub(super) const MESSAGE: Target = Target {
    name: "catalog-message",
    decode: fuzz_message,
    seeds: message_seeds,
    accepts: |data| Message::from_body(data).is_ok() || Head::from_body(data).is_ok(),
};

/// What is on a disk.
pub(super) const SNAPSHOT: Target = Target {
    name: "catalog-snapshot",
    decode: fuzz_snapshot,
    seeds: || vec![("catalog", catalog().to_bytes().to_vec())],
    accepts: |data| Catalog::from_bytes(data).is_ok(),
};

/// What another flock hands over, in the managers' log.
pub(super) const ITEM: Target = Target {
    name: "catalog-item",
    decode: fuzz_item,
    seeds: item_seeds,
    accepts: |data| taken(&mut catalog(), data),
};

fn taken(catalog: &mut Catalog, data: &[u8]) -> bool {
    let outcome = catalog.apply(at(9), Origin::Foreign, data);
    !matches!(outcome, Outcome::Refused(_))
}

fn fuzz_item(data: &[u8]) {
    let mut catalog = catalog();
    let before = catalog.root();
    let taken = taken(&mut catalog, data);
    catalog.check();
    assert!(taken || catalog.root() == before);
    // Whatever it made of it, to hear it again from itself is no news.
    let after = catalog.root();
    for (index, item) in (10..).zip(catalog.hand_over(0)) {
        let outcome = catalog.apply(at(index), Origin::Foreign, &item);
        assert_eq!((outcome, catalog.root()), (Outcome::Skipped, after));
    }
}

fn fuzz_command(data: &[u8]) {
    let mut catalog = catalog();
    let before = catalog.root();
    let outcome = catalog.apply(at(9), Origin::Own, data);
    catalog.check();
    let Ok(command) = Command::from_bytes(data) else {
        assert_eq!(catalog.root(), before, "{outcome:?}");
        return;
    };
    let again = command.to_bytes().map(|bytes| Command::from_bytes(&bytes));
    assert_eq!(again, Ok(Ok(command.clone())));
    for write in &command.writes {
        if let Some(fields) = write.put.as_ref().and_then(Payload::fields) {
            assert_eq!(Fields::from_body(&fields.to_body()), Ok(fields.clone()));
            check(&write.key, &fields).ok();
        }
    }
}

fn fuzz_message(data: &[u8]) {
    if let Ok(message) = Message::from_body(data) {
        assert_eq!(Message::from_body(&message.to_body()).as_ref(), Ok(&message));
    }
    if let Ok(head) = Head::from_body(data) {
        assert_eq!(Head::from_body(&head.to_body()), Ok(head));
    }
}

fn fuzz_snapshot(data: &[u8]) {
    if let Ok(catalog) = Catalog::from_bytes(data) {
        catalog.check();
        let again = Catalog::from_bytes(&catalog.to_bytes());
        assert_eq!(again.map(|again| again.root()), Ok(catalog.root()));
    }
}

const STAMP: Stamp = Stamp { epoch: 3, fork: 7 };

const fn at(index: u64) -> Dot {
    Dot { stamp: STAMP, term: 2, index }
}

fn key(text: &str) -> Key {
    super::name(text)
}

fn payload(value: i64) -> Payload {
    let mut fields = Fields::new();
    let named = [
        ("value", Field::Number(value)),
        ("about", Field::Text("words".into())),
        ("members", Field::List(vec!["a".into(), "b".into()])),
        ("on", Field::Flag(true)),
    ];
    for (name, field) in named {
        if let Err(error) = fields.set(name, field) {
            panic!("{error}");
        }
    }
    Payload::of(Kind::SETTING, &fields)
}

fn command(writes: Vec<Write>) -> Vec<u8> {
    let command = Command { who: "uid 0 at a".into(), when: WallTime::from_unix_ms(1), writes };
    command.to_bytes().map(|bytes| bytes.to_vec()).unwrap_or_default()
}

fn set() -> Vec<u8> {
    let put = Some(payload(1));
    command(vec![Write { key: key("setting/a"), expect: Expect::Absent, put }])
}

fn both() -> Vec<u8> {
    let remove = Write { key: key("group/web"), expect: Expect::Revision(1), put: None };
    let put = Some(payload(2));
    command(vec![remove, Write { key: key("setting/a"), expect: Expect::Anything, put }])
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    let put =
        |name: &str| Write { key: key(name), expect: Expect::Anything, put: Some(payload(5)) };
    catalog.apply(at(1), Origin::Own, &command(vec![put("group/web"), put("setting/x")]));
    let gone = Write { key: key("setting/x"), expect: Expect::Anything, put: None };
    catalog.apply(at(2), Origin::Own, &command(vec![gone]));
    catalog
}

fn message_seeds() -> Vec<Seed> {
    let catalog = catalog();
    let slots = catalog.slots();
    let all = || slots.iter().map(|(key, slot)| ((*key).clone(), (*slot).clone()));
    let root = catalog.root();
    let mut deltas: Vec<_> = all().map(|(key, slot)| (key, Some(slot))).collect();
    deltas.push((key("setting/gone"), None));
    let give = Give {
        buckets: vec![3, 9],
        after: None,
        until: Some(key("group/web")),
        slots: all().collect(),
    };
    let want = Want { buckets: vec![7; BUCKETS], after: Some(key("setting/x")) };
    let delta = Delta { from: Digest::of(b"from"), to: root, slots: deltas };
    let seed = |name, message: Message| (name, message.to_body());
    vec![
        seed("tell", Message::Tell(Tell { root, index: 300, seen: 7 })),
        seed("delta", Message::Delta(delta)),
        seed("want", Message::Want(want)),
        seed("give", Message::Give(give)),
        ("head", Head { lineage: 5, stamp: STAMP, index: 2, root }.to_body()),
    ]
}

/// Entries that are new to the catalog, known to it, and contradict it.
fn item_seeds() -> Vec<Seed> {
    let put = |name: &str| {
        let put = Some(payload(6));
        command(vec![Write { key: key(name), expect: Expect::Anything, put }])
    };
    let other = |index| Dot { stamp: Stamp { epoch: 4, fork: 8 }, term: 3, index };
    let mut theirs = Catalog::new();
    theirs.apply(other(1), Origin::Own, &put("group/web"));
    theirs.apply(other(2), Origin::Own, &put("setting/new"));
    let mut merged = catalog();
    for (index, item) in (3..).zip(theirs.hand_over(0)) {
        merged.apply(at(index), Origin::Foreign, &item);
    }
    let first = |catalog: &Catalog| catalog.hand_over(0).first().map(|it| it.to_vec());
    let seed = |name, catalog| (name, first(catalog).unwrap_or_default());
    vec![seed("entries", &theirs), seed("known", &catalog()), seed("beside", &merged)]
}
