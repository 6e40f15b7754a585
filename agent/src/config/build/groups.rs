//! Groups: what holds for all of them, and what one of them has of its own; and the export.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use skep_base::{ByteSize, GroupName};

use super::{Build, any, plain, positive};
use crate::config::high::{Export, Group, MAX_CONNECTIVITY, MAX_GROUPS};
use crate::config::low::{self, Named};
use crate::config::origin::Key;
use crate::config::units::{Size, Span, Written};
use crate::config::values::{Command, ExportFormat};

/// What every group has unless it has its own.
struct Common {
    connectivity: usize,
    ping_period: Duration,
    bandwidth_period: Duration,
    estimates_period: Duration,
    update_period: Duration,
    generator_time_limit: Duration,
}

/// What every export has unless its group has its own.
struct Exports {
    command: Option<Command>,
    export: Export,
}

impl Build<'_> {
    /// Every group that the node is in, `all` among them.
    pub(super) fn groups(
        &mut self,
        low: low::Groups,
        mut named: Named<low::Group>,
        exports: low::Export,
    ) -> BTreeMap<GroupName, Group> {
        let extra = self.take("groups.extra", low.extra.clone(), Vec::new(), |groups| {
            (groups.len() <= MAX_GROUPS).then_some(()).ok_or("may name at most 256 groups")
        });
        let common = self.common(low);
        let mut tables = BTreeMap::new();
        for name in self.names("group", named.keys().map(toml::Spanned::as_ref)) {
            let (span, low) = take_named(&mut named, &name);
            let (own, command, format) = self.group(&name, low, &common);
            match GroupName::new(&name) {
                Ok(group) => {
                    tables.insert(group, (own, command, format));
                }
                Err(error) => self.misnamed("group", &name, span, &error.to_string()),
            }
        }
        if tables.len() > MAX_GROUPS {
            self.contradiction(&[], format!("more than {MAX_GROUPS} tables [group.NAME]"));
        }
        let exports = self.exports(exports);
        let names: BTreeSet<GroupName> =
            plain(extra).into_iter().chain(tables.keys().cloned()).collect();
        let of = |name: GroupName| {
            let (group, command, format) =
                tables.remove(&name).unwrap_or_else(|| (common.group(), None, None));
            // What the bloc itself says to `all` is nothing for a command, unless somebody asks.
            let shared = exports.command.clone().filter(|_| name != GroupName::all());
            let export = command.or(shared).map(|command| Export {
                command,
                format: format.unwrap_or(exports.export.format),
                ..exports.export.clone()
            });
            (name, Group { export, ..group })
        };
        names
            .into_iter()
            .chain([GroupName::all()])
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(of)
            .collect()
    }

    fn common(&mut self, low: low::Groups) -> Common {
        let seconds = Duration::from_secs;
        let mut period =
            |key: &'static str, low, default| self.take(key, low, Span(default), a_period).0;
        let ping_period = period("groups.ping_period", low.ping_period, seconds(60));
        let bandwidth_period =
            period("groups.bandwidth_period", low.bandwidth_period, seconds(6 * 3600));
        let estimates_period = period("groups.estimates_period", low.estimates_period, seconds(60));
        let update_period = period("groups.update_period", low.update_period, seconds(120));
        let connectivity = self.take("groups.connectivity", low.connectivity, 3, a_connectivity);
        let limit = Span(seconds(60));
        let generator_time_limit = self
            .take("groups.generator_time_limit", low.generator_time_limit, limit, a_generation)
            .0;
        Common {
            connectivity,
            ping_period,
            bandwidth_period,
            estimates_period,
            update_period,
            generator_time_limit,
        }
    }

    fn group(
        &mut self,
        name: &str,
        low: low::Group,
        common: &Common,
    ) -> (Group, Option<Command>, Option<ExportFormat>) {
        let key = |field: &str| Key::from(format!("group.{name}.{field}"));
        let mut group = common.group();
        let mut period = |field, low, period: &mut Duration| {
            if let Some(own) = self.take_optional(key(field), low, None, a_period) {
                *period = own.0;
            }
        };
        period("ping_period", low.ping_period, &mut group.ping_period);
        period("bandwidth_period", low.bandwidth_period, &mut group.bandwidth_period);
        period("estimates_period", low.estimates_period, &mut group.estimates_period);
        period("update_period", low.update_period, &mut group.update_period);
        let connectivity =
            self.take_optional(key("connectivity"), low.connectivity, None, a_connectivity);
        group.connectivity = connectivity.unwrap_or(group.connectivity);
        let master = self.take_optional(key("topology_master"), low.topology_master, None, any);
        group.topology_master = master.map(|Written(master)| master);
        let generator = key("topology_generator");
        group.topology_generator =
            self.take_optional(generator, low.topology_generator, None, Command::check);
        let members = self.take_optional(key("members"), low.members, None, any);
        group.members = members.map(plain).unwrap_or_default();
        let command =
            self.take_optional(key("export_command"), low.export_command, None, Command::check);
        let format = self.take_optional(key("export_format"), low.export_format, None, any);
        (group, command, format)
    }

    fn exports(&mut self, low: low::Export) -> Exports {
        let command = self.take_optional("export.command", low.command, None, Command::check);
        let format = self.take("export.format", low.format, ExportFormat::Raw, any);
        let user = self.take_optional("export.user", low.user, None, |user: &String| {
            (!user.is_empty() && !user.contains(['\0', ':', '\n']))
                .then_some(())
                .ok_or("must be the name or the number of a user")
        });
        let hour = Duration::from_secs(3600);
        let delay = self.take("export.delay", low.delay, Span(Duration::from_millis(100)), any).0;
        let time_limit = Span(Duration::from_secs(60));
        let time_limit = self.take("export.time_limit", low.time_limit, time_limit, positive).0;
        let batch_updates = self.take("export.batch_updates", low.batch_updates, 256, |count| {
            (1..=skep_export::MAX_BATCH_UPDATES)
                .contains(count)
                .then_some(())
                .ok_or("must be between 1 and 256")
        });
        let bytes = Size(ByteSize(skep_export::MAX_BATCH_BYTES));
        let batch_bytes = self.take("export.batch_bytes", low.batch_bytes, bytes, a_batch).0;
        let memory = Size(ByteSize(1 << 30));
        let memory_max = self.take("export.memory_max", low.memory_max, memory, |size: &Size| {
            (size.0.0 >= 16 << 20).then_some(()).ok_or("must be at least 16 MiB")
        });
        let first = Span(Duration::from_secs(1));
        let retry_first = self.take("export.retry_first", low.retry_first, first, positive).0;
        let last = Span(Duration::from_secs(300));
        let retry_last = self.take("export.retry_last", low.retry_last, last, positive).0;
        if retry_last < retry_first || retry_last > 24 * hour {
            let message = format!(
                "export.retry_last ({}) must be between export.retry_first ({}) and 24h",
                Span(retry_last),
                Span(retry_first)
            );
            self.contradiction(&["export.retry_last", "export.retry_first"], message);
        }
        if delay > hour || time_limit > 24 * hour {
            let message = "export.delay may be 1h at most and export.time_limit 24h".to_owned();
            self.contradiction(&["export.delay", "export.time_limit"], message);
        }
        let export = Export {
            command: command.clone().unwrap_or_else(|| Command::Program(Vec::new())),
            format,
            user,
            delay,
            time_limit,
            batch_updates,
            batch_bytes,
            memory_max: memory_max.0,
            retry_first,
            retry_last,
        };
        Exports { command, export }
    }
}

impl Common {
    const fn group(&self) -> Group {
        Group {
            connectivity: self.connectivity,
            ping_period: self.ping_period,
            bandwidth_period: self.bandwidth_period,
            estimates_period: self.estimates_period,
            update_period: self.update_period,
            topology_master: None,
            topology_generator: None,
            generator_time_limit: self.generator_time_limit,
            members: Vec::new(),
            export: None,
        }
    }
}

/// Takes the table of this name out, with where its name stands.
pub(super) fn take_named<T: Default>(
    named: &mut Named<T>,
    name: &str,
) -> (Option<Range<usize>>, T) {
    let key = named.keys().find(|key| key.as_ref() == name).cloned();
    let table = key.as_ref().and_then(|key| named.remove(key));
    (key.map(|key| key.span()), table.unwrap_or_default())
}

fn a_period(span: &Span) -> Result<(), &'static str> {
    (Duration::from_secs(1)..=Duration::from_secs(86_400))
        .contains(&span.0)
        .then_some(())
        .ok_or("must be between 1s and 24h")
}

/// The node gives a computation up after a quarter of an hour.
fn a_generation(span: &Span) -> Result<(), &'static str> {
    (Duration::from_secs(1)..=Duration::from_secs(600))
        .contains(&span.0)
        .then_some(())
        .ok_or("must be between 1s and 10min")
}

fn a_connectivity(k: &usize) -> Result<(), &'static str> {
    (1..=MAX_CONNECTIVITY).contains(k).then_some(()).ok_or("must be between 1 and 8")
}

fn a_batch(size: &Size) -> Result<(), &'static str> {
    (1..=skep_export::MAX_BATCH_BYTES)
        .contains(&size.0.0)
        .then_some(())
        .ok_or("must be between 1 B and 256 KiB")
}
