//! What an administrator should look at: derived from what the agent holds when it is asked, and
//! what it found on its disk when it started.

use std::time::Duration;

use skep_base::WallTime;
use skep_control::api::{EventKind, Problem};
use skep_identity::CertInfo;
use skep_store::log::Opened;

use crate::spine::Spine;

/// A certificate with less than this of its life left is a problem to be shown.
const EXPIRES_SOON: Duration = Duration::from_secs(3 * 24 * 3600);
/// A wall clock that shows a time so long before the certificate was made is wrong, and not merely
/// another than the CA's.
const CLOCK_BEHIND: Duration = Duration::from_secs(300);

impl Spine {
    /// Keeps what was found on the disk at the start among the problems of this life.
    pub fn found_on_disk(&mut self, problems: Vec<Problem>) {
        for Problem { message, hint, .. } in problems.clone() {
            self.note(EventKind::Problem { message, hint });
        }
        self.disk_findings = problems;
    }

    /// All problems now.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let since_ms = u64::try_from(self.clock.now().since(self.started.0).as_millis());
        let since_ms = since_ms.unwrap_or(u64::MAX);
        let mut problems: Vec<Problem> = self.disk_findings.clone();
        for problem in &mut problems {
            problem.since_ms = since_ms;
        }
        if self.duplicate {
            problems.push(Problem {
                message: "another live process holds this node's name".into(),
                hint: Some("stop one of the two, or issue it a certificate of its own".into()),
                since_ms,
            });
        }
        problems.extend(of_dates(self.identity.current().info(), self.clock.wall()));
        problems
    }
}

/// What a certificate's dates and the wall clock say of one another.
fn of_dates(info: &CertInfo, wall: WallTime) -> Option<Problem> {
    let left = info.not_after.since(wall);
    if info.not_before.since(wall) > CLOCK_BEHIND {
        let behind = info.not_before.since(wall).as_secs();
        return Some(Problem {
            message: format!(
                "the wall clock is wrong: it shows a time {behind} s before this node's \
                 certificate was made"
            ),
            hint: Some("set the clock; until then certificates are judged by theirs".into()),
            since_ms: 0,
        });
    }
    if left.is_zero() {
        let ago = wall.since(info.not_after).as_secs();
        return Some(Problem {
            message: format!("the certificate expired {ago} s ago by this node's clock"),
            hint: Some(
                "is the clock right? else issue a certificate, or make a node that serves the CA \
                 reachable"
                    .into(),
            ),
            since_ms: 0,
        });
    }
    (left < EXPIRES_SOON.min(info.life() / 4)).then(|| Problem {
        message: format!("the certificate expires in {} s", left.as_secs()),
        hint: Some("make sure that a node which serves the CA can be reached".into()),
        since_ms: 0,
    })
}

/// What the update log lost or was found to lack, for people.
pub(crate) fn of_log(opened: &Opened) -> Vec<Problem> {
    let problem =
        |message: String, hint: &str| Problem { message, hint: Some(hint.to_owned()), since_ms: 0 };
    let mut problems = Vec::new();
    if let Some(torn) = opened.torn.as_ref().filter(|torn| torn.bytes > 0) {
        problems.push(problem(
            format!(
                "{} was torn at byte {}: the last {} bytes were cut off",
                torn.path.display(),
                torn.offset,
                torn.bytes
            ),
            "a crash does that, and nothing acknowledged is in it; a disk that does it without a \
             crash is failing",
        ));
    }
    let lost: u64 = opened.damage.iter().map(|damage| damage.lost.end - damage.lost.start).sum();
    if let Some(first) = opened.damage.first() {
        let more = opened.damage.len() - 1;
        let more = if more > 0 { format!(", and {more} more places") } else { String::new() };
        problems.push(problem(
            format!(
                "the update log is damaged and lacks {lost} records: {} at byte {}: {}{more}",
                first.path.display(),
                first.offset,
                first.what
            ),
            "peers send what they still have; look at the disk, and at the agent's log for all \
             places",
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_store::log::{Entry, Log, Options};

    #[test]
    fn what_is_torn_or_damaged_is_said_with_file_and_place() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Log::open(dir.path(), Options::default(), |_| ()).unwrap();
        let (mut log, opened) = open();
        assert!(of_log(&opened).is_empty());
        for body in [[1; 100], [2; 100], [3; 100]] {
            log.append(WallTime::from_unix_ms(1), &[Entry { head: b"h", body: &body }]).unwrap();
        }
        log.sync().unwrap();
        drop(log);
        let file = dir.path().join("0000000000000000.seg");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[24 + 132 + 60] ^= 1;
        bytes.truncate(bytes.len() - 5);
        std::fs::write(&file, bytes).unwrap();
        let problems = of_log(&open().1);
        let [torn] = problems.as_slice() else {
            panic!("one tail, in which the damaged record is: {problems:?}");
        };
        assert!(torn.message.contains("0000000000000000.seg was torn at byte 156"), "{torn:?}");
        assert!(of_log(&open().1).is_empty(), "it is said in the life that found it");
    }
}
