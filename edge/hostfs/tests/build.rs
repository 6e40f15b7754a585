//! Trees that do not hold still, and things that no image holds.
#![expect(clippy::unwrap_used, reason = "tests stop at what they did not expect")]

mod common;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use common::{Memory, Tmpfs, noise, options};
use skep_hostfs::{
    BoxError, BuildError, ChunkSink, Observer, OnTrouble, Quiet, TroubleKind, build, harvest,
    tree_digest,
};
use skep_image::ChunkRef;

/// Does something to the tree whenever a chunk is put, a limited number of times.
struct Meddler<'a> {
    memory: Memory,
    times: usize,
    meddle: Box<dyn FnMut() + 'a>,
}

impl ChunkSink for Meddler<'_> {
    fn put(&mut self, chunk: &ChunkRef, bytes: &[u8]) -> Result<(), BoxError> {
        if let Some(left) = self.times.checked_sub(1) {
            self.times = left;
            (self.meddle)();
        }
        self.memory.put(chunk, bytes)
    }
}

fn grower(path: PathBuf, times: usize) -> Meddler<'static> {
    Meddler {
        memory: Memory::default(),
        times,
        meddle: Box::new(move || {
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(b"more").unwrap();
        }),
    }
}

#[test]
fn a_file_that_changes_once_is_read_again() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    fs::write(&path, noise(1, 600_000)).unwrap();
    let mut sink = grower(path.clone(), 1);
    let built = build(place.path(), &options(), &mut sink, &mut Quiet).unwrap();
    let contents = built.manifest.entries()[1].contents().unwrap();
    assert_eq!(contents.size, 600_004);
    let bytes: Vec<u8> = contents
        .chunks
        .iter()
        .flat_map(|chunk| sink.memory.chunks[&chunk.digest].clone())
        .collect();
    assert_eq!(bytes, fs::read(&path).unwrap());
}

#[test]
fn a_file_that_keeps_changing_is_named_and_fails_or_is_skipped() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    fs::write(&path, noise(1, 600_000)).unwrap();
    fs::write(place.path().join("quiet"), b"still").unwrap();
    let mut sink = grower(path.clone(), usize::MAX);
    let error = build(place.path(), &options(), &mut sink, &mut Quiet).unwrap_err();
    assert!(error.to_string().contains("log: changes while it is read"), "{error}");
    let mut skipping = options();
    skipping.on_trouble = OnTrouble::Skip;
    let built = build(place.path(), &skipping, &mut sink, &mut Quiet).unwrap();
    assert_eq!(built.manifest.entries().len(), 2);
    assert!(matches!(built.notes[0].kind, TroubleKind::Changed));
}

#[test]
fn a_file_that_is_replaced_or_removed_while_it_is_read_is_seen() {
    for remove in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        fs::write(&path, noise(1, 600_000)).unwrap();
        let mut sink = Meddler {
            memory: Memory::default(),
            times: 1,
            meddle: Box::new(|| {
                fs::remove_file(&path).unwrap();
                if !remove {
                    fs::write(&path, noise(2, 600_000)).unwrap();
                }
            }),
        };
        let error = build(place.path(), &options(), &mut sink, &mut Quiet).unwrap_err();
        let BuildError::Troubles { named, .. } = &error else {
            panic!("failed for another reason: {error}");
        };
        assert_eq!(named[0].path, "file");
    }
}

#[test]
fn a_directory_that_gains_a_name_while_it_is_read_is_named() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("file"), noise(1, 600_000)).unwrap();
    let mut sink = Meddler {
        memory: Memory::default(),
        times: 1,
        meddle: Box::new(|| fs::write(place.path().join("late"), b"").unwrap()),
    };
    let error = build(place.path(), &options(), &mut sink, &mut Quiet).unwrap_err();
    assert!(error.to_string().contains(".: changes while it is read"), "{error}");
}

#[test]
fn sockets_are_skipped_by_name() {
    let place = tempfile::tempdir().unwrap();
    let _listener = UnixListener::bind(place.path().join("control.sock")).unwrap();
    fs::write(place.path().join("file"), b"").unwrap();
    let built = build(place.path(), &options(), &mut Memory::default(), &mut Quiet).unwrap();
    assert_eq!(built.manifest.entries().len(), 2);
    assert_eq!(built.notes[0].to_string(), "control.sock: is a socket, which is skipped");
}

#[test]
fn a_pipe_is_not_read_from() {
    let place = tempfile::tempdir().unwrap();
    let pipe = place.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // With nobody at its other end, opening it would wait for ever.
    build(place.path(), &options(), &mut Memory::default(), &mut Quiet).unwrap();
    tree_digest(place.path()).unwrap();
    let itself = build(&pipe, &options(), &mut Memory::default(), &mut Quiet);
    assert!(matches!(itself, Err(BuildError::Kind(_))));
}

#[test]
fn mounts_are_crossed_only_when_asked() {
    let place = tempfile::tempdir().unwrap();
    let mounted = place.path().join("mounted");
    fs::create_dir(&mounted).unwrap();
    let Some(_mount) = Tmpfs::mount(&mounted, "64k") else {
        return;
    };
    fs::write(mounted.join("inside"), b"elsewhere").unwrap();
    let mut options = options();
    let built = build(place.path(), &options, &mut Memory::default(), &mut Quiet).unwrap();
    assert_eq!(built.manifest.entries().len(), 2);
    assert!(matches!(built.notes[0].kind, TroubleKind::Mount));
    options.cross_mounts = true;
    let built = build(place.path(), &options, &mut Memory::default(), &mut Quiet).unwrap();
    assert_eq!(built.manifest.entries().len(), 3);
    assert!(built.notes.is_empty());
}

#[test]
fn a_sink_that_fails_ends_the_build_by_name() {
    struct Full;
    impl ChunkSink for Full {
        fn put(&mut self, _: &ChunkRef, _: &[u8]) -> Result<(), BoxError> {
            Err("no space left".into())
        }
    }
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("file"), b"x").unwrap();
    let error = build(place.path(), &options(), &mut Full, &mut Quiet).unwrap_err();
    assert!(matches!(error, BuildError::Sink { ref path, .. } if path == "file"));
    let missing = build(Path::new("/nonexistent"), &options(), &mut Full, &mut Quiet);
    assert!(matches!(missing, Err(BuildError::Source(_))));
}

#[test]
fn building_twice_gives_the_same_bytes_and_tells_progress() {
    struct Counter(u64, u64, usize);
    impl Observer for Counter {
        fn progress(&mut self, progress: &skep_hostfs::Progress) {
            assert!(progress.entries >= self.0 && progress.bytes >= self.1, "it never goes back");
            (self.0, self.1) = (progress.entries, progress.bytes);
        }
        fn reading(&mut self, path: &Path) {
            assert!(path.is_file());
            self.2 += 1;
        }
    }
    let place = tempfile::tempdir().unwrap();
    let _cleanup = common::Cleanup(place.path().to_owned());
    let source = place.path().join("source");
    common::rich_tree(&source);
    let mut counter = Counter(0, 0, 0);
    let first = build(&source, &options(), &mut Memory::default(), &mut counter).unwrap();
    let totals = *first.manifest.totals();
    assert_eq!((counter.0, counter.1), (totals.entries, totals.data_bytes));
    assert_eq!(counter.2 as u64, totals.files);
    let second = build(&source, &options(), &mut Memory::default(), &mut Quiet).unwrap();
    assert_eq!(first.manifest.encode(), second.manifest.encode());
    let chunks = Memory::default();
    assert!(chunks.chunks.is_empty());
}

#[test]
fn a_harvest_finds_the_chunks_that_a_tree_has_already() {
    let place = tempfile::tempdir().unwrap();
    let (new, old) = (place.path().join("new"), place.path().join("old"));
    for dir in [&new, &old] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("same"), noise(1, 900_000)).unwrap();
    }
    let mut edited = noise(2, 900_000);
    fs::write(old.join("elsewhere"), &edited).unwrap();
    edited.splice(500_000..500_010, *b"a few bytes more");
    fs::write(new.join("edited"), &edited).unwrap();
    fs::write(old.join("unrelated"), noise(3, 300_000)).unwrap();
    let (manifest, _, all) = common::image(&new);

    let mut found = Memory::default();
    let wanted = |digest: &skep_base::Digest| all.chunks.contains_key(digest);
    let bytes = harvest(&old, &wanted, &mut found, &mut Quiet).unwrap();
    assert!(found.chunks.keys().all(wanted));
    let missing = all.chunks.len() - found.chunks.len();
    assert!((1..=3).contains(&missing), "{missing} chunks are left to fetch");
    let total = manifest.totals().data_bytes;
    assert!(bytes < total && bytes > total - 3 * 256 * 1024);
}
