//! Everything that `rsync -aHAXS --numeric-ids` keeps is kept, by its own judgement where it is
//! installed and by a walk of our own everywhere.
#![expect(clippy::unwrap_used, reason = "tests stop at what they did not expect")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use common::{Cleanup, image, is_root, left_out, rich_tree};
use skep_base::Digest;
use skep_hostfs::{ApplyOptions, Quiet, Tag, Target, VerifyOptions, apply, tree_digest, verify};

fn options() -> ApplyOptions {
    ApplyOptions { tag: Tag::of(&Digest::of(b"wave")), as_user: !is_root() }
}

type Xattrs = Vec<(String, Vec<u8>)>;

/// What the standard library sees of one path, and the attributes by `getxattr`.
fn facts(path: &Path) -> (Vec<i64>, Vec<u8>, Xattrs) {
    let stat = fs::symlink_metadata(path).unwrap();
    let kind = stat.file_type();
    let numbers = vec![
        i64::from(stat.mode()),
        i64::from(stat.uid()),
        i64::from(stat.gid()),
        stat.mtime(),
        stat.mtime_nsec(),
        if kind.is_dir() { 0 } else { stat.size().cast_signed() },
        if kind.is_dir() { 0 } else { stat.nlink().cast_signed() },
        stat.rdev().cast_signed(),
        // Sparse files stay sparse: as many blocks, give or take what a filesystem rounds.
        (stat.blocks() / 64).cast_signed(),
    ];
    let data = if kind.is_file() && stat.size() < 100 << 20 {
        fs::read(path).unwrap()
    } else if kind.is_symlink() {
        fs::read_link(path).unwrap().into_os_string().into_encoded_bytes()
    } else {
        assert!(kind.is_dir() || kind.is_fifo() || stat.rdev() != 0 || kind.is_file());
        Vec::new()
    };
    let mut list = vec![0; 65_536];
    let len = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let mut xattrs: Vec<_> = list[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65_536];
            let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(len);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect();
    xattrs.sort();
    (numbers, data, xattrs)
}

type Facts = BTreeMap<Vec<u8>, (Vec<i64>, Vec<u8>, Xattrs)>;

fn walk(root: &Path, at: &Path, all: &mut Facts) {
    let key = at.strip_prefix(root).unwrap().as_os_str().as_encoded_bytes().to_vec();
    all.insert(key, facts(at));
    if fs::symlink_metadata(at).unwrap().is_dir() {
        for entry in fs::read_dir(at).unwrap() {
            walk(root, &entry.unwrap().path(), all);
        }
    }
}

fn all_facts(root: &Path) -> Facts {
    let mut all = Facts::new();
    walk(root, root, &mut all);
    all
}

#[test]
fn a_tree_with_everything_arrives_with_everything() {
    let place = tempfile::tempdir().unwrap();
    let _cleanup = Cleanup(place.path().to_owned());
    let source = place.path().join("source");
    rich_tree(&source);
    let before = tree_digest(&source).unwrap();
    let (manifest, digest, mut memory) = image(&source);
    let target = Target::new(place.path(), Path::new("copy")).unwrap();
    let image = (&manifest, digest);
    let switched = apply(&target, image, &options(), &mut memory, &mut Quiet).unwrap();
    let left = switched.discard_old(&mut Quiet).unwrap();
    assert!(left.is_empty(), "{left}");

    let copy = place.path().join("copy");
    assert_eq!(tree_digest(&copy).unwrap(), before);
    let (differences, count) = verify(&copy, &manifest, VerifyOptions::default()).unwrap();
    assert_eq!((differences, count), (vec![], 0));
    let (ours, theirs) = (all_facts(&copy), all_facts(&source));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (path, facts) in &theirs {
        assert_eq!(ours[path], *facts, "{}", path.escape_ascii());
    }
    compare_with_rsync(place.path(), &source, &copy);
}

/// `rsync` finds nothing to do between the two, and makes of the source what we made of it.
fn compare_with_rsync(place: &Path, source: &Path, copy: &Path) {
    let slash = |path: &Path| format!("{}/", path.display());
    let rsync = |args: &[&str], to: &Path| {
        let base = ["-aHAXS", "--numeric-ids", "--delete"];
        let command =
            Command::new("rsync").args(base).args(args).args([slash(source), slash(to)]).output();
        command.ok().map(|output| {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    };
    let Some(itemised) = rsync(&["--dry-run", "--checksum", "--itemize-changes"], copy) else {
        return left_out("the comparison with rsync, which is not installed");
    };
    assert_eq!(itemised, "", "rsync would change our copy");
    let theirs = place.join("rsynced");
    rsync(&[], &theirs).unwrap();
    assert_eq!(tree_digest(&theirs).unwrap(), tree_digest(copy).unwrap());
}

/// A kind of metadata, and what changes it in a tree of [`rich_tree`]. Holes are no difference to
/// rsync, which only makes them.
type Kind = (&'static str, bool, fn(&Path));

/// The nineteen kinds that `rsync -aHAXS --numeric-ids` keeps.
const KINDS: [Kind; 19] = [
    ("contents", true, |root| {
        keeping_time(&root.join("big"), |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[700_000] ^= 1;
            fs::write(path, bytes).unwrap();
        });
    }),
    ("name", true, |root| {
        keeping_time(root, |root| fs::rename(root.join("empty"), root.join("empty\n")).unwrap());
    }),
    ("mode", true, |root| common::set_mode(&root.join("shut"), 0o600)),
    ("special bits", true, |root| common::set_mode(&root.join("script"), 0o750)),
    ("owner", true, |root| own(&root.join("ping"), Some(11), None)),
    ("group", true, |root| own(&root.join("ping"), None, Some(12))),
    ("nanoseconds", true, |root| common::set_time(&root.join("script"), -1, 999_999_998)),
    ("time before 1970", true, |root| common::set_time(&root.join("empty"), 2_000_000_000, 1)),
    ("time after 2038", true, |root| common::set_time(&root.join("big"), -192_503_496, 5)),
    ("time of a directory", true, |root| common::set_time(&root.join("deep/er/est"), 7, 1)),
    ("symbolic link", true, |root| {
        keeping_time(&root.join("dangling"), |path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("elsewhere", path).unwrap();
        });
    }),
    ("owner of a symbolic link", true, |root| own(&root.join("dangling"), Some(5), None)),
    ("hard link", true, |root| {
        keeping_time(root, |root| {
            let (path, first) = (root.join("zz-again"), root.join("big"));
            fs::remove_file(&path).unwrap();
            let copied = Command::new("cp").arg("-a").args([&first, &path]).status().unwrap();
            assert!(copied.success());
        });
    }),
    ("hole", false, |root| {
        keeping_time(&root.join("sparse"), |path| {
            use std::os::unix::fs::FileExt as _;
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&[0; 1 << 20], 2 << 20).unwrap();
        });
    }),
    ("fifo", true, |root| {
        keeping_time(root, |root| {
            fs::remove_file(root.join("pipe")).unwrap();
            fs::write(root.join("pipe"), b"").unwrap();
        });
    }),
    ("device", true, |root| {
        keeping_time(root, |root| {
            let (path, kind) = (root.join("loop"), rustix::fs::FileType::BlockDevice);
            fs::remove_file(&path).unwrap();
            let device = rustix::fs::makedev(7, 1_000_001);
            let mode = rustix::fs::Mode::RUSR;
            rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, device).unwrap();
        });
    }),
    ("extended attribute", true, |root| {
        common::set_xattr(&root.join("deep"), "user.dir", b"on another directory").unwrap();
    }),
    ("capability", true, |root| {
        let mut other = common::CAPABILITY;
        other[5] ^= 1;
        common::set_xattr(&root.join("ping"), "security.capability", &other).unwrap();
    }),
    ("access control list", true, |root| {
        let name = "system.posix_acl_default";
        common::set_xattr(&root.join("deep"), name, &common::acl(54_322)).unwrap();
    }),
];

fn own(path: &Path, uid: Option<u32>, gid: Option<u32>) {
    std::os::unix::fs::lchown(path, uid, gid).unwrap();
}

fn keeping_time(path: &Path, change: impl FnOnce(&Path)) {
    let before = fs::symlink_metadata(path).unwrap();
    change(path);
    common::set_time(path, before.mtime(), before.mtime_nsec());
}

/// Each kind is changed in a copy of ours: rsync would have work to do, we see a difference, and
/// what rsync makes of it is by our own judgement the source again.
#[test]
fn a_change_of_any_of_nineteen_kinds_is_seen_by_rsync_and_by_us() {
    if !is_root() {
        return left_out("all kinds of metadata: owners, devices and capabilities need root");
    }
    let place = tempfile::tempdir().unwrap();
    let _cleanup = Cleanup(place.path().to_owned());
    let (source, copy) = (place.path().join("source"), place.path().join("copy"));
    rich_tree(&source);
    // Everything is read four times for each kind: less of nothing will do.
    fs::remove_file(source.join("hole")).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(source.join("sparse"))
        .unwrap()
        .set_len(4 << 20)
        .unwrap();
    let (manifest, digest, mut memory) = image(&source);
    let target = Target::new(place.path(), Path::new("copy")).unwrap();
    let switched = apply(&target, (&manifest, digest), &options(), &mut memory, &mut Quiet);
    switched.unwrap().discard_old(&mut Quiet).unwrap();
    let rsync = |from: &Path, to: &Path, args: &[&str]| {
        // Without the window, nanoseconds are copied and not compared.
        let base = ["-aHAXS", "--numeric-ids", "--delete", "--checksum", "--modify-window=-1"];
        let paths = [from, to].map(|path| format!("{}/", path.display()));
        let command = Command::new("rsync").args(base).args(args).args(paths).output();
        command.ok().map(|output| {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    };
    let would_do = ["--dry-run", "--itemize-changes"];
    let expected = all_facts(&source);
    for (kind, by_rsync, change) in KINDS {
        let Some(to_us) = rsync(&source, &copy, &would_do) else {
            return left_out("the comparison with rsync, which is not installed");
        };
        let to_them = rsync(&copy, &source, &would_do).unwrap();
        assert_eq!((to_us.as_str(), to_them.as_str()), ("", ""), "before a change of {kind}");
        assert_eq!(all_facts(&copy), expected, "before a change of {kind}");

        change(&copy);
        let seen = |from, to| !rsync(from, to, &would_do).unwrap().is_empty();
        assert_eq!(seen(&source, &copy), by_rsync, "by rsync: {kind}");
        // It links what should be linked, and does not part what should not.
        let back = by_rsync && kind != "hard link";
        assert_eq!(seen(&copy, &source), back, "by rsync, the other way: {kind}");
        assert!(all_facts(&copy) != expected, "by the kernel: {kind}");
        let (differences, _) = verify(&copy, &manifest, VerifyOptions::default()).unwrap();
        assert_eq!(differences.is_empty(), !by_rsync, "by us: {kind}: {differences:?}");

        if by_rsync {
            rsync(&source, &copy, &[]).unwrap();
        } else {
            let (path, hole) = (copy.join("sparse"), source.join("sparse"));
            let mut sparse = Command::new("cp");
            sparse.args(["-a", "--sparse=always"]).args([&hole, &path]);
            assert!(sparse.status().unwrap().success());
            let time = fs::metadata(&source).unwrap();
            common::set_time(&copy, time.mtime(), time.mtime_nsec());
        }
        let (differences, _) = verify(&copy, &manifest, VerifyOptions::default()).unwrap();
        assert_eq!(differences, [], "after rsync repaired {kind}");
    }
    assert_eq!(tree_digest(&copy).unwrap(), tree_digest(&source).unwrap());
}

#[test]
fn a_second_version_replaces_the_first_and_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let _cleanup = Cleanup(place.path().to_owned());
    let target = Target::new(place.path(), Path::new("/copy")).unwrap();
    for version in ["one", "two"] {
        let source = place.path().join(version);
        rich_tree(&source);
        fs::write(source.join("version"), version).unwrap();
        let (manifest, digest, mut memory) = image(&source);
        let image = (&manifest, digest);
        let switched = apply(&target, image, &options(), &mut memory, &mut Quiet).unwrap();
        switched.discard_old(&mut Quiet).unwrap();
        assert_eq!(fs::read(place.path().join("copy/version")).unwrap(), version.as_bytes());
        let digests = [tree_digest(&source).unwrap(), tree_digest(target.path()).unwrap()];
        assert_eq!(digests[0], digests[1]);
    }
    assert_eq!(common::names(place.path()), ["copy", "one", "two"]);
}

#[test]
fn a_single_file_is_an_image_too() {
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("source");
    fs::write(&source, common::noise(5, 700_000)).unwrap();
    common::set_mode(&source, 0o640);
    common::set_time(&source, 77, 88);
    common::set_xattr(&source, "user.kept", b"too").unwrap();
    let (manifest, digest, mut memory) = image(&source);
    let target = Target::new(place.path(), Path::new("copy")).unwrap();
    fs::write(place.path().join("copy"), b"older").unwrap();
    for _ in 0..2 {
        let image = (&manifest, digest);
        let switched = apply(&target, image, &options(), &mut memory, &mut Quiet).unwrap();
        switched.discard_old(&mut Quiet).unwrap();
        assert_eq!(facts(target.path()), facts(&source));
        let (differences, _) = verify(target.path(), &manifest, VerifyOptions::default()).unwrap();
        assert_eq!(differences, []);
    }
    assert_eq!(common::names(place.path()), ["copy", "source"]);
}

#[test]
fn rights_that_the_place_would_bequeath_are_not_inherited() {
    let place = tempfile::tempdir().unwrap();
    let _cleanup = Cleanup(place.path().to_owned());
    let source = place.path().join("source");
    common::plain_tree(&source);
    let (manifest, digest, mut memory) = image(&source);
    let beneath = place.path().join("beneath");
    fs::create_dir(&beneath).unwrap();
    common::set_mode(&beneath, 0o2755);
    if common::set_xattr(&beneath, "system.posix_acl_default", &common::acl(99)).is_err() {
        left_out("inherited access control lists: this filesystem has none");
    }
    let target = Target::new(&beneath, Path::new("copy")).unwrap();
    let image = (&manifest, digest);
    let switched = apply(&target, image, &options(), &mut memory, &mut Quiet).unwrap();
    switched.discard_old(&mut Quiet).unwrap();
    assert_eq!(tree_digest(target.path()).unwrap(), tree_digest(&source).unwrap());

    // One file, whose place bequeaths to it directly.
    let source = source.join("big");
    let target = Target::new(&beneath, Path::new("file")).unwrap();
    let (manifest, digest, mut memory) = common::image(&source);
    let image = (&manifest, digest);
    let switched = apply(&target, image, &options(), &mut memory, &mut Quiet).unwrap();
    switched.discard_old(&mut Quiet).unwrap();
    let (differences, _) = verify(target.path(), &manifest, VerifyOptions::default()).unwrap();
    assert_eq!(differences, []);
}

#[test]
fn verify_names_every_kind_of_difference() {
    let place = tempfile::tempdir().unwrap();
    let _cleanup = Cleanup(place.path().to_owned());
    let source = place.path().join("tree");
    common::plain_tree(&source);
    let (manifest, _, _) = image(&source);
    let differences = |change: &dyn Fn(&Path), undo: &dyn Fn(&Path)| {
        change(&source);
        let (found, count) = verify(&source, &manifest, VerifyOptions::default()).unwrap();
        assert_eq!(found.len() as u64, count);
        undo(&source);
        let mut words: Vec<String> = found.iter().map(ToString::to_string).collect();
        words.sort();
        words
    };
    let root_time = |root: &Path| common::set_time(root, 1_600_000_000, 987_654_321);
    let words = differences(
        &|root| {
            fs::rename(root.join("emptydir"), root.join("moved")).unwrap();
            root_time(root);
        },
        &|root| {
            fs::rename(root.join("moved"), root.join("emptydir")).unwrap();
            root_time(root);
        },
    );
    assert_eq!(words, ["emptydir is missing", "moved is not in the image"]);
    let words = differences(&|root| common::set_mode(&root.join("empty"), 0o600), &|root| {
        common::set_mode(&root.join("empty"), 0o644)
    });
    assert!(words[0].starts_with("empty has mode 0600 instead of"), "{words:?}");
    let flip = |root: &Path| {
        let path = root.join("deep/er/est/file");
        let time = fs::metadata(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[200_000] ^= 1;
        fs::write(&path, bytes).unwrap();
        common::set_time(&path, time.mtime(), time.mtime_nsec());
    };
    assert_eq!(differences(&flip, &flip), ["deep/er/est/file has other contents"]);
    let in_hole = |byte: u8| {
        move |root: &Path| {
            use std::os::unix::fs::FileExt as _;
            let path = root.join("sparse");
            let time = fs::metadata(&path).unwrap();
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[byte], 20 << 20).unwrap();
            common::set_time(&path, time.mtime(), time.mtime_nsec());
        }
    };
    assert_eq!(differences(&in_hole(1), &in_hole(0)), ["sparse has other contents"]);
    // Zeroes where there was a hole are the same contents.
    assert_eq!(differences(&in_hole(0), &|_| ()), [""; 0]);
    let note = |value: &'static [u8]| {
        move |root: &Path| common::set_xattr(&root.join("deep"), "user.dir", value).unwrap()
    };
    let words = differences(&note(b"other"), &note(b"on a directory"));
    assert_eq!(words, ["deep differs in extended attribute user.dir"]);
    let split = |root: &Path| {
        let (path, time) = (root.join("zz-again"), fs::metadata(root.join("big")).unwrap());
        fs::remove_file(&path).unwrap();
        fs::copy(root.join("big"), &path).unwrap();
        common::set_time(&path, time.mtime(), time.mtime_nsec());
        root_time(root);
    };
    let words = differences(&split, &|_| ());
    assert_eq!(words, ["zz-again is a name of another file"]);
}
