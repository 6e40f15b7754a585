//! What this node ordered and what it applied, on disk before anybody is told (DLIF-20).

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use skep_base::ImageName;
use skep_wave::{Order, OrderError, Orders, Status, Statuses, Step};

/// Longest file that is read: both records' bodies as JSON stay far below.
const MAX_BYTES: u64 = 1 << 20;

/// The ledger in its file.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    kept: Kept,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// Waves that this node ordered as a queen.
    orders: Orders,
    /// The last wave applied, of each image and path.
    applied: Statuses,
}

impl Ledger {
    /// Reads the ledger, or begins one.
    ///
    /// A file that is not a ledger is laid aside by name and said: what it knew is compared and
    /// applied again, and no number of a wave is used twice while the node's own records last.
    ///
    /// # Errors
    /// When the file cannot be read at all.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let kept = match read(path) {
            Ok(Some(kept)) => kept,
            Ok(None) => Kept::default(),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let aside = path.with_extension("damaged");
                tracing::error!(file = %path.display(), aside = %aside.display(), %error,
                    "the ledger of waves is damaged: laid aside; waves are compared again");
                fs::rename(path, &aside)
                    .with_context(|| format!("cannot lay aside {}", path.display()))?;
                Kept::default()
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        Ok(Self { path: path.to_owned(), kept })
    }

    /// What this node ordered.
    pub(super) const fn orders(&self) -> &Orders {
        &self.kept.orders
    }

    /// What this node applied.
    pub(super) const fn applied(&self) -> &Statuses {
        &self.kept.applied
    }

    /// What was applied last of an image at a path.
    pub(super) fn applied_at(&self, image: &ImageName, at: &str) -> Option<&Status> {
        self.kept.applied.waves.iter().find(|wave| wave.image == *image && wave.at == at)
    }

    /// Takes over orders of an earlier life that came back as a record.
    pub(super) fn recall(&mut self, orders: &Orders) {
        if orders.newest() > self.kept.orders.newest() {
            self.kept.orders = orders.clone();
        }
    }

    /// Adds an order; it is on disk when this returns.
    ///
    /// # Errors
    /// [`LedgerError`]; nothing is changed then.
    pub(super) fn add_order(&mut self, order: Order) -> Result<(), LedgerError> {
        let mut next = self.kept.clone();
        next.orders.add(order)?;
        self.write(next)
    }

    /// Notes a wave as applied; it is on disk when this returns.
    ///
    /// # Errors
    /// [`LedgerError::Write`]; nothing is changed then.
    pub(super) fn add_applied(&mut self, status: Status) -> Result<(), LedgerError> {
        debug_assert_eq!(status.step, Step::Done, "only what is done is applied");
        let mut next = self.kept.clone();
        next.applied.note(status);
        self.write(next)
    }

    fn write(&mut self, next: Kept) -> Result<(), LedgerError> {
        write(&self.path, &next)
            .map_err(|cause| LedgerError::Write { path: self.path.clone(), cause })?;
        self.kept = next;
        Ok(())
    }
}

/// Why something could not be noted.
#[derive(Debug, thiserror::Error)]
pub(super) enum LedgerError {
    /// The order breaks a rule.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The disk.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The ledger.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

fn read(path: &Path) -> io::Result<Option<Kept>> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if meta.len() > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
    }
    let bytes = fs::read(path)?;
    let kept: Kept = serde_json::from_slice(&bytes)
        .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
    // What a later release or an editor wrote obeys the bounds of records, or is none of ours.
    let sound = Orders::from_body(&kept.orders.to_body()).is_ok()
        && Statuses::from_body(&kept.applied.to_body()).is_ok();
    if sound {
        Ok(Some(kept))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it breaks the bounds of a record"))
    }
}

fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let next = path.with_extension("next");
    let bytes = serde_json::to_vec(kept).map_err(io::Error::from)?;
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use skep_base::{Digest, GroupName, NodeId, WallTime};
    use skep_wave::Hosts;

    pub(in crate::rollout) fn order(number: u64, at: &str) -> Order {
        Order {
            number,
            image: "web".parse().unwrap(),
            version: 1,
            manifest: Digest::of(at.as_bytes()),
            bytes: 1000,
            groups: vec![GroupName::all()],
            at: at.to_owned(),
            as_user: true,
            again: false,
            started: WallTime::from_unix_ms(number),
            hosts: Hosts::of(Vec::new()),
        }
    }

    pub(in crate::rollout) fn status(queen: NodeId, order: &Order, step: Step) -> Status {
        Status {
            queen,
            number: order.number,
            image: order.image.clone(),
            manifest: order.manifest,
            at: order.at.clone(),
            step,
            bytes_have: 1000,
            bytes_all: 1000,
            fetched: 700,
            from_queen: 100,
            sources: 3,
            elapsed_ms: 50,
            error: None,
            not_set: Vec::new(),
            not_set_count: 0,
        }
    }

    #[test]
    fn what_is_noted_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rollout.json");
        let queen = NodeId::from_bytes([1; NodeId::LEN]);
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.add_order(order(1, "/a")).unwrap();
        ledger.add_applied(status(queen, &order(1, "/a"), Step::Done)).unwrap();
        assert!(ledger.add_order(order(1, "/b")).is_err());
        let ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.orders().newest(), 1);
        let applied = ledger.applied_at(&"web".parse().unwrap(), "/a").unwrap();
        assert_eq!((applied.queen, applied.number), (queen, 1));
        assert!(ledger.applied_at(&"web".parse().unwrap(), "/b").is_none());
    }

    #[test]
    fn a_damaged_file_is_laid_aside_and_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rollout.json");
        for bytes in [&b"{\"orders\":{\"waves\":["[..], b"", b"[]", &[0xFF; 100]] {
            fs::write(&path, bytes).unwrap();
            let ledger = Ledger::open(&path).unwrap();
            assert_eq!(ledger.orders().newest(), 0);
            assert_eq!(fs::read(path.with_extension("damaged")).unwrap(), bytes);
            assert!(!path.exists());
        }
    }
}
