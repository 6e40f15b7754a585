//! Who a node is and whom it believes: the bloc's CA, keys and certificates, joining and renewal,
//! and TLS as the agents speak it (BLOC-7, BLOC-33 to BLOC-38, BLOC-46).
//!
//! Every node has one certificate, issued by its bloc's own CA, that names the node and the bloc.
//! Names in every protocol come from it and from nowhere else. A link stands when the other side's
//! certificate ends at the same CA, names the same bloc, and is not expired beyond a grace. There
//! are no revocation lists: certificates are short-lived and renewed without anybody's doing, and a
//! node that must go is expelled by a decree.
//!
//! | to | use |
//! |---|---|
//! | read what a certificate says | [`parse_certificate`] |
//! | judge one | [`Trust::verify`], [`Trust::verify_chain_only`] |
//! | be a node | [`Identity`], and [`IdentityHandle`] while running |
//! | speak TLS | [`tls`] |
//! | be the CA | [`Ca`] |
//! | make the bloc's flock strong, once | [`FoundingToken`] |
//! | join, renew | [`Joining`], [`Renewing`], and [`message`] between them and the CA |
//! | go on after a renewal | [`Identity::show`], [`message::Shown`] over links that stand |
//!
//! Nothing here waits or reads a clock: the time by which certificates are judged is an argument
//! ([`judgement_time_of`] says how to make it). `docs/protocol/identity.md` is the protocol in
//! prose.

#![warn(missing_docs)]

mod beacon_key;
mod ca;
mod certificate;
mod der;
mod enrol;
mod files;
mod founding;
mod handle;
mod identity;
mod invitation;
mod key;
mod ledger;
pub mod message;
mod profile;
mod roles;
mod shown;
pub mod tls;
mod trust;

pub use beacon_key::{
    ALPN_BEACON, BeaconKey, BeaconKeyError, BeaconPublicKey, BeaconPublicKeyError,
};
pub use ca::{
    CA_KEY_FILE, Ca, CaError, DEFAULT_INVITATION_LIFE, DEFAULT_LIFE, Founding, InviteRequest,
    IssueRequest, IssuedNode, MAX_INVITATION_LIFE, MAX_LIFE, MIN_LIFE,
};
pub use certificate::{CertError, CertInfo, MAX_CERTIFICATE_BYTES, Validity, parse_certificate};
pub use enrol::{EnrolError, Joining, Renewing};
pub use files::FileError;
pub use founding::{
    DEFAULT_FOUNDING_LIFE, FOUNDING_FILE, FoundingError, FoundingToken, MAX_FOUNDING_BYTES,
    MAX_FOUNDING_LIFE, MIN_FOUNDING_LIFE,
};
pub use handle::{IdentityHandle, ReplaceError, Watch};
pub use identity::{CA_FILE, CERTIFICATE_FILE, Identity, IdentityError, KEY_FILE};
pub use invitation::{
    INVITATION_PREFIX, Invitation, InvitationError, MAX_INVITATION_ADDRESSES, MAX_INVITATION_CHARS,
    Terms,
};
pub use key::{KeyError, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SigningKey, verify_signature};
pub use ledger::LedgerError;
pub use roles::{Role, RoleError, Roles};
pub use shown::ShownError;
pub use trust::{DEFAULT_GRACE, MAX_AUTHORITIES, Trust, judgement_time, judgement_time_of};
