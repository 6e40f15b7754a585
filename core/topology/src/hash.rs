//! The hash that orders rings and chooses patches.
//!
//! Identities are already bytes of a BLAKE3 digest, so what is wanted is only that the rings are
//! independent of one another; a multiplication a round does that at a hundredth of BLAKE3's cost.
//! Each round is a bijection on 128 bits: no two identities can be folded together before the end.

use skep_base::NodeId;

/// Which of the protocol's orders a hash belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Ring number so-and-so of the overlay.
    Ring(u8),
    /// The ring that names extra watchers.
    Watch,
    /// The choice of a patch's far end.
    Patch,
}

impl Order {
    const fn seed(self) -> u128 {
        match self {
            Self::Ring(ring) => 0x736b_6570_2072_696e_6700_0000_0000_0000 | ring as u128,
            Self::Watch => 0x736b_6570_2077_6174_6368_0000_0000_0000,
            Self::Patch => 0x736b_6570_2070_6174_6368_0000_0000_0000,
        }
    }
}

/// The place of `id` in `order`.
pub(crate) fn rank(order: Order, id: &NodeId) -> u64 {
    mix(u128::from_le_bytes(*id.as_bytes()) ^ spread(order.seed()))
}

/// The preference of one end of a patch, of the given rank in [`Order::Patch`], for another.
pub(crate) fn affinity(from: u64, to: u64) -> u64 {
    mix(u128::from(from) << 64 | u128::from(to))
}

fn mix(value: u128) -> u64 {
    let mixed = spread(spread(value));
    low_half(mixed ^ (mixed >> 64))
}

/// A bijection: an odd multiplier and a fold of the high half into the low one.
const fn spread(value: u128) -> u128 {
    let product = value.wrapping_mul(0xda94_2042_e4dd_58b5_9e37_79b9_7f4a_7c15);
    product ^ (product >> 65)
}

#[expect(clippy::cast_possible_truncation, reason = "the high half is folded in")]
const fn low_half(value: u128) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_part_of_the_protocol() {
        let id = NodeId::from_bytes(*b"0123456789abcdef");
        let got = [
            rank(Order::Ring(0), &id),
            rank(Order::Ring(1), &id),
            rank(Order::Watch, &id),
            rank(Order::Patch, &id),
            rank(Order::Ring(0), &NodeId::from_bytes([0; 16])),
            affinity(1, 2),
            affinity(2, 1),
        ];
        let golden = [
            0x9378_5181_ffe0_38a0,
            0xef61_a7e7_78fb_7b1a,
            0xd953_9ad1_cc3b_3a46,
            0x23f6_c640_e957_ad45,
            0x4705_e88d_fd79_99fc,
            0xc718_3ae1_472a_d891,
            0x8955_5f9f_584b_ec3b,
        ];
        assert_eq!(got, golden, "{got:016x?}");
    }

    #[test]
    fn one_changed_bit_changes_half_of_the_rank() {
        let mut flipped = 0;
        for bit in 0..128_u32 {
            let mut id = [7; 16];
            let before = rank(Order::Ring(0), &NodeId::from_bytes(id));
            id[bit as usize / 8] ^= 1 << (bit % 8);
            let changed = (before ^ rank(Order::Ring(0), &NodeId::from_bytes(id))).count_ones();
            assert!((12..=52).contains(&changed), "bit {bit} changed {changed}");
            flipped += changed;
        }
        assert!((30 * 128..=34 * 128).contains(&flipped), "{flipped}");
    }
}
