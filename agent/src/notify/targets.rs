//! Targets: those of the catalog, which every node has, and those of this host's configuration
//! (DVM-10, DVM-13).
//!
//! Entries of the catalog name files of secrets in one directory of each host, and no path: so
//! nobody who may write entries can have another file read. Nor can he have a password sent to a
//! server of his own, for its file bears the name of the server that it is for. Where an entry and
//! the configuration name the same target, the configuration counts on its host: it is the host's
//! own, and the catalog may be changed by others.

use std::collections::BTreeMap;
use std::path::Path;

use skep_catalog::{Fields, Invalid, Key, Tls, Value, Way, check};
use skep_notices::{Kind, MAX_TARGETS};
use skep_notify::{Encryption, Mail, NotifyError, Webhook, check_address, check_server, check_url};

use crate::config::telling::{self, Target};

/// A target that this node uses while it is master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) target: Target,
    pub(super) kinds: Vec<Kind>,
    pub(super) from: Origin,
}

/// Who says that there is a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The configuration of this host.
    Host,
    /// The catalog.
    Catalog,
    /// Both, and the configuration counts.
    Both,
}

impl Origin {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Catalog => "catalog",
            Self::Both => "host, not catalog",
        }
    }
}

/// What a node goes by, and which entries it cannot go by, with the reason.
#[derive(Clone, Debug, Default)]
pub(super) struct Merged {
    pub(super) targets: BTreeMap<String, Known>,
    pub(super) unusable: BTreeMap<String, String>,
}

/// The targets of the configuration and those of the catalog, by name.
pub(super) fn merge<'a>(
    own: &telling::Notify,
    entries: impl Iterator<Item = (&'a Key, Option<Fields>)>,
) -> Merged {
    let mut merged = Merged::default();
    for (name, target) in &own.targets {
        let wanted = own.desk.targets.iter().find(|(of, _)| of == name);
        let kinds = wanted.map(|(_, kinds)| kinds.clone()).unwrap_or_default();
        let known = Known { target: target.clone(), kinds, from: Origin::Host };
        merged.targets.insert(name.clone(), known);
    }
    for (key, fields) in entries {
        let name = key.name().to_owned();
        if let Some(known) = merged.targets.get_mut(&name) {
            known.from = Origin::Both;
            continue;
        }
        let read = fields.ok_or_else(|| "a newer build wrote it".to_owned());
        let read = read.and_then(|fields| {
            read_entry(key, &fields, &own.secrets_dir).map_err(|wrong| wrong.what)
        });
        match read {
            Ok(_) if merged.targets.len() >= MAX_TARGETS => {
                let why = format!("a node has at most {MAX_TARGETS} targets, its own first");
                merged.unusable.insert(name, why);
            }
            Ok((target, kinds)) => {
                merged.targets.insert(name, Known { target, kinds, from: Origin::Catalog });
            }
            Err(why) => {
                merged.unusable.insert(name, why);
            }
        }
    }
    merged
}

/// What an entry says; `secrets` is where this host keeps its secrets.
///
/// # Errors
/// What is wrong with it, and what would do.
pub(crate) fn read_entry(
    key: &Key,
    fields: &Fields,
    secrets: &Path,
) -> Result<(Target, Vec<Kind>), Invalid> {
    let wrong = |what: String, hint: &str| Invalid { key: key.clone(), what, hint: hint.into() };
    let target = match check(key, fields)? {
        Value::Target(target) => target,
        Value::Group(_) | Value::Rule(_) | Value::Expelled(_) | Value::Setting(_) => {
            return Err(wrong("is no target".into(), "`skep notify add` writes one"));
        }
    };
    let mut kinds = Vec::new();
    for word in &target.kinds {
        let kind = Kind::of(word).filter(|kind| *kind != Kind::Targets);
        let hint = "docs/operating/notifications.md lists them, such as manager-lost";
        let what = || wrong(format!("kinds: {word:?} is no kind of incident"), hint);
        kinds.push(kind.ok_or_else(what)?);
    }
    let address = |field: &str, text: &String| {
        let hint = "give an address such as ops@example.org, and nothing besides";
        check_address(text).map_err(|why| wrong(format!("{field}: {text:?} {why}"), hint))
    };
    let mail = |from: &String, to: &[String]| {
        address("from", from)?;
        to.iter().try_for_each(|one| address("to", one))
    };
    let file = |name: String| secrets.join(name);
    let target = match target.way {
        Way::Smtp { server, tls, ca, login, from, to } => {
            mail(&from, &to)?;
            let (host, port) = check_server(&server).map_err(|why| {
                let hint = "give a name and perhaps a port: mail.example.org:587";
                wrong(format!("server: {server:?} {why}"), hint)
            })?;
            if let Some((_, secret)) = &login {
                let of = secret.rsplit('@').next().unwrap_or_default();
                if !of.eq_ignore_ascii_case(&host) {
                    let hint = "so that no entry can have it sent to another: name the file \
                                SERVER or USER@SERVER";
                    let what = format!("secret: a password's file bears its server's name, {host}");
                    return Err(wrong(what, hint));
                }
            }
            let encryption = match tls {
                Tls::Starttls => Encryption::StartTls,
                Tls::Tls => Encryption::Tls,
                Tls::None => Encryption::None,
            };
            let (ca_file, login) = (ca.map(file), login.map(|(user, name)| (user, file(name))));
            Target::Smtp(Mail { host, port, encryption, ca_file, login, from, to })
        }
        Way::Sendmail { from, to } => {
            mail(&from, &to)?;
            Target::Sendmail { program: telling::sendmail(), from, to }
        }
        Way::Webhook { url, secret, ca } => {
            check_url(&url).map_err(|why| {
                wrong(format!("url: {why}"), "give one such as https://chat.example/hook")
            })?;
            Target::Webhook(Webhook { url, secret_file: secret.map(file), ca_file: ca.map(file) })
        }
    };
    Ok((target, kinds))
}

/// Whether the files that a target needs are there and as they should be. It reads them.
///
/// # Errors
/// The first that is not.
pub(super) fn check_files(target: &Target) -> Result<(), NotifyError> {
    match target {
        Target::Smtp(mail) => mail.check_files(),
        Target::Webhook(hook) => hook.check_files(),
        Target::Sendmail { .. } | Target::Command(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_catalog::Field;

    fn entry(name: &str, pairs: &[(&str, &str)]) -> (Key, Option<Fields>) {
        let mut fields = Fields::new();
        for (name, value) in pairs {
            let field = match *name {
                "to" | "kinds" => Field::List(vec![(*value).to_owned()]),
                _ => Field::Text((*value).to_owned()),
            };
            fields.set(name, field).unwrap();
        }
        (Key::new(skep_catalog::Kind::TARGET, name).unwrap(), Some(fields))
    }

    fn own(names: &[&str]) -> telling::Notify {
        let hook = |name: &str| {
            let url = format!("https://{name}.example/");
            (name.to_owned(), Target::Webhook(Webhook { url, secret_file: None, ca_file: None }))
        };
        telling::Notify {
            desk: skep_notices::Config {
                targets: names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect(),
                ..skep_notices::Config::default()
            },
            targets: names.iter().map(|name| hook(name)).collect(),
            secrets_dir: "/etc/skep/secrets".into(),
        }
    }

    const MAIL: [(&str, &str); 6] = [
        ("way", "smtp"),
        ("server", "mail.example.org:587"),
        ("from", "skep@example.org"),
        ("to", "ops@example.org"),
        ("user", "skep"),
        ("secret", "skep@mail.example.org"),
    ];

    fn merged(own: &telling::Notify, entries: &[(Key, Option<Fields>)]) -> Merged {
        merge(own, entries.iter().map(|(key, fields)| (key, fields.clone())))
    }

    #[test]
    fn what_the_host_says_of_a_target_counts_on_that_host() {
        let entries = [
            entry("chat", &[("way", "webhook"), ("url", "https://elsewhere.example/")]),
            entry("ops", &MAIL),
        ];
        let merged = merged(&own(&["chat"]), &entries);
        let chat = &merged.targets["chat"];
        assert_eq!((chat.from, chat.target.place().as_str()), (Origin::Both, "chat.example:443"));
        let Target::Smtp(mail) = &merged.targets["ops"].target else { panic!("it is by mail") };
        let secret = mail.login.as_ref().unwrap().1.to_str().unwrap();
        assert_eq!(secret, "/etc/skep/secrets/skep@mail.example.org");
        assert!(merged.unusable.is_empty());
    }

    #[test]
    fn a_password_goes_to_the_server_alone_that_its_file_is_named_for() {
        let with = |name: &'static str, value: &'static str| {
            let mut pairs = MAIL;
            pairs.iter_mut().find(|(of, _)| *of == name).unwrap().1 = value;
            let (key, fields) = entry("ops", &pairs);
            read_entry(&key, &fields.unwrap(), Path::new("/s"))
        };
        with("secret", "mail.example.org").unwrap();
        for (name, value) in [
            ("server", "evil.example"),
            ("server", "example.org"),
            ("secret", "mail.example.org.evil.example"),
            ("secret", "mail-password"),
            ("secret", "mail.example.org@evil.example"),
        ] {
            let wrong = with(name, value).unwrap_err();
            assert!(wrong.what.contains("bears its server's name"), "{wrong}");
        }
        assert!(with("to", "a@b\r\nRCPT TO:<c@d>").unwrap_err().what.starts_with("to: "));
        assert!(with("server", "a b").unwrap_err().what.starts_with("server: "));
        let (key, fields) = entry("x", &[("way", "webhook"), ("url", "http://far.example/")]);
        assert!(read_entry(&key, &fields.unwrap(), Path::new("/s")).is_err());
        let (key, fields) =
            entry("x", &[("way", "webhook"), ("url", "https://a.b/"), ("kinds", "fire")]);
        let wrong = read_entry(&key, &fields.unwrap(), Path::new("/s")).unwrap_err();
        assert!(wrong.what.contains("\"fire\" is no kind"), "{wrong}");
    }

    #[test]
    fn entries_that_cannot_be_used_are_named_with_the_reason() {
        let mut entries: Vec<(Key, Option<Fields>)> = (0..10)
            .map(|n| entry(&format!("t{n}"), &[("way", "webhook"), ("url", "https://a.b/")]))
            .collect();
        entries.push((Key::new(skep_catalog::Kind::TARGET, "new").unwrap(), None));
        entries.push(entry("bad", &[("way", "webhook"), ("url", "ftp://a.b/")]));
        let merged = merged(&own(&["chat"]), &entries);
        assert_eq!(merged.targets.len(), MAX_TARGETS);
        assert_eq!(merged.unusable.len(), 3 + 2, "{:?}", merged.unusable);
        assert!(merged.unusable["new"].contains("newer build"));
        assert!(merged.unusable["bad"].starts_with("url: "));
    }
}
