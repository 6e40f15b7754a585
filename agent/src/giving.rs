//! Giving peers the pieces of large bodies that they ask for, over the bulk lane.
//!
//! One task for each bulk link reads what was asked for from the disk, a few pieces at a time, and
//! queues each when there is room for it: so a body of any length takes little memory however many
//! peers want it, and a peer that takes slowly delays nobody.
//!
//! Who asks makes the link, by whichever way leads there ([`crate::reach`]); what is asked for
//! meanwhile waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use bytes::Bytes;
use skep_base::{GroupName, NodeId, Time, tree};
use skep_flood::message::{Message, Packet, leaves_head, piece_head};
use skep_flood::{Output, Position, UpdateId};
use skep_store::log::BodyFile;
use skep_transport::{LinkId, TransportHandle};
use skep_wire::{frame_head, kind};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::disk::BodyReader;
use crate::reach::Relays;
use crate::spine::Spine;

/// Requests of one peer that may wait: more than a machine asks for at a time, for all its bodies.
const MAX_WAITING: usize = 64;
/// Peers whose requests may wait for a link.
const MAX_PEERS: usize = 256;
/// How long a request waits for a link; by then another holder was asked.
const PATIENCE: Duration = Duration::from_secs(10);
/// After this long another link may be tried.
const LINK_AGAIN: Duration = Duration::from_secs(3);
/// Pieces that are read at once.
const READ_PIECES: u32 = 4;

/// What a peer wants of a body.
#[derive(Clone, Debug)]
struct Wanted {
    group: GroupName,
    id: UpdateId,
    position: Position,
    length: u64,
    leaves: bool,
    first: u32,
    end: u32,
}

/// The tasks, and who waits for a link.
#[derive(Default)]
pub struct Giving {
    givers: BTreeMap<LinkId, Giver>,
    waiting: BTreeMap<NodeId, VecDeque<(Time, Wanted)>>,
    /// To whom links are being made, and since when.
    linking: BTreeMap<NodeId, Time>,
}

struct Giver {
    wants: mpsc::Sender<Wanted>,
    /// Ends with the link.
    _task: AbortOnDropHandle<()>,
}

impl Spine {
    /// Gives a peer what it asked for, as soon as there is a bulk link to it.
    pub(crate) fn give(&mut self, output: Output) {
        let Output::Serve { to, group, id, position, length, leaves, first, end } = output else {
            return;
        };
        let wanted = Wanted { group, id, position, length, leaves, first, end };
        let now = self.clock.now();
        if let Some(link) = self.bulk_link(to) {
            return self.give_over(link, wanted);
        }
        let waiting = &mut self.giving.waiting;
        waiting.retain(|_, wants| wants.back().is_some_and(|(since, _)| *since + PATIENCE > now));
        if waiting.len() < MAX_PEERS || waiting.contains_key(&to) {
            let wants = waiting.entry(to).or_default();
            wants.push_back((now, wanted));
            while wants.len() > MAX_WAITING {
                wants.pop_front();
            }
        }
    }

    /// Sees to it that there will be a bulk link to a peer.
    pub(crate) fn need_bulk(&mut self, peer: NodeId) {
        let now = self.clock.now();
        let recent = self.giving.linking.get(&peer).is_some_and(|at| *at + LINK_AGAIN > now);
        if recent || self.bulk_link(peer).is_some() {
            return;
        }
        self.giving.linking.retain(|_, at| *at + LINK_AGAIN > now);
        self.giving.linking.insert(peer, now);
        let reach = self.reach.clone();
        tokio::spawn(async move {
            // Pieces are asked of neighbours, which a connection leads to, one way or the other.
            if let Err(why) = reach.link_to(peer, Relays::Spared).await {
                tracing::debug!(%peer, %why, "no bulk link for large updates");
            }
        });
    }

    /// A bulk link is up: what waited for it is given.
    pub(crate) fn bulk_up(&mut self, link: LinkId, peer: NodeId) {
        self.giving.linking.remove(&peer);
        let now = self.clock.now();
        for (since, wanted) in self.giving.waiting.remove(&peer).unwrap_or_default() {
            if since + PATIENCE > now {
                self.give_over(link, wanted);
            }
        }
    }

    /// A bulk link is down.
    pub(crate) fn bulk_down(&mut self, link: LinkId) {
        self.giving.givers.remove(&link);
    }

    fn bulk_link(&self, peer: NodeId) -> Option<LinkId> {
        self.bulk_links.iter().find(|(_, other)| **other == peer).map(|(link, _)| *link)
    }

    fn give_over(&mut self, link: LinkId, wanted: Wanted) {
        let giver = self.giving.givers.entry(link).or_insert_with(|| {
            let (wants, inbox) = mpsc::channel(MAX_WAITING);
            let task = give(self.transport.clone(), link, self.disk.reader(), inbox);
            Giver { wants, _task: AbortOnDropHandle::new(tokio::spawn(task)) }
        });
        if giver.wants.try_send(wanted).is_err() {
            tracing::debug!(%link, "a peer asks for more pieces than may wait");
        }
    }
}

/// Gives what is asked for until the link is down.
async fn give(
    transport: TransportHandle,
    link: LinkId,
    disk: BodyReader,
    mut inbox: mpsc::Receiver<Wanted>,
) {
    while let Some(wanted) = inbox.recv().await {
        let Some(mut body) = disk.open(wanted.position).await else {
            let Wanted { group, id, .. } = wanted;
            let missing = Packet::bare(Message::Missing { group, id }).to_bytes();
            let mut frame = frame_head(kind::FLOOD, missing.len()).to_vec();
            frame.extend_from_slice(&missing);
            if transport.send(link, frame.into()).is_err() {
                return;
            }
            continue;
        };
        let (mut first, mut leaves) = (wanted.first, wanted.leaves);
        while first < wanted.end {
            let end = wanted.end.min(first + READ_PIECES);
            let job = wanted.clone();
            let read = tokio::task::spawn_blocking(move || {
                let frames = frames(&mut body, &job, leaves, first..end);
                (body, frames)
            });
            let Ok((back, frames)) = read.await else {
                return;
            };
            body = back;
            let frames = match frames {
                Ok(frames) => frames,
                Err(error) => {
                    tracing::warn!(id = %wanted.id, %error, "cannot read a large update");
                    break;
                }
            };
            for frame in frames {
                let sent = match transport.room(link, frame.len()).await {
                    Ok(()) => transport.send(link, frame),
                    Err(down) => Err(down),
                };
                if sent.is_err() {
                    return;
                }
            }
            (first, leaves) = (end, false);
        }
    }
}

/// Frames with the leaves, if they are wanted, and pieces of a body.
fn frames(
    body: &mut BodyFile,
    wanted: &Wanted,
    leaves: bool,
    pieces: std::ops::Range<u32>,
) -> std::io::Result<Vec<Bytes>> {
    let Wanted { group, id, length, .. } = wanted;
    let mut frames = Vec::new();
    if leaves {
        let bytes = tree::pieces(*length) as usize * skep_base::Digest::LEN;
        frames.push(frame(body, leaves_head(group, *id, bytes), *length, bytes)?);
    }
    for piece in pieces {
        let bytes = tree::piece_bytes(*length, piece).unwrap_or(0);
        let head = piece_head(group, *id, piece, bytes);
        frames.push(frame(body, head, tree::piece_offset(piece), bytes)?);
    }
    Ok(frames)
}

/// A frame with so many bytes from a place of a file, read to where they stay.
fn frame(body: &mut BodyFile, head: Vec<u8>, from: u64, bytes: usize) -> std::io::Result<Bytes> {
    let whole = head.len() + bytes;
    let start = frame_head(kind::FLOOD, whole);
    let mut frame = Vec::with_capacity(start.len() + whole);
    frame.extend_from_slice(&start);
    frame.extend_from_slice(&head);
    match body {
        BodyFile::Bytes(all) => {
            let from = usize::try_from(from).unwrap_or(usize::MAX);
            frame.extend_from_slice(all.get(from..from.saturating_add(bytes)).unwrap_or_default());
        }
        BodyFile::File { file, .. } => read_to(file, from, bytes, &mut frame)?,
    }
    if frame.len() != start.len() + whole {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame.into())
}

fn read_to(file: &mut File, from: u64, bytes: usize, out: &mut Vec<u8>) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    file.take(bytes as u64).read_to_end(out).map(|_| ())
}
