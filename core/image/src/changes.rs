//! What a version changes, for people and for planning: which entries, and how many bytes are new.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::entry::{Entry, Kind};
use crate::manifest::Manifest;
use crate::path::TreePath;

/// How one path differs between two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only in the newer.
    Added,
    /// Only in the older.
    Removed,
    /// In both, with other contents or of another kind.
    Contents,
    /// In both with the same contents, and another owner, mode, time or attribute.
    Metadata,
}

/// The difference between two versions of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes<'a> {
    /// What is different, by path.
    pub paths: Vec<(&'a TreePath, Change)>,
    /// Bytes of the distinct chunks that the newer names and the older does not: what travels.
    pub fresh_bytes: u64,
}

impl<'a> Changes<'a> {
    /// What turns `old` into `new`.
    #[must_use]
    pub fn between(old: &'a Manifest, new: &'a Manifest) -> Self {
        let (mut before, mut after) = (old.entries().iter(), new.entries().iter());
        let (mut left, mut right) = (before.next(), after.next());
        let mut paths = Vec::new();
        loop {
            let order = match (left, right) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(left), Some(right)) => left.path.cmp(&right.path),
            };
            match (order, left, right) {
                (Ordering::Equal, Some(was), Some(is)) => {
                    if let Some(change) = compare((old, was), (new, is)) {
                        paths.push((&is.path, change));
                    }
                }
                (Ordering::Less, Some(was), _) => paths.push((&was.path, Change::Removed)),
                (_, _, Some(is)) => paths.push((&is.path, Change::Added)),
                (_, _, None) => {}
            }
            if order.is_le() {
                left = before.next();
            }
            if order.is_ge() {
                right = after.next();
            }
        }
        Self { paths, fresh_bytes: fresh_bytes(old, new) }
    }
}

fn compare((old, was): (&Manifest, &Entry), (new, is): (&Manifest, &Entry)) -> Option<Change> {
    // Indices of hard links move when entries come and go; what they lead to is what counts.
    let first = |manifest: &Manifest, entry: &Entry| match entry.kind {
        Kind::HardLink(_) => Some(manifest.resolve(entry).path.clone()),
        Kind::Node(..) => None,
    };
    let (was_node, is_node) = (old.resolve(was).node()?, new.resolve(is).node()?);
    if was_node.1 != is_node.1 || first(old, was) != first(new, is) {
        Some(Change::Contents)
    } else if was_node.0 != is_node.0 {
        Some(Change::Metadata)
    } else {
        None
    }
}

fn fresh_bytes(old: &Manifest, new: &Manifest) -> u64 {
    let mut known: BTreeSet<_> = old.chunks().map(|chunk| chunk.digest).collect();
    new.chunks().filter(|chunk| known.insert(chunk.digest)).map(|chunk| u64::from(chunk.len)).sum()
}
