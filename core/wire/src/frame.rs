//! Frames: how a stream of bytes is cut, and how much of it a peer may make us hold.

use alloc::vec::Vec;

use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// Bytes before the body: the length (which counts the kind) and the kind.
pub const FRAME_HEADER_BYTES: usize = 5;

/// What a connection is for. A link has two; bulk is opened when first needed, so that a large
/// transfer never stands in front of a heartbeat. A stream is nobody's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Heartbeats, facts, small updates, requests.
    Control,
    /// Chunks of images and other large bodies.
    Bulk,
    /// One byte stream: of two applications, or of two nodes that meet here. Frames end with the
    /// one that says what it is for.
    Stream,
}

impl Lane {
    /// The longest body a frame of this lane may carry.
    #[must_use]
    pub const fn max_body_bytes(self) -> usize {
        match self {
            // A full batch of facts: 4 KiB records in batches of up to 48 KiB, with room.
            Self::Control | Self::Stream => 64 * 1024,
            // A chunk of at most 256 KiB after compression that did not help, with its header.
            Self::Bulk => 1024 * 1024,
        }
    }
}

/// The numbers of the frame kinds. Which machine owns which range is part of the wire format.
pub mod kind {
    /// The first frame in each direction: [`crate::Hello`].
    pub const HELLO: u8 = 0x01;
    /// Why the sender closes the link: a short text for the other side's log.
    pub const GOODBYE: u8 = 0x02;
    /// Records and decrees, and the digests that repair them: `skep-records`.
    pub const RECORDS: u8 = 0x10;
    /// Heartbeats and who wants which edge: `skep-membership`.
    pub const MEMBERSHIP: u8 = 0x20;
    /// Updates, announcements, watermarks: `skep-flood`.
    pub const FLOOD: u8 = 0x30;
    /// Pings and trains that measure: `skep-estimates`.
    pub const ESTIMATES: u8 = 0x28;
    /// Topologies too large for a record: `skep-topology`.
    pub const TOPOLOGY: u8 = 0x2C;
    /// Requests that are passed on from link to link: `skep-routing`.
    pub const ROUTED: u8 = 0x38;
    /// Masters, backups and the roster: `skep-managers`.
    pub const MANAGERS: u8 = 0x48;
    /// What differs between two catalogs, and what changed: `skep-catalog`.
    pub const CATALOG: u8 = 0x4C;
    /// What is asked of the master, and its answers: `skep-catalog`.
    pub const WISHES: u8 = 0x4D;
    /// Asks for a channel: the first frame of a stream.
    pub const CHANNEL: u8 = 0x50;
    /// Asks to be joined to whoever shows the same cookie: the first frame of a stream to a relay.
    pub const MEET: u8 = 0x51;
    /// Says for whom a node dialled back: the first frame of that stream.
    pub const BACK: u8 = 0x52;
    /// What a stream's first frame asked for is granted; bytes follow.
    pub const GRANTED: u8 = 0x53;
    /// It is not: why, as a short text.
    pub const DENIED: u8 = 0x54;
    /// Which chunks of which image, asked and answered, on the bulk lane: `skep-wave`.
    pub const CHUNKS: u8 = 0x40;
}

/// One frame, cut from the stream. The body shares the reader's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// One of [`kind`], or something newer.
    pub kind: u8,
    /// What the kind says.
    pub body: Bytes,
}

/// Why a stream cannot be cut any further. The link is closed: there is no way back into step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The peer announced a body over the lane's limit.
    #[error("frame of {claimed} bytes is over the limit of {limit} bytes of its lane")]
    TooLong {
        /// What the length field said.
        claimed: u64,
        /// [`Lane::max_body_bytes`].
        limit: usize,
    },
    /// A length of zero, which has no room for the kind.
    #[error("frame without a kind")]
    Empty,
}

/// Appends a frame to `out`.
///
/// # Panics
/// In debug builds, when `body` is over the bulk lane's limit: senders batch below it.
pub fn write_frame(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    debug_assert!(body.len() <= Lane::Bulk.max_body_bytes(), "a frame over every limit");
    let length = u32::try_from(body.len() + 1).unwrap_or(u32::MAX);
    out.reserve(FRAME_HEADER_BYTES + body.len());
    out.extend_from_slice(&length.to_be_bytes());
    out.push(kind);
    out.extend_from_slice(body);
}

/// The beginning of a frame, whose body of `body_bytes` follows. For bodies that are not copied
/// into place.
#[must_use]
pub fn frame_head(kind: u8, body_bytes: usize) -> [u8; FRAME_HEADER_BYTES] {
    let length = u32::try_from(body_bytes + 1).unwrap_or(u32::MAX).to_be_bytes();
    [length[0], length[1], length[2], length[3], kind]
}

/// Cuts a stream into frames. Holds at most one frame over what was fed to it.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    lane: Lane,
}

impl FrameReader {
    /// A reader for one direction of a connection of the given lane.
    #[must_use]
    pub fn new(lane: Lane) -> Self {
        Self { buffer: BytesMut::new(), lane }
    }

    /// Where the transport may read into directly. Feed at most a few hundred KiB between calls of
    /// [`FrameReader::next_frame`].
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Adds bytes that came in.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if one is there.
    ///
    /// # Errors
    /// [`FrameError`] when the stream is not one of frames of this lane; the reader stays there.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u64::from(u32::from_be_bytes(*header));
        let limit = self.lane.max_body_bytes();
        let Some(body_len) = length.checked_sub(1) else {
            return Err(FrameError::Empty);
        };
        let body_len = match usize::try_from(body_len) {
            Ok(body_len) if body_len <= limit => body_len,
            _ => {
                return Err(FrameError::TooLong { claimed: body_len, limit });
            }
        };
        if self.buffer.len() < FRAME_HEADER_BYTES + body_len {
            return Ok(None);
        }
        self.buffer.advance(4);
        let kind = self.buffer.get_u8();
        let body = self.buffer.split_to(body_len).freeze();
        Ok(Some(Frame { kind, body }))
    }

    /// Bytes that wait for the rest of their frame.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Gives the buffer's memory back when nothing waits in it: an idle link should hold nothing.
    pub fn release_memory(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut_of_the_stream() {
        let mut stream = Vec::new();
        write_frame(kind::HELLO, b"one", &mut stream);
        write_frame(kind::FLOOD, b"", &mut stream);
        write_frame(0xEE, &[7; 3000], &mut stream);
        for step in [1, 2, 3, 7, 1000] {
            let mut reader = FrameReader::new(Lane::Control);
            let mut got = Vec::new();
            for piece in stream.chunks(step) {
                reader.feed(piece);
                while let Some(frame) = reader.next_frame().unwrap() {
                    got.push((frame.kind, frame.body.len()));
                }
            }
            assert_eq!(got, [(kind::HELLO, 3), (kind::FLOOD, 0), (0xEE, 3000)]);
            assert_eq!(reader.pending_bytes(), 0);
        }
    }

    #[test]
    fn an_oversize_frame_is_refused_at_its_length_field() {
        let mut reader = FrameReader::new(Lane::Control);
        reader.feed(&u32::MAX.to_be_bytes());
        assert!(matches!(reader.next_frame(), Err(FrameError::TooLong { .. })));
        let limit = Lane::Control.max_body_bytes();
        let mut reader = FrameReader::new(Lane::Control);
        reader.feed(&u32::try_from(limit + 2).unwrap().to_be_bytes());
        assert!(matches!(reader.next_frame(), Err(FrameError::TooLong { .. })));
        let mut reader = FrameReader::new(Lane::Control);
        reader.feed(&u32::try_from(limit + 1).unwrap().to_be_bytes());
        assert_eq!(reader.next_frame(), Ok(None));
    }

    #[test]
    fn a_frame_without_a_kind_is_refused() {
        let mut reader = FrameReader::new(Lane::Bulk);
        reader.feed(&[0; 4]);
        assert_eq!(reader.next_frame(), Err(FrameError::Empty));
    }
}
