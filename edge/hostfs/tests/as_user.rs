//! Without root: what cannot be set is listed, and fails unless it was asked to be left out.
#![expect(clippy::unwrap_used, reason = "tests stop at what they did not expect")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;

use common::{Cleanup, image, is_root, left_out, rich_tree, set_mode};
use rustix::process::{Gid, Uid};
use skep_hostfs::{
    ApplyError, ApplyOptions, BuildError, LeftWhat, OnTrouble, Quiet, Target, TroubleKind,
    VerifyOptions, apply, build, tree_digest, verify,
};

const NOBODY: u32 = 65_534;

/// Runs `work` on a thread that is an ordinary user, or on ours when we are one.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            if is_root() {
                let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
                rustix::thread::set_thread_groups(&[]).unwrap();
                rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
                rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
                assert!(!is_root());
            }
            work()
        });
        worker.join().unwrap()
    })
}

fn give_to_nobody(path: &Path) {
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn options(as_user: bool) -> ApplyOptions {
    ApplyOptions { tag: "w1".parse().unwrap(), as_user }
}

#[test]
fn owners_devices_and_capabilities_are_listed_and_fail_unless_left_out() {
    if !is_root() {
        return left_out("applying a tree of root's as another user: it takes root to make one");
    }
    let place = tempfile::tempdir().unwrap();
    let _cleanup = Cleanup(place.path().to_owned());
    set_mode(place.path(), 0o755);
    let source = place.path().join("source");
    rich_tree(&source);
    let (manifest, digest, mut memory) = image(&source);
    let home = place.path().join("home");
    fs::create_dir(&home).unwrap();
    give_to_nobody(&home);
    let image = (&manifest, digest);

    let refused = as_nobody(|| {
        let target = Target::new(&home, Path::new("copy")).unwrap();
        let applied = apply(&target, image, &options(false), &mut memory, &mut Quiet);
        applied.map(drop).unwrap_err()
    });
    let ApplyError::NotPermitted { left, .. } = &refused else {
        panic!("refused for another reason: {refused}");
    };
    assert!(left.count > 10);
    assert_eq!(common::names(&home), [""; 0], "nothing was begun");

    // Twice, so that directories with their final modes are taken over by an ordinary user.
    for round in 0..2 {
        let left = as_nobody(|| {
            let target = Target::new(&home, Path::new("copy")).unwrap();
            if round == 1 {
                let stopped =
                    apply(&target, image, &options(true), &mut memory, &mut common::StopAt(60));
                assert!(stopped.is_err());
            }
            let switched = apply(&target, image, &options(true), &mut memory, &mut Quiet).unwrap();
            switched.discard_old(&mut Quiet).unwrap()
        });
        let has = |path: &str, wanted: &dyn Fn(&LeftWhat) -> bool| {
            left.named.iter().any(|left| left.path.to_string() == path && wanted(&left.what))
        };
        assert!(has("script", &|what| matches!(what, LeftWhat::Owner { uid: 65_534, gid: 1234 })));
        assert!(has("script", &|what| *what == LeftWhat::SetId));
        assert!(has("ping", &|what| matches!(what, LeftWhat::Xattr(name) if
            name == b"security.capability")));
        if source.join("null").exists() {
            assert!(has("null", &|what| *what == LeftWhat::Device));
            assert!(has("null again", &|what| *what == LeftWhat::Device));
            assert!(!home.join("copy/null").exists());
        }
        assert_eq!(common::names(&home), ["copy"]);
        let script = fs::metadata(home.join("copy/script")).unwrap();
        assert_eq!((script.uid(), script.mode() & 0o7777), (NOBODY, 0o4750));
        let (differences, _) =
            verify(&home.join("copy"), &manifest, VerifyOptions { as_user: true }).unwrap();
        assert_eq!(differences, []);
        let (differences, _) =
            verify(&home.join("copy"), &manifest, VerifyOptions::default()).unwrap();
        assert!(!differences.is_empty());
    }
}

#[test]
fn an_ordinary_users_tree_needs_nothing_left_out() {
    let place = tempfile::tempdir().unwrap();
    give_to_nobody(place.path());
    as_nobody(|| {
        let _cleanup = Cleanup(place.path().to_owned());
        let source = place.path().join("source");
        rich_tree(&source);
        set_mode(&source, 0o555);
        let (manifest, digest, mut memory) = image(&source);
        let target = Target::new(place.path(), Path::new("copy")).unwrap();
        for _ in 0..2 {
            let image = (&manifest, digest);
            let switched = apply(&target, image, &options(false), &mut memory, &mut Quiet).unwrap();
            let left = switched.discard_old(&mut Quiet).unwrap();
            assert!(left.is_empty(), "{left}");
            assert_eq!(tree_digest(target.path()).unwrap(), tree_digest(&source).unwrap());
        }
        assert_eq!(common::names(place.path()), ["copy", "source"]);
    });
}

#[test]
fn what_cannot_be_read_is_named_and_fails_or_is_skipped_as_asked() {
    let place = tempfile::tempdir().unwrap();
    set_mode(place.path(), 0o755);
    give_to_nobody(place.path());
    as_nobody(|| {
        let _cleanup = Cleanup(place.path().to_owned());
        let source = place.path().join("source");
        fs::create_dir_all(source.join("closed/inner")).unwrap();
        fs::write(source.join("open"), b"read me").unwrap();
        fs::write(source.join("secret"), b"do not").unwrap();
        set_mode(&source.join("secret"), 0o000);
        set_mode(&source.join("closed"), 0o000);
        let mut memory = common::Memory::default();
        let mut options = common::options();
        let error = build(&source, &options, &mut memory, &mut Quiet).unwrap_err();
        let BuildError::Troubles { named, count, .. } = &error else {
            panic!("failed for another reason: {error}");
        };
        assert_eq!(*count, 2);
        assert!(error.to_string().contains("closed: cannot be read"), "{error}");
        assert!(named.iter().any(|trouble| trouble.path == "secret"
            && matches!(trouble.kind, TroubleKind::Unreadable(_))));

        options.on_trouble = OnTrouble::Skip;
        let built = build(&source, &options, &mut memory, &mut Quiet).unwrap();
        let paths: Vec<String> =
            built.manifest.entries().iter().map(|entry| entry.path.to_string()).collect();
        assert_eq!(paths, [".", "open"]);
        assert_eq!(built.note_count, 2);
    });
}
