//! The transport's numbers: how long it waits and how much it holds.

use std::time::Duration;

use skep_wire::{FRAME_HEADER_BYTES, Lane};

/// How the transport behaves. Each field says how to choose it; [`Config::validate`] says what
/// cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long one address may take to accept a TCP connection. Above a few round trips and one
    /// lost SYN (1 s); below the pace at which the caller dials again.
    pub connect_timeout: Duration,
    /// How long TLS and hello may take together, on either side, from the first byte on. A busy
    /// seed at which a hundred nodes knock needs some of it.
    pub handshake_timeout: Duration,
    /// How long an address may stay silent before the next one is tried beside it. A round trip to
    /// the far side of the earth.
    pub connect_stagger: Duration,
    /// How long an address that accepted the connection may take over the handshake before another
    /// may be tried beside it. Longer than a busy peer needs, or its work is doubled.
    pub handshake_stagger: Duration,
    /// A control link over which nothing was received for so long is given up. Well above the
    /// heartbeat; the caller judges silence long before.
    pub control_idle: Duration,
    /// A bulk link over which nothing moved for so long is closed; it is opened again when needed.
    pub bulk_idle: Duration,
    /// How long sent bytes may stay unacknowledged before the kernel ends the connection
    /// (`TCP_USER_TIMEOUT`). Above the longest hole that a link should survive.
    pub user_timeout: Duration,
    /// How long the connection may be quiet before the kernel asks whether the other end is there.
    pub keepalive: Duration,
    /// How long bytes may wait for a peer that takes none before it is closed as too slow.
    pub write_stall: Duration,
    /// How many bytes may wait for one peer on a control link. It must take what one repair of the
    /// facts sends at once.
    pub control_queue_bytes: usize,
    /// The same on a bulk link. Senders wait for room (`TransportHandle::room`), so a few chunks.
    pub bulk_queue_bytes: usize,
    /// Links that may be up at once.
    pub max_links: usize,
    /// Links that may be up to one node: two lanes, dialled from both ends at once, and an errand.
    pub max_links_per_peer: usize,
    /// Streams that may be open at once: channels of applications, and what is passed on.
    pub max_streams: usize,
    /// Streams that may be open to one node. A node that passes much on has many.
    pub max_streams_per_peer: usize,
    /// Incoming handshakes worked on at once. More only makes each slower: they cost CPU.
    pub max_handshakes: usize,
    /// Incoming connections that may wait for their handshake; any more are refused. Above the
    /// number of nodes that may all start at once and share one seed.
    pub max_waiting_handshakes: usize,
    /// Dials worked on at once.
    pub max_dials: usize,
    /// Dials that may wait; any more fail at once.
    pub max_waiting_dials: usize,
    /// Received bytes that may wait for the agent on each lane. While it is full, no link is read.
    pub max_unread_bytes: usize,
    /// How long a closing link may take to hand over what is queued, its goodbye included.
    pub drain_timeout: Duration,
    /// How long the agent may take to answer an enrolment.
    pub enrolment_timeout: Duration,
    /// Congestion control of bulk links, where the kernel has it: with loss it decides, and BBR
    /// moves forty times what cubic does.
    pub bulk_congestion: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(4),
            handshake_timeout: Duration::from_secs(8),
            connect_stagger: Duration::from_millis(250),
            handshake_stagger: Duration::from_millis(1500),
            control_idle: Duration::from_secs(60),
            bulk_idle: Duration::from_secs(60),
            user_timeout: Duration::from_secs(20),
            keepalive: Duration::from_secs(15),
            write_stall: Duration::from_secs(15),
            control_queue_bytes: 4 * 1024 * 1024,
            bulk_queue_bytes: 8 * 1024 * 1024,
            max_links: 2048,
            max_links_per_peer: 8,
            max_streams: 1024,
            max_streams_per_peer: 128,
            max_handshakes: 32,
            max_waiting_handshakes: 1024,
            max_dials: 64,
            max_waiting_dials: 4096,
            max_unread_bytes: 16 * 1024 * 1024,
            drain_timeout: Duration::from_secs(2),
            enrolment_timeout: Duration::from_secs(20),
            bulk_congestion: Some("bbr".to_owned()),
        }
    }
}

/// A number with which the transport could not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The field may not be zero.
    #[error("transport.{0} must be more than zero")]
    Zero(&'static str),
    /// The queue does not take one frame of the longest kind.
    #[error("transport.{field} must be at least {least} bytes, the longest frame of its lane")]
    TooSmall {
        /// The field's name.
        field: &'static str,
        /// The least value that works.
        least: usize,
    },
}

impl Config {
    /// Checks what the fields cannot say by their types.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let spans = [
            ("connect_timeout", self.connect_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("control_idle", self.control_idle),
            ("bulk_idle", self.bulk_idle),
            ("user_timeout", self.user_timeout),
            ("keepalive", self.keepalive),
            ("write_stall", self.write_stall),
            ("drain_timeout", self.drain_timeout),
            ("enrolment_timeout", self.enrolment_timeout),
        ];
        if let Some((field, _)) = spans.iter().find(|(_, span)| span.is_zero()) {
            return Err(ConfigError::Zero(field));
        }
        let counts = [
            ("max_links", self.max_links),
            ("max_links_per_peer", self.max_links_per_peer),
            ("max_handshakes", self.max_handshakes),
            ("max_dials", self.max_dials),
        ];
        if let Some((field, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(ConfigError::Zero(field));
        }
        let queues = [
            ("control_queue_bytes", self.control_queue_bytes, Lane::Control),
            ("bulk_queue_bytes", self.bulk_queue_bytes, Lane::Bulk),
            ("max_unread_bytes", self.max_unread_bytes, Lane::Bulk),
        ];
        for (field, bytes, lane) in queues {
            let least = longest_frame(lane);
            if bytes < least {
                return Err(ConfigError::TooSmall { field, least });
            }
        }
        Ok(())
    }

    pub(crate) const fn queue_bytes(&self, lane: Lane) -> usize {
        match lane {
            Lane::Control => self.control_queue_bytes,
            Lane::Bulk | Lane::Stream => self.bulk_queue_bytes,
        }
    }

    pub(crate) const fn idle(&self, lane: Lane) -> Duration {
        match lane {
            Lane::Control => self.control_idle,
            Lane::Bulk | Lane::Stream => self.bulk_idle,
        }
    }
}

/// Bytes of the longest frame that may travel on `lane`, header included.
pub(crate) const fn longest_frame(lane: Lane) -> usize {
    lane.max_body_bytes() + FRAME_HEADER_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_and_what_cannot_is_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let no_links = Config { max_links: 0, ..Config::default() };
        assert_eq!(no_links.validate(), Err(ConfigError::Zero("max_links")));
        let tiny = Config { bulk_queue_bytes: 4096, ..Config::default() };
        assert!(matches!(
            tiny.validate(),
            Err(ConfigError::TooSmall { field: "bulk_queue_bytes", .. })
        ));
    }
}
