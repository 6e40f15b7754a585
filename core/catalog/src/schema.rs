//! What the fields of a kind mean, version by version: an entry that an older build wrote is read
//! as the newest schema has it, and one that a newer build wrote is kept and not read.
//!
//! Nothing is rewritten: an entry keeps the schema that it was written in until somebody sets it
//! anew, so builds of both kinds show one catalog of one root. Whoever acts on an entry asks for
//! its fields by [`crate::Payload::read`], which takes the steps here.

use crate::fields::Fields;
use crate::key::Kind;

/// The schema that every kind begins with, and that a file means which names none.
pub const FIRST_SCHEMA: u16 = 1;

/// From the fields of one schema to those of the next. It cannot fail: what makes no sense is left
/// as it is, for whoever checks the newest.
type Step = fn(Fields) -> Fields;

/// The steps of a kind, from the first schema on.
const fn steps(kind: Kind) -> &'static [Step] {
    match kind {
        #[cfg(test)]
        tests::TRIAL => &[tests::words_become_lists],
        _ => &[],
    }
}

/// The newest schema of a kind that this build reads: it is the one that it writes.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "a kind has a handful of schemas")]
pub const fn newest_schema(kind: Kind) -> u16 {
    FIRST_SCHEMA + steps(kind).len() as u16
}

/// Fields of an entry of a kind that were written in `schema`, as the newest one has them; nothing
/// where a newer build wrote them.
#[must_use]
pub fn upgrade(kind: Kind, schema: u16, fields: Fields) -> Option<Fields> {
    let taken = usize::from(schema.checked_sub(FIRST_SCHEMA)?);
    let steps = steps(kind).get(taken..)?;
    Some(steps.iter().fold(fields, |fields, step| step(fields)))
}

#[cfg(test)]
pub(crate) mod tests {
    use alloc::vec;

    use super::*;
    use crate::tests::{command, key, place};
    use crate::{Catalog, Expect, Field, Origin, Outcome, Payload, Refusal, Write, export};

    /// A kind with two schemas: `member`, a text, became `members`, a list.
    pub(crate) const TRIAL: Kind = Kind(60_000);

    pub(super) fn words_become_lists(fields: Fields) -> Fields {
        let mut next = Fields::new();
        for (name, field) in fields.iter() {
            let (name, field) = match (name, field) {
                ("member", Field::Text(text)) => ("members", Field::List(vec![text.clone()])),
                (name, field) => (name, field.clone()),
            };
            // As many fields as there were.
            next.set(name, field).ok();
        }
        next
    }

    fn fields(pairs: &[(&str, Field)]) -> Fields {
        let mut all = Fields::new();
        for (name, field) in pairs {
            all.set(name, field.clone()).unwrap();
        }
        all
    }

    fn put(catalog: &mut Catalog, payload: Option<&Payload>) -> Outcome {
        let write =
            Write { key: key("kind-60000/x"), expect: Expect::Anything, put: payload.cloned() };
        let index = catalog.index() + 1;
        catalog.apply(place(index), Origin::Own, &command(vec![write]))
    }

    fn of(schema: u16, fields: &Fields) -> Payload {
        Payload { schema, body: fields.to_body().into() }
    }

    #[test]
    fn an_entry_of_an_older_schema_is_read_as_the_newest_and_kept_as_it_was_written() {
        let note = ("note", Field::Number(7));
        let old = of(1, &fields(&[("member", Field::Text("web-1".into())), note.clone()]));
        let new = fields(&[("members", Field::List(vec!["web-1".into()])), note]);
        assert_eq!((newest_schema(TRIAL), newest_schema(Kind::GROUP)), (2, FIRST_SCHEMA));
        assert_eq!(old.read(TRIAL).as_ref(), Some(&new));
        let written = Payload::of(TRIAL, &new);
        assert_eq!((written.schema, written.read(TRIAL)), (2, Some(new.clone())));
        // A newer build's is not read, though its fields can be shown.
        let newer = of(3, &new);
        assert_eq!((newer.read(TRIAL), newer.fields()), (None, Some(new.clone())));
        assert_eq!(of(0, &new).read(TRIAL), None, "no build ever wrote that");
        assert_eq!(of(2, &new).read(Kind::GROUP), None, "its fields mean what nobody here knows");

        // Reading changes nothing in the catalog, and a backup says which schema it means.
        let mut catalog = Catalog::new();
        put(&mut catalog, Some(&old));
        assert_eq!(catalog.live(&key("kind-60000/x")).unwrap().1, &old);
        assert!(export(&catalog).contains("[kind-60000.\"x\"]\nmember = \"web-1\"\n"));
        put(&mut catalog, Some(&written));
        assert!(export(&catalog).contains("Schema = 2\nmembers = [\"web-1\"]\n"));
    }

    #[test]
    fn a_build_that_does_not_know_a_schema_cannot_overwrite_what_is_written_in_it() {
        let said = fields(&[("members", Field::List(vec!["web-1".into()]))]);
        let mut catalog = Catalog::new();
        put(&mut catalog, Some(&of(2, &said)));
        let root = catalog.root();
        let older = of(1, &fields(&[("member", Field::Text("web-2".into()))]));
        let has = Refusal::Schema { key: key("kind-60000/x"), has: 2, writes: 1 };
        assert_eq!(put(&mut catalog, Some(&older)), Outcome::Refused(has));
        assert_eq!(catalog.root(), root, "nothing happened");
        // A newer one may, and so may anybody once it was removed on purpose.
        assert!(matches!(put(&mut catalog, Some(&of(3, &said))), Outcome::Applied { .. }));
        assert!(matches!(put(&mut catalog, Some(&of(2, &said))), Outcome::Refused(_)));
        assert!(matches!(put(&mut catalog, None), Outcome::Applied { .. }));
        assert!(matches!(put(&mut catalog, Some(&older)), Outcome::Applied { .. }));
    }

    #[test]
    fn a_write_that_another_flock_refused_for_its_schema_does_not_happen_in_a_merge() {
        let said = fields(&[("members", Field::List(vec!["web-1".into()]))]);
        let older = of(1, &fields(&[("member", Field::Text("web-2".into()))]));
        let mut ours = Catalog::new();
        put(&mut ours, Some(&of(2, &said)));
        let (mut theirs, common) = (ours.clone(), ours.index());
        let mut wants = |payload: Option<&Payload>| {
            let stamp = crate::Stamp { epoch: 2, fork: 9 };
            let at = crate::Dot { stamp, term: 1, index: theirs.index() + 1 };
            let key = key("kind-60000/x");
            let write = Write { key: key.clone(), expect: Expect::Anything, put: payload.cloned() };
            let outcome = theirs.apply(at, Origin::Own, &command(vec![write]));
            for item in theirs.hand_over(common) {
                ours.apply(place(ours.index() + 1), Origin::Foreign, &item);
            }
            let refused = matches!(outcome, Outcome::Refused(Refusal::Schema { .. }));
            (refused, ours.live(&key).map(|(_, put)| put.schema))
        };
        assert_eq!(wants(Some(&older)), (true, Some(2)));
        // There it was removed, and then set by the older build: both happen.
        assert_eq!(wants(None), (false, None));
        assert_eq!(wants(Some(&older)), (false, Some(1)));
    }
}
