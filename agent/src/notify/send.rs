//! Handing a letter over to one target, in its way.

use std::time::Duration;

use bytes::Bytes;
use skep_notify::NotifyError;
use skep_runner::Runner;

use super::letters::Parcel;
use crate::config::high::Command;
use crate::config::telling::{Run, Target};
use crate::hooks::{carry_out, job};

/// What to do where a program failed.
const NO_SENDMAIL: &str = "is a mail system installed, and its program where it says?";
const NO_COMMAND: &str = "run the command by hand: 0 means that it took the letter";
/// How long a local mail system may take to put a mail into its queue.
const SENDMAIL_TIME: Duration = Duration::from_secs(60);

/// Why a letter was not taken.
pub(super) struct Failure {
    pub(super) why: String,
    /// What to do.
    pub(super) hint: &'static str,
    /// Whether the target refuses this letter, and not only now.
    pub(super) for_good: bool,
}

impl Failure {
    pub(super) const fn new(why: String, hint: &'static str) -> Self {
        Self { why, hint, for_good: false }
    }
}

impl From<NotifyError> for Failure {
    fn from(error: NotifyError) -> Self {
        Self { why: error.in_full(), hint: error.hint(), for_good: error.is_for_good() }
    }
}

/// What was answered; or why it was not taken.
pub(super) async fn deliver(
    target: &Target,
    runner: &Runner,
    parcel: &Parcel,
) -> Result<String, Failure> {
    match target {
        Target::Smtp(mail) => Ok(mail.send(&parcel.message).await?),
        Target::Webhook(hook) => Ok(hook.post(&parcel.message.id, parcel.json.clone()).await?),
        Target::Sendmail { program, from, to } => {
            let run = Run {
                command: addressed(program, from, to),
                user: None,
                time_limit: SENDMAIL_TIME,
            };
            let mail = Bytes::from(parcel.message.to_bytes(from, to));
            let took = carry_out(runner, job(&run, Vec::new(), mail)).await;
            took.map(|took| format!("took it into its queue after {} ms", took.as_millis()))
                .map_err(|why| Failure::new(why, NO_SENDMAIL))
        }
        Target::Command(run) => {
            let took = carry_out(runner, job(run, variables(parcel), parcel.json.clone())).await;
            took.map(|took| format!("ended well after {} ms", took.as_millis()))
                .map_err(|why| Failure::new(why, NO_COMMAND))
        }
    }
}

/// The words of a mail system's program, with from and to whom.
fn addressed(program: &Command, from: &str, to: &[String]) -> Command {
    let mut words = match program {
        Command::Shell(text) => vec![text.clone()],
        Command::Program(words) => words.clone(),
    };
    // No address begins with a dash then.
    words.extend(["-f", from, "--"].map(ToOwned::to_owned));
    words.extend(to.iter().cloned());
    Command::Program(words)
}

fn variables(parcel: &Parcel) -> Vec<(&'static str, String)> {
    vec![
        ("SKEP_LETTER", parcel.message.id.clone()),
        ("SKEP_SUBJECT", parcel.message.subject.clone()),
        ("SKEP_BLOC", parcel.bloc.clone()),
        ("SKEP_NODE", parcel.node.clone()),
        ("SKEP_INCIDENTS", parcel.incidents.to_string()),
        ("SKEP_TEST", if parcel.test { "yes" } else { "no" }.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_no_options() {
        let program = Command::Program(vec!["/usr/sbin/sendmail".into(), "-i".into()]);
        let Command::Program(words) = addressed(&program, "skep@x.y", &["-oX@x.y".to_owned()])
        else {
            panic!("it is a program");
        };
        assert_eq!(words, ["/usr/sbin/sendmail", "-i", "-f", "skep@x.y", "--", "-oX@x.y"]);
    }
}
