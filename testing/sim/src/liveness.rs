//! That what must come about does, in time.

use std::time::Duration;

use crate::oracle;
use crate::report::{Checker, Failure};
use crate::world::World;

/// How often a condition is looked at, in virtual time: for small worlds, and for large ones.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOK_EVERY_LARGE: Duration = Duration::from_millis(100);
const LARGE: usize = 200;
/// A record that is just under way is no unrest; it arrives within this.
const STILL: Duration = Duration::from_secs(1);

impl World {
    /// Lets time pass until `condition` holds, at most for `limit`. Says how long that took.
    ///
    /// # Errors
    /// What went wrong meanwhile, or why the condition does not hold in the end.
    pub fn until(
        &mut self,
        limit: Duration,
        what: &str,
        mut condition: impl FnMut(&Self) -> Result<(), String>,
    ) -> Result<Duration, Failure> {
        let began = self.now();
        let step = if self.hosts.len() > LARGE { LOOK_EVERY_LARGE } else { LOOK_EVERY };
        loop {
            let Err(why) = condition(self) else {
                return Ok(self.now().since(began));
            };
            let spent = self.now().since(began);
            if spent >= limit {
                let limit = limit.as_secs_f64();
                self.fail(Checker::Liveness, format!("not {what} within {limit} s: {why}"));
            }
            self.run_for(step)?;
            if let Some(failure) = &self.failure {
                return Err(failure.clone());
            }
        }
    }

    /// Lets time pass until everybody sees exactly those present that are.
    ///
    /// # Errors
    /// As [`World::until`].
    pub fn until_met(&mut self, limit: Duration) -> Result<Duration, Failure> {
        self.until(limit, "one flock in each part", oracle::presence)
    }

    /// Lets one thing happen after the other until `condition` holds: between any two of them there
    /// is a moment to kill somebody at.
    ///
    /// # Errors
    /// As [`World::until`].
    pub fn until_event(
        &mut self,
        limit: Duration,
        what: &str,
        condition: impl Fn(&Self) -> bool,
    ) -> Result<(), Failure> {
        let end = self.now() + limit;
        while !condition(self) {
            if self.now() > end {
                let limit = limit.as_secs_f64();
                self.fail(Checker::Liveness, format!("not {what} within {limit} s"));
            }
            self.run_event()?;
        }
        Ok(())
    }

    /// Lets time pass until the world is as it must be at rest, and sees that it stays so.
    ///
    /// # Errors
    /// As [`World::until`], and when the world does not stay at rest.
    pub fn until_at_rest(&mut self, limit: Duration) -> Result<Duration, Failure> {
        let took = self.until(limit, "at rest", oracle::rest)?;
        // Long enough for a second thought: heartbeats, watch records, closing what is not needed.
        self.run_for(Duration::from_secs(5))?;
        if let Err(why) = oracle::presence(self) {
            self.fail(Checker::Oracle, format!("did not stay at rest: {why}"));
        }
        self.until(STILL, "still at rest", oracle::rest)?;
        self.failure.clone().map_or(Ok(took), Err)
    }
}
