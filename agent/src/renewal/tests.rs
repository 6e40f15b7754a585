//! Renewal against a real CA, by a clock that the tests turn.

#![expect(clippy::wildcard_enum_match_arm, reason = "whatever else is asked fails the test")]

use std::os::unix::fs::PermissionsExt as _;

use skep_identity::message::RenewRequest;
use skep_identity::{Ca, CertInfo, Identity, IssueRequest, KEY_FILE};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;

const START: WallTime = WallTime::from_unix_ms(1_800_000_000_000);
const LIFE: Duration = Duration::from_secs(60);

/// A CA, a node whose certificate lives for a minute, and the channels between its parts.
struct Bench {
    ca: Ca,
    dir: TempDir,
    began: Instant,
    handle: IdentityHandle,
    asked: mpsc::Receiver<Request>,
    answers: mpsc::Sender<Bytes>,
    asking: watch::Receiver<Option<Asking>>,
    /// The certificate with which the link to the CA began, or the last one shown over it.
    linked_as: CertInfo,
    renewal: JoinHandle<()>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::init(&dir.path().join("ca"), &"example".parse().unwrap(), START).unwrap();
        let ca = ca.with_life(LIFE).unwrap();
        let identity = ca.issue(&IssueRequest::new("web-1".parse().unwrap()), START).unwrap();
        identity.store(&dir.path().join("identity")).unwrap();
        let linked_as = identity.info().clone();
        let handle = IdentityHandle::new(identity);
        let (requests, asked) = mpsc::channel(8);
        let (answers, answered) = mpsc::channel(4);
        let (tell, asking) = watch::channel(None);
        let began = Instant::now();
        let renewal = Renewal {
            handle: handle.clone(),
            dir: dir.path().join("identity"),
            wall: Arc::new(move || at(began.elapsed())),
            requests,
            answers: answered,
            asking: tell,
            rng: Rng::seeded(7),
        };
        let renewal = tokio::spawn(renewal.run());
        Self { ca, dir, began, handle, asked, answers, asking, linked_as, renewal }
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The next request to the CA.
    async fn asked(&mut self) -> RenewRequest {
        loop {
            match self.asked.recv().await.unwrap() {
                Request::AskCa(request) => match Message::decode(&request).unwrap() {
                    Message::Renew(renew) => return renew,
                    other => panic!("{other:?}"),
                },
                Request::Note(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn answer_of(&self, request: &RenewRequest) -> Message {
        self.ca.answer_renewal(&self.linked_as, request, at(self.elapsed()))
    }

    async fn answer(&self, message: &Message) {
        self.answers.send(message.encode().into()).await.unwrap();
    }

    /// The news that it was renewed; the new certificate is in use and on disk by then.
    async fn renewed(&mut self) {
        loop {
            match self.asked.recv().await.unwrap() {
                Request::Renewed => break,
                Request::Note(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(self.asking.borrow().is_none(), "nothing is waited for any more");
        let dir = self.dir.path().join("identity");
        let current = self.handle.current();
        assert_eq!(Identity::load(&dir).unwrap().info(), current.info());
        let mode = std::fs::metadata(dir.join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        self.linked_as = current.info().clone();
    }
}

fn at(elapsed: Duration) -> WallTime {
    WallTime::from_unix_ms(START.unix_ms + u64::try_from(elapsed.as_millis()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn each_certificate_is_renewed_at_two_thirds_of_its_life() {
    let mut bench = Bench::new();
    for _ in 0..4 {
        let before = bench.handle.current().info().clone();
        let request = bench.asked().await;
        let age = at(bench.elapsed()).since(before.not_before);
        let due = LIFE * 2 / 3..LIFE * 2 / 3 + LIFE / SPREAD_PART + Duration::from_secs(2);
        assert!(due.contains(&age), "asked at {age:?} of {LIFE:?}");
        let granted = bench.answer_of(&request);
        bench.answer(&granted).await;
        bench.renewed().await;
        let after = bench.handle.current().info().clone();
        assert_eq!((&after.node, after.public_key), (&before.node, request.public_key));
        assert!(after.not_after > before.not_after && after.public_key != before.public_key);
    }
    bench.renewal.abort();
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_cannot_be_reached_is_asked_again_and_that_is_told() {
    let mut bench = Bench::new();
    let first = bench.asked().await;
    let asked_at = bench.elapsed();
    let mut attempts = 1;
    while bench.elapsed() < LIFE * 2 {
        // The same key each time, so that an answer that was lost is given again.
        assert_eq!(bench.asked().await, first);
        attempts += 1;
    }
    assert!(attempts > 10, "asked {attempts} times, though the certificate has ended");
    let asking = bench.asking.borrow().clone().unwrap();
    assert!(asking.is_in_trouble() && asking.since.elapsed() >= bench.elapsed() - asked_at);
    let failure = asking.failure.unwrap();
    assert!(failure.contains("skep ca serve"), "{failure}");

    let granted = bench.answer_of(&first);
    assert!(matches!(granted, Message::Granted(_)), "in its grace: {granted:?}");
    bench.answer(&granted).await;
    bench.renewed().await;
}

#[tokio::test(start_paused = true)]
async fn an_administrator_is_told_while_there_is_time() {
    let mut bench = Bench::new();
    let message = loop {
        match bench.asked.recv().await.unwrap() {
            Request::Note(EventKind::Problem { message, .. }) => break message,
            Request::AskCa(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(bench.elapsed() < LIFE, "the certificate holds still");
    assert!(message.contains("ends in") && message.contains("not renewed"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_counts_and_a_refusal_is_repeated_to_people() {
    let mut bench = Bench::new();
    let request = bench.asked().await;
    bench.answer(&Message::Denied(Denial::Unavailable)).await;
    bench
        .asking
        .wait_for(|asking| asking.as_ref().is_some_and(|asking| asking.failure.is_some()))
        .await
        .unwrap();
    let failure = bench.asking.borrow().clone().unwrap().failure.unwrap();
    assert!(failure.contains("the CA refused"), "{failure}");
    // It comes between two attempts.
    let granted = bench.answer_of(&request);
    bench.answer(&granted).await;
    bench.renewed().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_is_not_used() {
    let mut bench = Bench::new();
    let dir = bench.dir.path().join("identity");
    let away = bench.dir.path().join("away");
    let request = bench.asked().await;
    std::fs::rename(&dir, &away).unwrap();
    std::fs::write(&dir, "a file where the directory was").unwrap();
    let granted = bench.answer_of(&request);
    let before = bench.handle.current().info().clone();
    bench.answer(&granted).await;
    assert_eq!(bench.asked().await, request);
    assert_eq!(bench.handle.current().info(), &before);
    let failure = bench.asking.borrow().clone().unwrap().failure.unwrap();
    assert!(failure.contains("identity"), "{failure}");

    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&away, &dir).unwrap();
    let granted = bench.answer_of(&request);
    bench.answer(&granted).await;
    bench.renewed().await;
}
