//! Peers that are strangers, liars, or broken.

use std::sync::Arc;
use std::time::Duration;

use skep_base::WallTime;
use skep_identity::{IdentityHandle, tls};
use skep_transport::{Config, DialFailure, DialId, DownReason, Event, ProtocolFault};
use skep_wire::{FrameError, Hello, Lane, Magic, encode, kind, write_frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bloc::{Bloc, Node, PATIENCE, frame, now, pair, settings};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// A node that does what it likes once TLS is done.
struct Rogue {
    tls: TlsStream<TcpStream>,
}

impl Rogue {
    async fn connect(bloc: &Bloc, name: &str, to: &Node) -> Self {
        let identity = IdentityHandle::new(bloc.identity(name));
        let config = tls::client_config(&identity, &settings()).unwrap();
        let stream = TcpStream::connect(to.address).await.unwrap();
        let server = tls::server_name(None, to.address);
        let tls = TlsConnector::from(config).connect(server, stream).await.unwrap();
        Self { tls }
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.tls.write_all(bytes).await.unwrap();
        self.tls.flush().await.unwrap();
    }

    /// What the other side says until it hangs up.
    async fn hear(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        let hearing = async {
            let mut piece = [0; 4096];
            // An end without a word, or a reset, ends it as well.
            while let Ok(read @ 1..) = self.tls.read(&mut piece).await {
                heard.extend_from_slice(&piece[..read]);
            }
        };
        timeout(PATIENCE, hearing).await.expect("the other side hangs up");
        heard
    }

    /// Makes a proper link, as `hello` describes it.
    async fn greet(&mut self, hello: &Hello) {
        self.say(&hello_frame(hello)).await;
        let mut header = [0; 5];
        self.tls.read_exact(&mut header).await.unwrap();
        let [a, b, c, d, first] = header;
        assert_eq!(first, kind::HELLO);
        let rest = u32::from_be_bytes([a, b, c, d]) - 1;
        let mut body = vec![0; usize::try_from(rest).unwrap()];
        self.tls.read_exact(&mut body).await.unwrap();
    }
}

fn hello_frame(hello: &Hello) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(kind::HELLO, &encode(hello), &mut bytes);
    bytes
}

/// Whatever happened before, a decent peer is let in.
async fn still_serves(bloc: &Bloc, seed: &mut Node) {
    let mut decent = bloc.node("decent");
    decent.dial(1, seed, Lane::Control);
    decent.up().await;
    loop {
        match seed.next().await {
            Event::LinkUp { peer, .. } if peer.cert.id == decent.id => return,
            Event::LinkUp { .. } | Event::LinkDown { .. } | Event::Refused { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn nodes_of_another_bloc_or_ca_are_refused_by_name_on_both_sides() {
    let ours = Bloc::new("ours");
    for (theirs, reason) in [(Bloc::new("theirs"), "wrong-bloc"), (Bloc::new("ours"), "foreign-ca")]
    {
        let (mut seed, mut stranger) = (ours.node("seed"), theirs.node("stranger"));
        // The dialler judges first: it sees whom it reached.
        stranger.transport.dial(DialId(1), vec![seed.address], None, Lane::Control);
        let why = stranger.failed().await.1;
        assert_eq!(why.reason().unwrap().as_str(), reason, "{why}");
        assert!(why.to_string().contains("seed"), "{why}");
        assert_eq!(stranger.count(reason), 1);
        seed.refused("turned-away").await;
        // A stranger that does not care is judged by the acceptor.
        let config = {
            let identity = IdentityHandle::new(theirs.identity("stranger"));
            let mut config = (*tls::client_config(&identity, &settings()).unwrap()).clone();
            config.dangerous().set_certificate_verifier(Arc::new(credulous::AnyServer));
            Arc::new(config)
        };
        let stream = TcpStream::connect(seed.address).await.unwrap();
        let name = tls::server_name(None, seed.address);
        let mut tls = TlsConnector::from(config).connect(name, stream).await.unwrap();
        let mut nothing = [0; 1];
        assert!(tls.read(&mut nothing).await.is_err(), "an alert, not a talk");
        let text = seed.refused(reason).await;
        assert!(text.contains("stranger"), "{text}");
        assert_eq!(seed.count(reason), 1);
        still_serves(&ours, &mut seed).await;
    }
}

#[tokio::test]
async fn a_certificate_expired_beyond_the_grace_is_refused_and_one_within_it_is_not() {
    let bloc = Bloc::new("example");
    let issued = WallTime::from_unix_ms(now().unix_ms - 60 * DAY_MS);
    for (grace_days, accepted) in [(1, false), (200, true)] {
        let grace = Duration::from_secs(grace_days * DAY_MS / 1000);
        let lenient = tls::Settings { grace: Duration::from_secs(300 * 24 * 3600), ..settings() };
        let judging = tls::Settings { grace, ..settings() };
        let identity = |name: &str| IdentityHandle::new(bloc.identity_made(name, now()));
        let stale = IdentityHandle::new(bloc.identity_made("stale", issued));
        assert!(stale.current().info().is_expired(now()));
        let mut seed =
            Node::start(identity("seed"), judging, Config::default(), bloc.hello("seed", 1));
        let mut stale = Node::start(stale, lenient, Config::default(), bloc.hello("stale", 2));
        stale.dial(1, &seed, Lane::Control);
        if accepted {
            stale.up().await;
            assert_eq!(seed.up().await.2.cert.node.as_str(), "stale");
        } else {
            let why = stale.failed().await.1;
            assert_eq!(why.reason().unwrap().as_str(), "turned-away", "{why}");
            let text = seed.refused("expired").await;
            assert!(text.contains("stale") && text.contains("expired"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_node_in_its_grace_gets_control_links_alone() {
    let bloc = Bloc::new("example");
    let issued = WallTime::from_unix_ms(now().unix_ms - 31 * DAY_MS);
    let identity = IdentityHandle::new(bloc.identity_made("late", issued));
    let mut seed = bloc.node("seed");
    let mut late = Node::start(identity, settings(), Config::default(), bloc.hello("late", 2));
    late.dial(1, &seed, Lane::Control);
    late.up().await;
    seed.up().await;
    // Whoever dials: the one whose certificate is fresh says no, and whom and why.
    late.dial(2, &seed, Lane::Bulk);
    let text = seed.refused("expired").await;
    assert!(text.contains("late") && text.contains("renewed"), "{text}");
    let why = late.failed().await.1;
    assert!(why.to_string().contains("until it is renewed"), "{why}");
    seed.dial(3, &late, Lane::Bulk);
    let why = loop {
        if let Event::DialFailed { why, .. } = seed.next().await {
            break why;
        }
    };
    assert_eq!(why.reason().unwrap().as_str(), "expired", "{why}");
}

#[tokio::test]
async fn garbage_and_silence_are_counted_and_keep_nobody_out() {
    let bloc = Bloc::new("example");
    let config = Config { handshake_timeout: Duration::from_secs(2), ..Config::default() };
    let mut seed = bloc.node_with("seed", config);
    let mut garbage = TcpStream::connect(seed.address).await.unwrap();
    garbage.write_all(b"GET /etc/passwd HTTP/1.1\r\nHost: seed\r\n\r\n").await.unwrap();
    seed.refused("tls").await;
    // A record that never ends.
    let mut half = TcpStream::connect(seed.address).await.unwrap();
    half.write_all(&[22, 3, 1, 0x40, 0, 1]).await.unwrap();
    seed.refused("handshake-timed-out").await;
    // TLS of another sort: no protocol of ours offered.
    let identity = IdentityHandle::new(bloc.identity("odd"));
    let mut config = (*tls::client_config(&identity, &settings()).unwrap()).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(seed.address).await.unwrap();
    let name = tls::server_name(None, seed.address);
    let refused = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    assert!(refused.is_err());
    let text = seed.refused("no-protocol").await;
    assert!(text.contains("h2"), "{text}");
    // One that goes away says nothing against anybody.
    drop(TcpStream::connect(seed.address).await.unwrap());
    still_serves(&bloc, &mut seed).await;
    for reason in ["tls", "handshake-timed-out", "no-protocol"] {
        assert_eq!(seed.count(reason), 1, "{reason}");
    }
}

#[tokio::test]
async fn who_sends_no_hello_is_dropped_after_the_time_allowed() {
    let bloc = Bloc::new("example");
    let config = Config { handshake_timeout: Duration::from_secs(2), ..Config::default() };
    let mut seed = bloc.node_with("seed", config);
    let _mute = Rogue::connect(&bloc, "mute", &seed).await;
    // TLS is done, so it is known who it is that says nothing.
    let text = seed.refused("hello-timed-out").await;
    assert!(text.contains("mute"), "{text}");
    assert_eq!((seed.count("hello-timed-out"), seed.count("handshake-timed-out")), (1, 0));
    still_serves(&bloc, &mut seed).await;
}

#[tokio::test]
async fn hellos_that_lie_or_cannot_be_read_are_turned_away() {
    let bloc = Bloc::new("example");
    let mut seed = bloc.node("seed");
    let honest = bloc.hello("rogue", 77)(Lane::Control);
    let of = |change: &dyn Fn(&mut Hello)| {
        let mut hello = honest.clone();
        change(&mut hello);
        hello_frame(&hello)
    };
    let mut first = Vec::new();
    write_frame(kind::FLOOD, b"hasty", &mut first);
    let mut long = Vec::new();
    write_frame(kind::HELLO, &[0; 5000], &mut long);
    let mut noise = Vec::new();
    write_frame(kind::HELLO, &[0xFF; 40], &mut noise);
    let address = skep_wire::Address::classify("10.0.0.1:1".parse().unwrap());
    let magic: Magic = skep_wire::decode("magic", b"skeP\x01").unwrap();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("hello-mismatch", of(&|hello| hello.node = "seed".parse().unwrap())),
        ("hello-mismatch", of(&|hello| hello.bloc = "other".parse().unwrap())),
        ("incompatible-version", of(&|hello| hello.protocol = (900, 901))),
        ("hello-malformed", of(&|hello| hello.magic = magic)),
        ("hello-malformed", of(&|hello| hello.addresses = vec![address; 9])),
        ("hello-malformed", of(&|hello| hello.version = "x".repeat(100))),
        ("hello-malformed", first),
        ("hello-malformed", long),
        ("hello-malformed", noise),
        ("hello-malformed", u32::MAX.to_be_bytes().to_vec()),
    ];
    for (reason, bytes) in cases {
        let mut rogue = Rogue::connect(&bloc, "rogue", &seed).await;
        rogue.say(&bytes).await;
        let text = seed.refused(reason).await;
        assert!(text.contains("rogue"), "{text}");
        let heard = rogue.hear().await;
        if reason != "hello-malformed" {
            // Who can be talked to is told.
            assert_eq!(heard.get(4), Some(&kind::GOODBYE), "{reason}: {heard:?}");
        }
    }
    still_serves(&bloc, &mut seed).await;
}

#[tokio::test]
async fn a_live_process_of_our_own_name_is_shown_to_the_agent() {
    // A duplicate is membership's to judge: only the very same process is refused here.
    let bloc = Bloc::new("example");
    let identity = || IdentityHandle::new(bloc.identity("twin"));
    let mut one = Node::start(identity(), settings(), Config::default(), bloc.hello("twin", 1));
    let mut two = Node::start(identity(), settings(), Config::default(), bloc.hello("twin", 2));
    pair(&mut one, &mut two, Lane::Control).await;
    let mut again = Node::start(identity(), settings(), Config::default(), bloc.hello("twin", 1));
    again.dial(1, &one, Lane::Control);
    let why = again.failed().await.1;
    assert!(why.to_string().contains("leads back"), "{why}");
}

#[tokio::test]
async fn broken_streams_end_their_link_and_no_other() {
    let bloc = Bloc::new("example");
    let (mut seed, mut friend) = (bloc.node("seed"), bloc.node("friend"));
    let (_, friendly) = pair(&mut friend, &mut seed, Lane::Control).await;
    let hello = bloc.hello("rogue", 5)(Lane::Control);
    let second_hello = hello_frame(&hello);
    let oversize = u32::try_from(Lane::Control.max_body_bytes()).unwrap() + 2;
    let protocol = DownReason::Protocol;
    let too_long = FrameError::TooLong {
        claimed: u64::from(oversize) - 1,
        limit: Lane::Control.max_body_bytes(),
    };
    let cases: Vec<(Vec<u8>, DownReason)> = vec![
        (oversize.to_be_bytes().to_vec(), protocol(ProtocolFault::Frame(too_long))),
        (vec![0; 4], protocol(ProtocolFault::Frame(FrameError::Empty))),
        (second_hello, protocol(ProtocolFault::SecondHello)),
    ];
    for (bytes, expected) in cases {
        let mut rogue = Rogue::connect(&bloc, "rogue", &seed).await;
        rogue.greet(&hello).await;
        let (link, ..) = seed.up().await;
        rogue.say(&bytes).await;
        assert_eq!(seed.down().await, (link, expected));
    }
    // Ends of the connection, told apart.
    let mut rogue = Rogue::connect(&bloc, "rogue", &seed).await;
    rogue.greet(&hello).await;
    let (link, ..) = seed.up().await;
    rogue.say(&frame(b"whole and cut")[..9]).await;
    rogue.tls.shutdown().await.unwrap();
    let truncated = protocol(ProtocolFault::Truncated);
    assert_eq!(seed.down().await, (link, truncated));
    for (abort, expected) in [(false, DownReason::Closed), (true, DownReason::Reset)] {
        let mut rogue = Rogue::connect(&bloc, "rogue", &seed).await;
        rogue.greet(&hello).await;
        let (link, ..) = seed.up().await;
        let (socket, _session) = rogue.tls.into_inner();
        if abort {
            socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(socket);
        assert_eq!(seed.down().await, (link, expected));
    }
    // A byte of a TLS record that was tampered with on its way.
    let mut rogue = Rogue::connect(&bloc, "rogue", &seed).await;
    rogue.greet(&hello).await;
    let (link, ..) = seed.up().await;
    let (mut socket, _session) = rogue.tls.into_inner();
    socket.write_all(&[23, 3, 3, 0, 20]).await.unwrap();
    socket.write_all(&[7; 20]).await.unwrap();
    let (ended, why) = seed.down().await;
    assert_eq!(ended, link);
    assert!(matches!(why, DownReason::Protocol(ProtocolFault::Tls(_))), "{why:?}");
    // The friend noticed nothing.
    seed.transport.send(friendly, frame(b"fine")).unwrap();
    assert_eq!(&friend.frame().await.1.body[..], b"fine");
}

#[tokio::test]
async fn a_goodbye_is_made_fit_for_the_log() {
    let bloc = Bloc::new("example");
    let mut seed = bloc.node("seed");
    let mut rogue = Rogue::connect(&bloc, "rogue", &seed).await;
    rogue.greet(&bloc.hello("rogue", 5)(Lane::Control)).await;
    let (link, ..) = seed.up().await;
    let mut goodbye = Vec::new();
    let text = format!("bye\n\x1b[31m\u{fffd}{}", "x".repeat(5000));
    write_frame(kind::GOODBYE, text.as_bytes(), &mut goodbye);
    rogue.say(&goodbye).await;
    let (ended, why) = seed.down().await;
    assert_eq!(ended, link);
    let DownReason::Goodbye(text) = why else {
        panic!("{why:?}");
    };
    assert_eq!(text.chars().count(), 200);
    assert!(text.starts_with("bye[31m") && !text.contains(char::is_control));
}

#[tokio::test]
async fn an_acceptor_that_is_no_node_is_a_failure_with_a_name() {
    let bloc = Bloc::new("example");
    let config = Config { handshake_timeout: Duration::from_secs(2), ..Config::default() };
    let mut one = bloc.node_with("one", config);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (mut banner, _) = listener.accept().await.unwrap();
        banner.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
        let (mute, _) = listener.accept().await.unwrap();
        (banner, mute)
    });
    one.transport.dial(DialId(1), vec![address], None, Lane::Control);
    let (_, why, attempts) = one.failed().await;
    assert_eq!(why.reason().unwrap().as_str(), "tls", "{why}");
    assert_eq!(attempts.len(), 1);
    one.transport.dial(DialId(2), vec![address], None, Lane::Control);
    let (_, why, _) = one.failed().await;
    assert_eq!(why.reason().unwrap().as_str(), "handshake-timed-out", "{why}");
    assert!(matches!(why, DialFailure::Handshake(_)));
    drop(serving.await.unwrap());
}

/// A verifier for strangers that link with anybody.
mod credulous {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(super) struct AnyServer;

    impl ServerCertVerifier for AnyServer {
        fn verify_server_cert(
            &self,
            _leaf: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _name: &ServerName<'_>,
            _ocsp: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _leaf: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _message: &[u8],
            _leaf: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }
    }
}
