//! `skep ca init`, `skep ca issue` and `skep ca invite` (BLOC-7, BLOC-33 to BLOC-37).

use std::path::{Path, PathBuf};

use anyhow::bail;
use skep_cli::args::{CaInit, CaInvite, CaIssue, RoleArg};
use skep_cli::human;
use skep_identity::{
    CA_FILE, CERTIFICATE_FILE, Ca, CaError, InviteRequest, IssueRequest, KEY_FILE, Role, Roles,
    Terms,
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
    say(&format!(
        "node         {}\n\
         bloc         {}\n\
         network      {network}\n\
         roles        {}\n\
         holds until  {} (renewed by the node itself from {} on)\n\
         written      {at}/{{{CA_FILE},{CERTIFICATE_FILE},{KEY_FILE}}}\n\
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
