//! The supervisor alone, for the tests of this crate: in production it is a part of `skep`.

fn main() -> std::process::ExitCode {
    skep_runner::supervise_if_asked().unwrap_or(std::process::ExitCode::from(2))
}
