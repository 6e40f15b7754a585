//! Trees to roll out, the same for the same seed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use skep_base::Rng;
use skep_lab::Host;

/// Writes a tree of about `bytes` in files of all sizes, with links and odd names.
pub(crate) fn grow(root: &Path, seed: u64, bytes: u64) -> Result<()> {
    let mut rng = Rng::seeded(seed);
    fs::create_dir_all(root)?;
    let mut left = bytes;
    let mut number = 0;
    while left > 0 {
        let folder = root.join(format!("folder {}", number % 7));
        fs::create_dir_all(&folder)?;
        // Few large files and many small ones, as trees are.
        let most = if rng.chance(0.2) { 4 << 20 } else { 64 << 10 };
        let size = rng.within(1..most).min(left);
        let file = folder.join(format!("file-{number}"));
        fs::write(&file, noise(&mut rng, size)?)?;
        let mode = if rng.chance(0.5) { 0o644 } else { 0o4750 };
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        left -= size;
        number += 1;
    }
    symlink("folder 0/file-0", root.join("link"))?;
    fs::hard_link(root.join("folder 0/file-0"), root.join("hard\nlink"))?;
    fs::create_dir_all(root.join("empty"))?;
    Ok(())
}

/// Every entry with all that plain tools show of it, then every file's digest.
const LISTING: &str = r#"
cd "$1"
find . -mindepth 1 \( -type f -printf '%P %y %m %U %G %n %T@ %s\0' \
    -o -type l -printf '%P %y %U %G %T@ %l\0' -o -printf '%P %y %m %U %G %T@\0' \) | sort -z
find . -type f -print0 | sort -z | xargs -0 sha256sum
"#;

/// Compares two trees on a host with tools that know nothing of skep: contents, kinds, owners,
/// modes, times to the nanosecond, links.
pub(crate) fn ensure_equal(host: &Host, one: &str, other: &str) -> Result<()> {
    let list = |root: &str| {
        let listed = host.command("sh").args(["-ec", LISTING, "list", root]).run();
        listed.with_context(|| format!("cannot list {root} on {}", host.name()))
    };
    let (expected, found) = (list(one)?, list(other)?);
    let differ = |listing: &str, without: &str| {
        let lines = listing.split(['\0', '\n']);
        let without: Vec<&str> = without.split(['\0', '\n']).collect();
        let lines = lines.filter(|line| !without.contains(line)).take(10);
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    ensure!(
        expected == found,
        "{other} on {} is not {one}: missing {:#?}, instead {:#?}",
        host.name(),
        differ(&expected, &found),
        differ(&found, &expected)
    );
    ensure!(!expected.is_empty(), "{one} is empty");
    Ok(())
}

fn noise(rng: &mut Rng, size: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(size)? + 8);
    while u64::try_from(bytes.len())? < size {
        bytes.extend(rng.bits().to_le_bytes());
    }
    bytes.truncate(usize::try_from(size)?);
    Ok(bytes)
}

#[test]
fn differences_of_trees_are_seen() -> Result<()> {
    let Some(lab) = skep_lab::Lab::or_skip("trees") else {
        return Ok(());
    };
    let [host] = lab.hosts(["host"])?;
    let (one, other) = (host.dir().join("one"), host.dir().join("other"));
    grow(&one, 1, 100_000)?;
    let (one, other) = (one.display().to_string(), other.display().to_string());
    let copy = || host.shell(format!("rm -rf {other}; cp -a {one} {other}")).run();
    copy()?;
    ensure_equal(&host, &one, &other)?;
    for change in [
        "chmod 600 'folder 0/file-0'",
        "touch 'folder 0/file-0'",
        "cp -p 'hard\nlink' x && mv x 'hard\nlink'",
        "ln -sfn elsewhere link",
        "chown 7 empty",
        "printf x | dd of='folder 0/file-0' conv=notrunc status=none; touch -r link link",
        "mkfifo pipe",
        "rmdir empty",
    ] {
        copy()?;
        host.shell(change).current_dir(&other).run()?;
        ensure!(ensure_equal(&host, &one, &other).is_err(), "not seen: {change}");
    }
    Ok(())
}
