//! `skep join` and `skep cert show` (BLOC-33 to BLOC-37).

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use skep_base::{NodeName, WallTime};
use skep_cli::args::{CertShow, ConfigFile, JoinArgs};
use skep_cli::{human, render};
use skep_identity::message::Message;
use skep_identity::{Identity, Invitation, Joining, MAX_INVITATION_CHARS, tls};
use skep_transport::enrol;

use super::{load, say, say_json, shell, sockets};
use crate::clock::Clock;

pub(super) fn join(args: &JoinArgs) -> anyhow::Result<()> {
    let invitation = read_token(&args.token)?;
    let dir = identity_dir(args.identity.as_deref(), &args.config)?;
    let node = match (&args.node, &invitation.terms.node) {
        (Some(node), _) | (None, Some(node)) => node.clone(),
        (None, None) => host_name()?,
    };
    let addresses = if args.address.is_empty() {
        invitation.addresses.clone()
    } else {
        sockets(&args.address)?
    };
    // The key is made here, and taken up again by the next attempt where this one is cut off.
    let joining = Joining::begin(&dir, invitation, Some(node))?;
    let invitation = joining.invitation();
    let clock = Clock::of_process();
    let built = WallTime::from_unix_ms(crate::BUILT_UNIX_MS);
    let judge: tls::Clock =
        Arc::new(move || skep_identity::judgement_time(clock.wall(), built, WallTime::default()));
    let fingerprint = invitation.ca_fingerprint;
    let client = tls::enrolment_client_config(&invitation.bloc, fingerprint, &judge)
        .context("cannot prepare TLS")?;
    let request = joining.request()?.encode();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let transport = skep_transport::Config::default();
    let asked = enrol(&addresses, &client, &transport, &request);
    let answer = runtime.block_on(asked).with_context(|| {
        format!(
            "{} has no certificate yet; the key is kept, so the same command can be given again",
            joining.node()
        )
    })?;
    let identity =
        joining.finish(Message::decode(&answer).context("the CA's answer is broken")?)?;
    let info = identity.info();
    say(&format!(
        "this host is now node {} of bloc {}; its key was made here and is in {}\n\
         the certificate holds until {} and is renewed from {} on\n\
         next: `skep agent`, or `systemctl enable --now skep`; to find the others put \
         `addresses = [\"{}\"]` under [join] in /etc/skep/skep.toml\n",
        info.node,
        info.bloc,
        shell(&dir),
        human::moment(info.not_after),
        human::moment(info.renew_at()),
        addresses.first().map(ToString::to_string).unwrap_or_default(),
    ))
}

pub(super) fn show(args: &CertShow) -> anyhow::Result<()> {
    let dir = identity_dir(args.identity.as_deref(), &args.config)?;
    let identity = Identity::load(&dir)?;
    let shown = crate::status::shown(identity.info(), Clock::of_process().wall());
    if args.json.json {
        return say_json(&shown);
    }
    say(&render::certificate(&shown, render::Style::of_stdout()))
}

/// The identity that the agent of this host uses, unless the command line names a directory.
pub(super) fn identity_dir(given: Option<&Path>, file: &ConfigFile) -> anyhow::Result<PathBuf> {
    match given {
        Some(dir) => Ok(dir.to_owned()),
        None => Ok(load(file, &[])?.node.identity_dir),
    }
}

fn read_token(given: &str) -> anyhow::Result<Invitation> {
    let mut text = given.to_owned();
    if given == "-" {
        text.clear();
        // One more than is allowed, so that a longer one is refused as such.
        let longest = MAX_INVITATION_CHARS as u64 + 2;
        let mut input = std::io::stdin().lock().take(longest);
        input.read_to_string(&mut text).context("cannot read the token from standard input")?;
    }
    text.trim().parse().context("this is no invitation; `skep ca invite` prints one")
}

fn host_name() -> anyhow::Result<NodeName> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("cannot read the host's name; say the node's with --node NODE")?;
    let name = name.trim();
    NodeName::new(name)
        .with_context(|| format!("the host's name {name:?} is no node's; say one with --node NODE"))
}
