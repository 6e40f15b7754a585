//! What the catalog says of who may do what: whom it expels, and whose wishes are carried out.
//!
//! A right that no rule names is everybody's, so that a bloc without rules needs none. Once a rule
//! names it, only those may whom a rule with that right names. Holders of the role `operator`,
//! which the CA alone gives, may always: the way back from a rule that names the wrong ones.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use skep_base::{Digest, NodeName};

use crate::catalog::Catalog;
use crate::command::Command;
use crate::desk::Wish;
use crate::key::{Key, Kind};
use crate::value::{Rule, Value, check};

/// The right to have entries set and removed.
pub const RIGHT_CATALOG: &str = "catalog";
/// The right to order the flock's management.
pub const RIGHT_FLOCK: &str = "flock";
/// Who has this role may whatever rules say.
const OPERATOR: &str = "operator";

/// The rules of a catalog.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Rule>);

/// Who asks, as its certificate says.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The node.
    pub node: &'a NodeName,
    /// Its roles, as words.
    pub roles: &'a BTreeSet<String>,
}

impl Rules {
    /// Those of `catalog`. One that this build cannot read neither permits nor forbids.
    #[must_use]
    pub fn of(catalog: &Catalog) -> Self {
        let rules = catalog.entries().into_iter().filter(|(key, ..)| key.kind() == Kind::RULE);
        let read =
            rules.filter_map(|(key, _, payload)| match check(key, &payload.read(Kind::RULE)?) {
                Ok(Value::Rule(rule)) => Some(rule),
                Ok(Value::Group(_) | Value::Expelled(_) | Value::Setting(_) | Value::Target(_))
                | Err(_) => None,
            });
        Self(read.collect())
    }

    /// Whether any rule names what is needed for `wish`: who asks must be known for sure then.
    #[must_use]
    pub fn concern(&self, wish: &Wish) -> bool {
        right_for(wish).is_some_and(|right| self.name(right))
    }

    /// What of `wish` the rules do not let `asker` have: the right, and the entry it lacks it for.
    ///
    /// # Errors
    /// The right, and the first entry, that it is refused for.
    pub fn judge(&self, asker: &Asker<'_>, wish: &Wish) -> Result<(), (&'static str, Option<Key>)> {
        let Some(right) = right_for(wish) else {
            return Ok(());
        };
        if !self.name(right) || asker.roles.contains(OPERATOR) {
            return Ok(());
        }
        let Wish::Propose(command) = wish else {
            return self.permit(right, asker, None).then_some(()).ok_or((right, None));
        };
        // What is no command is refused where it is read.
        let writes = Command::from_bytes(command).map(|it| it.writes).unwrap_or_default();
        // What is wrong with it any member may say: a rule is no reason to be told of nothing.
        let mut ruled = writes.into_iter().filter(|write| write.key.kind() != Kind::NOTICE);
        let refused = ruled.find(|write| !self.permit(right, asker, Some(&write.key)));
        refused.map_or(Ok(()), |write| Err((right, Some(write.key))))
    }

    fn name(&self, right: &str) -> bool {
        self.0.iter().any(|rule| rule.may.iter().any(|may| may == right))
    }

    fn permit(&self, right: &str, asker: &Asker<'_>, key: Option<&Key>) -> bool {
        // A rule for some groups is good for their entries alone.
        let covers = |rule: &Rule| {
            let group = key.filter(|key| key.kind() == Kind::GROUP).map(Key::name);
            rule.groups.is_empty() || rule.groups.iter().any(|it| Some(it.as_str()) == group)
        };
        self.0.iter().any(|rule| {
            rule.may.iter().any(|may| may == right)
                && rule.who.iter().any(|who| asker.is(who))
                && covers(rule)
        })
    }
}

impl Asker<'_> {
    fn is(&self, who: &str) -> bool {
        match who.strip_prefix("role:") {
            Some(role) => self.roles.contains(role),
            None => who == "*" || who == self.node.as_str(),
        }
    }
}

const fn right_for(wish: &Wish) -> Option<&'static str> {
    match wish {
        Wish::Propose(_) => Some(RIGHT_CATALOG),
        Wish::Manage(_) => Some(RIGHT_FLOCK),
        // What is seen of the roster every member hears anyway, and how the flock is managed is no
        // secret among them; and a founding token the CA has signed, whoever carries it.
        Wish::RollCall | Wish::Strengthen { .. } | Wish::Look => None,
    }
}

impl Catalog {
    /// Whether `node` is a member no more: with any certificate, or with this one.
    #[must_use]
    pub fn expels(&self, node: &NodeName, certificate: Option<&Digest>) -> bool {
        let Ok(key) = Key::new(Kind::EXPELLED, node.as_str()) else { return false };
        let Some((_, payload)) = self.live(&key) else { return false };
        // What a newer build wrote about it is no reason to let it in.
        let Some(fields) = payload.read(Kind::EXPELLED) else { return true };
        match check(&key, &fields) {
            Ok(Value::Expelled(expelled)) => {
                expelled.certificate.is_none_or(|only| certificate == Some(&only))
            }
            Ok(Value::Group(_) | Value::Rule(_) | Value::Setting(_) | Value::Target(_))
            | Err(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::desk::Order;
    use crate::tests::{command, key, place, write};
    use crate::{Expect, Field, Fields, Origin, Payload, Write};

    fn put(catalog: &mut Catalog, name: &str, fields: &[(&str, Field)]) {
        let mut all = Fields::new();
        for (name, field) in fields {
            all.set(name, field.clone()).unwrap();
        }
        let put = Some(Payload::of(key(name).kind(), &all));
        check(&key(name), &all).unwrap();
        let write = Write { key: key(name), expect: Expect::Anything, put };
        let index = catalog.index() + 1;
        catalog.apply(place(index), Origin::Own, &command(vec![write]));
    }

    fn rule(catalog: &mut Catalog, name: &str, who: &[&str], may: &[&str], groups: &[&str]) {
        let list =
            |items: &[&str]| Field::List(items.iter().map(|item| String::from(*item)).collect());
        let mut fields = vec![("who", list(who)), ("may", list(may))];
        if !groups.is_empty() {
            fields.push(("groups", list(groups)));
        }
        put(catalog, name, &fields);
    }

    fn may(catalog: &Catalog, node: &str, roles: &[&str], wish: &Wish) -> bool {
        let roles = roles.iter().map(|role| String::from(*role)).collect();
        let node = node.parse().unwrap();
        Rules::of(catalog).judge(&Asker { node: &node, roles: &roles }, wish).is_ok()
    }

    fn sets(name: &str) -> Wish {
        Wish::Propose(command(vec![write(name, Expect::Anything, Some("x"))]))
    }

    #[test]
    fn incidents_are_noted_whatever_rules_say() {
        let mut catalog = Catalog::new();
        rule(&mut catalog, "rule/ops", &["ops-1"], &[RIGHT_CATALOG], &[]);
        assert!(!may(&catalog, "web-1", &[], &sets("setting/motd")));
        assert!(may(&catalog, "web-1", &[], &sets("notice/disk-failed.web-1")));
    }

    #[test]
    fn a_right_is_everybodys_until_a_rule_names_it() {
        let mut catalog = Catalog::new();
        let (set, order) = (sets("setting/motd"), Wish::Manage(Order::StepDown));
        assert!(may(&catalog, "web-1", &[], &set) && may(&catalog, "web-1", &[], &order));
        rule(&mut catalog, "rule/waves", &["web-1"], &["wave"], &[]);
        assert!(may(&catalog, "web-2", &[], &set), "a rule about something else");
        rule(&mut catalog, "rule/admins", &["web-1", "role:queen"], &["catalog"], &[]);
        assert!(may(&catalog, "web-1", &[], &set) && may(&catalog, "q", &["queen"], &set));
        assert!(!may(&catalog, "web-2", &["manager"], &set));
        assert!(may(&catalog, "web-2", &[], &order), "the right `flock` is not named yet");
        rule(&mut catalog, "rule/flock", &["ops-1"], &["flock"], &[]);
        assert!(!may(&catalog, "web-1", &[], &order) && may(&catalog, "ops-1", &[], &order));
        assert!(may(&catalog, "web-9", &["operator"], &set), "the way back");
        assert!(may(&catalog, "web-9", &["operator"], &order));
        rule(&mut catalog, "rule/flock", &["*"], &["flock"], &[]);
        assert!(may(&catalog, "web-1", &[], &order));
    }

    #[test]
    fn what_a_newer_build_wrote_permits_nothing_forbids_nothing_and_still_expels() {
        let mut catalog = Catalog::new();
        rule(&mut catalog, "rule/admins", &["ops-1"], &["catalog"], &[]);
        let reason = ("reason", Field::Text("stolen".into()));
        put(
            &mut catalog,
            "expelled/web-9",
            &[reason, ("certificate", Field::Text("0".repeat(64)))],
        );
        let (web, set) = ("web-9".parse().unwrap(), sets("setting/motd"));
        let other = Digest::of(b"other");
        assert!(!may(&catalog, "web-1", &[], &set) && !catalog.expels(&web, Some(&other)));
        for name in ["rule/admins", "expelled/web-9"] {
            let (_, payload) = catalog.live(&key(name)).unwrap();
            let newer = Payload { schema: payload.schema + 1, ..payload.clone() };
            let write = Write { key: key(name), expect: Expect::Anything, put: Some(newer) };
            let index = catalog.index() + 1;
            catalog.apply(place(index), Origin::Own, &command(vec![write]));
        }
        assert!(may(&catalog, "web-1", &[], &set), "what it says is not known here");
        assert!(catalog.expels(&web, Some(&other)), "whatever it says");
    }

    #[test]
    fn a_rule_for_groups_is_good_for_their_entries_alone() {
        let mut catalog = Catalog::new();
        rule(&mut catalog, "rule/web", &["web-1"], &["catalog", "flock"], &["web"]);
        assert!(may(&catalog, "web-1", &[], &sets("group/web")));
        for other in ["group/db", "setting/web", "rule/web"] {
            assert!(!may(&catalog, "web-1", &[], &sets(other)), "{other}");
        }
        assert!(!may(&catalog, "web-1", &[], &Wish::Manage(Order::StepDown)));
        let both = command(vec![
            write("group/web", Expect::Anything, None),
            write("group/db", Expect::Anything, None),
        ]);
        let web = "web-1".parse().unwrap();
        let asker = Asker { node: &web, roles: &BTreeSet::new() };
        let refused = Rules::of(&catalog).judge(&asker, &Wish::Propose(both));
        assert_eq!(refused, Err(("catalog", Some(key("group/db")))), "all of it or nothing");
    }

    #[test]
    fn a_node_is_expelled_with_any_certificate_or_with_the_one_named() {
        let (web, db) = ("web-9".parse().unwrap(), "db-1".parse().unwrap());
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let mut catalog = Catalog::new();
        assert!(!catalog.expels(&web, Some(&one)));
        let reason = ("reason", Field::Text("stolen".into()));
        put(&mut catalog, "expelled/web-9", core::slice::from_ref(&reason));
        assert!(catalog.expels(&web, Some(&one)) && catalog.expels(&web, None));
        assert!(!catalog.expels(&db, None));
        let only = ("certificate", Field::Text(alloc::format!("{one}")));
        put(&mut catalog, "expelled/web-9", &[reason, only]);
        assert!(catalog.expels(&web, Some(&one)));
        assert!(!catalog.expels(&web, Some(&other)) && !catalog.expels(&web, None));
    }
}
