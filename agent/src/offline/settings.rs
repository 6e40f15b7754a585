//! `skep config check` and `skep config show`.

use skep_cli::args::{ConfigCheck, ConfigShow};

use super::{load, say, say_json, shell};
use crate::config;

pub(super) fn check(args: &ConfigCheck) -> anyhow::Result<()> {
    let config = config::load(Some(&args.file), &[])?;
    let file = shell(&args.file);
    let set = config.settings.iter();
    let set = set.filter(|setting| setting.origin != config::Origin::Default).count();
    say(&format!(
        "{file} is sound: {set} of {} settings are set\n\
         next: `skep config show --config {file} --origin` says what is in force and why, \
         `skep agent --config {file}` starts the agent\n",
        config.settings.len()
    ))
}

pub(super) fn show(args: &ConfigShow) -> anyhow::Result<()> {
    let config = load(&args.config, &[])?;
    if args.json.json {
        return say_json(&config.settings);
    }
    say(&config.show(args.origin))
}
