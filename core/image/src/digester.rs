//! A digest over more than fits memory, part by part.

use skep_base::Digest;

/// Sums numbers and strings of bytes into one digest, each told from the next: two different
/// sequences never feed the same bytes.
#[derive(Clone, Debug, Default)]
pub struct Digester(blake3::Hasher);

impl Digester {
    /// A digester that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    /// Adds a string of bytes, its length first.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    /// The digest of everything so far.
    #[must_use]
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart_as_base_tells_them() {
        let mut digester = Digester::new();
        digester.bytes(b"ab");
        digester.bytes(b"c");
        assert_eq!(digester.finish(), Digest::of_parts(&[b"ab", b"c"]));
        digester.number(7);
        assert_ne!(digester.finish(), Digest::of_parts(&[b"ab", b"c"]));
    }
}
