//! What the tests share: chunks in memory, trees with everything in them, observers that stop.
#![expect(
    clippy::unwrap_used,
    dead_code,
    reason = "tests stop at what they did not expect, and no one test file uses everything here"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT, XattrFlags, makedev,
};
use skep_base::{Digest, NodeId, Rng, WallTime};
use skep_hostfs::{
    BoxError, BuildOptions, ChunkSink, ChunkSource, Observer, OnTrouble, Quiet, Step, Stopped,
    build,
};
use skep_image::{ChunkRef, Header, ImageKind, Manifest, ManifestDigest};

/// Chunks in memory.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) chunks: BTreeMap<Digest, Vec<u8>>,
    pub(crate) served: u64,
}

impl ChunkSink for Memory {
    fn put(&mut self, chunk: &ChunkRef, bytes: &[u8]) -> Result<(), BoxError> {
        assert!(chunk.matches(bytes));
        self.chunks.insert(chunk.digest, bytes.to_vec());
        Ok(())
    }
}

impl ChunkSource for Memory {
    fn chunk(&mut self, chunk: &ChunkRef) -> Result<Option<Vec<u8>>, BoxError> {
        self.served += 1;
        Ok(self.chunks.get(&chunk.digest).cloned())
    }
}

pub(crate) fn options() -> BuildOptions {
    BuildOptions {
        header: Header {
            kind: ImageKind::Tree,
            name: "test".parse().unwrap(),
            version: 1,
            created: WallTime::from_unix_ms(0),
            queen: "queen".parse().unwrap(),
            queen_id: NodeId::from_bytes([1; 16]),
            previous: None,
        },
        cross_mounts: false,
        on_trouble: OnTrouble::Fail,
    }
}

/// The image of `source`, by way of its bytes as a node would get them.
pub(crate) fn image(source: &Path) -> (Manifest, ManifestDigest, Memory) {
    let mut memory = Memory::default();
    let built = build(source, &options(), &mut memory, &mut Quiet).unwrap();
    let bytes = built.manifest.encode();
    let manifest = Manifest::decode(&bytes).unwrap();
    assert_eq!(manifest, built.manifest);
    (manifest, ManifestDigest::of(&bytes), memory)
}

/// Stops before the step of this number, as a kill would.
pub(crate) struct StopAt(pub(crate) usize);

impl Observer for StopAt {
    fn step(&mut self, _: Step<'_>) -> Result<(), Stopped> {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err(Stopped),
        }
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// One line about what a test could not do here.
pub(crate) fn left_out(what: &str) {
    // Not `eprintln!`, which the test harness swallows when a test passes.
    let mut stderr = io::stderr();
    writeln!(stderr, "left out: {what}").unwrap();
}

pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::seeded(seed);
    let mut bytes: Vec<u8> = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.bits().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(crate) fn set_time(path: &Path, tv_sec: i64, tv_nsec: i64) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec, tv_nsec },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn set_xattr(path: &Path, name: &str, value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
}

/// An access control list of version 2 as the kernel takes it: owner, a named user, group, mask,
/// others.
pub(crate) fn acl(user: u32) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    let nobody = u32::MAX;
    for (tag, rights, id) in [
        (0x01_u16, 7_u16, nobody),
        (0x02, 5, user),
        (0x04, 5, nobody),
        (0x10, 5, nobody),
        (0x20, 0, nobody),
    ] {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&rights.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// `cap_net_raw=ep`, as `setcap` writes it.
pub(crate) const CAPABILITY: [u8; 20] =
    [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A tree with everything that any user may make.
pub(crate) fn plain_tree(at: &Path) {
    fs::create_dir(at).unwrap();
    let path = |name: &str| at.join(name);
    fs::create_dir_all(path("deep/er/est")).unwrap();
    fs::write(path("deep/er/est/file"), noise(1, 300_000)).unwrap();
    fs::write(path("big"), noise(2, 1_500_000)).unwrap();
    fs::write(path("empty"), b"").unwrap();
    fs::write(path("script"), b"#!/bin/sh\n").unwrap();
    set_mode(&path("script"), 0o4750);
    fs::write(path("shut"), b"nobody reads this").unwrap();
    fs::hard_link(path("big"), path("deep/again")).unwrap();
    fs::hard_link(path("big"), path("zz-again")).unwrap();
    symlink("../nowhere/\u{fffd}", path("dangling")).unwrap();
    fs::hard_link(path("dangling"), path("dangling too")).unwrap();
    fs::write(at.join(std::ffi::OsStr::from_bytes(b"\xff\xfe\n\x1b[31m")), b"bytes").unwrap();
    fs::create_dir(path("emptydir")).unwrap();
    let sparse = fs::File::create(path("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(&noise(3, 100_000), 1 << 20).unwrap();
    sparse.write_all_at(b"x", 40 << 20).unwrap();
    fs::File::create(path("hole")).unwrap().set_len(1 << 30).unwrap();
    rustix::fs::mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    set_mode(&path("pipe"), 0o622);
    fs::create_dir(path("sticky")).unwrap();
    set_mode(&path("sticky"), 0o3777);
    fs::create_dir(path("readonly")).unwrap();
    fs::write(path("readonly/file"), b"in here").unwrap();
    set_xattr(&path("readonly/file"), "user.note", b"on a read-only file").unwrap();
    set_mode(&path("readonly/file"), 0o444);
    set_xattr(&path("big"), "user.origin", b"https://example.org/\0\xff").unwrap();
    set_xattr(&path("big"), "user.empty", b"").unwrap();
    set_xattr(&path("deep"), "user.dir", b"on a directory").unwrap();
    set_time(&path("script"), -1, 999_999_999);
    set_time(&path("empty"), -2_000_000_000, 1);
    set_time(&path("big"), 4_102_444_800, 123_456_789);
    set_time(&path("dangling"), 1_000_000_000, 5);
    set_time(&path("pipe"), 981_173_106, 7);
    set_time(&path("deep/er/est"), 1_234_567_890, 1);
    set_time(&path("deep/er"), 1_234_567_891, 2);
    set_time(&path("deep"), -86_400, 3);
    set_time(&path("sticky"), 1, 0);
    set_mode(&path("shut"), 0o400);
    set_mode(&path("readonly"), 0o555);
    set_time(&path("readonly"), 1_500_000_000, 9);
    set_time(at, 1_600_000_000, 987_654_321);
}

/// [`plain_tree`] with what only root may make; says what this filesystem or user has not.
pub(crate) fn rich_tree(at: &Path) {
    plain_tree(at);
    let path = |name: &str| at.join(name);
    let acl_set = set_xattr(&path("deep"), "system.posix_acl_access", &acl(12_345))
        .and_then(|()| set_xattr(&path("deep"), "system.posix_acl_default", &acl(54_321)))
        .and_then(|()| set_xattr(&path("big"), "system.posix_acl_access", &acl(7)));
    if acl_set.is_err() {
        left_out("access control lists: the temporary directory's filesystem has none");
    }
    if !is_root() {
        left_out("owners, devices and capabilities: they need root");
        return set_time(at, 1_600_000_000, 987_654_321);
    }
    let own = |name: &str, uid, gid| {
        std::os::unix::fs::lchown(path(name), Some(uid), Some(gid)).unwrap();
    };
    own("script", 65_534, 1234);
    set_mode(&path("script"), 0o6750);
    own("dangling", 4_000_000_000, 77);
    own("pipe", 3, 4);
    own("deep/er", 1000, 1000);
    own("sticky", 0, 50);
    set_mode(&path("sticky"), 0o3777);
    fs::write(path("ping"), b"\x7fELF").unwrap();
    own("ping", 10, 10);
    set_xattr(&path("ping"), "security.capability", &CAPABILITY).unwrap();
    set_xattr(&path("dangling"), "trusted.link", b"of a symbolic link").unwrap();
    set_xattr(&path("pipe"), "trusted.pipe", b"of a pipe").unwrap();
    let device = |name: &str, kind, major, minor| {
        let made = rustix::fs::mknodat(CWD, path(name), kind, Mode::RUSR, makedev(major, minor));
        if made.is_err() {
            left_out("devices: they cannot be made here");
        }
        made.is_ok()
    };
    if device("null", FileType::CharacterDevice, 1, 3) {
        set_mode(&path("null"), 0o666);
        set_time(&path("null"), 86_400, 1);
        device("loop", FileType::BlockDevice, 7, 1_000_000);
        fs::hard_link(path("null"), path("null again")).unwrap();
    }
    set_time(&path("ping"), 1_700_000_000, 1);
    set_time(&path("deep/er"), 1_234_567_891, 2);
    set_time(&path("deep"), -86_400, 3);
    set_time(at, 1_600_000_000, 987_654_321);
}

/// Opens everything up again, so that the temporary directory can be removed by an ordinary user.
pub(crate) struct Cleanup(pub(crate) PathBuf);

impl Drop for Cleanup {
    fn drop(&mut self) {
        Command::new("chmod").arg("-R").arg("u+rwx").arg(&self.0).output().ok();
    }
}

/// A small filesystem that goes away with the value.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    pub(crate) fn mount(at: &Path, size: &str) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={size}"))
            .arg("skep-test")
            .arg(at)
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            left_out("a filesystem of its own: it needs root to mount a small tmpfs");
        }
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Tmpfs {
    /// The filesystem that is mounted at `at` by now.
    pub(crate) fn over(at: &Path) -> Self {
        Self(at.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).output().ok();
    }
}

/// The names in a directory, sorted.
pub(crate) fn names(at: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(at)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
