//! What the transport tells the main loop: links that are up or down, frames, dials that failed.

use skep_control::api::EventKind;
use skep_node::{DialId, DownReason, Goodbye, Input, LinkId, Peer};
use skep_wire::Lane;
use tokio::sync::mpsc;

use super::words::{dial_failure, down_reason};
use super::{BATCH, LinkNote, Spine};
use crate::certificates::Worth;

impl Spine {
    /// Handles an event and those that wait behind it, then sends what they all led to. Says how
    /// many they were.
    pub(super) async fn transport_batch(
        &mut self,
        first: skep_transport::Event,
        more: &mut mpsc::Receiver<skep_transport::Event>,
    ) -> usize {
        let mut next = Some(first);
        let mut handled = 0;
        while handled < BATCH {
            let Some(event) = next else { break };
            self.transport_event(event);
            self.drain_outbox().await;
            handled += 1;
            next = more.try_recv().ok();
        }
        // What was taken from the queue last is not lost when the batch is full.
        if let Some(event) = next {
            self.transport_event(event);
            self.drain_outbox().await;
            handled += 1;
        }
        self.note_flock();
        self.flush();
        handled
    }

    fn transport_event(&mut self, event: skep_transport::Event) {
        use skep_transport::Event as Happened;
        match event {
            Happened::LinkUp { link, peer, remote, .. } if self.is_expelled(&peer.cert) => {
                let why = format!("{} is expelled by the catalog", peer.cert.node);
                self.note(EventKind::Refused { remote: remote.to_string(), why });
                self.transport.close(link, crate::catalog::EXPELLED);
            }
            Happened::StreamUp { peer, .. } if self.is_expelled(&peer.cert) => {}
            Happened::LinkUp { link, lane: Lane::Control, peer, dialled, remote } => {
                let id = LinkId(link.number());
                let name = peer.cert.node.clone();
                let (certificate, channel) = (peer.cert.clone(), peer.channel);
                let worth = self.worth(&certificate);
                let note = LinkNote {
                    name: name.clone(),
                    remote,
                    certificate,
                    channel,
                    worth: Worth::Full,
                };
                self.links.insert(id, note);
                if worth != Worth::Full {
                    self.restrict(id, worth);
                }
                let peer = Peer {
                    id: peer.cert.id,
                    name,
                    incarnation: peer.hello.incarnation,
                    nonce: peer.hello.nonce,
                    addresses: peer.hello.addresses.clone(),
                    dialled: dialled.map(|dial| DialId(dial.0)),
                    remote,
                };
                let who = peer.id;
                self.take(Input::LinkUp { link: id, peer });
                self.link_serves_certificates(id, who);
            }
            Happened::LinkUp { link, lane: Lane::Bulk, peer, dialled, remote: _ } => {
                self.bulk_links.insert(link, peer.cert.id);
                self.bulk_up(link, peer.cert.id);
                self.rollout.link_up(link, &peer.cert);
                if let Some(dial) = dialled {
                    self.reach.link_up(dial);
                }
            }
            Happened::Frame { link, frame, credit } => {
                let id = LinkId(link.number());
                if frame.kind == skep_wire::kind::FLOOD
                    && let Some(from) = self.bulk_links.get(&link).copied()
                {
                    let body = frame.body;
                    self.take(Input::Flood(skep_flood::Input::Received { from, body }));
                } else if !self.links.contains_key(&id) {
                    self.rollout.frame(link, frame, credit);
                } else if frame.kind == skep_transport::ENROLMENT_KIND {
                    self.certificate_frame(id, frame.body);
                } else {
                    self.take(Input::Frame { link: id, frame });
                }
            }
            // On this lane nothing comes up but streams.
            Happened::LinkUp { link, lane: Lane::Stream, .. } => {
                self.transport.close(link, "no link");
            }
            Happened::StreamUp { stream, peer, dialled, remote: _ } => {
                self.reach.stream_up(stream, (peer.cert.id, peer.cert.node), dialled);
            }
            Happened::LinkDown { link, why } => {
                let id = LinkId(link.number());
                if let Some(note) = self.links.remove(&id) {
                    if matches!(down_reason(&why), DownReason::Goodbye(Goodbye::NameTaken)) {
                        self.told_by = Some(format!("{} at {}", note.name, note.remote));
                    }
                    self.note(EventKind::LinkDown { node: note.name, why: why.to_string() });
                    self.take(Input::LinkDown { link: id, why: down_reason(&why) });
                } else {
                    self.bulk_links.remove(&link);
                    self.bulk_down(link);
                    self.rollout.link_down(link);
                }
            }
            Happened::DialFailed { dial, why, attempts } => {
                tracing::debug!(dial = dial.0, %why, ?attempts, "dialling came to nothing");
                if self.reach.dial_failed(dial, &why) {
                    return;
                }
                let why = dial_failure(&why);
                self.take(Input::DialFailed { dial: DialId(dial.0), why });
            }
            Happened::Refused { remote, why } => {
                self.note(EventKind::Refused { remote: remote.to_string(), why: why.to_string() });
            }
            Happened::Enrolment { remote, request, reply } => {
                self.enrolment(remote, &request, reply);
            }
        }
    }
}
