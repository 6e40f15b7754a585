//! The managers' part of the disk: what they keep, synced before they are told so, and the catalog
//! as it was shown last.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use skep_base::{Digest, WallTime};
use skep_catalog::Catalog;
use skep_control::api::Problem;
use skep_managers::{Cut, DiskFault, ImageChange, Restored, StoredEntry, Ticket, Write};
use skep_store::managers::{self as store, Change, Kept, ManagersError, ManagersStore};

use super::in_words;

/// What stands before a catalog on disk.
const MAGIC: &[u8; 8] = b"skepcat1";

/// Opens the managers' store of a state directory.
///
/// # Errors
/// Why the node must not start with what is there, and what to do.
pub(super) fn open(
    dir: &Path,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<(ManagersStore, Restored)> {
    let (store, kept, torn) = ManagersStore::open(&dir.join("managers"))?;
    if let Some(torn) = torn {
        problems.push(Problem {
            message: format!(
                "the end of the managers' store was torn off: {} bytes of {} at byte {}, which \
                 nobody was told was kept",
                torn.bytes,
                torn.path.display(),
                torn.offset
            ),
            hint: None,
            since_ms: 0,
        });
    }
    let Kept { state, image, entries } = kept;
    let entry = |(index, body): (u64, Vec<u8>)| StoredEntry { index, body: body.into() };
    let restored = Restored {
        state: state.map(Bytes::from),
        image: image.map(Bytes::from),
        entries: entries.into_iter().map(entry).collect(),
    };
    Ok((store, restored))
}

/// Writes what the managers want kept, in order, and syncs once. Gives what they are told.
pub(super) fn keep(
    store: &mut ManagersStore,
    wall: WallTime,
    writes: &[(Ticket, Write)],
) -> Result<Option<Ticket>, (Ticket, DiskFault, String)> {
    let Some((first, _)) = writes.first() else { return Ok(None) };
    for (ticket, write) in writes {
        change(store, wall, write).map_err(|error| failed(*ticket, &error))?;
    }
    // A failed sync says nothing of which of them reached the disk.
    store.sync().map_err(|error| failed(*first, &error))?;
    Ok(writes.last().map(|(ticket, _)| *ticket))
}

fn change(store: &mut ManagersStore, wall: WallTime, write: &Write) -> Result<(), ManagersError> {
    let entries: Vec<(u64, &[u8])> =
        write.entries.iter().map(|entry| (entry.index, &entry.body[..])).collect();
    let change = Change {
        cut: match write.cut {
            Cut::Nothing => store::Cut::Nothing,
            Cut::From(index) => store::Cut::From(index),
            Cut::Through(index) => store::Cut::Through(index),
            Cut::All => store::Cut::All,
        },
        image: match &write.image {
            ImageChange::Keep => store::Image::Keep,
            ImageChange::Replace(image) => store::Image::Replace(image),
            ImageChange::Drop => store::Image::Drop,
        },
        entries: &entries,
        state: write.state.as_deref(),
    };
    store.change(wall, &change)
}

fn failed(ticket: Ticket, error: &ManagersError) -> (Ticket, DiskFault, String) {
    let fault = match error {
        ManagersError::Write(skep_store::log::LogError::NoSpace { .. }) => DiskFault::Full,
        ManagersError::Write(skep_store::log::LogError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem =>
        {
            DiskFault::ReadOnly
        }
        ManagersError::Write(_) | ManagersError::Open { .. } | ManagersError::Unreadable { .. } => {
            DiskFault::Failed
        }
    };
    (ticket, fault, in_words(error))
}

fn catalog_path(dir: &Path) -> PathBuf {
    dir.join("catalog")
}

/// The catalog as it was shown last. One that is damaged is said and left out: peers have it.
pub(super) fn read_catalog(dir: &Path, problems: &mut Vec<Problem>) -> Catalog {
    let path = catalog_path(dir);
    let Ok(bytes) = std::fs::read(&path) else { return Catalog::new() };
    let whole = bytes.strip_prefix(MAGIC).and_then(|rest| rest.split_at_checked(Digest::LEN));
    let sound = whole.filter(|(digest, body)| Digest::of(body).0 == **digest);
    match sound.map(|(_, body)| Catalog::from_bytes(body)) {
        Some(Ok(catalog)) => catalog,
        damaged => {
            let why = damaged
                .and_then(Result::err)
                .map_or_else(|| "its checksum is wrong".to_owned(), |error| error.to_string());
            problems.push(Problem {
                message: format!("the catalog in {} cannot be used: {why}", path.display()),
                hint: Some("none is needed: the neighbours have it".to_owned()),
                since_ms: 0,
            });
            Catalog::new()
        }
    }
}

/// Keeps the catalog as it is shown: the old one or the new one, never a mixture.
pub(super) fn write_catalog(dir: &Path, body: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = catalog_path(dir);
    let next = path.with_extension("next");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&next)?;
    file.write_all(MAGIC)?;
    file.write_all(&Digest::of(body).0)?;
    file.write_all(body)?;
    file.sync_data()?;
    std::fs::rename(&next, &path)
}

#[cfg(test)]
mod tests {
    use skep_catalog::{Command, Dot, Expect, Field, Fields, Kind, Origin, Payload};

    use super::*;

    fn catalog() -> Catalog {
        let mut fields = Fields::new();
        fields.set("value", Field::Number(1)).unwrap();
        let key = "setting/a".parse().unwrap();
        let put = Some(Payload::of(Kind::SETTING, &fields));
        let write = skep_catalog::Write { key, expect: Expect::Absent, put };
        let command = Command::one("a".into(), WallTime::default(), write).to_bytes().unwrap();
        let mut catalog = Catalog::new();
        catalog.apply(Dot { index: 1, ..Dot::default() }, Origin::Own, &command);
        catalog
    }

    #[test]
    fn a_catalog_is_whole_or_said_to_be_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let mut problems = Vec::new();
        assert!(read_catalog(dir.path(), &mut problems).is_empty());
        write_catalog(dir.path(), &catalog().to_bytes()).unwrap();
        assert_eq!(read_catalog(dir.path(), &mut problems).root(), catalog().root());
        assert!(problems.is_empty());
        let whole = std::fs::read(dir.path().join("catalog")).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(dir.path().join("catalog"), &whole[..cut]).unwrap();
            assert!(read_catalog(dir.path(), &mut problems).is_empty());
            assert_eq!(problems.len(), 1, "cut at {cut}");
            problems.clear();
        }
    }

    #[test]
    fn what_managers_keep_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, restored) = open(dir.path(), &mut Vec::new()).unwrap();
        assert_eq!(restored, Restored::default());
        let entry = |index| StoredEntry { index, body: Bytes::from_static(b"entry") };
        let first = Write { entries: vec![entry(1), entry(2)], ..Write::default() };
        let second = Write { cut: Cut::From(2), state: Some("vote".into()), ..Write::default() };
        let writes = [(Ticket(1), first), (Ticket(2), second)];
        assert_eq!(keep(&mut store, WallTime::default(), &writes), Ok(Some(Ticket(2))));
        drop(store);
        let (_, restored) = open(dir.path(), &mut Vec::new()).unwrap();
        assert_eq!((restored.entries, restored.state), (vec![entry(1)], Some("vote".into())));
    }
}
