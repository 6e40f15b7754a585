//! Opening a log: looking through its segments, cutting what a crash tore off, reporting damage.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::record::{Body, Record};
use super::segment::{self, SEGMENT_HEADER_BYTES, Segment};
use super::{Damage, Found, LogError, Opened, TornTail, body_path};
use crate::bodies::leaves_bytes;
use crate::files;

/// A file that is longer than any segment grows is none of ours, and is not read into memory.
const MAX_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// The first positions of the segments in a directory, ascending.
pub(super) fn segment_bases(dir: &Path) -> Result<Vec<u64>, LogError> {
    let failed = |error| LogError::io("list", dir, error);
    let mut bases = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        bases.extend(name.to_str().and_then(Segment::parse_name));
    }
    bases.sort_unstable();
    Ok(bases)
}

/// Opens one segment; nothing when it is an empty beginning of the last one, which then is made
/// anew.
pub(super) fn open_segment(
    dir: &Path,
    bodies: &Path,
    base: u64,
    following: Option<u64>,
    opened: &mut Opened,
    each: &mut impl FnMut(&Found<'_>),
) -> Result<Option<Segment>, LogError> {
    let path = dir.join(Segment::file_name(base));
    let failed = |error| LogError::io("read", &path, error);
    let size = fs::metadata(&path).map_err(failed)?.len();
    if size > MAX_SEGMENT_BYTES {
        return Err(LogError::Foreign { path });
    }
    let bytes = fs::read(&path).map_err(failed)?;
    let mut segment = Segment::empty(path.clone(), base);
    let max_jump = following.map_or(bytes.len() as u64, |next| next.saturating_sub(base));
    let sound = Segment::check_header(&path, &bytes, base)?;
    let mut missing = Vec::new();
    let mut found = if sound || bytes.len() > SEGMENT_HEADER_BYTES {
        segment.scan(&bytes, max_jump, |record| {
            if !body_is_there(bodies, record) {
                missing.push(record.position);
                return;
            }
            each(&Found {
                position: record.position,
                written: record.written,
                head: record.head,
                body_bytes: record.body.len(),
            });
        })
    } else {
        segment::Findings { torn: Some(bytes.len() as u64), ..segment::Findings::default() }
    };
    for position in missing {
        let path = body_path(bodies, position);
        let what = "the body is missing or of another length";
        let lost = position..position + 1;
        opened.damage.push(Damage { path, offset: 0, what, lost });
        segment.lose(position);
    }
    if !sound && segment.next() > base {
        let (what, lost) = ("a header that is not this segment's", base..base);
        opened.damage.push(Damage { path: path.clone(), offset: 0, what, lost });
    }
    opened.damage.append(&mut found.damage);
    match (following, found.torn) {
        (Some(next), torn) => {
            if let Some(bytes) = torn.filter(|_| segment.next() >= next) {
                let (offset, lost) = (segment.end, next..next);
                tracing::warn!(bytes, "bytes after the last record of a closed segment");
                let what = "bytes after the last record";
                opened.damage.push(Damage { path: path.clone(), offset, what, lost });
            }
            if segment.next() < next {
                let (offset, lost) = (segment.end, segment.next()..next);
                let what = "records are missing up to the next segment";
                opened.damage.push(Damage { path, offset, what, lost });
                segment.pad_to(next);
            }
        }
        (None, torn) => cut_tail(&mut segment, sound, torn, opened)?,
    }
    Ok(Some(segment))
}

/// Makes the end of the last segment one that can be appended to.
fn cut_tail(
    segment: &mut Segment,
    sound: bool,
    torn: Option<u64>,
    opened: &mut Opened,
) -> Result<(), LogError> {
    let path = segment.path.clone();
    let failed = |error| LogError::io("cut", &path, error);
    if sound && torn.is_none() {
        return Ok(());
    }
    let file = files::private_file(&path).map_err(failed)?;
    if !sound {
        file.write_all_at(&segment::header(segment.base), 0).map_err(failed)?;
    }
    if let Some(bytes) = torn {
        file.set_len(segment.end).map_err(failed)?;
        let offset = segment.end.min(segment.end + bytes);
        opened.torn = Some(TornTail { path: path.clone(), offset, bytes });
    }
    file.sync_all().map_err(failed)
}

fn body_is_there(bodies: &Path, record: &Record<'_>) -> bool {
    match record.body {
        Body::Inline(_) => true,
        Body::File { length, .. } => fs::metadata(body_path(bodies, record.position))
            .is_ok_and(|meta| meta.is_file() && meta.len() == length + leaves_bytes(length)),
    }
}
