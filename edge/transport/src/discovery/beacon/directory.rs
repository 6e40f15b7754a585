//! What a beacon knows, and how much of it anybody may make it hold. Pure: the time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use skep_base::Rng;

use super::message::{MAX_PEERS, MAX_REGISTERED, Peers, Refused, Register, Token};
use crate::bucket::Bucket;

/// How much a beacon holds and how often it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How often nodes should come. Entries live twice as long.
    pub again: Duration,
    /// Entries in all.
    pub max_entries: usize,
    /// Entries of one tag: a bloc that is larger finds itself through those.
    pub max_entries_per_tag: usize,
    /// Entries made from one source address (a /64 of IPv6): a rack behind one NAT.
    pub max_entries_per_source: usize,
    /// Questions at once from one source.
    pub burst: u32,
    /// And then one each period.
    pub period: Duration,
    /// Sources whose questions are counted; while all of them ask, others must wait.
    pub max_sources: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            again: Duration::from_secs(60),
            max_entries: 65_536,
            max_entries_per_tag: 4096,
            max_entries_per_source: 512,
            burst: 600,
            period: Duration::from_millis(20),
            max_sources: 16_384,
        }
    }
}

/// The entries of a beacon.
#[derive(Debug)]
pub struct Directory {
    limits: Limits,
    rng: Rng,
    tags: HashMap<[u8; 32], BTreeMap<Token, Entry>>,
    entries: usize,
    by_source: HashMap<IpAddr, usize>,
    asking: HashMap<IpAddr, Bucket>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    addresses: Vec<SocketAddr>,
    source: IpAddr,
    until: Instant,
}

impl Directory {
    /// An empty one.
    #[must_use]
    pub fn new(limits: Limits, rng: Rng) -> Self {
        Self {
            limits,
            rng,
            tags: HashMap::new(),
            entries: 0,
            by_source: HashMap::new(),
            asking: HashMap::new(),
            swept: None,
        }
    }

    /// Notes who asks, and names others of the same tag.
    ///
    /// # Errors
    /// [`Refused`], to be told to the asker.
    pub fn register(
        &mut self,
        now: Instant,
        from: SocketAddr,
        question: Register,
    ) -> Result<Peers, Refused> {
        let source = source_of(from.ip());
        self.sweep(now);
        if !self.may_ask(now, source) {
            return Err(Refused::TooOften);
        }
        if question.addresses.len() > MAX_REGISTERED {
            return Err(Refused::Malformed);
        }
        let addresses = reachable(&question, from);
        self.forget(&question.tag, question.token);
        if !addresses.is_empty() {
            self.make_room(&question.tag, source)?;
            let entry = Entry { addresses, source, until: now + self.limits.again * 2 };
            let entries = self.tags.entry(question.tag).or_default();
            entries.insert(question.token, entry);
            self.entries += 1;
            *self.by_source.entry(source).or_default() += 1;
        }
        Ok(Peers {
            observed: from,
            again_s: u32::try_from(self.limits.again.as_secs()).unwrap_or(u32::MAX),
            peers: self.others(&question.tag, question.token),
        })
    }

    /// Entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether nobody is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    fn may_ask(&mut self, now: Instant, source: IpAddr) -> bool {
        if self.asking.len() >= self.limits.max_sources && !self.asking.contains_key(&source) {
            self.asking.retain(|_, bucket| !bucket.is_full(now));
            if self.asking.len() >= self.limits.max_sources {
                return false;
            }
        }
        let (burst, period) = (self.limits.burst, self.limits.period);
        let bucket = self.asking.entry(source);
        bucket.or_insert_with(|| Bucket::new(burst, period, now)).take(now)
    }

    /// Refuses what is over a bound; of a full tag the entry that expires first gives way.
    fn make_room(&mut self, tag: &[u8; 32], source: IpAddr) -> Result<(), Refused> {
        let from_source = self.by_source.get(&source).copied().unwrap_or(0);
        if self.entries >= self.limits.max_entries
            || from_source >= self.limits.max_entries_per_source
        {
            return Err(Refused::Full);
        }
        let oldest = self
            .tags
            .get(tag)
            .filter(|entries| entries.len() >= self.limits.max_entries_per_tag)
            .and_then(|entries| entries.iter().min_by_key(|(_, entry)| entry.until))
            .map(|(token, _)| *token);
        if let Some(token) = oldest {
            self.forget(tag, token);
        }
        Ok(())
    }

    fn forget(&mut self, tag: &[u8; 32], token: Token) {
        let Some(entries) = self.tags.get_mut(tag) else {
            return;
        };
        if let Some(entry) = entries.remove(&token) {
            self.entries -= 1;
            count_down(&mut self.by_source, entry.source);
        }
        if entries.is_empty() {
            self.tags.remove(tag);
        }
    }

    /// Some others, each as likely as any.
    fn others(&mut self, tag: &[u8; 32], me: Token) -> Vec<Vec<SocketAddr>> {
        let Some(entries) = self.tags.get(tag) else {
            return Vec::new();
        };
        let mut others: Vec<_> = entries
            .iter()
            .filter(|(token, _)| **token != me)
            .map(|(_, entry)| &entry.addresses)
            .collect();
        self.rng.shuffle(&mut others);
        others.into_iter().take(MAX_PEERS).cloned().collect()
    }

    /// Forgets who did not come again. At most once a second: it looks at everything.
    fn sweep(&mut self, now: Instant) {
        let due = self.swept.map_or(now, |swept| swept + Duration::from_secs(1));
        if now < due {
            return;
        }
        self.swept = Some(now);
        let (entries, by_source) = (&mut self.entries, &mut self.by_source);
        self.tags.retain(|_, tag| {
            tag.retain(|_, entry| {
                let lives = entry.until > now;
                if !lives {
                    *entries -= 1;
                    count_down(by_source, entry.source);
                }
                lives
            });
            !tag.is_empty()
        });
        self.asking.retain(|_, bucket| !bucket.is_full(now));
    }
}

/// Where the asker can be reached: as the beacon sees it, and as it says.
fn reachable(question: &Register, from: SocketAddr) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    if question.port != 0 {
        addresses.push(SocketAddr::new(from.ip(), question.port));
    }
    for &address in &question.addresses {
        let usable =
            address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast();
        if usable && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// To whom a question is charged: one customer of a provider has a whole /64 of IPv6.
fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

fn count_down(counts: &mut HashMap<IpAddr, usize>, source: IpAddr) {
    if let Some(count) = counts.get_mut(&source) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(tag: u8, token: u8, port: u16) -> Register {
        Register { tag: [tag; 32], token: Token([token; 16]), port, addresses: vec![] }
    }

    fn from(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 40_000))
    }

    fn directory(limits: Limits) -> (Directory, Instant) {
        (Directory::new(limits, Rng::seeded(1)), Instant::now())
    }

    #[test]
    fn those_of_one_tag_find_each_other_and_no_others() {
        let (mut directory, now) = directory(Limits::default());
        assert_eq!(directory.register(now, from(1), question(1, 1, 7400)).unwrap().peers.len(), 0);
        assert_eq!(directory.register(now, from(2), question(2, 2, 7400)).unwrap().peers.len(), 0);
        let answer = directory.register(now, from(3), question(1, 3, 7400)).unwrap();
        assert_eq!(answer.peers, [["192.0.2.1:7400".parse().unwrap()]]);
        assert_eq!(answer.observed, from(3));
        // Coming again replaces the entry.
        directory.register(now, from(1), question(1, 1, 7500)).unwrap();
        let answer = directory.register(now, from(3), question(1, 3, 7400)).unwrap();
        assert_eq!(answer.peers, [["192.0.2.1:7500".parse().unwrap()]]);
        assert_eq!(directory.len(), 3);
    }

    #[test]
    fn who_does_not_come_again_is_forgotten() {
        let (mut directory, now) = directory(Limits::default());
        directory.register(now, from(1), question(1, 1, 1)).unwrap();
        let later = now + Duration::from_secs(121);
        let answer = directory.register(later, from(2), question(1, 2, 1)).unwrap();
        assert_eq!((answer.peers.len(), directory.len()), (0, 1));
    }

    #[test]
    fn every_bound_holds() {
        let limits = Limits {
            max_entries: 10,
            max_entries_per_tag: 3,
            max_entries_per_source: 4,
            burst: 5,
            max_sources: 20,
            ..Limits::default()
        };
        let (mut directory, now) = directory(limits);
        // One source: four entries, five questions.
        for token in 0..4 {
            directory.register(now, from(1), question(token, token, 1)).unwrap();
        }
        let fifth = directory.register(now, from(1), question(9, 9, 1));
        assert_eq!(fifth, Err(Refused::Full));
        let sixth = directory.register(now, from(1), question(9, 9, 1));
        assert_eq!(sixth, Err(Refused::TooOften));
        // One tag: the fourth entry drives the first out.
        for token in 10..14 {
            directory.register(now, from(token), question(77, token, 1)).unwrap();
        }
        assert_eq!(directory.len(), 7);
        for token in 20..23 {
            directory.register(now, from(token), question(token, token, 1)).unwrap();
        }
        let over = directory.register(now, from(30), question(30, 30, 1));
        assert_eq!(over, Err(Refused::Full));
        let too_long =
            Register { addresses: vec![from(1); MAX_REGISTERED + 1], ..question(1, 1, 1) };
        assert_eq!(directory.register(now, from(31), too_long), Err(Refused::Malformed));
        assert_eq!(directory.len(), 10);
    }

    #[test]
    fn strangers_who_ask_once_do_not_fill_the_list_of_askers_for_ever() {
        let limits = Limits { max_sources: 8, ..Limits::default() };
        let (mut directory, now) = directory(limits);
        for last in 0..8 {
            directory.register(now, from(last), question(1, last, 1)).unwrap();
        }
        let ninth = directory.register(now, from(9), question(1, 9, 1));
        assert_eq!(ninth, Err(Refused::TooOften));
        let later = now + Duration::from_millis(20);
        assert!(directory.register(later, from(9), question(1, 9, 1)).is_ok());
    }

    #[test]
    fn answers_are_bounded_and_differ() {
        let (mut directory, now) = directory(Limits::default());
        for token in 0..200 {
            directory.register(now, from(token), question(1, token, 1)).unwrap();
        }
        let mut ask = || directory.register(now, from(250), question(1, 250, 1)).unwrap().peers;
        let (one, two) = (ask(), ask());
        assert_eq!((one.len(), two.len()), (MAX_PEERS, MAX_PEERS));
        assert_ne!(one, two);
    }
}
