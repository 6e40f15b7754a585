//! Answers about images and waves.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_base::{ImageName, NodeName, WallTime};
use skep_control::Request as Question;
use skep_control::api::{
    Code, Entry, Image, ImageDetail, MAX_ENTRIES_SHOWN, Refusal, Text, Wave, WaveDetail, WaveId,
    WaveNode, WaveState, WaveStep, WhichVersion,
};
use skep_identity::Trust;
use skep_image::{Manifest, Node};
use skep_store::blobs::Blobs;
use skep_wave::{Order, Status, Statuses, Step};

use super::facts::{Facts, WaveKey};
use super::library::{self, Loaded};
use super::store::chain;
use super::task::Task;

impl Task {
    /// Answers a question, or hands it to a thread that may wait for the disk.
    pub(super) fn asked(&mut self, question: Question) {
        let wall = self.clock.wall();
        #[expect(clippy::wildcard_enum_match_arm, reason = "the main loop answers all others")]
        match question {
            Question::Waves(reply) => {
                let mut waves: Vec<Wave> = self
                    .facts
                    .waves()
                    .filter_map(|(key, _)| wave(&self.facts, key, wall))
                    .collect();
                waves.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
                reply.ok(waves);
            }
            Question::Wave { id, reply } => {
                let found = find_wave(&self.facts, &id);
                reply
                    .send(found.and_then(|key| {
                        detail(&self.facts, key, wall).ok_or_else(|| no_wave(&id))
                    }));
            }
            Question::StartWave { order, reply } => self.start_wave(order, reply),
            Question::PruneImages { wish, reply } => self.prune(&wish, Some(reply)),
            Question::Images(reply) => {
                let (blobs, identity) = (Arc::clone(&self.blobs), self.identity.current());
                let applied = self.lock_ledger().applied().clone();
                let work = move || images(&blobs, identity.trust(), &applied);
                self.on_disk(work, move |_, images| reply.send(images));
            }
            Question::Image { name, query, reply } => {
                let (blobs, identity) = (Arc::clone(&self.blobs), self.identity.current());
                let applied = self.lock_ledger().applied().clone();
                let work = move || image(&blobs, identity.trust(), &applied, &name, &query);
                self.on_disk(work, move |_, image| reply.send(image));
            }
            other => tracing::error!(?other, "a question that is none of waves"),
        }
    }
}

/// The name of a wave for people.
pub(super) fn wave_id(facts: &Facts, key: WaveKey) -> WaveId {
    let queen = facts.name(key.queen).map_or_else(|| key.queen.to_string(), ToString::to_string);
    WaveId(format!("{queen}:{}", key.number))
}

/// How far every wave is.
pub(super) fn states(facts: &Facts) -> BTreeMap<WaveKey, WaveState> {
    let newest: Vec<WaveKey> = facts.newest().into_values().map(|(key, _)| key).collect();
    facts
        .waves()
        .map(|(key, order)| (key, state(facts, key, order, newest.contains(&key))))
        .collect()
}

/// One row of the listing of waves.
pub(super) fn wave(facts: &Facts, key: WaveKey, wall: WallTime) -> Option<Wave> {
    let order = facts.wave(key)?;
    let newest = facts.newest().into_values().any(|(newest, _)| newest == key);
    let state = state(facts, key, order, newest);
    let statuses: Vec<&Status> =
        facts.targets(order).filter_map(|node| status_of(facts, node, key)).collect();
    let count = |step: Step| {
        let of = statuses.iter().filter(|status| status.step == step);
        u32::try_from(of.count()).unwrap_or(u32::MAX)
    };
    let elapsed_ms = if state.is_final() {
        statuses.iter().map(|status| status.elapsed_ms).max().unwrap_or(0)
    } else {
        millis(wall, order)
    };
    Some(Wave {
        id: wave_id(facts, key),
        image: order.image.clone(),
        version: Text(order.manifest),
        to: order.groups.clone(),
        at: order.at.clone(),
        queen: facts.name(key.queen)?.clone(),
        state,
        started: order.started,
        elapsed_ms,
        image_bytes: order.bytes,
        queen_bytes: statuses.iter().map(|status| status.from_queen).sum(),
        targets: u32::try_from(facts.targets(order).count()).unwrap_or(u32::MAX),
        done: count(Step::Done),
        failed: count(Step::Failed),
    })
}

fn detail(facts: &Facts, key: WaveKey, wall: WallTime) -> Option<WaveDetail> {
    let order = facts.wave(key)?;
    let mut nodes: Vec<WaveNode> = facts
        .targets(order)
        .filter_map(|node| {
            let name = facts.name(node)?.clone();
            let presence = facts.presence_of(node);
            Some(match status_of(facts, node, key) {
                Some(status) => WaveNode {
                    node: name,
                    presence,
                    step: step(status.step),
                    bytes_have: status.bytes_have,
                    bytes_all: status.bytes_all,
                    fetched: status.fetched,
                    from_queen: status.from_queen,
                    sources: u32::from(status.sources),
                    elapsed_ms: status.elapsed_ms,
                    error: status.error.clone(),
                    not_set: not_set(status),
                },
                None => waiting(name, presence, order, wall),
            })
        })
        .collect();
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    Some(WaveDetail { wave: wave(facts, key, wall)?, nodes })
}

fn waiting(
    node: NodeName,
    presence: skep_control::api::Presence,
    order: &Order,
    wall: WallTime,
) -> WaveNode {
    WaveNode {
        node,
        presence,
        step: WaveStep::Waiting,
        bytes_have: 0,
        bytes_all: order.bytes,
        fetched: 0,
        from_queen: 0,
        sources: 0,
        elapsed_ms: millis(wall, order),
        error: None,
        not_set: Vec::new(),
    }
}

fn not_set(status: &Status) -> Vec<String> {
    let mut named = status.not_set.clone();
    let more = status.not_set_count.saturating_sub(named.len() as u64);
    if more > 0 {
        named.push(format!("and {more} more; the node's log names them"));
    }
    named
}

fn status_of(facts: &Facts, node: skep_base::NodeId, key: WaveKey) -> Option<&Status> {
    facts.members.get(&node)?.statuses.of(key.queen, key.number)
}

fn state(facts: &Facts, key: WaveKey, order: &Order, newest: bool) -> WaveState {
    if !newest {
        return WaveState::Superseded;
    }
    let (mut done, mut failed) = (0, 0);
    for node in facts.targets(order) {
        let step = status_of(facts, node, key).map(|status| status.step);
        let present = facts.members.get(&node).is_some_and(|member| member.present);
        match step {
            Some(Step::Done) => done += 1,
            Some(Step::Failed) if present => failed += 1,
            _ if present => return WaveState::Running,
            _ => {}
        }
    }
    match (done, failed) {
        (0, 0) => WaveState::Running,
        (_, 0) => WaveState::Done,
        _ => WaveState::Failed,
    }
}

const fn step(step: Step) -> WaveStep {
    match step {
        Step::Comparing => WaveStep::Comparing,
        Step::Fetching => WaveStep::Fetching,
        Step::Staging => WaveStep::Staging,
        Step::Switching => WaveStep::Switching,
        Step::Done => WaveStep::Done,
        Step::Failed => WaveStep::Failed,
    }
}

fn millis(wall: WallTime, order: &Order) -> u64 {
    u64::try_from(wall.since(order.started).as_millis()).unwrap_or(u64::MAX)
}

fn find_wave(facts: &Facts, id: &WaveId) -> Result<WaveKey, Refusal> {
    let named: Vec<(WaveKey, WaveId)> =
        facts.waves().map(|(key, _)| (key, wave_id(facts, key))).collect();
    if let Some((key, _)) = named.iter().find(|(_, name)| name == id) {
        return Ok(*key);
    }
    // A number alone will do where one queen has it.
    let number = id.0.parse::<u64>().ok();
    let meant = |key: &WaveKey, name: &WaveId| {
        number.map_or_else(|| name.0.starts_with(&id.0), |number| key.number == number)
    };
    let mut found = named.iter().filter(|(key, name)| meant(key, name));
    match (found.next(), found.next()) {
        (Some((key, _)), None) => Ok(*key),
        (Some((_, a)), Some((_, b))) => {
            let message = format!("{id} may mean {a} or {b}");
            Err(Refusal::new(Code::Conflict, message).hint("write all of the wave's name"))
        }
        (None, _) => Err(no_wave(id)),
    }
}

fn no_wave(id: &WaveId) -> Refusal {
    Refusal::new(Code::NotFound, format!("no wave {id} is known here"))
        .hint("`skep wave status` lists the waves")
}

fn images(blobs: &Blobs, trust: &Trust, applied: &Statuses) -> Result<Vec<Image>, Refusal> {
    let mut images = Vec::new();
    for (name, version) in blobs.images().map_err(|error| internal(&error))? {
        match library::open(blobs, (&name, version), trust) {
            Ok(Some(loaded)) => images.push(row(blobs, &loaded, applied)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(image = %name, version, error = %chain(&error), "is not listed");
            }
        }
    }
    Ok(images)
}

fn image(
    blobs: &Blobs,
    trust: &Trust,
    applied: &Statuses,
    name: &ImageName,
    query: &WhichVersion,
) -> Result<ImageDetail, Refusal> {
    let (_, loaded) = find_version(blobs, name, query.version.as_deref(), trust)?;
    let entries = loaded.manifest.entries();
    let shown = entries.iter().take(MAX_ENTRIES_SHOWN);
    Ok(ImageDetail {
        image: row(blobs, &loaded, applied),
        entries: shown.map(|entry| shown_entry(&loaded.manifest, entry)).collect(),
        truncated: entries.len() > MAX_ENTRIES_SHOWN,
    })
}

/// The version of an image that `digits` begin; the newest where none are given. A number of at
/// most four digits that is a version's number means that.
pub(super) fn find_version(
    blobs: &Blobs,
    name: &ImageName,
    digits: Option<&str>,
    trust: &Trust,
) -> Result<(u64, Loaded), Refusal> {
    let versions = blobs.versions(name).map_err(|error| internal(&error))?;
    let Some(newest) = versions.last().copied() else {
        return Err(Refusal::new(Code::NotFound, format!("no image {name} is on this node"))
            .hint("`skep image ls` lists them; `skep image build` makes one"));
    };
    let open = |version: u64| match library::open(blobs, (name, version), trust) {
        Ok(Some(loaded)) => Ok((version, loaded)),
        Ok(None) => Err(Refusal::new(Code::NotFound, format!("{name} {version} is gone"))),
        Err(error) => Err(internal(&error)),
    };
    let Some(digits) = digits else {
        return open(newest);
    };
    let mut found = Vec::new();
    for version in versions {
        let loaded = open(version)?;
        if loaded.1.seal.manifest().to_string().starts_with(digits) {
            found.push(loaded);
        }
    }
    match (found.len(), found.pop()) {
        (1, Some(found)) => Ok(found),
        (0, _) | (_, None) => {
            Err(Refusal::new(Code::NotFound, format!("image {name} has no version {digits}"))
                .hint("`skep image ls` lists the versions"))
        }
        (several, Some(_)) => {
            let message = format!("{digits} may mean {several} versions of image {name}");
            Err(Refusal::new(Code::Conflict, message).hint("give more digits"))
        }
    }
}

fn row(blobs: &Blobs, loaded: &Loaded, applied: &Statuses) -> Image {
    let (header, totals) = (loaded.manifest.header(), loaded.manifest.totals());
    let manifest = loaded.seal.manifest().0;
    let chunks = || loaded.contents.iter().flatten();
    let here = chunks().filter(|chunk| blobs.has(&chunk.digest)).count();
    let at = applied.waves.iter().find(|wave| wave.manifest == manifest);
    Image {
        name: header.name.clone(),
        version: Text(manifest),
        queen: header.queen.clone(),
        built: header.created,
        entries: totals.entries,
        bytes: totals.bytes,
        chunks: chunks().count() as u64,
        chunks_here: here as u64,
        applied_at: at.map(|wave| wave.at.clone()),
    }
}

fn shown_entry(manifest: &Manifest, entry: &skep_image::Entry) -> Entry {
    let node = manifest.resolve(entry);
    let metadata = node.node().map(|(metadata, _)| metadata);
    Entry {
        path: entry.path.to_string(),
        kind: kind_of(entry).to_owned(),
        mode: metadata.map_or(0, |metadata| u32::from(metadata.mode)),
        uid: metadata.map_or(0, |metadata| metadata.uid),
        gid: metadata.map_or(0, |metadata| metadata.gid),
        size: node.contents().map_or(0, |contents| contents.size),
    }
}

const fn kind_of(entry: &skep_image::Entry) -> &'static str {
    match entry.node() {
        None => "hard-link",
        Some((_, Node::File(_))) => "file",
        Some((_, Node::Directory)) => "directory",
        Some((_, Node::Symlink(_))) => "symlink",
        Some((_, Node::Fifo)) => "fifo",
        Some((_, Node::CharDevice { .. } | Node::BlockDevice { .. })) => "device",
    }
}

fn internal(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Code::Internal, chain(error)).hint("the agent's log says more")
}

#[cfg(test)]
mod tests {
    use super::super::ledger::tests::{order, status};
    use super::*;
    use bytes::Bytes;
    use skep_base::NodeId;
    use skep_records::kind;
    use skep_wave::{Orders, SCHEMA};

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; NodeId::LEN])
    }

    fn flock(nodes: u8) -> Facts {
        let mut facts = Facts::new(node(1));
        for number in 1..=nodes {
            let name: NodeName = format!("n{number}").parse().unwrap();
            let certificate = (kind::CERTIFICATE, 1);
            facts.record(node(number), certificate, Some(&Bytes::new()), |_| {
                Some((name, number == 1))
            });
            facts.presence(node(number), true);
        }
        let waves = vec![order(1, "/a"), order(2, "/a"), order(3, "/b")];
        let body: Bytes = Orders { waves }.to_body().into();
        facts.record(node(1), (kind::WAVE_ORDER, SCHEMA), Some(&body), |_| None);
        facts
    }

    fn says(facts: &mut Facts, number: u8, step: Step) {
        let mut statuses = Statuses::default();
        statuses.note(status(node(1), &order(2, "/a"), step));
        let body: Bytes = statuses.to_body().into();
        facts.record(node(number), (kind::WAVE_STATUS, SCHEMA), Some(&body), |_| None);
    }

    const KEY: fn() -> WaveKey = || WaveKey { queen: node(1), number: 2 };

    #[test]
    fn a_wave_is_done_when_all_that_are_present_have_it() {
        let mut facts = flock(3);
        let state = |facts: &Facts| wave(facts, KEY(), WallTime::default()).unwrap().state;
        assert_eq!(state(&facts), WaveState::Running);
        says(&mut facts, 1, Step::Done);
        says(&mut facts, 2, Step::Done);
        assert_eq!(state(&facts), WaveState::Running);
        facts.presence(node(3), false);
        assert_eq!(state(&facts), WaveState::Done);
        facts.presence(node(3), true);
        says(&mut facts, 3, Step::Failed);
        assert_eq!(state(&facts), WaveState::Failed);
        says(&mut facts, 3, Step::Done);
        let row = wave(&facts, KEY(), WallTime::default()).unwrap();
        assert_eq!((row.state, row.done, row.targets), (WaveState::Done, 3, 3));
        assert_eq!(row.queen_bytes, 300);
        let older = WaveKey { queen: node(1), number: 1 };
        let row = wave(&facts, older, WallTime::default()).unwrap();
        assert_eq!(row.state, WaveState::Superseded);
    }

    #[test]
    fn waves_are_found_by_what_means_one_alone() {
        let facts = flock(2);
        let find = |text: &str| find_wave(&facts, &WaveId(text.to_owned()));
        assert_eq!(find("n1:2").unwrap(), KEY());
        assert_eq!(find("2").unwrap(), KEY());
        assert_eq!(find("n1:").unwrap_err().code, Code::Conflict);
        assert_eq!(find("n9").unwrap_err().code, Code::NotFound);
    }

    #[test]
    fn each_target_is_listed_by_name_also_before_it_says_anything() {
        let mut facts = flock(3);
        says(&mut facts, 2, Step::Fetching);
        let detail = detail(&facts, KEY(), WallTime::from_unix_ms(100)).unwrap();
        let steps: Vec<(String, WaveStep)> =
            detail.nodes.iter().map(|node| (node.node.to_string(), node.step)).collect();
        let expected =
            [("n1", WaveStep::Waiting), ("n2", WaveStep::Fetching), ("n3", WaveStep::Waiting)];
        assert_eq!(steps, expected.map(|(name, step)| (name.to_owned(), step)));
    }
}
