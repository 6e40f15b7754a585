//! What waits to be written to a client.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

/// Bodies from here on are written from where they are, shorter ones are copied: a write of many
/// small things costs one system call.
const COPY_BELOW_BYTES: usize = 8 * 1024;

/// Bytes in their order.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    whole: VecDeque<Bytes>,
    tail: BytesMut,
    bytes: usize,
}

impl Outgoing {
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds what `write` appends to a buffer.
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let before = self.tail.len();
        write(&mut self.tail);
        self.bytes += self.tail.len() - before;
    }

    /// Adds a body.
    pub(crate) fn body(&mut self, body: Bytes) {
        if body.len() < COPY_BELOW_BYTES {
            return self.append(|tail| tail.extend_from_slice(&body));
        }
        if !self.tail.is_empty() {
            self.whole.push_back(self.tail.split().freeze());
        }
        self.bytes += body.len();
        self.whole.push_back(body);
    }

    /// What to write next.
    pub(crate) fn front(&self) -> &[u8] {
        self.whole.front().map_or(&self.tail, |chunk| chunk)
    }

    /// So much of the front was written.
    pub(crate) fn written(&mut self, bytes: usize) {
        self.bytes -= bytes;
        match self.whole.front_mut() {
            Some(chunk) => {
                chunk.advance(bytes);
                if chunk.is_empty() {
                    self.whole.pop_front();
                }
            }
            None => {
                self.tail.advance(bytes);
                // The room of a burst is not kept by a client that is quiet again.
                if self.tail.is_empty() {
                    self.tail = BytesMut::new();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_comes_out_in_its_order() {
        let mut out = Outgoing::default();
        let long = Bytes::from(vec![b'x'; COPY_BELOW_BYTES]);
        out.append(|tail| tail.extend_from_slice(b"head "));
        out.body(long.clone());
        out.body(Bytes::from_static(b" tail"));
        let mut written = Vec::new();
        while !out.is_empty() {
            let portion = out.front().len().min(1000);
            written.extend_from_slice(&out.front()[..portion]);
            out.written(portion);
        }
        assert_eq!(written, [b"head ", &long[..], b" tail"].concat());
    }
}
