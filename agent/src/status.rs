//! What this node says of itself: in one page, what it waits for, whether it is well (invariant 9).
//!
//! Every answer is made from what is so at the moment it is asked for; nothing is remembered only
//! to be shown, but when something began.

use std::time::Duration;

use skep_base::{Time, WallTime};
use skep_cli::human;
use skep_control::api::{AgentState, Certificate, Check, Health, Status, Text, Wait};
use skep_identity::CertInfo;
use skep_node::{MemberView, NodeState};

use crate::renewal::ends;
use crate::spine::Spine;

/// Members waited for that are named one by one; the rest is counted.
const NAMED: usize = 8;
/// A node that compares records with nobody publishes after this long all the same.
const LOOKS_AROUND: Duration = Duration::from_secs(3);

/// The disk fails.
#[derive(Clone, Debug)]
pub struct DiskTrouble {
    /// When it began to fail.
    pub since: Time,
    /// What it said first.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Spine {
    pub(crate) fn state(&self) -> AgentState {
        match (self.stopping, self.duplicate, self.node.has_begun()) {
            (Some(_), ..) => AgentState::Draining,
            (None, Some(_), _) => AgentState::Duplicate,
            (None, None, true) => AgentState::Running,
            (None, None, false) => AgentState::Joining,
        }
    }

    pub(crate) fn status(&self) -> Status {
        let identity = self.identity.current();
        let info = identity.info();
        let members = self.node.members();
        let flock_feature_level = members
            .filter(|member| member.status == skep_node::Status::Present)
            .filter_map(|member| member.facts.map(|facts| facts.feature_level))
            .min();
        Status {
            bloc: info.bloc.clone(),
            node: info.node.clone(),
            id: Text(self.node.id()),
            network: info.network.clone(),
            roles: roles(info),
            version: self.version.clone(),
            protocol: skep_wire::PROTOCOL_MAX,
            feature_level: skep_wire::FEATURE_LEVEL,
            flock_feature_level: flock_feature_level.unwrap_or(skep_wire::FEATURE_LEVEL),
            incarnation: self.node.incarnation().0,
            state: self.state(),
            started: self.started.1,
            uptime_ms: millis(self.clock.now().since(self.started.0)),
            addresses: self.addresses.iter().map(|address| address.socket.to_string()).collect(),
            present: count(self.node.present().len()),
            known: count(self.node.members().count()),
            flock: self.flock_name(),
            links: count(self.node.links().count()),
            certificate: self.certificate(),
            waits: self.waits(),
            problems: self.problems(),
        }
    }

    fn waits(&self) -> Vec<Wait> {
        let now = self.clock.now();
        let mut waits = Vec::new();
        let mut wait = |what: String, since: Duration, until: Option<Duration>| {
            let (since_ms, until_ms) = (millis(since), until.map(millis));
            waits.push(Wait { by: None, what, since_ms, until_ms });
        };
        if self.stopping.is_some() {
            let at_most = self.transport.shutdown_limit();
            wait("peers to take the last words".to_owned(), Duration::ZERO, Some(at_most));
        } else if let Some(since) = self.duplicate {
            let what = "the other process of this name to stop, before anything is published";
            wait(what.to_owned(), now.since(since), None);
        } else if !self.node.has_begun() {
            let (what, so_far) = ("a first exchange of records", now.since(self.started.0));
            let what = format!("{what} with a peer, before anything is published");
            wait(what, so_far, Some(LOOKS_AROUND.saturating_sub(so_far)));
        }
        if let Some(since) = self.alone {
            let what = "another node of the bloc to be reached: this one is alone".to_owned();
            wait(what, now.since(since), None);
        }
        let absent = self.node.members().filter(|member| self.is_waited_for(member));
        let absent: Vec<MemberView<'_>> = absent.collect();
        for member in absent.iter().take(NAMED) {
            let (what, until) = self.wait_for(member, now);
            wait(what, now.since(member.since), Some(until));
        }
        if let Some(longest) = absent.iter().skip(NAMED).map(|member| member.since).min() {
            let more = absent.len() - NAMED;
            wait(format!("{more} more members that are silent"), now.since(longest), None);
        }
        if let Some(asking) = &*self.renewing.borrow() {
            let failure = asking.failure.as_ref();
            let failure = failure.map(|failure| format!("; the last time {failure}"));
            let what = format!(
                "the CA to renew this node's certificate, asked {} so far{}",
                times(asking.attempts),
                failure.unwrap_or_default()
            );
            let left = self.identity.current().info().not_after.since(self.clock.wall());
            wait(what, asking.since.elapsed(), Some(left));
        }
        if let Some(since) = self.publishing.values().map(|(_, since)| *since).min() {
            let what = format!("the disk to take {} updates of this node", self.publishing.len());
            wait(what, now.since(since), None);
        }
        waits
    }

    fn is_waited_for(&self, member: &MemberView<'_>) -> bool {
        use skep_node::Status as Is;
        member.node != self.node.id() && matches!(member.status, Is::Silent | Is::Restarting)
    }

    /// What is waited for where a member is absent, and for how much longer.
    fn wait_for(&self, member: &MemberView<'_>, now: Time) -> (String, Duration) {
        let name = self.name_of(member.node);
        let stop = member.facts.map(|facts| facts.state);
        if let (skep_node::Status::Restarting, Some(NodeState::Restarting { back_within_ms })) =
            (member.status, stop)
        {
            let announced = Duration::from_millis(back_within_ms.into());
            let left = announced.saturating_sub(now.since(member.since));
            return (format!("{name} to be back from a restart that it announced"), left);
        }
        let age = self.node.records().age(member.node, now);
        let left = self.purge_age.saturating_sub(age);
        (format!("{name}, which is silent: it is dialled until it is forgotten"), left)
    }

    pub(crate) fn health(&self) -> Health {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let identity = self.identity.current();
        let info = identity.info();
        let check = |name: &str, ok: bool, detail: String| Check { name: name.into(), ok, detail };
        let dropped = self.node.flood().stats().dropped_storage;
        let disk = self.disk_trouble.as_ref();
        let (present, known) = (self.node.present().len(), self.node.members().count());
        let checks = vec![
            check(
                "certificate",
                !info.is_expired(wall),
                format!("{}, on {}", ends(info.not_after, wall), human::moment(info.not_after)),
            ),
            check("name", self.duplicate.is_none(), self.name_detail(now)),
            check(
                "disk",
                disk.is_none(),
                match disk {
                    Some(disk) => disk.message.clone(),
                    None => format!("{dropped} updates could not be written since the start"),
                },
            ),
            check(
                "clock",
                !self.clock_went_back,
                format!("{} UTC by the wall", human::time_of_day(wall)),
            ),
            check(
                "flock",
                self.alone.is_none(),
                format!("{present} of {known} members present; links: {}", self.links.len()),
            ),
            self.export_check(),
        ];
        Health { ok: checks.iter().all(|check| check.ok), state: self.state(), checks }
    }

    /// Whether the operator's commands take what they are handed (FLOOD-34).
    fn export_check(&self) -> Check {
        let failing = self.exports.troubles();
        let failing: Vec<String> =
            failing.map(|(group, _, what)| format!("of group {group}: {what}")).collect();
        let detail = if !failing.is_empty() {
            failing.join("; ")
        } else if self.exports.is_empty() {
            "no group has a command".to_owned()
        } else {
            "commands take what they are handed".to_owned()
        };
        Check { name: "export".into(), ok: failing.is_empty(), detail }
    }

    fn name_detail(&self, now: Time) -> String {
        if self.duplicate.is_some() {
            return "another live process holds this node's name".to_owned();
        }
        match self.node.name_contested(now) {
            Some(_) => "held, though another live process has it too".to_owned(),
            None => "nobody else was met under this node's name".to_owned(),
        }
    }

    pub(crate) fn certificate(&self) -> Certificate {
        let identity = self.identity.current();
        shown(identity.info(), self.clock.wall())
    }
}

/// A certificate as it is shown.
#[must_use]
pub fn shown(info: &CertInfo, now: WallTime) -> Certificate {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    Certificate {
        bloc: info.bloc.clone(),
        node: info.node.clone(),
        network: info.network.clone(),
        roles: roles(info),
        fingerprint: Text(info.hash),
        not_before: info.not_before,
        not_after: info.not_after,
        renew_at: info.renew_at(),
        expires_in_ms: signed(info.not_after.unix_ms).saturating_sub(signed(now.unix_ms)),
    }
}

/// The roles in a certificate, as they are shown.
#[must_use]
pub fn roles(info: &CertInfo) -> Vec<String> {
    info.roles.iter().map(|role| role.as_str().to_owned()).collect()
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn times(number: u32) -> String {
    if number == 1 { "once".to_owned() } else { format!("{number} times") }
}
