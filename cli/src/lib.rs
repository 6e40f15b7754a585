//! The command line: what can be said, what a running agent is asked, and how answers are shown.
//!
//! [`args`] holds the whole command line as types. A command is either asked of an agent, which
//! this crate does through `skep-control`'s client and nothing else, or needs no agent; then it is
//! handed back as an [`Offline`] value for the agent crate to carry out. So this crate opens no
//! state file, holds no key and speaks to no peer.
//!
//! ```text
//!   parse() ─▶ Cli ─▶ task() ─┬─ Online ──────▶ run()                 (here)
//!                             ├─ Completions, Manual ─▶ write_..()    (here)
//!                             └─ Offline ─────▶ agent/offline
//! ```
//!
//! Answers are rendered by pure functions in [`render`]; every listing has `--json`. Exit codes are
//! part of the promise, see [`Exit`]. The verbs are floodd's command port (FLOOD-4 to FLOOD-13) and
//! the administrator's hand in DLIF (DLIF-13, DLIF-23) in one place.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use clap::Parser as _;

pub mod args;
mod exit;
pub mod human;
pub mod render;
mod run;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
mod watch;

pub use args::{Cli, Offline, Online, Task, client_socket, definition};
pub use exit::{Exit, exit_of, is_broken_pipe, report};
pub use watch::WaveBars;

/// Reads the process's arguments; prints help or says what is wrong, and exits, where there is
/// nothing to carry out.
#[must_use]
pub fn parse() -> Cli {
    Cli::parse()
}

/// Asks the agent what `verb` says and prints the answer; says on standard error what went wrong.
#[must_use]
pub fn run(verb: Online) -> Exit {
    let asked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")
        .and_then(|runtime| {
            // Not locked: a channel prints from a thread of its own.
            let mut out = io::stdout();
            let mut screen = run::Screen::of_process(&mut out);
            runtime.block_on(run::carry_out(verb, &mut screen))
        });
    end(asked)
}

/// Ends a command: says on standard error what went wrong, unless the reader of our output left.
#[must_use]
pub fn end(result: anyhow::Result<Exit>) -> Exit {
    let error = match result {
        Ok(exit) => return exit,
        Err(error) => error,
    };
    if is_broken_pipe(&error) {
        return Exit::Done;
    }
    // Where standard error is gone as well there is nobody to tell.
    drop(report(&mut io::stderr().lock(), &error));
    exit_of(&error)
}

/// Prints the completion script for `shell`.
///
/// # Errors
/// Standard output cannot be written to.
pub fn write_completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition(), "skep", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}

/// Writes a manual page for `skep` and for each of its commands into `dir`.
///
/// # Errors
/// The directory cannot be made or written to.
pub fn write_manual(dir: &Path) -> anyhow::Result<Exit> {
    let cannot = || format!("cannot write manual pages into {}", dir.display());
    std::fs::create_dir_all(dir).with_context(cannot)?;
    clap_mangen::generate_to(definition(), dir).with_context(cannot)?;
    set_sections(dir, &definition(), "skep").with_context(cannot)?;
    Ok(Exit::Done)
}

/// Gives the pages of a command and of all below it their sections and title lines.
fn set_sections(dir: &Path, command: &clap::Command, name: &str) -> io::Result<()> {
    let path = dir.join(format!("{name}.1"));
    let page = std::fs::read_to_string(&path)?;
    std::fs::write(path, in_sections(&page, name))?;
    command
        .get_subcommands()
        .try_for_each(|below| set_sections(dir, below, &format!("{name}-{}", below.get_name())))
}

/// What stands behind the options has headings of its own, such as `EXAMPLE`, which the generator
/// takes for text.
fn in_sections(page: &str, name: &str) -> String {
    let heading =
        |line: &str| !line.is_empty() && line.chars().all(|c| c.is_ascii_uppercase() || c == ' ');
    let mut lines = page.lines().peekable();
    let mut text = String::new();
    while let Some(line) = lines.next() {
        match line {
            title if title.starts_with(".TH ") => {
                let version = env!("CARGO_PKG_VERSION");
                text.push_str(&format!(".TH {name} 1 \"\" \"skep {version}\" \"Skep\""));
            }
            ".SH EXTRA" if lines.peek().is_some_and(|next| heading(next)) => continue,
            ".SH EXTRA" => text.push_str(".SH NOTES"),
            line if heading(line) => text.push_str(&format!(".SH {line}")),
            line => text.push_str(line),
        }
        text.push('\n');
    }
    text
}
