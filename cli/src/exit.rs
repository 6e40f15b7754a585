//! How a command ended, for the shell and for the person before it.

use std::io::{self, Write};
use std::process::ExitCode;

use skep_control::ClientError;

/// How a command ended. The numbers are part of the command line's promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed; said why.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No agent can be reached.
    Unreachable = 3,
    /// The agent refused.
    Refused = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Which way `error` ends a command.
#[must_use]
pub fn exit_of(error: &anyhow::Error) -> Exit {
    if let Some(error) = error.downcast_ref::<skep_client::Error>() {
        return match error {
            skep_client::Error::Unreachable { .. } => Exit::Unreachable,
            skep_client::Error::Refused { .. } => Exit::Refused,
            skep_client::Error::Uncertain { .. }
            | skep_client::Error::NoAgent { .. }
            | skep_client::Error::Source(_)
            | skep_client::Error::BrokenOff { .. }
            | skep_client::Error::Identity(_)
            | skep_client::Error::Name(_)
            | skep_client::Error::Server(_)
            | skep_client::Error::Closed
            | skep_client::Error::Runtime(_) => Exit::Failed,
        };
    }
    match error.downcast_ref::<ClientError>() {
        Some(
            ClientError::NotRunning { .. }
            | ClientError::NoPermission { .. }
            | ClientError::Connect { .. },
        ) => Exit::Unreachable,
        Some(ClientError::Refused(_)) => Exit::Refused,
        Some(
            ClientError::BrokeOff { .. }
            | ClientError::TimedOut { .. }
            | ClientError::Malformed { .. }
            | ClientError::TooLarge { .. },
        )
        | None => Exit::Failed,
    }
}

/// Whether `error` only says that whoever read our output has had enough (`skep members | head`).
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// Says `error` with its causes, one a line, and what to do about it.
///
/// # Errors
/// `out` cannot be written to.
pub fn report(out: &mut impl Write, error: &anyhow::Error) -> io::Result<()> {
    writeln!(out, "skep: {error}")?;
    for cause in error.chain().skip(1) {
        writeln!(out, "  because {cause}")?;
    }
    let hint = error.downcast_ref::<ClientError>().and_then(ClientError::hint);
    if let Some(skep_client::Error::Unreachable { .. }) = error.downcast_ref() {
        let hint = "start the agent, run this as root or as a member of the group that its \
                    `client.group` names, or give --connect";
        return writeln!(out, "  hint: {hint}");
    }
    match hint {
        Some(hint) => writeln!(out, "  hint: {hint}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use skep_control::api::{Code, Refusal};

    fn said(error: &anyhow::Error) -> String {
        let mut out = Vec::new();
        report(&mut out, error).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_missing_agent_is_exit_3_with_a_hint() {
        let error =
            anyhow::Error::from(ClientError::NotRunning { path: "/run/skep/control.sock".into() });
        assert_eq!(exit_of(&error), Exit::Unreachable);
        let expected = "skep: no agent listens on /run/skep/control.sock\n  \
            hint: start it with `systemctl start skep` or `skep agent --config FILE`; if it \
            uses another socket than /run/skep/control.sock, give --socket\n";
        assert_eq!(said(&error), expected);
    }

    #[test]
    fn a_refusal_is_exit_4_and_speaks_for_itself() {
        let refusal = Refusal::new(Code::NotFound, "no image is named web").hint("see image ls");
        let error = anyhow::Error::from(ClientError::from(refusal));
        assert_eq!(exit_of(&error), Exit::Refused);
        expect![[r#"
            skep: no image is named web
              hint: see image ls
        "#]]
        .assert_eq(&said(&error));
    }

    #[test]
    fn causes_follow_one_a_line_and_a_broken_pipe_is_known() {
        let io = io::Error::new(io::ErrorKind::BrokenPipe, "broken pipe");
        let error = anyhow::Error::from(io).context("cannot print");
        assert_eq!(exit_of(&error), Exit::Failed);
        assert!(is_broken_pipe(&error));
        assert_eq!(said(&error), "skep: cannot print\n  because broken pipe\n");
    }
}
