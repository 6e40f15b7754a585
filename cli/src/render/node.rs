//! Node, members, flock, links, health, figures.

use comfy_table::Color;
use skep_base::ByteSize;
use skep_control::api::{
    AgentState, CaStatus, Certificate, Flock, Founding, Health, Link, Member, Metric, MetricKind,
    Status,
};

use super::{Style, count, facts, finish, joined, names, or_dash, right};
use crate::human;

/// One page about a node.
#[must_use]
pub fn status(status: &Status, style: Style) -> String {
    let mut rows = vec![
        ("node", status.node.to_string()),
        ("bloc", status.bloc.to_string()),
        ("network", or_dash(status.network.as_ref())),
        ("roles", joined(status.roles.iter().map(String::as_str))),
        ("state", state(status)),
        (
            "life",
            format!(
                "{}, since {} ({})",
                status.incarnation,
                human::moment(status.started),
                human::span(status.uptime_ms)
            ),
        ),
        (
            "flock",
            format!(
                "{}: {} of {} present, {}",
                status.flock,
                status.present,
                count(status.known, "member"),
                count(status.links, "link")
            ),
        ),
        ("addresses", joined(status.addresses.iter().map(String::as_str))),
        ("certificate", certificate_line(&status.certificate)),
        (
            "version",
            format!(
                "{}, protocol {}, feature level {} (flock {})",
                status.version, status.protocol, status.feature_level, status.flock_feature_level
            ),
        ),
    ];
    for wait in &status.waits {
        let until = wait
            .until_ms
            .map_or_else(String::new, |ms| format!(", for at most {} more", human::span(ms)));
        rows.push(("waits", format!("{} since {}{until}", wait.what, human::span(wait.since_ms))));
    }
    for problem in &status.problems {
        let hint = problem.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
        rows.push((
            "problem",
            format!("{}{hint}, since {}", problem.message, human::span(problem.since_ms)),
        ));
    }
    facts(style, &rows)
}

fn state(status: &Status) -> String {
    match status.state {
        AgentState::Joining => "joining: has met nobody yet".to_owned(),
        AgentState::Running => "running".to_owned(),
        AgentState::Duplicate => format!(
            "duplicate: another live process is {}; this one publishes nothing",
            status.node
        ),
        AgentState::Draining => "draining: is stopping".to_owned(),
    }
}

fn certificate_line(certificate: &Certificate) -> String {
    let until = human::moment(certificate.not_after);
    let renewed = human::moment(certificate.renew_at);
    match u64::try_from(certificate.expires_in_ms) {
        Ok(left) if is_overdue(certificate) => format!(
            "until {until} ({}); RENEWAL IS OVERDUE since {renewed}: can a node that serves the CA \
             be reached?",
            human::span(left)
        ),
        Ok(left) => format!("until {until} ({}), renewed from {renewed}", human::span(left)),
        Err(_) => format!(
            "EXPIRED {until}, {} ago",
            human::span(certificate.expires_in_ms.unsigned_abs())
        ),
    }
}

/// Whether the node should have its next certificate by now: renewal takes no more than a twentieth
/// of a certificate's life where a CA can be reached.
fn is_overdue(certificate: &Certificate) -> bool {
    let life = certificate.not_after.since(certificate.not_before).as_millis();
    let left = u128::try_from(certificate.expires_in_ms).unwrap_or(0);
    left < life / 3 - life / 20
}

/// What a certificate says.
#[must_use]
pub fn certificate(certificate: &Certificate, style: Style) -> String {
    facts(
        style,
        &[
            ("node", certificate.node.to_string()),
            ("bloc", certificate.bloc.to_string()),
            ("network", or_dash(certificate.network.as_ref())),
            ("roles", joined(certificate.roles.iter().map(String::as_str))),
            ("fingerprint", certificate.fingerprint.to_string()),
            ("holds from", human::moment(certificate.not_before)),
            ("holds", certificate_line(certificate)),
        ],
    )
}

/// How the certificate authority is doing.
#[must_use]
pub fn ca(ca: &CaStatus, style: Style) -> String {
    facts(
        style,
        &[
            ("bloc", ca.bloc.to_string()),
            ("fingerprint", ca.fingerprint.to_string()),
            ("holds until", human::moment(ca.not_after)),
            ("founding", founding(ca.founding.as_ref())),
            ("nodes", format!("{} with a certificate that holds", ca.nodes)),
            ("invitations", format!("{} neither used nor expired", ca.invitations)),
            (
                "requests",
                format!("{} granted, {} refused since the agent started", ca.issued, ca.refused),
            ),
        ],
    )
}

fn founding(founding: Option<&Founding>) -> String {
    let Some(Founding { number, node, at, until }) = founding else {
        return "no token made yet: the next first certificate brings it".to_owned();
    };
    let (at, until) = (human::moment(*at), human::moment(*until));
    format!("number {number}, token given to {node} on {at}, to be used until {until}")
}

/// The members, in order of name.
#[must_use]
pub fn members(members: &[Member], style: Style) -> String {
    let mut sorted: Vec<&Member> = members.iter().collect();
    sorted.sort_by(|a, b| a.node.cmp(&b.node));
    let mut table = style.table(&["node", "presence", "since", "network", "rtt", "address"]);
    for member in sorted {
        let name = if member.me { format!("{} *", member.node) } else { member.node.to_string() };
        table.add_row(vec![
            style.cell(name, None),
            style.presence(member.presence),
            right(human::brief(member.since_ms)),
            style.cell(or_dash(member.network.as_ref()), None),
            right(or_dash(member.rtt_us.map(human::round_trip))),
            style.cell(or_dash(member.addresses.first()), None),
        ]);
    }
    finish(table, &[0, 1, 2, 3, 4, 5])
}

/// Who can reach whom.
#[must_use]
pub fn flock(flock: &Flock, style: Style) -> String {
    let known = flock.present.len() + flock.absent.len();
    let mut rows = vec![
        ("flock", flock.name.clone()),
        (
            "digest",
            format!(
                "{} ({})",
                flock.digest.0.abbreviated(16),
                if flock.agreed {
                    "all present members agree"
                } else {
                    "not all present members agree yet"
                }
            ),
        ),
        ("members", format!("{} of {known} present", flock.present.len())),
        ("present", names(&flock.present)),
    ];
    if !flock.absent.is_empty() {
        let absent: Vec<String> =
            flock.absent.iter().map(|(node, presence)| format!("{node} ({presence})")).collect();
        rows.push(("absent", joined(absent.iter().map(String::as_str))));
    }
    rows.push((
        "overlay",
        format!(
            "{}: {}, {} must fail to cut it",
            flock.overlay,
            count(flock.edges.len() as u64, "edge"),
            count(flock.connectivity, "node")
        ),
    ));
    let edges: Vec<String> = flock.edges.iter().map(|(a, b)| format!("{a}–{b}")).collect();
    rows.push(("edges", joined(edges.iter().map(String::as_str))));
    rows.extend(super::catalog::management(&flock.management));
    facts(style, &rows)
}

/// The links, in order of peer.
#[must_use]
pub fn links(links: &[Link], style: Style) -> String {
    let mut sorted: Vec<&Link> = links.iter().collect();
    sorted.sort_by(|a, b| a.peer.cmp(&b.peer).then(a.kind.cmp(&b.kind)));
    let mut table = style.table(&["peer", "kind", "remote", "up", "rtt", "sent", "received"]);
    for link in sorted {
        let arrow = if link.dialled { "→" } else { "←" };
        table.add_row(vec![
            style.cell(&link.peer, None),
            style.cell(link.kind.word(), None),
            style.cell(format!("{arrow} {}", link.remote), None),
            right(human::brief(link.up_ms)),
            right(or_dash(link.rtt_us.map(human::round_trip))),
            right(ByteSize(link.sent)),
            right(ByteSize(link.received)),
        ]);
    }
    finish(table, &[0, 1, 2, 3, 4, 5, 6])
}

/// The agent's checks on itself.
#[must_use]
pub fn health(health: &Health, style: Style) -> String {
    let mut table = style.table(&["check", "result", "detail"]);
    for check in &health.checks {
        let (word, colour) = if check.ok { ("ok", Color::Green) } else { ("FAILED", Color::Red) };
        table.add_row(vec![
            style.cell(&check.name, None),
            style.cell(word, Some(colour)),
            style.cell(&check.detail, None),
        ]);
    }
    finish(table, &[0, 1])
}

/// The figures, in order of name.
#[must_use]
pub fn metrics(metrics: &[Metric], style: Style) -> String {
    let mut sorted: Vec<&Metric> = metrics.iter().collect();
    sorted.sort_by(|a, b| (&a.name, &a.labels).cmp(&(&b.name, &b.labels)));
    let mut table = style.table(&["name", "value", "kind", "what"]);
    for metric in sorted {
        let labels: Vec<String> =
            metric.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let name = if labels.is_empty() {
            metric.name.clone()
        } else {
            format!("{}{{{}}}", metric.name, labels.join(","))
        };
        let value = match metric.unit.as_str() {
            "bytes" => ByteSize(metric.value).to_string(),
            "" => metric.value.to_string(),
            unit => format!("{} {unit}", metric.value),
        };
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        };
        table.add_row(vec![
            style.cell(name, None),
            right(value),
            style.cell(kind, None),
            style.cell(&metric.help, None),
        ]);
    }
    finish(table, &[0, 1, 2])
}
