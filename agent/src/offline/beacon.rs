//! `skep beacon serve`: a meeting place outside the bloc, known by its own key (BLOC-2).

use anyhow::Context as _;
use skep_base::Rng;
use skep_cli::args::BeaconArgs;
use skep_identity::BeaconKey;
use skep_transport::discovery::beacon::{BeaconServer, Limits};
use tokio::signal::unix::{SignalKind, signal};

use super::{remark, say};
use crate::clock::Clock;

pub(super) fn serve(args: &BeaconArgs) -> anyhow::Result<()> {
    let key = BeaconKey::load_or_create(&args.key)?;
    let mut listeners = Vec::new();
    for address in &args.listen {
        let listener = skep_transport::bind(*address)
            .with_context(|| format!("cannot listen on {address}; is something else there?"))?;
        listeners.push(listener);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let rng = Rng::seeded(Clock::of_process().now().as_nanos());
        let server = BeaconServer::start(listeners, &key, Limits::default(), rng)
            .context("cannot start the beacon")?;
        say(&format!("key      {}\n", key.public()))?;
        for address in server.addresses() {
            say(&format!("address  {address}\n"))?;
        }
        remark("next: on each node, [join.beacon] enabled = true with this address and key\n")?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        server.shutdown().await;
        Ok(())
    })
}
