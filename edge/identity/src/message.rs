//! What a joining or renewing node and the CA say to one another: one request, one answer.
//!
//! Joining runs over a connection with ALPN `skep-join/1`, renewal over a link between members,
//! over which a member also shows its next certificate to its peers. All carry [`Message`] in
//! postcard, one message a frame.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use skep_base::{BlocName, Digest, NodeName, WallTime};
use skep_wire::Malformed;

use crate::certificate::{MAX_CERTIFICATE_BYTES, date};
use crate::founding::MAX_FOUNDING_BYTES;
use crate::key::{PUBLIC_KEY_BYTES, SIGNATURE_BYTES};

/// Longest message of this protocol: two certificates, a founding token, and change.
pub const MAX_MESSAGE_BYTES: usize = 2 * MAX_CERTIFICATE_BYTES + MAX_FOUNDING_BYTES + 256;

/// Everything that is said. New variants are added at the end only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A new node asks for its first certificate.
    Join(JoinRequest),
    /// A member asks for its next certificate.
    Renew(RenewRequest),
    /// The CA agrees.
    Granted(Granted),
    /// The CA refuses.
    Denied(Denial),
    /// A member shows its next certificate over a link that began with the one before.
    Shown(Shown),
    /// The CA agrees, and gives the bloc's founding token with the certificate.
    Founded(Founded),
}

impl Message {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        skep_wire::encode(self)
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] when it is too long, not of this form, or holds too long a certificate.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let malformed = Malformed { what: "enrolment message" };
        if body.len() > MAX_MESSAGE_BYTES {
            return Err(malformed);
        }
        let message = skep_wire::decode(malformed.what, body)?;
        match &message {
            Self::Granted(granted)
                if granted.certificate.len().max(granted.authority.len())
                    > MAX_CERTIFICATE_BYTES =>
            {
                Err(malformed)
            }
            Self::Shown(shown) if shown.certificate.len() > MAX_CERTIFICATE_BYTES => Err(malformed),
            Self::Founded(Founded { granted, founding })
                if granted.certificate.len().max(granted.authority.len())
                    > MAX_CERTIFICATE_BYTES
                    || founding.len() > MAX_FOUNDING_BYTES =>
            {
                Err(malformed)
            }
            Self::Join(_)
            | Self::Renew(_)
            | Self::Granted(_)
            | Self::Denied(_)
            | Self::Shown(_)
            | Self::Founded(_) => Ok(message),
        }
    }
}

/// A new node asks for its first certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The bloc it wants to join.
    pub bloc: BlocName,
    /// The invitation's public name.
    pub invitation: [u8; PUBLIC_KEY_BYTES],
    /// The name it wants.
    pub node: NodeName,
    /// The key that it made.
    pub public_key: [u8; PUBLIC_KEY_BYTES],
    /// The [statement](join_statement) signed with that key: it holds the private half.
    pub proof: Signature,
    /// The same, signed with the invitation's key: it was invited.
    pub voucher: Signature,
}

/// A member asks for its next certificate. Who it is, the link's certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequest {
    /// The key that the next certificate is for.
    pub public_key: [u8; PUBLIC_KEY_BYTES],
    /// The [statement](renewal_statement) signed with that key.
    pub proof: Signature,
}

/// The CA's consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The node's certificate, at most [`MAX_CERTIFICATE_BYTES`].
    pub certificate: Vec<u8>,
    /// The CA's own, at most [`MAX_CERTIFICATE_BYTES`]. A joining node takes it if it has the
    /// invitation's fingerprint; a renewing node has it already.
    pub authority: Vec<u8>,
}

/// The CA's consent to the first node of its bloc.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founded {
    /// As any node gets it.
    pub granted: Granted,
    /// The bytes of a [`crate::FoundingToken`], at most [`MAX_FOUNDING_BYTES`].
    pub founding: Vec<u8>,
}

impl std::fmt::Debug for Founded {
    /// Without the token: logs are read by many.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Founded").field("granted", &self.granted).finish_non_exhaustive()
    }
}

/// A member's next certificate, shown over a link that stands: the link need not be made anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The certificate, at most [`MAX_CERTIFICATE_BYTES`].
    pub certificate: Vec<u8>,
    /// The [statement](shown_statement) about this very link, signed with the certificate's key.
    pub proof: Signature,
}

/// Why the CA refuses. New variants are added at the end only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Denial {
    /// No such invitation in this CA's ledger.
    #[error(
        "the CA there does not know this invitation; it is known only where `skep ca invite` ran, \
         and only for a while"
    )]
    UnknownInvitation,
    /// Too late.
    #[error("the invitation expired on {}; make a new one with `skep ca invite`", date(.at))]
    InvitationExpired {
        /// When.
        at: WallTime,
    },
    /// Invitations are for one node, once.
    #[error("the invitation was used already, by node {by}; make a new one with `skep ca invite`")]
    InvitationUsed {
        /// By whom.
        by: NodeName,
    },
    /// The invitation is of another bloc than the CA.
    #[error("the CA there is that of bloc {ours}")]
    WrongBloc {
        /// The CA's bloc.
        ours: BlocName,
    },
    /// The invitation is for another name.
    #[error("the invitation is for node {invited}, under that name alone")]
    WrongNode {
        /// The name it is for.
        invited: NodeName,
    },
    /// Somebody has that name.
    #[error(
        "the name {node} is taken until {}; choose another, or make an invitation for just this \
         name with `skep ca invite --node {node}`", date(.until)
    )]
    NameTaken {
        /// The name.
        node: NodeName,
        /// When its certificate is over for good.
        until: WallTime,
    },
    /// A signature in the request does not hold.
    #[error("the request is not signed by the key it names")]
    BadProof,
    /// Renewals of one node have a least distance, so that none fills the CA's disk.
    #[error("renewed a moment ago; ask again after {}", date(.after))]
    TooSoon {
        /// When.
        after: WallTime,
    },
    /// The machine that shows this certificate was replaced by another one of its name.
    #[error(
        "this certificate is older than the one that replaced it on {}; if this machine is the \
         right one, let it join anew", date(.at)
    )]
    Replaced {
        /// When.
        at: WallTime,
    },
    /// The CA has trouble of its own; its log says which.
    #[error("the CA could not do it just now; its log names the reason, ask again")]
    Unavailable,
    /// The bloc's catalog says that the node is a member no more.
    #[error(
        "node {node} is expelled from the bloc: see `skep catalog get expelled/{node}` on a \
         member; to let it in again, `skep catalog rm expelled/{node}` there, and ask anew"
    )]
    Expelled {
        /// The node.
        node: NodeName,
    },
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; SIGNATURE_BYTES]);

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signature(..)")
    }
}

impl Serialize for Signature {
    /// Sixty-four bytes without a length: serde knows arrays of up to thirty-two.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (low, high) = self.0.split_at(SIGNATURE_BYTES / 2);
        let halves: ([u8; 32], [u8; 32]) = (
            low.try_into().map_err(serde::ser::Error::custom)?,
            high.try_into().map_err(serde::ser::Error::custom)?,
        );
        halves.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (low, high) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; SIGNATURE_BYTES];
        bytes[..32].copy_from_slice(&low);
        bytes[32..].copy_from_slice(&high);
        Ok(Self(bytes))
    }
}

/// What a joining node signs, with its own key and the invitation's.
#[must_use]
pub fn join_statement(
    bloc: &BlocName,
    node: &NodeName,
    invitation: &[u8; PUBLIC_KEY_BYTES],
    public_key: &[u8; PUBLIC_KEY_BYTES],
) -> [u8; Digest::LEN] {
    Digest::of_parts(&[
        b"skep join 1",
        bloc.as_str().as_bytes(),
        node.as_str().as_bytes(),
        invitation,
        public_key,
    ])
    .0
}

/// What a renewing node signs with the key of its next certificate; `current` is the digest of the
/// one it has.
#[must_use]
pub fn renewal_statement(
    current: &Digest,
    public_key: &[u8; PUBLIC_KEY_BYTES],
) -> [u8; Digest::LEN] {
    Digest::of_parts(&[b"skep renew 1", &current.0, public_key]).0
}

/// What a member signs to show another certificate over a link that stands: `channel` is what only
/// the two ends of that link know ([`crate::tls::channel`]), so that nobody can show it elsewhere.
#[must_use]
pub fn shown_statement(channel: &[u8; 32], certificate: &Digest) -> [u8; Digest::LEN] {
    Digest::of_parts(&[b"skep show 1", channel, &certificate.0]).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn golden(message: &Message, bytes: &Expect) {
        let encoded = message.encode();
        bytes.assert_eq(&fold(&HEXLOWER.encode(&encoded)));
        assert_eq!(Message::decode(&encoded).as_ref(), Ok(message));
    }

    /// In lines of sixty-four digits.
    fn fold(hex: &str) -> String {
        let lines = hex.as_bytes().chunks(64);
        lines.map(|line| String::from_utf8_lossy(line) + "\n").collect()
    }

    #[test]
    fn the_requests_have_these_bytes_for_ever() {
        golden(
            &Message::Join(JoinRequest {
                bloc: "example".parse().unwrap(),
                invitation: [1; 32],
                node: "web-1".parse().unwrap(),
                public_key: [2; 32],
                proof: Signature([3; 64]),
                voucher: Signature([4; 64]),
            }),
            &expect![[r#"
                00076578616d706c650101010101010101010101010101010101010101010101
                010101010101010101057765622d310202020202020202020202020202020202
                0202020202020202020202020202020303030303030303030303030303030303
                0303030303030303030303030303030303030303030303030303030303030303
                0303030303030303030303030303030404040404040404040404040404040404
                0404040404040404040404040404040404040404040404040404040404040404
                040404040404040404040404040404
            "#]],
        );
        golden(
            &Message::Renew(RenewRequest { public_key: [2; 32], proof: Signature([3; 64]) }),
            &expect![[r#"
                0102020202020202020202020202020202020202020202020202020202020202
                0203030303030303030303030303030303030303030303030303030303030303
                0303030303030303030303030303030303030303030303030303030303030303
                03
            "#]],
        );
    }

    #[test]
    fn the_answers_have_these_bytes_for_ever() {
        let at = WallTime::from_unix_ms(1_800_000_000_000);
        let node = || NodeName::new("web-1").unwrap();
        golden(
            &Message::Granted(Granted { certificate: vec![1, 2], authority: vec![3] }),
            &expect![[r#"
                020201020103
            "#]],
        );
        golden(
            &Message::Shown(Shown { certificate: vec![1, 2], proof: Signature([3; 64]) }),
            &expect![[r#"
                0402010203030303030303030303030303030303030303030303030303030303
                0303030303030303030303030303030303030303030303030303030303030303
                03030303
            "#]],
        );
        golden(
            &Message::Founded(Founded {
                granted: Granted { certificate: vec![1, 2], authority: vec![3] },
                founding: vec![4, 5],
            }),
            &expect![[r#"
                050201020103020405
            "#]],
        );
        let denials = [
            Denial::UnknownInvitation,
            Denial::InvitationExpired { at },
            Denial::InvitationUsed { by: node() },
            Denial::WrongBloc { ours: "b".parse().unwrap() },
            Denial::WrongNode { invited: node() },
            Denial::NameTaken { node: node(), until: at },
            Denial::BadProof,
            Denial::TooSoon { after: at },
            Denial::Replaced { at },
            Denial::Unavailable,
            Denial::Expelled { node: node() },
        ];
        let bytes: Vec<_> = denials
            .into_iter()
            .map(|denial| {
                let encoded = Message::Denied(denial.clone()).encode();
                assert_eq!(Message::decode(&encoded), Ok(Message::Denied(denial)));
                HEXLOWER.encode(&encoded)
            })
            .collect();
        expect![[r#"
            0300
            030180a0f1c2b134
            0302057765622d31
            03030162
            0304057765622d31
            0305057765622d3180a0f1c2b134
            0306
            030780a0f1c2b134
            030880a0f1c2b134
            0309
            030a057765622d31
        "#]]
        .assert_eq(&(bytes.join("\n") + "\n"));
    }

    #[test]
    fn statements_are_these_bytes_for_ever() {
        let (bloc, node) = ("b".parse().unwrap(), "n".parse().unwrap());
        let statement = join_statement(&bloc, &node, &[1; 32], &[2; 32]);
        expect!["dd9c3383809b614867046522d3d469103642f78f30fe8ef6b5a1a0af4e5ebdb6"]
            .assert_eq(&HEXLOWER.encode(&statement));
        let statement = renewal_statement(&Digest([1; 32]), &[2; 32]);
        expect!["ef2eecec1d250836cd9c8aa396d7413088e6cb428a06870ae8f72fee4c4a134e"]
            .assert_eq(&HEXLOWER.encode(&statement));
        let statement = shown_statement(&[1; 32], &Digest([2; 32]));
        expect!["48dbb784da7b2c1cab87d0e25aa0634f668b143fc20ef66c6e750c9bc06db46e"]
            .assert_eq(&HEXLOWER.encode(&statement));
    }

    #[test]
    fn too_long_messages_and_certificates_are_refused() {
        let with = |certificate, authority| {
            Message::Granted(Granted {
                certificate: vec![0; certificate],
                authority: vec![0; authority],
            })
            .encode()
        };
        assert!(Message::decode(&with(4096, 4096)).is_ok());
        assert!(Message::decode(&with(4097, 0)).is_err());
        assert!(Message::decode(&with(0, 4097)).is_err());
        assert!(Message::decode(&with(9000, 0)).is_err());
        let shown = |certificate| {
            let proof = Signature([0; 64]);
            Message::Shown(Shown { certificate: vec![0; certificate], proof }).encode()
        };
        assert!(Message::decode(&shown(4096)).is_ok());
        assert!(Message::decode(&shown(4097)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_fail_otherwise_than_by_refusing(
            bytes in proptest::collection::vec(any::<u8>(), 0..400)
        ) {
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
            }
        }
    }
}
