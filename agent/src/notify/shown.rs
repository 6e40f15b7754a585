//! Incidents and targets, as the control API shows them.

use skep_control::api::{
    Incident, IncidentTold, Metric, MetricKind, Notices, NotifyTarget, ToldBy,
};
use skep_notices::{Kind, Notice};

use crate::spine::Spine;
use crate::status::millis;

impl Spine {
    /// What is or was wrong, and who was told of it.
    pub(crate) fn notices(&self) -> Notices {
        let now = self.clock.now();
        let Some(notify) = &self.notify else {
            return Notices { targets: vec![], told_by: None, incidents: vec![], dropped: 0 };
        };
        let target = |(name, figures): (&str, &skep_notices::Figures)| {
            let known = notify.merged.targets.get(name)?;
            let target = &known.target;
            let failing = figures.failing.as_ref();
            Some(NotifyTarget {
                name: name.to_owned(),
                way: target.way().to_owned(),
                place: target.place(),
                from: known.from.word().to_owned(),
                kinds: known.kinds.iter().map(|kind| kind.word().to_owned()).collect(),
                lacks: notify.lacking.get(name).map(|(_, why)| why.clone()),
                taken: figures.taken,
                failures: figures.failures,
                failing: failing.map(|(_, why)| why.clone()),
                failing_ms: failing.map(|(since, _)| millis(now.since(*since))),
                again_ms: figures.again.map(|at| millis(at.since(now))),
            })
        };
        let mut told_by = None;
        let mut incidents = Vec::new();
        for (notice, alone) in notify.desk.notices() {
            if notice.incident.kind == Kind::Targets {
                let (node, targets) = (notice.seen_by.clone(), notice.what.clone());
                told_by = Some(ToldBy { node, targets });
            } else {
                incidents.push(shown(notice, alone));
            }
        }
        incidents.sort_by_key(|incident| std::cmp::Reverse(incident.opened));
        Notices {
            targets: notify.desk.targets().filter_map(target).collect(),
            told_by,
            incidents,
            dropped: notify.desk.dropped(),
        }
    }
}

/// What was told, and what was not.
pub(crate) fn metrics(notify: &super::Notify) -> Vec<Metric> {
    let counter = |name: &str, help: &str, target: Option<&str>, value: u64| Metric {
        name: name.to_owned(),
        labels: target.map(|target| ("target".to_owned(), target.to_owned())).into_iter().collect(),
        kind: MetricKind::Counter,
        unit: String::new(),
        help: help.to_owned(),
        value,
    };
    let mut metrics = Vec::new();
    for (target, figures) in notify.desk.targets() {
        let help = "letters about incidents that a target has taken";
        metrics.push(counter("notify_taken", help, Some(target), figures.taken));
        let help = "attempts to hand a letter over that failed";
        metrics.push(counter("notify_failures", help, Some(target), figures.failures));
    }
    let help = "incidents that were not noted, for there are too many";
    metrics.push(counter("notify_dropped", help, None, notify.desk.dropped()));
    metrics
}

fn shown(notice: &Notice, alone: bool) -> Incident {
    let state = match (notice.is_open(), notice.incident.kind.is_momentary()) {
        (true, _) => "open",
        (false, true) => "happened",
        (false, false) => "over",
    };
    let told = notice.told.iter().map(|(target, told)| IncidentTold {
        target: target.clone(),
        step: told.step,
        letter: told.letter.as_ref().map(|claim| claim.letter.clone()),
    });
    Incident {
        kind: notice.incident.kind.word().to_owned(),
        subject: notice.incident.subject.clone(),
        id: notice.id.clone(),
        step: notice.step,
        state: state.to_owned(),
        what: notice.what.clone(),
        hint: notice.hint.clone(),
        seen_by: notice.seen_by.clone(),
        opened: notice.opened,
        closed: notice.closed.filter(|_| !notice.is_open()),
        told: told.collect(),
        alone,
    }
}
