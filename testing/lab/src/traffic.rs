//! What a host sent and received, as its own kernel counts it.

use std::fs;
use std::ops::Sub;

use anyhow::{Context as _, Result};

/// What stands in every frame before the IP packet.
const ETHERNET_HEADER_BYTES: u64 = 14;

/// Counters of one host since it was made, or the difference of two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames that left by the cable, with their Ethernet headers.
    pub frames_sent: u64,
    /// Bytes of those frames.
    pub frame_bytes_sent: u64,
    /// Frames that came in by the cable.
    pub frames_received: u64,
    /// Bytes of those frames.
    pub frame_bytes_received: u64,
}

impl Traffic {
    /// Bytes sent by the cable with IP headers and without those of Ethernet. Address resolution
    /// counts as well; segments that a real device would have cut count one header.
    #[must_use]
    pub fn ip_bytes_sent(&self) -> u64 {
        self.frame_bytes_sent.saturating_sub(ETHERNET_HEADER_BYTES * self.frames_sent)
    }

    /// Bytes received, likewise.
    #[must_use]
    pub fn ip_bytes_received(&self) -> u64 {
        self.frame_bytes_received.saturating_sub(ETHERNET_HEADER_BYTES * self.frames_received)
    }

    /// The counters of the network namespace that the calling thread is in.
    pub(crate) fn of_this_thread() -> Result<Self> {
        let file = |name: &str| {
            let path = format!("/proc/thread-self/net/{name}");
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let device = device_fields(&file("dev")?, "eth0").context("the host has no eth0")?;
        Ok(Self {
            frame_bytes_received: device[0],
            frames_received: device[1],
            frame_bytes_sent: device[8],
            frames_sent: device[9],
        })
    }
}

impl Sub for Traffic {
    type Output = Self;

    /// What was added since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            frames_sent: self.frames_sent.saturating_sub(earlier.frames_sent),
            frame_bytes_sent: self.frame_bytes_sent.saturating_sub(earlier.frame_bytes_sent),
            frames_received: self.frames_received.saturating_sub(earlier.frames_received),
            frame_bytes_received: self
                .frame_bytes_received
                .saturating_sub(earlier.frame_bytes_received),
        }
    }
}

/// The sixteen numbers of an interface in `/proc/net/dev`.
fn device_fields(dev: &str, name: &str) -> Option<[u64; 16]> {
    let numbers = dev.lines().find_map(|line| {
        let (device, numbers) = line.split_once(':')?;
        (device.trim() == name).then_some(numbers)
    })?;
    let mut fields = [0; 16];
    let mut words = numbers.split_whitespace();
    for field in &mut fields {
        *field = words.next()?.parse().ok()?;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let dev = "Inter-| Receive\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
                   eth0: 100 2 0 0 0 0 0 0 300 4 0 0 0 0 0 0\n";
        let fields = device_fields(dev, "eth0").unwrap();
        assert_eq!((fields[0], fields[1], fields[8], fields[9]), (100, 2, 300, 4));
        assert_eq!(device_fields(dev, "eth1"), None);
    }

    #[test]
    fn a_difference_is_what_was_added() {
        let earlier = Traffic { frames_sent: 2, frame_bytes_sent: 100, ..Traffic::default() };
        let later = Traffic { frames_sent: 5, frame_bytes_sent: 180, ..Traffic::default() };
        let added = later - earlier;
        assert_eq!((added.frames_sent, added.ip_bytes_sent()), (3, 38));
    }
}
