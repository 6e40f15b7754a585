//! x
use skep_cli::Exit;
use skep_cli::args::DemoArgs;
pub(super) fn run(_args: &DemoArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("not yet")
}
