//! The memory of our own process.

use std::fs;
use std::io;
use std::ptr;

use rustix::mm::{Advice, madvise};

/// Gives back the pages of our own program that were only needed to start: reading the command
/// line and the configuration, making tables, migrating a database. An agent stays for months, and
/// a third of what it was mapped in by its first second it never executes again. What is needed
/// after all is mapped in again from the page cache when it is next executed.
///
/// Says how many bytes of program text were let go; those of them that are used come back.
///
/// # Errors
/// The system's, when `/proc` cannot be read or a range is not ours.
pub fn let_go_of_start() -> io::Result<usize> {
    let own = fs::read_link("/proc/self/exe")?;
    let own = own.to_string_lossy();
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut bytes = 0;
    for (from, to) in maps.lines().filter_map(|line| text_of(line, &own)) {
        discard(from, to - from)?;
        bytes += to - from;
    }
    Ok(bytes)
}

/// The range of a line of `maps` that holds text of the program: private, executable and never
/// writable, so that every page of it is as the file has it.
fn text_of(line: &str, program: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights) = (words.next()?, words.next()?);
    let path = words.nth(3)?;
    let (from, to) = range.split_once('-')?;
    let from = usize::from_str_radix(from, 16).ok()?;
    let to = usize::from_str_radix(to, 16).ok()?;
    (rights == "r-xp" && path == program && from < to).then_some((from, to))
}

#[expect(unsafe_code, reason = "advice about memory has no safe form")]
fn discard(from: usize, bytes: usize) -> io::Result<()> {
    let start = ptr::with_exposed_provenance_mut(from);
    // SAFETY: the range is a private mapping of a file, executable and not writable, so no page of
    // it differs from the file: discarded, each is read from there again when it is next touched.
    // The program's file cannot be written while it runs (ETXTBSY), and a new one has a new inode.
    unsafe { madvise(start, bytes, Advice::LinuxDontNeed) }.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_of_the_program_is_taken() {
        let line = |rights: &str, path: &str| {
            format!("55e4a000-55e4c000 {rights} 00001000 fe:00 1234    {path}")
        };
        let text = text_of(&line("r-xp", "/usr/bin/skep"), "/usr/bin/skep");
        assert_eq!(text, Some((0x55e4_a000, 0x55e4_c000)));
        for (rights, path) in
            [("r--p", "/usr/bin/skep"), ("rwxp", "/usr/bin/skep"), ("r-xp", "/lib/libc.so.6")]
        {
            assert_eq!(text_of(&line(rights, path), "/usr/bin/skep"), None);
        }
        assert_eq!(text_of("7ffd1000-7ffd3000 r-xp 00000000 00:00 0", "/usr/bin/skep"), None);
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
