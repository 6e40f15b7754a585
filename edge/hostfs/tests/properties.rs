//! Any tree arrives as it was.
#![expect(clippy::unwrap_used, reason = "tests stop at what they did not expect")]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};

use common::{Cleanup, image, noise, set_mode, set_time};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use skep_hostfs::{ApplyOptions, Quiet, Target, VerifyOptions, apply, tree_digest, verify};

#[derive(Clone, Debug)]
enum Thing {
    File { seed: u64, len: usize, hole: u64 },
    Symlink(Vec<u8>),
    Fifo,
    LinkToFirst,
    Directory(BTreeMap<Vec<u8>, (Self, u32, i64, u32)>),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..20)
        .prop_map(|mut name| {
            name.retain(|byte| *byte != 0 && *byte != b'/');
            name
        })
        .prop_filter("a name", |name| !name.is_empty() && name != b"." && name != b"..")
}

fn thing() -> impl Strategy<Value = Thing> {
    let leaf = prop_oneof![
        4 => (any::<u64>(), 0..200_000_usize, prop_oneof![Just(0), 1..1_000_000_u64])
            .prop_map(|(seed, len, hole)| Thing::File { seed, len, hole }),
        1 => vec(1..=255_u8, 1..200).prop_map(Thing::Symlink),
        1 => Just(Thing::Fifo),
        1 => Just(Thing::LinkToFirst),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        btree_map(name(), dressed(inner), 0..6).prop_map(Thing::Directory)
    })
}

fn dressed(inner: impl Strategy<Value = Thing>) -> impl Strategy<Value = (Thing, u32, i64, u32)> {
    // Times that every filesystem of today keeps: ext4's end in 2446.
    (inner, 0..0o10_000_u32, -2_000_000_000..15_000_000_000_i64, 0..1_000_000_000_u32)
}

fn make(
    at: &Path,
    (thing, mode, seconds, nanos): &(Thing, u32, i64, u32),
    first: &mut Option<PathBuf>,
) {
    match thing {
        Thing::File { seed, len, hole } => {
            let file = fs::File::create(at).unwrap();
            file.write_all_at(&noise(*seed, *len), *hole).unwrap();
            first.get_or_insert_with(|| at.to_owned());
        }
        Thing::Symlink(target) => symlink(OsStr::from_bytes(target), at).unwrap(),
        Thing::LinkToFirst => match first {
            Some(first) => return fs::hard_link(first, at).unwrap(),
            None => fs::write(at, b"nothing to link to").unwrap(),
        },
        Thing::Fifo => {
            let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
            rustix::fs::mknodat(rustix::fs::CWD, at, kind, mode, 0).unwrap();
        }
        Thing::Directory(inside) => {
            fs::create_dir(at).unwrap();
            for (name, inner) in inside {
                make(&at.join(OsStr::from_bytes(name)), inner, first);
            }
        }
    }
    if !matches!(thing, Thing::Symlink(_)) {
        // An ordinary user must still be able to read what he made.
        set_mode(at, mode | 0o500);
    }
    set_time(at, *seconds, (*nanos).into());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_arrives_as_it_was(inside in btree_map(name(), dressed(thing()), 0..6)) {
        let place = tempfile::tempdir().unwrap();
        let _cleanup = Cleanup(place.path().to_owned());
        let source = place.path().join("source");
        make(&source, &(Thing::Directory(inside), 0o755, 1, 2), &mut None);
        let (manifest, digest, mut memory) = image(&source);
        let target = Target::new(place.path(), Path::new("copy")).unwrap();
        let options = ApplyOptions { tag: "w1".parse().unwrap(), as_user: false };
        let switched =
            apply(&target, (&manifest, digest), &options, &mut memory, &mut Quiet).unwrap();
        switched.discard_old(&mut Quiet).unwrap();
        let (differences, _) = verify(target.path(), &manifest, VerifyOptions::default()).unwrap();
        prop_assert_eq!(differences, vec![]);
        prop_assert_eq!(tree_digest(target.path()).unwrap(), tree_digest(&source).unwrap());
        prop_assert_eq!(image(target.path()).0.entries().len(), manifest.entries().len());
    }
}
