//! A floodd file, typed: sites, groups and what is local, each parameter with its place.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use skep_base::{GroupName, NodeName};

use super::sexp::{self, Kind, Place, Value};
use super::words::{Connectivity, Host, Latitude, Longitude, Port, Word, found};
use crate::config::error::nearest;
use crate::config::high::{Command, Location, MAX_GROUPS, MAX_PEERS};
use crate::config::{ConfigError, ConfigErrors};

/// Parameters of a site (FLOOD-14..21). `latitude` is how the world spells what the document has as
/// `lattitude`.
const SITE: &[&str] = &[
    "client-port",
    "data-port",
    "coordinate",
    "inet-address",
    "hostname",
    "longitude",
    "lattitude",
    "latitude",
    "site-name",
];
/// Parameters of a group (FLOOD-22..31).
const GROUP: &[&str] = &[
    "bandwidth-period",
    "connectivity",
    "estimates-period",
    "group-name",
    "join-period",
    "master-site",
    "ping-period",
    "site",
    "topology-generator",
    "update-period",
];
/// Parameters of this site alone (FLOOD-32..36).
const LOCAL: &[&str] =
    &["data-storage-max", "export-command", "log-purge-period", "site-purge-period"];
/// The forms that a file is made of, with their parameters.
const FORMS: &[(&str, &[&str])] =
    &[("site-define", SITE), ("group-define", GROUP), ("local", LOCAL)];

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) at: Place,
}

/// What may be left out.
pub(super) type Maybe<T> = Option<Placed<T>>;

/// `(:site-define ...)`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Site {
    pub(super) name: Placed<NodeName>,
    pub(super) hostname: Maybe<Host>,
    pub(super) inet_address: Maybe<IpAddr>,
    pub(super) client_port: Placed<Port>,
    pub(super) data_port: Placed<Port>,
    pub(super) location: Maybe<Location>,
}

/// `(:group-define ...)`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) name: Placed<GroupName>,
    pub(super) sites: Vec<Placed<NodeName>>,
    pub(super) master: Maybe<NodeName>,
    pub(super) connectivity: Maybe<Connectivity>,
    pub(super) ping_period: Maybe<Duration>,
    pub(super) bandwidth_period: Maybe<Duration>,
    pub(super) estimates_period: Maybe<Duration>,
    pub(super) update_period: Maybe<Duration>,
    pub(super) join_period: Maybe<Duration>,
    pub(super) generator: Maybe<Command>,
}

/// `(:local ...)`
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Local {
    pub(super) data_storage_max: Maybe<u64>,
    pub(super) export_command: Maybe<Command>,
    pub(super) log_purge_period: Maybe<Duration>,
    pub(super) site_purge_period: Maybe<Duration>,
}

/// The whole file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct File {
    pub(super) sites: Vec<Site>,
    pub(super) groups: Vec<Group>,
    pub(super) local: Local,
}

/// Reads a file's text.
pub(super) fn read(path: &Path, text: &str) -> Result<File, ConfigErrors> {
    let values = sexp::read(text).map_err(|error| {
        ConfigErrors::from(ConfigError {
            path: Some(path.to_owned()),
            at: Some((error.at.line, error.at.column)),
            message: error.fault.to_string(),
            hint: None,
        })
    })?;
    let mut reading = Reading { path, errors: Vec::new() };
    let file = reading.file(&values);
    let mut errors = reading.errors;
    if errors.is_empty() {
        return Ok(file);
    }
    errors.sort_by_key(|error| error.at);
    Err(ConfigErrors(errors))
}

/// The parameters of one form, by name.
struct Form<'a> {
    name: &'static str,
    at: Place,
    fields: BTreeMap<&'static str, Vec<Field<'a>>>,
}

#[derive(Clone, Copy)]
struct Field<'a> {
    at: Place,
    values: &'a [Value],
}

impl Field<'_> {
    /// Where its value begins, or its name where there is none.
    fn value_at(&self) -> Place {
        self.values.first().map_or(self.at, |value| value.at)
    }
}

struct Reading<'a> {
    path: &'a Path,
    errors: Vec<ConfigError>,
}

impl Reading<'_> {
    fn error(&mut self, at: Place, message: String, hint: Option<String>) {
        self.errors.push(ConfigError {
            path: Some(self.path.to_owned()),
            at: Some((at.line, at.column)),
            message,
            hint,
        });
    }

    fn file(&mut self, values: &[Value]) -> File {
        let mut file = File { sites: Vec::new(), groups: Vec::new(), local: Local::default() };
        let mut local_at = None;
        for value in values {
            let Some(form) = self.form(value) else {
                continue;
            };
            match form.name {
                "site-define" => file.sites.extend(self.site(&form)),
                "group-define" => file.groups.extend(self.group(&form)),
                _ => {
                    if let Some(before) = local_at.replace(form.at) {
                        let message = format!("a second (:local ...): the first is at {before}");
                        self.error(form.at, message, Some("put all into one".to_owned()));
                    }
                    file.local = self.local(&form);
                }
            }
        }
        self.names_are_unique(&file);
        if file.sites.len() > MAX_PEERS || file.groups.len() > MAX_GROUPS {
            let at = Place { line: 1, column: 1 };
            let message = format!("more than {MAX_PEERS} sites or {MAX_GROUPS} groups in one file");
            self.error(at, message, None);
        }
        file
    }

    fn names_are_unique(&mut self, file: &File) {
        let mut sites: BTreeMap<&NodeName, Place> = BTreeMap::new();
        for Placed { value, at } in file.sites.iter().map(|site| &site.name) {
            if let Some(before) = sites.insert(value, *at) {
                self.error(*at, format!("a second site {value}: the first is at {before}"), None);
            }
        }
        let mut groups: BTreeMap<&GroupName, Place> = BTreeMap::new();
        for Placed { value, at } in file.groups.iter().map(|group| &group.name) {
            if let Some(before) = groups.insert(value, *at) {
                self.error(*at, format!("a second group {value}: the first is at {before}"), None);
            }
        }
    }

    /// A top-level value as one of the forms.
    fn form<'a>(&mut self, value: &'a Value) -> Option<Form<'a>> {
        let expected = "(:site-define ...), (:group-define ...) or (:local ...)";
        let Kind::List(list) = &value.kind else {
            let here = found(std::slice::from_ref(value));
            self.error(value.at, format!("expected {expected}, found {here}"), None);
            return None;
        };
        let Some((head, rest)) = list.split_first() else {
            self.error(value.at, format!("an empty list: expected {expected}"), None);
            return None;
        };
        let name = keyword(head);
        let known = FORMS.iter().find(|(form, _)| Some(*form) == name);
        let Some((name, parameters)) = known else {
            let here = found(std::slice::from_ref(head));
            let hint = self.form_hint(name, list);
            self.error(head.at, format!("expected {expected}, found {here}"), hint);
            return None;
        };
        let mut form = Form { name, at: value.at, fields: BTreeMap::new() };
        for value in rest {
            if let Some((name, field)) = self.field(form.name, parameters, value) {
                form.fields.entry(name).or_default().push(field);
            }
        }
        Some(form)
    }

    fn form_hint(&self, name: Option<&str>, list: &[Value]) -> Option<String> {
        let word = name.or(match &list.first()?.kind {
            Kind::Atom(atom) => Some(atom.as_str()),
            Kind::Text(_) | Kind::List(_) => None,
        })?;
        if let Some((form, _)) = FORMS.iter().find(|(_, parameters)| parameters.contains(&word)) {
            return Some(format!("(:{word} ...) belongs into a (:{form} ...)"));
        }
        let near = nearest(word, FORMS.iter().map(|(form, _)| *form))?;
        Some(format!("did you mean (:{near} ...)?"))
    }

    /// A value within a form as one of its parameters.
    fn field<'a>(
        &mut self,
        form: &'static str,
        parameters: &'static [&'static str],
        value: &'a Value,
    ) -> Option<(&'static str, Field<'a>)> {
        let list = match &value.kind {
            Kind::List(list) => list.as_slice(),
            Kind::Atom(_) | Kind::Text(_) => &[],
        };
        let Some((head, values)) = list.split_first() else {
            let example = parameters.first().copied().unwrap_or_default();
            let here = found(std::slice::from_ref(value));
            let message = format!("expected a parameter such as (:{example} ...), found {here}");
            self.error(value.at, message, None);
            return None;
        };
        let name = keyword(head);
        if let Some(known) = parameters.iter().find(|known| Some(**known) == name) {
            return Some((known, Field { at: head.at, values }));
        }
        let here = found(std::slice::from_ref(head));
        let (Kind::Atom(plain) | Kind::Text(plain)) = &head.kind else {
            let message = format!("expected the name of a parameter, found {here}");
            self.error(head.at, message, None);
            return None;
        };
        let word = name.unwrap_or(plain);
        let elsewhere = FORMS.iter().find(|(_, of)| of.contains(&word));
        let near = nearest(word, parameters.iter().copied());
        let hint = match (elsewhere, near) {
            (Some((other, _)), _) if *other != form => {
                format!("it belongs into a (:{other} ...)")
            }
            (_, Some(near)) => format!("did you mean :{near}?"),
            _ => format!("known here: :{}", parameters.join(", :")),
        };
        self.error(head.at, format!("unknown parameter {here} in (:{form} ...)"), Some(hint));
        None
    }

    /// The value of a parameter that is there once or not at all.
    fn one<T: Word>(&mut self, form: &Form<'_>, name: &'static str) -> Maybe<T> {
        let fields = form.fields.get(name)?;
        let field = fields.first()?;
        for again in fields.iter().skip(1) {
            let message = format!("a second :{name}: the first is at {}", field.at);
            self.error(again.at, message, None);
        }
        self.value(name, field)
    }

    fn value<T: Word>(&mut self, name: &'static str, field: &Field<'_>) -> Maybe<T> {
        match T::of(field.values) {
            Ok(value) => Some(Placed { value, at: field.value_at() }),
            Err(why) => {
                let (expected, found) = (T::EXPECTED, found(field.values));
                let message = match why {
                    Some(why) => format!(":{name}: {why}; expected {expected}"),
                    None => format!(":{name}: expected {expected}, found {found}"),
                };
                self.error(field.value_at(), message, None);
                None
            }
        }
    }

    /// Says which parameters a form lacks that it must have.
    fn require(&mut self, form: &Form<'_>, needed: &[&'static str]) {
        let missing: Vec<String> = needed
            .iter()
            .filter(|name| !form.fields.contains_key(**name))
            .map(|name| format!(":{name}"))
            .collect();
        if !missing.is_empty() {
            let message = format!("this (:{} ...) lacks {}", form.name, missing.join(", "));
            self.error(form.at, message, None);
        }
    }

    fn site(&mut self, form: &Form<'_>) -> Option<Site> {
        self.require(form, &["site-name", "client-port", "data-port"]);
        let name = self.one(form, "site-name");
        let hostname = self.one(form, "hostname");
        let inet_address = self.one(form, "inet-address");
        let client_port = self.one(form, "client-port");
        let data_port = self.one(form, "data-port");
        let location = self.location(form);
        let named = |name: &str| form.fields.contains_key(name);
        if !named("hostname") && !named("inet-address") {
            let message = "this (:site-define ...) lacks :hostname or :inet-address".to_owned();
            self.error(form.at, message, None);
        }
        Some(Site {
            name: name?,
            hostname,
            inet_address,
            client_port: client_port?,
            data_port: data_port?,
            location,
        })
    }

    /// `coordinate`, or `latitude` in either spelling with `longitude`.
    fn location(&mut self, form: &Form<'_>) -> Maybe<Location> {
        let whole: Maybe<Location> = self.one(form, "coordinate");
        let spelt: Maybe<Latitude> = self.one(form, "latitude");
        let misspelt: Maybe<Latitude> = self.one(form, "lattitude");
        let longitude: Maybe<Longitude> = self.one(form, "longitude");
        if let (Some(one), Some(other)) = (&spelt, &misspelt) {
            let message = format!("a second latitude: the first is at {}", one.at.min(other.at));
            self.error(one.at.max(other.at), message, None);
        }
        let latitude = spelt.or(misspelt);
        let named = |name: &str| form.fields.contains_key(name);
        let both = (named("latitude") || named("lattitude")) && named("longitude");
        let half = latitude.as_ref().map(|it| it.at).or(longitude.as_ref().map(|it| it.at));
        match (whole, latitude, longitude, half) {
            (Some(whole), None, None, _) => Some(whole),
            (Some(whole), _, _, Some(half)) => {
                let message = format!("the site's place is said already, at {}", whole.at);
                self.error(half, message, None);
                None
            }
            (None, Some(latitude), Some(longitude), _) => {
                let value = Location { latitude: latitude.value.0, longitude: longitude.value.0 };
                Some(Placed { value, at: latitude.at })
            }
            (None, _, _, Some(half)) if !both => {
                let message =
                    "half a place: :lattitude and :longitude are said together".to_owned();
                self.error(half, message, None);
                None
            }
            (..) => None,
        }
    }

    fn group(&mut self, form: &Form<'_>) -> Option<Group> {
        self.require(form, &["group-name", "site"]);
        let name = self.one(form, "group-name");
        let mut sites: Vec<Placed<NodeName>> = Vec::new();
        for field in form.fields.get("site").into_iter().flatten() {
            let Some(site) = self.value::<NodeName>("site", field) else {
                continue;
            };
            match sites.iter().find(|before| before.value == site.value) {
                Some(before) => {
                    let (at, value) = (before.at, &site.value);
                    self.error(
                        site.at,
                        format!("site {value} is in the group already, at {at}"),
                        None,
                    );
                }
                None => sites.push(site),
            }
        }
        Some(Group {
            sites,
            master: self.one(form, "master-site"),
            connectivity: self.one(form, "connectivity"),
            ping_period: self.one(form, "ping-period"),
            bandwidth_period: self.one(form, "bandwidth-period"),
            estimates_period: self.one(form, "estimates-period"),
            update_period: self.one(form, "update-period"),
            join_period: self.one(form, "join-period"),
            generator: self.one(form, "topology-generator"),
            name: name?,
        })
    }

    fn local(&mut self, form: &Form<'_>) -> Local {
        Local {
            data_storage_max: self.one(form, "data-storage-max"),
            export_command: self.one(form, "export-command"),
            log_purge_period: self.one(form, "log-purge-period"),
            site_purge_period: self.one(form, "site-purge-period"),
        }
    }
}

/// The word of a `:word`.
fn keyword(value: &Value) -> Option<&str> {
    match &value.kind {
        Kind::Atom(atom) => atom.strip_prefix(':'),
        Kind::Text(_) | Kind::List(_) => None,
    }
}
