//! Running a target over inputs, and saying which input failed and how to bring it back.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Mutator, within_allowance};

/// An input that a target did not survive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong.
    pub what: String,
    /// The input.
    pub input: Vec<u8>,
    /// Seed and number of the mutation, when it was one.
    pub mutation: Option<(u64, u64)>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if let Some((seed, number)) = self.mutation {
            write!(f, " (seed {seed}, input {number})")?;
        }
        write!(f, "; the input in hexadecimal: ")?;
        self.input.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Runs one input.
///
/// # Errors
/// [`Failure`] when the decoder panicked, a property did not hold, or memory was overdrawn.
pub fn run_one(decode: fn(&[u8]), input: &[u8]) -> Result<(), Failure> {
    let failure = |what: String| Failure { what, input: input.to_vec(), mutation: None };
    let mut panicked = None;
    let within = within_allowance(input.len(), || {
        panicked = catch_unwind(AssertUnwindSafe(|| decode(input))).err();
    });
    if let Some(panic) = panicked {
        let said = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        return Err(failure(format!("panicked: {}", said.unwrap_or_else(|| "no text".into()))));
    }
    if !within {
        return Err(failure(format!(
            "took more memory than an input of {} bytes allows",
            input.len()
        )));
    }
    Ok(())
}

/// Runs `count` mutations of `corpus` that follow from `seed`.
///
/// # Errors
/// The first [`Failure`].
pub fn run_seeded(
    decode: fn(&[u8]),
    corpus: &[Vec<u8>],
    seed: u64,
    count: u64,
) -> Result<(), Failure> {
    let mut mutator = Mutator::seeded(seed);
    for number in 0..count {
        let input = mutator.next(corpus);
        run_one(decode, &input)
            .map_err(|failure| Failure { mutation: Some((seed, number)), ..failure })?;
    }
    Ok(())
}
