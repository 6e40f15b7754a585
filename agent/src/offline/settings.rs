//! `skep config check|default|show`.

use skep_cli::args::{ConfigCheck, ConfigShow};

use super::{load, say, say_json};
use crate::config;

pub(super) fn check(args: &ConfigCheck) -> anyhow::Result<()> {
    config::load(Some(&args.file), &[])?;
    say(&format!("{}: good\n", args.file.display()))
}

pub(super) fn show(args: &ConfigShow) -> anyhow::Result<()> {
    let config = load(&args.config, &[])?;
    if args.json.json {
        return say_json(&config.settings);
    }
    say(&config.show(args.origin))
}
