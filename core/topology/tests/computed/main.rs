//! The computed overlay, from outside: what it promises, and how it is written down.

#![expect(clippy::unwrap_used, reason = "tests stop at what they did not expect")]
#![expect(clippy::cast_possible_truncation, reason = "numbers of a test are small")]

mod fleet;
mod formats;
mod promises;
