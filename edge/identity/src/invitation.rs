//! One-time invitations: one word that an operator carries to a new machine.
//!
//! The secret in it is the seed of a signing key, of which the CA keeps the public half alone. The
//! joining node *signs* with it and never sends it, so neither the CA's disk nor a member that
//! stands in the way ever learns what would let it join in the node's place.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Serialize};
use skep_base::{BlocName, Digest, NetworkName, NodeName, WallTime};

use crate::Roles;
use crate::key::{KeyError, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SigningKey};

/// What every invitation begins with.
pub const INVITATION_PREFIX: &str = "skep-invite-";
/// Addresses of CA services that one invitation may carry.
pub const MAX_INVITATION_ADDRESSES: usize = 8;
/// Longest word that is read: three names of the greatest length and eight addresses take 1,350.
pub const MAX_INVITATION_CHARS: usize = 2048;

/// The form that this build writes and reads.
const VERSION: u8 = 1;
/// Enough of a digest to catch a word that was cut or mistyped.
const CHECKSUM_BYTES: usize = 4;

/// What the CA lets the holder of an invitation become.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The node's name; without it the joining node chooses one that is free.
    pub node: Option<NodeName>,
    /// The network it will be in.
    pub network: Option<NetworkName>,
    /// What it will be allowed.
    pub roles: Roles,
}

/// An invitation, as it is before it is one word ([`fmt::Display`]) and after ([`FromStr`]).
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The bloc to join.
    pub bloc: BlocName,
    /// BLAKE3 of the CA's certificate: by it the joining node knows whom to believe.
    pub ca_fingerprint: Digest,
    /// Where nodes answer that serve the CA, at most [`MAX_INVITATION_ADDRESSES`].
    pub addresses: Vec<SocketAddr>,
    /// Until when it can be used.
    pub expires: WallTime,
    /// What its holder becomes. Shown, not believed: the CA goes by its own ledger.
    pub terms: Terms,
    seed: [u8; 32],
}

impl Invitation {
    pub(crate) fn new(
        bloc: BlocName,
        ca_fingerprint: Digest,
        addresses: Vec<SocketAddr>,
        expires: WallTime,
        terms: Terms,
    ) -> Result<Self, KeyError> {
        Ok(Self { bloc, ca_fingerprint, addresses, expires, terms, seed: crate::key::random()? })
    }

    /// The invitation's public name: what the CA's ledger and a join request call it.
    ///
    /// # Errors
    /// [`KeyError`] when the seed is no key.
    pub fn id(&self) -> Result<[u8; PUBLIC_KEY_BYTES], KeyError> {
        SigningKey::from_seed(&self.seed).map(|key| *key.public())
    }

    /// Vouches for a join request.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES], KeyError> {
        SigningKey::from_seed(&self.seed).map(|key| key.sign(message))
    }
}

impl fmt::Debug for Invitation {
    /// Without the seed: logs are read by many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation")
            .field("bloc", &self.bloc)
            .field("ca_fingerprint", &self.ca_fingerprint)
            .field("addresses", &self.addresses)
            .field("expires", &self.expires)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

/// Why a word is not an invitation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// Something else was pasted.
    #[error("not an invitation: it does not begin with `{INVITATION_PREFIX}`")]
    Prefix,
    /// Over [`MAX_INVITATION_CHARS`].
    #[error("not an invitation: over {MAX_INVITATION_CHARS} characters")]
    TooLong,
    /// A character is missing, too many or wrong.
    #[error("the invitation was cut or changed on its way; copy the whole word again")]
    Damaged,
    /// Made by a newer build.
    #[error(
        "the invitation has form {found}, this build reads form {VERSION}; install a newer skep"
    )]
    Version {
        /// Its form.
        found: u8,
    },
    /// Whole, but senseless.
    #[error("the invitation's content makes no sense; make a new one with `skep ca invite`")]
    Content,
}

/// What is encoded after the version byte.
#[derive(Serialize, Deserialize)]
struct Content {
    bloc: BlocName,
    ca_fingerprint: Digest,
    addresses: Vec<SocketAddr>,
    expires_unix_s: u64,
    terms: Terms,
    seed: [u8; 32],
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        bytes.extend(skep_wire::encode(&Content {
            bloc: self.bloc.clone(),
            ca_fingerprint: self.ca_fingerprint,
            addresses: self.addresses.clone(),
            expires_unix_s: self.expires.unix_ms / 1000,
            terms: self.terms.clone(),
            seed: self.seed,
        }));
        let checksum = checksum(&bytes);
        bytes.extend(checksum);
        write!(f, "{INVITATION_PREFIX}{}", base32().encode(&bytes))
    }
}

impl FromStr for Invitation {
    type Err = InvitationError;

    fn from_str(word: &str) -> Result<Self, InvitationError> {
        let word = word.trim();
        if word.len() > MAX_INVITATION_CHARS {
            return Err(InvitationError::TooLong);
        }
        let word = word.to_ascii_lowercase();
        let text = word.strip_prefix(INVITATION_PREFIX).ok_or(InvitationError::Prefix)?;
        let bytes = base32().decode(text.as_bytes()).map_err(|_| InvitationError::Damaged)?;
        let (bytes, sum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(InvitationError::Damaged)?;
        if checksum(bytes) != *sum {
            return Err(InvitationError::Damaged);
        }
        let content = match bytes.split_first() {
            Some((&VERSION, content)) => content,
            Some((&found, _)) => return Err(InvitationError::Version { found }),
            None => return Err(InvitationError::Content),
        };
        let content: Content =
            skep_wire::decode("invitation", content).map_err(|_| InvitationError::Content)?;
        if content.addresses.len() > MAX_INVITATION_ADDRESSES {
            return Err(InvitationError::Content);
        }
        // A time that no clock shows is a mistake or a lie, and not the end of all time.
        let expires_ms = content.expires_unix_s.checked_mul(1000);
        Ok(Self {
            bloc: content.bloc,
            ca_fingerprint: content.ca_fingerprint,
            addresses: content.addresses,
            expires: WallTime::from_unix_ms(expires_ms.ok_or(InvitationError::Content)?),
            terms: content.terms,
            seed: content.seed,
        })
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Digest::of_parts(&[b"skep invitation", bytes]).0;
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    sum
}

/// Lower case, no padding: one word that a double click selects and a telephone carries.
fn base32() -> Encoding {
    let mut form = Specification::new();
    form.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    #[expect(clippy::expect_used, reason = "the specification is a constant, and tested")]
    form.encoding().expect("thirty-two different symbols")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn invitation() -> Invitation {
        Invitation {
            bloc: "example.com".parse().unwrap(),
            ca_fingerprint: Digest([7; 32]),
            addresses: vec![
                "192.0.2.1:7400".parse().unwrap(),
                "[2001:db8::1]:7400".parse().unwrap(),
            ],
            expires: WallTime::from_unix_ms(1_800_000_000_000),
            terms: Terms {
                node: Some("web-1".parse().unwrap()),
                network: None,
                roles: Roles::NONE.with(crate::Role::Queen),
            },
            seed: [9; 32],
        }
    }

    #[test]
    fn an_invitation_has_this_form_for_ever() {
        let word = invitation().to_string();
        let form = concat!(
            "skep-invite-aefwk6dbnvygyzjomnxw2byha4dqobyha4dqobyha4dqobyha4dq",
            "obyha4dqobyha4dqobyhaiamaaacahudsajaaeg3qaaaaaaaaaaaaaaaaaab5a4y",
            "bjfh3idacblxmvrc2miaaeeqscijbeeqscijbeeqscijbeeqscijbeeqscijbeeq",
            "scijbeeqtc7d3nva",
        );
        assert_eq!(word, form);
        assert_eq!(word.parse(), Ok(invitation()));
        assert_eq!(format!(" {}\n", word.to_uppercase()).parse(), Ok(invitation()));
        assert!(word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
    }

    #[test]
    fn what_is_no_invitation_is_refused_by_its_fault() {
        let word = invitation().to_string();
        let read = |word: &str| word.parse::<Invitation>().unwrap_err();
        assert_eq!(read("hello"), InvitationError::Prefix);
        assert_eq!(read(word.get(..word.len() - 1).unwrap()), InvitationError::Damaged);
        assert_eq!(read(INVITATION_PREFIX), InvitationError::Damaged);
        assert_eq!(read(&word.repeat(20)), InvitationError::TooLong);
        let pack = |mut bytes: Vec<u8>| {
            let sum = checksum(&bytes);
            bytes.extend(sum);
            format!("{INVITATION_PREFIX}{}", base32().encode(&bytes))
        };
        assert_eq!(read(&pack(vec![2])), InvitationError::Version { found: 2 });
        assert_eq!(read(&pack(vec![])), InvitationError::Content);
        assert_eq!(read(&pack(vec![1, 0xff])), InvitationError::Content);
        let mut many = invitation();
        many.addresses = vec![many.addresses[0]; 9];
        assert_eq!(read(&many.to_string()), InvitationError::Content);
    }

    #[test]
    fn the_seed_is_in_no_log() {
        let shown = format!("{:?}", invitation());
        assert!(!shown.contains("9, 9") && !shown.contains("seed"));
    }

    proptest! {
        #[test]
        fn no_word_makes_the_reader_fail_otherwise_than_by_refusing(text in ".{0,200}") {
            prop_assert!(text.parse::<Invitation>().is_err());
            let word = format!("{INVITATION_PREFIX}{text}");
            prop_assert!(word.parse::<Invitation>().is_err());
        }

        #[test]
        fn one_changed_character_is_noticed(at in 12_usize..200, to in "[a-z2-7]") {
            let word = invitation().to_string();
            let at = 12 + at % (word.len() - 12);
            let mut changed = word.clone();
            changed.replace_range(at..=at, &to);
            if changed != word {
                prop_assert!(changed.parse::<Invitation>() != Ok(invitation()));
                prop_assert!(changed.parse::<Invitation>().is_err());
            }
        }
    }
}
