//! What holds for any tree and for any bytes.
#![expect(clippy::unwrap_used, reason = "tests stop at what they did not expect")]

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use skep_base::{NodeId, WallTime};
use skep_image::{
    ChunkRef, Contents, Entry, Header, Hole, ImageKind, Kind, Manifest, ManifestDigest, Metadata,
    Node, Pieces, Seal, Timestamp, TreePath, Xattr,
};

fn header() -> Header {
    Header {
        kind: ImageKind::Tree,
        name: "any".parse().unwrap(),
        version: 1,
        created: WallTime::from_unix_ms(0),
        queen: "queen".parse().unwrap(),
        queen_id: NodeId::from_bytes([1; 16]),
        previous: None,
    }
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let xattrs = btree_map("[a-z.]{1,20}", vec(any::<u8>(), 0..40), 0..4);
    let time = (any::<i64>(), 0..1_000_000_000_u32);
    (0..0o10_000_u16, 0..u32::MAX, 0..u32::MAX, time, xattrs).prop_map(
        |(mode, uid, gid, (seconds, nanos), xattrs)| Metadata {
            mode,
            uid,
            gid,
            modified: Timestamp { seconds, nanos },
            xattrs: xattrs
                .into_iter()
                .map(|(name, value)| Xattr { name: name.into_bytes(), value })
                .collect(),
        },
    )
}

fn contents() -> impl Strategy<Value = Contents> {
    // Pairs of (data, hole) lengths, so that holes are apart by construction.
    (vec((1..5000_u64, 1..5000_u64), 0..5), 0..5000_u64).prop_map(|(runs, tail)| {
        let (mut at, mut data, mut holes) = (0, 0, Vec::new());
        for (before, len) in runs {
            holes.push(Hole { offset: at + before, len });
            at += before + len;
            data += before;
        }
        data += tail;
        let bytes = vec![7; usize::try_from(data).unwrap()];
        Contents {
            size: at + tail,
            holes,
            chunks: (data > 0).then(|| ChunkRef::of(&bytes)).into_iter().collect(),
        }
    })
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        3 => contents().prop_map(Node::File),
        1 => Just(Node::Fifo),
        1 => vec(1..=255_u8, 1..100).prop_map(Node::Symlink),
        1 => (0..4096_u32, 0..1_048_576_u32)
            .prop_map(|(major, minor)| Node::CharDevice { major, minor }),
    ]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..12)
        .prop_map(|mut name| {
            name.retain(|byte| *byte != 0 && *byte != b'/');
            name
        })
        .prop_filter("a name", |name| !name.is_empty() && name != b"." && name != b"..")
}

/// A tree two levels deep, with hard links among the files.
fn manifest() -> impl Strategy<Value = Manifest> {
    let leaf = (metadata(), node(), any::<bool>());
    let leaves = btree_map(name(), leaf, 0..6);
    let top = btree_map(name(), (metadata(), leaves), 0..6);
    (metadata(), top).prop_map(|(root, top)| {
        let directory =
            |path, metadata| Entry { path, kind: Kind::Node(metadata, Node::Directory) };
        let mut entries = vec![directory(TreePath::root(), root)];
        let mut first = None;
        for (name, (metadata, leaves)) in top {
            let below = TreePath::root().join(&name).unwrap();
            entries.push(directory(below.clone(), metadata));
            for (name, (mut metadata, node, hard)) in leaves {
                if matches!(node, Node::Symlink(_)) {
                    metadata.mode = 0o777;
                }
                let kind = match first {
                    Some(first) if hard => Kind::HardLink(first),
                    _ => Kind::Node(metadata, node),
                };
                if matches!(kind, Kind::Node(_, Node::File(_))) {
                    first = Some(u32::try_from(entries.len()).unwrap());
                }
                let path = below.join(&name).unwrap();
                entries.push(Entry { path, kind });
            }
        }
        Manifest::new(header(), entries).unwrap()
    })
}

proptest! {
    #[test]
    fn manifests_round_trip(manifest in manifest()) {
        let bytes = manifest.encode();
        let back = Manifest::decode(&bytes).unwrap();
        prop_assert_eq!(&back, &manifest);
        prop_assert_eq!(ManifestDigest::of(&back.encode()), ManifestDigest::of(&bytes));
        let pieces = Pieces::of(&manifest);
        prop_assert!(manifest.chunks().all(|chunk| pieces.piece_of(&chunk.digest).is_some()));
    }

    #[test]
    fn damage_never_panics_and_never_passes_unseen(
        manifest in manifest(),
        at in any::<prop::sample::Index>(),
        with in vec(any::<u8>(), 1..4),
    ) {
        let bytes = manifest.encode();
        let at = at.index(bytes.len());
        let mut damaged = bytes.clone();
        damaged.splice(at..(at + with.len()).min(bytes.len()), with);
        if let Ok(other) = Manifest::decode(&damaged) {
            prop_assert_eq!(other.encode(), damaged);
        }
    }

    #[test]
    fn noise_is_neither_manifest_nor_seal(noise in vec(any::<u8>(), 0..300)) {
        prop_assert!(Manifest::decode(&noise).is_err());
        prop_assert!(Seal::decode(&noise).is_err());
        let after_magic = [b"SKEPIMG\x01\x01\x00", &noise[..]].concat();
        if let Ok(manifest) = Manifest::decode(&after_magic) {
            prop_assert_eq!(manifest.encode(), after_magic);
        }
    }
}
