//! Chunks of a new image that this host has already, in a tree that came by some other way.

use std::os::fd::AsFd as _;
use std::path::Path;

use skep_base::Digest;
use skep_image::{ChunkRef, Chunker, Contents};

use crate::build::{BuildError, ChunkSink, open_source};
use crate::dir::size;
use crate::error::BoxError;
use crate::observe::{Observer, Step};
use crate::read::{self, ReadError};
use crate::scan::{Found, Trouble, Visitor, What, walk};

/// Reads the tree or file at `path` and hands every chunk that `wanted` names to `sink`, so that it
/// need not be fetched: how the first wave over a tree that was copied by hand moves only what
/// differs (MULTI-7). What cannot be read is passed over; it is fetched like anything else.
/// Returns the bytes that were found.
///
/// # Errors
/// [`BuildError`] when `path` cannot be opened, the sink fails or the observer stops.
pub fn harvest(
    path: &Path,
    wanted: &dyn Fn(&Digest) -> bool,
    sink: &mut dyn ChunkSink,
    observer: &mut dyn Observer,
) -> Result<u64, BuildError> {
    let (root, _) = open_source(path)?;
    let mut harvester = Harvester { wanted, sink, observer, chunker: Chunker::new(), bytes: 0 };
    walk(&root, false, &mut harvester)?;
    Ok(harvester.bytes)
}

struct Harvester<'a> {
    wanted: &'a dyn Fn(&Digest) -> bool,
    sink: &'a mut dyn ChunkSink,
    observer: &'a mut dyn Observer,
    chunker: Chunker,
    bytes: u64,
}

impl Visitor for Harvester<'_> {
    type Error = BuildError;

    fn found(&mut self, found: Found<'_>) -> Result<(), BuildError> {
        self.observer.step(Step::Entry(found.path.as_bytes()))?;
        let What::File(file) = &found.what else {
            return Ok(());
        };
        let size = size(&found.stat);
        let (wanted, sink, bytes) = (self.wanted, &mut *self.sink, &mut self.bytes);
        let chunker = &mut self.chunker;
        chunker.restart();
        // Every chunk is kept under its own digest, so a file that changes meanwhile does no harm.
        let mut keep = |chunk: ChunkRef, data: &[u8]| {
            if wanted(&chunk.digest) {
                sink.put(&chunk, data)?;
                *bytes += u64::from(chunk.len);
            }
            Ok::<(), BoxError>(())
        };
        let read = read::holes(file.as_fd(), size).map_err(ReadError::Io).and_then(|holes| {
            let chunks = Vec::new();
            let data = Contents { size, holes, chunks };
            for extent in data.extents() {
                let mut feed = |part: &[u8]| chunker.push(part, &mut keep);
                read::range(file.as_fd(), extent, &mut feed)?;
            }
            chunker.finish(&mut keep).map_err(ReadError::Taker)
        });
        match read {
            Ok(()) | Err(ReadError::Io(_) | ReadError::Short) => Ok(()),
            Err(ReadError::Taker(cause)) => {
                Err(BuildError::Sink { path: found.path.to_string(), cause })
            }
        }
    }

    fn trouble(&mut self, _: Trouble) -> Result<(), BuildError> {
        Ok(())
    }
}
