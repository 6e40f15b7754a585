//! Certificates in the main loop: asking for ours, answering for the CA, and what a peer's end of a
//! link is worth once its certificate is over (BLOC-36 to BLOC-38).
//!
//! A link whose peer's certificate has expired serves renewal and membership until the peer renews,
//! and nothing else: the node is told to keep updates off it ([`Input::Restrict`]), the transport
//! makes no bulk link, and bulk links that stand are closed. Beyond the grace the link is closed. A
//! peer that renews shows its next certificate over the links that stand
//! ([`skep_identity::message::Shown`]), so that nothing of that is ever needed while all goes well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Time};
use skep_control::api::EventKind;
use skep_identity::message::{Denial, Message, Shown};
use skep_identity::{CertInfo, Validity};
use skep_node::{Input, LinkId};
use skep_records::kind as record;
use skep_wire::{Lane, write_frame};
use tokio::sync::oneshot;

use crate::spine::{ERRAND_DIAL, LinkNote, Spine};

/// How often the dates of peers' certificates are looked at.
const LOOK_AT_DATES: Duration = Duration::from_secs(1);
/// A link that comes up so soon after a renewal may have begun before it.
const HANDSHAKE_LASTS: Duration = Duration::from_secs(30);

/// What the loop remembers of certificates.
#[derive(Default)]
pub struct Certificates {
    /// A request for a certificate that waits for a link to a node that serves the CA.
    asking: Option<Bytes>,
    /// How often it was asked for: with several such nodes another one is asked each time.
    asked: usize,
    /// When ours was last renewed.
    renewed: Option<Time>,
    looked: Option<Time>,
}

/// What a link is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Everything.
    Full,
    /// Renewal and membership: the peer's certificate has expired.
    Grace,
    /// Nothing: it expired beyond the grace.
    Nothing,
}

impl Spine {
    /// What a link is worth whose peer showed `certificate`.
    #[must_use]
    pub fn worth(&self, certificate: &CertInfo) -> Worth {
        match certificate.validity((self.judging.clock)()) {
            Validity::Expired(ago) if ago > self.judging.grace => Worth::Nothing,
            Validity::Expired(_) => Worth::Grace,
            Validity::Valid | Validity::NotYet(_) => Worth::Full,
        }
    }

    /// Sends the request for a certificate to a node that serves the CA: over a link that is there,
    /// else over one that is made for it.
    pub(crate) async fn ask_ca(&mut self, request: Bytes) {
        if let Some(authority) = self.authority.clone() {
            let me = self.identity.current().info().clone();
            if let Some(answer) = authority.answer_renewal(me, request).await {
                self.renewal_answered(answer);
            }
            return;
        }
        self.certificates.asking = Some(request);
        let authorities: Vec<NodeId> =
            self.node.records().of_kind(record::AUTHORITY).map(|(owner, _)| owner).collect();
        let linked: Vec<(LinkId, NodeId)> = authorities
            .iter()
            .filter_map(|authority| {
                let link = self.node.links().find(|link| link.peer == *authority)?;
                Some((link.link, *authority))
            })
            .collect();
        // One that does not answer does not stand in the way of another that would.
        let turn = self.certificates.asked;
        self.certificates.asked = turn.wrapping_add(1);
        if let Some((link, authority)) = linked.get(turn % linked.len().max(1)) {
            self.ask_ca_over(*link, *authority);
        }
        if linked.is_empty() || turn > 0 {
            let missing =
                authorities.into_iter().filter(|who| linked.iter().all(|(_, peer)| peer != who));
            for authority in missing {
                self.dial_authority(authority);
            }
        }
    }

    fn dial_authority(&self, authority: NodeId) {
        let facts = self.node.member_view(authority).and_then(|member| member.facts);
        let addresses: Vec<SocketAddr> = facts
            .map(|facts| facts.addresses.iter().map(|address| address.socket).collect())
            .unwrap_or_default();
        if !addresses.is_empty() {
            // An errand link: let go by itself, as neither end wants it for long.
            let dial = skep_transport::DialId(ERRAND_DIAL);
            self.transport.dial(dial, addresses, Some(authority), Lane::Control);
        }
    }

    /// A control link is up: if a certificate is wanted, it may lead to who can give it; if ours
    /// was renewed a moment ago, the link may have begun with the one before.
    pub(crate) fn link_serves_certificates(&mut self, link: LinkId, peer: NodeId) {
        self.ask_ca_over(link, peer);
        let now = self.clock.now();
        if self.certificates.renewed.is_some_and(|at| now.since(at) < HANDSHAKE_LASTS) {
            self.show_over(link);
        }
    }

    fn ask_ca_over(&mut self, link: LinkId, peer: NodeId) {
        if self.node.stored(peer, record::AUTHORITY).is_some()
            && let Some(request) = self.certificates.asking.take()
        {
            self.say(link, &request);
        }
    }

    /// Our certificate is a new one: records are signed again, and every peer is shown it.
    pub(crate) async fn renewed(&mut self) {
        self.certificates.asking = None;
        self.certificates.renewed = Some(self.clock.now());
        let identity = self.identity.current();
        let not_after = identity.info().not_after;
        let signer = Arc::new(crate::keys::NodeSigner(identity));
        self.feed(Input::Renewed(skep_node::SignerHandle(signer))).await;
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.show_over(link);
        }
        self.note(EventKind::Renewed { not_after });
    }

    fn show_over(&mut self, link: LinkId) {
        if let Some(note) = self.links.get(&link) {
            let shown = self.identity.current().show(&note.channel);
            self.say(link, &shown.encode());
        }
    }

    /// Says something about certificates over a link.
    pub(crate) fn say(&mut self, link: LinkId, message: &[u8]) {
        let frames = self.sends.entry(link).or_default();
        write_frame(skep_transport::ENROLMENT_KIND, message, frames);
        self.flush();
    }

    /// A member asks this node's CA for its next certificate, another node's CA answers, or a peer
    /// shows its next one.
    pub(crate) fn certificate_frame(&mut self, link: LinkId, body: Bytes) {
        match Message::decode(&body) {
            Ok(Message::Renew(_)) => self.answer_renewal(link, body),
            Ok(Message::Granted(_) | Message::Denied(_)) => self.renewal_answered(body),
            Ok(Message::Shown(shown)) => self.shown(link, &shown),
            // Founding tokens go with first certificates, and those over no link.
            Ok(Message::Join(_) | Message::Founded(_)) | Err(_) => {
                if let Some(note) = self.links.get(&link) {
                    tracing::warn!(peer = %note.name, "sent something else than it should here");
                }
            }
        }
    }

    fn answer_renewal(&self, link: LinkId, request: Bytes) {
        let (Some(authority), Some(note)) = (&self.authority, self.links.get(&link)) else {
            return tracing::debug!("asked for a certificate, and does not serve the CA");
        };
        let (authority, peer) = (authority.clone(), note.certificate.clone());
        if self.is_expelled(&peer) {
            return tracing::warn!(node = %peer.node, "asks for a certificate, and is expelled");
        }
        let answers = self.requests.clone();
        tokio::spawn(async move {
            if let Some(answer) = authority.answer_renewal(peer, request).await {
                drop(answers.send(crate::spine::Request::CaAnswers(link, answer)).await);
            }
        });
    }

    fn renewal_answered(&self, answer: Bytes) {
        if self.renewal.try_send(answer).is_err() {
            tracing::debug!("an answer of the CA that nobody waits for");
        }
    }

    /// Somebody without a certificate asks for one.
    pub(crate) fn enrolment(
        &self,
        remote: SocketAddr,
        request: &[u8],
        reply: oneshot::Sender<Bytes>,
    ) {
        let Some(authority) = &self.authority else {
            return;
        };
        let request = Bytes::copy_from_slice(request);
        if let Ok(Message::Join(join)) = Message::decode(&request)
            && self.node.catalog().catalog().expels(&join.node, None)
        {
            tracing::warn!(%remote, node = %join.node, "asks to join, and is expelled");
            let denied = Message::Denied(Denial::Expelled { node: join.node });
            return drop(reply.send(denied.encode().into()));
        }
        authority.answer_join(remote, request, reply);
    }

    fn shown(&mut self, link: LinkId, shown: &Shown) {
        let Some(note) = self.links.get_mut(&link) else {
            return;
        };
        let identity = self.identity.current();
        let now = (self.judging.clock)();
        match shown.judge(&note.certificate, &note.channel, identity.trust(), now) {
            Ok(certificate) => {
                tracing::info!(node = %note.name, "showed its next certificate");
                note.certificate = certificate;
            }
            Err(error) => tracing::warn!(%error, "a certificate that was shown changes nothing"),
        }
        self.look_at(link);
    }

    /// Looks whether certificates of peers have ended meanwhile.
    pub(crate) fn look_at_dates(&mut self) {
        let now = self.clock.now();
        if self.certificates.looked.is_some_and(|at| now.since(at) < LOOK_AT_DATES) {
            return;
        }
        self.certificates.looked = Some(now);
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.look_at(link);
        }
        if self.doubts_its_clock() {
            return;
        }
        let over: Vec<skep_transport::LinkId> = self
            .rollout
            .bulk_links()
            .filter(|(_, certificate)| {
                self.worth(certificate) != Worth::Full && !self.is_fresh(certificate.id)
            })
            .map(|(link, _)| link)
            .collect();
        for link in over {
            self.transport
                .close(link, "your certificate has expired: no bulk link until it is renewed");
        }
    }

    /// Whether a node has shown, over a control link that stands, that its certificate holds.
    fn is_fresh(&self, node: NodeId) -> bool {
        let notes = self.links.values();
        notes
            .filter(|note| note.certificate.id == node)
            .any(|note| self.worth(&note.certificate) == Worth::Full)
    }

    /// By a clock by which our own certificate is over as well, no link that stands is cut: it is
    /// more likely the clock that is wrong. New links are judged all the same.
    fn doubts_its_clock(&self) -> bool {
        self.identity.current().info().is_expired((self.judging.clock)())
    }

    fn look_at(&mut self, link: LinkId) {
        let Some(note) = self.links.get(&link) else {
            return;
        };
        let worth = self.worth(&note.certificate);
        if worth == note.worth || (worth != Worth::Full && self.doubts_its_clock()) {
            return;
        }
        self.restrict(link, worth);
    }

    /// Makes a link worth what it is worth; a new link before it is used at all.
    pub(crate) fn restrict(&mut self, link: LinkId, worth: Worth) {
        let Some(note) = self.links.get_mut(&link) else {
            return;
        };
        note.worth = worth;
        let note = note.clone();
        self.take(Input::Restrict { link, on: worth != Worth::Full });
        match worth {
            Worth::Full => tracing::info!(node = %note.name, "has renewed its certificate"),
            Worth::Grace => self.say_restricted(&note),
            Worth::Nothing => {
                let id = skep_transport::LinkId::from_number(link.0);
                let why = "your certificate expired beyond the grace: give the node a new one with \
                           `skep ca issue` or `skep ca invite`";
                self.transport.close(id, why);
            }
        }
    }

    fn say_restricted(&mut self, note: &LinkNote) {
        let why = format!(
            "the certificate of node {} {}: until it renews, the link to it serves renewal and \
             membership only, no updates and no images",
            note.name,
            crate::renewal::ends(note.certificate.not_after, (self.judging.clock)()),
        );
        tracing::warn!(node = %note.name, remote = %note.remote, "{why}");
        self.note(EventKind::Refused { remote: note.remote.to_string(), why });
    }
}
