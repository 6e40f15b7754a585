//! TLS as the agents speak it: version 1.3 alone, both sides with a certificate of the bloc.
//!
//! rustls asks our verifier during each handshake, and the verifier asks the *current* identity, so
//! a renewal needs no new configuration. A session that is resumed is not verified again by rustls:
//! therefore the transport calls [`peer`] after every handshake, which judges the certificate
//! that belongs to the session by today's trust and today's date. The chain is remembered, so that
//! costs next to nothing.

mod enrolment;
mod verifier;

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::{ClientSessionMemoryCache, ResolvesClientCert, Resumption, WantsClientCert};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, CommonState, ConfigBuilder, ConnectionCommon, OtherError,
    ServerConfig, SignatureScheme, WantsVerifier,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use skep_base::{NodeId, WallTime};

pub use enrolment::{enrolment_client_config, enrolment_server_config};
pub(crate) use verifier::{Judge, Verifier};

use crate::certificate::{CertError, CertInfo};
use crate::handle::IdentityHandle;
use crate::trust::DEFAULT_GRACE;

/// What links between members speak.
pub const ALPN: &[u8] = b"skep/1";
/// What a node speaks that has no certificate yet.
pub const ALPN_JOIN: &[u8] = b"skep-join/1";

/// What applications speak with a node's client port. One that offers no protocol at all, such as
/// a person with `openssl s_client`, is taken to mean it.
pub const ALPN_CLIENT: &[u8] = b"skep-client/1";

/// Servers whose session tickets a client keeps: more than a node has links (neighbours, watches,
/// 64 errands), at about 2 KiB each.
const REMEMBERED_SESSIONS: usize = 128;

/// Gives the time by which certificates are judged: [`crate::judgement_time`].
pub type Clock = Arc<dyn Fn() -> WallTime + Send + Sync>;

/// What both sides' configurations are made with.
#[derive(Clone)]
pub struct Settings {
    /// The time by which certificates are judged.
    pub clock: Clock,
    /// How long an expired certificate still passes. Default: [`DEFAULT_GRACE`].
    pub grace: Duration,
}

impl Settings {
    /// The default grace with the given clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, grace: DEFAULT_GRACE }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("now", &(self.clock)())
            .field("grace", &self.grace)
            .finish()
    }
}

/// How members accept links: [`ALPN`], a certificate of the bloc demanded.
///
/// # Errors
/// Only when the provider cannot do TLS 1.3 or make ticket keys.
pub fn server_config(
    handle: &IdentityHandle,
    settings: &Settings,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = server_builder(&settings.clock)?
        .with_client_cert_verifier(OfOurBloc::verifier(handle, settings))
        .with_cert_resolver(Arc::new(OwnCertificate(handle.clone())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // The client keeps its own session: we hold nothing for links that are down.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// How members dial links: [`ALPN`], our certificate shown, one of the bloc demanded.
///
/// # Errors
/// Only when the provider cannot do TLS 1.3.
pub fn client_config(
    handle: &IdentityHandle,
    settings: &Settings,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = client_builder(&settings.clock, OfOurBloc::verifier(handle, settings))?
        .with_client_cert_resolver(Arc::new(OwnCertificate(handle.clone())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Names are in the certificates; the wire need not show them.
    config.enable_sni = false;
    let sessions = Arc::new(ClientSessionMemoryCache::new(REMEMBERED_SESSIONS));
    config.resumption = Resumption::store(sessions);
    Ok(Arc::new(config))
}

/// How a node's client port accepts applications: [`ALPN_CLIENT`], a certificate of the bloc
/// demanded.
///
/// # Errors
/// As [`server_config`].
pub fn application_server_config(
    handle: &IdentityHandle,
    settings: &Settings,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::clone(&*server_config(handle, settings)?);
    config.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
    Ok(Arc::new(config))
}

/// How an application dials a node's client port: [`ALPN_CLIENT`], its certificate shown, one of
/// the bloc demanded.
///
/// # Errors
/// As [`client_config`].
pub fn application_client_config(
    handle: &IdentityHandle,
    settings: &Settings,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = ClientConfig::clone(&*client_config(handle, settings)?);
    config.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
    Ok(Arc::new(config))
}

/// What to give rustls as the server's name: it is the key under which sessions are remembered,
/// never sent and never checked. Who answers is read from the certificate.
#[must_use]
pub fn server_name(expected: Option<NodeId>, address: std::net::SocketAddr) -> ServerName<'static> {
    let text = match expected {
        Some(id) => format!("{id}.node.skep"),
        None => {
            let digest = skep_base::Digest::of(address.to_string().as_bytes());
            format!("{}.address.skep", digest.abbreviated(32))
        }
    };
    // Hexadecimal digits and fixed words are a name; an address is one as well.
    ServerName::try_from(text).unwrap_or_else(|_| ServerName::IpAddress(address.ip().into()))
}

/// Who is at the other end of a finished handshake, judged by the present trust and time. Must be
/// called for every connection, because a resumed session skips the verifiers.
///
/// # Errors
/// [`Refusal`] names the peer and the reason; close the connection.
pub fn peer(
    connection: &CommonState,
    handle: &IdentityHandle,
    settings: &Settings,
) -> Result<(CertInfo, CertificateDer<'static>), Refusal> {
    let certificate =
        connection.peer_certificates().and_then(<[_]>::first).ok_or(Refusal::NoCertificate)?;
    let info = handle.current().trust().verify(certificate, (settings.clock)(), settings.grace)?;
    Ok((info, certificate.clone().into_owned()))
}

/// What only the two ends of one connection know, and each connection has anew.
pub type Channel = [u8; 32];

/// The [`Channel`] of a finished handshake, the same at both ends (RFC 9266).
///
/// # Errors
/// Only before the handshake is finished.
pub fn channel<Side>(connection: &ConnectionCommon<Side>) -> Result<Channel, rustls::Error> {
    connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None)
}

/// Why a handshake came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// The peer's certificate; the message names the peer.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// The peer showed none.
    #[error("peer showed no certificate")]
    NoCertificate,
    /// The peer does not speak our protocol.
    #[error("peer speaks no protocol of skep")]
    Protocol,
    /// The peer refused us; its own log says why.
    #[error("peer refused us ({0}); its log names the reason")]
    ByPeer(String),
    /// Anything else: not TLS, broken records, no common version.
    #[error("handshake failed: {0}")]
    Tls(rustls::Error),
}

impl From<&rustls::Error> for Refusal {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only the errors that mean something to an operator are told apart"
    )]
    fn from(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(reason))) => {
                match reason.downcast_ref::<CertError>() {
                    Some(reason) => Self::Certificate(reason.clone()),
                    None => Self::Tls(error.clone()),
                }
            }
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::NoApplicationProtocol => Self::Protocol,
            rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol) => {
                Self::Protocol
            }
            rustls::Error::AlertReceived(alert) => Self::ByPeer(format!("{alert:?}")),
            _ => Self::Tls(error.clone()),
        }
    }
}

impl Refusal {
    /// The refusal inside an error of a TLS stream, which wraps those of rustls; nothing when the
    /// connection itself failed.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Option<Self> {
        let mut cause = error.get_ref()? as &(dyn std::error::Error + 'static);
        loop {
            if let Some(error) = cause.downcast_ref::<rustls::Error>() {
                return Some(Self::from(error));
            }
            cause = cause.source()?;
        }
    }
}

/// Our provider: `aws-lc-rs`, its TLS 1.3 suites alone.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
        Arc::new(provider)
    }))
}

/// A server's configuration up to whom it lets in.
pub(crate) fn server_builder(
    clock: &Clock,
) -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, rustls::Error> {
    ServerConfig::builder_with_details(provider(), time_of(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])
}

/// A client's configuration up to what it shows.
pub(crate) fn client_builder<J: Judge + 'static>(
    clock: &Clock,
    verifier: Arc<Verifier<J>>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let builder = ClientConfig::builder_with_details(provider(), time_of(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

/// For servers that answer one question a connection: nothing of it is worth remembering.
pub(crate) fn one_answer(mut config: ServerConfig, alpn: &[u8]) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// For clients that ask one question a connection.
pub(crate) fn one_question(mut config: ClientConfig, alpn: &[u8]) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn time_of(clock: &Clock) -> Arc<dyn TimeProvider> {
    Arc::new(ClockTime(Arc::clone(clock)))
}

/// How a verifier gives its reason to rustls, and [`Refusal`] gets it back.
pub(crate) fn invalid(error: CertError) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

struct ClockTime(Clock);

impl fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClockTime").field(&(self.0)()).finish()
    }
}

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let now = (self.0)();
        Some(UnixTime::since_unix_epoch(Duration::from_millis(now.unix_ms)))
    }
}

/// Shows the current certificate, whichever side we are.
#[derive(Debug)]
pub(crate) struct OwnCertificate(pub(crate) IdentityHandle);

impl OwnCertificate {
    fn certified(&self, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        schemes
            .contains(&SignatureScheme::ED25519)
            .then(|| Arc::clone(self.0.current().certified()))
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified(hello.signature_schemes())
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.certified(schemes)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Judges the other side of a link between members, whichever side it is.
#[derive(Debug)]
struct OfOurBloc {
    handle: IdentityHandle,
    grace: Duration,
}

impl OfOurBloc {
    fn verifier(handle: &IdentityHandle, settings: &Settings) -> Arc<Verifier<Self>> {
        Arc::new(Verifier(Self { handle: handle.clone(), grace: settings.grace }))
    }
}

impl Judge for OfOurBloc {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        now: WallTime,
    ) -> Result<(), rustls::Error> {
        self.handle.current().trust().verify(leaf, now, self.grace).map(drop).map_err(invalid)
    }
}
