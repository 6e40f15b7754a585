//! A node's identity: its certificate, its key, and whom it believes; in memory and in a directory.
//!
//! ```text
//! ca.pem    the bloc's CA certificate, one or more (they overlap while the CA's key is changed)
//! node.pem  this node's certificate
//! node.key  its key, mode 0600
//! ```
//!
//! Certificate and key change together at each renewal, but no file system renames two files at
//! once. So both are first written with the suffix `.next`; then the key is renamed, then the
//! certificate. A crash between the two renames leaves a key that fits `node.pem.next`, and loading
//! finishes the job.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use crate::certificate::{CertError, CertInfo, parse_certificate};
use crate::files::{self, FileError};
use crate::founding::FoundingToken;
use crate::key::{SIGNATURE_BYTES, SigningKey};
use crate::trust::Trust;

/// The CA certificates' file in an identity directory.
pub const CA_FILE: &str = "ca.pem";
/// The node certificate's file in an identity directory.
pub const CERTIFICATE_FILE: &str = "node.pem";
/// The node key's file in an identity directory.
pub const KEY_FILE: &str = "node.key";

/// Why there is no identity to run with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Nothing was ever put there.
    #[error(
        "no identity in {}; get one with `skep join TOKEN`, or copy the three files that \
         `skep ca issue NODE` makes there", dir.display()
    )]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// One of the three files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate is none of ours, or not of that CA.
    #[error("certificate in {} cannot be used", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: CertError,
    },
    /// Certificate and key do not belong together.
    #[error(
        "{} belongs to another key than {}; put the files of one and the same `skep ca issue` or \
         `skep join` there", certificate.display(), key.display()
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// Who this node is, and whom it believes.
pub struct Identity {
    info: CertInfo,
    key: SigningKey,
    certified: Arc<CertifiedKey>,
    trust: Trust,
    founding: Option<FoundingToken>,
}

impl Identity {
    /// Puts an identity together from its parts. Dates are not judged: an expired node still has
    /// to run, to be seen and to ask for renewal.
    ///
    /// # Errors
    /// [`CertError`] when the certificate is not of the trust's bloc and CA, or not of that key.
    pub fn new(
        certificate: CertificateDer<'static>,
        key: SigningKey,
        trust: Trust,
    ) -> Result<Self, CertError> {
        let info = trust.verify_chain_only(&certificate)?;
        if info.public_key != *key.public() {
            return Err(CertError::NotOurs { what: "it belongs to another key" });
        }
        let signer = rustls::crypto::aws_lc_rs::sign::any_eddsa_type(key.pkcs8())
            .map_err(|_| CertError::NotOurs { what: "its key cannot be used for TLS" })?;
        let certified = Arc::new(CertifiedKey::new(vec![certificate], signer));
        Ok(Self { info, key, certified, trust, founding: None })
    }

    /// The same, with the founding token that the CA gave out with it.
    #[must_use]
    pub(crate) fn with_founding(self, founding: Option<FoundingToken>) -> Self {
        Self { founding, ..self }
    }

    /// The founding token that came with this certificate from the CA, in this very call. One that
    /// is on disk is read with [`FoundingToken::load`].
    #[must_use]
    pub const fn founding(&self) -> Option<&FoundingToken> {
        self.founding.as_ref()
    }

    /// Loads the identity in `dir`, and finishes a renewal that a crash interrupted.
    ///
    /// # Errors
    /// [`IdentityError`] names the file and what to do.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let (key_path, path) = (dir.join(KEY_FILE), dir.join(CERTIFICATE_FILE));
        let key = match files::read_key(&key_path) {
            Err(error) if error.is_missing() => {
                return Err(IdentityError::Missing { dir: dir.to_owned() });
            }
            read => read?,
        };
        let (certificate, info) = fitting_certificate(&path, &key_path, &key)?;
        let broken = |source| IdentityError::Certificate { path: path.clone(), source };
        let authorities = files::read_certificates(&dir.join(CA_FILE))?;
        let trust = Trust::new(info.bloc, authorities)
            .map_err(|source| IdentityError::Certificate { path: dir.join(CA_FILE), source })?;
        Self::new(certificate, key, trust).map_err(broken)
    }

    /// Writes the identity to `dir`, which is made for our eyes alone where it is missing. After a
    /// crash at any moment [`Identity::load`] gives the old identity or this one. A founding
    /// token that came with it is written beside it.
    ///
    /// # Errors
    /// [`FileError`] names the file that could not be written.
    pub fn store(&self, dir: &Path) -> Result<(), FileError> {
        files::create_private_dir(dir)?;
        // First: whoever has an identity asks for nothing any more.
        if let Some(founding) = &self.founding {
            founding.store(dir)?;
        }
        let (key, certificate) = (dir.join(KEY_FILE), dir.join(CERTIFICATE_FILE));
        let (next_key, next_certificate) = (next(&key), next(&certificate));
        files::write_certificates(&dir.join(CA_FILE), self.trust.authorities())?;
        files::write_key(&next_key, &self.key)?;
        files::write_certificates(&next_certificate, &self.certified.cert)?;
        files::rename(&next_key, &key)?;
        files::rename(&next_certificate, &certificate)
    }

    /// What the node's own certificate says.
    #[must_use]
    pub const fn info(&self) -> &CertInfo {
        &self.info
    }

    /// The node's own certificate.
    #[must_use]
    pub fn certificate_der(&self) -> &[u8] {
        self.certified.cert.first().map_or(&[], |der| der)
    }

    /// Whom the node believes.
    #[must_use]
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The node's signature over `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.key.sign(message)
    }

    pub(crate) const fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("info", &self.info)
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

/// The certificate at `path` that belongs to `key`, or the next one if a crash kept it from its
/// place.
fn fitting_certificate(
    path: &Path,
    key_path: &Path,
    key: &SigningKey,
) -> Result<(CertificateDer<'static>, CertInfo), IdentityError> {
    let present = read_leaf(path);
    match &present {
        Ok((_, info)) if info.public_key == *key.public() => return present,
        Err(IdentityError::File(error)) if !error.is_missing() => return present,
        Ok(_) | Err(_) => {}
    }
    let waiting = next(path);
    match read_leaf(&waiting) {
        Ok((certificate, info)) if info.public_key == *key.public() => {
            if let Err(error) = files::rename(&waiting, path) {
                // It serves all the same; the next load tries again.
                tracing::warn!(%error, "a renewed certificate could not be put in its place");
            }
            Ok((certificate, info))
        }
        _ => {
            present?;
            Err(IdentityError::Mismatch { certificate: path.to_owned(), key: key_path.to_owned() })
        }
    }
}

fn read_leaf(path: &Path) -> Result<(CertificateDer<'static>, CertInfo), IdentityError> {
    let certificate = files::read_certificates(path)?.swap_remove(0);
    let info = parse_certificate(&certificate)
        .map_err(|source| IdentityError::Certificate { path: path.to_owned(), source })?;
    Ok((certificate, info))
}

fn next(path: &Path) -> PathBuf {
    files::with_suffix(path, ".next")
}
