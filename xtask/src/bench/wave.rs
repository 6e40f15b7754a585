//! What a wave costs the node it starts from.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::Setting;
use super::figure::{Better, Figure};
use super::fleet::Ground;
use super::membership::formed;
use super::software::operate;

/// The tree's size: 64 files of a mebibyte.
const FILES: u64 = 64;
const FILE_BYTES: usize = 1 << 20;
/// Nodes that take the tree.
const TAKERS: usize = 8;
/// A wave on loopback takes seconds; a loaded machine is slow, not broken.
const WITHIN: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(300);

#[derive(Deserialize)]
struct Started {
    id: String,
}

#[derive(Deserialize)]
struct Detail {
    wave: Wave,
}

#[derive(Deserialize)]
struct Wave {
    state: String,
    image_bytes: u64,
    queen_bytes: u64,
    targets: u32,
    done: u32,
    failed: u32,
}

/// Bytes that left the queen for a tree of 64 MiB to eight nodes, over the image's bytes.
pub(super) fn origin(setting: &Setting) -> Result<Vec<Figure>> {
    let seeds = 1..=u64::from(setting.runs);
    let shares = seeds.map(|seed| roll_out(setting, seed)).collect::<Result<Vec<_>>>()?;
    let name = setting.named("64 MiB tree to 8 nodes: bytes that left the queen / image");
    Ok(vec![Figure::of(&name, "", &shares, Better::Lower, 1.5)?])
}

fn roll_out(setting: &Setting, seed: u64) -> Result<f64> {
    let software = setting.skep()?;
    let fleet = formed(software.clone(), 1 + TAKERS, Ground::Loopback)?;
    let queen = fleet.seat(0)?;
    let tree = queen.folder.join("tree");
    grow(&tree, seed)?;
    let tree = tree.to_str().context("a temporary folder's name is text")?;
    let config = queen.folder.join("skep.toml");
    let config = config.to_str().context("a temporary folder's name is text")?;
    operate(&software, None, &["image", "build", tree, "--name", "tree", "--config", config])?;
    let start = ["wave", "start", "tree", "--to", "all", "--at", "/tree", "--as-user"];
    let begun = Instant::now();
    let started: Started = serde_json::from_str(&operate(&software, Some(queen), &start)?)
        .context("reading what wave was started")?;
    loop {
        let status = operate(&software, Some(queen), &["wave", "status", &started.id])?;
        let Detail { wave } = serde_json::from_str(&status).context("reading the wave's status")?;
        ensure!(wave.failed == 0, "{} nodes cannot apply the wave: {status}", wave.failed);
        if wave.state == "done" && usize::try_from(wave.done)? >= TAKERS {
            ensure!(wave.image_bytes > 0, "an image without bytes: {status}");
            #[expect(clippy::cast_precision_loss, reason = "a share with three digits")]
            let share = wave.queen_bytes as f64 / wave.image_bytes as f64;
            return Ok(share);
        }
        if begun.elapsed() > WITHIN {
            bail!("{} of {} nodes have the tree within {WITHIN:?}", wave.done, wave.targets);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Makes a tree that no compression and no other tree shares a chunk with.
fn grow(folder: &Path, seed: u64) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    for number in 0..FILES {
        let path = folder.join(format!("{number:02}.bin"));
        let bytes = noise(seed << 32 | number, FILE_BYTES);
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// `splitmix64`: every seed its own sequence.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    });
    words.flat_map(u64::to_le_bytes).take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_as_long_as_asked_and_its_own_for_each_seed() {
        assert_eq!(noise(1, 100).len(), 100);
        assert_eq!(noise(1, 100), noise(1, 100));
        assert_ne!(noise(1, 100), noise(2, 100));
    }
}
