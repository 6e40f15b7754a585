//! `skep catalog ..`, carried out.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use skep_control::api::{EventKind, Field, ImportCatalog, ReadEvents, WriteCatalog, Written};

use super::{Screen, connect};
use crate::args::{CatalogSet, CatalogVerb, Json, Listing};
use crate::exit::Exit;
use crate::render;

pub(super) async fn catalog(verb: CatalogVerb, screen: &mut Screen<'_>) -> anyhow::Result<Exit> {
    match verb {
        CatalogVerb::Get(args) => {
            let client = connect(&args.socket).await?;
            match args.key {
                Some(key) => {
                    let history = client.catalog_entry(&key).await?;
                    let newest = history.versions.into_iter().next().filter(|it| !it.removed);
                    let Some(entry) = newest else { bail!("{key} was removed") };
                    let one = render::OneEntry { entry, freshness: history.freshness };
                    screen.answer(args.json, &one, render::entry)?;
                }
                None => {
                    let catalog = client.catalog(args.kind.as_deref()).await?;
                    screen.answer(args.json, &catalog, render::catalog)?;
                }
            }
        }
        CatalogVerb::Set(args) => set(args, screen).await?,
        CatalogVerb::Rm(args) => {
            let (key, revision) = (args.key, args.if_revision);
            let write = WriteCatalog { key, revision, new: false, fields: None };
            let written = connect(&args.socket).await?.write_catalog(&write).await?;
            said(args.json, &written, screen)?;
        }
        CatalogVerb::History(args) => {
            let history = connect(&args.socket).await?.catalog_entry(&args.key).await?;
            screen.answer(args.json, &history, render::history)?;
        }
        CatalogVerb::Diff(args) => {
            let diff = connect(&args.socket).await?.catalog_diff(args.from, args.to).await?;
            screen.answer(args.json, &diff, render::diff)?;
        }
        CatalogVerb::Export(args) => {
            let export = connect(&args.socket).await?.catalog_export().await?;
            let freshness = export.freshness.as_ref();
            let text = render::stale_comment(freshness) + &export.text;
            match args.file {
                Some(file) => {
                    std::fs::write(&file, text)
                        .with_context(|| format!("cannot write {}", file.display()))?;
                    screen.text(&render::stale(freshness))?;
                }
                None => screen.text(&text)?,
            }
        }
        CatalogVerb::Import(args) => {
            let text = std::fs::read_to_string(&args.file)
                .with_context(|| format!("cannot read {}", args.file.display()))?;
            let how = ImportCatalog { replace: args.replace, dry_run: args.dry_run };
            let client = connect(&args.socket).await?;
            let imported = client.import_catalog(how, text).await?;
            screen.answer(args.json, &imported, |imported, _| {
                render::imported(imported, args.dry_run)
            })?;
            return Ok(if imported.stopped.is_some() { Exit::Failed } else { Exit::Done });
        }
        CatalogVerb::Watch(args) => watch(args, screen).await?,
        CatalogVerb::Conflicts(args) => {
            let client = connect(&args.socket).await?;
            match args.apply {
                Some(name) => {
                    let name = name.trim_start_matches("conflict/");
                    said(args.json, &client.reapply(name).await?, screen)?;
                }
                None => {
                    let catalog = client.catalog(Some("conflict")).await?;
                    screen.answer(args.json, &catalog.entries, |_, style| {
                        render::conflicts(&catalog, style)
                    })?;
                }
            }
        }
    }
    Ok(Exit::Done)
}

async fn set(args: CatalogSet, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let mut fields = BTreeMap::new();
    for given in &args.fields {
        let Some((name, value)) = given.split_once('=') else {
            bail!("{given:?} is no FIELD=VALUE: see `skep catalog set --help`");
        };
        if fields.insert(name.to_owned(), field(value)).is_some() {
            bail!("{name} is given twice");
        }
    }
    let (key, revision, new) = (args.key, args.if_revision, args.new);
    let write = WriteCatalog { key, revision, new, fields: Some(fields) };
    let written = connect(&args.socket).await?.write_catalog(&write).await?;
    said(args.json, &written, screen)
}

/// A value as it is typed.
fn field(text: &str) -> Field {
    if let Ok(number) = text.parse() {
        return Field::Number(number);
    }
    if let Ok(flag) = text.parse() {
        return Field::Flag(flag);
    }
    let within =
        |open: char, close: char| text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    if let Some(items) = within('[', ']') {
        let items = items.split(',').map(str::trim).filter(|item| !item.is_empty());
        return Field::List(items.map(str::to_owned).collect());
    }
    Field::Text(within('"', '"').unwrap_or(text).to_owned())
}

fn said(json: Json, written: &Written, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    screen.answer(json, written, |written, _| render::written(written))
}

async fn watch(args: Listing, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let query = ReadEvents { after: None, last: Some(0), follow: true, flock: false };
    let mut events = connect(&args.socket).await?.events(query).await?;
    while let Some(event) = events.next().await? {
        if matches!(event.kind, EventKind::Catalog { .. }) {
            screen.line(args.json, &event, render::event)?;
        }
    }
    bail!("the agent ended the stream of events")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_look() {
        assert_eq!(field("12"), Field::Number(12));
        assert_eq!(field("\"12\""), Field::Text("12".into()));
        assert_eq!(field("true"), Field::Flag(true));
        assert_eq!(field("[a, b]"), Field::List(vec!["a".into(), "b".into()]));
        assert_eq!(field("[]"), Field::List(Vec::new()));
        assert_eq!(field("back at noon"), Field::Text("back at noon".into()));
    }
}
