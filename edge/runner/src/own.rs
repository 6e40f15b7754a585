//! The memory and the open files of our own process.

use std::fs;
use std::io;
use std::ptr;

use rustix::mm::{Advice, madvise};
use rustix::process::{Resource, Rlimit};

/// Gives back the pages of our own program and its libraries that were only needed to start:
/// reading the command line and the configuration, making tables, migrating a database. An agent
/// stays for months, and half of what it was mapped in by its first second it never touches again.
/// What is needed after all is mapped in again from the page cache when it is next touched.
///
/// Says how many bytes of text and constants were let go; those of them that are used come back.
///
/// # Errors
/// The system's, when `/proc` cannot be read or a range is not ours.
pub fn let_go_of_start() -> io::Result<usize> {
    let maps = fs::read_to_string("/proc/self/smaps")?;
    let mut bytes = 0;
    for (from, to) in unchanged(&maps) {
        discard(from, to - from)?;
        bytes += to - from;
    }
    Ok(bytes)
}

/// Takes as many open files as the system lets us have. A session or a service manager starts with
/// 1,024, so that programs that cannot count further live; an agent has a thousand clients beside
/// its links. What it runs gets a limit of its own.
///
/// Says how many there are.
///
/// # Errors
/// The system's.
pub fn take_all_files() -> io::Result<u64> {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    if current != maximum {
        rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum.unwrap_or(u64::MAX))
}

/// The ranges of `smaps` every page of which is as a file on disk has it: private mappings of a
/// file, readable, not writable, and without a page of their own (what the loader relocated has
/// such pages, and must stay).
fn unchanged(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in smaps.lines() {
        if let Some(own) = line.strip_prefix("Anonymous:") {
            if own.split_ascii_whitespace().next() == Some("0") {
                found.extend(mapping.take());
            }
        } else if line.split_ascii_whitespace().next().is_some_and(|word| !word.ends_with(':')) {
            mapping = constant_file(line);
        }
    }
    found
}

/// The range of a mapping's first line, if a file is mapped there privately and not to be written.
fn constant_file(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights) = (words.next()?, words.next()?);
    let path = words.nth(3)?;
    let (from, to) = range.split_once('-')?;
    let from = usize::from_str_radix(from, 16).ok()?;
    let to = usize::from_str_radix(to, 16).ok()?;
    let constant = rights == "r-xp" || rights == "r--p";
    (constant && path.starts_with('/') && from < to).then_some((from, to))
}

#[expect(unsafe_code, reason = "advice about memory has no safe form")]
fn discard(from: usize, bytes: usize) -> io::Result<()> {
    let start = ptr::with_exposed_provenance_mut(from);
    // SAFETY: the range is a private mapping of a file, not writable and without a page that
    // differs from the file: discarded, each is read from there again when it is next touched. The
    // program's file cannot be written while it runs (ETXTBSY), and package managers give a new
    // library a new inode.
    unsafe { madvise(start, bytes, Advice::LinuxDontNeed) }.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_its_file_is_taken() {
        let mapping = |rights: &str, path: &str, own_kb: u32| {
            format!(
                "55e4a000-55e4c000 {rights} 00001000 fe:00 1234    {path}\nSize:   8 kB\n\
                 Rss:   8 kB\nAnonymous:   {own_kb} kB\nVmFlags: rd ex mr mw me\n"
            )
        };
        let range = (0x55e4_a000, 0x55e4_c000);
        assert_eq!(unchanged(&mapping("r-xp", "/usr/bin/skep", 0)), [range]);
        assert_eq!(unchanged(&mapping("r--p", "/lib/libc.so.6", 0)), [range]);
        for (rights, path, own_kb) in [
            // What the loader relocated and then made constant.
            ("r--p", "/usr/bin/skep", 4),
            ("rw-p", "/usr/bin/skep", 0),
            ("rwxp", "/usr/bin/skep", 0),
            ("r--s", "/var/lib/skep/state.db-shm", 0),
            ("r-xp", "[vdso]", 0),
            ("r--p", "", 0),
        ] {
            assert_eq!(unchanged(&mapping(rights, path, own_kb)), [], "{rights} {path}");
        }
        let two = mapping("r--p", "/usr/bin/skep", 4) + &mapping("r-xp", "/usr/bin/skep", 0);
        assert_eq!(unchanged(&two), [range]);
    }

    #[test]
    fn all_files_that_may_be_open_may_be() {
        let count = take_all_files().unwrap();
        let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
        assert_eq!((current, current.unwrap_or(u64::MAX)), (maximum, count));
    }

    #[test]
    fn the_program_goes_on_without_its_start() {
        let resident = || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        assert!(let_go_of_start().unwrap() > 0, "the program has no text");
        assert!(resident() < before, "nothing was let go");
        // Whatever is executed now was mapped in again.
        assert_eq!(format!("{:?}", (1..=3).collect::<Vec<_>>()), "[1, 2, 3]");
    }
}
