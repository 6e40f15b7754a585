//! Killed at any point: the target is the old tree or the new one, the next try finishes, and
//! nothing is left behind.
#![expect(clippy::unwrap_used, reason = "tests stop at what they did not expect")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Memory, StopAt, Tmpfs, image, noise, set_time};
use skep_base::Digest;
use skep_hostfs::{
    ApplyError, ApplyOptions, Observer, Opened, Quiet, Stage, Step, Stopped, Tag, Target, apply,
    clean_leftovers, tree_digest,
};
use skep_image::{Manifest, ManifestDigest};

struct Scene {
    /// Whether the target is not there yet.
    first: bool,
    place: tempfile::TempDir,
    old: Digest,
    new: Digest,
    manifest: Manifest,
    digest: ManifestDigest,
    memory: Memory,
}

fn small_tree(at: &Path, seed: u64) {
    fs::create_dir_all(at.join("sub/dir")).unwrap();
    fs::write(at.join("file"), noise(seed, 400_000)).unwrap();
    fs::write(at.join("sub/other"), noise(seed + 1, 5_000)).unwrap();
    fs::hard_link(at.join("file"), at.join("sub/dir/link")).unwrap();
    std::os::unix::fs::symlink("file", at.join("symlink")).unwrap();
    set_time(&at.join("sub/dir"), 5, 6);
    set_time(&at.join("sub"), 7, 8);
    set_time(at, 9, seed.cast_signed());
}

fn scene() -> Scene {
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("source");
    small_tree(&source, 1);
    small_tree(&place.path().join("site"), 100);
    fs::write(place.path().join("site/only-in-the-old"), b"x").unwrap();
    let (manifest, digest, memory) = image(&source);
    Scene {
        first: false,
        old: tree_digest(&place.path().join("site")).unwrap(),
        new: tree_digest(&source).unwrap(),
        place,
        manifest,
        digest,
        memory,
    }
}

fn options(tag: &str) -> ApplyOptions {
    ApplyOptions { tag: tag.parse().unwrap(), as_user: false }
}

impl Scene {
    fn target(&self) -> Target {
        Target::new(self.place.path(), Path::new("site")).unwrap()
    }

    fn site(&self) -> PathBuf {
        self.place.path().join("site")
    }

    fn run(&mut self, observer: &mut dyn Observer) -> Result<(), ApplyError> {
        let target = self.target();
        let image = (&self.manifest, self.digest);
        let switched = apply(&target, image, &options("w1"), &mut self.memory, observer)?;
        switched.discard_old(observer).map(drop)
    }

    /// The old tree or the new one, and nothing in between. Where there was no old one, nothing.
    fn assert_whole(&self, at: &str) -> bool {
        if self.first && !self.site().exists() {
            return false;
        }
        let now = tree_digest(&self.site()).unwrap();
        assert!(now == self.new || !self.first, "a mixture after {at}");
        assert!(now == self.old || now == self.new, "a mixture after {at}");
        now == self.new
    }

    fn assert_done(&self) {
        assert_eq!(tree_digest(&self.site()).unwrap(), self.new);
        assert_eq!(common::names(self.place.path()), ["site", "source"]);
    }
}

#[test]
fn killed_before_any_step_it_resumes_and_is_never_a_mixture() {
    killed_before_any_step(scene);
}

#[test]
fn killed_before_any_step_of_the_first_wave_it_is_whole_or_not_there() {
    killed_before_any_step(|| {
        let mut scene = scene();
        scene.first = true;
        fs::remove_dir_all(scene.site()).unwrap();
        scene
    });
}

fn killed_before_any_step(scene: impl Fn() -> Scene) {
    let mut steps = 0;
    let mut turns = 0;
    let mut was_new = false;
    loop {
        let mut scene = scene();
        let outcome = scene.run(&mut StopAt(steps));
        let is_new = scene.assert_whole(&format!("step {steps}"));
        assert!(is_new || !was_new, "step {steps} undid the switch");
        turns += u32::from(is_new != was_new);
        was_new = is_new;
        if outcome.is_ok() {
            scene.assert_done();
            break;
        }
        assert!(matches!(outcome, Err(ApplyError::Stopped(_))));
        scene.run(&mut Quiet).unwrap();
        scene.assert_done();
        steps += 1;
    }
    assert!(steps > 15, "{steps} steps");
    assert_eq!(turns, 1);
}

#[test]
fn killed_again_and_again_it_still_arrives() {
    let mut scene = scene();
    let mut tries = 0;
    while scene.run(&mut StopAt(tries)).is_err() {
        scene.assert_whole("a kill");
        tries += 1;
        assert!(tries < 100);
    }
    scene.assert_done();
}

#[test]
fn what_was_finished_is_not_fetched_again() {
    let mut scene = scene();
    let chunks = scene.manifest.totals().chunks;
    // Everything but the last steps: all files are staged.
    struct UntilDirectories;
    impl Observer for UntilDirectories {
        fn step(&mut self, step: Step<'_>) -> Result<(), Stopped> {
            (step != Step::Directories).then_some(()).ok_or(Stopped)
        }
    }
    assert!(scene.run(&mut UntilDirectories).is_err());
    assert_eq!(scene.memory.served, chunks);
    // Damage one staged file: it is seen and written again, the other is kept.
    let staged = scene.place.path().join(".skep-stage-site-w1/sub/other");
    let time = fs::metadata(&staged).unwrap().modified().unwrap();
    let mut bytes = fs::read(&staged).unwrap();
    bytes[17] ^= 1;
    fs::write(&staged, bytes).unwrap();
    fs::File::open(&staged).unwrap().set_modified(time).unwrap();
    scene.run(&mut Quiet).unwrap();
    assert_eq!(scene.memory.served, chunks + 1);
    scene.assert_done();
}

#[test]
fn between_the_switch_and_the_note_it_is_found_done() {
    let scene = scene();
    let target = scene.target();
    let image = (&scene.manifest, scene.digest);
    let mut memory = Memory { chunks: scene.memory.chunks.clone(), served: 0 };
    let switched = apply(&target, image, &options("w1"), &mut memory, &mut Quiet).unwrap();
    drop(switched);
    assert_eq!(tree_digest(&scene.site()).unwrap(), scene.new);
    let mut none = Memory::default();
    match Stage::open(&target, image, &options("w1"), &mut Quiet).unwrap() {
        Opened::Switched(switched) => drop(switched.discard_old(&mut Quiet).unwrap()),
        Opened::Stage(stage) => drop(stage.fill(&mut none, &mut Quiet)),
    }
    scene.assert_done();
}

#[test]
fn another_manifest_under_the_same_tag_starts_afresh() {
    let mut scene = scene();
    assert!(scene.run(&mut StopAt(6)).is_err());
    let source = scene.place.path().join("source");
    fs::remove_file(source.join("sub/other")).unwrap();
    fs::write(source.join("sub/fresh"), b"new").unwrap();
    let (manifest, digest, memory) = image(&source);
    (scene.manifest, scene.digest, scene.memory) = (manifest, digest, memory);
    scene.new = tree_digest(&source).unwrap();
    scene.run(&mut Quiet).unwrap();
    scene.assert_done();
}

#[test]
fn a_missing_or_wrong_chunk_stops_it_by_name_and_it_resumes() {
    let mut scene = scene();
    let victim = scene.manifest.chunks().nth(2).unwrap().digest;
    let right = scene.memory.chunks.remove(&victim).unwrap();
    let error = scene.run(&mut Quiet).unwrap_err();
    assert!(matches!(error, ApplyError::MissingChunk { chunk, .. } if chunk == victim));
    scene.memory.chunks.insert(victim, vec![7; right.len()]);
    let error = scene.run(&mut Quiet).unwrap_err();
    assert!(matches!(error, ApplyError::WrongChunk { chunk, .. } if chunk == victim));
    assert!(!scene.assert_whole("wrong bytes"));
    scene.memory.chunks.insert(victim, right);
    scene.run(&mut Quiet).unwrap();
    scene.assert_done();
}

#[test]
fn leftovers_of_others_are_cleaned_and_stages_in_use_are_not() {
    let mut scene = scene();
    assert!(scene.run(&mut StopAt(8)).is_err());
    let path = scene.place.path().to_owned();
    fs::create_dir(path.join(".skep-stage-site-orphan")).unwrap();
    fs::write(path.join(".skep-stage-site-torn.state"), b"skep sta").unwrap();
    fs::create_dir(path.join(".skep-stage-site-b-w1")).unwrap();
    let target = scene.target();
    let image = (&scene.manifest, scene.digest);
    let held = Stage::open(&target, image, &options("held"), &mut Quiet).unwrap();
    assert!(matches!(
        Stage::open(&target, image, &options("held"), &mut Quiet),
        Err(ApplyError::Busy(_))
    ));
    let keep: Tag = "w1".parse().unwrap();
    assert_eq!(clean_leftovers(&target, Some(&keep)).unwrap(), 2);
    let names = common::names(&path);
    assert!(names.contains(&".skep-stage-site-w1".to_owned()));
    assert!(names.contains(&".skep-stage-site-held.state".to_owned()));
    assert!(names.contains(&".skep-stage-site-b-w1".to_owned()), "another target's");
    assert!(!names.contains(&".skep-stage-site-orphan".to_owned()));
    drop(held);
    assert_eq!(clean_leftovers(&target, None).unwrap(), 2);
    fs::remove_dir(path.join(".skep-stage-site-b-w1")).unwrap();
    assert_eq!(common::names(&path), ["site", "source"]);
}

#[test]
fn paths_that_leave_the_base_or_go_through_links_are_refused() {
    let scene = scene();
    let base = scene.place.path();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), base.join("link")).unwrap();
    std::os::unix::fs::symlink("source", base.join("inner")).unwrap();
    for path in [
        "..",
        "../x",
        "site/../../x",
        "",
        "/",
        "link/x",
        "inner/x",
        "missing/x",
        "site//x",
        ".",
        ".skep-stage-x-y",
    ] {
        assert!(Target::new(base, Path::new(path)).is_err(), "{path:?}");
    }
    assert!(Target::new(base, Path::new("site/sub/new")).is_ok());
    // The target itself may not be a link, nor another kind of thing than the image.
    let image = (&scene.manifest, scene.digest);
    for name in ["link", "source/file"] {
        let target = Target::new(base, Path::new(name)).unwrap();
        let refused = Stage::open(&target, image, &options("w1"), &mut Quiet);
        assert!(matches!(refused, Err(ApplyError::TargetKind { .. })), "{name}");
    }
}

#[test]
fn a_link_planted_in_the_stage_is_not_followed() {
    let mut scene = scene();
    assert!(scene.run(&mut StopAt(12)).is_err());
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("other"), b"not yours").unwrap();
    let sub = scene.place.path().join(".skep-stage-site-w1/sub");
    fs::remove_dir_all(&sub).unwrap();
    std::os::unix::fs::symlink(outside.path(), &sub).unwrap();
    assert!(scene.run(&mut Quiet).is_err());
    assert!(!scene.assert_whole("a planted link"));
    assert_eq!(fs::read(outside.path().join("other")).unwrap(), b"not yours");
    assert_eq!(common::names(outside.path()), ["other"]);
}

#[test]
fn a_full_disk_leaves_the_active_tree_and_resumes_with_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mount) = Tmpfs::mount(dir.path(), "1500k") else {
        return;
    };
    let sources = tempfile::tempdir().unwrap();
    let (old, new) = (sources.path().join("old"), sources.path().join("new"));
    small_tree(&old, 1);
    small_tree(&new, 50);
    let target = Target::new(dir.path(), Path::new("site")).unwrap();
    let (manifest, digest, mut memory) = image(&old);
    let tag = options("w1");
    apply(&target, (&manifest, digest), &tag, &mut memory, &mut Quiet)
        .and_then(|switched| switched.discard_old(&mut Quiet))
        .unwrap();
    let ballast = dir.path().join("ballast");
    fs::write(&ballast, noise(9, 800_000)).unwrap();
    let (manifest, digest, mut memory) = image(&new);
    let tag = options("w2");
    let error = apply(&target, (&manifest, digest), &tag, &mut memory, &mut Quiet).unwrap_err();
    assert!(matches!(error, ApplyError::Full { .. }), "{error}");
    assert_eq!(tree_digest(target.path()).unwrap(), tree_digest(&old).unwrap());
    fs::remove_file(&ballast).unwrap();
    apply(&target, (&manifest, digest), &tag, &mut memory, &mut Quiet)
        .and_then(|switched| switched.discard_old(&mut Quiet))
        .unwrap();
    assert_eq!(tree_digest(target.path()).unwrap(), tree_digest(&new).unwrap());
    assert_eq!(common::names(dir.path()), ["site"]);
}

#[test]
fn a_mount_point_is_no_target() {
    let scene = scene();
    let at = scene.place.path().join("mounted");
    fs::create_dir(&at).unwrap();
    let Some(_mount) = Tmpfs::mount(&at, "64k") else {
        return;
    };
    let target = Target::new(scene.place.path(), Path::new("mounted")).unwrap();
    let image = (&scene.manifest, scene.digest);
    let refused = Stage::open(&target, image, &options("w1"), &mut Quiet);
    assert!(matches!(refused, Err(ApplyError::MountPoint(_))));
}

#[test]
fn what_is_mounted_in_the_old_tree_is_not_removed_and_is_named() {
    let mut scene = scene();
    let mounted = scene.site().join("sub/mounted");
    fs::create_dir(&mounted).unwrap();
    let Some(mount) = Tmpfs::mount(&mounted, "64k") else {
        return;
    };
    fs::write(mounted.join("precious"), b"elsewhere").unwrap();
    let error = scene.run(&mut Quiet).unwrap_err();
    assert!(error.to_string().contains("cannot remove the old tree"), "{error}");
    assert_eq!(tree_digest(&scene.site()).unwrap(), scene.new);
    let left = scene.place.path().join(".skep-stage-site-w1/sub/mounted/precious");
    assert_eq!(fs::read(left).unwrap(), b"elsewhere");
    // The mount moved with the old tree, so it is let go of where it is now.
    let moved = scene.place.path().join(".skep-stage-site-w1/sub/mounted");
    std::mem::forget(mount);
    drop(Tmpfs::over(&moved));
    assert_eq!(clean_leftovers(&scene.target(), None).unwrap(), 1);
    scene.assert_done();
}
