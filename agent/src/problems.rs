//! What an administrator should look at: derived from what the agent holds when it is asked, and
//! what it found on its disk when it started.

use std::time::Duration;

use skep_base::WallTime;
use skep_control::api::{EventKind, Problem};
use skep_identity::CertInfo;
use skep_store::log::Opened;

use crate::certificates::Worth;
use crate::renewal::ends;
use crate::spine::Spine;
use crate::status::millis;

/// A certificate with less than this of its life left is a problem to be shown.
const EXPIRES_SOON: Duration = Duration::from_secs(3 * 24 * 3600);
const REACH_CA: &str = "make sure that a node which serves the CA can be reached";
/// A wall clock that shows a time so long before the certificate was made is wrong, and not merely
/// another than the CA's.
pub(crate) const CLOCK_BEHIND: Duration = Duration::from_secs(300);

impl Spine {
    /// Keeps what was found on the disk at the start among the problems of this life, and what the
    /// wall clock showed in an earlier one.
    pub fn found_on_disk(&mut self, problems: Vec<Problem>, noted: WallTime) {
        self.baseline.noted = noted;
        for Problem { message, hint, .. } in problems.clone() {
            self.note(EventKind::Problem { message, hint });
        }
        self.disk_findings = problems;
    }

    /// All problems now.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let since_start = millis(now.since(self.started.0));
        let mut problems: Vec<Problem> = self.disk_findings.clone();
        for problem in &mut problems {
            problem.since_ms = since_start;
        }
        let mut problem = |message: String, hint: &str, since: Duration| {
            let hint = Some(hint.to_owned());
            problems.push(Problem { message, hint, since_ms: millis(since) });
        };
        let one_name = "stop one of the two, or give it a certificate of its own";
        if let Some(since) = self.duplicate {
            let by = self.told_by.as_ref().map(|by| format!(": {by} is linked to it"));
            let message =
                format!("another live process holds this node's name{}", by.unwrap_or_default());
            problem(message, one_name, now.since(since));
        }
        if let Some(contest) = self.node.name_contested(now) {
            let by = self.name_of(contest.by);
            let message = format!(
                "another live process has this node's name and was turned away; {by} met it last, \
                 and its `skep events` names the address"
            );
            problem(message, one_name, now.since(contest.since));
        }
        if let Some(disk) = &self.disk_trouble {
            problem(disk.message.clone(), &disk.hint, now.since(disk.since));
        }
        if self.clock_went_back {
            let message = "the wall clock stood behind what it had shown before this start: facts \
                           of others from disk wait until a peer shows them"
                .to_owned();
            problem(message, "set the clock, as by NTP", now.since(self.started.0));
        }
        for note in self.links.values().filter(|note| note.worth != Worth::Full) {
            let message = format!(
                "the certificate of {} {}: it gets renewal and membership, no updates, no images",
                note.name,
                ends(note.certificate.not_after, wall)
            );
            let hint = "see `skep status` there; it renews by itself once it reaches the CA";
            problem(message, hint, wall.since(note.certificate.not_after));
        }
        let identity = self.identity.current();
        let info = identity.info();
        if let Some(asking) =
            self.renewing.borrow().as_ref().filter(|asking| asking.is_in_trouble())
        {
            let failure = asking.failure.as_deref().unwrap_or("no answer came");
            let message = format!(
                "the certificate {} and was not renewed: {failure}",
                ends(info.not_after, wall)
            );
            problem(message, REACH_CA, asking.since.elapsed());
        } else {
            problems.extend(of_dates(info, wall));
        }
        problems.extend(self.exports.troubles().map(|(group, since, what)| Problem {
            message: format!("the export of group {group} fails: {what}"),
            hint: Some("its updates are kept and tried again; see docs/export.md".into()),
            since_ms: millis(now.since(since)),
        }));
        problems.extend(self.retirement());
        if let Some(held) = self.founding.as_ref().and_then(|it| it.borrow().clone())
            && let Some(trouble) = held.trouble
        {
            let (message, hint) = (trouble.message, Some(trouble.hint));
            problems.push(Problem { message, hint, since_ms: millis(held.since.elapsed()) });
        }
        problems.extend(self.notify.iter().flat_map(|notify| notify.problems(now)));
        problems
    }
}

/// What a certificate's dates and the wall clock say of one another.
pub(crate) fn of_dates(info: &CertInfo, wall: WallTime) -> Option<Problem> {
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
        return Some(Problem {
            message: format!("the certificate {} by this node's clock", ends(info.not_after, wall)),
            hint: Some(
                "is the clock right? else issue a certificate, or make a node that serves the CA \
                 reachable"
                    .into(),
            ),
            since_ms: millis(wall.since(info.not_after)),
        });
    }
    (left < EXPIRES_SOON.min(info.life() / 4)).then(|| Problem {
        message: format!("the certificate {}", ends(info.not_after, wall)),
        hint: Some(REACH_CA.into()),
        since_ms: millis(wall.since(info.renew_at())),
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
    use skep_store::log::{Entry, Log, Options, Source};

    #[test]
    fn what_is_torn_or_damaged_is_said_with_file_and_place() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Log::open(dir.path(), Options::default(), |_| ()).unwrap();
        let (mut log, opened) = open();
        assert!(of_log(&opened).is_empty());
        for body in [[1; 100], [2; 100], [3; 100]] {
            log.append(
                WallTime::from_unix_ms(1),
                &[Entry { head: b"h", body: Source::Bytes(&body) }],
            )
            .unwrap();
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
