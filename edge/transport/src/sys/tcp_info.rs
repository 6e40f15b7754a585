//! `TCP_INFO`: what the kernel measured about a connection, for nothing.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Duration;

/// What the kernel knows about one TCP connection. Fields that an old kernel does not fill are
/// zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpSample {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Its mean deviation.
    pub rtt_var: Duration,
    /// The least round-trip time of the last minutes.
    pub min_rtt: Duration,
    /// Rate of the newest delivery, in bytes a second.
    pub delivery_rate: u64,
    /// Whether that rate was limited by how little was sent, so that the path may bear more.
    pub app_limited: bool,
    /// Segments sent again since the connection was made.
    pub retransmits: u32,
    /// Segments sent and received, each of which cost an IP and a TCP header.
    pub segments_sent: u32,
    /// See `segments_sent`.
    pub segments_received: u32,
    /// Bytes that the peer's kernel acknowledged.
    pub bytes_acked: u64,
    /// Bytes received in order.
    pub bytes_received: u64,
    /// Bytes handed to the kernel that are not sent yet.
    pub unsent_bytes: u32,
    /// Time since a segment with data came in.
    pub last_received: Duration,
}

/// Longer than `struct tcp_info` of any kernel so far; the kernel fills what it has.
const BUFFER_BYTES: usize = 512;

/// Offsets in the kernel's `struct tcp_info`, which only ever grows at its end.
mod offset {
    pub(super) const FLAGS: usize = 7;
    pub(super) const LAST_DATA_RECEIVED: usize = 52;
    pub(super) const RTT: usize = 68;
    pub(super) const RTT_VAR: usize = 72;
    pub(super) const TOTAL_RETRANS: usize = 100;
    pub(super) const BYTES_ACKED: usize = 120;
    pub(super) const BYTES_RECEIVED: usize = 128;
    pub(super) const SEGMENTS_OUT: usize = 136;
    pub(super) const SEGMENTS_IN: usize = 140;
    pub(super) const NOT_SENT: usize = 144;
    pub(super) const MIN_RTT: usize = 148;
    pub(super) const DELIVERY_RATE: usize = 160;
}

/// Asks the kernel.
///
/// # Errors
/// When `socket` is no TCP socket.
pub(crate) fn read(socket: impl AsFd) -> io::Result<TcpSample> {
    let mut info = [0_u8; BUFFER_BYTES];
    let filled = getsockopt(&socket, &mut info)?;
    Ok(parse(&info[..filled]))
}

#[expect(unsafe_code, reason = "getsockopt(TCP_INFO) has no safe form that shows the newer fields")]
fn getsockopt(socket: &impl AsFd, info: &mut [u8; BUFFER_BYTES]) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(info.len()).unwrap_or(0);
    // SAFETY: the descriptor is open for as long as it is borrowed; `info` is writable for `length`
    // bytes, any values of which are valid; `length` is a valid, writable `socklen_t`.
    let status = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(length).unwrap_or(0).min(info.len()))
}

fn parse(info: &[u8]) -> TcpSample {
    let micros = |at| Duration::from_micros(u64::from(u32_at(info, at)));
    TcpSample {
        rtt: micros(offset::RTT),
        rtt_var: micros(offset::RTT_VAR),
        min_rtt: micros(offset::MIN_RTT),
        delivery_rate: u64_at(info, offset::DELIVERY_RATE),
        app_limited: info.get(offset::FLAGS).is_some_and(|flags| flags & 1 != 0),
        retransmits: u32_at(info, offset::TOTAL_RETRANS),
        segments_sent: u32_at(info, offset::SEGMENTS_OUT),
        segments_received: u32_at(info, offset::SEGMENTS_IN),
        bytes_acked: u64_at(info, offset::BYTES_ACKED),
        bytes_received: u64_at(info, offset::BYTES_RECEIVED),
        unsent_bytes: u32_at(info, offset::NOT_SENT),
        last_received: Duration::from_millis(u64::from(u32_at(info, offset::LAST_DATA_RECEIVED))),
    }
}

fn u32_at(info: &[u8], at: usize) -> u32 {
    info.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn u64_at(info: &[u8], at: usize) -> u64 {
    info.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_that_moved_bytes_says_how_many_and_how_fast() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.write_all(&[7; 5000]).unwrap();
        far.read_exact(&mut [0; 5000]).unwrap();
        far.write_all(b"done").unwrap();
        near.read_exact(&mut [0; 4]).unwrap();
        let sample = read(&near).unwrap();
        // The SYN counts as one acknowledged byte on some kernels.
        assert!((5000..=5001).contains(&sample.bytes_acked), "{sample:?}");
        assert_eq!(sample.bytes_received, 4);
        assert!(sample.rtt > Duration::ZERO && sample.min_rtt <= sample.rtt * 100);
        assert!(sample.delivery_rate > 0 && sample.segments_sent >= 2);
    }

    #[test]
    fn an_old_kernels_short_answer_leaves_the_rest_at_zero() {
        let mut info = [0xFF_u8; 104];
        info[offset::RTT..offset::RTT + 4].copy_from_slice(&1500_u32.to_ne_bytes());
        let sample = parse(&info);
        assert_eq!(sample.rtt, Duration::from_micros(1500));
        assert_eq!((sample.delivery_rate, sample.bytes_acked), (0, 0));
    }

    #[test]
    fn what_is_no_tcp_socket_is_an_error() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(read(&socket).is_err());
    }
}
