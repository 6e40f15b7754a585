//! `skep beacon serve`: a meeting place outside the bloc, known by its own key (BLOC-2).

use std::net::SocketAddr;

use anyhow::Context as _;
use skep_base::Rng;
use skep_cli::args::BeaconArgs;
use skep_identity::BeaconKey;
use skep_transport::discovery::beacon::{BeaconServer, Limits};
use tokio::signal::unix::{SignalKind, signal};

use super::{remark, say, shell};
use crate::clock::Clock;

pub(super) fn serve(args: &BeaconArgs) -> anyhow::Result<()> {
    let key = BeaconKey::load_or_create(&args.key)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    runtime.block_on(until_stopped(args, &key))
}

async fn until_stopped(args: &BeaconArgs, key: &BeaconKey) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut listeners = Vec::new();
    for address in &args.listen {
        let listener = skep_transport::bind(*address)
            .with_context(|| format!("cannot listen on {address}; is something else there?"))?;
        listeners.push(listener);
    }
    // It chooses which peers to name, which nobody gains by guessing.
    let rng = Rng::seeded(Clock::of_process().now().as_nanos());
    let server = BeaconServer::start(listeners, key, Limits::default(), rng)
        .context("cannot start the beacon")?;
    let listening: Vec<String> = server.addresses().iter().map(SocketAddr::to_string).collect();
    say(&format!("address  {}\nkey      {}\n", listening.join(" "), key.public()))?;
    remark(&format!(
        "the private key is in {}\n\
         next: on each node, under [join.beacon]: enabled = true, this key, and the address at \
         which it reaches this host; or `skep agent --beacon ADDRESS:PORT --beacon-key KEY`\n",
        shell(&args.key)
    ))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let stats = server.stats();
    server.shutdown().await;
    remark(&format!(
        "stopped: {} questions answered, {} refused, {} entries held\n",
        stats.answered, stats.refused, stats.entries
    ))
}
