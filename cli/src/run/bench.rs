//! `skep flood bench`: how fast updates are published, and how fast they arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use skep_base::{ByteSize, GroupName};
use skep_client::{Client, Event, Publishing, Start, Subscribe, Subscription};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Screen;
use crate::args::FloodBench;
use crate::human;

/// A body begins with the run's number, its own, and when it was sent.
const HEAD_BYTES: usize = 24;
/// Shortest body.
const MIN_BYTES: u64 = 32;
/// Publishes of one client that wait for their replies: what the library's window allows.
const IN_FLIGHT: usize = 1024;
/// How long a listener waits for the next update before it is a failure.
const LISTEN_TIME: Duration = Duration::from_secs(60);

/// The outcome.
#[derive(Debug, Serialize)]
struct Report {
    group: String,
    publishers: u32,
    updates: u64,
    bytes_each: u64,
    seconds: f64,
    per_second: f64,
    /// From the call to the reply: durable at the origin.
    published_us: Latency,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered: Option<Delivered>,
}

/// What the listeners saw.
#[derive(Debug, Serialize)]
struct Delivered {
    listeners: usize,
    /// Until the last listener had the last update.
    seconds: f64,
    per_second_to_all: f64,
    /// From the call to the hand-over, at all listeners.
    arrived_us: Latency,
}

/// Microseconds.
#[derive(Debug, Serialize)]
struct Latency {
    p50: u32,
    p90: u32,
    p99: u32,
    p999: u32,
    max: u32,
}

impl Latency {
    fn of(mut samples: Vec<u32>) -> Self {
        samples.sort_unstable();
        let at = |thousandths: usize| {
            let rank = (samples.len() * thousandths).div_ceil(1000).max(1) - 1;
            samples.get(rank).copied().unwrap_or(0)
        };
        Self { p50: at(500), p90: at(900), p99: at(990), p999: at(999), max: at(1000) }
    }

    fn line(&self, what: &str) -> String {
        let [p50, p90, p99, p999, max] =
            [self.p50, self.p90, self.p99, self.p999, self.max].map(human::round_trip);
        format!("{what:<10} p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p999}  max {max}\n")
    }
}

/// What all tasks of a run share.
struct Run {
    number: u64,
    group: GroupName,
    bytes: usize,
    count: u64,
    /// The time between two updates of one publisher.
    pace: Option<Duration>,
    begun: Instant,
    next: AtomicU64,
    done: AtomicU64,
}

pub(super) async fn bench(args: FloodBench, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let Ok(bytes) = usize::try_from(args.size.0.max(MIN_BYTES)) else {
        bail!("updates of {} do not fit into memory", args.size);
    };
    let mut publishers = Vec::new();
    for number in 0..args.publishers as usize {
        let options = match args.at.get(number % args.at.len().max(1)) {
            Some(server) => args.connect.options_for(server.clone()),
            None => args.connect.options(),
        };
        publishers.push(Client::connect(options).await?);
    }
    let mut listeners = Vec::new();
    for server in &args.listen {
        let client = Client::connect(args.connect.options_for(server.clone())).await?;
        let wanted = Subscribe::to(args.group.clone()).from(Start::Now);
        listeners.push(client.subscribe(wanted).await?);
    }
    let number = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let run = Arc::new(Run {
        number: u64::try_from(number.unwrap_or_default().as_nanos()).unwrap_or(0),
        group: args.group.clone(),
        bytes,
        count: args.count,
        pace: args.rate.map(|rate| Duration::from_secs(1) * args.publishers / rate),
        begun: Instant::now(),
        next: AtomicU64::new(0),
        done: AtomicU64::new(0),
    });
    let bar = progress(screen.bars, Arc::clone(&run));
    let listening = tokio::spawn(listen_all(Arc::clone(&run), listeners));
    let published = publish_all(&run, publishers).await?;
    let seconds = run.begun.elapsed().as_secs_f64();
    let delivered = listening.await.context("listening did not end well")??;
    bar.abort();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let per_second = |seconds: f64| args.count as f64 / seconds;
    let report = Report {
        group: args.group.to_string(),
        publishers: args.publishers,
        updates: args.count,
        bytes_each: bytes as u64,
        seconds,
        per_second: per_second(seconds),
        published_us: Latency::of(published),
        delivered: delivered.map(|(listeners, seconds, samples)| Delivered {
            listeners,
            seconds,
            per_second_to_all: per_second(seconds),
            arrived_us: Latency::of(samples),
        }),
    };
    screen.answer(args.json, &report, |report, _| shown(report))
}

fn shown(report: &Report) -> String {
    let Report { group, publishers, updates, bytes_each, seconds, per_second, .. } = report;
    let size = ByteSize(*bytes_each);
    let mut text = format!(
        "{updates} updates of {size} by {publishers} publishers to {group}, each on its node's \
         disk:\n  {seconds:.2} s, {per_second:.0} a second\n  "
    );
    text.push_str(&report.published_us.line("published"));
    if let Some(delivered) = &report.delivered {
        let Delivered { listeners, seconds, per_second_to_all, arrived_us } = delivered;
        text.push_str(&format!(
            "all of them at {listeners} listeners:\n  {seconds:.2} s, {per_second_to_all:.0} a \
             second\n  {}",
            arrived_us.line("arrived")
        ));
    }
    text
}

/// A bar on standard error, where there is somebody to look at it.
fn progress(wanted: bool, run: Arc<Run>) -> tokio::task::AbortHandle {
    let task = tokio::spawn(async move {
        if !wanted {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(run.count), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        loop {
            bar.set_position(run.done.load(Ordering::Relaxed));
            // sleeps: the pace at which a person is shown news
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    task.abort_handle()
}

async fn publish_all(run: &Arc<Run>, publishers: Vec<Client>) -> anyhow::Result<Vec<u32>> {
    let mut tasks = JoinSet::new();
    for client in publishers {
        tasks.spawn(publish(Arc::clone(run), client));
    }
    let mut samples = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        samples.extend(ended.context("a publisher did not end well")??);
    }
    Ok(samples)
}

/// Publishes until all updates of the run are out; gives how long each took.
async fn publish(run: Arc<Run>, client: Client) -> anyhow::Result<Vec<u32>> {
    let (sent, mut waiting) = mpsc::channel::<(Instant, Publishing)>(IN_FLIGHT);
    let counted = Arc::clone(&run);
    let answers = tokio::spawn(async move {
        let mut samples = Vec::new();
        while let Some((since, publishing)) = waiting.recv().await {
            publishing.await?;
            samples.push(micros(since.elapsed()));
            counted.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok::<_, skep_client::Error>(samples)
    });
    let mut due = Instant::now();
    loop {
        let number = run.next.fetch_add(1, Ordering::Relaxed);
        if number >= run.count {
            break;
        }
        if let Some(pace) = run.pace {
            // sleeps: the rate that was asked for
            tokio::time::sleep_until(due.into()).await;
            due += pace;
        }
        let since = Instant::now();
        let publishing = client.send(std::slice::from_ref(&run.group), run.body(number)).await?;
        if sent.send((since, publishing)).await.is_err() {
            break;
        }
    }
    drop(sent);
    Ok(answers.await.context("the replies were not read to their end")??)
}

type Listened = Option<(usize, f64, Vec<u32>)>;

/// Listens until every listener has every update.
async fn listen_all(run: Arc<Run>, listeners: Vec<Subscription>) -> anyhow::Result<Listened> {
    let count = listeners.len();
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(listen(Arc::clone(&run), listener));
    }
    let (mut seconds, mut samples) = (0.0_f64, Vec::new());
    while let Some(ended) = tasks.join_next().await {
        let (took, seen) = ended.context("a listener did not end well")??;
        seconds = seconds.max(took);
        samples.extend(seen);
    }
    Ok((count > 0).then_some((count, seconds, samples)))
}

async fn listen(run: Arc<Run>, mut updates: Subscription) -> anyhow::Result<(f64, Vec<u32>)> {
    let mut samples = Vec::new();
    while (samples.len() as u64) < run.count {
        let next = tokio::time::timeout(LISTEN_TIME, updates.next()).await;
        let Ok(next) = next else {
            let (missing, all) = (run.count - samples.len() as u64, run.count);
            bail!("{missing} of {all} updates did not come to a listener");
        };
        if let Event::Update(update) = next?
            && let Some(took) = run.took(&update.body)
        {
            samples.push(took);
        }
    }
    Ok((run.begun.elapsed().as_secs_f64(), samples))
}

impl Run {
    fn body(&self, number: u64) -> Vec<u8> {
        let since = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut body = Vec::with_capacity(self.bytes);
        for value in [self.number, number, since] {
            body.extend_from_slice(&value.to_be_bytes());
        }
        body.resize(self.bytes, b'.');
        body
    }

    /// How long an update of this run took to come here.
    fn took(&self, body: &[u8]) -> Option<u32> {
        let head: &[u8; HEAD_BYTES] = body.first_chunk()?;
        let (number, rest) = head.split_first_chunk()?;
        let (_, since) = rest.split_first_chunk::<8>()?;
        if u64::from_be_bytes(*number) != self.number {
            return None;
        }
        let since = Duration::from_nanos(u64::from_be_bytes(*since.first_chunk()?));
        Some(micros(self.begun.elapsed().saturating_sub(since)))
    }
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let latency = Latency::of((1..=1000).rev().collect());
        assert_eq!((latency.p50, latency.p90, latency.p99), (500, 900, 990));
        assert_eq!((latency.p999, latency.max), (999, 1000));
        let one = Latency::of(vec![7]);
        assert_eq!((one.p50, one.max), (7, 7));
        assert_eq!(Latency::of(Vec::new()).max, 0);
    }
}
