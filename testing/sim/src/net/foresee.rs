//! What is sure to arrive, before it does.

use std::time::Duration;

use skep_base::Time;
use skep_node::LinkId;
use skep_wire::Frame;

use super::conn::{EndState, Parcel};
use super::network::{Network, Power, link_id};
use crate::HostIx;

impl Network {
    /// What the arrival that is planned for `now` will bring, where that is sure: to which host,
    /// and the frame that its process takes, if it takes any. It is sure while nothing else is
    /// under way than frames, between two processes that both have the connection: where a
    /// connection ends, so does what is under way in the other direction.
    pub(crate) fn foresee(
        &self,
        now: Time,
        conn: u32,
        dir: u8,
    ) -> Option<(HostIx, Option<(LinkId, Frame)>)> {
        let (from, to) = self.direction(conn, dir)?;
        let state = self.conn(conn)?;
        let pipe = &state.pipes[dir as usize];
        let side = 1 - dir;
        let healthy = self.passes(from, to)
            && self.passes(to, from)
            && self.station(to).power == Power::Running
            && state.ends[side as usize].state == EndState::Up
            && pipe.trouble.is_none()
            && !pipe.has_fin();
        if !healthy {
            return None;
        }
        let frame = match pipe.queue.front() {
            Some((due, Parcel::Frame(frame))) if *due <= now => {
                Some((link_id(conn, side), frame.clone()))
            }
            _ => None,
        };
        Some((to, frame))
    }

    /// No packet takes less from one host to another.
    pub(crate) fn quickest(&self) -> Duration {
        self.distances.quickest()
    }
}
