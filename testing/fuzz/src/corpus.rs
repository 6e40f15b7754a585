//! The committed inputs of a target.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::Target;

/// Where a target's inputs are.
#[must_use]
pub fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// All inputs, by file name.
///
/// # Errors
/// When the folder cannot be read.
pub fn load(target: &Target) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = folder(target);
    let entries =
        fs::read_dir(&folder).with_context(|| format!("no corpus at {}", folder.display()))?;
    let mut inputs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        inputs.push((name.into_owned(), fs::read(&path)?));
    }
    inputs.sort();
    Ok(inputs)
}

/// The inputs as the mutator wants them.
///
/// # Errors
/// As [`load`].
pub fn inputs(target: &Target) -> Result<Vec<Vec<u8>>> {
    Ok(load(target)?.into_iter().map(|(_, input)| input).collect())
}

/// Writes the target's valid messages beside whatever else is there: run after a format changed.
///
/// # Errors
/// When a file cannot be written.
pub fn write_seeds(target: &Target) -> Result<()> {
    let folder = folder(target);
    fs::create_dir_all(&folder)?;
    for (name, bytes) in (target.seeds)() {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
