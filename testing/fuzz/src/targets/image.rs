//! Manifests, seals and the paths in them: what decides where a wave writes.

use skep_base::{Digest, NodeId, WallTime};
use skep_image::{
    ChunkRef, Contents, Entry, Header, Hole, ImageKind, Kind, Manifest, ManifestDigest, Metadata,
    Node, Pieces, Seal, Timestamp, TreePath, Xattr,
};

use super::{Target, name};

/// A manifest.
pub(super) const MANIFEST: Target = Target {
    name: "manifest",
    decode: fuzz_manifest,
    seeds: || vec![("one-of-everything", rich()), ("one-file", one_file())],
    accepts: |data| Manifest::decode(data).is_ok(),
};

/// A seal.
pub(super) const SEAL: Target = Target {
    name: "seal",
    decode: fuzz_seal,
    seeds: || vec![("of-everything", seal())],
    accepts: |data| Seal::decode(data).is_ok(),
};

/// A path below an image's root.
pub(super) const PATH: Target = Target {
    name: "path",
    decode: fuzz_path,
    seeds: || vec![("two-names", b"etc/\xff\n".to_vec())],
    accepts: |data| TreePath::new(data.to_vec()).is_ok(),
};

fn fuzz_manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::decode(data) else {
        return;
    };
    assert_eq!(manifest.encode(), data, "a manifest has one spelling");
    let entries = manifest.entries();
    assert!(
        entries.windows(2).all(|pair| pair[0].path < pair[1].path),
        "entries are sorted and none comes twice"
    );
    for entry in entries {
        check_path(entry.path.as_bytes());
        assert!(
            !matches!(manifest.resolve(entry).kind, Kind::HardLink(_)),
            "a hard link leads to a node"
        );
    }
    let pieces = Pieces::of(&manifest);
    for chunk in manifest.chunks() {
        assert!(pieces.piece_of(&chunk.digest).is_some(), "every chunk is in a piece");
    }
}

fn fuzz_seal(data: &[u8]) {
    if let Ok(seal) = Seal::decode(data) {
        assert_eq!(seal.encode(), data, "a seal has one spelling");
        let listed: u64 = seal.manifest_chunks().iter().map(|chunk| u64::from(chunk.len)).sum();
        assert_eq!(seal.manifest_bytes(), listed);
    }
}

fn fuzz_path(data: &[u8]) {
    if let Ok(path) = TreePath::new(data.to_vec()) {
        assert_eq!(path.as_bytes(), data);
        check_path(data);
        let names: Vec<&[u8]> = path.names().collect();
        assert_eq!(names.join(&b'/'), data);
    }
}

/// What no path of an accepted manifest may be, said without the code under test.
fn check_path(path: &[u8]) {
    assert!(!path.contains(&0) && !path.starts_with(b"/") && path.len() <= 4095);
    if !path.is_empty() {
        for name in path.split(|byte| *byte == b'/') {
            assert!(
                !name.is_empty() && name != b"." && name != b".." && name.len() <= 255,
                "{} could leave the tree",
                path.escape_ascii()
            );
        }
    }
}

fn header(kind: ImageKind) -> Header {
    Header {
        kind,
        name: name("site"),
        version: 3,
        created: WallTime::from_unix_ms(1_700_000_000_000),
        queen: name("queen-1"),
        queen_id: NodeId::from_bytes([9; 16]),
        previous: Some(ManifestDigest::of(b"version 2")),
    }
}

fn entry(path: &[u8], mode: u16, node: Node) -> Option<Entry> {
    let metadata = Metadata {
        mode,
        uid: 1000,
        gid: 100,
        modified: Timestamp { seconds: -86_400, nanos: 999_999_999 },
        xattrs: vec![Xattr { name: b"user.skep".to_vec(), value: vec![1, 0, 2] }],
    };
    Some(Entry { path: TreePath::new(path.to_vec()).ok()?, kind: Kind::Node(metadata, node) })
}

fn contents(size: u64, holes: Vec<Hole>, chunk: Option<u32>) -> Node {
    let chunk = chunk.map(|len| ChunkRef { digest: Digest::of(&len.to_le_bytes()), len });
    Node::File(Contents { size, holes, chunks: chunk.into_iter().collect() })
}

fn rich() -> Vec<u8> {
    let hole = Hole { offset: 0, len: 4096 };
    let entries = [
        entry(b"", 0o755, Node::Directory),
        entry(b"bin", 0o2755, Node::Directory),
        entry(b"bin/ping", 0o4755, contents(5, vec![], Some(5))),
        TreePath::new(b"bin/ping6".to_vec())
            .ok()
            .map(|path| Entry { path, kind: Kind::HardLink(2) }),
        entry(b"console", 0o600, Node::CharDevice { major: 5, minor: 1 }),
        entry(b"link", 0o777, Node::Symlink(b"../x".to_vec())),
        entry(b"pipe\n", 0o600, Node::Fifo),
        entry(b"sparse", 0o644, contents(5000, vec![hole], Some(904))),
        entry(b"\xfe\xff", 0o755, Node::Directory),
    ];
    encoded(ImageKind::Tree, entries)
}

fn one_file() -> Vec<u8> {
    let entries = [entry(b"", 0o644, contents(7, vec![], Some(7)))];
    encoded(ImageKind::File, entries)
}

/// The bytes of a manifest, or none when it is refused: then its seed is refused as well, and the
/// test of the corpus says so.
fn encoded<const N: usize>(kind: ImageKind, entries: [Option<Entry>; N]) -> Vec<u8> {
    let entries: Vec<Entry> = entries.into_iter().flatten().collect();
    Manifest::new(header(kind), entries).map_or_else(|_| Vec::new(), |it| it.encode())
}

fn seal() -> Vec<u8> {
    Seal::make(&rich(), b"certificate".to_vec(), |_| [0x5a; 64]).encode()
}
