//! `skep demo`: all of it on one machine, without root.
//!
//! A bloc of real agents on loopback addresses in a temporary directory meets; a tree is rolled
//! out; one node is killed and comes back; a newcomer catches up by itself; every copy is compared.
//! What happened is one screen of text, and the exit code says whether all of it held.
//!
//! | module | what |
//! |---|---|
//! | [`bloc`] | the directory, the CA, the nodes |
//! | [`node`] | one agent as a child process |
//! | [`tree`] | what is rolled out |
//! | [`screen`] | lines and spinners |

mod bloc;
mod node;
mod screen;
mod tree;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use skep_base::{ByteSize, Digest, GroupName, ImageName, NodeName};
use skep_cli::args::DemoArgs;
use skep_cli::{Exit, WaveBars};
use skep_control::api::{Presence, StartWave, WaveDetail, WaveId, WaveNode, WaveState, WaveStep};
use skep_hostfs::{OnTrouble, VerifyOptions};
use skep_identity::Identity;
use skep_image::{Manifest, Seal};
use tokio::signal::unix::{SignalKind, signal};

use self::bloc::Bloc;
use self::screen::Screen;
use super::image::{self, BuiltImage};

/// Where every node has the tree, below its own root.
const AT: &str = "/tree";
/// The image's name.
const IMAGE: &str = "demo";
/// The longest that any one act may take; all of them together take seconds.
const PATIENCE: Duration = Duration::from_secs(40);
/// How often a condition is looked at: what is measured is exact to this.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often a wave is looked at: its bars are for the eye.
const WATCH_EVERY: Duration = Duration::from_millis(100);

pub(super) fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let began = Instant::now();
    let screen = Screen::new();
    let mut bloc = Bloc::create(usize::from(args.nodes), args.keep)?;
    let prepared = began.elapsed();
    // Whatever the end, the bloc is dropped, and with it go its processes and its directory.
    let played = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot await signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot await signals")?;
        let mut hangup = signal(SignalKind::hangup()).context("cannot await signals")?;
        tokio::select! {
            played = play(&mut bloc, args, prepared, &screen) => played,
            _ = interrupt.recv() => bail!("interrupted; the nodes are stopped"),
            _ = terminate.recv() => bail!("told to stop; the nodes are stopped"),
            _ = hangup.recv() => bail!("the terminal is gone; the nodes are stopped"),
        }
    });
    screen.clear();
    if played.is_err() {
        super::remark(&bloc.log_tails())?;
    }
    if args.keep {
        screen.line("kept", &format!("{} with all state and logs", bloc.dir().display()))?;
    } else {
        screen.wait("removing the directory");
    }
    drop(bloc);
    played.context("the demonstration did not hold")?;
    screen.end(&format!("all of it held, in {}", seconds(began.elapsed())))?;
    Ok(Exit::Done)
}

async fn play(
    bloc: &mut Bloc,
    args: &DemoArgs,
    prepared: Duration,
    screen: &Screen,
) -> anyhow::Result<()> {
    let count = bloc.nodes.len();
    screen.begin(&format!("{count} nodes on this machine, in {}", bloc.dir().display()))?;
    screen.timed("prepared", &format!("a CA and {count} certificates"), prepared)?;
    meet(bloc, screen).await?;
    let built = build(bloc, args.tree.as_deref(), screen).await?;
    let wave = roll_out(bloc, screen).await?;
    lose_one(bloc, screen).await?;
    welcome(bloc, &wave, screen).await?;
    compare(bloc, &built, screen).await?;
    stop(bloc, screen).await
}

/// Starts every node and waits until each sees all.
async fn meet(bloc: &mut Bloc, screen: &Screen) -> anyhow::Result<()> {
    let began = Instant::now();
    for node in &mut bloc.nodes {
        node.start()?;
    }
    until_all_present(bloc, screen).await?;
    let count = bloc.nodes.len();
    screen.timed("met", &format!("each of {count} sees all {count} present"), began.elapsed())
}

async fn until_all_present(bloc: &mut Bloc, screen: &Screen) -> anyhow::Result<()> {
    let wanted = bloc.nodes.len();
    let began = Instant::now();
    loop {
        bloc.check_alive()?;
        let mut lacking = None;
        for node in &bloc.nodes {
            let present = node.present().await;
            if present != Some(wanted) {
                lacking = Some((node.name.clone(), present));
                break;
            }
        }
        let Some((node, present)) = lacking else {
            return Ok(());
        };
        let sees = present.map_or("does not answer yet".to_owned(), |present| {
            format!("sees {present} of {wanted} present")
        });
        screen.wait(&format!("{node} {sees}"));
        if began.elapsed() > PATIENCE {
            bail!("after {} {node} {sees}", seconds(PATIENCE));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Builds the image on the queen, beside her running agent.
async fn build(bloc: &Bloc, tree: Option<&Path>, screen: &Screen) -> anyhow::Result<BuiltImage> {
    let began = Instant::now();
    screen.wait("building the image");
    let (source, gathered) = (tree.map(Path::to_owned), bloc.dir().join("source"));
    let queen = bloc.queen();
    let (identity, state) = (queen.identity_dir(), queen.state_dir());
    let (built, words) = on_disk(move || {
        let source = tree::choose(source, &gathered)?;
        let blobs = image::open_store(&state)?;
        let identity = Identity::load(&identity)?;
        let name = ImageName::new(IMAGE)?;
        let trouble = OnTrouble::Skip;
        let built = image::build_into(&blobs, &identity, (&name, &source.path), trouble)?;
        Ok((built, source.words))
    })
    .await?;
    for note in &built.notes {
        screen.line("skipped", note)?;
    }
    let what = format!(
        "{} in {} files and {} entries: {words}",
        ByteSize(built.bytes),
        built.files,
        built.entries
    );
    screen.timed("image", &what, began.elapsed())?;
    Ok(built)
}

/// Rolls the image out to every node.
async fn roll_out(bloc: &mut Bloc, screen: &Screen) -> anyhow::Result<WaveId> {
    let began = Instant::now();
    screen.clear();
    let order = StartWave {
        image: ImageName::new(IMAGE)?,
        version: None,
        to: vec![GroupName::all()],
        at: AT.to_owned(),
        as_user: !rustix::process::geteuid().is_root(),
        again: false,
    };
    let wave = bloc.queen().client().await?.start_wave(&order).await?;
    let wanted: Vec<NodeName> = bloc.nodes.iter().map(|node| node.name.clone()).collect();
    let detail = until_applied(bloc, &wave.id, &wanted).await?;
    let took = began.elapsed();
    let count = wanted.len();
    screen.timed("wave", &format!("{count} of {count} nodes switched to {AT}"), took)?;
    let sources = detail.nodes.iter().filter(|node| node.fetched > 0);
    let most = sources.map(|node| node.sources).max().unwrap_or(0);
    screen.line("origin", &origin(detail.wave.queen_bytes, detail.wave.image_bytes, most))?;
    let not_set: usize = detail.nodes.iter().map(|node| node.not_set.len()).sum();
    if not_set > 0 {
        screen.line("not set", &format!("{not_set} things that only root can set"))?;
    }
    Ok(wave.id)
}

/// What left the queen, beside what the image holds.
fn origin(queen: u64, image: u64, sources: u32) -> String {
    let hundredths = queen.saturating_mul(100) / image.max(1);
    format!(
        "{} left the queen for {} of image ({}.{:02} times); up to {} a node",
        ByteSize(queen),
        ByteSize(image),
        hundredths / 100,
        hundredths % 100,
        of(sources, "source")
    )
}

/// Watches the wave until all of `wanted` have it.
async fn until_applied(
    bloc: &mut Bloc,
    wave: &WaveId,
    wanted: &[NodeName],
) -> anyhow::Result<WaveDetail> {
    let began = Instant::now();
    let mut bars: Option<WaveBars> = None;
    loop {
        bloc.check_alive()?;
        let detail = bloc.queen().client().await?.wave(wave).await?;
        bars.get_or_insert_with(|| WaveBars::new(&detail)).update(&detail);
        let failed = detail.nodes.iter().find(|node| node.step == WaveStep::Failed);
        if let Some(failed) = failed {
            let why = failed.error.as_deref().unwrap_or("no reason was given");
            bail!("{} could not apply the wave: {why}", failed.node);
        }
        let lacking = wanted.iter().find(|name| !has_it(&detail, name));
        let Some(lacking) = lacking else {
            if let Some(bars) = bars {
                bars.clear();
            }
            return Ok(detail);
        };
        if began.elapsed() > PATIENCE || detail.wave.state == WaveState::Superseded {
            let step = node_of(&detail, lacking).map_or("not a target", |node| node.step.word());
            bail!("after {} {lacking} has not applied the wave: {step}", seconds(began.elapsed()));
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

fn node_of<'a>(detail: &'a WaveDetail, name: &NodeName) -> Option<&'a WaveNode> {
    detail.nodes.iter().find(|node| node.node == *name)
}

fn has_it(detail: &WaveDetail, name: &NodeName) -> bool {
    node_of(detail, name).is_some_and(|node| node.step == WaveStep::Done)
}

/// Kills one node without warning, waits until all others see it, and starts it again.
async fn lose_one(bloc: &mut Bloc, screen: &Screen) -> anyhow::Result<()> {
    let victim = bloc.nodes.len() / 2;
    let name = bloc.nodes[victim].name.clone();
    bloc.nodes[victim].kill()?;
    let began = Instant::now();
    loop {
        bloc.check_alive()?;
        let mut still = None;
        for node in bloc.nodes.iter().filter(|node| node.name != name) {
            let seen = node.presence_of(&name).await;
            if !matches!(seen, Some(Presence::Silent | Presence::GivenUp)) {
                still = Some(node.name.clone());
                break;
            }
        }
        let Some(still) = still else {
            break;
        };
        screen.wait(&format!("{still} has not seen that {name} is gone"));
        if began.elapsed() > PATIENCE {
            bail!("after {} {still} has not seen that {name} was killed", seconds(PATIENCE));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    screen.timed("killed", &format!("{name}; all others see it silent"), began.elapsed())?;
    let began = Instant::now();
    bloc.nodes[victim].start()?;
    until_all_present(bloc, screen).await?;
    screen.timed("restarted", &format!("{name}; all see all present again"), began.elapsed())
}

/// Starts a node that was not there when the wave was ordered; nobody tells it anything.
async fn welcome(bloc: &mut Bloc, wave: &WaveId, screen: &Screen) -> anyhow::Result<()> {
    let began = Instant::now();
    let name = bloc.add()?;
    if let Some(newcomer) = bloc.nodes.last_mut() {
        newcomer.start()?;
    }
    until_all_present(bloc, screen).await?;
    let met = began.elapsed();
    screen.clear();
    let detail = until_applied(bloc, wave, std::slice::from_ref(&name)).await?;
    let sources = node_of(&detail, &name).map_or(0, |node| node.sources);
    let what = format!(
        "{name}, not there before, was met in {} and caught up from {}",
        seconds(met),
        of(sources, "node")
    );
    screen.timed("newcomer", &what, began.elapsed())
}

/// Compares every copy with the manifest, and all copies with one another.
async fn compare(bloc: &Bloc, built: &BuiltImage, screen: &Screen) -> anyhow::Result<()> {
    let began = Instant::now();
    screen.wait("comparing every copy");
    let queen = bloc.queen();
    let (identity, state) = (queen.identity_dir(), queen.state_dir());
    let number = built.number;
    let copies: Vec<(NodeName, PathBuf)> =
        bloc.nodes.iter().map(|node| (node.name.clone(), node.root().join("tree"))).collect();
    let count = copies.len();
    let digest = on_disk(move || {
        let manifest = manifest(&identity, &state, number)?;
        let mut common: Option<Digest> = None;
        for (node, copy) in &copies {
            let digest = compare_copy(node, copy, &manifest)?;
            if *common.get_or_insert(digest) != digest {
                bail!("the copy of {node} has digest {digest}, those before it another");
            }
        }
        common.context("there are no copies")
    })
    .await?;
    let what = format!("{count} of {count} copies are equal: {}", digest.abbreviated(16));
    screen.timed("verified", &what, began.elapsed())
}

fn manifest(identity: &Path, state: &Path, number: u64) -> anyhow::Result<Manifest> {
    let blobs = image::open_store(state)?;
    let seal = blobs.image(&ImageName::new(IMAGE)?, number)?;
    let seal = Seal::decode(&seal.context("the image is gone from the queen's store")?)?;
    image::read_manifest(&blobs, Identity::load(identity)?.trust(), &seal)
}

fn compare_copy(node: &NodeName, copy: &Path, manifest: &Manifest) -> anyhow::Result<Digest> {
    let as_user = !rustix::process::geteuid().is_root();
    let (differences, count) = skep_hostfs::verify(copy, manifest, VerifyOptions { as_user })?;
    if let Some(first) = differences.first() {
        bail!("the copy of {node} differs from the image in {count} places, first: {first}");
    }
    Ok(skep_hostfs::tree_digest(copy)?)
}

/// Has every node stop as the service manager would.
async fn stop(bloc: &mut Bloc, screen: &Screen) -> anyhow::Result<()> {
    let began = Instant::now();
    for node in &bloc.nodes {
        node.terminate()?;
    }
    for node in &mut bloc.nodes {
        screen.wait(&format!("waiting for {} to stop", node.name));
        while !node.has_stopped()? {
            if began.elapsed() > PATIENCE {
                bail!("{} was told to stop {} ago and has not", node.name, seconds(PATIENCE));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    screen.timed("stopped", "every node, in good order", began.elapsed())
}

/// So many of something.
fn of(count: u32, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Work that waits for the disk, while signals are still heard.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("the work on the disk broke off")?
}

fn seconds(span: Duration) -> String {
    format!("{}.{:02} s", span.as_secs(), span.subsec_millis() / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_with_two_decimals() {
        assert_eq!(seconds(Duration::from_millis(1_049)), "1.04 s");
        let told = origin(3 << 20, 2 << 20, 3);
        let expected =
            "3.0 MiB left the queen for 2.0 MiB of image (1.50 times); up to 3 sources a node";
        assert_eq!(told, expected);
        assert!(origin(1, 0, 0).contains("(1.00 times)"));
        assert!(origin(1, 1, 1).ends_with("up to 1 source a node"));
    }
}
