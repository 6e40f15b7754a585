//! Certificates and enrolment: what a stranger may say before anybody knows who he is.

use std::net::SocketAddr;

use skep_base::{BlocName, Digest, NetworkName, NodeName, WallTime};
use skep_identity::message::{
    Denial, Founded, Granted, JoinRequest, Message, RenewRequest, Signature,
};
use skep_identity::{
    FoundingToken, INVITATION_PREFIX, Invitation, MAX_FOUNDING_BYTES, MAX_INVITATION_ADDRESSES,
    Role, Roles, Terms, parse_certificate,
};

use super::{Seed, Target, name};

/// A node's certificate in DER, read by our own reader.
pub(super) const CERTIFICATE: Target = Target {
    name: "certificate",
    decode: fuzz_certificate,
    seeds: || vec![("queen", include_bytes!("../../corpus/certificate/queen").to_vec())],
    accepts: |data| parse_certificate(data).is_ok(),
};

/// Joining and renewal.
pub(super) const ENROLMENT: Target = Target {
    name: "enrolment",
    decode: fuzz_enrolment,
    seeds: enrolment_seeds,
    accepts: |data| Message::decode(data).is_ok(),
};

/// An invitation as one word, and as what such a word may hold: the checksum keeps what was merely
/// mistyped away from the reader, not what somebody makes on purpose.
pub(super) const INVITATION: Target = Target {
    name: "invitation",
    decode: fuzz_invitation,
    seeds: invitation_seeds,
    accepts: |data| words(data).iter().any(|word| word.parse::<Invitation>().is_ok()),
};

/// A founding token, which travels between members as it is.
pub(super) const FOUNDING: Target = Target {
    name: "founding",
    decode: fuzz_founding,
    seeds: || vec![("first", founding())],
    accepts: |data| FoundingToken::from_bytes(data).is_ok(),
};

fn fuzz_founding(data: &[u8]) {
    if let Ok(token) = FoundingToken::from_bytes(data) {
        assert!(data.len() <= MAX_FOUNDING_BYTES, "longer than any token");
        let again = FoundingToken::from_bytes(&token.to_bytes());
        assert!(again.is_ok_and(|again| again == token), "means the same");
        assert!(!format!("{token:?}").contains("signature"), "it is a secret");
    }
}

/// A token that no CA signed.
fn founding() -> Vec<u8> {
    let (bloc, node) = (name::<BlocName>("example"), name::<NodeName>("web-1"));
    let not_after = WallTime::from_unix_ms(1_800_000_000_000);
    skep_wire::encode(&(1_u8, bloc, node, 1_u64, not_after, Signature([5; 64])))
}

fn fuzz_certificate(data: &[u8]) {
    if let Ok(info) = parse_certificate(data) {
        assert_eq!(
            info.id,
            skep_base::NodeId::derive(&info.bloc, &info.node),
            "the identity follows from the names"
        );
        assert_eq!(parse_certificate(data).as_ref(), Ok(&info));
    }
}

fn fuzz_enrolment(data: &[u8]) {
    if let Ok(message) = Message::decode(data) {
        assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(&message));
    }
}

/// The word that the input is, where it is text, and the word that holds it.
fn words(data: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(data).ok().map(str::to_owned);
    text.into_iter().chain([invitation_of(data)]).collect()
}

fn fuzz_invitation(data: &[u8]) {
    for word in words(data) {
        match word.parse::<Invitation>() {
            Ok(invitation) => {
                assert!(invitation.addresses.len() <= MAX_INVITATION_ADDRESSES);
                assert_eq!(invitation.to_string().parse(), Ok(invitation));
            }
            // It is a secret, even where a character of it is missing.
            Err(error) => {
                let said = error.to_string();
                assert!(word.len() < 40 || !said.contains(&word), "repeats the word: {said}");
            }
        }
    }
}

/// `content` as an invitation that was not changed on its way: with its checksum, in base 32.
fn invitation_of(content: &[u8]) -> String {
    const SYMBOLS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let sum = Digest::of_parts(&[b"skep invitation", content]).0;
    let mut word = INVITATION_PREFIX.to_owned();
    let (mut held, mut bits) = (0_u32, 0);
    let mut push = |five: u32| word.push(char::from(SYMBOLS[(five & 31) as usize]));
    for byte in content.iter().chain(&sum[..4]) {
        held = held << 8 & 0xFFFF | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            push(held >> bits);
        }
    }
    if bits > 0 {
        push(held << (5 - bits));
    }
    word
}

fn invitation_seeds() -> Vec<Seed> {
    let addresses = ["192.0.2.1:7400", "[2001:db8::1]:7400"];
    let addresses: Vec<SocketAddr> =
        addresses.iter().filter_map(|text| text.parse().ok()).collect();
    let content = |terms: &Terms, addresses: &[SocketAddr]| {
        let (bloc, expires_s, seed) = (name::<BlocName>("example"), 1_800_000_000_u64, [9_u8; 32]);
        let content = (bloc, Digest([7; 32]), addresses, expires_s, terms, seed);
        [vec![1], skep_wire::encode(&content)].concat()
    };
    let bound = Terms {
        node: Some(name::<NodeName>("web-1")),
        network: Some(name::<NetworkName>("rack-a")),
        roles: Roles::NONE.with(Role::Queen),
    };
    let (whole, free) = (content(&bound, &addresses), content(&Terms::default(), &[]));
    vec![("word", invitation_of(&whole).into_bytes()), ("content", whole), ("free", free)]
}

fn enrolment_seeds() -> Vec<Seed> {
    let at = WallTime::from_unix_ms(1_800_000_000_000);
    let seed = |name, message: Message| (name, message.encode());
    vec![
        seed(
            "join",
            Message::Join(JoinRequest {
                bloc: name("example"),
                invitation: [1; 32],
                node: name("web-1"),
                public_key: [2; 32],
                proof: Signature([3; 64]),
                voucher: Signature([4; 64]),
            }),
        ),
        seed(
            "renew",
            Message::Renew(RenewRequest { public_key: [2; 32], proof: Signature([3; 64]) }),
        ),
        seed(
            "granted",
            Message::Granted(Granted { certificate: vec![1; 40], authority: vec![2; 40] }),
        ),
        seed(
            "founded",
            Message::Founded(Founded {
                granted: Granted { certificate: vec![1; 40], authority: vec![2; 40] },
                founding: founding(),
            }),
        ),
        seed("denied", Message::Denied(Denial::NameTaken { node: name("web-1"), until: at })),
    ]
}
