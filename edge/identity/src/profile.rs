//! The one form of certificate that the CA writes.
//!
//! Written by hand and not by `rcgen`, which holds one attribute a type in a name: a bloc of three
//! labels needs three DC parts in one subject (BLOC-46). Everything is Ed25519, so the whole form
//! is on this page; tests read it back with `rustls-webpki`, and with OpenSSL where it is there.

use rustls_pki_types::CertificateDer;
use skep_base::{BlocName, Digest, NetworkName, NodeName, WallTime};

use crate::Roles;
use crate::der::{bits, sequence, tag, time, value};
use crate::key::{KeyError, PUBLIC_KEY_BYTES, SigningKey, random};

/// Contents of the object identifiers that our certificates hold.
pub(crate) mod oid {
    pub(crate) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
    pub(crate) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    pub(crate) const DOMAIN_COMPONENT: &[u8] =
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19];
    pub(crate) const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
    pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
    pub(crate) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
    pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
    pub(crate) const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
    pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
    pub(crate) const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
    pub(crate) const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
}

/// The common name of a CA's own certificate. Holds a space, so no node can be named like it.
pub(crate) const CA_COMMON_NAME: &str = "skep CA";

/// What the CA says of a node.
#[derive(Clone, Debug)]
pub(crate) struct Leaf<'a> {
    pub(crate) bloc: &'a BlocName,
    pub(crate) node: &'a NodeName,
    pub(crate) network: Option<&'a NetworkName>,
    pub(crate) roles: Roles,
    pub(crate) not_before: WallTime,
    pub(crate) not_after: WallTime,
    pub(crate) public_key: &'a [u8; PUBLIC_KEY_BYTES],
}

impl Leaf<'_> {
    /// The certificate, signed by the CA whose subject (content of the name) is `issuer`.
    pub(crate) fn sign(
        &self,
        issuer: &[u8],
        key: &SigningKey,
    ) -> Result<CertificateDer<'static>, KeyError> {
        let mut names = vec![format!("skep://{}/{}", self.bloc, self.node)];
        names.extend(self.network.map(|network| format!("skep://{}/network/{network}", self.bloc)));
        names.extend(self.roles.iter().map(|role| format!("skep://{}/role/{role}", self.bloc)));
        let names: Vec<_> = names.iter().map(|name| value(tag::URI, &[name.as_bytes()])).collect();
        let names: Vec<_> = names.iter().map(Vec::as_slice).collect();
        let usages = sequence(&[&object(oid::SERVER_AUTH), &object(oid::CLIENT_AUTH)]);
        let authority = sequence(&[&value(tag::KEY_ID, &[&key_id(key.public())])]);
        let extensions = [
            extension(oid::SUBJECT_ALT_NAME, false, &sequence(&names)),
            // Digital signature alone.
            extension(oid::KEY_USAGE, true, &value(tag::BIT_STRING, &[&[7, 0x80]])),
            extension(oid::EXTENDED_KEY_USAGE, false, &usages),
            extension(oid::BASIC_CONSTRAINTS, true, &sequence(&[])),
            extension(oid::SUBJECT_KEY_ID, false, &subject_key_id(self.public_key)),
            extension(oid::AUTHORITY_KEY_ID, false, &authority),
        ];
        let subject = name(self.bloc, self.node.as_str());
        let validity = (self.not_before, self.not_after);
        sign(issuer, &subject, validity, self.public_key, &extensions, key)
    }
}

/// A CA's certificate, signed by itself.
pub(crate) fn authority(
    bloc: &BlocName,
    validity: (WallTime, WallTime),
    key: &SigningKey,
) -> Result<CertificateDer<'static>, KeyError> {
    let constraints = sequence(&[
        &value(tag::BOOLEAN, &[&[0xff]]),
        // No further authority below this one.
        &value(tag::INTEGER, &[&[0]]),
    ]);
    let extensions = [
        // Certificate and revocation list signing: the latter because readers expect the pair.
        extension(oid::KEY_USAGE, true, &value(tag::BIT_STRING, &[&[1, 0x06]])),
        extension(oid::BASIC_CONSTRAINTS, true, &constraints),
        extension(oid::SUBJECT_KEY_ID, false, &subject_key_id(key.public())),
    ];
    let subject = name(bloc, CA_COMMON_NAME);
    sign(&subject, &subject, validity, key.public(), &extensions, key)
}

/// Puts the signed part together and signs it.
fn sign(
    issuer: &[u8],
    subject: &[u8],
    (not_before, not_after): (WallTime, WallTime),
    public_key: &[u8; PUBLIC_KEY_BYTES],
    extensions: &[Vec<u8>],
    key: &SigningKey,
) -> Result<CertificateDer<'static>, KeyError> {
    let mut serial = random::<16>()?;
    // Positive, and never shorter than sixteen bytes.
    serial[0] = serial[0] & 0x7f | 0x40;
    let algorithm = sequence(&[&object(oid::ED25519)]);
    let extensions: Vec<_> = extensions.iter().map(Vec::as_slice).collect();
    let signed = sequence(&[
        &value(tag::CONTEXT_0, &[&value(tag::INTEGER, &[&[2]])]),
        &value(tag::INTEGER, &[&serial]),
        &algorithm,
        &sequence(&[issuer]),
        &sequence(&[&time(not_before), &time(not_after)]),
        &sequence(&[subject]),
        &sequence(&[&algorithm, &bits(public_key)]),
        &value(tag::CONTEXT_3, &[&sequence(&extensions)]),
    ]);
    let signature = bits(&key.sign(&signed));
    Ok(CertificateDer::from(sequence(&[&signed, &algorithm, &signature])))
}

/// The content of a name: `DC=com, DC=example, CN=web-1` for the bloc `example.com`. Encoded names
/// go from the widest part to the narrowest; they are shown the other way round (RFC 4514).
fn name(bloc: &BlocName, common: &str) -> Vec<u8> {
    let part = |kind: &[u8], tag: u8, text: &str| {
        value(tag::SET, &[&sequence(&[&object(kind), &value(tag, &[text.as_bytes()])])])
    };
    let mut name: Vec<u8> = bloc
        .as_str()
        .rsplit('.')
        .flat_map(|label| part(oid::DOMAIN_COMPONENT, tag::IA5_STRING, label))
        .collect();
    name.extend(part(oid::COMMON_NAME, tag::UTF8_STRING, common));
    name
}

fn object(id: &[u8]) -> Vec<u8> {
    value(tag::OID, &[id])
}

fn extension(id: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let content = value(tag::OCTET_STRING, &[content]);
    if critical {
        sequence(&[&object(id), &value(tag::BOOLEAN, &[&[0xff]]), &content])
    } else {
        sequence(&[&object(id), &content])
    }
}

fn subject_key_id(public_key: &[u8; PUBLIC_KEY_BYTES]) -> Vec<u8> {
    value(tag::OCTET_STRING, &[&key_id(public_key)])
}

/// Names a key in a certificate; chosen as we like (RFC 5280, 4.2.1.2).
fn key_id(public_key: &[u8; PUBLIC_KEY_BYTES]) -> [u8; 20] {
    let mut id = [0; 20];
    id.copy_from_slice(&Digest::of(public_key).0[..20]);
    id
}
