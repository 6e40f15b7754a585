//! Flood machines alone, in numbers: what an update takes to reach everybody, and what it costs.
//!
//! A [`World`](crate::World) runs whole nodes and checks each step; that is for finding faults.
//! Here run only the flood machines, over a given overlay whose links have latency and a rate, with
//! disks that take time. So two thousand nodes or half a million updates take seconds, and what is
//! measured is the protocol alone: processors cost nothing here.
//!
//! | part | measures |
//! |---|---|
//! | [`regions`] | time to all and copies, over an overlay in the regions of a world-wide fleet |
//! | [`outage`] | a site that was down for ten minutes at a thousand updates a second |

mod net;
pub mod outage;
pub mod regions;

use std::fmt;

/// One measured value.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// What it is, in a word or two joined by hyphens.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

impl Value {
    const fn new(name: &'static str, value: f64, unit: &'static str) -> Self {
        Self { name, value, unit }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:.4} {}", self.name, self.value, self.unit)
    }
}

/// The `share` quantile of times in seconds, in milliseconds.
fn quantile_ms(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below a length")]
    #[expect(clippy::cast_precision_loss, reason = "few enough to count exactly")]
    let at = (times.len().saturating_sub(1) as f64 * share).round() as usize;
    times.get(at).copied().unwrap_or(f64::NAN) * 1e3
}
