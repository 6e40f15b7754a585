//! The one binary, `skep`: reads the command line and hands it to whoever carries it out.

use std::process::ExitCode;

use skep_cli::Task;

fn main() -> ExitCode {
    // A process that an agent started to watch over one of its commands.
    if let Some(code) = skep_runner::supervise_if_asked() {
        return code;
    }
    match skep_cli::parse().task() {
        Task::Online(verb) => skep_cli::run(verb),
        Task::Offline(verb) => skep_agent::offline::run(verb),
        Task::Completions(shell) => skep_cli::end(skep_cli::write_completions(shell)),
        Task::Manual(dir) => skep_cli::end(skep_cli::write_manual(&dir)),
    }
    .into()
}
