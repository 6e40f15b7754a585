//! Certificates and enrolment: what a stranger may say before anybody knows who he is.

use skep_base::WallTime;
use skep_identity::message::{Denial, Granted, JoinRequest, Message, RenewRequest, Signature};
use skep_identity::parse_certificate;

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
        seed("denied", Message::Denied(Denial::NameTaken { node: name("web-1"), until: at })),
    ]
}
