//! `skep image build` and `skep image verify` (DLIF-7, DLIF-16 to DLIF-18).
//!
//! Both work on the store of this host's agent, beside it: files appear there whole, and nothing is
//! collected while one builds.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io::{self, IsTerminal as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use skep_base::{ByteSize, Digest, ImageName};
use skep_cli::Exit;
use skep_cli::args::{ImageBuild, ImageVerify};
use skep_hostfs::{
    BoxError, BuildError, BuildOptions, ChunkSink, Observer, OnTrouble, Progress, VerifyOptions,
};
use skep_identity::{Identity, Role, Trust};
use skep_image::{ChunkRef, Header, ImageKind, Manifest, Seal, chunks_of};
use skep_store::blobs::{BlobError, Blobs, Put, Writer};

use super::{load, remark, say, say_json, shell};
use crate::clock::Clock;
use crate::rollout::library;

/// Where images are in an agent's state directory.
const STORE: &str = "images";
/// How often the next number is tried where others build the same image at the same time.
const VERSION_ATTEMPTS: usize = 16;
/// Redraws a second.
const REDRAW_HERTZ: u8 = 10;

/// What was built.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BuiltImage {
    pub(super) name: ImageName,
    pub(super) number: u64,
    pub(super) version: String,
    pub(super) entries: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) chunks: u64,
    pub(super) new_bytes: u64,
    pub(super) reused_bytes: u64,
    /// What was left out or is worth a word, the first hundred.
    pub(super) notes: Vec<String>,
    pub(super) note_count: u64,
}

pub(super) fn build(args: &ImageBuild) -> anyhow::Result<()> {
    let config = load(&args.config, &[])?;
    let identity = Identity::load(&config.node.identity_dir)?;
    let blobs = open_store(&config.node.state_dir)?;
    let on_trouble = if args.skip_unreadable { OnTrouble::Skip } else { OnTrouble::Fail };
    let built = build_into(&blobs, &identity, (&args.name, &args.path), on_trouble)?;
    if args.json.json {
        return say_json(&built);
    }
    for note in &built.notes {
        remark(&format!("note: {note}\n"))?;
    }
    let unnamed = built.note_count.saturating_sub(built.notes.len() as u64);
    if unnamed > 0 {
        remark(&format!("note: and {unnamed} more\n"))?;
    }
    say(&format!(
        "image    {} version {} ({})\n\
         holds    {} entries, {} files, {}\n\
         stored   {} in new chunks, {} were there already\n\
         next: `skep wave start {} --to all --at PATH --watch` rolls it out\n",
        built.name,
        built.number,
        built.version.get(..12).unwrap_or(&built.version),
        built.entries,
        built.files,
        ByteSize(built.bytes),
        ByteSize(built.new_bytes),
        ByteSize(built.reused_bytes),
        built.name,
    ))
}

/// Opens the store where the agent of the same state directory has it.
pub(super) fn open_store(state_dir: &Path) -> anyhow::Result<Blobs> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(state_dir);
    made.with_context(|| format!("cannot make the state directory {}", state_dir.display()))?;
    Ok(Blobs::open(&state_dir.join(STORE))?)
}

/// Builds the next version of an image from a tree or file, and seals it.
pub(super) fn build_into(
    blobs: &Blobs,
    identity: &Identity,
    (name, source): (&ImageName, &Path),
    on_trouble: OnTrouble,
) -> anyhow::Result<BuiltImage> {
    let info = identity.info();
    if !info.roles.contains(Role::Queen) {
        bail!(
            "{} is no queen: its certificate has the roles {}, and nodes accept images of queens \
             only (hint: `skep ca issue {} --role queen --replace`, or build on a queen)",
            info.node,
            info.roles,
            info.node
        );
    }
    let writer = blobs.writer()?;
    let header = Header {
        kind: ImageKind::Tree,
        name: name.clone(),
        version: 1,
        created: Clock::of_process().wall(),
        queen: info.node.clone(),
        queen_id: info.id,
        previous: None,
    };
    let options = BuildOptions { header, cross_mounts: false, on_trouble };
    let mut sink = Keeper { writer: &writer, new_bytes: 0, reused_bytes: 0 };
    let mut bar = BuildBar::new();
    let built = skep_hostfs::build(source, &options, &mut sink, &mut bar);
    bar.0.finish_and_clear();
    let built = built.map_err(|error| explain(error, source))?;
    let (new_bytes, reused_bytes) = (sink.new_bytes, sink.reused_bytes);
    let (number, seal) = seal(&writer, identity, &built.manifest)?;
    let totals = built.manifest.totals();
    Ok(BuiltImage {
        name: name.clone(),
        number,
        version: seal.manifest().to_string(),
        entries: totals.entries,
        files: totals.files,
        bytes: totals.bytes,
        chunks: totals.chunks,
        new_bytes,
        reused_bytes,
        notes: built.notes.iter().map(ToString::to_string).collect(),
        note_count: built.note_count,
    })
}

/// Numbers, signs and stores the manifest; the next number where somebody else took one.
fn seal(
    writer: &Writer<'_>,
    identity: &Identity,
    manifest: &Manifest,
) -> anyhow::Result<(u64, Seal)> {
    let blobs = writer.blobs();
    let name = &manifest.header().name;
    for _ in 0..VERSION_ATTEMPTS {
        let newest = blobs.newest(name)?;
        let version = newest.map_or(1, |newest| newest.saturating_add(1));
        let previous = match newest {
            Some(newest) => blobs.image(name, newest)?,
            None => None,
        };
        let previous = previous.and_then(|bytes| Seal::decode(&bytes).ok());
        let header = Header {
            version,
            previous: previous.map(|seal| seal.manifest()),
            ..manifest.header().clone()
        };
        let bytes = Manifest::new(header, manifest.entries().to_vec())?.encode();
        for (chunk, bytes) in chunks_of(&bytes) {
            writer.put(&chunk.digest, bytes)?;
        }
        let certificate = identity.certificate_der().to_vec();
        let seal = Seal::make(&bytes, certificate, |statement| identity.sign(statement));
        match blobs.put_image(name, version, &seal.encode()) {
            Ok(()) => return Ok((version, seal)),
            Err(BlobError::VersionTaken { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("others build image {name} at the same time and were faster {VERSION_ATTEMPTS} times")
}

/// Names what is in the way, one a line.
fn explain(error: BuildError, source: &Path) -> anyhow::Error {
    let BuildError::Troubles { named, count, .. } = &error else {
        return anyhow::Error::from(error)
            .context(format!("cannot build an image of {}", source.display()));
    };
    let mut text = format!("nothing was built: {count} entries of {}", source.display());
    text.push_str(" cannot be taken (hint: --skip-unreadable leaves them out)");
    for trouble in named {
        text.push_str(&format!("\n  {trouble}"));
    }
    let more = count.saturating_sub(named.len() as u64);
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    anyhow::Error::msg(text)
}

/// Keeps chunks and counts what was there already.
struct Keeper<'a> {
    writer: &'a Writer<'a>,
    new_bytes: u64,
    reused_bytes: u64,
}

impl ChunkSink for Keeper<'_> {
    fn put(&mut self, chunk: &ChunkRef, bytes: &[u8]) -> Result<(), BoxError> {
        match self.writer.put(&chunk.digest, bytes)? {
            Put::New => self.new_bytes += u64::from(chunk.len),
            Put::Present => self.reused_bytes += u64::from(chunk.len),
        }
        Ok(())
    }
}

/// How far the build is, drawn on standard error where that is a terminal. How much is to come is
/// not known before the tree has been walked.
struct BuildBar(ProgressBar);

impl BuildBar {
    fn new() -> Self {
        let template = "{spinner} {binary_bytes} read, {binary_bytes_per_sec}  {wide_msg}";
        let style = ProgressStyle::with_template(template);
        let bar = ProgressBar::no_length()
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        if io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAW_HERTZ));
            bar.enable_steady_tick(Duration::from_secs(1) / u32::from(REDRAW_HERTZ));
        } else {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self(bar)
    }
}

impl Observer for BuildBar {
    fn progress(&mut self, progress: &Progress) {
        self.0.set_position(progress.bytes);
    }

    fn reading(&mut self, path: &Path) {
        if !self.0.is_hidden() {
            // Names may hold anything: nothing of them may steer the terminal.
            self.0.set_message(path.display().to_string().escape_debug().to_string());
        }
    }
}

/// What a comparison found.
#[derive(Debug, Serialize)]
struct Verified {
    name: ImageName,
    number: u64,
    version: String,
    chunks: u64,
    bytes: u64,
    missing_chunks: u64,
    at: Option<String>,
    differences: Vec<String>,
    difference_count: u64,
}

pub(super) fn verify(args: &ImageVerify) -> anyhow::Result<Exit> {
    let config = load(&args.config, &[])?;
    let identity = Identity::load(&config.node.identity_dir)?;
    let blobs = open_store(&config.node.state_dir)?;
    let wanted = args.version.as_deref();
    let (number, seal, manifest) = find(&blobs, identity.trust(), &args.image, wanted)?;
    let mut chunks: BTreeMap<Digest, u64> = BTreeMap::new();
    chunks.extend(manifest.chunks().map(|chunk| (chunk.digest, u64::from(chunk.len))));
    let mut missing_chunks = 0;
    for digest in chunks.keys() {
        // Read, and so compared with its digest.
        missing_chunks += u64::from(blobs.get(digest)?.is_none());
    }
    let (mut differences, mut difference_count) = (Vec::new(), 0);
    if let Some(at) = &args.at {
        let options = VerifyOptions { as_user: args.as_user };
        let (found, count) = skep_hostfs::verify(at, &manifest, options)?;
        differences = found.iter().map(ToString::to_string).collect();
        difference_count = count;
    }
    let verified = Verified {
        name: args.image.clone(),
        number,
        version: seal.manifest().to_string(),
        chunks: chunks.len() as u64,
        bytes: chunks.values().sum(),
        missing_chunks,
        at: args.at.as_ref().map(|at| at.display().to_string()),
        differences,
        difference_count,
    };
    // A tree can be compared on a node that holds no chunks: those of the store count alone.
    let sound = difference_count == 0 && (args.at.is_some() || missing_chunks == 0);
    if args.json.json {
        say_json(&verified)?;
    } else {
        say(&told(&verified, args.at.as_deref()))?;
    }
    Ok(if sound { Exit::Done } else { Exit::Failed })
}

fn told(verified: &Verified, at: Option<&Path>) -> String {
    let Verified { name, number, chunks, missing_chunks, .. } = verified;
    let mut text = format!("image {name} version {number}: ");
    if *missing_chunks == 0 {
        let bytes = ByteSize(verified.bytes);
        text.push_str(&format!("all {chunks} chunks are here and sound, {bytes}\n"));
    } else {
        text.push_str(&format!("{missing_chunks} of {chunks} chunks are not here\n"));
    }
    let Some(at) = at else {
        return text;
    };
    if verified.difference_count == 0 {
        text.push_str(&format!("{} is that image, entry by entry\n", shell(at)));
        return text;
    }
    let count = verified.difference_count;
    text.push_str(&format!("{} differs in {count} places:\n", shell(at)));
    for difference in &verified.differences {
        text.push_str(&format!("  {difference}\n"));
    }
    let more = count.saturating_sub(verified.differences.len() as u64);
    if more > 0 {
        text.push_str(&format!("  and {more} more\n"));
    }
    text.push_str(&format!(
        "next: `skep wave start {name} --to all --at {} --again` lays it out anew\n",
        shell(at)
    ));
    text
}

/// A version by its first digits, or the newest, with its manifest.
fn find(
    blobs: &Blobs,
    trust: &Trust,
    name: &ImageName,
    digits: Option<&str>,
) -> anyhow::Result<(u64, Seal, Manifest)> {
    let mut found = Vec::new();
    for number in blobs.versions(name)?.into_iter().rev() {
        let Some(bytes) = blobs.image(name, number)? else {
            continue;
        };
        let which = || format!("version {number} of image {name} cannot be used");
        let seal = Seal::decode(&bytes).with_context(which)?;
        if digits.is_none_or(|digits| seal.manifest().to_string().starts_with(digits)) {
            found.push((number, seal));
        }
        if digits.is_none() && !found.is_empty() {
            break;
        }
    }
    let many = found.len();
    let Some((number, seal)) = found.pop().filter(|_| many == 1) else {
        let digits = digits.map(|digits| format!(" of version {digits}")).unwrap_or_default();
        if many > 1 {
            bail!("{many} versions of image {name} begin like that; give more digits{digits}");
        }
        bail!("there is no image {name}{digits} on this node; `skep image ls` lists them");
    };
    let manifest = read_manifest(blobs, trust, &seal)
        .with_context(|| format!("version {number} of image {name} cannot be used"))?;
    Ok((number, seal, manifest))
}

/// The manifest that `seal` stands for, judged.
pub(super) fn read_manifest(blobs: &Blobs, trust: &Trust, seal: &Seal) -> anyhow::Result<Manifest> {
    let mut bytes = Vec::new();
    for chunk in seal.manifest_chunks() {
        let part = blobs.get(&chunk.digest)?;
        let part = part.with_context(|| format!("chunk {} is missing", chunk.digest))?;
        bytes.extend_from_slice(&part);
    }
    Ok(seal.open(&bytes, &library::QueensOf(trust))?)
}
