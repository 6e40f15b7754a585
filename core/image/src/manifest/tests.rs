//! Every way in which a manifest can lie, each refused whole and by its own rule.

use super::*;
use crate::changes::{Change, Changes};
use crate::entry::{Contents, Hole, Metadata, Timestamp, Xattr};
use crate::path::{PathError, TreePath};
use alloc::borrow::ToOwned as _;
use alloc::string::ToString as _;
use alloc::vec;

pub(crate) fn header() -> Header {
    Header {
        kind: ImageKind::Tree,
        name: "site".parse().unwrap(),
        version: 3,
        created: WallTime::from_unix_ms(1_700_000_000_000),
        queen: "queen-1".parse().unwrap(),
        queen_id: NodeId::from_bytes([9; 16]),
        previous: Some(ManifestDigest::of(b"version 2")),
    }
}

fn metadata() -> Metadata {
    Metadata {
        mode: 0o755,
        uid: 1000,
        gid: 100,
        modified: Timestamp { seconds: -86_400, nanos: 999_999_999 },
        xattrs: vec![],
    }
}

fn entry(path: &[u8], node: Node) -> Entry {
    let mut metadata = metadata();
    if matches!(node, Node::Symlink(_)) {
        metadata.mode = 0o777;
    }
    Entry { path: TreePath::unchecked(path), kind: Kind::Node(metadata, node) }
}

fn directory(path: &[u8]) -> Entry {
    entry(path, Node::Directory)
}

fn chunk(len: u32) -> ChunkRef {
    ChunkRef { digest: Digest::of(&len.to_le_bytes()), len }
}

fn contents(size: u64, holes: &[(u64, u64)], chunks: &[u32]) -> Contents {
    Contents {
        size,
        holes: holes.iter().map(|(offset, len)| Hole { offset: *offset, len: *len }).collect(),
        chunks: chunks.iter().copied().map(chunk).collect(),
    }
}

fn file(path: &[u8]) -> Entry {
    entry(path, Node::File(contents(5, &[], &[5])))
}

fn link(path: &[u8], first: u32) -> Entry {
    Entry { path: TreePath::unchecked(path), kind: Kind::HardLink(first) }
}

/// One of everything.
pub(crate) fn rich() -> Manifest {
    let mut capable = file(b"bin/ping");
    if let Kind::Node(metadata, _) = &mut capable.kind {
        metadata.mode = 0o4755;
        metadata.xattrs = vec![
            Xattr { name: b"security.capability".to_vec(), value: vec![1, 0, 0, 2, 0, 0x20] },
            Xattr { name: b"user.empty".to_vec(), value: vec![] },
        ];
    }
    let big = contents(300_000, &[(0, 4096), (8192, 100)], &[262_144, 33_660]);
    let entries = vec![
        directory(b""),
        directory(b"bin"),
        capable,
        link(b"bin/ping6", 2),
        entry(b"blob", Node::File(big)),
        entry(b"console", Node::CharDevice { major: 5, minor: 1 }),
        entry(b"disk", Node::BlockDevice { major: 4095, minor: 0xf_ffff }),
        entry(b"empty", Node::File(contents(0, &[], &[]))),
        entry(b"hole", Node::File(contents(1 << 40, &[(0, 1 << 40)], &[]))),
        entry(b"link", Node::Symlink(b"../\xff".to_vec())),
        entry(b"pipe\n", Node::Fifo),
        entry(b"\xfe\xff", Node::Directory),
    ];
    Manifest::new(header(), entries).unwrap()
}

/// What the decoder says of `entries` behind a header whose totals are theirs.
fn refusal(entries: &[Entry]) -> ManifestError {
    let totals =
        sum(entries).unwrap_or(Totals { entries: entries.len() as u64, ..Totals::default() });
    let bytes = codec::encode(&header(), &totals, entries);
    Manifest::decode(&bytes).unwrap_err()
}

fn rule(entries: &[Entry]) -> EntryError {
    let error = refusal(entries);
    let ManifestError::Entry { why, .. } = error else {
        panic!("refused for another reason: {error}");
    };
    why
}

#[test]
fn one_of_everything_round_trips() {
    let manifest = rich();
    let bytes = manifest.encode();
    let back = Manifest::decode(&bytes).unwrap();
    assert_eq!(back, manifest);
    assert_eq!(back.encode(), bytes);
    let totals = back.totals();
    assert_eq!((totals.entries, totals.files, totals.chunks), (12, 4, 3));
    assert_eq!(totals.bytes, (1 << 40) + 300_005);
    assert_eq!(totals.data_bytes, 295_809);
    let alias = &back.entries()[3];
    assert_eq!(back.resolve(alias).path.to_string(), "bin/ping");
}

#[test]
fn golden_bytes_of_format_1() {
    let bytes = rich().encode();
    assert_eq!(&bytes[..10], b"SKEPIMG\x01\x01\x00");
    assert_eq!(bytes.len(), GOLDEN_LEN);
    assert_eq!(ManifestDigest::of(&bytes).to_string(), GOLDEN_DIGEST);
}

const GOLDEN_LEN: usize = 511;
const GOLDEN_DIGEST: &str = "4ab5dccdfd33956c66eecc013e06f0280cae5b453e6f204bdaf1e9ab89707c38";

#[test]
fn paths_that_could_leave_the_tree_are_refused() {
    for (path, why) in [
        (&b".."[..], PathError::Dots),
        (b".", PathError::Dots),
        (b"a/../../etc", PathError::Dots),
        (b"/etc/passwd", PathError::Absolute),
        (b"a//b", PathError::EmptyName),
        (b"a/", PathError::EmptyName),
        (b"a\0b", PathError::Nul),
    ] {
        let entries = [directory(b""), directory(b"a"), file(path)];
        assert_eq!(rule(&entries), EntryError::Path(why), "{}", path.escape_ascii());
    }
    assert_eq!(rule(&[directory(b""), file(b"")]), EntryError::Root);
}

#[test]
fn the_first_entry_is_the_root_and_what_the_kind_says() {
    assert!(matches!(refusal(&[]), ManifestError::Truncated(_)));
    assert_eq!(rule(&[directory(b"a")]), EntryError::Root);
    assert_eq!(rule(&[file(b"")]), EntryError::RootKind);
    let single = Header { kind: ImageKind::File, ..header() };
    assert!(Manifest::new(single.clone(), vec![file(b"")]).is_ok());
    assert!(Manifest::new(single, vec![directory(b"")]).is_err());
}

#[test]
fn entries_form_one_sorted_tree() {
    let root = || directory(b"");
    assert_eq!(rule(&[root(), file(b"a"), file(b"a")]), EntryError::Duplicate);
    assert_eq!(rule(&[root(), file(b"b"), file(b"a")]), EntryError::Unsorted);
    assert_eq!(rule(&[root(), directory(b"a.b"), directory(b"a")]), EntryError::Unsorted);
    assert_eq!(rule(&[root(), file(b"a/b")]), EntryError::NoParent);
    assert_eq!(rule(&[root(), directory(b"a"), file(b"a/b/c")]), EntryError::NoParent);
    assert_eq!(rule(&[root(), directory(b"a"), file(b"ab/c")]), EntryError::NoParent);
    let linked = entry(b"a", Node::Symlink(b"/etc".to_vec()));
    for parent in [file(b"a"), linked, entry(b"a", Node::Fifo)] {
        assert_eq!(rule(&[root(), parent, file(b"a/b")]), EntryError::ParentKind);
    }
    let by_hard_link = [root(), file(b"a"), link(b"b", 1), file(b"b/c")];
    assert_eq!(rule(&by_hard_link), EntryError::ParentKind);
}

#[test]
fn hard_links_lead_to_earlier_files_only() {
    let root = || directory(b"");
    assert_eq!(rule(&[root(), link(b"a", 7)]), EntryError::HardLink(7));
    assert_eq!(rule(&[root(), link(b"a", 1)]), EntryError::HardLink(1));
    assert_eq!(rule(&[root(), link(b"a", 0)]), EntryError::HardLink(0));
    assert_eq!(rule(&[root(), link(b"a", 2), file(b"b")]), EntryError::HardLink(2));
    let chained = [root(), file(b"a"), link(b"b", 1), link(b"c", 2)];
    assert_eq!(rule(&chained), EntryError::HardLink(2));
    let pipes = vec![root(), entry(b"a", Node::Fifo), link(b"b", 1)];
    assert!(Manifest::new(header(), pipes).is_ok());
}

#[test]
fn contents_add_up() {
    let root = || directory(b"");
    let broken = |contents: Contents| rule(&[root(), entry(b"f", Node::File(contents))]);
    assert!(matches!(broken(contents(5, &[], &[4])), EntryError::ChunkSum { .. }));
    assert!(matches!(broken(contents(5, &[], &[])), EntryError::ChunkSum { .. }));
    assert!(matches!(broken(contents(0, &[], &[9])), EntryError::ChunkSum { .. }));
    assert_eq!(broken(contents(0, &[], &[0])), EntryError::ChunkSize(0));
    assert_eq!(broken(contents(9, &[], &[4, 5])), EntryError::ChunkSize(4));
    assert_eq!(broken(contents(1 << 20, &[], &[1 << 20])), EntryError::ChunkSize(1 << 20));
    assert_eq!(broken(contents(9, &[(0, 5), (4, 2)], &[4])), EntryError::Holes);
    assert_eq!(broken(contents(9, &[(0, 2), (2, 2)], &[5])), EntryError::Holes);
    assert_eq!(broken(contents(9, &[(4, 2), (0, 2)], &[5])), EntryError::Holes);
    assert_eq!(broken(contents(9, &[(4, 0)], &[9])), EntryError::Holes);
    assert_eq!(broken(contents(9, &[(4, 6)], &[3])), EntryError::Holes);
    assert_eq!(broken(contents(9, &[(4, u64::MAX)], &[4])), EntryError::Holes);
    assert_eq!(broken(contents(1 << 63, &[], &[])), EntryError::Size(1 << 63));
}

#[test]
fn absurd_totals_are_refused_without_overflow() {
    let vast = (1 << 63) - 1;
    let files = [b"a", b"b", b"c"].map(|path| {
        let hole = contents(vast, &[(0, vast)], &[]);
        entry(path, Node::File(hole))
    });
    let entries: Vec<Entry> = core::iter::once(directory(b"")).chain(files).collect();
    assert!(matches!(refusal(&entries), ManifestError::TooMuch { .. }));
    let honest = rich();
    let mut totals = *honest.totals();
    totals.bytes -= 1;
    let bytes = codec::encode(honest.header(), &totals, honest.entries());
    assert_eq!(Manifest::decode(&bytes), Err(ManifestError::Totals));
}

#[test]
fn metadata_is_within_what_linux_has() {
    let with = |change: &dyn Fn(&mut Metadata)| {
        let mut changed = file(b"f");
        if let Kind::Node(metadata, _) = &mut changed.kind {
            change(metadata);
        }
        rule(&[directory(b""), changed])
    };
    let xattr = |name: &[u8]| Xattr { name: name.to_vec(), value: vec![] };
    assert!(matches!(with(&|m| m.mode = 0o10_000), EntryError::Mode(_)));
    assert!(matches!(with(&|m| m.modified.nanos = 1_000_000_000), EntryError::Nanos(_)));
    assert_eq!(with(&|m| m.uid = u32::MAX), EntryError::Owner);
    assert_eq!(with(&|m| m.gid = u32::MAX), EntryError::Owner);
    assert_eq!(with(&|m| m.xattrs = vec![xattr(b"")]), EntryError::Xattr);
    assert_eq!(with(&|m| m.xattrs = vec![xattr(b"user.a\0b")]), EntryError::Xattr);
    assert_eq!(with(&|m| m.xattrs = vec![xattr(b"user.a"); 2]), EntryError::Xattr);
    let descending = [xattr(b"user.b"), xattr(b"user.a")];
    assert_eq!(with(&|m| m.xattrs = descending.to_vec()), EntryError::Xattr);
    let node = |node| rule(&[directory(b""), entry(b"n", node)]);
    assert_eq!(node(Node::Symlink(vec![])), EntryError::Target);
    assert_eq!(node(Node::Symlink(b"a\0".to_vec())), EntryError::Target);
    let major = 1 << 12;
    assert_eq!(node(Node::CharDevice { major, minor: 0 }), EntryError::Device(major, 0));
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    let bytes = rich().encode();
    for len in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..len]).is_err(), "cut at {len}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Manifest::decode(&longer), Err(ManifestError::LeftOver(1)));
}

#[test]
fn no_changed_byte_is_taken_for_another_spelling_of_the_same() {
    let manifest = rich();
    let bytes = manifest.encode();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            if let Ok(other) = Manifest::decode(&changed) {
                assert_ne!(other, manifest, "byte {at}");
                assert_eq!(other.encode(), changed, "byte {at}");
            }
        }
    }
}

#[test]
fn a_lie_about_a_count_takes_no_memory() {
    let mut bytes = codec::encode(&header(), &Totals::default(), &[]);
    // The last byte is the count of entries: zero. Say four million, with none to follow.
    bytes.pop();
    let mut lie = codec::Writer(bytes.clone());
    lie.number(MAX_ENTRIES as u64);
    assert_eq!(Manifest::decode(&lie.0), Err(ManifestError::Truncated("entries")));
    let mut lie = codec::Writer(bytes);
    lie.number(u64::MAX);
    assert!(matches!(
        Manifest::decode(&lie.0),
        Err(ManifestError::TooMuch { what: "entries", .. })
    ));
}

#[test]
fn other_formats_are_named() {
    let mut bytes = rich().encode();
    assert_eq!(Manifest::decode(b"#!/bin/sh"), Err(ManifestError::Magic));
    bytes[7] = 2;
    assert_eq!(Manifest::decode(&bytes), Err(ManifestError::Format(2)));
    bytes[7] = 1;
    bytes[8] = 7;
    assert_eq!(Manifest::decode(&bytes), Err(ManifestError::Chunking(7)));
}

#[test]
fn padded_numbers_are_refused() {
    let decode = |bytes: &[u8]| codec::Reader(bytes).number("n");
    assert_eq!(decode(&[0x80, 0x00]), Err(ManifestError::Number("n")));
    assert_eq!(decode(&[0xff; 10]), Err(ManifestError::Number("n")));
    assert_eq!(decode(&[0xff; 3]), Err(ManifestError::Truncated("n")));
    for value in [0, 1, 127, 128, 1 << 32, u64::MAX] {
        let mut out = codec::Writer(vec![]);
        out.number(value);
        assert_eq!(decode(&out.0), Ok(value));
    }
}

#[test]
fn changes_name_what_differs_and_count_what_travels() {
    let old = Manifest::new(
        header(),
        vec![directory(b""), file(b"a"), file(b"b"), link(b"b2", 2), file(b"c")],
    )
    .unwrap();
    let mut touched = file(b"c");
    if let Kind::Node(metadata, _) = &mut touched.kind {
        metadata.uid = 0;
    }
    let grown = entry(b"d", Node::File(contents(7, &[], &[7])));
    let new =
        Manifest::new(header(), vec![directory(b""), file(b"b"), link(b"b2", 1), touched, grown])
            .unwrap();
    let changes = Changes::between(&old, &new);
    let shown: Vec<_> =
        changes.paths.iter().map(|(path, change)| (path.to_string(), *change)).collect();
    let expected = [("a", Change::Removed), ("c", Change::Metadata), ("d", Change::Added)];
    assert_eq!(shown, expected.map(|(path, change)| (path.to_owned(), change)));
    assert_eq!(changes.fresh_bytes, 7);
    assert_eq!(Changes::between(&old, &old), Changes::default());
}
