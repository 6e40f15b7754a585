//! `skep flock ..`, carried out.

use std::io::BufRead as _;

use anyhow::{Context as _, bail};
use skep_base::NodeName;
use skep_control::api::{Code, ImportCatalog, Imported, ManageFlock, Recovery, Refusal};
use skep_control::{Client, ClientError};

use super::{Screen, connect};
use crate::args::{FlockArgs, FlockRecover, FlockVerb};
use crate::exit::Exit;
use crate::render;

pub(super) async fn flock(args: FlockArgs, screen: &mut Screen<'_>) -> anyhow::Result<Exit> {
    let Some(verb) = args.verb else {
        let flock = connect(&args.listing.socket).await?.flock_by_master().await?;
        screen.answer(args.listing.json, &flock, render::flock)?;
        return Ok(Exit::Done);
    };
    let (order, socket) = match verb {
        FlockVerb::Roster(args) => {
            let flock = connect(&args.socket).await?.flock_by_master().await?;
            let management = &flock.management;
            screen.answer(args.json, &management.roster, |_, style| {
                render::roster(management, args.explain, style)
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
    if args.json.json && !args.yes && !args.dry_run {
        bail!("nothing is done: with --json nobody is asked; give --yes to mean it, or --dry-run");
    }
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
        say(&args, screen, || render::imported(&planned, true))?;
    }
    let recovery = client.flock_recovery().await?;
    let led = client.flock().await?.management.master;
    if args.dry_run {
        screen.answer(args.json, &recovery, |recovery, _| render::recovery(recovery))?;
        return Ok(Exit::Done);
    }
    let mut done = Recovered { recovery, founded: None, imported: None };
    match led.filter(|_| file.is_some()) {
        Some(master) => {
            say(&args, screen, || {
                format!(
                    "The flock has a master, {master}: nothing is founded, the file is imported.\n"
                )
            })?;
            confirm(args.yes, &done.recovery.node, screen)?;
        }
        None => done.founded = Some(found(&client, &done.recovery, &args, screen).await?),
    }
    let mut exit = Exit::Done;
    if let Some(text) = file {
        let how = ImportCatalog { dry_run: false, ..how };
        let imported = client.import_catalog(how, text).await.context(
            "the file is not imported yet: once `skep flock` shows a master, `skep catalog \
             import` does it",
        )?;
        say(&args, screen, || render::imported(&imported, false))?;
        exit = if imported.stopped.is_some() { Exit::Failed } else { Exit::Done };
        done.imported = Some(imported);
    }
    if args.json.json {
        screen.answer(args.json, &done, |_, _| String::new())?;
    }
    Ok(exit)
}

/// What `skep flock recover --json` says, once, at its end.
#[derive(serde::Serialize)]
struct Recovered {
    /// As it was before.
    recovery: Recovery,
    /// What the agent said, where it founded.
    #[serde(skip_serializing_if = "Option::is_none")]
    founded: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    imported: Option<Imported>,
}

/// Says something to a person.
fn say(
    args: &FlockRecover,
    screen: &mut Screen<'_>,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    if args.json.json { Ok(()) } else { screen.text(&text()) }
}

async fn found(
    client: &Client,
    recovery: &Recovery,
    args: &FlockRecover,
    screen: &mut Screen<'_>,
) -> anyhow::Result<String> {
    if let Some(why) = &recovery.refused {
        let refusal = Refusal::new(Code::Refused, format!("nothing is founded: {why}"));
        let refusal = refusal.hint("see `skep flock`; to restore entries, `skep catalog import`");
        return Err(ClientError::Refused(refusal).into());
    }
    say(args, screen, || render::recovery(recovery))?;
    confirm(args.yes, &recovery.node, screen)?;
    let accepted = client.manage_flock(&ManageFlock::Recover).await?;
    say(args, screen, || format!("{}\n", accepted.message))?;
    Ok(accepted.message)
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
