//! Images and waves.

use comfy_table::Color;
use skep_base::{ByteSize, Digest};
use skep_control::api::{
    Image, ImageDetail, Presence, Pruned, Wave, WaveDetail, WaveNode, WaveState, WaveStep,
};

use super::{Style, clean, count, facts, finish, joined, or_dash, right};
use crate::human;

/// Digits of a version that people see: enough to tell versions of one image apart.
const VERSION_DIGITS: usize = 12;

fn short(version: &Digest) -> String {
    version.abbreviated(VERSION_DIGITS)
}

/// The versions, images in order of name and versions newest first.
#[must_use]
pub fn images(images: &[Image], style: Style) -> String {
    let mut sorted: Vec<&Image> = images.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name).then(b.built.cmp(&a.built)));
    let mut table = style.table(&["image", "version", "built", "size", "here", "applied at"]);
    for image in sorted {
        table.add_row(vec![
            style.cell(&image.name, None),
            style.cell(short(&image.version.0), None),
            style.cell(human::moment(image.built), None),
            right(ByteSize(image.bytes)),
            right(share(image.chunks_here, image.chunks)),
            style.cell(or_dash(image.applied_at.as_ref()), None),
        ]);
    }
    finish(table, &[0, 1, 2, 3, 4, 5])
}

/// One version and its entries.
#[must_use]
pub fn image(detail: &ImageDetail, style: Style) -> String {
    let image = &detail.image;
    let mut text = facts(
        style,
        &[
            ("image", image.name.to_string()),
            ("version", image.version.to_string()),
            ("signed by", format!("{}, {}", image.queen, human::moment(image.built))),
            (
                "holds",
                format!(
                    "{} entries, {}, {}",
                    image.entries,
                    ByteSize(image.bytes),
                    count(image.chunks, "chunk")
                ),
            ),
            ("here", share(image.chunks_here, image.chunks)),
            ("applied at", or_dash(image.applied_at.as_ref())),
        ],
    );
    text.push('\n');
    let mut table = style.table(&["kind", "mode", "owner", "size", "path"]);
    for entry in &detail.entries {
        table.add_row(vec![
            style.cell(&entry.kind, None),
            style.cell(format!("{:04o}", entry.mode), None),
            right(format!("{}:{}", entry.uid, entry.gid)),
            right(ByteSize(entry.size)),
            style.cell(&entry.path, None),
        ]);
    }
    text.push_str(&finish(table, &[0, 1, 2, 3, 4]));
    if detail.truncated {
        text.push_str(&format!(
            "… and {} more\n",
            image.entries.saturating_sub(detail.entries.len() as u64)
        ));
    }
    text
}

/// What a prune removed, or would.
#[must_use]
pub fn pruned(pruned: &Pruned) -> String {
    let mut text = String::new();
    let (went, go) = if pruned.dry_run { ("would go", "would be") } else { ("went", "were") };
    for removed in &pruned.removed {
        let version = removed
            .version
            .as_ref()
            .map_or_else(String::new, |version| format!(" ({})", short(&version.0)));
        text.push_str(&format!("{} version {}{version} {went}\n", removed.name, removed.number));
    }
    for why in &pruned.unreadable {
        text.push_str(&format!("cannot be read, so no chunk {went}: {}\n", clean(why)));
    }
    text.push_str(&format!(
        "{} and {} {go} removed; {} stay\n",
        count(pruned.chunks, "chunk"),
        ByteSize(pruned.bytes),
        count(pruned.kept, "version")
    ));
    if !pruned.complete && pruned.unreadable.is_empty() {
        text.push_str("not all was looked at, since a build or a wave began: run it again later\n");
    }
    text
}

/// The waves, in the agent's order.
#[must_use]
pub fn waves(waves: &[Wave], style: Style) -> String {
    let mut table = style.table(&["wave", "image", "to", "at", "state", "done", "failed", "took"]);
    for wave in waves {
        table.add_row(vec![
            style.cell(&wave.id, None),
            style.cell(format!("{} {}", wave.image, wave.version.0.abbreviated(6)), None),
            style.cell(joined(wave.to.iter().map(skep_base::GroupName::as_str)), None),
            style.cell(&wave.at, None),
            state(wave.state, style),
            right(format!("{}/{}", wave.done, wave.targets)),
            right(wave.failed),
            right(human::brief(wave.elapsed_ms)),
        ]);
    }
    finish(table, &[0, 1, 2, 3, 4, 5, 6, 7])
}

fn state(state: WaveState, style: Style) -> comfy_table::Cell {
    let colour = match state {
        WaveState::Running => None,
        WaveState::Done => Some(Color::Green),
        WaveState::Failed => Some(Color::Red),
        WaveState::Superseded => Some(Color::DarkGrey),
    };
    style.cell(state.word(), colour)
}

/// One wave, node by node.
#[must_use]
pub fn wave(detail: &WaveDetail, style: Style) -> String {
    let wave = &detail.wave;
    let mut text = facts(
        style,
        &[
            ("wave", format!("{}, {}", wave.id, wave.state.word())),
            ("image", format!("{} {}", wave.image, short(&wave.version.0))),
            ("to", joined(wave.to.iter().map(skep_base::GroupName::as_str))),
            ("at", wave.at.clone()),
            ("started", format!("{} by {}", human::moment(wave.started), wave.queen)),
            ("took", human::span(wave.elapsed_ms)),
            ("nodes", format!("{} of {} done, {} failed", wave.done, wave.targets, wave.failed)),
            ("left the queen", queen_share(wave)),
        ],
    );
    text.push('\n');
    let mut table = style.table(&["node", "step", "has", "fetched", "from", "took"]);
    for node in &detail.nodes {
        table.add_row(vec![
            style.cell(&node.node, None),
            step(node, style),
            right(share(node.bytes_have, node.bytes_all)),
            right(ByteSize(node.fetched)),
            right(count(node.sources, "node")),
            right(human::brief(node.elapsed_ms)),
        ]);
    }
    text.push_str(&finish(table, &[0, 1, 2, 3, 4, 5]));
    for node in &detail.nodes {
        if let Some(error) = &node.error {
            text.push_str(&format!("{}\n", clean(error)));
        }
        for path in &node.not_set {
            text.push_str(&format!("{}: not set: {}\n", node.node, clean(path)));
        }
    }
    text
}

fn queen_share(wave: &Wave) -> String {
    let bytes = ByteSize(wave.queen_bytes);
    if wave.image_bytes == 0 {
        return bytes.to_string();
    }
    let hundredths = u128::from(wave.queen_bytes) * 100 / u128::from(wave.image_bytes);
    format!("{bytes}, {}.{:02} times the image", hundredths / 100, hundredths % 100)
}

fn step(node: &WaveNode, style: Style) -> comfy_table::Cell {
    let absent = node.presence != Presence::Present && node.step != WaveStep::Done;
    let word = if absent {
        format!("{} ({})", node.step.word(), node.presence)
    } else {
        node.step.word().to_owned()
    };
    let colour = match node.step {
        WaveStep::Done => Some(Color::Green),
        WaveStep::Failed => Some(Color::Red),
        WaveStep::Waiting if absent => Some(Color::Yellow),
        WaveStep::Waiting
        | WaveStep::Comparing
        | WaveStep::Fetching
        | WaveStep::Staging
        | WaveStep::Switching => None,
    };
    style.cell(word, colour)
}

/// One node's progress on one line, for output that is no terminal.
#[must_use]
pub fn wave_node_line(node: &WaveNode) -> String {
    let error = node.error.as_ref().map_or_else(String::new, |error| format!(": {}", clean(error)));
    format!(
        "{} {} {} after {}{error}\n",
        node.node,
        node.step.word(),
        share(node.bytes_have, node.bytes_all),
        human::span(node.elapsed_ms)
    )
}

/// A part of a whole in per cent, `100%` only when nothing is missing.
fn share(part: u64, whole: u64) -> String {
    if part >= whole {
        return "100%".to_owned();
    }
    format!("{}%", u128::from(part) * 100 / u128::from(whole))
}
