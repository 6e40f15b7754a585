//! What two nodes say to one another to measure. Frame kind [`skep_wire::kind::ESTIMATES`].

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::coordinate::WireCoordinate;

/// A message over a control link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Answer at once.
    Ping {
        /// Comes back in the answer.
        token: u32,
    },
    /// The answer, and where the one who answers is in the network's space.
    Pong(Pong),
    /// A piece of a train: bytes sent only to see how long they take.
    Train {
        /// Which train.
        token: u32,
        /// Pieces still to come; the last is answered.
        left: u16,
        /// Without meaning.
        padding: ByteBuf,
    },
    /// A train is complete.
    Arrived {
        /// Which train.
        token: u32,
        /// Bytes that came after the first moment anything of it came.
        later: u32,
        /// From that moment to the last piece, in microseconds.
        span_us: u32,
    },
}

/// The answer to a ping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    pub(crate) token: u32,
    pub(crate) coordinate: Option<WireCoordinate>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Coordinate;
    use skep_wire::encode;

    #[test]
    fn messages_are_part_of_the_protocol() {
        assert_eq!(encode(&Message::Ping { token: 300 }), [0, 172, 2]);
        let coordinate = Some(WireCoordinate::new(&Coordinate::ORIGIN));
        let pong = encode(&Message::Pong(Pong { token: 1, coordinate }));
        assert_eq!(pong, [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 10, 220, 11, 0], "{pong:?}");
        let train = Message::Train { token: 2, left: 3, padding: ByteBuf::from([9; 4]) };
        assert_eq!(encode(&train), [2, 2, 3, 4, 9, 9, 9, 9]);
        let arrived = Message::Arrived { token: 2, later: 128, span_us: 5 };
        assert_eq!(encode(&arrived), [3, 2, 128, 1, 5]);
    }
}
