//! What a queen orders: the body of her record of kind `WAVE_ORDER`.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use skep_base::{Digest, GroupName, ImageName, NodeId, WallTime};
use skep_wire::{Malformed, decode, encode};

use crate::path::{PathError, check_path};

/// How the bodies of both records are laid out today.
pub const SCHEMA: u16 = 1;
/// Longest body: that of any record, less the room for the flock's stamp before it.
pub const MAX_BODY_BYTES: usize = 4096 - 16;
/// Waves that a queen's record holds; the oldest go first.
pub const MAX_ORDERS: usize = 16;
/// Groups a wave may go to.
pub const MAX_GROUPS: usize = 64;
/// Hosts that are listed one by one; of longer lists there is the count and a digest.
pub const MAX_HOSTS_LISTED: usize = 96;
/// Longest order without its host list: a record holds at least this one.
const MAX_ORDER_BYTES: usize = 2048;

/// One wave, as its queen orders it. Never changes once it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Grows with each wave of this queen; with the queen's name, the wave's name.
    pub number: u64,
    /// What is rolled out.
    pub image: ImageName,
    /// The queen's number for the version.
    pub version: u64,
    /// The version: digest of its manifest. The seal is asked for by it.
    pub manifest: Digest,
    /// Bytes of the image's distinct chunks, to show progress against before the manifest is there.
    pub bytes: u64,
    /// To whom: at least one group.
    pub groups: Vec<GroupName>,
    /// Where: an absolute path, checked by [`check_path`].
    pub at: String,
    /// Go on without what only root can set, and list it.
    pub as_user: bool,
    /// Apply it also where this version is there already.
    pub again: bool,
    /// When the queen ordered it, by her clock. For people, and between queens the newer wins.
    pub started: WallTime,
    /// Whom the queen knew then (DLIF-16).
    pub hosts: Hosts,
}

/// The host list of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hosts {
    /// One by one, ascending; at most [`MAX_HOSTS_LISTED`].
    Listed(Vec<NodeId>),
    /// More than have room.
    Counted {
        /// How many.
        count: u32,
        /// Digest of all of them in ascending order.
        digest: Digest,
    },
}

/// The body of a record of kind `WAVE_ORDER`, schema [`SCHEMA`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// By ascending number.
    pub waves: Vec<Order>,
}

/// Why an order cannot be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// No group, or too many.
    #[error("a wave goes to 1 to {MAX_GROUPS} groups, not {0}")]
    Groups(usize),
    /// Long names.
    #[error("the order takes {0} bytes, over the limit of {MAX_ORDER_BYTES}; name fewer groups")]
    TooLong(usize),
    /// Not above the newest.
    #[error("wave numbers grow: {number} does not follow {newest}")]
    Number {
        /// The order's.
        number: u64,
        /// The newest published.
        newest: u64,
    },
}

impl Hosts {
    /// The list of `hosts`, which are sorted here.
    #[must_use]
    pub fn of(mut hosts: Vec<NodeId>) -> Self {
        hosts.sort_unstable();
        hosts.dedup();
        if hosts.len() <= MAX_HOSTS_LISTED { Self::Listed(hosts) } else { Self::count(&hosts) }
    }

    /// How many hosts were known.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Listed(hosts) => hosts.len(),
            Self::Counted { count, .. } => *count as usize,
        }
    }

    /// Whether none was known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `node` is on the list; nothing where the list was too long to say.
    #[must_use]
    pub fn lists(&self, node: NodeId) -> Option<bool> {
        match self {
            Self::Listed(hosts) => Some(hosts.binary_search(&node).is_ok()),
            Self::Counted { .. } => None,
        }
    }

    fn count(hosts: &[NodeId]) -> Self {
        let parts: Vec<&[u8]> = hosts.iter().map(|id| id.as_bytes().as_slice()).collect();
        Self::Counted {
            count: u32::try_from(hosts.len()).unwrap_or(u32::MAX),
            digest: Digest::of_parts(&parts),
        }
    }

    fn shorten(&mut self) -> bool {
        let Self::Listed(hosts) = self else {
            return false;
        };
        *self = Self::count(hosts);
        true
    }
}

impl Order {
    /// Whether the order obeys the bounds.
    ///
    /// # Errors
    /// [`OrderError`] names the first rule that is broken.
    pub fn check(&self) -> Result<(), OrderError> {
        check_path(&self.at)?;
        if self.groups.is_empty() || self.groups.len() > MAX_GROUPS {
            return Err(OrderError::Groups(self.groups.len()));
        }
        let mut bare = self.clone();
        bare.hosts = Hosts::Counted { count: u32::MAX, digest: Digest([0; Digest::LEN]) };
        let bytes = encode(&bare).len();
        if bytes > MAX_ORDER_BYTES {
            return Err(OrderError::TooLong(bytes));
        }
        Ok(())
    }
}

impl Orders {
    /// Adds the newest wave. What no longer fits goes: first the host lists of older waves, then
    /// the oldest waves, last the new one's own list.
    ///
    /// # Errors
    /// [`OrderError`]; nothing is changed then.
    pub fn add(&mut self, order: Order) -> Result<(), OrderError> {
        order.check()?;
        let newest = self.newest();
        if order.number <= newest {
            return Err(OrderError::Number { number: order.number, newest });
        }
        // A wave that the new one takes the place of need not be told any longer.
        self.waves.retain(|wave| (&wave.image, &wave.at) != (&order.image, &order.at));
        self.waves.push(order);
        while self.waves.len() > MAX_ORDERS || encode(self).len() > MAX_BODY_BYTES {
            let Some((newest, older)) = self.waves.split_last_mut() else { break };
            if older.iter_mut().any(|wave| wave.hosts.shorten()) {
                continue;
            }
            if older.is_empty() {
                newest.hosts.shorten();
                break;
            }
            self.waves.remove(0);
        }
        Ok(())
    }

    /// The newest wave's number, 0 before the first.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.waves.last().map_or(0, |wave| wave.number)
    }

    /// The record's body, at most [`MAX_BODY_BYTES`].
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a record's body.
    ///
    /// # Errors
    /// [`Malformed`] when it is not one, or anything in it is over its bound or out of order.
    pub fn from_body(body: &[u8]) -> Result<Self, Malformed> {
        let malformed = Malformed { what: "wave order record" };
        if body.len() > MAX_BODY_BYTES {
            return Err(malformed);
        }
        let orders: Self = decode(malformed.what, body)?;
        let sound = orders.waves.len() <= MAX_ORDERS
            && orders.waves.is_sorted_by(|a, b| a.number < b.number)
            && orders.waves.iter().all(|wave| wave.check().is_ok() && wave.hosts.is_sound());
        if sound { Ok(orders) } else { Err(malformed) }
    }
}

impl Hosts {
    fn is_sound(&self) -> bool {
        match self {
            Self::Listed(hosts) => {
                hosts.len() <= MAX_HOSTS_LISTED && hosts.is_sorted_by(|a, b| a < b)
            }
            Self::Counted { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned as _;

    pub(super) fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; NodeId::LEN])
    }

    fn order(number: u64, at: &str, hosts: u8) -> Order {
        Order {
            number,
            image: "web".parse().unwrap(),
            version: 3,
            manifest: Digest([0xAB; 32]),
            bytes: 300,
            groups: alloc::vec![GroupName::all()],
            at: at.to_owned(),
            as_user: true,
            again: false,
            started: WallTime::from_unix_ms(1000),
            hosts: Hosts::of((0..hosts).map(node).collect()),
        }
    }

    #[test]
    fn orders_have_these_bytes_for_ever() {
        let mut orders = Orders::default();
        orders.add(order(7, "/srv/web", 1)).unwrap();
        let hex: String =
            orders.to_body().iter().map(|byte| alloc::format!("{byte:02x}")).collect();
        let expected = [
            "01",
            "07",
            "03776562",
            "03",
            &"ab".repeat(32),
            "ac02",
            "0103616c6c",
            "082f7372762f776562",
            "01",
            "00",
            "e807",
            "0001",
            &"00".repeat(16),
        ]
        .concat();
        assert_eq!(hex, expected);
        assert_eq!(Orders::from_body(&orders.to_body()), Ok(orders));
    }

    #[test]
    fn a_full_record_drops_lists_before_waves_and_old_waves_before_new() {
        let mut orders = Orders::default();
        for number in 1..=40 {
            let at = alloc::format!("/srv/{number}");
            orders.add(order(number, &at, 90)).unwrap();
            let body = orders.to_body();
            assert!(body.len() <= MAX_BODY_BYTES, "{} bytes", body.len());
            assert_eq!(Orders::from_body(&body).as_ref(), Ok(&orders));
            assert!(matches!(orders.waves.last().unwrap().hosts, Hosts::Listed(_)));
        }
        assert_eq!(orders.waves.len(), MAX_ORDERS);
        assert_eq!(orders.newest(), 40);
        assert_eq!(orders.waves[0].hosts.len(), 90);
        assert_eq!(orders.waves[0].hosts.lists(node(1)), None);
    }

    #[test]
    fn a_newer_wave_to_the_same_place_takes_the_older_ones_room() {
        let mut orders = Orders::default();
        orders.add(order(1, "/a", 2)).unwrap();
        orders.add(order(2, "/b", 2)).unwrap();
        orders.add(order(3, "/a", 2)).unwrap();
        let numbers: Vec<u64> = orders.waves.iter().map(|wave| wave.number).collect();
        assert_eq!(numbers, [2, 3]);
        let error = orders.add(order(3, "/c", 2)).unwrap_err();
        assert_eq!(error, OrderError::Number { number: 3, newest: 3 });
        assert_eq!(orders.waves[0].hosts.lists(node(1)), Some(true));
        assert_eq!(orders.waves[0].hosts.lists(node(2)), Some(false));
    }

    #[test]
    fn what_breaks_a_bound_is_refused_whole() {
        let refused = |change: fn(&mut Order)| {
            let mut bad = order(1, "/a", 2);
            change(&mut bad);
            let body = encode(&Orders { waves: alloc::vec![bad] });
            assert!(Orders::from_body(&body).is_err());
        };
        refused(|order| order.at = "/a/../b".to_owned());
        refused(|order| order.groups.clear());
        refused(|order| order.groups = alloc::vec![GroupName::all(); MAX_GROUPS + 1]);
        refused(|order| order.hosts = Hosts::Listed(alloc::vec![node(2), node(1)]));
        refused(|order| order.hosts = Hosts::Listed((0..97).map(node).collect()));
        let unsorted = Orders { waves: alloc::vec![order(2, "/a", 0), order(1, "/b", 0)] };
        assert!(Orders::from_body(&encode(&unsorted)).is_err());
        let mut body = Orders::default().to_body();
        body.push(0);
        assert!(Orders::from_body(&body).is_err());
    }
}
