//! What managers say to one another, announce to all, and keep on disk. How a whole flock bears
//! tampered messages is tested in `core/managers`.

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Rng, Time};
use skep_managers::{
    Config, Eligibility, Input, Managers, Me, Restored, Shown, StoredEntry, can_read,
    is_announcement, is_message, samples,
};

use super::{Seed, Target};

/// A message, as a stranger's and as an announcement; and what a master says to whoever looks.
pub(super) const MESSAGE: Target = Target {
    name: "managers-message",
    decode: fuzz_message,
    seeds,
    accepts: |data| is_message(data) || is_announcement(data) || Shown::from_bytes(data).is_some(),
};

fn seeds() -> Vec<Seed> {
    samples().into_iter().map(|(name, bytes)| (name, bytes.to_vec())).collect()
}

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; NodeId::LEN])
}

/// An eligible node without a flock, which everybody may tell anything.
fn fuzz_message(data: &[u8]) {
    let me = Me { id: id(1), eligible: Eligibility::Eligible, resources: 500 };
    let (now, mut out) = (Time::from_millis(1_000), Outbox::new());
    let fresh = Restored::default();
    let Ok(mut managers) = Managers::new(me, Config::default(), fresh, Rng::seeded(1), now) else {
        return;
    };
    let body = Bytes::copy_from_slice(data);
    let told = [
        Input::Announced { node: id(2), body: body.clone() },
        Input::Message { from: id(2), body: body.clone() },
        Input::Message { from: id(1), body: body.clone() },
    ];
    for input in told {
        managers.handle(now, input, &mut out);
        managers.check();
    }
    if let Some(shown) = Shown::from_bytes(data) {
        assert_eq!(Shown::from_bytes(&shown.to_bytes()), Some(shown), "it is said on as it came");
    }
    for (state, image) in [(Some(body.clone()), None), (None, Some(body.clone()))] {
        let entries = vec![StoredEntry { index: 1, body: body.clone() }];
        assert!(!can_read(&Restored { state, image, entries }, id(9)));
    }
}
