//! benches
use clap::Args;
/// Which.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name.
    name: String,
}
/// Runs.
///
/// # Errors
/// Always.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    anyhow::bail!("{}", arguments.name)
}
