//! An incident as an entry of the catalog, and back.

use skep_base::WallTime;
use skep_catalog::{Field, Fields, Key, Kind, Payload};
use skep_notices::{Claim, Incident, MAX_TARGETS, MAX_TEXT_BYTES, Notice, Told};

/// Targets of which an entry tells: those of several masters that are configured differently.
const MAX_TOLD: usize = 4 * MAX_TARGETS;

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
    Payload::of(&all)
}

/// What an entry says, where it is one of an incident that this build knows.
pub(super) fn read(key: &Key, payload: &Payload) -> Option<Notice> {
    let incident = Incident::parse(key.name())?;
    let fields = payload.fields()?;
    let text = |name: &str| match fields.get(name) {
        Some(Field::Text(text)) if text.len() <= MAX_TEXT_BYTES => Some(text.clone()),
        _ => None,
    };
    let number = |name: &str| match fields.get(name) {
        Some(Field::Number(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let list = |name: &str| match fields.get(name) {
        Some(Field::List(items)) => items.as_slice(),
        _ => &[],
    };
    let mut notice = Notice {
        incident,
        id: text("id")?,
        what: text("what")?,
        hint: text("hint")?,
        seen_by: text("seen_by")?,
        opened: WallTime::from_unix_ms(number("opened")?),
        closed: number("closed").map(WallTime::from_unix_ms),
        step: u32::try_from(number("step")?).ok()?,
        told: std::collections::BTreeMap::new(),
    };
    for item in list("told").iter().take(MAX_TOLD) {
        let (target, step) = item.split_once('=')?;
        notice.told.entry(target.to_owned()).or_default().step = step.parse().ok()?;
    }
    for item in list("letters").iter().take(MAX_TOLD) {
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
    use skep_notices::Kind as What;

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
        assert_eq!(read(&key, &payload(&notice)), Some(notice));
    }

    #[test]
    fn what_a_newer_build_or_a_hand_wrote_is_no_incident() {
        let key = |name: &str| Key::new(Kind::NOTICE, name).unwrap();
        let body = Payload::of(&Fields::new());
        assert_eq!(read(&key("on-hold.web-1"), &body), None);
        assert_eq!(read(&key("on-fire.web-1"), &body), None);
        assert_eq!(read(&key("web-1"), &body), None);
    }
}
