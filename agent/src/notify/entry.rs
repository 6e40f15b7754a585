//! An incident as an entry of the catalog, and back.

use skep_base::WallTime;
use skep_catalog::{Field, Fields, Key, Kind, Payload};
use skep_notices::{Claim, Incident, MAX_TEXT_BYTES, MAX_TOLD, Notice, Told};

/// What the entry of an incident is called.
pub(super) fn key(incident: &Incident) -> Option<Key> {
    Key::new(Kind::NOTICE, &incident.to_string()).ok()
}

/// What it says.
pub(super) fn payload(notice: &Notice) -> Payload {
    let number = |value: u64| Field::Number(i64::try_from(value).unwrap_or(i64::MAX));
    let time = |at: WallTime| number(at.unix_ms);
    let mut fields = vec![
        ("id", Field::Text(notice.id.clone())),
        ("what", Field::Text(notice.what.clone())),
        ("hint", Field::Text(notice.hint.clone())),
        ("seen_by", Field::Text(notice.seen_by.clone())),
        ("opened", time(notice.opened)),
        ("step", number(notice.step.into())),
    ];
    if let Some(closed) = notice.closed {
        fields.push(("closed", time(closed)));
    }
    let told = |(target, told): (&String, &Told)| format!("{target}={}", told.step);
    fields.push(("told", Field::List(notice.told.iter().map(told).collect())));
    let letter = |(target, told): (&String, &Told)| {
        let Claim { letter, step, closed } = told.letter.as_ref()?;
        let closed = closed.map_or_else(|| "-".to_owned(), |at| at.unix_ms.to_string());
        Some(format!("{target}={step} {closed} {letter}"))
    };
    fields.push(("letters", Field::List(notice.told.iter().filter_map(letter).collect())));
    let mut all = Fields::new();
    for (name, field) in fields {
        // All names are plain, and there are few.
        if let Err(error) = all.set(name, field) {
            tracing::error!(%error, "a field of an incident");
        }
    }
    Payload::of(Kind::NOTICE, &all)
}

/// What an entry of the catalog is to the desk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It says this.
    Says(Notice),
    /// It is that of an incident, and says nothing that this build would have written: any member
    /// may write entries of this kind.
    Unreadable(Incident),
}

/// What an entry is, where its incident is of a kind that this build knows.
pub(super) fn read(key: &Key, payload: &Payload) -> Option<Entry> {
    let incident = Incident::parse(key.name())?;
    let notice = said(&incident, payload).filter(Notice::is_plain);
    Some(notice.map_or(Entry::Unreadable(incident), Entry::Says))
}

fn said(incident: &Incident, payload: &Payload) -> Option<Notice> {
    let fields = payload.read(Kind::NOTICE)?;
    let text = |name: &str| match fields.get(name) {
        Some(Field::Text(text)) if text.len() <= MAX_TEXT_BYTES => Some(text.clone()),
        _ => None,
    };
    let number = |name: &str| match fields.get(name) {
        Some(Field::Number(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let list = |name: &str| match fields.get(name) {
        Some(Field::List(items)) => Some(items.as_slice()).filter(|it| it.len() <= MAX_TOLD),
        _ => Some(&[][..]),
    };
    let mut notice = Notice {
        incident: incident.clone(),
        id: text("id")?,
        what: text("what")?,
        hint: text("hint")?,
        seen_by: text("seen_by")?,
        opened: WallTime::from_unix_ms(number("opened")?),
        closed: number("closed").map(WallTime::from_unix_ms),
        step: u32::try_from(number("step")?).ok()?,
        told: std::collections::BTreeMap::new(),
    };
    for item in list("told")? {
        let (target, step) = item.split_once('=')?;
        notice.told.entry(target.to_owned()).or_default().step = step.parse().ok()?;
    }
    for item in list("letters")? {
        let (target, claim) = item.split_once('=')?;
        let mut words = claim.splitn(3, ' ');
        let step = words.next()?.parse().ok()?;
        let closed = match words.next()? {
            "-" => None,
            ms => Some(WallTime::from_unix_ms(ms.parse().ok()?)),
        };
        let letter = words.next()?.to_owned();
        let claim = Claim { letter, step, closed };
        notice.told.entry(target.to_owned()).or_default().letter = Some(claim);
    }
    Some(notice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_catalog::{Command, Expect, Write};
    use skep_notices::{
        Kind as What, MAX_CHANGES_BYTES, MAX_ID_BYTES, MAX_LETTER_BYTES, MAX_SEEN_BY_BYTES,
        MAX_STEP, MAX_SUBJECT_BYTES, MAX_TARGET_BYTES,
    };

    #[test]
    fn an_entry_says_what_the_incident_was() {
        let claim = Claim {
            letter: "2-incidents.0123".to_owned(),
            step: 2,
            closed: Some(WallTime::from_unix_ms(7)),
        };
        let told = [
            ("ops".to_owned(), Told { step: 1, letter: Some(claim) }),
            ("chat".to_owned(), Told { step: 2, letter: None }),
        ];
        let notice = Notice {
            incident: Incident::new(What::ManagerLost, "web-1.example"),
            id: "0123456789abcdef".into(),
            what: "web-1 is silent".into(),
            hint: "look at it".into(),
            seen_by: "web-2".into(),
            opened: WallTime::from_unix_ms(5),
            closed: Some(WallTime::from_unix_ms(7)),
            step: 2,
            told: told.into(),
        };
        let key = key(&notice.incident).unwrap();
        assert_eq!(key.to_string(), "notice/manager-lost.web-1.example");
        assert_eq!(read(&key, &payload(&notice)), Some(Entry::Says(notice)));
    }

    #[test]
    fn what_a_newer_build_or_a_hand_wrote_is_no_incident() {
        let key = |name: &str| Key::new(Kind::NOTICE, name).unwrap();
        let body = Payload::of(Kind::NOTICE, &Fields::new());
        let incident = Incident::new(What::OnHold, "web-1");
        assert_eq!(read(&key("on-hold.web-1"), &body), Some(Entry::Unreadable(incident)));
        assert_eq!(read(&key("on-fire.web-1"), &body), None);
        assert_eq!(read(&key("web-1"), &body), None);
    }

    /// One whose every part is as long as it may be.
    fn longest(subject: &str, targets: usize) -> Notice {
        let told = |at: usize| {
            let letter = format!("{at:0>MAX_LETTER_BYTES$}");
            let closed = Some(WallTime::from_unix_ms(u64::MAX / 2));
            let claim = Claim { letter, step: MAX_STEP, closed };
            (format!("{at:0>MAX_TARGET_BYTES$}"), Told { step: MAX_STEP, letter: Some(claim) })
        };
        Notice {
            incident: Incident::new(What::ManagerLost, &subject.repeat(MAX_SUBJECT_BYTES)),
            id: "f".repeat(MAX_ID_BYTES),
            what: "w".repeat(MAX_TEXT_BYTES),
            hint: "h".repeat(MAX_TEXT_BYTES),
            seen_by: "s".repeat(MAX_SEEN_BY_BYTES),
            opened: WallTime::from_unix_ms(u64::MAX / 2),
            closed: Some(WallTime::from_unix_ms(u64::MAX / 2)),
            step: MAX_STEP,
            told: (0..targets).map(told).collect(),
        }
    }

    #[test]
    fn what_the_desk_takes_for_a_command_fits_into_one() {
        for targets in 0..=MAX_TOLD {
            let one = longest("a", targets);
            assert!(one.is_plain() && one.weight() <= MAX_CHANGES_BYTES, "{targets} targets");
            let number = MAX_CHANGES_BYTES / one.weight();
            let subjects = (b'a'..=b'z').take(number).map(char::from);
            let notices: Vec<Notice> =
                subjects.map(|subject| longest(&subject.to_string(), targets)).collect();
            let write = |notice: &Notice| Write {
                key: key(&notice.incident).unwrap(),
                expect: Expect::Revision(u64::MAX),
                put: Some(payload(notice)),
            };
            let command = Command {
                who: "w".repeat(skep_catalog::MAX_WHO_BYTES),
                when: WallTime::from_unix_ms(u64::MAX / 2),
                writes: notices.iter().map(write).collect(),
            };
            if let Err(error) = command.to_bytes() {
                panic!("{number} entries with {targets} targets each: {error}");
            }
            let entry = read(&command.writes[0].key, command.writes[0].put.as_ref().unwrap());
            assert_eq!(entry, Some(Entry::Says(notices[0].clone())));
        }
    }

    #[test]
    fn a_name_that_would_be_a_header_is_none() {
        let mut notice = longest("a", 1);
        let key = key(&notice.incident).unwrap();
        for told in notice.told.values_mut() {
            let claim = told.letter.as_mut().unwrap();
            claim.letter = "x\r\nBcc: all@example.org".to_owned();
        }
        let entry = read(&key, &payload(&notice));
        assert_eq!(entry, Some(Entry::Unreadable(notice.incident)));
    }
}
