//! Whole TLS handshakes in memory: who links with whom, and what is said of those who do not.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Bloc, DAY, START, TestClock, address, after, bloc, node};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection};
use skep_identity::message::Message;
use skep_identity::tls::{self, Refusal, Settings};
use skep_identity::{
    CertError, Identity, IdentityHandle, IssueRequest, Joining, Renewing, ShownError, SigningKey,
};

/// Both ends of a connection, and what each said when it failed.
struct Pair {
    client: ClientConnection,
    server: ServerConnection,
    client_error: Option<Refusal>,
    server_error: Option<Refusal>,
}

fn connect(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Pair {
    let mut pair = Pair {
        client: ClientConnection::new(client, tls::server_name(None, address())).unwrap(),
        server: ServerConnection::new(server).unwrap(),
        client_error: None,
        server_error: None,
    };
    pair.pump();
    pair
}

impl Pair {
    /// Carries bytes to and fro until neither side has any.
    fn pump(&mut self) {
        loop {
            let mut wire = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut wire).unwrap();
            }
            let forth = wire.len();
            self.server.read_tls(&mut &*wire).unwrap();
            if let Err(error) = self.server.process_new_packets() {
                self.server_error.get_or_insert(Refusal::from(&error));
            }
            let mut wire = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut wire).unwrap();
            }
            let back = wire.len();
            self.client.read_tls(&mut &*wire).unwrap();
            if let Err(error) = self.client.process_new_packets() {
                self.client_error.get_or_insert(Refusal::from(&error));
            }
            let failed = self.client_error.is_some() || self.server_error.is_some();
            if forth + back == 0 || (failed && forth == 0) {
                return;
            }
        }
    }

    fn stands(&self) -> bool {
        self.client_error.is_none()
            && self.server_error.is_none()
            && !self.client.is_handshaking()
            && !self.server.is_handshaking()
    }
}

struct Node {
    handle: IdentityHandle,
    settings: Settings,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn start(identity: Identity, clock: &TestClock) -> Node {
    let handle = IdentityHandle::new(identity);
    let settings = Settings::new(clock.clock());
    Node {
        server: tls::server_config(&handle, &settings).unwrap(),
        client: tls::client_config(&handle, &settings).unwrap(),
        handle,
        settings,
    }
}

fn link(client: &Node, server: &Node) -> Pair {
    connect(Arc::clone(&client.client), Arc::clone(&server.server))
}

fn two(bloc: &Bloc, clock: &TestClock) -> (Node, Node) {
    (start(bloc.node("a"), clock), start(bloc.node("b.rack-1"), clock))
}

fn refused(refusal: Option<Refusal>) -> CertError {
    match refusal {
        Some(Refusal::Certificate(error)) => error,
        other => panic!("a certificate should have been refused, but: {other:?}"),
    }
}

#[test]
fn members_link_and_learn_who_the_other_is() {
    let (bloc, clock) = (bloc("example.com"), TestClock::new());
    let (a, b) = two(&bloc, &clock);
    let mut pair = link(&a, &b);
    assert!(pair.stands());
    assert_eq!(pair.client.alpn_protocol(), Some(tls::ALPN));
    assert_eq!(pair.client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let (seen, der) = tls::peer(&pair.client, &a.handle, &a.settings).unwrap();
    assert_eq!(seen.node, node("b.rack-1"));
    assert_eq!(&*der, b.handle.current().certificate_der());
    let (seen, _) = tls::peer(&pair.server, &b.handle, &b.settings).unwrap();
    assert_eq!(seen, *a.handle.current().info());

    pair.client.writer().write_all(b"over the wire").unwrap();
    pair.pump();
    let mut got = [0; 13];
    pair.server.reader().read_exact(&mut got).unwrap();
    assert_eq!(&got, b"over the wire");
}

#[test]
fn another_bloc_is_refused_by_name() {
    let clock = TestClock::new();
    let (ours, theirs) = (bloc("example"), bloc("elsewhere"));
    let (a, b) = (start(ours.node("a"), &clock), start(theirs.node("b"), &clock));
    let pair = link(&a, &b);
    let error = refused(pair.client_error);
    assert!(matches!(error, CertError::WrongBloc { .. }));
    assert_eq!(error.to_string(), "node b is of bloc elsewhere, not of ours, example");
    assert!(matches!(pair.server_error, Some(Refusal::ByPeer(_))));
}

#[test]
fn a_client_of_another_bloc_is_refused_by_the_server_too() {
    let clock = TestClock::new();
    let (ours, theirs) = (bloc("example"), bloc("elsewhere"));
    let server = start(ours.node("a"), &clock);
    let stranger = start(theirs.node("b"), &clock);
    // The stranger believes the server: only the server's own judgement is left.
    let gullible = ClientConfig::builder_with_details(
        Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        Arc::new(rustls::time_provider::DefaultTimeProvider),
    )
    .with_protocol_versions(&[&rustls::version::TLS13])
    .unwrap();
    let mut gullible = gullible
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(common_verifier::BelieveAll))
        .with_client_cert_resolver(Arc::clone(&stranger.client.client_auth_cert_resolver));
    gullible.alpn_protocols = vec![tls::ALPN.to_vec()];
    let pair = connect(Arc::new(gullible), Arc::clone(&server.server));
    let error = refused(pair.server_error);
    assert!(matches!(error, CertError::WrongBloc { ref node, .. } if node.as_str() == "b"));
    assert!(matches!(pair.client_error, Some(Refusal::ByPeer(_))));
}

#[test]
fn the_right_bloc_name_from_another_ca_is_refused() {
    let clock = TestClock::new();
    let (ours, forged) = (bloc("example"), bloc("example"));
    let (a, b) = (start(ours.node("a"), &clock), start(forged.node("b"), &clock));
    let error = refused(link(&a, &b).client_error);
    assert!(matches!(error, CertError::ForeignCa { ref node, .. } if node.as_str() == "b"));
    assert!(error.to_string().contains("skep cert show"));
}

#[test]
fn an_expired_node_links_in_its_grace_marked_and_not_beyond() {
    let (bloc, clock) = (bloc("example"), TestClock::new());
    let (a, b) = two(&bloc, &clock);
    clock.set(after(DAY * 36));
    let pair = link(&a, &b);
    assert!(pair.stands());
    let (seen, _) = tls::peer(&pair.client, &a.handle, &a.settings).unwrap();
    assert!(seen.is_expired(after(DAY * 36)) && !seen.is_expired(after(DAY * 30)));

    // A session that stands is judged anew whenever it is asked about.
    clock.set(after(DAY * 38));
    assert!(matches!(
        tls::peer(&pair.client, &a.handle, &a.settings),
        Err(Refusal::Certificate(CertError::Expired { .. }))
    ));
    let error = refused(start_anew(&a, &clock, &b).client_error);
    let text = error.to_string();
    assert!(matches!(error, CertError::Expired { .. }));
    assert!(text.contains("b.rack-1") && text.contains("8 days ago"), "{text}");
}

fn start_anew(a: &Node, clock: &TestClock, b: &Node) -> Pair {
    let settings = Settings::new(clock.clock());
    let client = tls::client_config(&a.handle, &settings).unwrap();
    connect(client, Arc::clone(&b.server))
}

#[test]
fn a_certificate_from_the_future_is_refused_beyond_the_grace() {
    let (bloc, clock) = (bloc("example"), TestClock::new());
    let (a, b) = two(&bloc, &clock);
    let back = |span: Duration| {
        skep_base::WallTime::from_unix_ms(START.unix_ms - u64::try_from(span.as_millis()).unwrap())
    };
    clock.set(back(DAY * 8));
    let error = refused(link(&a, &b).client_error);
    assert!(matches!(error, CertError::NotYetValid { .. }));
    assert!(error.to_string().contains("clock"));
    clock.set(back(DAY));
    assert!(link(&a, &b).stands());
}

#[test]
fn whoever_shows_no_certificate_is_refused() {
    let (bloc, clock) = (bloc("example"), TestClock::new());
    let (_, b) = two(&bloc, &clock);
    let mut bare = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(common_verifier::BelieveAll))
        .with_no_client_auth();
    bare.alpn_protocols = vec![tls::ALPN.to_vec()];
    let pair = connect(Arc::new(bare), Arc::clone(&b.server));
    assert!(matches!(pair.server_error, Some(Refusal::NoCertificate)));
}

#[test]
fn a_certificate_that_is_not_ours_is_refused() {
    let (bloc, clock) = (bloc("example"), TestClock::new());
    let (a, _) = two(&bloc, &clock);
    // A web server's certificate, self-signed, with another kind of key.
    let made = rcgen::generate_simple_self_signed(["web.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut web = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    web.alpn_protocols = vec![tls::ALPN.to_vec()];
    // Its key is of no kind that we offer to check: the handshake ends before it is shown.
    let pair = connect(Arc::clone(&a.client), Arc::new(web));
    assert!(matches!(pair.server_error, Some(Refusal::Tls(_))));

    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = rcgen::CertificateParams::new(["web.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut web = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    web.alpn_protocols = vec![tls::ALPN.to_vec()];
    let pair = connect(Arc::clone(&a.client), Arc::new(web));
    assert!(matches!(refused(pair.client_error), CertError::NotOurs { .. }));
}

#[test]
fn members_do_not_speak_other_protocols() {
    let (bloc, clock) = (bloc("example"), TestClock::new());
    let (a, b) = two(&bloc, &clock);
    let mut other = (*a.client).clone();
    other.alpn_protocols = vec![b"h2".to_vec()];
    let pair = connect(Arc::new(other), Arc::clone(&b.server));
    assert!(matches!(pair.server_error, Some(Refusal::Protocol)));
    assert!(matches!(pair.client_error, Some(Refusal::Protocol)));
}

#[test]
fn sessions_are_resumed_and_judged_all_the_same() {
    let (bloc, clock) = (bloc("example"), TestClock::new());
    let (a, b) = two(&bloc, &clock);
    assert_eq!(link(&a, &b).client.handshake_kind(), Some(HandshakeKind::Full));
    let again = link(&a, &b);
    assert_eq!(again.client.handshake_kind(), Some(HandshakeKind::Resumed));
    let (seen, _) = tls::peer(&again.server, &b.handle, &b.settings).unwrap();
    assert_eq!(seen.node, node("a"));
    let (seen, _) = tls::peer(&again.client, &a.handle, &a.settings).unwrap();
    assert_eq!(seen.node, node("b.rack-1"));
}

#[test]
fn renewal_changes_new_links_and_leaves_those_that_stand() {
    let (bloc, clock) = (bloc("example"), TestClock::new());
    let (a, b) = two(&bloc, &clock);
    let mut standing = link(&a, &b);
    assert!(standing.stands());
    let due = a.handle.current().info().renew_at();
    assert_eq!(due, after(DAY * 20));
    clock.set(due);

    let told = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let watch = a.handle.watch({
        let told = Arc::clone(&told);
        move |new| {
            assert_eq!(new.info().node, node("a"));
            told.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    let renewing = Renewing::begin(&a.handle.current()).unwrap();
    let Message::Renew(request) = renewing.request() else {
        panic!("not a renewal");
    };
    let (peer, _) = tls::peer(&standing.server, &b.handle, &b.settings).unwrap();
    let answer = bloc.ca.answer_renewal(&peer, &request, due);
    a.handle.replace(renewing.finish(answer).unwrap()).unwrap();
    assert_eq!(told.load(std::sync::atomic::Ordering::SeqCst), 1);
    drop(watch);

    standing.client.writer().write_all(b"still here").unwrap();
    standing.pump();
    let mut got = [0; 10];
    standing.server.reader().read_exact(&mut got).unwrap();

    let fresh = start_anew(&a, &clock, &b);
    let (seen, _) = tls::peer(&fresh.server, &b.handle, &b.settings).unwrap();
    assert_eq!(seen.not_after, after(DAY * 50));
    assert_eq!(seen.hash, a.handle.current().info().hash);
    assert!(a.handle.replace(bloc.node("c")).is_err());
    assert_eq!(told.load(std::sync::atomic::Ordering::SeqCst), 1, "nobody watches any more");
}

#[test]
fn a_next_certificate_is_shown_over_the_link_that_stands_and_over_no_other() {
    let (bloc, clock) = (bloc("example"), TestClock::new());
    let (a, b) = two(&bloc, &clock);
    let (link_one, link_two) = (link(&a, &b), link(&a, &b));
    let channel = |pair: &Pair| tls::channel(&pair.server).unwrap();
    assert_eq!(tls::channel(&link_one.client).unwrap(), channel(&link_one));
    assert_ne!(channel(&link_one), channel(&link_two));
    let (peer, _) = tls::peer(&link_one.server, &b.handle, &b.settings).unwrap();
    let trust = b.handle.current().trust().clone();
    let replacement = |name: &str, at| {
        let request = IssueRequest { replace: true, ..IssueRequest::new(node(name)) };
        bloc.ca.issue(&request, at).unwrap()
    };
    let shown = |identity: &Identity, channel| match identity.show(&channel) {
        Message::Shown(shown) => shown,
        other @ (Message::Join(_)
        | Message::Renew(_)
        | Message::Granted(_)
        | Message::Founded(_)
        | Message::Denied(_)) => panic!("{other:?}"),
    };
    let now = after(DAY * 20);
    let next = replacement("a", now);

    let judged = shown(&next, channel(&link_one)).judge(&peer, &channel(&link_one), &trust, now);
    assert_eq!(judged.as_ref(), Ok(next.info()));
    // Overheard nowhere and carried elsewhere, it is worth nothing.
    let carried = shown(&next, channel(&link_two)).judge(&peer, &channel(&link_one), &trust, now);
    assert_eq!(carried, Err(ShownError::Proof { node: node("a") }));
    let mut robbed = shown(&next, channel(&link_one));
    robbed.proof = shown(&a.handle.current(), channel(&link_one)).proof;
    let robbed = robbed.judge(&peer, &channel(&link_one), &trust, now);
    assert_eq!(robbed, Err(ShownError::Proof { node: node("a") }));
    let other = shown(&replacement("c", now), channel(&link_one));
    let other = other.judge(&peer, &channel(&link_one), &trust, now);
    assert_eq!(other, Err(ShownError::WrongNode { node: node("a"), found: node("c") }));
    let same = shown(&a.handle.current(), channel(&link_one));
    let same = same.judge(&peer, &channel(&link_one), &trust, now);
    assert_eq!(same, Err(ShownError::Older { node: node("a") }));
    // What is shown is to be fresh: there is no grace for it.
    let late = shown(&next, channel(&link_one));
    let late = late.judge(&peer, &channel(&link_one), &trust, after(DAY * 51));
    assert!(
        matches!(
            late,
            Err(ShownError::Certificate(CertError::NotYetValid { .. } | CertError::Expired { .. }))
        ),
        "{late:?}"
    );
}

#[test]
fn a_node_in_its_grace_lets_nobody_else_in() {
    let (bloc, clock) = (bloc("example"), TestClock::new());
    let server = start(bloc.node("a"), &clock);
    let accept = tls::enrolment_server_config(&server.handle, &clock.clock()).unwrap();
    let dial = tls::enrolment_client_config(bloc.ca.bloc(), bloc.ca.fingerprint(), &clock.clock());
    let dial = dial.unwrap();
    assert!(connect(Arc::clone(&dial), Arc::clone(&accept)).stands());
    clock.set(after(DAY * 31));
    let pair = connect(dial, accept);
    assert!(matches!(refused(pair.client_error), CertError::Expired { .. }));
}

#[test]
fn a_new_machine_joins_over_a_pinned_connection() {
    let (bloc, clock) = (bloc("example"), TestClock::new());
    let server = start(bloc.node("a"), &clock);
    let invitation = bloc
        .ca
        .invite(
            skep_identity::InviteRequest {
                terms: skep_identity::Terms::default(),
                addresses: vec![address()],
                life: DAY,
            },
            START,
        )
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let joining = Joining::begin(dir.path(), invitation.clone(), Some(node("new-1"))).unwrap();
    let accept = tls::enrolment_server_config(&server.handle, &clock.clock()).unwrap();
    // The new machine's clock was never set.
    let unset: tls::Clock = Arc::new(|| skep_base::WallTime::from_unix_ms(0));
    let dial =
        tls::enrolment_client_config(&invitation.bloc, invitation.ca_fingerprint, &unset).unwrap();
    let mut pair = connect(dial, Arc::clone(&accept));
    assert!(pair.stands());
    assert_eq!(pair.server.alpn_protocol(), Some(tls::ALPN_JOIN));

    let request = joining.request().unwrap().encode();
    pair.client.writer().write_all(&request).unwrap();
    pair.pump();
    let mut got = vec![0; request.len()];
    pair.server.reader().read_exact(&mut got).unwrap();
    let Ok(Message::Join(request)) = Message::decode(&got) else {
        panic!("not a join request");
    };
    let answer = bloc.ca.answer_join(&request, START);
    joining.finish(answer).unwrap();
    let member = start(Identity::load(dir.path()).unwrap(), &clock);
    assert!(link(&member, &server).stands());
    assert!(link(&server, &member).stands());
}

#[test]
fn joining_believes_no_other_ca_bloc_or_stranger() {
    let clock = TestClock::new();
    let (ours, forged) = (bloc("example"), bloc("example"));
    let fingerprint = ours.ca.fingerprint();
    let pinned = |bloc: &str| {
        tls::enrolment_client_config(&bloc.parse().unwrap(), fingerprint, &clock.clock()).unwrap()
    };
    let accept = |bloc: &Bloc| {
        let handle = IdentityHandle::new(bloc.node("a"));
        tls::enrolment_server_config(&handle, &clock.clock()).unwrap()
    };
    let pair = connect(pinned("example"), accept(&forged));
    assert!(matches!(refused(pair.client_error), CertError::NotOurs { .. }));
    let pair = connect(pinned("elsewhere"), accept(&ours));
    assert!(matches!(refused(pair.client_error), CertError::WrongBloc { .. }));

    // The real CA's certificate is public: showing it beside one's own proves nothing.
    let key = SigningKey::generate().unwrap();
    let claimed =
        forged.ca.issue_for_key(&IssueRequest::new(node("x")), key.public(), START).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let forger = Identity::new(claimed.clone(), key, forged.ca.trust().clone()).unwrap();
    forger.store(dir.path()).unwrap();
    let pem = std::fs::read(dir.path().join(skep_identity::KEY_FILE)).unwrap();
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(&pem).unwrap();
    let real = rustls::pki_types::CertificateDer::from(ours.ca.certificate_der().to_vec());
    let mut mixed = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_single_cert(vec![claimed, real], key)
        .unwrap();
    mixed.alpn_protocols = vec![tls::ALPN_JOIN.to_vec()];
    let pair = connect(pinned("example"), Arc::new(mixed));
    assert!(matches!(refused(pair.client_error), CertError::ForeignCa { .. }));
}

#[test]
fn a_member_is_told_apart_from_a_joining_node_by_protocol() {
    let (bloc, clock) = (bloc("example"), TestClock::new());
    let (a, b) = two(&bloc, &clock);
    let accept = tls::enrolment_server_config(&b.handle, &clock.clock()).unwrap();
    let pair = connect(Arc::clone(&a.client), accept);
    assert!(matches!(pair.client_error, Some(Refusal::Protocol)));
}

#[test]
fn reasons_are_found_inside_a_stream_s_errors() {
    let error = rustls::Error::NoCertificatesPresented;
    let wrapped = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    assert!(matches!(Refusal::of_io(&wrapped), Some(Refusal::NoCertificate)));
    let plain = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    assert!(Refusal::of_io(&plain).is_none());
}

/// A client that does not care who answers, as an attacker's would not.
mod common_verifier {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(crate) struct BelieveAll;

    impl ServerCertVerifier for BelieveAll {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }
    }
}
