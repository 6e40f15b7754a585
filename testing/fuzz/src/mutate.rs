//! Seeded mutations of known inputs: no coverage, but knowledge of where decoders break.

use skep_base::Rng;

/// Numbers at which lengths and counts go wrong, in several widths and both byte orders.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x1_0000, 0x7fff_ffff, 0xffff_ffff, 1 << 60, u64::MAX];
/// Mutations of one input at most; most get one or two.
const MAX_STEPS: u64 = 6;
/// Inputs do not grow over this: what needs more is tested by hand.
const MAX_BYTES: usize = 64 * 1024;

/// Makes inputs from known ones, the same for the same seed.
#[derive(Debug)]
pub struct Mutator {
    rng: Rng,
}

impl Mutator {
    /// A mutator whose whole sequence follows from `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { rng: Rng::seeded(seed) }
    }

    /// A new input from those in `corpus`, or noise when there are none.
    pub fn next(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = match self.rng.pick(corpus) {
            Some(known) => known.clone(),
            None => self.noise(64),
        };
        // The square of an even chance: half of all inputs stay close to a known one.
        let steps = 1 + self.rng.within(0..MAX_STEPS) * self.rng.within(0..2);
        for _ in 0..steps {
            self.mutate(&mut input, corpus);
        }
        input.truncate(MAX_BYTES);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        match self.rng.within(0..10) {
            0 | 1 => self.flip_a_bit(input),
            2 => self.replace_a_byte(input),
            3 | 4 => self.write_a_number(input),
            5 => self.cut(input),
            6 => {
                let noise = self.noise(16);
                self.insert(input, &noise);
            }
            7 => self.repeat(input),
            8 => self.remove(input),
            _ => {
                let other = self.rng.pick(corpus).cloned().unwrap_or_default();
                self.splice(input, &other);
            }
        }
    }

    fn flip_a_bit(&mut self, input: &mut [u8]) {
        if let Some(at) = self.rng.index(input.len()) {
            input[at] ^= 1 << self.rng.within(0..8);
        }
    }

    fn replace_a_byte(&mut self, input: &mut [u8]) {
        if let Some(at) = self.rng.index(input.len()) {
            input[at] = self.rng.bits().to_le_bytes()[0];
        }
    }

    /// Overwrites or inserts an edge: as a fixed-width number of either byte order, or as LEB128,
    /// in which postcard and the manifest write theirs.
    fn write_a_number(&mut self, input: &mut Vec<u8>) {
        let edge = *self.rng.pick(&EDGES).unwrap_or(&0);
        let bytes = match self.rng.within(0..5) {
            0 => edge.to_be_bytes()[4..].to_vec(),
            1 => edge.to_be_bytes()[6..].to_vec(),
            2 => edge.to_le_bytes().to_vec(),
            _ => leb128(edge),
        };
        let Some(at) = self.rng.index(input.len()) else {
            input.extend(bytes);
            return;
        };
        let replaced = if self.rng.chance(0.5) { bytes.len() } else { 1 };
        let end = (at + replaced).min(input.len());
        input.splice(at..end, bytes);
    }

    fn cut(&mut self, input: &mut Vec<u8>) {
        if let Some(at) = self.rng.index(input.len()) {
            input.truncate(at);
        }
    }

    fn insert(&mut self, input: &mut Vec<u8>, bytes: &[u8]) {
        let at = self.rng.index(input.len() + 1).unwrap_or(0);
        input.splice(at..at, bytes.iter().copied());
    }

    fn repeat(&mut self, input: &mut Vec<u8>) {
        let piece = self.piece(input);
        for _ in 0..self.rng.within(1..4) {
            self.insert(input, &piece);
        }
    }

    fn remove(&mut self, input: &mut Vec<u8>) {
        if let Some(from) = self.rng.index(input.len()) {
            let most = (input.len() - from).min(64);
            let length = 1 + self.rng.index(most).unwrap_or(0);
            input.drain(from..from + length);
        }
    }

    fn splice(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let keep = self.rng.index(input.len() + 1).unwrap_or(0);
        let from = self.rng.index(other.len() + 1).unwrap_or(0);
        input.truncate(keep);
        input.extend_from_slice(&other[from..]);
    }

    fn piece(&mut self, input: &[u8]) -> Vec<u8> {
        let from = self.rng.index(input.len() + 1).unwrap_or(0);
        let length = self.rng.index((input.len() - from).min(64) + 1).unwrap_or(0);
        input[from..from + length].to_vec()
    }

    fn noise(&mut self, most: u64) -> Vec<u8> {
        let length = self.rng.within(0..most + 1);
        (0..length).map(|_| self.rng.bits().to_le_bytes()[0]).collect()
    }
}

fn leb128(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_run_and_inputs_stay_bounded() {
        let corpus = [vec![1, 2, 3], vec![0; MAX_BYTES]];
        let run = |seed| {
            let mut mutator = Mutator::seeded(seed);
            (0..500).map(|_| mutator.next(&corpus)).collect::<Vec<_>>()
        };
        let inputs = run(1);
        assert_eq!(inputs, run(1));
        assert_ne!(inputs, run(2));
        assert!(inputs.iter().all(|input| input.len() <= MAX_BYTES));
    }

    #[test]
    fn numbers_are_spelt_as_the_formats_spell_them() {
        assert_eq!(leb128(0), [0]);
        assert_eq!(leb128(0x80), [0x80, 0x01]);
        assert_eq!(leb128(u64::MAX).len(), 10);
    }
}
