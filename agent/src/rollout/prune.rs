//! Removing what nobody needs: old versions of images, then chunks that no version that stays and
//! no wave under way refers to.
//!
//! It is done in steps, and may be killed between any two: a version is gone for good before any of
//! its chunks is. Each step takes the store's lock for itself, without waiting, and gives it back.
//! Whoever counts on chunks holds that lock shared (a build, a wave while it fetches and stages, a
//! wave that is being ordered), so a step either finds nobody or ends the whole. What was found to
//! be needed is found again where an image came or went, or a wave began, since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use skep_base::{Digest, ImageName};
use skep_control::Reply;
use skep_control::api::{Code, PruneImages, Pruned, PrunedVersion, Refusal, Text};
use skep_identity::Trust;
use skep_image::Seal;
use skep_store::blobs::{Alone, BlobError, Blobs, Collected};

use super::library::{self, Loaded};
use super::store::chain;
use super::task::Task;

/// How long after a wave, or a start, an agent prunes by itself.
pub(super) const PRUNE_AFTER: Duration = Duration::from_secs(30 * 60);
/// What is needed is found anew at most so often in one run.
const MAX_LOOKS: u32 = 8;

/// One run.
#[derive(Debug)]
pub(super) struct Prune {
    keep: u32,
    /// Who asked; nobody where the agent did by itself.
    reply: Option<Reply<Pruned>>,
    answer: Pruned,
    needed: Option<Needed>,
    looks: u32,
    /// Which chunks are next, by the first byte of their digests.
    shelf: u16,
}

/// What must stay, and what that was found from.
#[derive(Debug)]
struct Needed {
    live: Arc<BTreeSet<Digest>>,
    images: Vec<(ImageName, u64)>,
    attempts: u32,
}

/// A version that the store lists.
#[derive(Clone, Debug)]
struct Listed {
    name: ImageName,
    number: u64,
    manifest: Option<Digest>,
}

/// What a look at the images found.
struct Look {
    live: BTreeSet<Digest>,
    images: Vec<(ImageName, u64)>,
    unreadable: Vec<String>,
}

impl Task {
    /// Begins a run, unless there is one.
    pub(super) fn prune(&mut self, wish: &PruneImages, reply: Option<Reply<Pruned>>) {
        if self.pruning.is_some() {
            if let Some(reply) = reply {
                let message = "images are being pruned already";
                reply.refuse(Refusal::new(Code::Busy, message).hint("try again in a moment"));
            }
            return;
        }
        self.pruning = Some(Prune {
            keep: wish.keep.unwrap_or(self.config.keep_versions),
            reply,
            answer: Pruned { dry_run: wish.dry_run, ..Pruned::default() },
            needed: None,
            looks: 0,
            shelf: 0,
        });
        let blobs = Arc::clone(&self.blobs);
        self.on_prune(move || list(&blobs), |task, listed| task.choose(listed));
    }

    /// Removes the versions that go, under the lock under which they were chosen: no wave of them
    /// is ordered in between.
    fn choose(&mut self, listed: Result<Vec<Listed>, BlobError>) {
        let needed = self.needed_versions();
        let Some(run) = &mut self.pruning else {
            return;
        };
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => return self.prune_failed(&error),
        };
        let going = going(&listed, run.keep, &needed);
        run.answer.kept = u32::try_from(listed.len() - going.len()).unwrap_or(u32::MAX);
        run.answer.removed = going
            .iter()
            .map(|version| PrunedVersion {
                name: version.name.clone(),
                number: version.number,
                version: version.manifest.map(Text),
            })
            .collect();
        let blobs = Arc::clone(&self.blobs);
        let alone = if run.answer.dry_run { Ok(None) } else { blobs.alone().map(Some) };
        let alone = match alone {
            Ok(alone) => alone,
            Err(error) => return self.prune_failed(&error),
        };
        for version in going.iter().filter_map(|version| version.manifest) {
            if alone.is_some() {
                self.whole.remove(&version);
            }
        }
        let work = move || -> Result<(), BlobError> {
            if let Some(_alone) = alone {
                for version in &going {
                    blobs.remove_image(&version.name, version.number)?;
                }
            }
            Ok(())
        };
        self.on_prune(work, |task, removed| match removed {
            Ok(()) => task.look(),
            Err(error) => task.prune_failed(&error),
        });
    }

    /// Finds what must stay.
    fn look(&mut self) {
        let attempts = self.attempts();
        let underway: Vec<Arc<Loaded>> =
            self.jobs.values().filter_map(|job| job.known.clone()).collect();
        let Some(run) = &mut self.pruning else {
            return;
        };
        run.looks += 1;
        if run.looks > MAX_LOOKS {
            return self.pruned(false);
        }
        let gone: BTreeSet<(ImageName, u64)> = match run.answer.dry_run {
            true => run.answer.removed.iter().map(|it| (it.name.clone(), it.number)).collect(),
            false => BTreeSet::new(),
        };
        let (blobs, identity) = (Arc::clone(&self.blobs), self.identity.current());
        let work = move || look(&blobs, identity.trust(), &gone, &underway);
        self.on_prune(work, move |task, found| {
            let found = match found {
                Ok(found) => found,
                Err(error) => return task.prune_failed(&error),
            };
            let Some(run) = &mut task.pruning else {
                return;
            };
            run.answer.unreadable = found.unreadable;
            if !run.answer.unreadable.is_empty() {
                return task.pruned(false);
            }
            let live = Arc::new(found.live);
            run.needed = Some(Needed { live, images: found.images, attempts });
            task.sweep();
        });
    }

    /// One step: a 256th of the chunks.
    fn sweep(&mut self) {
        let attempts = self.attempts();
        let Some(run) = &mut self.pruning else {
            return;
        };
        let (Ok(first), Some(needed)) = (u8::try_from(run.shelf), &run.needed) else {
            return self.pruned(true);
        };
        if needed.attempts != attempts {
            return self.look();
        }
        let (live, images) = (Arc::clone(&needed.live), needed.images.clone());
        let blobs = Arc::clone(&self.blobs);
        let alone = if run.answer.dry_run { Ok(None) } else { blobs.alone().map(Some) };
        let alone = match alone {
            Ok(alone) => alone,
            Err(BlobError::Busy(_)) => return self.pruned(false),
            Err(error) => return self.prune_failed(&error),
        };
        let work = move || step(&blobs, alone.as_ref(), first, &live, &images);
        self.on_prune(work, move |task, swept| match swept {
            Ok(Some(swept)) => {
                if let Some(run) = &mut task.pruning {
                    run.answer.chunks += swept.chunks;
                    run.answer.bytes += swept.bytes;
                    run.answer.unfinished += swept.unfinished;
                    run.shelf += 1;
                }
                task.sweep();
            }
            Ok(None) => task.look(),
            Err(error) => task.prune_failed(&error),
        });
    }

    fn pruned(&mut self, complete: bool) {
        let Some(mut run) = self.pruning.take() else {
            return;
        };
        run.answer.complete = complete;
        let (versions, chunks) = (run.answer.removed.len(), run.answer.chunks);
        if !run.answer.dry_run && (versions > 0 || chunks > 0) {
            let bytes = run.answer.bytes;
            tracing::info!(versions, chunks, bytes, complete, "pruned images");
        }
        for why in &run.answer.unreadable {
            tracing::warn!(why, "no chunk is removed while an image cannot be read");
        }
        if !complete {
            self.prune_at = Some(self.clock.now() + PRUNE_AFTER);
        }
        if let Some(reply) = run.reply {
            reply.ok(run.answer);
        }
    }

    fn prune_failed(&mut self, error: &BlobError) {
        let Some(run) = self.pruning.take() else {
            return;
        };
        self.prune_at = Some(self.clock.now() + PRUNE_AFTER);
        let Some(reply) = run.reply else {
            return tracing::info!(error = %chain(error), "images are not pruned now");
        };
        let (code, hint) = if matches!(error, BlobError::Busy(_)) {
            (Code::Busy, "an image is being built or a wave is under way: try again later")
        } else {
            (Code::Internal, "the agent's log says more")
        };
        reply.refuse(Refusal::new(code, chain(error)).hint(hint));
    }

    /// Versions that stay whatever their number: applied here, or rolled out by a wave that any
    /// node may still have to catch up with.
    fn needed_versions(&self) -> BTreeSet<Digest> {
        let applied: Vec<Digest> =
            self.lock_ledger().applied().waves.iter().map(|wave| wave.manifest).collect();
        let ordered = self.facts.newest().into_values().map(|(_, order)| order.manifest);
        let underway = self.jobs.values().map(|job| job.order.manifest);
        applied.into_iter().chain(ordered).chain(underway).collect()
    }
}

fn list(blobs: &Blobs) -> Result<Vec<Listed>, BlobError> {
    let mut listed = Vec::new();
    for (name, number) in blobs.images()? {
        let seal = blobs.image(&name, number)?.and_then(|bytes| Seal::decode(&bytes).ok());
        listed.push(Listed { name, number, manifest: seal.map(|seal| seal.manifest().0) });
    }
    Ok(listed)
}

/// The versions beyond the newest `keep` of each image that nobody needs.
fn going(listed: &[Listed], keep: u32, needed: &BTreeSet<Digest>) -> Vec<Listed> {
    if keep == 0 {
        return Vec::new();
    }
    let mut by_name: BTreeMap<&ImageName, Vec<&Listed>> = BTreeMap::new();
    for version in listed {
        by_name.entry(&version.name).or_default().push(version);
    }
    let mut going = Vec::new();
    for mut versions in by_name.into_values() {
        versions.sort_by_key(|version| std::cmp::Reverse(version.number));
        let old = versions.into_iter().skip(keep as usize);
        let unneeded = |version: &&Listed| !version.manifest.is_some_and(|it| needed.contains(&it));
        going.extend(old.filter(unneeded).cloned());
    }
    going
}

fn look(
    blobs: &Blobs,
    trust: &Trust,
    gone: &BTreeSet<(ImageName, u64)>,
    underway: &[Arc<Loaded>],
) -> Result<Look, BlobError> {
    let images = blobs.images()?;
    let mut found = Look { live: BTreeSet::new(), images: images.clone(), unreadable: Vec::new() };
    for (name, number) in images.iter().filter(|image| !gone.contains(*image)) {
        match library::open(blobs, (name, *number), trust) {
            Ok(Some(loaded)) => found.live.extend(chunks_of(&loaded)),
            Ok(None) => {}
            Err(library::LibraryError::Blobs(error)) => return Err(error),
            Err(error) => {
                found.unreadable.push(format!("image {name} version {number}: {}", chain(&error)));
            }
        }
    }
    for loaded in underway {
        found.live.extend(chunks_of(loaded));
    }
    Ok(found)
}

fn chunks_of(loaded: &Loaded) -> impl Iterator<Item = Digest> + '_ {
    let contents = loaded.contents.iter().flatten().map(|chunk| chunk.digest);
    contents.chain(loaded.seal.manifest_chunks().iter().map(|chunk| chunk.digest))
}

/// Removes, or only counts without the lock; nothing where the images are others than `live` was
/// found from.
fn step(
    blobs: &Blobs,
    alone: Option<&Alone>,
    first: u8,
    live: &BTreeSet<Digest>,
    images: &[(ImageName, u64)],
) -> Result<Option<Collected>, BlobError> {
    let Some(alone) = alone else {
        return blobs.survey(first, live).map(Some);
    };
    if blobs.images()? != images {
        return Ok(None);
    }
    let mut swept = blobs.sweep(alone, first, live)?;
    if first == 0 {
        swept += blobs.sweep_unfinished(alone)?;
    }
    Ok(Some(swept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_and_what_is_needed_whatever_its_number() {
        let version = |name: &str, number: u64| Listed {
            name: name.parse().unwrap(),
            number,
            manifest: Some(Digest::of(format!("{name}{number}").as_bytes())),
        };
        let mut listed: Vec<Listed> = [1, 2, 9, 10, 11].map(|number| version("web", number)).into();
        listed.push(version("db", 1));
        listed.push(Listed { manifest: None, ..version("torn", 1) });
        listed.push(Listed { manifest: None, ..version("torn", 2) });
        let needed = BTreeSet::from([Digest::of(b"web2")]);
        let gone = |keep| -> Vec<(String, u64)> {
            let going = going(&listed, keep, &needed);
            going.into_iter().map(|it| (it.name.to_string(), it.number)).collect()
        };
        assert_eq!(gone(0), []);
        assert_eq!(gone(9), []);
        let expected = [("torn", 1), ("web", 9), ("web", 1)];
        assert_eq!(gone(2).len(), 2);
        assert_eq!(gone(1).len(), 4);
        assert!(gone(2).iter().all(|(name, number)| {
            expected.contains(&(name.as_str(), *number)) && name == "web"
        }));
        assert!(!gone(1).contains(&("web".to_owned(), 2)), "it is applied");
    }
}
