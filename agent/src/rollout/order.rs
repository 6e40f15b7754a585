//! Starting a wave as its queen (DLIF-13, DLIF-16).

use std::sync::Arc;

use skep_base::ImageName;
use skep_control::Reply;
use skep_control::api::{Code, Refusal, StartWave, Wave};
use skep_identity::Role;
use skep_records::kind as record;
use skep_store::blobs::Kept;
use skep_wave::{Hosts, Order, check_path};

use super::facts::WaveKey;
use super::ledger::LedgerError;
use super::library;
use super::listing;
use super::store::chain;
use super::task::Task;

/// A version that is ready to be rolled out.
struct Ready {
    version: u64,
    manifest: skep_base::Digest,
    bytes: u64,
    whole: library::Whole,
    /// Until the wave is ordered, nothing of it is pruned.
    _kept: Kept,
}

impl Task {
    /// Orders a wave and answers once the order is on disk and on its way.
    pub(super) fn start_wave(&mut self, wish: StartWave, reply: Reply<Wave>) {
        if let Err(refusal) = self.may_start(&wish) {
            return reply.refuse(refusal);
        }
        let (blobs, identity) = (Arc::clone(&self.blobs), self.identity.current());
        let (image, version) = (wish.image.clone(), wish.version.clone());
        let work = move || {
            let kept = blobs.keep().map_err(|error| {
                Refusal::new(Code::Internal, chain(&error)).hint("the agent's log says more")
            })?;
            let trust = identity.trust();
            let (number, loaded) =
                listing::find_version(&blobs, &image, version.as_deref(), trust)?;
            let chunks = loaded.contents.iter().flatten();
            let missing = chunks.filter(|chunk| !blobs.has(&chunk.digest)).count();
            if missing > 0 {
                return Err(missing_chunks(&image, missing));
            }
            Ok(Ready {
                version: number,
                manifest: loaded.seal.manifest().0,
                bytes: loaded.bytes(),
                whole: library::Whole::of(&loaded),
                _kept: kept,
            })
        };
        self.on_disk(work, move |task, ready| {
            reply.send(ready.and_then(|ready| task.order(wish, ready)));
        });
    }

    fn may_start(&self, wish: &StartWave) -> Result<(), Refusal> {
        let identity = self.identity.current();
        let info = identity.info();
        if !info.roles.contains(Role::Queen) {
            let message = format!("{} is no queen: its certificate lacks the role", info.node);
            return Err(Refusal::new(Code::Denied, message)
                .hint("start the wave on a queen, or issue a certificate with `--role queen`"));
        }
        check_path(&wish.at).map_err(|error| {
            Refusal::new(Code::Refused, format!("{}: {error}", wish.at))
                .hint("give the absolute path that is to become the tree, such as /srv/web")
        })?;
        match wish.to.iter().find(|group| !self.facts.knows_group(group)) {
            None => Ok(()),
            Some(group) => Err(Refusal::new(
                Code::NotFound,
                format!("no node that is known here is in group {group}"),
            )
            .hint("`skep group ls` lists the groups; `all` is every node")),
        }
    }

    fn order(&mut self, wish: StartWave, ready: Ready) -> Result<Wave, Refusal> {
        let own = self.facts.members.get(&self.me);
        let known = own.map_or(0, |own| own.orders.newest());
        let mut ledger = self.lock_ledger();
        let number = ledger.orders().newest().max(known) + 1;
        let mut order = Order {
            number,
            image: wish.image,
            version: ready.version,
            manifest: ready.manifest,
            bytes: ready.bytes,
            groups: wish.to,
            at: wish.at,
            as_user: wish.as_user,
            again: wish.again,
            started: self.clock.wall(),
            hosts: Hosts::of(Vec::new()),
        };
        order.hosts = Hosts::of(self.facts.targets(&order).collect());
        ledger.add_order(order).map_err(|error| refusal(&error))?;
        let orders = ledger.orders().clone();
        drop(ledger);
        self.publish(record::WAVE_ORDER, orders.to_body());
        if let Some(own) = self.facts.members.get_mut(&self.me) {
            own.orders = orders;
        }
        self.serve_whole(ready.manifest, ready.whole);
        let key = WaveKey { queen: self.me, number };
        tracing::info!(wave = %self.wave_id(key), "ordered");
        self.obey();
        self.look_at_states();
        listing::wave(&self.facts, key, self.clock.wall())
            .ok_or_else(|| Refusal::new(Code::Internal, "the wave was ordered and is not listed"))
    }
}

fn refusal(error: &LedgerError) -> Refusal {
    match error {
        LedgerError::Order(error) => Refusal::new(Code::Refused, error.to_string()),
        LedgerError::Write { .. } => {
            Refusal::new(Code::Internal, chain(error)).hint("free space for the state directory")
        }
    }
}

fn missing_chunks(image: &ImageName, missing: usize) -> Refusal {
    let message = format!("{missing} chunks of image {image} are missing on this node");
    Refusal::new(Code::Refused, message).hint("build the image again with `skep image build`")
}
