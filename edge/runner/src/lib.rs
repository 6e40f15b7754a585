//! Commands of the operator, run so that they can harm neither the agent nor the host: export
//! commands (FLOOD-34, FLOOD-41), topology generators (FLOOD-30), hooks and checks.
//!
//! ```text
//!   agent ──(control socket)── supervisor ──── command ──── whatever it starts
//!     │                         one for each     own session, user, limits
//!     └───────── standard input and output ─────────┘
//! ```
//!
//! A [`Job`] says what is run, as whom, with what on its standard input, and how much of everything
//! it may take. [`Runner::run`] waits for its end and says how it ended. What it starts is its own
//! affair while it runs, and ends with it: between the agent and the command stands a small
//! process, the supervisor, to which the kernel gives every orphan below it. It ends them all when
//! the command has ended, when the agent lets go of the run, and when the agent itself is killed,
//! also those that made a session of their own.
//!
//! A command may come back to the agent as a client. [`Runner::origin`] says of a connection from
//! this host which command it comes from, as everything a command starts stands below its
//! supervisor (FLOOD-42).
//!
//! The supervisor is the agent's own program, called with a word of its own; a `main` that wants to
//! run commands begins with [`supervise_if_asked`].
//!
//! | bounded | by |
//! |---|---|
//! | time | [`Limits::time`], then SIGTERM, and SIGKILL after [`Limits::grace`] |
//! | memory, processor time, open files, processes, size of a file | `setrlimit`, of each process |
//! | standard input | given by the caller, whole or a portion at a time; what is not read is left |
//! | standard output and error | nowhere, or the first so many bytes: [`Output`] |
//! | what can be reached | [`Job::root`] (chroot), [`Job::network`] |

mod job;
mod origin;
mod own;
mod run;
mod supervisor;
mod user;

pub use job::{Input, Job, Limits, Output, Portions, Program};
pub use origin::{Origin, Peer};
pub use own::{let_go_of_start, take_all_files};
pub use run::{Captured, Ended, RunError, Runner, Status};
pub use supervisor::supervise_if_asked;
pub use user::{User, UserError};
