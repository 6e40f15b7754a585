//! A manager that met nobody for too long (DVM-18): what it has is written for people to read.
//!
//! Its managers' store stays as it is: that is what it hands over when it meets its flock. Beside
//! it, in `retired/` of the state directory, `catalog.toml` is the catalog as it was decided, and
//! `undecided.toml`, where there is anything of the kind, the same with all that this node has in
//! its log without knowing whether it was decided. Both are what `skep catalog export` gives and
//! `skep catalog import` takes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use skep_catalog::{Catalog, Dot, Origin, export};
use skep_control::api::{EventKind, Problem};
use skep_managers::Role;

use crate::spine::{Request, Spine};

/// An entry that may not have been decided.
type Undecided = (Dot, Origin, Bytes);

/// Below the state directory.
const DIRECTORY: &str = "retired";

impl Spine {
    /// Writes what this node has, beside the runtime; an event says where, or why not.
    pub(crate) fn write_what_it_has(&self) {
        let catalog = self.node.catalog().catalog().clone();
        let (undecided, requests) = (self.node.undecided(), self.requests.clone());
        let dir = self.state_dir.join(DIRECTORY);
        tokio::task::spawn_blocking(move || {
            let event = match write(&dir, &catalog, &undecided) {
                Ok(()) => EventKind::Managers {
                    what: format!(
                        "what this node decided is in {}, {} changes that may not have been \
                         decided among it",
                        dir.display(),
                        undecided.len()
                    ),
                },
                Err(error) => EventKind::Problem {
                    message: format!(
                        "what this node has is not written to {}: {error}",
                        dir.display()
                    ),
                    hint: Some("nothing is lost: the managers' store has it all".to_owned()),
                },
            };
            drop(requests.blocking_send(Request::Note(event)));
        });
    }

    /// Says of a retired manager that it is one.
    pub(crate) fn retirement(&self) -> Option<Problem> {
        let now = self.clock.now();
        let view = self.node.management(now);
        let waits = view.waits.first().filter(|_| view.role == Role::Retired)?;
        let dir = self.state_dir.join(DIRECTORY);
        Some(Problem {
            message: "this manager met no eligible node for so long that it retired: it manages \
                      nothing"
                .to_owned(),
            hint: Some(format!(
                "mend its network: it takes part again by itself and hands over what it has, which \
                 {} shows",
                dir.display()
            )),
            since_ms: crate::status::millis(now.since(waits.since)),
        })
    }
}

fn write(dir: &Path, catalog: &Catalog, undecided: &[Undecided]) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    replace(&dir.join("catalog.toml"), &export(catalog))?;
    let more = dir.join("undecided.toml");
    if undecided.is_empty() {
        return match std::fs::remove_file(&more) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => sync(dir),
        };
    }
    replace(&more, &export(&with(catalog, undecided)))?;
    sync(dir)
}

/// The catalog as it would be had everything been decided.
fn with(catalog: &Catalog, undecided: &[Undecided]) -> Catalog {
    let mut catalog = catalog.clone();
    for (at, origin, command) in undecided.iter().cloned() {
        catalog.apply(at, origin, &command);
    }
    catalog
}

/// The old file or the new one, never a mixture.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let next: PathBuf = path.with_extension("next");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&next)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&next, path)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use skep_base::WallTime;
    use skep_catalog::{Command, Expect, Field, Fields, Kind, Payload, Stamp};

    use super::*;

    fn command(name: &str) -> Bytes {
        let mut fields = Fields::new();
        fields.set("value", Field::Text(name.to_owned())).unwrap();
        let key = format!("setting/{name}").parse().unwrap();
        let put = Some(Payload::of(Kind::SETTING, &fields));
        let write = skep_catalog::Write { key, expect: Expect::Anything, put };
        Command::one("a".into(), WallTime::default(), write).to_bytes().unwrap()
    }

    #[test]
    fn dvm_18_what_was_decided_and_what_may_have_been_is_written_apart() {
        let dir = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::new();
        let at = |index| Dot { stamp: Stamp::default(), term: 1, index };
        catalog.apply(at(1), Origin::Own, &command("noon"));
        let dir = dir.path().join("retired");
        let read = |name: &str| std::fs::read_to_string(dir.join(name));
        let undecided = |index, name| (at(index), Origin::Own, command(name));
        write(&dir, &catalog, &[undecided(2, "dusk"), undecided(3, "night")]).unwrap();
        let (sure, all) = (read("catalog.toml").unwrap(), read("undecided.toml").unwrap());
        assert!(sure.contains("noon") && !sure.contains("dusk"), "{sure}");
        assert!(["noon", "dusk", "night"].iter().all(|name| all.contains(name)), "{all}");
        write(&dir, &catalog, &[]).unwrap();
        assert!(read("undecided.toml").is_err(), "what is not so any more is not shown");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "nothing is left over");
    }
}
