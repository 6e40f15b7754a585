//! The project's one command surface: `cargo xtask demo|test|ci|tidy|sim|lab|bench`.
//!
//! Everything that a contributor or a machine runs on this project is a subcommand here, written in
//! Rust, so that a fresh machine needs cargo and nothing else: no shell, no make, no extra tool.
//! [`gate`] is the test command (all tiers, one closing line), [`tidy`] are the rules that neither
//! compiler nor clippy can check, [`mod@bench`] measures the release binary beside its peers.
//!
//! The commands only drive other programs. What they check lives where it belongs: behaviour in the
//! crates, whole flocks in `testing/sim`, hosts and faults in `testing/lab`.

pub mod bench;
pub mod gate;
pub mod packages;
pub mod process;
pub mod tidy;

use std::path::{Path, PathBuf};

/// The root of the project, whichever folder the command was called in.
#[must_use]
pub fn root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder).to_owned()
}

/// Says one line on standard error; standard output belongs to results.
#[expect(clippy::print_stderr, reason = "talking to the person at the terminal is the job")]
pub fn say(line: impl std::fmt::Display) {
    eprintln!("{line}");
}

/// Prints one line of a result on standard output.
#[expect(clippy::print_stdout, reason = "printing results is the job")]
pub fn print(line: impl std::fmt::Display) {
    println!("{line}");
}
