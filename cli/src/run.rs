//! The verbs that ask an agent, carried out.

use std::io::{self, IsTerminal as _, Write};

use anyhow::bail;
use serde::Serialize;
use skep_control::Client;
use skep_control::api::{
    DrawAs, JoinAddress, PruneImages, ReadEvents, Shutdown, StartWave, WaveDetail, WaveId,
    WaveState, WhichVersion,
};

use crate::args::{
    EventsArgs, GroupArgs, ImagePrune, ImageShow, JoinAddressArgs, Json, LeaveArgs, Online, Socket,
    TopologyArgs, WaveStart, WaveStatus, WaveWatch,
};
use crate::exit::Exit;
use crate::render::{self, Style};
use crate::watch::{LOOK_EVERY, WaveBars};

mod bench;
mod catalog;
mod channel;
mod flock;
mod flood;
mod notify;
#[cfg(test)]
mod tests;

/// Where a command writes, and what that can show.
pub(crate) struct Screen<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) style: Style,
    /// Whether bars may be drawn on standard error.
    pub(crate) bars: bool,
    /// What the person before it types, where there is one.
    pub(crate) answers: Option<Box<dyn io::BufRead>>,
}

impl<'a> Screen<'a> {
    pub(crate) fn of_process(out: &'a mut dyn Write) -> Self {
        let stdin = io::stdin();
        let answers: Option<Box<dyn io::BufRead>> = match stdin.is_terminal() {
            true => Some(Box::new(io::BufReader::new(stdin))),
            false => None,
        };
        Self { out, style: Style::of_stdout(), bars: io::stderr().is_terminal(), answers }
    }

    pub(crate) fn text(&mut self, text: &str) -> anyhow::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush().map_err(Into::into)
    }

    /// The answer, for programs or for people.
    pub(crate) fn answer<T: Serialize>(
        &mut self,
        json: Json,
        answer: &T,
        people: impl FnOnce(&T, Style) -> String,
    ) -> anyhow::Result<()> {
        let text = match json.json {
            true => serde_json::to_string_pretty(answer)? + "\n",
            false => people(answer, self.style),
        };
        self.text(&text)
    }

    /// One of many answers, on one line for programs.
    pub(crate) fn line<T: Serialize>(
        &mut self,
        json: Json,
        answer: &T,
        people: impl FnOnce(&T, Style) -> String,
    ) -> anyhow::Result<()> {
        let text = match json.json {
            true => serde_json::to_string(answer)? + "\n",
            false => people(answer, self.style),
        };
        self.text(&text)
    }
}

/// A question without arguments, and its answer for people.
macro_rules! listing {
    ($screen:ident, $args:ident, $question:ident, $people:path) => {{
        let answer = connect(&$args.socket).await?.$question().await?;
        $screen.answer($args.json, &answer, |answer, style| $people(answer, style))?;
    }};
}

pub(crate) async fn carry_out(verb: Online, screen: &mut Screen<'_>) -> anyhow::Result<Exit> {
    match verb {
        Online::Status(args) => listing!(screen, args, status, render::status),
        Online::Members(args) => listing!(screen, args, members, render::members),
        Online::Flock(args) => return flock::flock(args, screen).await,
        Online::Catalog(verb) => return catalog::catalog(verb, screen).await,
        Online::Notify(verb) => return notify::notify(verb, screen).await,
        Online::Links(args) => listing!(screen, args, links, render::links),
        Online::Metrics(args) => listing!(screen, args, metrics, render::metrics),
        Online::CaStatus(args) => listing!(screen, args, ca, render::ca),
        Online::ImageLs(args) => listing!(screen, args, images, render::images),
        Online::Health(args) => {
            let health = connect(&args.socket).await?.health().await?;
            screen.answer(args.json, &health, render::health)?;
            return Ok(if health.ok { Exit::Done } else { Exit::Failed });
        }
        Online::Group(args) => group(args, screen).await?,
        Online::Topology(args) => topology(args, screen).await?,
        Online::Rtt(args) => {
            let pair = connect(&args.socket).await?.rtt(&args.from, &args.to).await?;
            screen.answer(args.json, &pair, render::round_trip)?;
        }
        Online::Events(args) => events(args, screen).await?,
        Online::ImageShow(args) => image_show(args, screen).await?,
        Online::ImagePrune(args) => return image_prune(args, screen).await,
        Online::WaveStart(args) => return wave_start(args, screen).await,
        Online::WaveStatus(args) => wave_status(args, screen).await?,
        Online::WaveWatch(args) => return wave_watch(args, screen).await,
        Online::FloodSend(args) => flood::send(args, screen).await?,
        Online::FloodTail(args) => flood::tail(args, screen).await?,
        Online::FloodStats(args) => flood::stats(args, screen).await?,
        Online::FloodBench(args) => bench::bench(args, screen).await?,
        Online::ChannelServe(args) => channel::serve(args).await?,
        Online::ChannelOpen(args) => channel::open(args).await?,
        Online::JoinAddress(args) => join_address(args, screen).await?,
        Online::Leave(args) => leave(&args, screen).await?,
    }
    Ok(Exit::Done)
}

async fn connect(socket: &Socket) -> anyhow::Result<Client> {
    Ok(Client::connect(&socket.socket).await?)
}

async fn group(args: GroupArgs, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let client = connect(&args.socket).await?;
    match args.group {
        Some(name) => screen.answer(args.json, &client.group(&name).await?, render::group),
        None => screen
            .answer(args.json, &client.groups().await?, |list, style| render::groups(list, style)),
    }
}

async fn topology(args: TopologyArgs, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let draw = match (args.dot, args.svg) {
        (true, _) => Some(DrawAs::Dot),
        (_, true) => Some(DrawAs::Svg),
        _ => None,
    };
    let topology = connect(&args.socket).await?.topology(&args.group, draw).await?;
    match topology.drawing {
        Some(drawing) => screen.text(&drawing),
        None => screen.answer(args.json, &topology, render::topology),
    }
}

async fn events(args: EventsArgs, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let query =
        ReadEvents { after: args.after, last: args.last, follow: args.follow, flock: args.flock };
    let mut events = connect(&args.socket).await?.events(query).await?;
    while let Some(event) = events.next().await? {
        screen.line(args.json, &event, render::event)?;
    }
    if args.follow {
        bail!("the agent ended the stream of events");
    }
    Ok(())
}

async fn image_show(args: ImageShow, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let query = WhichVersion { version: args.version };
    let client = connect(&args.socket).await?;
    let detail = client.image(&args.image, &query).await?;
    screen.answer(args.json, &detail, render::image)
}

async fn image_prune(args: ImagePrune, screen: &mut Screen<'_>) -> anyhow::Result<Exit> {
    let wish = PruneImages { keep: args.keep, dry_run: args.dry_run };
    let client = connect(&args.socket).await?;
    let pruned = client.prune_images(&wish).await?;
    screen.answer(args.json, &pruned, |pruned, _| render::pruned(pruned))?;
    Ok(if pruned.complete { Exit::Done } else { Exit::Failed })
}

async fn wave_start(args: WaveStart, screen: &mut Screen<'_>) -> anyhow::Result<Exit> {
    let client = connect(&args.socket).await?;
    let order = StartWave {
        image: args.image,
        version: args.version,
        to: args.to,
        at: args.at,
        as_user: args.as_user,
        again: args.again,
    };
    let wave = client.start_wave(&order).await?;
    if args.watch {
        return watch(&client, &wave.id, args.json, screen).await;
    }
    // It goes out, whatever becomes of this question.
    let split = client.flock().await.ok().map(|flock| flock.management.split);
    let in_force = split.map_or_else(String::new, |it| format!("waves {}\n", render::split(&it)));
    screen.answer(args.json, &wave, |wave, _| {
        format!(
            "wave {0} goes to {1} nodes; watch it with `skep wave watch {0}`\n{in_force}",
            wave.id, wave.targets
        )
    })?;
    Ok(Exit::Done)
}

async fn wave_status(args: WaveStatus, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let client = connect(&args.socket).await?;
    match args.wave {
        Some(id) => screen.answer(args.json, &client.wave(&WaveId(id)).await?, render::wave),
        None => screen
            .answer(args.json, &client.waves().await?, |list, style| render::waves(list, style)),
    }
}

async fn wave_watch(args: WaveWatch, screen: &mut Screen<'_>) -> anyhow::Result<Exit> {
    let client = connect(&args.socket).await?;
    let id = match args.wave {
        Some(id) => WaveId(id),
        None => match client.waves().await?.into_iter().next() {
            Some(newest) => newest.id,
            None => bail!("this node knows of no wave: start one with `skep wave start`"),
        },
    };
    watch(&client, &id, args.json, screen).await
}

/// Looks at a wave until it is final. Bars on a terminal, a line for each change elsewhere.
async fn watch(
    client: &Client,
    id: &WaveId,
    json: Json,
    screen: &mut Screen<'_>,
) -> anyhow::Result<Exit> {
    let mut seen: Option<WaveDetail> = None;
    let mut bars = None;
    loop {
        let detail = client.wave(id).await?;
        if json.json {
            if seen.as_ref() != Some(&detail) {
                screen.line(json, &detail, render::wave)?;
            }
        } else if screen.bars {
            bars.get_or_insert_with(|| WaveBars::new(&detail)).update(&detail);
        } else {
            screen.text(&changes(seen.as_ref(), &detail))?;
        }
        if detail.wave.state.is_final() {
            if let Some(bars) = &bars {
                bars.finish();
            }
            if !json.json {
                screen.text(&format!("\n{}", render::wave(&detail, screen.style)))?;
            }
            return Ok(match detail.wave.state {
                WaveState::Done => Exit::Done,
                WaveState::Failed | WaveState::Superseded | WaveState::Running => Exit::Failed,
            });
        }
        seen = Some(detail);
        // sleeps: the pace at which a person is shown news
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A line for each node that is at another step than before.
fn changes(before: Option<&WaveDetail>, now: &WaveDetail) -> String {
    let step_before = |node: &skep_base::NodeName| {
        before.and_then(|wave| wave.nodes.iter().find(|other| other.node == *node))
    };
    now.nodes
        .iter()
        .filter(|node| step_before(&node.node).is_none_or(|before| before.step != node.step))
        .map(render::wave_node_line)
        .collect()
}

async fn join_address(args: JoinAddressArgs, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let addresses = JoinAddress { addresses: args.addresses };
    let client = connect(&args.socket).await?;
    let accepted = client.join_address(&addresses).await?;
    screen.text(&format!("{}\n", accepted.message))
}

async fn leave(args: &LeaveArgs, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let client = connect(&args.socket).await?;
    let accepted = client.shutdown(Shutdown { leave: true }).await?;
    screen.text(&format!("{}\n", accepted.message))
}
