//! `skep ca init`, `skep ca issue`, `skep ca invite` (BLOC-7, BLOC-33 to BLOC-37) and
//! `skep ca refound` (DVM-2).

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use skep_cli::args::{CaInit, CaInvite, CaIssue, CaRefound, RoleArg};
use skep_cli::human;
use skep_identity::{
    CA_FILE, CERTIFICATE_FILE, Ca, CaError, FOUNDING_FILE, FoundingToken, InviteRequest,
    IssueRequest, KEY_FILE, Role, Roles, Terms,
};

use super::{remark, say, shell, sockets};
use crate::clock::Clock;

pub(super) fn init(args: &CaInit) -> anyhow::Result<()> {
    let dir = &args.dir.dir;
    let ca = Ca::init(dir, &args.bloc, Clock::of_process().wall())?;
    let at = shell(dir);
    say(&format!(
        "bloc         {}\n\
         directory    {at} (ca.key never leaves it; keep a copy of the whole directory offline)\n\
         fingerprint  {}\n\
         holds until  {}\n\
         next: `skep ca issue NODE --dir {at}` makes a certificate ahead, or let hosts join: \
         `skep ca serve` on this host, then `skep ca invite --address ADDRESS:PORT --dir {at}`\n",
        ca.bloc(),
        ca.fingerprint(),
        human::moment(ca.not_after()),
    ))
}

pub(super) fn issue(args: &CaIssue) -> anyhow::Result<()> {
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(args.node.as_str()));
    let ca = Ca::load(&args.dir.dir)?;
    // Before the CA notes anything: a name is not used up by a directory that was in the way.
    refuse_overwriting(&out)?;
    let request = IssueRequest {
        node: args.node.clone(),
        network: args.network.clone(),
        roles: roles(&args.role),
        life: args.valid,
        replace: args.replace,
    };
    let issued = ca.issue(&request, Clock::of_process().wall());
    let identity = match issued {
        Err(error @ CaError::NameTaken { .. }) => bail!("{error} (--replace)"),
        issued => issued?,
    };
    identity.store(&out)?;
    let (info, at) = (identity.info(), shell(&out));
    let network = info.network.as_ref().map_or("-", |network| network.as_str());
    let founding = identity.founding().map(|token| founding_line(token, &at)).unwrap_or_default();
    say(&format!(
        "node         {}\n\
         bloc         {}\n\
         network      {network}\n\
         roles        {}\n\
         holds until  {} (renewed by the node itself from {} on)\n\
         written      {at}/{{{CA_FILE},{CERTIFICATE_FILE},{KEY_FILE}}}\n\
         {founding}\
         next: copy {at} to the node as /var/lib/skep/identity, keeping its modes, then run \
         `skep agent` there\n",
        info.node,
        info.bloc,
        info.roles,
        human::moment(info.not_after),
        human::moment(info.renew_at()),
    ))
}

pub(super) fn invite(args: &CaInvite) -> anyhow::Result<()> {
    let ca = Ca::load(&args.dir.dir)?;
    let terms =
        Terms { node: args.node.clone(), network: args.network.clone(), roles: roles(&args.role) };
    let request = InviteRequest { terms, addresses: sockets(&args.address)?, life: args.expires };
    let invitation = ca.invite(request, Clock::of_process().wall())?;
    // The token alone goes to standard output, so that it can be piped to the host.
    say(&format!("{invitation}\n"))?;
    let whom = match &args.node {
        Some(node) => format!("node {node}"),
        None => "one host, which chooses a free name".to_owned(),
    };
    remark(&format!(
        "an invitation into bloc {} for {whom}, until {}; it works once, a secret until then\n\
         next: on the new host `skep join TOKEN`; a node at {} must serve the CA \
         (`skep ca serve`, or `ca.serve = true`)\n",
        ca.bloc(),
        human::moment(invitation.expires),
        args.address.join(" or "),
    ))
}

/// Of the first certificate of a bloc.
fn founding_line(token: &FoundingToken, at: &str) -> String {
    format!(
        "founding     {at}/{FOUNDING_FILE}: this bloc's founding token, made once; the agent uses \
         it up and the flock is strong (until {}; keep no copy)\n",
        human::moment(token.not_after()),
    )
}

pub(super) fn refound(args: &CaRefound) -> anyhow::Result<()> {
    let ca = Ca::load(&args.dir.dir)?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(args.node.as_str()));
    let path = out.join(FOUNDING_FILE);
    if path.symlink_metadata().is_ok() {
        bail!(
            "{} is there already and is not written over; choose another directory with --out",
            path.display()
        );
    }
    let before = ca.founding()?;
    let number = before.as_ref().map_or(0, |known| known.number);
    match &before {
        Some(known) => remark(&format!(
            "The newest founding token has number {number}, was made for {} on {} and could be \
             used until {}.\n",
            known.node,
            human::moment(known.at),
            human::moment(known.until),
        ))?,
        None => remark("This CA has made no founding token yet.\n")?,
    }
    remark(&format!(
        "A token with number {} for {} makes the flock strong whose master gets it, wherever it \
         is.\nOnce it is used, promises under founding number {number} and below are worth \
         nothing: strict authority\nthere ends, and strong writes there may be undone by a \
         merge. Do it only when a majority of the roster\nis gone for ever, or the token before \
         was lost, expired or used by a flock that is no more.\n",
        number.saturating_add(1),
        args.node,
    ))?;
    confirm(args.yes, args.node.as_str())?;
    let token = ca.refound(&args.node, args.valid, Clock::of_process().wall())?;
    let path = token.store(&out)?;
    let at = shell(&path);
    say(&format!(
        "founding     number {} of bloc {}, for node {}\n\
         until        {}\n\
         written      {at} (mode 0600; it works once, and is a secret until then)\n\
         next: move it into the identity directory of {} (/var/lib/skep/identity/{FOUNDING_FILE}), \
         owned as the other files there and with mode 0600, and keep no copy; its agent finds it \
         within a minute, and `skep flock` shows the flock strong\n",
        token.number(),
        ca.bloc(),
        token.node(),
        human::moment(token.not_after()),
        token.node(),
    ))
}

/// Lets a person say that it is meant.
fn confirm(yes: bool, node: &str) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        bail!(
            "nothing is signed: this asks first, and there is no terminal; give --yes to mean it"
        );
    }
    remark(&format!("Type the name of the node, {node}, to go on: "))?;
    let mut typed = String::new();
    io::stdin().read_line(&mut typed).context("cannot read the answer")?;
    if typed.trim() != node {
        bail!("nothing is signed: {:?} is not {node}", typed.trim());
    }
    Ok(())
}

fn roles(given: &[RoleArg]) -> Roles {
    let role = |given: &RoleArg| match given {
        RoleArg::Queen => Role::Queen,
        RoleArg::Princess => Role::Princess,
        RoleArg::Manager => Role::Manager,
        RoleArg::Operator => Role::Operator,
    };
    given.iter().map(role).collect()
}

fn refuse_overwriting(out: &Path) -> anyhow::Result<()> {
    for file in [KEY_FILE, CERTIFICATE_FILE, CA_FILE] {
        let path = out.join(file);
        if path.symlink_metadata().is_ok() {
            bail!(
                "{} is there already and is not written over; choose another directory with --out",
                path.display()
            );
        }
    }
    Ok(())
}
