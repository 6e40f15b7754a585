//! Whom a node believes: the certificates of its bloc's CA, and the rules of section "Names" of
//! `docs/protocol/identity.md`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use skep_base::{BlocName, Digest, WallTime};
use webpki::{EndEntityCert, KeyUsage, aws_lc_rs::ED25519};

use crate::certificate::{CertError, CertInfo, Validity, not_ours, parse_certificate};

/// CA certificates that a node may believe at once: the present one, and the next or the last
/// while the CA's key is being changed.
pub const MAX_AUTHORITIES: usize = 4;

/// How long an expired certificate still links unless configured otherwise: for renewal and
/// membership only.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How far a certificate's beginning may lie ahead of our clock without anybody being told.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// Certificates whose chain is remembered as good; at about 400 bytes each, 400 KiB.
const MAX_REMEMBERED: usize = 1024;

/// The CA certificates of one bloc. Cheap to clone.
#[derive(Clone)]
pub struct Trust {
    inner: Arc<Inner>,
}

struct Inner {
    bloc: BlocName,
    authorities: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    /// Chains that held, by the certificate's digest. Dates are never remembered as good.
    remembered: Mutex<BTreeMap<Digest, CertInfo>>,
}

impl Trust {
    /// Believes certificates of `bloc` that one of `authorities` has signed.
    ///
    /// # Errors
    /// [`CertError`] when there is none, too many, or one that is no CA's certificate.
    pub fn new(
        bloc: BlocName,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Self, CertError> {
        if authorities.is_empty() || authorities.len() > MAX_AUTHORITIES {
            return Err(not_ours("between one and four CA certificates are needed"));
        }
        let anchors = authorities
            .iter()
            .map(|der| {
                webpki::anchor_from_trusted_cert(der)
                    .map(|anchor| anchor.to_owned())
                    .map_err(|_| not_ours("a CA certificate is broken"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            inner: Arc::new(Inner { bloc, authorities, anchors, remembered: Mutex::default() }),
        })
    }

    /// The bloc whose certificates are believed.
    #[must_use]
    pub fn bloc(&self) -> &BlocName {
        &self.inner.bloc
    }

    /// The CA certificates.
    #[must_use]
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.inner.authorities
    }

    /// The digests of the CA certificates: what a token carries and `skep cert show` prints.
    pub fn fingerprints(&self) -> impl Iterator<Item = Digest> {
        self.inner.authorities.iter().map(|der| Digest::of(der))
    }

    /// Reads a certificate and judges it: of our bloc, signed by our CA, and within its dates by
    /// `now`, stretched by `grace` at both ends. Where it was let pass by the grace,
    /// [`CertInfo::is_expired`] says so.
    ///
    /// `now` is [`crate::judgement_time`], not the bare wall clock.
    ///
    /// # Errors
    /// [`CertError`] names the node and the reason.
    pub fn verify(
        &self,
        leaf: &[u8],
        now: WallTime,
        grace: Duration,
    ) -> Result<CertInfo, CertError> {
        let info = self.verify_chain_only(leaf)?;
        match info.validity(now) {
            Validity::Expired(ago) if ago > grace => Err(CertError::Expired {
                node: info.node,
                bloc: info.bloc,
                not_after: info.not_after,
                ago,
                grace,
            }),
            Validity::NotYet(ahead) if ahead > grace.max(CLOCK_SKEW) => {
                Err(CertError::NotYetValid {
                    node: info.node,
                    bloc: info.bloc,
                    not_before: info.not_before,
                    ahead,
                })
            }
            Validity::Valid | Validity::Expired(_) | Validity::NotYet(_) => Ok(info),
        }
    }

    /// Reads a certificate and judges all but its dates: retained facts outlive the certificates
    /// of those who stated them.
    ///
    /// # Errors
    /// [`CertError`] names the node and the reason.
    pub fn verify_chain_only(&self, leaf: &[u8]) -> Result<CertInfo, CertError> {
        let hash = Digest::of(leaf);
        if let Some(info) = self.remembered().get(&hash) {
            return Ok(info.clone());
        }
        let info = parse_certificate(leaf)?;
        if info.bloc != self.inner.bloc {
            return Err(CertError::WrongBloc {
                node: info.node,
                theirs: info.bloc,
                ours: self.inner.bloc.clone(),
            });
        }
        self.check_chain(leaf, &info)?;
        let mut remembered = self.remembered();
        if remembered.len() >= MAX_REMEMBERED {
            // Rare, and costs one signature check a certificate: no need to choose whom to forget.
            remembered.clear();
        }
        remembered.insert(hash, info.clone());
        Ok(info)
    }

    fn check_chain(&self, leaf: &[u8], info: &CertInfo) -> Result<(), CertError> {
        let der = CertificateDer::from(leaf);
        let certificate = EndEntityCert::try_from(&der).map_err(|error| refusal(&error, info))?;
        // Dates are ours to judge, so the chain is judged at a time when the certificate holds.
        let at = UnixTime::since_unix_epoch(Duration::from_millis(info.not_before.unix_ms));
        certificate
            .verify_for_usage(
                &[ED25519],
                &self.inner.anchors,
                &[],
                at,
                // Both usages are in every certificate of ours.
                KeyUsage::server_auth(),
                None,
                None,
            )
            .map(drop)
            .map_err(|error| refusal(&error, info))
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, CertInfo>> {
        // A panic elsewhere leaves the map whole: each change is one insertion.
        self.inner.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else a verifier finds is a chain that does not hold"
)]
fn refusal(error: &webpki::Error, info: &CertInfo) -> CertError {
    match error {
        webpki::Error::CaUsedAsEndEntity => not_ours("it may sign others, so it is no node's"),
        webpki::Error::UnsupportedCriticalExtension => {
            not_ours("it demands an extension that this build does not know")
        }
        webpki::Error::RequiredEkuNotFoundContext(_) => not_ours("it is not made for TLS"),
        _ => CertError::ForeignCa { node: info.node.clone(), bloc: info.bloc.clone() },
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("bloc", &self.inner.bloc)
            .field("authorities", &self.fingerprints().collect::<Vec<_>>())
            .finish()
    }
}

/// The time by which certificates are judged: the latest of the wall clock, the time this program
/// was built, and the last time that was written to disk. A clock that was set back, or never set,
/// makes no old certificate new.
#[must_use]
pub fn judgement_time(wall: WallTime, built: WallTime, last_written: WallTime) -> WallTime {
    wall.max(built).max(last_written)
}

/// The same for a node that has a certificate, which says more of the time: it is later than when
/// the certificate was made. And where the last time that was written is one at which nothing of
/// this node would hold any more, while by its clock all is well, then the clock ran ahead for a
/// while and was set right: what it wrote meanwhile must not lock the node out.
#[must_use]
pub fn judgement_time_of(
    own: &CertInfo,
    grace: Duration,
    wall: WallTime,
    built: WallTime,
    last_written: WallTime,
) -> WallTime {
    let sure = wall.max(built).max(own.not_before);
    let ran_ahead =
        wall >= own.not_before && sure < own.not_after && last_written.since(own.not_after) > grace;
    if ran_ahead { sure } else { sure.max(last_written) }
}
