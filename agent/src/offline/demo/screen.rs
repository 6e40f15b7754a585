//! The demonstration's screen: one line for each thing that held, a spinner for what is waited for.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::say;

/// Columns that the words of a line fill before its time stands.
const WORDS: usize = 76;
/// Redraws a second.
const REDRAW_HERTZ: u8 = 10;

/// Lines on standard output, the spinner on standard error.
pub(super) struct Screen {
    spinner: ProgressBar,
}

impl Screen {
    pub(super) fn new() -> Self {
        let spinner = ProgressBar::no_length();
        if io::stderr().is_terminal() {
            spinner.set_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAW_HERTZ));
        } else {
            spinner.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("  {spinner} {wide_msg}");
        spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self { spinner }
    }

    /// What it is about.
    pub(super) fn begin(&self, what: &str) -> anyhow::Result<()> {
        say(&format!("skep demo: {what}\n\n"))
    }

    /// Says what is waited for, until something else is said.
    pub(super) fn wait(&self, what: &str) {
        if self.spinner.is_finished() {
            self.spinner.reset();
        }
        self.spinner.set_message(what.to_owned());
        self.spinner.tick();
    }

    /// Takes the spinner away.
    pub(super) fn clear(&self) {
        self.spinner.finish_and_clear();
    }

    /// Something that held.
    pub(super) fn line(&self, what: &str, words: &str) -> anyhow::Result<()> {
        self.clear();
        say(&format!("  {what:<10} {words}\n"))
    }

    /// Something that held, and how long it took.
    pub(super) fn timed(&self, what: &str, words: &str, took: Duration) -> anyhow::Result<()> {
        self.line(what, &format!("{words:<WORDS$} {:>8}", super::seconds(took)))
    }

    /// The last line.
    pub(super) fn end(&self, words: &str) -> anyhow::Result<()> {
        self.clear();
        say(&format!("\n{words}\n"))
    }
}
