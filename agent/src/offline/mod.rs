//! Commands that need no running agent, or are one.
//!
//! | module | verbs |
//! |---|---|
//! | `ca` | `ca init`, `ca issue`, `ca invite`, `ca refound` |
//! | `certificate` | `join`, `cert show` |
//! | `settings` | `config check`, `config default`, `config show`, `config import` |
//! | `image` | `image build`, `image verify` |
//! | `beacon` | `beacon serve` |
//! | `demo` | `demo` |
//!
//! Answers go to standard output, words about them to standard error. Each ends with what to do
//! next, as a command that can be copied.

mod beacon;
mod ca;
mod certificate;
mod demo;
mod image;
mod settings;

use std::io::{self, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use skep_cli::args::{AgentArgs, ConfigFile};
use skep_cli::{Exit, Offline};
use skep_transport::discovery::MAX_JOIN_ADDRESSES;

use crate::boot;
use crate::config::{self, Config, Override};

/// Carries `verb` out; says on standard error what went wrong.
#[must_use]
pub fn run(verb: Offline) -> Exit {
    skep_cli::end(carry_out(verb))
}

fn carry_out(verb: Offline) -> anyhow::Result<Exit> {
    match verb {
        Offline::Agent { args, serve_ca } => agent(&args, serve_ca)?,
        Offline::ConfigCheck(args) => settings::check(&args)?,
        Offline::ConfigDefault => say(config::reference::TEXT)?,
        Offline::ConfigShow(args) => settings::show(&args)?,
        Offline::ConfigImport(args) => settings::import(&args)?,
        Offline::CaInit(args) => ca::init(&args)?,
        Offline::CaIssue(args) => ca::issue(&args)?,
        Offline::CaInvite(args) => ca::invite(&args)?,
        Offline::CaRefound(args) => ca::refound(&args)?,
        Offline::Join(args) => certificate::join(&args)?,
        Offline::CertShow(args) => certificate::show(&args)?,
        Offline::ImageBuild(args) => image::build(&args)?,
        Offline::ImageVerify(args) => return image::verify(&args),
        Offline::BeaconServe(args) => beacon::serve(&args)?,
        Offline::Demo(args) => return demo::run(&args),
    }
    Ok(Exit::Done)
}

/// `skep agent`, `skep ca serve`.
fn agent(args: &AgentArgs, serve_ca: bool) -> anyhow::Result<()> {
    let mut flags = if serve_ca { vec![Override::serve_ca()] } else { Vec::new() };
    if let Some((address, key)) = args.beacon.as_deref().zip(args.beacon_key.as_deref()) {
        flags.extend(Override::beacon(address, key));
    }
    let mut config = match &args.floodd {
        Some(file) => settings::over(file, &args.config, &flags)?,
        None => load(&args.config, &flags)?,
    };
    for address in &args.join {
        let parsed = address.parse();
        config.join.addresses.push(parsed.with_context(|| format!("cannot join at {address}"))?);
    }
    anyhow::ensure!(
        config.join.addresses.len() <= MAX_JOIN_ADDRESSES,
        "more than {MAX_JOIN_ADDRESSES} addresses to join at; put the rest into join.address_file"
    );
    boot::run(config, serve_ca)
}

fn load(file: &ConfigFile, flags: &[Override]) -> anyhow::Result<Config> {
    Ok(config::load(file.config.as_deref(), flags)?)
}

/// Prints `text` as it is.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Prints words beside an answer, for the person and not for the pipe.
fn remark(text: &str) -> anyhow::Result<()> {
    Ok(io::stderr().lock().write_all(text.as_bytes())?)
}

fn say_json<T: Serialize>(answer: &T) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(answer)?;
    text.push('\n');
    say(&text)
}

/// Looks names up.
fn sockets(addresses: &[String]) -> anyhow::Result<Vec<SocketAddr>> {
    let mut sockets = Vec::new();
    for address in addresses {
        let found = address.to_socket_addrs();
        let found = found.with_context(|| format!("cannot look {address} up"))?;
        sockets.extend(found);
    }
    sockets.dedup();
    Ok(sockets)
}

/// `path` as a word of a shell command that can be copied.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_a_shell() {
        assert_eq!(shell(Path::new("/srv/web-1")), "/srv/web-1");
        assert_eq!(shell(Path::new("/srv/it's here")), r"'/srv/it'\''s here'");
        assert_eq!(shell(Path::new("")), "''");
    }
}
