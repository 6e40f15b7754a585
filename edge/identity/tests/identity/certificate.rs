//! Certificates: what is read, what is refused, and what others think of ours.

use std::process::Command;
use std::time::Duration;

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PKCS_ED25519, SanType,
};
use skep_base::WallTime;
use skep_identity::{
    CertError, IssueRequest, Role, Roles, Trust, Validity, judgement_time, judgement_time_of,
    parse_certificate,
};

use crate::common::{Bloc, DAY, START, after, bloc, node};

/// A CA that is not ours but makes what ours makes, with changes: a company's own, or a forger's.
struct OtherCa {
    issuer: Issuer<'static, KeyPair>,
    trust: Trust,
}

/// A part of a bloc's name.
fn domain_component() -> DnType {
    DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 25])
}

fn other_ca() -> OtherCa {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    let trust = Trust::new("example".parse().unwrap(), vec![certificate.der().clone()]).unwrap();
    OtherCa { issuer: Issuer::new(params, key), trust }
}

fn plain(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(domain_component(), DnValue::Ia5String("example".try_into().unwrap()));
    name.push(DnType::CommonName, "a");
    params.distinguished_name = name;
    params.subject_alt_names =
        uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params
}

impl OtherCa {
    fn make(&self, params: &CertificateParams) -> Vec<u8> {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        params.signed_by(&key, &self.issuer).unwrap().der().to_vec()
    }
}

fn reason(der: &[u8]) -> &'static str {
    match parse_certificate(der) {
        Err(CertError::NotOurs { what }) => what,
        other => panic!("should not have been ours: {other:?}"),
    }
}

#[test]
fn a_certificate_of_another_tool_with_the_same_content_is_ours() {
    let ca = other_ca();
    let mut params = plain(&[
        "skep://example/a",
        "skep://example/network/rack-1",
        "skep://example/role/queen",
        "skep://example/role/emperor",
        "https://example.com/unrelated",
    ]);
    params.subject_alt_names.push(SanType::DnsName("a.example".try_into().unwrap()));
    let info = ca.trust.verify(&ca.make(&params), START, DAY).unwrap();
    assert_eq!(info.network.unwrap().as_str(), "rack-1");
    assert_eq!(info.roles, Roles::NONE.with(Role::Queen));
}

#[test]
fn names_that_contradict_one_another_are_refused() {
    let ca = other_ca();
    let with = |uris: &[&str]| ca.make(&plain(uris));
    assert_eq!(reason(&with(&[])), "it holds no URI");
    let different = "its URIs and its subject name different nodes";
    assert_eq!(reason(&with(&["skep://example/b"])), different);
    assert_eq!(reason(&with(&["skep://example/role/queen"])), different);
    assert_eq!(reason(&with(&["skep://example/a", "skep://example/b"])), different);
    assert_eq!(
        reason(&with(&["skep://example/a", "skep://elsewhere/a"])),
        "a URI names another bloc than the subject"
    );
    assert_eq!(reason(&with(&["skep://example"])), "a URI has no path");
    assert_eq!(
        reason(&with(&[
            "skep://example/a",
            "skep://example/network/x",
            "skep://example/network/y"
        ])),
        "it names two networks"
    );
    assert_eq!(
        reason(&with(&["skep://example/a", "skep://example/network/no/net"])),
        "its network is no network name"
    );
    let many = vec!["skep://example/role/queen"; 40];
    assert_eq!(reason(&with(&many)), "it holds too many names");
}

#[test]
fn subjects_of_another_shape_are_refused() {
    let ca = other_ca();
    let mut params = plain(&["skep://example/a"]);
    params.distinguished_name.push(DnType::OrganizationName, "Example Ltd");
    assert_eq!(reason(&ca.make(&params)), "its subject has other parts than CN and DC");
    for (common, why) in [
        ("A", "its common name is no node name"),
        ("a/b", "its common name is no node name"),
        ("skep CA", "it is a CA's, where a node's is expected"),
    ] {
        let mut params = plain(&["skep://example/a"]);
        params.distinguished_name.push(DnType::CommonName, common);
        assert_eq!(reason(&ca.make(&params)), why);
    }
    let mut params = plain(&["skep://example/a"]);
    params.distinguished_name.remove(domain_component());
    assert_eq!(reason(&ca.make(&params)), "the DC parts of its subject are no bloc name");
}

#[test]
fn other_kinds_of_keys_are_refused() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let der = plain(&["skep://example/a"]).self_signed(&key).unwrap();
    assert_eq!(reason(der.der()), "its keys and signatures are not Ed25519");
}

#[test]
fn what_only_the_chain_s_judge_sees_is_refused_too() {
    let ca = other_ca();
    let refused =
        |params: &CertificateParams| ca.trust.verify_chain_only(&ca.make(params)).unwrap_err();
    let mut params = plain(&["skep://example/a"]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert!(refused(&params).to_string().contains("may sign others"));

    let mut params = plain(&["skep://example/a"]);
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 9999], vec![5, 0]);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
    assert!(refused(&params).to_string().contains("extension"));

    let mut params = plain(&["skep://example/a"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    assert!(refused(&params).to_string().contains("TLS"));
}

#[test]
fn a_node_cannot_certify_another_node() {
    let bloc = bloc("example");
    let member = bloc.node("a");
    let dir = tempfile::tempdir().unwrap();
    member.store(dir.path()).unwrap();
    let pem = std::fs::read_to_string(dir.path().join(skep_identity::KEY_FILE)).unwrap();
    // Its own subject as the issuer, its own key as the signer.
    let issuer = Issuer::new(plain(&[]), KeyPair::from_pem(&pem).unwrap());
    let mut params = plain(&["skep://example/b"]);
    params.distinguished_name.push(DnType::CommonName, "b");
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let forged = params.signed_by(&key, &issuer).unwrap();
    assert_eq!(parse_certificate(forged.der()).unwrap().node, node("b"));
    assert!(matches!(
        bloc.ca.trust().verify(forged.der(), START, DAY),
        Err(CertError::ForeignCa { .. })
    ));
}

#[test]
fn dates_are_judged_apart_from_the_chain() {
    let bloc = bloc("example");
    let der = bloc.node("a").certificate_der().to_vec();
    let trust = bloc.ca.trust();
    let long_after = after(DAY * 400);
    let info = trust.verify_chain_only(&der).unwrap();
    assert_eq!(info.validity(long_after), Validity::Expired(DAY * 370));
    assert_eq!(info.validity(START), Validity::Valid);
    // Remembered as of a good chain, and still refused for its date.
    assert!(matches!(trust.verify(&der, long_after, DAY), Err(CertError::Expired { .. })));
    assert!(trust.verify(&der, after(DAY * 30), Duration::ZERO).is_ok());
    assert!(trust.verify(&der, after(DAY * 31), Duration::ZERO).is_err());
}

#[test]
fn the_latest_of_three_clocks_judges() {
    let at = WallTime::from_unix_ms;
    assert_eq!(judgement_time(at(3), at(2), at(1)), at(3));
    assert_eq!(judgement_time(at(0), at(2), at(1)), at(2));
    assert_eq!(judgement_time(at(0), at(2), at(5)), at(5));
}

#[test]
fn a_clock_that_was_wrong_for_a_while_locks_nobody_out() {
    let own = bloc("example").node("a").info().clone();
    let (built, zero) = (WallTime::from_unix_ms(1), WallTime::default());
    let judged = |wall, noted| judgement_time_of(&own, DAY * 7, wall, built, noted);
    let day = u64::try_from(DAY.as_millis()).unwrap();
    let days = |days: u64| WallTime::from_unix_ms(own.not_before.unix_ms + days * day);
    // It was never set, or went back: no earlier than our own certificate, and than what was noted.
    assert_eq!(judged(zero, zero), own.not_before);
    assert_eq!(judged(zero, days(3)), days(3));
    assert_eq!(judged(days(1), days(3)), days(3));
    assert_eq!(judged(days(5), days(3)), days(5));
    // It ran ahead by more than a year, and was set right.
    assert_eq!(judged(days(5), days(400)), days(5));
    // It went back to a time at which there was no such certificate: what was noted stands.
    assert_eq!(judged(zero, days(400)), days(400));
    assert_eq!(judged(days(400), days(390)), days(400));
}

#[test]
fn the_longest_names_fit() {
    let label = "a".repeat(63);
    let long = format!("{label}.{label}.{label}.bbbbbbbb");
    assert_eq!(long.len(), 200);
    let bloc = bloc(&long);
    let asked = IssueRequest {
        network: Some(long.parse().unwrap()),
        roles: Role::ALL.into_iter().collect(),
        ..IssueRequest::new(node(&long))
    };
    let identity = bloc.ca.issue(&asked, START).unwrap();
    let length = identity.certificate_der().len();
    assert!(length < skep_identity::MAX_CERTIFICATE_BYTES, "{length}");
    assert_eq!(identity.info().bloc.as_str(), long);
}

#[test]
fn no_changed_byte_passes_for_the_original() {
    let bloc = bloc("example.com");
    let der = bloc.node("a").certificate_der().to_vec();
    for at in 0..der.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = der.clone();
            changed[at] ^= flip;
            assert!(
                bloc.ca.trust().verify_chain_only(&changed).is_err(),
                "byte {at} xor {flip:#x}"
            );
        }
    }
    for length in 0..der.len() {
        assert!(parse_certificate(&der[..length]).is_err());
    }
    let mut longer = der;
    longer.push(0);
    assert!(parse_certificate(&longer).is_err());
    assert!(matches!(parse_certificate(&[0x30; 5000]), Err(CertError::TooLong { bytes: 5000 })));
}

#[test]
#[expect(clippy::print_stderr, reason = "says in one line what could not be run")]
fn openssl_reads_what_we_write() {
    let bloc = bloc("example.com");
    let identity = named(&bloc);
    let dir = tempfile::tempdir().unwrap();
    identity.store(dir.path()).unwrap();
    let run = |arguments: &[&str]| {
        let made = Command::new("openssl").current_dir(dir.path()).args(arguments).output();
        made.ok().map(|output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.success(), text + &errors)
        })
    };
    let Some((ok, text)) =
        run(&["x509", "-in", "node.pem", "-noout", "-text", "-nameopt", "RFC2253"])
    else {
        eprintln!("left out: openssl is not installed to read our certificates");
        return;
    };
    assert!(ok, "{text}");
    assert!(text.contains("Subject: CN=web-1,DC=example,DC=com"), "{text}");
    assert!(text.contains("URI:skep://example.com/web-1"), "{text}");
    assert!(text.contains("URI:skep://example.com/role/queen"), "{text}");
    assert!(text.contains("CA:FALSE"), "{text}");
    let at = (START.unix_ms / 1000).to_string();
    let (ok, text) =
        run(&["verify", "-x509_strict", "-attime", &at, "-CAfile", "ca.pem", "node.pem"]).unwrap();
    assert!(ok, "{text}");
    let (ok, text) = run(&["pkey", "-in", "node.key", "-noout", "-text"]).unwrap();
    assert!(ok && text.contains("ED25519"), "{text}");
}

fn named(bloc: &Bloc) -> skep_identity::Identity {
    let asked = IssueRequest {
        network: Some("rack-1".parse().unwrap()),
        roles: Roles::NONE.with(Role::Queen),
        ..IssueRequest::new(node("web-1"))
    };
    bloc.ca.issue(&asked, START).unwrap()
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_fail_otherwise_than_by_refusing(
        bytes in proptest::collection::vec(any::<u8>(), 0..600)
    ) {
        prop_assert!(parse_certificate(&bytes).is_err());
    }
}

#[test]
fn damaged_certificates_never_make_the_reader_panic() {
    let bloc = bloc("example.com");
    let der = named(&bloc).certificate_der().to_vec();
    let mut rng = skep_base::Rng::seeded(1);
    for _ in 0..20_000 {
        let mut changed = der.clone();
        for _ in 0..=rng.within(0..4) {
            let at = rng.index(changed.len()).unwrap();
            changed[at] = u8::try_from(rng.within(0..256)).unwrap();
        }
        if let Ok(info) = parse_certificate(&changed) {
            // Dates, keys and serial numbers may differ; names must be names.
            assert_eq!(info.bloc.as_str(), info.bloc.as_str().to_ascii_lowercase());
        }
    }
}
