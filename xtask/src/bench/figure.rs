//! Figures: a median of runs, its target, and the peer's value beside it.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
}

/// The same figure of another program, on the same machine in the same minute.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Peer {
    /// Which program.
    pub name: String,
    /// Which version of it.
    pub version: String,
    /// Its figure.
    pub value: f64,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured, with its size.
    pub name: String,
    /// In what it is counted.
    pub unit: String,
    /// The median of the runs.
    pub value: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How many runs.
    pub runs: usize,
    /// What it shall reach.
    pub target: f64,
    /// Which way it is better.
    pub better: Better,
    /// The peer's, where one is installed.
    pub peer: Option<Peer>,
}

impl Figure {
    /// The median of `samples`.
    ///
    /// # Errors
    /// When there is no sample, or one is not a number.
    pub fn of(
        name: &str,
        unit: &str,
        samples: &[f64],
        better: Better,
        target: f64,
    ) -> Result<Self> {
        ensure!(samples.iter().all(|sample| sample.is_finite()), "{name}: {samples:?}");
        Ok(Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            value: quantile(samples, 0.5).with_context(|| format!("{name} has no sample"))?,
            min: quantile(samples, 0.0).unwrap_or_default(),
            max: quantile(samples, 1.0).unwrap_or_default(),
            runs: samples.len(),
            target,
            better,
            peer: None,
        })
    }

    /// The same with a peer's figure beside it.
    #[must_use]
    pub fn beside(mut self, peer: Option<Peer>) -> Self {
        self.peer = peer;
        self
    }

    /// Whether the target is reached.
    #[must_use]
    pub fn reached(&self) -> bool {
        match self.better {
            Better::Lower => self.value <= self.target,
            Better::Higher => self.value >= self.target,
        }
    }
}

/// The `share` quantile of `samples` (0 the least, 1 the greatest), interpolated between two.
#[must_use]
pub fn quantile(samples: &[f64], share: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = u32::try_from(sorted.len().checked_sub(1)?).ok()?;
    let place = f64::from(last) * share.clamp(0.0, 1.0);
    // Both are between nothing and `last`, which came from a length.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let (low, high) = (sorted.get(below)?, sorted.get(above)?);
    Some(low + (high - low) * place.fract())
}

/// All that a bench gave.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Which bench.
    pub bench: String,
    /// On what it ran.
    pub machine: String,
    /// Of which sources.
    pub commit: String,
    /// What came out.
    pub figures: Vec<Figure>,
}

impl Report {
    /// One JSON object.
    ///
    /// # Errors
    /// Never with figures made by [`Figure::of`].
    pub fn json(&self) -> Result<String> {
        serde_json::to_string(self).context("writing the report as JSON")
    }

    /// A table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut rows =
            vec![["figure", "value", "min … max", "runs", "target", "", "peer"].map(str::to_owned)];
        rows.extend(self.figures.iter().map(row));
        let mut widths = [0; 7];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut table = format!("{} on {}, commit {}\n", self.bench, self.machine, self.commit);
        for row in &rows {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row) {
                let pad = width - cell.chars().count();
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', pad + 2));
            }
            table.push('\n');
            table.push_str(line.trim_end());
        }
        table
    }
}

fn row(figure: &Figure) -> [String; 7] {
    let sign = match figure.better {
        Better::Lower => "≤",
        Better::Higher => "≥",
    };
    let mut value = number(figure.value);
    if !figure.unit.is_empty() {
        let unit = write!(value, " {}", figure.unit);
        debug_assert!(unit.is_ok(), "a String takes all that is written");
    }
    [
        figure.name.clone(),
        value,
        format!("{} … {}", number(figure.min), number(figure.max)),
        figure.runs.to_string(),
        format!("{sign} {}", number(figure.target)),
        if figure.reached() { "ok" } else { "missed" }.to_owned(),
        figure.peer.as_ref().map_or_else(String::new, |peer| {
            format!("{} {}: {}", peer.name, peer.version, number(peer.value))
        }),
    ]
}

/// Three significant digits below a hundred, none after the point above.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || value.fract().abs() < f64::EPSILON {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-9)
    }

    #[test]
    fn quantiles_lie_between_samples() {
        let samples = [4.0, 1.0, 3.0, 2.0];
        assert!(close(quantile(&samples, 0.0), 1.0));
        assert!(close(quantile(&samples, 0.5), 2.5));
        assert!(close(quantile(&samples, 1.0), 4.0));
        assert!(close(quantile(&[7.0], 0.99), 7.0));
        assert!(quantile(&[], 0.5).is_none());
    }

    #[test]
    fn the_median_of_the_runs_is_the_value() {
        let figure = Figure::of("x", "s", &[5.0, 1.0, 2.0], Better::Lower, 2.0).unwrap();
        assert!(figure.reached() && figure.runs == 3);
        assert!((figure.value - 2.0).abs() < 1e-9 && (figure.max - 5.0).abs() < 1e-9);
        let higher = Figure::of("x", "s", &[1.0], Better::Higher, 2.0).unwrap();
        assert!(!higher.reached());
    }

    #[test]
    fn nothing_measured_is_no_figure() {
        assert!(Figure::of("x", "s", &[], Better::Lower, 1.0).is_err());
        assert!(Figure::of("x", "s", &[f64::NAN], Better::Lower, 1.0).is_err());
    }

    #[test]
    fn the_object_has_the_agreed_fields() {
        let peer = Peer { name: "serf".into(), version: "0.9".into(), value: 2.5 };
        let figure = Figure::of("all", "s", &[1.5], Better::Lower, 2.0).unwrap();
        let report = Report {
            bench: "membership".into(),
            machine: "m".into(),
            commit: "c".into(),
            figures: vec![figure.clone().beside(Some(peer)), figure],
        };
        let json = report.json().unwrap();
        assert_eq!(
            json,
            r#"{"bench":"membership","machine":"m","commit":"c","figures":[{"name":"all","#
                .to_owned()
                + r#""unit":"s","value":1.5,"min":1.5,"max":1.5,"runs":1,"target":2.0,"#
                + r#""better":"lower","peer":{"name":"serf","version":"0.9","value":2.5}},"#
                + r#"{"name":"all","unit":"s","value":1.5,"min":1.5,"max":1.5,"runs":1,"#
                + r#""target":2.0,"better":"lower","peer":null}]}"#
        );
        let table = report.table();
        assert!(table.contains("serf 0.9: 2.50") && table.contains("≤ 2"), "{table}");
    }
}
