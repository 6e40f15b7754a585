//! The founding token: by it a bloc's flock becomes strong, once (DVM-2, DVM-22, DVM-24).
//!
//! Strict authority, a lease of a majority of the roster, must exist once in a bloc. No set of
//! nodes can know by itself that it is the first: another may have founded a flock elsewhere. So
//! the CA says it. With the first certificate of a node it signs one token, which names the bloc,
//! the node and a *founding number*; whoever is master when the token is used has a strong history
//! from then on, and the token is destroyed before that. Where a majority of the roster is gone for
//! ever, the operator has the CA sign the next number (`skep ca refound`), which ends everything
//! that was promised under lower ones.
//!
//! A token that is lost is no harm: the flock stays weak, and the next number makes it strong. One
//! that were used twice would be, so it lives for days only, is in no log, and its file is its
//! owner's alone.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_base::{BlocName, Digest, NodeName, WallTime};

use crate::certificate::{date, parse_authority};
use crate::files::{self, FileError};
use crate::key::{SigningKey, verify_signature};
use crate::message::Signature;
use crate::trust::Trust;

/// The token's file, beside the node's certificate.
pub const FOUNDING_FILE: &str = "founding.token";
/// How long a founding token can be used unless said otherwise.
pub const DEFAULT_FOUNDING_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Shortest life of a founding token: it has to be carried to its node.
pub const MIN_FOUNDING_LIFE: Duration = Duration::from_secs(60);
/// Longest life of a founding token: one that lies about is found by somebody.
pub const MAX_FOUNDING_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest token: two names of the greatest length, two numbers and a signature take 600.
pub const MAX_FOUNDING_BYTES: usize = 1024;

/// What the file begins with.
const PREFIX: &str = "skep-founding-";
/// The form that this build writes and reads.
const VERSION: u8 = 1;

/// A founding token, as the CA signed it. Whether it did is [`FoundingToken::judge`]'s to say.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundingToken {
    version: u8,
    bloc: BlocName,
    node: NodeName,
    number: u64,
    not_after: WallTime,
    signature: Signature,
}

/// Why a founding token is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// Its file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not the bytes of a token.
    #[error("it was cut or changed on its way, or is no founding token")]
    Damaged,
    /// Made by a newer build.
    #[error("it has form {found}, this build reads form {VERSION}; install a newer skep")]
    Version {
        /// Its form.
        found: u8,
    },
    /// Of another bloc.
    #[error("it is for bloc {theirs}, this one is {ours}")]
    WrongBloc {
        /// The token's.
        theirs: BlocName,
        /// The node's.
        ours: BlocName,
    },
    /// Of another node.
    #[error("it is for node {theirs}, this one is {ours}")]
    WrongNode {
        /// The token's.
        theirs: NodeName,
        /// The node's.
        ours: NodeName,
    },
    /// Its signature is no CA's that this node believes.
    #[error("this bloc's CA did not sign it")]
    ForeignCa,
    /// Too late.
    #[error("it could be used until {} only", date(.at))]
    Expired {
        /// When.
        at: WallTime,
    },
}

impl FoundingToken {
    /// Signs a token for `node`.
    pub(crate) fn sign(
        key: &SigningKey,
        bloc: &BlocName,
        node: &NodeName,
        number: u64,
        not_after: WallTime,
    ) -> Self {
        // To whole seconds, as everything that is signed.
        let not_after = WallTime::from_unix_ms(not_after.unix_ms / 1000 * 1000);
        let statement = statement(bloc, node, number, not_after);
        let signature = Signature(key.sign(&statement));
        let (bloc, node) = (bloc.clone(), node.clone());
        Self { version: VERSION, bloc, node, number, not_after, signature }
    }

    /// For which node it was made. Any node may hand it on to the master.
    #[must_use]
    pub const fn node(&self) -> &NodeName {
        &self.node
    }

    /// The founding number: 1 for the first of a bloc.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Until when it can be used.
    #[must_use]
    pub const fn not_after(&self) -> WallTime {
        self.not_after
    }

    /// The token's bytes, at most [`MAX_FOUNDING_BYTES`]. They are as good as the token.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        skep_wire::encode(self)
    }

    /// Reads a token.
    ///
    /// # Errors
    /// [`FoundingError::Damaged`] or [`FoundingError::Version`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FoundingError> {
        match bytes.first() {
            _ if bytes.len() > MAX_FOUNDING_BYTES => return Err(FoundingError::Damaged),
            Some(&VERSION) => {}
            Some(&found) => return Err(FoundingError::Version { found }),
            None => return Err(FoundingError::Damaged),
        }
        skep_wire::decode("founding token", bytes).map_err(|_| FoundingError::Damaged)
    }

    /// Whether a CA that `trust` knows has signed it for this bloc, and `now` is not too late. For
    /// which node it is does not matter here: whoever has it may hand it on.
    ///
    /// # Errors
    /// [`FoundingError`] says what is wrong with it.
    pub fn judge(&self, trust: &Trust, now: WallTime) -> Result<(), FoundingError> {
        if self.bloc != *trust.bloc() {
            let (theirs, ours) = (self.bloc.clone(), trust.bloc().clone());
            return Err(FoundingError::WrongBloc { theirs, ours });
        }
        let statement = statement(&self.bloc, &self.node, self.number, self.not_after);
        let signed = trust.authorities().iter().any(|der| {
            parse_authority(der).is_ok_and(|authority| {
                verify_signature(&authority.public_key, &statement, &self.signature.0)
            })
        });
        if !signed || self.number == 0 {
            return Err(FoundingError::ForeignCa);
        }
        if now > self.not_after {
            return Err(FoundingError::Expired { at: self.not_after });
        }
        Ok(())
    }

    /// Writes the token to `dir`: 0600, whole or not at all, and durable on return.
    ///
    /// # Errors
    /// [`FileError`] names the file that could not be written.
    pub fn store(&self, dir: &Path) -> Result<PathBuf, FileError> {
        files::create_private_dir(dir)?;
        let path = dir.join(FOUNDING_FILE);
        let text = format!("{PREFIX}{}\n", data_encoding::BASE64URL.encode(&self.to_bytes()));
        files::write_secret(&path, text.as_bytes())?;
        Ok(path)
    }

    /// The token in `dir`, if there is one, judged as `node`'s.
    ///
    /// # Errors
    /// [`FoundingError`] says what is wrong with it.
    pub fn load(
        dir: &Path,
        node: &NodeName,
        trust: &Trust,
        now: WallTime,
    ) -> Result<Option<Self>, FoundingError> {
        let text = match files::read_secret(&dir.join(FOUNDING_FILE)) {
            Err(error) if error.is_missing() => return Ok(None),
            read => read?,
        };
        let word = text.trim_ascii().strip_prefix(PREFIX.as_bytes());
        let bytes = word.and_then(|word| data_encoding::BASE64URL.decode(word).ok());
        let token = Self::from_bytes(&bytes.ok_or(FoundingError::Damaged)?)?;
        if token.node != *node {
            let (theirs, ours) = (token.node, node.clone());
            return Err(FoundingError::WrongNode { theirs, ours });
        }
        token.judge(trust, now)?;
        Ok(Some(token))
    }

    /// Destroys the token in `dir`. After return it is gone, also when the power goes.
    ///
    /// # Errors
    /// [`FileError`] when it may still be there.
    pub fn destroy(dir: &Path) -> Result<(), FileError> {
        files::remove(&dir.join(FOUNDING_FILE))
    }
}

impl fmt::Debug for FoundingToken {
    /// Without the signature: logs are read by many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundingToken")
            .field("bloc", &self.bloc)
            .field("node", &self.node)
            .field("number", &self.number)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// What the CA signs.
fn statement(bloc: &BlocName, node: &NodeName, number: u64, not_after: WallTime) -> [u8; 32] {
    Digest::of_parts(&[
        b"skep founding 1",
        bloc.as_str().as_bytes(),
        node.as_str().as_bytes(),
        &number.to_le_bytes(),
        &not_after.unix_ms.to_le_bytes(),
    ])
    .0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ca, IssueRequest};
    use proptest::prelude::*;

    const NOW: WallTime = WallTime::from_unix_ms(1_800_000_000_000);

    fn bloc() -> (tempfile::TempDir, Ca) {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::init(&dir.path().join("ca"), &"example".parse().unwrap(), NOW).unwrap();
        (dir, ca)
    }

    fn later(span: Duration) -> WallTime {
        WallTime::from_unix_ms(NOW.unix_ms + u64::try_from(span.as_millis()).unwrap())
    }

    fn token(ca: &Ca) -> FoundingToken {
        ca.refound(&"web-1".parse().unwrap(), DEFAULT_FOUNDING_LIFE, NOW).unwrap()
    }

    #[test]
    fn a_token_is_its_owners_alone_and_once_destroyed_is_gone() {
        let (dir, ca) = bloc();
        let (token, node) = (token(&ca), "web-1".parse().unwrap());
        let path = token.store(dir.path()).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap());
        assert_eq!(mode & 0o7777, 0o600);
        let load = || FoundingToken::load(dir.path(), &node, ca.trust(), NOW).unwrap();
        assert_eq!(load(), Some(token));
        FoundingToken::destroy(dir.path()).unwrap();
        assert_eq!(load(), None);
        FoundingToken::destroy(dir.path()).unwrap();
    }

    #[test]
    fn a_token_of_another_node_bloc_or_ca_or_over_is_refused_and_says_why() {
        let (dir, ca) = bloc();
        let (_other_dir, other) = bloc();
        let token = token(&ca);
        token.store(dir.path()).unwrap();
        let load = |node: &str, trust, now| {
            FoundingToken::load(dir.path(), &node.parse().unwrap(), trust, now).unwrap_err()
        };
        let wrong = load("web-2", ca.trust(), NOW);
        assert!(matches!(wrong, FoundingError::WrongNode { .. }), "{wrong}");
        // Of a bloc of the same name.
        assert!(matches!(load("web-1", other.trust(), NOW), FoundingError::ForeignCa));
        let trust =
            Trust::new("elsewhere".parse().unwrap(), vec![ca.certificate_der().to_vec().into()])
                .unwrap();
        assert!(matches!(load("web-1", &trust, NOW), FoundingError::WrongBloc { .. }));
        let end = later(DEFAULT_FOUNDING_LIFE);
        assert!(token.judge(ca.trust(), end).is_ok());
        let after =
            load("web-1", ca.trust(), later(DEFAULT_FOUNDING_LIFE + Duration::from_secs(1)));
        assert!(matches!(after, FoundingError::Expired { at } if at == end), "{after}");
        for changed in [
            FoundingToken { number: 2, ..token.clone() },
            FoundingToken { node: "web-2".parse().unwrap(), ..token.clone() },
            FoundingToken { not_after: later(DEFAULT_FOUNDING_LIFE * 2), ..token.clone() },
        ] {
            let refused = changed.judge(ca.trust(), NOW);
            assert!(matches!(refused, Err(FoundingError::ForeignCa)), "{changed:?}");
        }
    }

    #[test]
    fn a_torn_open_or_strange_file_is_refused_whole() {
        let (dir, ca) = bloc();
        let (node, path) = ("web-1".parse().unwrap(), dir.path().join(FOUNDING_FILE));
        let load = || FoundingToken::load(dir.path(), &node, ca.trust(), NOW);
        token(&ca).store(dir.path()).unwrap();
        let text = std::fs::read(&path).unwrap();
        for cut in [0, 5, PREFIX.len(), PREFIX.len() + 8, text.len() - 6] {
            files::write_secret(&path, &text[..cut]).unwrap();
            assert!(matches!(load(), Err(FoundingError::Damaged)), "cut at {cut}");
        }
        let newer = data_encoding::BASE64URL.encode(&[9, 1, 2]);
        files::write_secret(&path, format!("{PREFIX}{newer}").as_bytes()).unwrap();
        assert!(matches!(load(), Err(FoundingError::Version { found: 9 })));
        files::write_atomically(&path, &text, 0o644).unwrap();
        assert!(matches!(load(), Err(FoundingError::File(FileError::Exposed { .. }))));
    }

    #[test]
    fn the_signature_is_in_no_log() {
        let (_dir, ca) = bloc();
        let shown = format!("{:?}", token(&ca));
        assert!(shown.contains("web-1") && !shown.contains("signature"), "{shown}");
    }

    #[test]
    fn the_first_certificate_carries_the_token_and_no_other_does() {
        let (_dir, ca) = bloc();
        let issue = |name: &str| ca.issue(&IssueRequest::new(name.parse().unwrap()), NOW).unwrap();
        let first = issue("a").founding().cloned().unwrap();
        assert_eq!((first.number(), first.node().as_str()), (1, "a"));
        assert!(first.judge(ca.trust(), NOW).is_ok());
        assert!(issue("b").founding().is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_fail_otherwise_than_by_refusing(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            if let Ok(token) = FoundingToken::from_bytes(&bytes) {
                prop_assert!(token.to_bytes().len() <= MAX_FOUNDING_BYTES);
            }
            let mut of_ours = vec![VERSION];
            of_ours.extend(bytes);
            let _read = FoundingToken::from_bytes(&of_ours);
        }
    }
}
