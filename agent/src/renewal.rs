//! Renewal: at two thirds of its life the certificate is renewed, through any node that serves the
//! CA, and swapped without dropping a link (BLOC-36, BLOC-37).
//!
//! Nodes that serve the CA say so in a record. The request travels over a control link as a frame
//! of kind [`skep_transport::ENROLMENT_KIND`]; the link's handshake has proved who asks. One key
//! serves until the answer is there, however late it comes: the CA knows the key again, so an
//! answer that was lost is given once more. What is waited for can be asked for at any time
//! ([`Asking`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skep_base::{Rng, WallTime};
use skep_cli::human;
use skep_control::api::EventKind;
use skep_identity::message::{Denial, Message};
use skep_identity::{EnrolError, IdentityHandle, Renewing};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::spine::Request;

#[cfg(test)]
mod tests;

/// How long an answer is waited for before the request is sent again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The first wait after a failure, which doubles up to [`LAST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// The longest wait after a failure.
const LAST_WAIT: Duration = Duration::from_secs(600);
/// The shortest wait, however short the certificate's life.
const LEAST_WAIT: Duration = Duration::from_millis(250);
/// No wait is longer than this part of the certificate's life: twenty attempts fit into the third
/// of it that is left when renewal begins.
const WAIT_PART: u32 = 60;
/// Renewal begins up to this part of the life after two thirds of it: a fleet that was issued its
/// certificates at once does not renew at once.
const SPREAD_PART: u32 = 30;
/// The clock is looked at this often: it may jump.
const LOOK: Duration = Duration::from_secs(30);
/// After so many attempts in vain an administrator is told.
const PATIENCE: u32 = 4;

/// Gives the wall clock.
pub type Wall = Arc<dyn Fn() -> WallTime + Send + Sync>;

/// What renewal is waiting for.
#[derive(Clone, Debug)]
pub struct Asking {
    /// Since when.
    pub since: Instant,
    /// How often it was asked for.
    pub attempts: u32,
    /// What the last attempt led to; nothing while the first is under way.
    pub failure: Option<String>,
}

impl Asking {
    /// Whether it has gone on for so long that somebody should look.
    #[must_use]
    pub const fn is_in_trouble(&self) -> bool {
        self.attempts > PATIENCE
    }
}

/// What renewal works with.
pub struct Renewal {
    /// The identity that is renewed.
    pub handle: IdentityHandle,
    /// Where it lies on disk.
    pub dir: PathBuf,
    /// Certificates are dated by the wall clock.
    pub wall: Wall,
    /// Where requests to the CA go, and news.
    pub requests: mpsc::Sender<Request>,
    /// Where the CA's answers come from.
    pub answers: mpsc::Receiver<Bytes>,
    /// What is being waited for, for whoever asks.
    pub asking: watch::Sender<Option<Asking>>,
    /// Spreads a fleet's renewals.
    pub rng: Rng,
}

/// The main loop has ended.
struct Ended;

/// Why an attempt did not lead to a certificate.
struct Failure {
    what: String,
    /// The CA wants to be left alone until then.
    not_before: Option<WallTime>,
}

impl Renewal {
    /// Renews for as long as the agent runs.
    pub async fn run(mut self) {
        loop {
            self.until_due().await;
            match self.until_renewed().await {
                Ok(false) => {
                    tracing::info!("the clock was set: the certificate need not be renewed yet");
                }
                Ok(true) => {
                    let until = human::moment(self.handle.current().info().not_after);
                    tracing::info!(%until, "the certificate was renewed");
                }
                Err(Ended) => return,
            }
        }
    }

    async fn until_due(&mut self) {
        let info = self.handle.current().info().clone();
        let spread = (info.life() / SPREAD_PART).mul_f64(self.rng.unit());
        let spread = u64::try_from(spread.as_millis()).unwrap_or(0);
        let due = WallTime::from_unix_ms(info.renew_at().unix_ms.saturating_add(spread));
        loop {
            let left = due.since((self.wall)());
            if left.is_zero() {
                return;
            }
            sleep(left.min(LOOK)).await;
        }
    }

    /// Asks until there is a certificate, or a clock that was wrong is set and none is due. An
    /// answer counts whenever it comes.
    async fn until_renewed(&mut self) -> Result<bool, Ended> {
        let due = self.handle.current().info().renew_at();
        let life = self.handle.current().info().life();
        let longest = (life / WAIT_PART).clamp(LEAST_WAIT, LAST_WAIT);
        let mut wait = FIRST_WAIT.min(longest);
        let mut asking = Asking { since: Instant::now(), attempts: 0, failure: None };
        let renewing = self.begin().await;
        while self.answers.try_recv().is_ok() {}
        loop {
            if (self.wall)() < due {
                self.asking.send_replace(None);
                return Ok(false);
            }
            asking.attempts += 1;
            self.asking.send_replace(Some(asking.clone()));
            let outcome = self.ask(&renewing, ANSWER_TIMEOUT.min(longest)).await?;
            let Err(failure) = outcome else {
                return self.renewed().await;
            };
            let mut again_in = self.rng.jitter(wait, 0.3);
            if let Some(at) = failure.not_before {
                again_in = again_in.max(at.since((self.wall)()).min(LAST_WAIT));
            }
            let what = failure.what;
            tracing::warn!(error = %what, ?again_in, "the certificate was not renewed");
            asking.failure = Some(what);
            self.asking.send_replace(Some(asking.clone()));
            if asking.attempts == PATIENCE {
                self.tell_administrator(&asking).await?;
            }
            // A CA that was just started answers what it was asked before.
            if let Ok(answer) = timeout(again_in, self.answers.recv()).await
                && self.accept(&renewing, &answer.ok_or(Ended)?).await.is_ok()
            {
                return self.renewed().await;
            }
            wait = (wait * 2).min(longest);
        }
    }

    /// Makes the next key; the system may have no randomness yet.
    async fn begin(&self) -> Renewing {
        loop {
            match Renewing::begin(&self.handle.current()) {
                Ok(renewing) => return renewing,
                Err(error) => tracing::error!(%error, "no key for the next certificate"),
            }
            sleep(FIRST_WAIT).await;
        }
    }

    async fn renewed(&self) -> Result<bool, Ended> {
        self.asking.send_replace(None);
        self.requests.send(Request::Renewed).await.map_err(|_| Ended)?;
        Ok(true)
    }

    async fn ask(
        &mut self,
        renewing: &Renewing,
        answer_within: Duration,
    ) -> Result<Result<(), Failure>, Ended> {
        let request = Request::AskCa(renewing.request().encode().into());
        self.requests.send(request).await.map_err(|_| Ended)?;
        let Ok(answer) = timeout(answer_within, self.answers.recv()).await else {
            let what = "no node that serves the CA answered; start one with `skep ca serve`, or \
                        set `serve = true` under [ca]";
            return Ok(Err(Failure { what: what.to_owned(), not_before: None }));
        };
        Ok(self.accept(renewing, &answer.ok_or(Ended)?).await)
    }

    /// Judges an answer, puts the certificate on disk, and only then uses it.
    async fn accept(&self, renewing: &Renewing, answer: &Bytes) -> Result<(), Failure> {
        let message = Message::decode(answer).map_err(|error| Failure::of(&error))?;
        let identity = renewing.finish(message).map_err(|error| {
            let mut failure = Failure::of(&error);
            if let EnrolError::Denied(Denial::TooSoon { after }) = error {
                failure.not_before = Some(after);
            }
            failure
        })?;
        let dir = self.dir.clone();
        let stored = tokio::task::spawn_blocking(move || {
            identity.store(&dir)?;
            Ok::<_, skep_identity::FileError>(identity)
        });
        let identity = match stored.await {
            Ok(Ok(identity)) => identity,
            Ok(Err(error)) => return Err(Failure::of(&error)),
            Err(error) => return Err(Failure::of(&error)),
        };
        self.handle.replace(identity).map_err(|error| Failure::of(&error))
    }

    async fn tell_administrator(&self, asking: &Asking) -> Result<(), Ended> {
        let ends = ends(self.handle.current().info().not_after, (self.wall)());
        let failure = asking.failure.clone().unwrap_or_default();
        let message = format!("the certificate {ends} and was not renewed: {failure}");
        let hint = Some("`skep status` shows how that goes on".to_owned());
        let note = Request::Note(EventKind::Problem { message, hint });
        self.requests.send(note).await.map_err(|_| Ended)
    }
}

/// When a certificate ends, as people say it: `ends in 9 d 4 h`, `expired 20 min ago`.
#[must_use]
pub fn ends(until: WallTime, now: WallTime) -> String {
    let span = |span: Duration| human::span(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    if now <= until {
        format!("ends in {}", span(until.since(now)))
    } else {
        format!("expired {} ago", span(now.since(until)))
    }
}

impl Failure {
    fn of(error: &dyn std::error::Error) -> Self {
        let mut what = error.to_string();
        let mut cause = error.source();
        while let Some(deeper) = cause {
            what = format!("{what}: {deeper}");
            cause = deeper.source();
        }
        Self { what, not_before: None }
    }
}
