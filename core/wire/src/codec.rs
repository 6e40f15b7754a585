//! Bodies: postcard, decoded to the last byte or refused.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// A body that is not what its kind promises. Carries the kind's name for the log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}")]
pub struct Malformed {
    /// What was expected.
    pub what: &'static str,
}

/// The bytes of `message`.
///
/// # Panics
/// Never for the messages of this workspace: postcard fails only on types without a known length,
/// and golden tests encode every message once.
#[must_use]
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "only types of unknown length fail, and none is sent")]
    postcard::to_allocvec(message).expect("messages have a known length")
}

/// The message in `body`, all of which must belong to it.
///
/// Postcard checks lengths against the bytes that are there before it allocates, so a lie about a
/// length costs the reader nothing.
///
/// # Errors
/// [`Malformed`] when bytes are missing, left over or out of range.
pub fn decode<'a, T: Deserialize<'a>>(what: &'static str, body: &'a [u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(Malformed { what }),
    }
}

/// What `body` begins with, whatever follows it: to look at a message before it is worth decoding.
///
/// # Errors
/// [`Malformed`] when bytes are missing or out of range.
pub fn decode_front<'a, T: Deserialize<'a>>(
    what: &'static str,
    body: &'a [u8],
) -> Result<T, Malformed> {
    postcard::take_from_bytes(body).map(|(front, _)| front).map_err(|_| Malformed { what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn left_over_and_missing_bytes_are_refused() {
        let mut bytes = encode(&(7_u32, String::from("skep")));
        assert_eq!(decode::<(u32, String)>("pair", &bytes), Ok((7, String::from("skep"))));
        bytes.push(0);
        assert!(decode::<(u32, String)>("pair", &bytes).is_err());
        bytes.truncate(3);
        assert!(decode::<(u32, String)>("pair", &bytes).is_err());
    }

    #[test]
    fn a_claimed_length_beyond_the_body_takes_no_memory() {
        // A vector of 2^60 bytes, of which none follow.
        let lie = encode(&(1_u64 << 60));
        assert!(decode::<Vec<u8>>("bytes", &lie).is_err());
    }
}
