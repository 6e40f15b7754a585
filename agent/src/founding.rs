//! The founding token that the CA gave this node: found in its directory, handed to the flock's
//! master, and destroyed before it is used (DVM-2, DVM-22).
//!
//! The master says for which history it wants the token; the file is destroyed, durably; only then
//! is the number given, to whoever is master of that history, until it is used. The process that
//! destroyed it is all there is in between: where it ends, the flock stays weak, and the CA signs
//! the next number. A token that is of no use is shown as a problem, and keeps nothing from
//! starting.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use skep_catalog::{Granted, Token};
use skep_control::api::EventKind;
use skep_identity::{FOUNDING_FILE, FoundingError, FoundingToken, IdentityHandle, tls};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::spine::Request;

/// How often the directory is looked at: one of `skep ca refound` is found within it.
const LOOK: Duration = Duration::from_secs(10);
/// Between two offers to a master that may want it later.
const OFFER_AGAIN: Duration = Duration::from_secs(1);
/// Between two attempts to give the number of a token that is gone.
const GIVE_AGAIN: Duration = Duration::from_millis(250);
/// For so long a history without a master is waited for: its managers may all be restarted.
const GIVE_UP: Duration = Duration::from_secs(600);

/// What becomes of this node's token.
#[derive(Clone, Debug)]
pub struct Held {
    /// For `skep flock`.
    pub state: String,
    /// For whoever must do something about it.
    pub trouble: Option<Trouble>,
    /// Since when it is so.
    pub since: Instant,
    /// There is nothing left of it that could be found again: it is said until the agent stops.
    pub lost: bool,
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// The task that looks after it.
pub struct FoundingTask {
    /// Who this node is.
    pub handle: IdentityHandle,
    /// Where the token is, beside the certificates.
    pub dir: PathBuf,
    /// The time by which it is judged.
    pub clock: tls::Clock,
    /// The main loop.
    pub requests: mpsc::Sender<Request>,
    /// What becomes of it.
    pub state: watch::Sender<Option<Held>>,
}

/// The main loop is gone.
struct Ended;

impl FoundingTask {
    /// Looks after tokens until the agent stops.
    pub async fn run(self) {
        // Ended with the main loop, or never.
        let Err(Ended) = self.look_after().await else { return };
    }

    async fn look_after(&self) -> Result<(), Ended> {
        loop {
            let wait = match self.load().await {
                Ok(None) => {
                    self.forget();
                    LOOK
                }
                Ok(Some(token)) => self.offer(&token).await?,
                Err(error) => {
                    let path = self.dir.join(FOUNDING_FILE);
                    let message = format!("{} is of no use: {error}", path.display());
                    let hint = "remove it; if the flock is weak, see `skep ca refound`";
                    self.trouble(message, hint, false).await?;
                    LOOK
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn load(&self) -> Result<Option<FoundingToken>, FoundingError> {
        let (dir, identity, now) = (self.dir.clone(), self.handle.current(), (self.clock)());
        let load = move || FoundingToken::load(&dir, &identity.info().node, identity.trust(), now);
        // A thread that broke off says nothing of the token: it is looked for again.
        tokio::task::spawn_blocking(load).await.unwrap_or(Ok(None))
    }

    /// Offers a token, and uses it up where it is wanted. Gives how long to wait before the next.
    async fn offer(&self, token: &FoundingToken) -> Result<Duration, Ended> {
        let number = token.number();
        match self.ask(token, None).await? {
            Granted::Wanted { lineage } => {
                let dir = self.dir.clone();
                let gone = tokio::task::spawn_blocking(move || FoundingToken::destroy(&dir)).await;
                match gone {
                    Ok(Ok(())) => self.give(token, lineage).await?,
                    Ok(Err(error)) => {
                        let message = format!("the founding token is not used: {error}");
                        let hint = "make its directory writable for the agent";
                        self.trouble(message, hint, false).await?;
                    }
                    Err(error) => tracing::error!(%error, "the founding token was left alone"),
                }
                Ok(LOOK)
            }
            Granted::Refused { why, again: true } => {
                self.waits(format!("founding token {number} is here and waits: {why}"));
                Ok(OFFER_AGAIN)
            }
            Granted::Refused { why, again: false } => {
                let hint = "see `skep flock`, and docs/operating/failover.md";
                self.trouble(format!("the founding token is not used: {why}"), hint, false).await?;
                Ok(LOOK)
            }
            Granted::Done
            | Granted::Decided { .. }
            | Granted::Called { .. }
            | Granted::Shown(_) => Ok(LOOK),
        }
    }

    /// The token is gone: its number is for this history or for none.
    async fn give(&self, token: &FoundingToken, lineage: u64) -> Result<(), Ended> {
        let (number, began) = (token.number(), Instant::now());
        tracing::info!(number, lineage = format!("{lineage:016x}"), "destroyed the founding token");
        let mut last = String::new();
        while began.elapsed() < GIVE_UP {
            match self.ask(token, Some(lineage)).await? {
                Granted::Done => {
                    tracing::info!(number, "the flock is strong");
                    self.forget();
                    return Ok(());
                }
                Granted::Refused { why, .. } => last = why,
                Granted::Wanted { .. }
                | Granted::Decided { .. }
                | Granted::Called { .. }
                | Granted::Shown(_) => {}
            }
            self.waits(format!("founding token {number} was destroyed and is being used: {last}"));
            tokio::time::sleep(GIVE_AGAIN).await;
        }
        let message = format!(
            "founding token {number} was destroyed for a flock that is no more, and did not make \
             it strong: {last}"
        );
        self.trouble(message, "`skep ca refound` signs the next, if the flock is weak", true).await
    }

    async fn ask(&self, token: &FoundingToken, of: Option<u64>) -> Result<Granted, Ended> {
        let (reply, answer) = oneshot::channel();
        let token = Token(Bytes::from(token.to_bytes()));
        let request = Request::Strengthen { token, of, reply };
        self.requests.send(request).await.map_err(|_| Ended)?;
        let lost = || Granted::Refused { why: "it was not answered".to_owned(), again: true };
        Ok(answer.await.unwrap_or_else(|_| lost()))
    }

    fn forget(&self) {
        self.state.send_if_modified(|held| held.take_if(|held| !held.lost).is_some());
    }

    fn waits(&self, state: String) {
        self.state.send_if_modified(|held| {
            if held.as_ref().is_some_and(|held| held.state == state) {
                return false;
            }
            tracing::info!("{state}");
            *held = Some(Held { state, trouble: None, since: Instant::now(), lost: false });
            true
        });
    }

    async fn trouble(&self, message: String, hint: &str, lost: bool) -> Result<(), Ended> {
        let trouble = Trouble { message: message.clone(), hint: hint.to_owned() };
        let new = self.state.send_if_modified(|held| {
            if held.as_ref().is_some_and(|held| held.trouble.as_ref() == Some(&trouble)) {
                return false;
            }
            let (state, since) = (trouble.message.clone(), Instant::now());
            *held = Some(Held { state, trouble: Some(trouble.clone()), since, lost });
            true
        });
        if !new {
            return Ok(());
        }
        tracing::warn!("{message}");
        let note = Request::Note(EventKind::Problem { message, hint: Some(hint.to_owned()) });
        self.requests.send(note).await.map_err(|_| Ended)
    }
}
