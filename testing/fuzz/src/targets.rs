//! The decoders, with what must hold of them.

mod catalog;
mod discovery;
mod estimates;
mod flood;
mod identity;
mod image;
mod lines;
mod log;
mod managers;
mod spine;
mod text;
mod topology;
mod wave;

use std::fmt::Debug;
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A valid message, with the name of its file in the corpus.
pub(crate) type Seed = (&'static str, Vec<u8>);

/// One decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called on the command line and in `corpus/`.
    pub name: &'static str,
    /// Feeds it. Panics when a property does not hold.
    pub decode: fn(&[u8]),
    /// Valid messages: each must be accepted, and be in the corpus as it is.
    pub seeds: fn() -> Vec<Seed>,
    /// Whether it accepts a message.
    pub accepts: fn(&[u8]) -> bool,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    spine::FRAME,
    spine::HELLO,
    spine::RECORD,
    spine::RECORDS,
    spine::MEMBERSHIP,
    identity::CERTIFICATE,
    identity::ENROLMENT,
    identity::INVITATION,
    identity::FOUNDING,
    discovery::ANNOUNCEMENT,
    discovery::BEACON,
    text::CONFIG,
    text::ADDRESSES,
    text::SEXP,
    text::FLOODD,
    flood::PACKET,
    flood::STORED,
    log::SEGMENT,
    image::MANIFEST,
    image::SEAL,
    image::PATH,
    topology::DECREE,
    topology::ANSWER,
    topology::MESSAGE,
    estimates::RECORD,
    estimates::WAYS,
    estimates::MESSAGE,
    catalog::COMMAND,
    catalog::ITEM,
    catalog::MESSAGE,
    catalog::SNAPSHOT,
    wave::CHUNKS,
    wave::WAVE,
    lines::COMMANDS,
    lines::REPLIES,
    managers::MESSAGE,
];

/// What was accepted can be said again, and means the same.
fn said_again<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    what: &'static str,
    data: &[u8],
) {
    if let Ok(message) = skep_wire::decode::<T>(what, data) {
        let bytes = skep_wire::encode(&message);
        assert_eq!(skep_wire::decode::<T>(what, &bytes).as_ref(), Ok(&message));
    }
}

/// A name that is one, for seeds.
fn name<T: FromStr<Err: Debug>>(text: &str) -> T {
    match text.parse() {
        Ok(name) => name,
        Err(error) => panic!("{text:?} is no name: {error:?}"),
    }
}
