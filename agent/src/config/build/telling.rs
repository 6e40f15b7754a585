//! Which programs learn what happens to the flock, and who is told of incidents.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use skep_notices::{Config, Kind, MAX_TARGETS, What};
use skep_notify::{Encryption, Mail, Webhook};

use super::groups::take_named;
use super::{Build, absolute, any, plain, positive};
use crate::config::low::{self, Maybe, Named};
use crate::config::origin::Key;
use crate::config::telling::{
    EventWord, Hook, Hooks, KindWord, MAX_HOOKS, MAX_RECEIVERS, MailAddress, MailTls, Notify, Run,
    Target, check_name, sendmail,
};
use crate::config::units::{Span, Written};
use crate::config::values::Command;

impl Build<'_> {
    pub(super) fn hooks(&mut self, low: low::Hooks, mut named: Named<low::Hook>) -> Hooks {
        let user = self.take_optional("hooks.user", low.user, None, a_user);
        let minute = Span(Duration::from_secs(60));
        let time_limit = self.take("hooks.time_limit", low.time_limit, minute, a_limit).0;
        let calm = Span(skep_notices::WatchConfig::default().stable_after);
        let stable_after = self.take("hooks.stable_after", low.stable_after, calm, positive).0;
        let mut by_name = BTreeMap::new();
        for name in self.names("hook", named.keys().map(toml::Spanned::as_ref)) {
            let (span, low) = take_named(&mut named, &name);
            let key = |field: &str| Key::from(format!("hook.{name}.{field}"));
            let on = self.take_optional(key("on"), low.on, None, |on| {
                (!on.is_empty()).then_some(()).ok_or("must name at least one event")
            });
            let on = on.map(|on| plain(on).into_iter().map(|EventWord(what)| what).collect());
            let run = (low.command, low.user, low.time_limit);
            let run = self.run(&key, (span.clone(), "hook", &name), run, (&user, time_limit));
            if let Err(why) = check_name(&name) {
                self.misnamed("hook", &name, span, why);
            }
            if let Some(run) = run {
                by_name.insert(name, Hook { on: on.unwrap_or(What::ALL.to_vec()), run });
            }
        }
        if by_name.len() > MAX_HOOKS {
            self.contradiction(&[], format!("more than {MAX_HOOKS} tables [hook.NAME]"));
        }
        Hooks { stable_after, by_name }
    }

    pub(super) fn notify(&mut self, low: low::Notify) -> Notify {
        let base = Config::default();
        let mut span = |key, low: Maybe<Span>, default| self.span(key, low, default, a_wait);
        let settle = span("notify.settle", low.settle, base.settle);
        let unprotected_after =
            span("notify.unprotected_after", low.unprotected_after, base.unprotected_after);
        let alone_after = span("notify.alone_after", low.alone_after, base.alone_after);
        let gather = span("notify.gather", low.gather, base.gather);
        let per_hour = self.take("notify.per_hour", low.per_hour, base.per_hour, |count| {
            (1..=3600).contains(count).then_some(()).ok_or("must be between 1 and 3600")
        });
        let mut span = |key, low: Maybe<Span>, default| self.span(key, low, default, positive);
        let retry_first = span("notify.retry_first", low.retry_first, base.retry_first);
        let retry_last = span("notify.retry_last", low.retry_last, base.retry_last);
        let keep = span("notify.keep", low.keep, base.keep);
        if retry_last < retry_first {
            let message = format!(
                "notify.retry_last ({}) must not be below notify.retry_first ({})",
                Span(retry_last),
                Span(retry_first)
            );
            self.contradiction(&["notify.retry_last", "notify.retry_first"], message);
        }
        let secrets_dir = PathBuf::from("/etc/skep/secrets");
        let secrets_dir = self.take("notify.secrets_dir", low.secrets_dir, secrets_dir, absolute);
        let mut all = Targets::default();
        self.smtp(low.smtp, &mut all);
        self.sendmail(low.sendmail, &mut all);
        self.webhooks(low.webhook, &mut all);
        self.alerts(low.command, &mut all);
        if all.targets.len() > MAX_TARGETS {
            let message = format!("a node may have at most {MAX_TARGETS} targets to notify");
            self.contradiction(&["notify.settle"], message);
        }
        let desk = Config {
            targets: all.kinds,
            settle,
            unprotected_after,
            alone_after,
            gather,
            per_hour,
            retry_first,
            retry_last,
            keep,
            ..base
        };
        Notify { desk, targets: all.targets, secrets_dir }
    }

    fn smtp(&mut self, mut named: Named<low::Smtp>, all: &mut Targets) {
        for name in self.names("notify.smtp", named.keys().map(toml::Spanned::as_ref)) {
            let (span, low) = take_named(&mut named, &name);
            let key = |field: &str| Key::from(format!("notify.smtp.{name}.{field}"));
            let server = self.take_optional(key("server"), low.server, None, any);
            let tls = self.take(key("tls"), low.tls, MailTls::Starttls, any);
            let ca_file = self.take_optional(key("ca_file"), low.ca_file, None, absolute);
            let user = self.take_optional(key("user"), low.user, None, a_login);
            let password_file =
                self.take_optional(key("password_file"), low.password_file, None, absolute);
            let (from, to) = self.mail(&key, (low.from, low.to));
            let table = (span, "notify.smtp", name.as_str());
            let kinds = self.kinds(&key, low.kinds);
            let both = user.is_some() == password_file.is_some();
            if !both {
                self.lacks(&table, "user and password_file are given together, or neither is");
            }
            if tls == MailTls::None && user.is_some() {
                self.lacks(&table, "a password goes to no mail server without TLS");
            }
            let (Some(Written(server)), Some(from), false) = (server, from, to.is_empty()) else {
                self.lacks(&table, "server, from and to must be given");
                continue;
            };
            let mail = Mail {
                host: server.host,
                port: server.port,
                encryption: match tls {
                    MailTls::Starttls => Encryption::StartTls,
                    MailTls::Tls => Encryption::Tls,
                    MailTls::None => Encryption::None,
                },
                ca_file,
                login: user.zip(password_file),
                from,
                to,
            };
            self.target(table, kinds, Target::Smtp(mail), all);
        }
    }

    fn sendmail(&mut self, mut named: Named<low::Sendmail>, all: &mut Targets) {
        for name in self.names("notify.sendmail", named.keys().map(toml::Spanned::as_ref)) {
            let (span, low) = take_named(&mut named, &name);
            let key = |field: &str| Key::from(format!("notify.sendmail.{name}.{field}"));
            let program = self.take(key("program"), low.program, sendmail(), |command| {
                command.check()?;
                matches!(command, Command::Program(_))
                    .then_some(())
                    .ok_or("must be a list: the program's absolute path, and options")
            });
            let (from, to) = self.mail(&key, (low.from, low.to));
            let kinds = self.kinds(&key, low.kinds);
            let table = (span, "notify.sendmail", name.as_str());
            let (Some(from), false) = (from, to.is_empty()) else {
                self.lacks(&table, "from and to must be given");
                continue;
            };
            self.target(table, kinds, Target::Sendmail { program, from, to }, all);
        }
    }

    fn webhooks(&mut self, mut named: Named<low::Hooked>, all: &mut Targets) {
        for name in self.names("notify.webhook", named.keys().map(toml::Spanned::as_ref)) {
            let (span, low) = take_named(&mut named, &name);
            let key = |field: &str| Key::from(format!("notify.webhook.{name}.{field}"));
            let url = self.take_optional(key("url"), low.url, None, any);
            let secret_file =
                self.take_optional(key("secret_file"), low.secret_file, None, absolute);
            let ca_file = self.take_optional(key("ca_file"), low.ca_file, None, absolute);
            let kinds = self.kinds(&key, low.kinds);
            let table = (span, "notify.webhook", name.as_str());
            let Some(Written(url)) = url else {
                self.lacks(&table, "url must be given");
                continue;
            };
            let hook = Webhook { url: url.0, secret_file, ca_file };
            self.target(table, kinds, Target::Webhook(hook), all);
        }
    }

    fn alerts(&mut self, mut named: Named<low::Alert>, all: &mut Targets) {
        for name in self.names("notify.command", named.keys().map(toml::Spanned::as_ref)) {
            let (span, low) = take_named(&mut named, &name);
            let key = |field: &str| Key::from(format!("notify.command.{name}.{field}"));
            let minute = Duration::from_secs(60);
            let table = (span, "notify.command", name.as_str());
            let run = (low.command, low.user, low.time_limit);
            let run = self.run(&key, table.clone(), run, (&None, minute));
            let kinds = self.kinds(&key, low.kinds);
            if let Some(run) = run {
                self.target(table, kinds, Target::Command(run), all);
            }
        }
    }

    fn run(
        &mut self,
        key: &dyn Fn(&str) -> Key,
        table: Table<'_>,
        (command, user, limit): (Maybe<Command>, Maybe<String>, Maybe<Span>),
        (usual_user, usual_limit): (&Option<String>, Duration),
    ) -> Option<Run> {
        let command = self.take_optional(key("command"), command, None, Command::check);
        let user = self.take_optional(key("user"), user, usual_user.clone(), a_user);
        let time_limit = self.take(key("time_limit"), limit, Span(usual_limit), a_limit).0;
        if command.is_none() {
            self.lacks(&table, "command must be given");
        }
        Some(Run { command: command?, user, time_limit })
    }

    fn mail(
        &mut self,
        key: &dyn Fn(&str) -> Key,
        (from, to): (Maybe<Written<MailAddress>>, Maybe<Vec<Written<MailAddress>>>),
    ) -> (Option<String>, Vec<String>) {
        let from = self.take_optional(key("from"), from, None, any);
        let to = self.take_optional(key("to"), to, None, |to| {
            (1..=MAX_RECEIVERS)
                .contains(&to.len())
                .then_some(())
                .ok_or("must name 1 to 32 mail addresses")
        });
        let to = to.map(plain).unwrap_or_default();
        let to = to.into_iter().map(|MailAddress(address)| address).collect();
        (from.map(|Written(MailAddress(address))| address), to)
    }

    fn kinds(
        &mut self,
        key: &dyn Fn(&str) -> Key,
        low: Maybe<Vec<Written<KindWord>>>,
    ) -> Vec<Kind> {
        let kinds = self.take_optional(key("kinds"), low, None, any);
        plain(kinds.unwrap_or_default()).into_iter().map(|KindWord(kind)| kind).collect()
    }

    fn target(&mut self, table: Table<'_>, kinds: Vec<Kind>, target: Target, all: &mut Targets) {
        let (span, section, name) = table;
        let twice = all.targets.contains_key(name).then_some("another target has this name");
        if let Some(why) = check_name(name).err().or(twice) {
            self.misnamed(section, name, span, why);
            return;
        }
        all.targets.insert(name.to_owned(), target);
        all.kinds.push((name.to_owned(), kinds));
    }

    /// Says what is missing from a table, where its name stands.
    fn lacks(&mut self, (span, section, name): &Table<'_>, what: &str) {
        let error = self.source.error(span.clone(), format!("[{section}.{name}]: {what}"));
        self.errors.push(error);
    }
}

/// Where a table's name stands, its section and its name.
type Table<'a> = (Option<Range<usize>>, &'static str, &'a str);

#[derive(Default)]
struct Targets {
    targets: BTreeMap<String, Target>,
    kinds: Vec<(String, Vec<Kind>)>,
}

#[expect(clippy::ptr_arg, reason = "a check is handed the setting's own type")]
fn a_user(user: &String) -> Result<(), &'static str> {
    (!user.is_empty() && !user.contains(['\0', ':', '\n']))
        .then_some(())
        .ok_or("must be the name or the number of a user")
}

#[expect(clippy::ptr_arg, reason = "a check is handed the setting's own type")]
fn a_login(user: &String) -> Result<(), &'static str> {
    (!user.is_empty() && !user.contains(char::is_control))
        .then_some(())
        .ok_or("must be the name of an account")
}

fn a_limit(span: &Span) -> Result<(), &'static str> {
    (Duration::from_secs(1)..=Duration::from_secs(3600))
        .contains(&span.0)
        .then_some(())
        .ok_or("must be between 1s and 1h")
}

fn a_wait(span: &Span) -> Result<(), &'static str> {
    (span.0 <= Duration::from_secs(24 * 3600)).then_some(()).ok_or("may be 24h at most")
}
