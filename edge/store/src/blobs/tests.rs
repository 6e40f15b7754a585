use super::*;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::thread;

struct Place {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blobs");
    Place { _dir: dir, path }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = skep_base::Rng::seeded(seed);
    (0..len).map(|_| rng.bits().to_le_bytes()[0]).collect()
}

fn put(blobs: &Blobs, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    assert_eq!(blobs.writer().unwrap().put(&digest, bytes).unwrap(), Put::New);
    digest
}

fn file_of(place: &Place, digest: &Digest) -> PathBuf {
    let hex = digest.to_string();
    let shelf: String = hex.chars().take(2).collect();
    place.path.join("chunks").join(shelf).join(hex)
}

#[test]
fn chunks_come_back_as_they_were_put_compressed_or_not() {
    let place = place();
    let blobs = Blobs::open(&place.path).unwrap();
    let plain = vec![b'a'; 100_000];
    for bytes in [plain.clone(), noise(1, 100_000), noise(2, MAX_CHUNK_BYTES), vec![7]] {
        let digest = Digest::of(&bytes);
        assert!(!blobs.has(&digest));
        assert_eq!(blobs.get(&digest).unwrap(), None);
        put(&blobs, &bytes);
        assert!(blobs.has(&digest));
        assert_eq!(blobs.get(&digest).unwrap(), Some(bytes.clone()));
        let again = blobs.writer().unwrap().put(&digest, &bytes).unwrap();
        assert_eq!(again, Put::Present);
    }
    let compressed = fs::metadata(file_of(&place, &Digest::of(&plain))).unwrap().len();
    assert!(compressed < 1000, "{compressed} bytes");
    assert_eq!(blobs.usage().unwrap().chunks, 4);
    assert_eq!(blobs.digests().unwrap().len(), 4);
}

#[test]
fn wrong_or_oversize_bytes_are_not_stored() {
    let place = place();
    let blobs = Blobs::open(&place.path).unwrap();
    let writer = blobs.writer().unwrap();
    let digest = Digest::of(b"right");
    let error = writer.put(&digest, b"wrong").unwrap_err();
    assert!(matches!(error, BlobError::WrongBytes { .. }));
    assert!(!blobs.has(&digest));
    let large = vec![0; MAX_CHUNK_BYTES + 1];
    let error = writer.put(&Digest::of(&large), &large).unwrap_err();
    assert!(matches!(error, BlobError::TooLong { .. }));
}

#[test]
fn a_damaged_chunk_is_removed_and_may_be_put_again() {
    let place = place();
    let blobs = Blobs::open(&place.path).unwrap();
    let bytes = noise(3, 50_000);
    let digest = put(&blobs, &bytes);
    let file = file_of(&place, &digest);
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[30_000] ^= 1;
    let mut claims = whole.clone();
    claims[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let long = vec![0; 2 * MAX_CHUNK_BYTES];
    let zstd_bomb = [b"skcz\x05\0\0\0", &zstd::bulk::compress(&long, 3).unwrap()[..]].concat();
    let torn = whole[..20_000].to_vec();
    for damaged in [flipped, claims, torn, long, zstd_bomb, b"foreign".to_vec(), vec![]] {
        fs::write(&file, damaged).unwrap();
        assert_eq!(blobs.get(&digest).unwrap(), None);
        assert!(!file.exists());
        put(&blobs, &bytes);
        assert_eq!(blobs.get(&digest).unwrap().as_ref(), Some(&bytes));
    }
    fs::remove_file(&file).unwrap();
    symlink("/etc/passwd", &file).unwrap();
    assert_eq!(blobs.get(&digest).unwrap(), None);
    put(&blobs, &bytes);
}

#[test]
fn everything_is_for_this_user_alone() {
    let place = place();
    fs::create_dir(&place.path).unwrap();
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o755)).unwrap();
    let blobs = Blobs::open(&place.path).unwrap();
    let digest = put(&blobs, b"secret");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.path), 0o700);
    assert_eq!(mode(&place.path.join("chunks")), 0o700);
    assert_eq!(mode(&file_of(&place, &digest)), 0o600);
}

#[test]
fn a_store_behind_a_symbolic_link_or_a_file_is_refused() {
    let place = place();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), &place.path).unwrap();
    assert!(matches!(Blobs::open(&place.path), Err(BlobError::Open { .. })));
    fs::remove_file(&place.path).unwrap();
    fs::write(&place.path, b"a file").unwrap();
    assert!(matches!(Blobs::open(&place.path), Err(BlobError::Open { .. })));
}

#[test]
fn the_collector_keeps_what_is_live_and_never_works_beside_a_writer() {
    let place = place();
    let blobs = Blobs::open(&place.path).unwrap();
    let digests: Vec<_> = (0..20).map(|n| put(&blobs, &noise(n, 1000))).collect();
    let live: BTreeSet<_> = digests.iter().copied().step_by(2).collect();
    fs::write(place.path.join("tmp/999-1"), b"left by a killed process").unwrap();
    fs::write(place.path.join("chunks/notes"), b"not a shelf").unwrap();
    fs::write(file_of(&place, &digests[0]).with_file_name("notes"), b"foreign").unwrap();

    // Another opening of the same place, as another process has it.
    let other = Blobs::open(&place.path).unwrap();
    let writer = other.writer().unwrap();
    assert!(matches!(blobs.collect(&live), Err(BlobError::Busy(_))));
    assert_eq!(blobs.usage().unwrap().chunks, 20);
    drop(writer);

    let collected = blobs.collect(&live).unwrap();
    assert_eq!((collected.chunks, collected.foreign, collected.unfinished), (10, 1, 1));
    for digest in &digests {
        assert_eq!(blobs.has(digest), live.contains(digest));
    }
    assert_eq!(blobs.collect(&live).unwrap().chunks, 0);
}

#[test]
fn a_collection_in_steps_may_end_after_any_and_lets_others_in_between() {
    let place = place();
    let blobs = Blobs::open(&place.path).unwrap();
    let digests: Vec<Digest> = (0..60).map(|n| put(&blobs, &noise(n, 3000))).collect();
    let live: BTreeSet<Digest> = digests.iter().step_by(3).copied().collect();
    let planned: u64 = (0..=u8::MAX).map(|at| blobs.survey(at, &live).unwrap().chunks).sum();
    assert_eq!((planned, blobs.usage().unwrap().chunks), (40, 60));

    let kept = Blobs::open(&place.path).unwrap().keep().unwrap();
    assert!(matches!(blobs.alone(), Err(BlobError::Busy(_))), "somebody counts on them");
    drop(kept);
    let mut swept = 0;
    for at in 0..=u8::MAX {
        let alone = blobs.alone().unwrap();
        swept += blobs.sweep(&alone, at, &live).unwrap().chunks;
        drop(alone);
        // Killed here, what is left is the live and the rest of the others.
        assert!(live.iter().all(|digest| blobs.get(digest).unwrap().is_some()));
        assert_eq!(blobs.usage().unwrap().chunks, 60 - swept);
        drop(blobs.writer().unwrap());
    }
    assert_eq!(swept, planned);
}

#[test]
fn many_writers_of_the_same_chunks_agree() {
    let place = place();
    let contents: Vec<_> = (0..30).map(|n| noise(n, 3000)).collect();
    let stores: Vec<_> = (0..4).map(|_| Blobs::open(&place.path).unwrap()).collect();
    thread::scope(|scope| {
        for blobs in &stores {
            scope.spawn(|| {
                let writer = blobs.writer().unwrap();
                for bytes in &contents {
                    writer.put(&Digest::of(bytes), bytes).unwrap();
                }
            });
        }
    });
    for bytes in &contents {
        assert_eq!(stores[0].get(&Digest::of(bytes)).unwrap().as_ref(), Some(bytes));
    }
    assert_eq!(stores[0].usage().unwrap().chunks, 30);
    assert_eq!(fs::read_dir(place.path.join("tmp")).unwrap().count(), 0);
}

#[test]
fn versions_are_listed_in_order_and_never_changed() {
    let place = place();
    let blobs = Blobs::open(&place.path).unwrap();
    let (site, kernel): (ImageName, ImageName) =
        ("site".parse().unwrap(), "kernel".parse().unwrap());
    for version in [2, 10, 1] {
        blobs.put_image(&site, version, b"seal").unwrap();
    }
    blobs.put_image(&kernel, 7, b"other").unwrap();
    blobs.put_image(&site, 2, b"seal").unwrap();
    let taken = blobs.put_image(&site, 2, b"different").unwrap_err();
    assert!(matches!(taken, BlobError::VersionTaken { version: 2, .. }));
    assert_eq!(blobs.image(&site, 2).unwrap().as_deref(), Some(&b"seal"[..]));
    assert_eq!(blobs.image(&site, 3).unwrap(), None);
    fs::write(place.path.join("images/site/notes.txt"), b"foreign").unwrap();
    fs::write(place.path.join("images/site/007.seal"), b"foreign").unwrap();
    fs::create_dir(place.path.join("images/Not A Name")).unwrap();
    fs::write(place.path.join("images/file"), b"foreign").unwrap();
    assert_eq!(blobs.versions(&site).unwrap(), [1, 2, 10]);
    assert_eq!(blobs.newest(&site).unwrap(), Some(10));
    let listed = blobs.images().unwrap();
    assert_eq!(listed.len(), 4);
    assert_eq!(listed[0], (kernel.clone(), 7));
    assert!(blobs.remove_image(&kernel, 7).unwrap());
    assert!(!blobs.remove_image(&kernel, 7).unwrap());
    assert_eq!(blobs.newest(&kernel).unwrap(), None);
    assert!(!place.path.join("images/kernel").exists());
}

#[test]
fn a_full_disk_is_named_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mount) = tmpfs::Tmpfs::mount(dir.path(), "256k") else {
        writeln!(io::stderr(), "left out: a full disk needs root to mount a small tmpfs").unwrap();
        return;
    };
    let blobs = Blobs::open(&dir.path().join("blobs")).unwrap();
    let writer = blobs.writer().unwrap();
    let mut kept = Vec::new();
    let error = loop {
        let bytes = noise(kept.len() as u64, 60_000);
        let digest = Digest::of(&bytes);
        match writer.put(&digest, &bytes) {
            Ok(_) => kept.push(digest),
            Err(error) => break error,
        }
        assert!(kept.len() < 10, "the disk never filled");
    };
    assert!(matches!(error, BlobError::Full { .. }), "{error}");
    assert!(kept.iter().all(|digest| blobs.get(digest).unwrap().is_some()));
    drop(writer);
    // Room again: the same store goes on.
    blobs.collect(&BTreeSet::new()).unwrap();
    put(&blobs, &noise(99, 60_000));
}

mod tmpfs {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// A small filesystem that goes away with the value.
    pub(super) struct Tmpfs(PathBuf);

    impl Tmpfs {
        pub(super) fn mount(at: &Path, size: &str) -> Option<Self> {
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o"])
                .arg(format!("size={size}"))
                .arg("skep-test")
                .arg(at)
                .output()
                .is_ok_and(|output| output.status.success());
            mounted.then(|| Self(at.to_owned()))
        }
    }

    impl Drop for Tmpfs {
        fn drop(&mut self) {
            Command::new("umount").arg("-l").arg(&self.0).output().ok();
        }
    }
}
