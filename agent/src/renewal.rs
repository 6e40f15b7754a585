//! Renewal: at two thirds of its life the certificate is renewed, through any node that serves the
//! CA, and swapped without dropping a link (BLOC-36, BLOC-37).
//!
//! Nodes that serve the CA say so in a record. The request travels over a control link as a frame
//! of kind [`skep_transport::ENROLMENT_KIND`]; the link's handshake has proved who asks.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use skep_base::Rng;
use skep_identity::message::Message;
use skep_identity::{IdentityHandle, Renewing};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::spine::Request;

/// How long an answer is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The first wait after a failure, which doubles up to [`LAST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// The longest wait after a failure.
const LAST_WAIT: Duration = Duration::from_secs(600);
/// The clock is looked at this often: it may jump.
const LOOK: Duration = Duration::from_secs(30);

/// Renews for as long as the agent runs.
pub async fn run(
    handle: IdentityHandle,
    dir: PathBuf,
    clock: Clock,
    requests: mpsc::Sender<Request>,
    mut answers: mpsc::Receiver<Bytes>,
) {
    let mut rng = Rng::seeded(clock.now().as_nanos());
    let mut wait = FIRST_WAIT;
    loop {
        let due = handle.current().info().renew_at();
        let left = due.since(clock.wall());
        if !left.is_zero() {
            // A fleet that was issued its certificates at once does not renew at once.
            tokio::time::sleep(rng.jitter(left.min(LOOK), 0.2)).await;
            continue;
        }
        match renew(&handle, &dir, &requests, &mut answers).await {
            Ok(()) => {
                wait = FIRST_WAIT;
                tracing::info!(until = handle.current().info().not_after.unix_ms, "renewed");
                if requests.send(Request::Renewed).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, again_in = ?wait, "the certificate was not renewed");
                tokio::time::sleep(rng.jitter(wait, 0.3)).await;
                wait = (wait * 2).min(LAST_WAIT);
            }
        }
    }
}

async fn renew(
    handle: &IdentityHandle,
    dir: &std::path::Path,
    requests: &mpsc::Sender<Request>,
    answers: &mut mpsc::Receiver<Bytes>,
) -> anyhow::Result<()> {
    let renewing = Renewing::begin(&handle.current())?;
    while answers.try_recv().is_ok() {}
    requests.send(Request::AskCa(renewing.request().encode().into())).await?;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, answers.recv()).await.map_err(|_| {
        anyhow::anyhow!(
            "no node that serves the CA answered; start one with `skep ca serve`, or set \
             `serve = true` in [ca]"
        )
    })?;
    let answer = answer.ok_or_else(|| anyhow::anyhow!("the agent is stopping"))?;
    let identity = renewing.finish(Message::decode(&answer)?)?;
    let dir = dir.to_owned();
    let identity = tokio::task::spawn_blocking(move || {
        identity.store(&dir)?;
        anyhow::Ok(identity)
    })
    .await??;
    handle.replace(identity)?;
    Ok(())
}
