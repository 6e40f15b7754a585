//! The real binary on hosts of the lab, under the faults that the simulator cannot vouch for:
//! processes that are killed or stand still, cables, disks, and the first page's own commands.

mod addresses;
mod bloc;
mod channel;
mod clocks;
mod cuts;
mod export;
mod floodd;
mod full;
mod managers;
mod members;
mod merge;
mod names;
mod restore;
mod scenario_losses;
mod scenario_merge;
mod scenario_timeline;
mod slow;
mod solitude;
mod split;
mod strangers;
mod survivors;
mod topology;
mod transcript;
mod tree;
mod walk;
mod wave;

use std::time::Duration;

/// Far more than anything here needs on an idle machine; a loaded one is no failure.
const PATIENCE: Duration = Duration::from_secs(120);
