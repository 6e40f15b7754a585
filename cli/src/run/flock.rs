//! `skep flock ..`, carried out.

use std::io::BufRead as _;

use anyhow::{Context as _, bail};
use skep_base::NodeName;
use skep_control::api::{Code, ImportCatalog, ManageFlock, Recovery, Refusal};
use skep_control::{Client, ClientError};

use super::{Screen, connect};
use crate::args::{FlockArgs, FlockRecover, FlockVerb};
use crate::exit::Exit;
use crate::render;

pub(super) async fn flock(args: FlockArgs, screen: &mut Screen<'_>) -> anyhow::Result<Exit> {
    let Some(verb) = args.verb else {
        let flock = connect(&args.listing.socket).await?.flock().await?;
        screen.answer(args.listing.json, &flock, render::flock)?;
        return Ok(Exit::Done);
    };
    let (order, socket) = match verb {
        FlockVerb::Roster(args) => {
            let flock = connect(&args.socket).await?.flock().await?;
            let roster = &flock.management.roster;
            screen.answer(args.json, roster, |roster, style| {
                render::roster(roster, args.explain, style)
            })?;
            return Ok(Exit::Done);
        }
        FlockVerb::Recover(args) => return recover(args, screen).await,
        FlockVerb::StepDown { socket } => (ManageFlock::StepDown, socket),
        FlockVerb::Transfer(args) => (ManageFlock::Transfer { node: args.node }, args.socket),
        FlockVerb::Promote(args) => (ManageFlock::Promote { node: args.node }, args.socket),
        FlockVerb::Demote(args) => (ManageFlock::Demote { node: args.node }, args.socket),
        FlockVerb::Hold(args) => (ManageFlock::Hold { node: args.node }, args.socket),
        FlockVerb::Release(args) => (ManageFlock::Release { node: args.node }, args.socket),
        FlockVerb::Expel(args) => {
            (ManageFlock::Expel { node: args.node, reason: args.reason }, args.socket)
        }
    };
    let accepted = connect(&socket).await?.manage_flock(&order).await?;
    screen.text(&format!("{}\n", accepted.message))?;
    Ok(Exit::Done)
}

/// Says what would be lost, asks, founds, and imports: each only where the one before allows it.
async fn recover(args: FlockRecover, screen: &mut Screen<'_>) -> anyhow::Result<Exit> {
    let client = connect(&args.socket).await?;
    let file = match &args.from {
        Some(path) => Some(
            std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?,
        ),
        None => None,
    };
    // The file is checked before anything is founded that it is to fill.
    let how = ImportCatalog { replace: args.replace, dry_run: true };
    if let Some(text) = &file {
        let planned = client.import_catalog(how, text.clone()).await?;
        if !args.json.json {
            screen.text(&render::imported(&planned, true))?;
        }
    }
    let recovery = client.flock_recovery().await?;
    let led = client.flock().await?.management.master;
    let import_alone = file.is_some() && led.is_some();
    if args.dry_run {
        screen.answer(args.json, &recovery, |recovery, _| render::recovery(recovery))?;
        return Ok(Exit::Done);
    }
    match led.filter(|_| import_alone) {
        Some(master) => {
            screen.text(&format!(
                "The flock has a master, {master}: nothing is founded, the file is imported.\n"
            ))?;
            confirm(args.yes, &recovery.node, screen)?;
        }
        None => found(&client, &recovery, args.yes, screen).await?,
    }
    let Some(text) = file else { return Ok(Exit::Done) };
    let how = ImportCatalog { dry_run: false, ..how };
    let imported = client.import_catalog(how, text).await.context(
        "the file is not imported yet: once `skep flock` shows a master, `skep catalog import` \
         does it",
    )?;
    screen.answer(args.json, &imported, |imported, _| render::imported(imported, false))?;
    Ok(if imported.stopped.is_some() { Exit::Failed } else { Exit::Done })
}

async fn found(
    client: &Client,
    recovery: &Recovery,
    yes: bool,
    screen: &mut Screen<'_>,
) -> anyhow::Result<()> {
    if let Some(why) = &recovery.refused {
        let refusal = Refusal::new(Code::Refused, format!("nothing is founded: {why}"));
        let refusal = refusal.hint("see `skep flock`; to restore entries, `skep catalog import`");
        return Err(ClientError::Refused(refusal).into());
    }
    screen.text(&render::recovery(recovery))?;
    confirm(yes, &recovery.node, screen)?;
    let accepted = client.manage_flock(&ManageFlock::Recover).await?;
    screen.text(&format!("{}\n", accepted.message))
}

/// Lets a person say that it is meant, and on which node.
fn confirm(yes: bool, node: &NodeName, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if screen.answers.is_none() {
        bail!("nothing is done: this asks first, and there is no terminal; give --yes to mean it");
    }
    screen.text(&format!("\nType the name of this node, {node}, to go on: "))?;
    let mut typed = String::new();
    if let Some(answers) = &mut screen.answers {
        answers.read_line(&mut typed).context("cannot read the answer")?;
    }
    if typed.trim() != node.as_str() {
        bail!("nothing is done: {:?} is not {node}", typed.trim());
    }
    Ok(())
}
