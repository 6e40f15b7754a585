//! How far a target is: the body of its record of kind `WAVE_STATUS`.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use skep_base::{Digest, ImageName, NodeId};
use skep_wire::{Malformed, decode, encode};

use crate::order::MAX_BODY_BYTES;
use crate::path::{MAX_PATH_BYTES, check_path};

/// Waves that a target's record holds; the oldest go first.
pub const MAX_STATUSES: usize = 16;
/// Longest error as it is published; the log has all of it.
const MAX_ERROR_BYTES: usize = 480;
/// Things that could not be set, by name; the rest is counted.
const MAX_NOT_SET: usize = 4;
/// Longest name of such a thing.
const MAX_NOT_SET_BYTES: usize = 120;

/// What a target does about a wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// Asks for the manifest and compares.
    Comparing,
    /// Fetches what it lacks.
    Fetching,
    /// Builds the new tree beside the active one.
    Staging,
    /// Waits for the disk and changes over.
    Switching,
    /// Has it, and serves it: its clock (DLIF-20).
    Done,
    /// Could not; tries again later where that may help.
    Failed,
}

/// How far a target is with one wave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whose wave.
    pub queen: NodeId,
    /// Which of hers.
    pub number: u64,
    /// What is rolled out.
    pub image: ImageName,
    /// Which version of it.
    pub manifest: Digest,
    /// Where.
    pub at: String,
    /// What it does.
    pub step: Step,
    /// Bytes it has of those the image needs.
    pub bytes_have: u64,
    /// Bytes the image needs.
    pub bytes_all: u64,
    /// Bytes that it fetched in all its lives, the manifest's included.
    pub fetched: u64,
    /// Of them, bytes that came from the queen.
    pub from_queen: u64,
    /// Nodes it fetched from in all its lives.
    pub sources: u16,
    /// Milliseconds from when it learnt of the wave until now or until it was done.
    pub elapsed_ms: u64,
    /// What went wrong.
    pub error: Option<String>,
    /// What could not be set for want of privilege.
    pub not_set: Vec<String>,
    /// How many such things in all.
    pub not_set_count: u64,
}

/// The body of a record of kind `WAVE_STATUS`, schema [`crate::SCHEMA`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statuses {
    /// The latest to change last; one for each image and path.
    pub waves: Vec<Status>,
}

impl Status {
    fn cut(&mut self) {
        if let Some(error) = &mut self.error {
            cut(error, MAX_ERROR_BYTES);
        }
        self.not_set.truncate(MAX_NOT_SET);
        for what in &mut self.not_set {
            cut(what, MAX_NOT_SET_BYTES);
        }
    }

    fn is_sound(&self) -> bool {
        self.error.as_ref().is_none_or(|error| error.len() <= MAX_ERROR_BYTES)
            && self.not_set.len() <= MAX_NOT_SET
            && self.not_set.iter().all(|what| what.len() <= MAX_NOT_SET_BYTES)
            && self.at.len() <= MAX_PATH_BYTES
            && check_path(&self.at).is_ok()
    }
}

impl Statuses {
    /// Notes how far a wave is, instead of what was noted of its image and path before. Texts are
    /// cut, and the oldest waves dropped, until all fits a record.
    pub fn note(&mut self, mut status: Status) {
        status.cut();
        self.waves.retain(|wave| (&wave.image, &wave.at) != (&status.image, &status.at));
        self.waves.push(status);
        while self.waves.len() > MAX_STATUSES || encode(self).len() > MAX_BODY_BYTES {
            // One status is far below the limit: its strings were cut, and names are short.
            self.waves.remove(0);
        }
    }

    /// How far it is with wave `number` of `queen`.
    #[must_use]
    pub fn of(&self, queen: NodeId, number: u64) -> Option<&Status> {
        self.waves.iter().find(|wave| (wave.queen, wave.number) == (queen, number))
    }

    /// The record's body, at most [`MAX_BODY_BYTES`].
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a record's body.
    ///
    /// # Errors
    /// [`Malformed`] when it is not one, or anything in it is over its bound.
    pub fn from_body(body: &[u8]) -> Result<Self, Malformed> {
        let malformed = Malformed { what: "wave status record" };
        if body.len() > MAX_BODY_BYTES {
            return Err(malformed);
        }
        let statuses: Self = decode(malformed.what, body)?;
        let sound =
            statuses.waves.len() <= MAX_STATUSES && statuses.waves.iter().all(Status::is_sound);
        if sound { Ok(statuses) } else { Err(malformed) }
    }
}

/// Cuts `text` to `limit` bytes between two characters, and shows that it did.
fn cut(text: &mut String, limit: usize) {
    const MARK: &str = "…";
    if text.len() <= limit {
        return;
    }
    let mut end = limit - MARK.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str(MARK);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned as _;

    fn status(number: u64, at: &str) -> Status {
        Status {
            queen: NodeId::from_bytes([1; NodeId::LEN]),
            number,
            image: "web".parse().unwrap(),
            manifest: Digest([0xAB; 32]),
            at: at.to_owned(),
            step: Step::Fetching,
            bytes_have: 1,
            bytes_all: 300,
            fetched: 2,
            from_queen: 1,
            sources: 3,
            elapsed_ms: 4,
            error: None,
            not_set: Vec::new(),
            not_set_count: 0,
        }
    }

    #[test]
    fn statuses_have_these_bytes_for_ever() {
        let mut statuses = Statuses::default();
        statuses.note(status(7, "/srv/web"));
        let hex: String =
            statuses.to_body().iter().map(|byte| alloc::format!("{byte:02x}")).collect();
        let expected = [
            "01",
            &"01".repeat(16),
            "07",
            "03776562",
            &"ab".repeat(32),
            "082f7372762f776562",
            "01",
            "01",
            "ac02",
            "02",
            "01",
            "03",
            "04",
            "00",
            "00",
            "00",
        ]
        .concat();
        assert_eq!(hex, expected);
        assert_eq!(Statuses::from_body(&statuses.to_body()), Ok(statuses));
    }

    #[test]
    fn a_record_holds_the_newest_whatever_is_noted() {
        let mut statuses = Statuses::default();
        for number in 1..=40 {
            let mut wordy = status(number, &alloc::format!("/srv/{}/{number}", "d".repeat(900)));
            wordy.error = Some("ö".repeat(5000));
            wordy.not_set = alloc::vec!["é".repeat(500); 100];
            statuses.note(wordy);
            let body = statuses.to_body();
            assert!(body.len() <= MAX_BODY_BYTES);
            assert_eq!(Statuses::from_body(&body).as_ref(), Ok(&statuses));
            let queen = NodeId::from_bytes([1; NodeId::LEN]);
            assert!(statuses.of(queen, number).unwrap().error.as_ref().unwrap().ends_with('…'));
        }
        statuses.note(status(41, "/a"));
        statuses.note(status(42, "/a"));
        assert_eq!(statuses.of(NodeId::from_bytes([1; NodeId::LEN]), 41), None);
    }

    #[test]
    fn what_breaks_a_bound_is_refused_whole() {
        let refused = |change: fn(&mut Status)| {
            let mut bad = status(1, "/a");
            change(&mut bad);
            assert!(Statuses::from_body(&encode(&Statuses { waves: alloc::vec![bad] })).is_err());
        };
        refused(|status| status.error = Some("x".repeat(MAX_ERROR_BYTES + 1)));
        refused(|status| status.not_set = alloc::vec![String::new(); MAX_NOT_SET + 1]);
        refused(|status| status.at = "relative".to_owned());
        assert!(Statuses::from_body(&[0; MAX_BODY_BYTES + 1]).is_err());
    }
}
