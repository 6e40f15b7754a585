//! `skep config check`, `skep config show` and `skep config import`; the configuration of an agent
//! that runs a site of floodd.

use std::path::Path;

use skep_base::NodeName;
use skep_cli::args::{ConfigCheck, ConfigFile, ConfigImport, ConfigShow};
use skep_identity::Identity;

use super::{load, remark, say, say_json, shell};
use crate::boot;
use crate::config::floodd::{Floodd, Mapped};
use crate::config::{self, Config, Override};

pub(super) fn check(args: &ConfigCheck) -> anyhow::Result<()> {
    let config = config::load(Some(args.path()), &[])?;
    let file = shell(args.path());
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
    let config = match &args.floodd {
        Some(file) => over(file, &args.config, &[])?,
        None => load(&args.config, &[])?,
    };
    if args.json.json {
        return say_json(&config.settings);
    }
    say(&config.show(args.origin))
}

/// Prints a floodd file as a `skep.toml`.
pub(super) fn import(args: &ConfigImport) -> anyhow::Result<()> {
    let floodd = Floodd::load(&args.file)?;
    let site = match &args.site {
        Some(site) => site.clone(),
        None => site_here(&floodd, &args.file, &args.config)?,
    };
    let mapped = floodd.map(&site)?;
    // What is printed is sound, or nothing is printed.
    let toml = mapped.to_toml();
    config::parse(Some((Path::new("the imported configuration"), &toml)), &|_| None, &[])?;
    say_notices(&mapped)?;
    say(&toml)?;
    remark(
        "next: write it to /etc/skep/skep.toml, `skep config check`, and start the agent with \
         the identity of this site in node.identity_dir\n",
    )
}

/// The configuration in force with a floodd file over a `skep.toml`, for the site that this node's
/// certificate names.
pub(super) fn over(
    floodd: &Path,
    config: &ConfigFile,
    flags: &[Override],
) -> anyhow::Result<Config> {
    let floodd = Floodd::load(floodd)?;
    // The file says nothing about where the identity is.
    let identity = boot::load_identity(&load(config, flags)?)?;
    let mapped = floodd.map(&identity.info().node)?;
    say_notices(&mapped)?;
    Ok(mapped.load(config.config.as_deref(), flags)?)
}

fn say_notices(mapped: &Mapped) -> anyhow::Result<()> {
    for notice in mapped.notices() {
        remark(&format!("notice: {notice}\n"))?;
    }
    Ok(())
}

/// The site of this node, or of this host.
fn site_here(floodd: &Floodd, file: &Path, config: &ConfigFile) -> anyhow::Result<NodeName> {
    if let Ok(identity) = Identity::load(&load(config, &[])?.node.identity_dir) {
        return Ok(identity.info().node.clone());
    }
    let host = host_name();
    let first = host.split('.').next().unwrap_or(&host);
    let here = |name: &str| name == host || name == first;
    let named = |(name, hostname): &(&NodeName, Option<&str>)| {
        here(name.as_str()) || hostname.is_some_and(here)
    };
    let found = floodd.sites().find(named).map(|(name, _)| name.clone());
    found.ok_or_else(|| {
        let sites: Vec<&str> = floodd.sites().take(8).map(|(name, _)| name.as_str()).collect();
        anyhow::anyhow!(
            "{} does not say which of its sites this host ({host}) is; name it with --site: {}",
            file.display(),
            sites.join(", ")
        )
    })
}

/// This host's name, in lower case; empty where it has none.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.unwrap_or_default().trim().to_ascii_lowercase()
}
