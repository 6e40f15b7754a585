//! Which pieces a node has, a bit each.

use alloc::vec;
use alloc::vec::Vec;

/// A set of piece numbers below a fixed count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bitmap {
    len: u32,
    bytes: Vec<u8>,
}

impl Bitmap {
    /// No piece of `len`.
    #[must_use]
    pub fn empty(len: u32) -> Self {
        Self { len, bytes: vec![0; len.div_ceil(8) as usize] }
    }

    /// Every piece of `len`.
    #[must_use]
    pub fn full(len: u32) -> Self {
        let mut all = Self { len, bytes: vec![0xFF; len.div_ceil(8) as usize] };
        if let (Some(last), over @ 1..) = (all.bytes.last_mut(), len % 8) {
            *last = (1 << over) - 1;
        }
        all
    }

    /// The set that a peer sent: nothing when it is not one of `len` pieces.
    #[must_use]
    pub fn from_bytes(len: u32, bytes: &[u8]) -> Option<Self> {
        let fits = bytes.len() == len.div_ceil(8) as usize;
        let beyond = match (bytes.last(), len % 8) {
            (Some(last), over @ 1..) => last >> over != 0,
            _ => false,
        };
        (fits && !beyond).then(|| Self { len, bytes: bytes.to_vec() })
    }

    /// As it is sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many pieces there are, had or not.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether no piece is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.iter().all(|byte| *byte == 0)
    }

    /// Whether `piece` is in it.
    #[must_use]
    pub fn has(&self, piece: u32) -> bool {
        piece < self.len
            && self.bytes.get((piece / 8) as usize).is_some_and(|byte| byte >> (piece % 8) & 1 == 1)
    }

    /// Adds or takes out `piece`; a number that no piece has changes nothing.
    pub fn set(&mut self, piece: u32, has: bool) {
        if piece >= self.len {
            return;
        }
        if let Some(byte) = self.bytes.get_mut((piece / 8) as usize) {
            let bit = 1 << (piece % 8);
            *byte = if has { *byte | bit } else { *byte & !bit };
        }
    }

    /// How many are in it.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.bytes.iter().map(|byte| byte.count_ones()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_any_length_come_back_and_strangers_are_refused() {
        for len in [0, 1, 7, 8, 9, 64, 1000] {
            let full = Bitmap::full(len);
            assert_eq!(full.count(), len);
            assert_eq!(Bitmap::from_bytes(len, full.as_bytes()), Some(full.clone()));
            assert!(!full.has(len));
            let mut some = Bitmap::empty(len);
            assert!(some.is_empty());
            some.set(len / 2, true);
            some.set(len + 5, true);
            assert_eq!(some.count(), u32::from(len > 0));
            assert_eq!(some.has(len / 2), len > 0);
            some.set(len / 2, false);
            assert_eq!(some, Bitmap::empty(len));
        }
        assert_eq!(Bitmap::from_bytes(9, &[0xFF]), None);
        assert_eq!(Bitmap::from_bytes(9, &[0xFF, 2]), None);
        assert_eq!(Bitmap::from_bytes(8, &[0xFF, 0]), None);
    }
}
