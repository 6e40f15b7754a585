//! What a figure was measured on: without it no figure means anything.

use std::path::Path;
use std::process::Command;
use std::thread;

use crate::process::capture;

/// Processors, memory and kernel in one line.
#[must_use]
pub fn describe() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = field(&info, "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let gib = field(&memory, "MemTotal")
        .and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kib| kib >> 20);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} × {model}, {gib} GiB, Linux {}", kernel.trim())
}

/// The commit that is checked out, and whether the tree differs from it.
#[must_use]
pub fn commit(root: &Path) -> String {
    let git =
        |arguments: &[&str]| capture(Command::new("git").arg("-C").arg(root).args(arguments)).ok();
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => commit + " with changes",
    }
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_proc_writes_them() {
        let text = "processor\t: 0\nmodel name\t: A 1\nMemTotal:  7 kB\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A 1"));
        assert_eq!(field(text, "MemTotal").as_deref(), Some("7 kB"));
        assert_eq!(field(text, "nothing"), None);
    }
}
