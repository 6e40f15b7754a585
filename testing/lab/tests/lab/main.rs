//! The lab itself: that each fault is the fault it says, and that nothing stays behind.
//!
//! Nothing here compares a duration with a wall-clock bound from above: a delay is shown by what
//! cannot arrive sooner, a cut by what arrives after it is healed.

mod disks;
mod machines;
mod network;
mod probe;
mod processes;
mod switch;
mod teardown;

use std::time::Duration;

/// Far more than anything here needs on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);
