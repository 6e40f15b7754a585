//! What is asked of the master, from whichever node it is asked at, and what comes back.

use alloc::string::String;
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::{Incarnation, NodeId};
use skep_wire::{Malformed, decode, encode};

use crate::catalog::Outcome;
use crate::command::MAX_COMMAND_BYTES;
use crate::slot::Stamp;

/// Longest reason of a refusal.
const MAX_WHY_BYTES: usize = 1024;
/// Longest founding token: as `skep-identity` writes them.
pub const MAX_TOKEN_BYTES: usize = 1024;

/// Longest page that a master shows: as `skep-managers` writes them.
pub const MAX_SHOWN_BYTES: usize = 16 * 1024;

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// That a [`crate::Command`] happens.
    Propose(Bytes),
    /// That the flock is managed otherwise.
    Manage(Order),
    /// That the master says who of its roster is there now.
    RollCall,
    /// That the flock becomes strong: somebody has a founding token of the bloc's CA.
    Strengthen {
        /// The token.
        token: Token,
        /// For which history it was destroyed, and for no other; nothing where it is only offered.
        of: Option<u64>,
    },
    /// That the master shows what it knows of the flock's management. Changes nothing, so it may be
    /// asked of anybody any number of times.
    Look,
}

/// The bytes of a founding token, which this crate cannot read. At most [`MAX_TOKEN_BYTES`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(pub Bytes);

impl fmt::Debug for Token {
    /// Without the bytes: traces are read by many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What an operator may order of the flock's management.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// The master hands over to its best backup.
    StepDown,
    /// The master hands over to this backup.
    Transfer(NodeId),
    /// This node becomes a backup.
    Promote(NodeId),
    /// This backup becomes eligible again.
    Demote(NodeId),
    /// This node manages nothing until it is released.
    Hold(NodeId),
    /// It may manage again.
    Release(NodeId),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Granted {
    /// The command was decided, and is on every disk that it must be on.
    Decided {
        /// Its place in the managers' log.
        index: u64,
        /// Under which mastership.
        stamp: Stamp,
        /// Whether it survives while one member of the sync set keeps its disk.
        strong: bool,
        /// Whether it happened.
        outcome: Outcome,
    },
    /// The order was carried out.
    Done,
    /// It was not done.
    Refused {
        /// Why, and what to do.
        why: String,
        /// It surely did not happen, and may be asked again in a moment.
        again: bool,
    },
    /// Who of the roster answered the master after this was asked, while its lease lasts.
    Called {
        /// How many are on the roster.
        roster: u16,
        /// How many of them are there, the master among them.
        there: u16,
        /// The master has strict authority.
        strict: bool,
    },
    /// The founding token is wanted: whoever has it destroys it for this history, and then asks
    /// again.
    Wanted {
        /// Which.
        lineage: u64,
    },
    /// What the master knows, which this crate cannot read. At most [`MAX_SHOWN_BYTES`].
    Shown(Bytes),
}

/// Which wish of a node's: the same however often, and over whichever way, it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// The asker's process.
    pub life: u64,
    /// The number that it gave the wish.
    pub serial: u64,
    /// The lowest number of those that it still waits for.
    pub first: u64,
}

/// A frame between a node and the master, and the body of a routed request and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forward {
    /// Something is asked.
    Ask {
        /// Which wish it is.
        name: Name,
        /// The life of the master that it is asked of: another knows nothing of what that one did,
        /// and refuses.
        of: Incarnation,
        /// What.
        wish: Wish,
    },
    /// What came of it.
    Answer {
        /// The asker's number.
        serial: u64,
        /// What.
        granted: Granted,
    },
    /// Another life of the master was asked, of which this one knows nothing.
    Restarted {
        /// The asker's number.
        serial: u64,
    },
}

impl Forward {
    /// As a body.
    #[must_use]
    pub fn to_body(&self) -> Bytes {
        encode(self).into()
    }

    /// From a body.
    ///
    /// # Errors
    /// [`Malformed`], also where a bound is broken.
    pub fn from_body(body: &[u8]) -> Result<Self, Malformed> {
        let message: Self = decode("wish to the master", body)?;
        let fits = match &message {
            Self::Ask { wish: Wish::Propose(command), .. } => command.len() <= MAX_COMMAND_BYTES,
            Self::Answer { granted: Granted::Refused { why, .. }, .. } => {
                why.len() <= MAX_WHY_BYTES
            }
            Self::Ask { wish: Wish::Strengthen { token, .. }, .. } => {
                token.0.len() <= MAX_TOKEN_BYTES
            }
            Self::Answer { granted: Granted::Shown(page), .. } => page.len() <= MAX_SHOWN_BYTES,
            Self::Ask { wish: Wish::Manage(_) | Wish::RollCall | Wish::Look, .. }
            | Self::Answer {
                granted:
                    Granted::Decided { .. }
                    | Granted::Done
                    | Granted::Called { .. }
                    | Granted::Wanted { .. },
                ..
            }
            | Self::Restarted { .. } => true,
        };
        if fits { Ok(message) } else { Err(Malformed { what: "wish to the master" }) }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const NAME: Name = Name { life: 1, serial: 2, first: 3 };

    fn ask(wish: Wish) -> Forward {
        Forward::Ask { name: NAME, of: Incarnation(4), wish }
    }

    fn answer(granted: Granted) -> Forward {
        Forward::Answer { serial: 2, granted }
    }

    /// Invariant 4: what a released version said is understood by the next.
    #[test]
    fn wishes_and_answers_are_the_golden_bytes() {
        let body = Bytes::from_static(&[7, 8]);
        let node = NodeId::from_bytes([9; 16]);
        let stamp = Stamp { epoch: 3, fork: 5 };
        let outcome = Outcome::Skipped;
        let order: &[u8] = &[[0, 1, 2, 3, 4, 1, 5].as_slice(), &[9; 16]].concat();
        let (roster, there, strict) = (7, 4, true);
        let golden: [(Forward, &[u8]); 12] = [
            (ask(Wish::Propose(body.clone())), &[0, 1, 2, 3, 4, 0, 2, 7, 8]),
            (ask(Wish::Manage(Order::Release(node))), order),
            (ask(Wish::RollCall), &[0, 1, 2, 3, 4, 2]),
            (
                ask(Wish::Strengthen { token: Token(body.clone()), of: Some(6) }),
                &[0, 1, 2, 3, 4, 3, 2, 7, 8, 1, 6],
            ),
            (ask(Wish::Look), &[0, 1, 2, 3, 4, 4]),
            (
                answer(Granted::Decided { index: 6, stamp, strong: true, outcome }),
                &[1, 2, 0, 6, 3, 5, 1, 3],
            ),
            (answer(Granted::Done), &[1, 2, 1]),
            (answer(Granted::Refused { why: "so".into(), again: true }), b"\x01\x02\x02\x02so\x01"),
            (answer(Granted::Called { roster, there, strict }), &[1, 2, 3, 7, 4, 1]),
            (answer(Granted::Wanted { lineage: 6 }), &[1, 2, 4, 6]),
            (answer(Granted::Shown(body)), &[1, 2, 5, 2, 7, 8]),
            (Forward::Restarted { serial: 2 }, &[2, 2]),
        ];
        for (message, golden) in golden {
            assert_eq!(&message.to_body()[..], golden, "{message:?}");
            assert_eq!(Forward::from_body(golden), Ok(message));
        }
    }

    #[test]
    fn what_is_over_its_bound_is_refused() {
        let bytes = |long: usize| Bytes::from(vec![0; long]);
        let shown = |long| Forward::from_body(&answer(Granted::Shown(bytes(long))).to_body());
        assert!(shown(MAX_SHOWN_BYTES).is_ok() && shown(MAX_SHOWN_BYTES + 1).is_err());
        let token = |long| {
            let wish = Wish::Strengthen { token: Token(bytes(long)), of: None };
            Forward::from_body(&ask(wish).to_body())
        };
        assert!(token(MAX_TOKEN_BYTES).is_ok() && token(MAX_TOKEN_BYTES + 1).is_err());
        let proposed = |long| Forward::from_body(&ask(Wish::Propose(bytes(long))).to_body());
        assert!(proposed(MAX_COMMAND_BYTES).is_ok() && proposed(MAX_COMMAND_BYTES + 1).is_err());
    }
}
