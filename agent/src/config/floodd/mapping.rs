//! What a floodd file means for one of its sites: settings of Skep's own configuration, each with
//! its place in the file, and notices where the meaning is not quite the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_base::{ByteSize, NodeName};

use super::file::{File, Group, Local, Maybe, Placed, Site};
use super::sexp::Place;
use super::{Mapped, Notice, UnknownSite};
use crate::config::error::nearest;
use crate::config::high::{Command, Location, MAX_CONNECTIVITY};
use crate::config::layer::Layered;
use crate::config::units::{Size, Span};

/// Skep forgets a member no sooner: it may be restarting.
const PURGE_LEAST: Duration = Duration::from_secs(60);
/// An update needs so long to arrive at all.
const AGE_LEAST: Duration = Duration::from_secs(10);
/// How seldom Skep may dial a node that does not answer: dialling never stops.
const REDIAL_MOST: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// The least room for updates: a quarter of it is the longest update.
const STORAGE_LEAST: u64 = 64 << 10;

/// The settings for the site named `me`.
pub(super) fn map(path: &Path, file: &File, me: &NodeName) -> Result<Mapped, UnknownSite> {
    let Some(own) = file.sites.iter().find(|site| site.name.value == *me) else {
        let sites = file.sites.iter().map(|site| site.name.value.clone()).collect();
        return Err(UnknownSite { path: path.to_owned(), me: me.clone(), sites });
    };
    let mut mapping =
        Mapping { path: path.to_owned(), layer: Vec::new(), notices: Vec::new(), site: me };
    mapping.own(own);
    for site in file.sites.iter().filter(|site| site.name.value != *me) {
        mapping.other(site);
    }
    for group in &file.groups {
        mapping.group(file, group);
    }
    mapping.dialling(file);
    mapping.local(&file.local);
    mapping.alone(file, own);
    Ok(Mapped { site: me.clone(), layer: mapping.layer, notices: mapping.notices })
}

struct Mapping<'a> {
    path: PathBuf,
    layer: Vec<Layered>,
    notices: Vec<Notice>,
    site: &'a NodeName,
}

impl Mapping<'_> {
    fn set(&mut self, key: impl Into<String>, value: impl Into<toml::Value>, at: Place) {
        self.layer.push(Layered {
            key: key.into().into(),
            value: value.into(),
            path: self.path.clone(),
            at: (at.line, at.column),
        });
    }

    fn notice(&mut self, at: Place, text: impl Into<String>) {
        self.notices.push(Notice { path: self.path.clone(), at, text: text.into() });
    }

    fn own(&mut self, site: &Site) {
        let port = site.data_port.value.0;
        let everywhere = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
        self.set("listen.addresses", list(everywhere), site.data_port.at);
        if let Some(Placed { value, at }) = &site.inet_address {
            let advertised = std::net::SocketAddr::new(*value, port).to_string();
            self.set("listen.advertise", list([advertised]), *at);
        }
        self.place("node", site.location.as_ref());
        let Placed { value, at } = site.client_port;
        self.set("client.enabled", true, at);
        self.set("client.port", i64::from(value.0), at);
        self.notice(
            at,
            format!(
                "client-port {} is served on loopback; floodd served it on every address: name \
                 others in client.addresses, and who may `exit` in client.exit_allowed",
                value.0
            ),
        );
    }

    fn other(&mut self, site: &Site) {
        let name = &site.name.value;
        let reached = |port: u16| {
            let inet = site.inet_address.iter();
            let inet = inet.map(move |ip| std::net::SocketAddr::new(ip.value, port).to_string());
            let host = site.hostname.iter().map(move |host| format!("{}:{port}", host.value.0));
            inet.chain(host)
        };
        let at = site.data_port.at;
        self.set(format!("peers.{name}.addresses"), list(reached(site.data_port.value.0)), at);
        if let Some(client) = reached(site.client_port.value.0).next() {
            self.set(format!("peers.{name}.client"), client, site.client_port.at);
        }
        self.place(&format!("peers.{name}"), site.location.as_ref());
    }

    fn place(&mut self, of: &str, location: Option<&Placed<Location>>) {
        if let Some(Placed { value, at }) = location {
            self.set(format!("{of}.latitude"), value.latitude, *at);
            self.set(format!("{of}.longitude"), value.longitude, *at);
        }
    }

    fn group(&mut self, file: &File, group: &Group) {
        let Placed { value: name, at } = &group.name;
        if !group.sites.iter().any(|site| site.value == *self.site) {
            let text = format!("group {name} is left out: {} is none of its sites", self.site);
            return self.notice(*at, text);
        }
        if name.as_str() == "all" {
            let text = "group all is Skep's own: every node is in it, listed or not, and finds \
                        the bloc's own announcements among its updates";
            self.notice(*at, text);
            // What goes to a command for every other group must be asked for here.
            if let Some(Placed { value, at }) = &file.local.export_command {
                self.command("group.all.export_command".to_owned(), value, *at);
            }
        }
        let key = |field: &str| format!("group.{name}.{field}");
        let sites = group.sites.iter().map(|site| site.value.to_string());
        self.set(key("members"), list(sites), *at);
        for Placed { value, at } in group.sites.iter().chain(&group.master) {
            if !file.sites.iter().any(|site| site.name.value == *value) {
                self.undefined(file, value, *at);
            }
        }
        if let Some(Placed { value, at }) = &group.master {
            self.set(key("topology_master"), value.to_string(), *at);
        }
        if let Some(Placed { value, at }) = &group.generator {
            self.command(key("topology_generator"), value, *at);
        }
        if let Some(Placed { value, at }) = &group.connectivity {
            let k = value.0.min(MAX_CONNECTIVITY);
            if k < value.0 {
                let text = format!("connectivity {} becomes {k}, the most there is", value.0);
                self.notice(*at, text);
            }
            self.set(key("connectivity"), i64::try_from(k).unwrap_or(i64::MAX), *at);
        }
        for (name, field, period) in [
            ("ping-period", "ping_period", &group.ping_period),
            ("bandwidth-period", "bandwidth_period", &group.bandwidth_period),
            ("estimates-period", "estimates_period", &group.estimates_period),
            ("update-period", "update_period", &group.update_period),
        ] {
            if let Some(Placed { value, at }) = period {
                let value = self.within(name, (*value, *at), (SECOND, DAY));
                self.set(key(field), Span(value).to_string(), *at);
            }
        }
    }

    fn undefined(&mut self, file: &File, site: &NodeName, at: Place) {
        let known = file.sites.iter().map(|site| site.name.value.as_str());
        // Of a name of two letters, every other such name is near.
        let near = nearest(site.as_str(), known).filter(|_| site.as_str().len() > 3);
        let hint = match near {
            Some(near) => format!("; was {near} meant?"),
            None => "; others will tell where it is".to_owned(),
        };
        self.notice(at, format!("no (:site-define ...) says where site {site} is{hint}"));
    }

    /// `join-period`: floodd's way back to a master that lost its memory is Skep's dialling, which
    /// is the node's and not the group's.
    fn dialling(&mut self, file: &File) {
        let mine = file
            .groups
            .iter()
            .filter(|group| group.sites.iter().any(|site| site.value == *self.site));
        let least = mine.filter_map(|group| group.join_period.as_ref()).min_by_key(|it| it.value);
        let Some(Placed { value, at }) = least else {
            return;
        };
        let value = self.within("join-period", (*value, *at), (SECOND, REDIAL_MOST));
        self.set("timers.redial_late", Span(value).to_string(), *at);
        let text = "join-period is how often a node that does not answer is dialled, for all \
                    groups at once; a member that is linked tells all it knows without being asked";
        self.notice(*at, text);
    }

    fn local(&mut self, local: &Local) {
        if let Some(Placed { value, at }) = &local.data_storage_max {
            self.storage(*value, *at);
        }
        match &local.export_command {
            Some(Placed { value, at }) => self.command("export.command".to_owned(), value, *at),
            None => {
                let text = "no export-command: updates are counted and dropped from export; \
                            clients and subscribers still read them";
                self.notice(Place { line: 1, column: 1 }, text);
            }
        }
        if let Some(Placed { value, at }) = &local.log_purge_period {
            let value = self.within("log-purge-period", (*value, *at), (AGE_LEAST, 400 * DAY));
            self.set("flood.purge_age", Span(value).to_string(), *at);
            let normal = skep_flood::Config::default().pull_timeout;
            if value <= normal {
                let half = Span(value / 2);
                self.set("flood.pull_timeout", half.to_string(), *at);
            }
            let text = "log-purge-period is how long each update is kept and travels, and half of \
                        how long it is remembered as a duplicate; floodd purged all at such times. \
                        It should be the same at all sites";
            self.notice(*at, text);
        }
        if let Some(Placed { value, at }) = &local.site_purge_period {
            let value = self.within("site-purge-period", (*value, *at), (PURGE_LEAST, 400 * DAY));
            self.set("timers.purge_after", Span(value).to_string(), *at);
        }
    }

    fn storage(&mut self, bytes: u64, at: Place) {
        let kept = bytes.clamp(STORAGE_LEAST, i64::MAX.unsigned_abs());
        if kept != bytes {
            let text = format!("data-storage-max {bytes} becomes {kept}: the least that works");
            self.notice(at, text);
        }
        self.set("flood.storage_max", Size(ByteSize(kept)).to_string(), at);
        let normal = skep_flood::Config::default();
        if kept / 4 < normal.body_max.0 {
            // Which is what it is without a word, too.
            let longest = kept / 4;
            let text = format!(
                "with data-storage-max {bytes} an update may have {longest} bytes: a quarter of it"
            );
            self.notice(at, text);
        }
        let text = "data-storage-max is disk, not memory, and holds what is kept for repair too: \
                    give it more than floodd had";
        self.notice(at, text);
    }

    fn command(&mut self, key: String, command: &Command, at: Place) {
        match command {
            Command::Shell(text) => self.set(key, text.clone(), at),
            Command::Program(words) => self.set(key, list(words.iter().cloned()), at),
        }
    }

    /// A span within what Skep takes; says so where it had to be changed.
    fn within(
        &mut self,
        name: &str,
        (span, at): (Duration, Place),
        (least, most): (Duration, Duration),
    ) -> Duration {
        let kept = span.clamp(least, most);
        if kept != span {
            let bound = if kept > span { "least" } else { "most" };
            let (span, kept) = (Span(span), Span(kept));
            self.notice(at, format!("{name} {span} becomes {kept}: the {bound} that works"));
        }
        kept
    }

    /// A site that knows nobody waits to be found (FLOOD-39).
    fn alone(&mut self, file: &File, own: &Site) {
        let master = |group: &Group| is(&group.master, self.site);
        if file.sites.len() == 1 && !file.groups.iter().all(master) {
            let text = "no other site is defined: this one finds others on the local link, by \
                        join.addresses, or when they dial it";
            self.notice(own.name.at, text);
        }
        if !file.groups.iter().any(|group| group.sites.iter().any(|it| it.value == *self.site)) {
            self.notice(own.name.at, format!("{} is in no group but all", self.site));
        }
    }
}

fn is(name: &Maybe<NodeName>, site: &NodeName) -> bool {
    name.as_ref().is_some_and(|name| name.value == *site)
}

fn list(items: impl IntoIterator<Item = String>) -> toml::Value {
    toml::Value::Array(items.into_iter().map(toml::Value::String).collect())
}
