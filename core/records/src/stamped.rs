//! The fence around orders: a stamp in front of a record's body.
//!
//! Records of some kinds are *orders*: a topology's decree, a wave. In a flock that has a master an
//! order carries the flock's stamp, and whoever has seen a higher one refuses it. The stamp stands
//! before the body, for all kinds alike, so that what it fences need not know of it; the record's
//! schema says whether there is one. Builds that know of no stamps do not read what has one.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::record::{MAX_BODY_BYTES, kind};

/// Schema of an order without a stamp: of a flock that never had a master.
pub const SCHEMA_BARE: u16 = 1;
/// Schema of an order with one.
pub const SCHEMA_STAMPED: u16 = 2;
/// What a stamp takes.
pub const STAMP_BYTES: usize = 16;
/// Longest body of an order, so that it has room for a stamp.
pub const MAX_ORDER_BYTES: usize = MAX_BODY_BYTES - STAMP_BYTES;
/// Slots for topologies that one node decrees.
const TOPOLOGIES: u16 = 16;

/// A flock's stamp: epoch and fork id.
pub type Numbers = (u64, u64);

/// Whether records of this kind are orders.
#[must_use]
pub const fn is_order(of: u16) -> bool {
    of == kind::WAVE_ORDER || (of >= kind::TOPOLOGY && of < kind::TOPOLOGY + TOPOLOGIES)
}

/// The schema and body of an order under `stamp`.
#[must_use]
pub fn seal(stamp: Option<Numbers>, body: Bytes) -> (u16, Bytes) {
    let Some((epoch, fork)) = stamp else { return (SCHEMA_BARE, body) };
    let mut bytes = Vec::with_capacity(STAMP_BYTES + body.len());
    bytes.extend_from_slice(&epoch.to_le_bytes());
    bytes.extend_from_slice(&fork.to_le_bytes());
    bytes.extend_from_slice(&body);
    (SCHEMA_STAMPED, bytes.into())
}

/// The stamp and the body of an order; nothing where the schema is a newer one, or the bytes are
/// too few.
#[must_use]
pub fn open(schema: u16, body: &Bytes) -> Option<(Option<Numbers>, Bytes)> {
    match schema {
        SCHEMA_BARE => Some((None, body.clone())),
        SCHEMA_STAMPED => {
            let (epoch, rest) = body.split_first_chunk::<8>()?;
            let (fork, rest) = rest.split_first_chunk::<8>()?;
            let stamp = (u64::from_le_bytes(*epoch), u64::from_le_bytes(*fork));
            Some((Some(stamp), body.slice_ref(rest)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_stands_before_the_body_in_these_bytes_for_ever() {
        let body = Bytes::from_static(b"go");
        assert_eq!(seal(None, body.clone()), (1, body.clone()));
        let (schema, sealed) = seal(Some((0x0102, 0x0304)), body.clone());
        assert_eq!(schema, 2);
        assert_eq!(&sealed[..], [2, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0, b'g', b'o']);
        assert_eq!(open(schema, &sealed), Some((Some((0x0102, 0x0304)), body.clone())));
        assert_eq!(open(1, &body), Some((None, body)));
    }

    #[test]
    fn what_is_too_short_or_of_a_newer_schema_is_no_order() {
        assert_eq!(open(2, &Bytes::from_static(&[0; STAMP_BYTES - 1])), None);
        assert_eq!(open(3, &Bytes::from_static(&[0; 64])), None);
    }

    #[test]
    fn waves_and_all_slots_of_topologies_are_orders() {
        assert!(is_order(kind::WAVE_ORDER) && is_order(kind::TOPOLOGY));
        assert!(is_order(kind::TOPOLOGY + 15) && !is_order(kind::TOPOLOGY + 16));
        assert!(!is_order(kind::WAVE_STATUS) && !is_order(kind::NODE));
    }
}
