//! `skep notify`: who is told of incidents, and whether that works.

use anyhow::bail;
use skep_control::api::{Field, TestNotify, WriteCatalog};

use super::{Screen, connect};
use crate::args::{NotifyAdd, NotifyVerb};
use crate::exit::Exit;
use crate::render;

pub(super) async fn notify(verb: NotifyVerb, screen: &mut Screen<'_>) -> anyhow::Result<Exit> {
    match verb {
        NotifyVerb::Ls(args) => {
            let notices = connect(&args.socket).await?.notices().await?;
            screen.answer(args.json, &notices, render::notices)?;
            Ok(Exit::Done)
        }
        NotifyVerb::Add(args) => add(*args, screen).await,
        NotifyVerb::Rm(args) => {
            let key = format!("target/{}", args.name);
            let write = WriteCatalog { key, revision: None, new: false, fields: None };
            let written = connect(&args.socket).await?.write_catalog(&write).await?;
            if written.changed.is_empty() {
                bail!("the catalog has no target {}: see `skep notify ls`", args.name);
            }
            screen.answer(args.json, &written, |written, _| render::written(written))?;
            Ok(Exit::Done)
        }
        NotifyVerb::Test(args) => {
            let client = connect(&args.socket).await?;
            let tested = client.test_notify(&TestNotify { target: args.target }).await?;
            screen.answer(args.json, &tested, |tested, _| render::tested(tested))?;
            let taken = tested.iter().all(|tested| tested.taken);
            Ok(if taken { Exit::Done } else { Exit::Failed })
        }
    }
}

async fn add(args: NotifyAdd, screen: &mut Screen<'_>) -> anyhow::Result<Exit> {
    let way = match (&args.smtp, &args.webhook) {
        (Some(_), _) => "smtp",
        (None, Some(_)) => "webhook",
        (None, None) => "sendmail",
    };
    let texts = [
        ("way", Some(way.to_owned())),
        ("server", args.smtp),
        ("url", args.webhook),
        ("from", args.from),
        ("tls", args.tls),
        ("user", args.user),
        ("secret", args.secret),
        ("ca", args.ca),
    ];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, Field::Text(text?))));
    let lists = [("to", args.to), ("kinds", args.kind)];
    let lists = lists.into_iter().filter(|(_, items)| !items.is_empty());
    let lists = lists.map(|(name, items)| (name, Field::List(items)));
    let fields = texts.chain(lists).map(|(name, field)| (name.to_owned(), field)).collect();
    let key = format!("target/{}", args.name);
    let write = WriteCatalog { key, revision: None, new: !args.replace, fields: Some(fields) };
    let written = connect(&args.socket).await?.write_catalog(&write).await?;
    screen.answer(args.json, &written, |written, _| {
        format!(
            "{}try it on each node that may be master: `sudo skep notify test {}`\n",
            render::written(written),
            args.name
        )
    })?;
    Ok(Exit::Done)
}
