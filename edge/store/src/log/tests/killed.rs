//! A log whose process is killed while it prunes: by SIGKILL, at any instant.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use skep_base::Rng;

use super::*;

/// Tells a process that it is the one to be killed, and where its log is.
const VICTIM: &str = "SKEP_TEST_PRUNES_HERE";
/// Small, so that one pruning removes many files.
const SEGMENT_BYTES: u64 = 4_000;
const APPENDED: u64 = 120;
const KEPT: u64 = 10;
/// Kills that hit the middle of a pruning; how many it takes for that is chance.
const INTERRUPTED: usize = 12;
const MOST_KILLS: usize = 400;
/// About as long as one pruning takes.
const PRUNING_US: u64 = 2_000;

fn body_of(position: u64) -> Vec<u8> {
    let length = if position.is_multiple_of(6) { 40_000 } else { 90 };
    vec![u8::try_from(position % 251).unwrap(); length]
}

#[test]
fn who_is_killed_while_it_prunes_leaves_a_whole_log_that_lacks_only_what_was_dropped() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        return prune_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(11);
    let (mut said, mut interrupted) = (Said::default(), 0);
    for _ in 0..MOST_KILLS {
        kill_one(dir.path().as_os_str(), &mut rng, &mut said);
        interrupted += usize::from(check(dir.path(), said));
        if interrupted == INTERRUPTED {
            return;
        }
    }
    panic!("only {interrupted} of {MOST_KILLS} kills hit a pruning");
}

/// What the victims said last.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    /// Everything below is on the disk.
    durable: u64,
    /// Everything below may go.
    dropped: u64,
}

impl Said {
    fn hear(&mut self, line: &str) -> bool {
        let (word, number) = line.split_once(' ').unwrap_or_default();
        match (word, number.parse()) {
            ("durable", Ok(number)) => self.durable = number,
            ("prune", Ok(number)) => self.dropped = number,
            _ => {}
        }
        word == "prune"
    }
}

/// Runs a victim, and kills it at some instant of one of its first prunings.
fn kill_one(dir: &OsStr, rng: &mut Rng, said: &mut Said) {
    let name = std::thread::current().name().unwrap().to_owned();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(VICTIM, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stderr.take().unwrap()).lines();
    let mut left = rng.within(0..3);
    while let Some(Ok(line)) = lines.next() {
        if said.hear(&line) {
            if left == 0 {
                break;
            }
            left -= 1;
        }
    }
    let instant = Instant::now() + Duration::from_micros(rng.within(0..PRUNING_US));
    while Instant::now() < instant {
        std::hint::spin_loop();
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    for line in lines.map_while(Result::ok) {
        said.hear(&line);
    }
}

/// Appends and prunes as long as somebody listens, and says what it does before it does it.
fn prune_until_killed(dir: &Path) {
    let (mut log, _) = Log::open(dir, options(SEGMENT_BYTES), |_| {}).unwrap();
    loop {
        for _ in 0..APPENDED {
            let position = log.next();
            append(&mut log, &position.to_be_bytes(), &body_of(position));
        }
        let durable = log.sync().unwrap();
        let dropped = durable - KEPT;
        // In one piece: what is begun is whole.
        let said = format!("durable {durable}\nprune {dropped}\n");
        if io::stderr().write_all(said.as_bytes()).is_err() {
            return;
        }
        log.purge(dropped).unwrap();
    }
}

/// Looks at what a victim left; says whether it was killed in the middle of a pruning.
fn check(dir: &Path, said: Said) -> bool {
    let (mut log, opened, shown) = open(dir, SEGMENT_BYTES);
    assert_eq!(opened.damage, [], "after {said:?}");
    let shown: Vec<u64> = shown.iter().map(|it| it.0).collect();
    assert_eq!(shown, (log.first()..log.next()).collect::<Vec<_>>(), "after {said:?}");
    assert!(log.first() <= said.dropped && log.next() >= said.durable, "after {said:?}");
    for position in shown {
        assert_eq!(body(&mut log, position), Some(body_of(position)), "{position}");
    }
    for entry in fs::read_dir(dir.join("bodies")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let position = u64::from_str_radix(&name, 16).unwrap();
        assert!((log.first()..log.next()).contains(&position), "{name} belongs to nobody");
    }
    log.purge(said.dropped).unwrap() > 0
}
