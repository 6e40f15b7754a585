//! Publishing and reading updates, by the library that any application uses.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use skep_client::{Client, Event, Gap, Long, Start, Subscribe, Subscription, Update};
use skep_control::api::Body;

use super::Screen;
use crate::args::{FloodSend, FloodStats, FloodTail, Json};
use crate::render;

/// What is longer is sent as it is read.
const IN_MEMORY_BYTES: u64 = 1 << 20;

/// A published update, as JSON.
#[derive(Serialize)]
struct Sent {
    group: String,
    id: String,
}

pub(super) async fn send(args: FloodSend, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let what = match (args.text, args.file.as_deref()) {
        (Some(text), _) => What::Here(text.into_bytes()),
        (None, Some(path)) if path != Path::new("-") => of_file(path)?,
        (None, _) => of_input(io::stdin().lock()).context("cannot publish standard input")?,
    };
    let client = Client::connect(args.connect.options()).await?;
    let published = match what {
        What::Here(body) => client.publish(&args.group, body).await?,
        What::Long(file, size) => {
            client.publish_from(&args.group, size, tokio::fs::File::from_std(file)).await?
        }
    };
    let sent: Vec<Sent> = published
        .ids
        .iter()
        .map(|(group, id)| Sent { group: group.to_string(), id: id.to_string() })
        .collect();
    screen.answer(args.json, &sent, |sent, _| {
        sent.iter().map(|one| format!("{} {}\n", one.group, one.id)).collect()
    })
}

/// What is published.
enum What {
    Here(Vec<u8>),
    /// A file, and its length: it is sent as it is read.
    Long(File, u64),
}

fn of_file(path: &Path) -> anyhow::Result<What> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let about = file.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
    if about.is_file() && about.len() > IN_MEMORY_BYTES {
        return Ok(What::Long(file, about.len()));
    }
    of_input(file).with_context(|| format!("cannot publish {}", path.display()))
}

/// All of `from`: where it is long, through a file that nobody else sees, as its length must be
/// said before it.
fn of_input(mut from: impl Read) -> anyhow::Result<What> {
    let mut body = Vec::new();
    from.by_ref().take(IN_MEMORY_BYTES + 1).read_to_end(&mut body)?;
    if body.len() as u64 <= IN_MEMORY_BYTES {
        return Ok(What::Here(body));
    }
    let mut file = tempfile::tempfile().context("cannot make a file in the directory TMPDIR")?;
    file.write_all(&body)?;
    let rest = io::copy(&mut from, &mut file).context("cannot keep it in a file in TMPDIR")?;
    Ok(What::Long(file, body.len() as u64 + rest))
}

/// What is printed as JSON, one a line.
#[derive(Serialize)]
#[serde(untagged)]
enum Told {
    Update {
        group: String,
        cursor: u64,
        id: String,
        age_ms: u64,
        late: bool,
        body: Body,
    },
    Gap {
        group: String,
        cursor: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        missing_up_to: String,
        why: String,
    },
}

impl Told {
    fn update(update: &Update) -> Self {
        Self::Update {
            group: update.group.to_string(),
            cursor: update.cursor,
            id: update.id.to_string(),
            age_ms: update.age_ms,
            late: update.late,
            body: Body(update.body.to_vec()),
        }
    }

    /// Without its body.
    fn long(long: &Long) -> Self {
        Self::Update {
            group: long.group.to_string(),
            cursor: long.cursor,
            id: long.id.to_string(),
            age_ms: long.age_ms,
            late: long.late,
            body: Body::default(),
        }
    }

    fn gap(gap: &Gap) -> Self {
        Self::Gap {
            group: gap.group.to_string(),
            cursor: gap.cursor,
            after: gap.after.as_ref().map(ToString::to_string),
            missing_up_to: gap.up_to.to_string(),
            why: gap.why.clone(),
        }
    }
}

pub(super) async fn tail(args: FloodTail, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let client = Client::connect(args.connect.options()).await?;
    let mut wanted = Subscribe::to(args.group.clone()).from(args.from.unwrap_or(Start::Default));
    if let Some(name) = args.name {
        wanted = wanted.named(name);
    }
    let mut updates = client.subscribe(wanted).await?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        match updates.next().await? {
            Event::Update(update) => {
                screen.line(args.json, &Told::update(&update), |_, _| render::pushed(&update))?;
                updates.ack(&update).await?;
                left -= 1;
            }
            Event::Long(long) => {
                print_long(&mut updates, &long, args.json, screen).await?;
                updates.ack_to(long.cursor).await?;
                left -= 1;
            }
            Event::Gap(gap) => {
                screen.line(args.json, &Told::gap(&gap), |_, _| render::gap(&gap))?;
                updates.ack_to(gap.cursor).await?;
            }
            Event::Lost { lost } => {
                let mut err = io::stderr().lock();
                writeln!(err, "skep: {lost} places of the log were gone before they were read")?;
            }
            Event::CaughtUp if args.no_follow => break,
            Event::CaughtUp => {}
        }
    }
    // What was printed last must reach the agent before the connection is gone.
    updates.close().await?;
    Ok(())
}

/// Prints a long update as it comes in.
async fn print_long(
    updates: &mut Subscription,
    long: &Long,
    json: Json,
    screen: &mut Screen<'_>,
) -> anyhow::Result<()> {
    if !json.json {
        return screen.text(&render::long(long));
    }
    let head = serde_json::to_string(&Told::long(long))?;
    // The body stands last in it.
    screen.text(head.strip_suffix("\"}").unwrap_or(&head))?;
    let mut rest = Vec::new();
    while let Some(part) = updates.part().await? {
        rest.extend_from_slice(&part);
        // In base64 three bytes are four characters, so whatever such portions end with fits.
        let later = rest.split_off(rest.len() / 3 * 3);
        screen.text(&Body(std::mem::replace(&mut rest, later)).to_string())?;
    }
    screen.text(&format!("{}\"}}\n", Body(rest)))
}

/// One figure, as JSON.
#[derive(Serialize)]
struct Figure {
    name: String,
    value: u64,
    help: String,
}

pub(super) async fn stats(args: FloodStats, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let client = Client::connect(args.connect.options()).await?;
    let figures = client.statistics().await?.into_iter();
    let figures: Vec<Figure> =
        figures.map(|one| Figure { name: one.name, value: one.value, help: one.help }).collect();
    screen.answer(args.json, &figures, |figures, style| {
        let rows = figures.iter().map(|one| (one.name.as_str(), one.value, one.help.as_str()));
        render::figures(rows, style)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
    use std::net::TcpListener;

    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Task};
    use crate::exit::Exit;
    use crate::exit_of;
    use crate::render::Style;
    use crate::run::carry_out;

    /// Runs `skep WORDS` against an agent that greets, then expects each line and answers it.
    async fn skep(
        words: &[&str],
        script: &'static [(&'static str, &'static str)],
    ) -> (String, anyhow::Result<Exit>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string();
        let agent = std::thread::spawn(move || {
            // A client, and where it subscribes a second connection.
            let connections =
                if script.iter().any(|(line, _)| line.starts_with("sub")) { 2 } else { 1 };
            let mut streams: Vec<_> = (0..connections)
                .map(|_| {
                    let (mut stream, _) = listener.accept().unwrap();
                    stream.write_all(b"220 inferno skep 0.0.0 client/1 ready\r\n").unwrap();
                    stream
                })
                .collect();
            let stream = streams.pop().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            let mut stream = stream;
            for (expected, answer) in script {
                let mut line = String::new();
                lines.read_line(&mut line).unwrap();
                assert!(line.starts_with(expected), "{line:?} for {expected:?}");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let said = ["skep"].iter().chain(words).copied().chain(["--connect", &server]);
        let Task::Online(verb) = Cli::try_parse_from(said).unwrap().task() else {
            panic!("{words:?} needs no agent");
        };
        let mut out = Vec::new();
        let mut screen = Screen { out: &mut out, style: Style::PLAIN, bars: false, answers: None };
        let end = carry_out(verb, &mut screen).await;
        agent.join().unwrap();
        (String::from_utf8(out).unwrap(), end)
    }

    #[tokio::test]
    async fn what_is_sent_is_told_with_its_identities() {
        let words = ["flood", "send", "--group", "web", "--text", "hello"];
        let script = &[("binary 5 web key=", "250 web inferno:7:1042\r\n")];
        let (text, end) = skep(&words, script).await;
        assert_eq!((text.as_str(), end.unwrap()), ("web inferno:7:1042\n", Exit::Done));
        let refused = &[("binary 5 web key=", "550 inferno is not in group web\r\n")];
        let (_, end) = skep(&words, refused).await;
        assert_eq!(exit_of(&end.unwrap_err()), Exit::Refused);
    }

    #[tokio::test]
    async fn a_named_reader_acknowledges_what_was_printed() {
        let words = ["flood", "tail", "--group", "web", "--name", "deploy", "-n", "2"];
        let script = &[
            (
                "subscribe web name=deploy",
                "250 web 0\r\n150 web 1 inferno:7:1 12 5\r\nhello\r\n\
                 150 web 2 inferno:7:2 12 3\r\n\0\x1b[\r\n",
            ),
            ("ack web 1", "250 web 1\r\n"),
            ("ack web 2", "250 web 2\r\n"),
            ("quit", "221 good-bye\r\n"),
        ];
        let (text, end) = skep(&words, script).await;
        assert_eq!(end.unwrap(), Exit::Done);
        let expected = "1 inferno:7:1 5 B, 12 ms old\nhello\n\
                        2 inferno:7:2 3 B, 12 ms old\n(binary; --json prints it in base64)\n";
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn json_has_a_gap_as_well_and_ends_where_everything_was_read() {
        let words = ["flood", "tail", "--from", "first", "--no-follow", "--json"];
        let script = &[
            (
                "subscribe all from=first",
                "250 all 0\r\n151 all 1 - inferno:7:1 they are gone\r\n\
                 150 all 2 inferno:7:2 0 2\r\nhi\r\n152 all 2 caught up\r\n",
            ),
            ("quit", "221 good-bye\r\n"),
        ];
        let (text, end) = skep(&words, script).await;
        assert_eq!(end.unwrap(), Exit::Done);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["missing_up_to"], "inferno:7:1");
        assert_eq!(lines[1]["body"], "aGk=");
    }

    #[tokio::test]
    async fn a_long_update_is_printed_as_it_comes_like_a_short_one() {
        let long = "0123456789abcdef".repeat((8 << 20) / 16) + "!";
        let answer = format!(
            "250 all 0\r\n150 all 1 inferno:7:1 0 {}\r\n{long}\r\n152 all 1 caught up\r\n",
            long.len()
        );
        let script: &[_] =
            vec![("subscribe all from=first", &*answer.leak()), ("quit", "221 good-bye\r\n")]
                .leak();
        let words = ["flood", "tail", "--from", "first", "--no-follow", "--json"];
        let (text, end) = skep(&words, script).await;
        assert_eq!(end.unwrap(), Exit::Done);
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!((&line["cursor"], &line["late"]), (&1.into(), &false.into()));
        let body: Body = line["body"].as_str().unwrap().parse().unwrap();
        assert!(body.0 == long.as_bytes());
    }

    #[test]
    fn what_is_long_is_published_from_a_file_also_from_a_pipe() {
        let long = vec![7; (1 << 20) + 5];
        let What::Long(mut file, size) = of_input(&long[..]).unwrap() else {
            panic!("it is long");
        };
        let mut kept = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut kept).unwrap();
        assert!(kept == long && size == long.len() as u64);
        assert!(matches!(of_input(&long[5..]).unwrap(), What::Here(body) if body.len() == 1 << 20));
    }

    #[tokio::test]
    async fn nobody_there_is_an_exit_code_of_its_own() {
        let words = ["skep", "flood", "stats", "--connect", "/nonexistent/client.sock"];
        let Task::Online(verb) = Cli::try_parse_from(words).unwrap().task() else {
            panic!("it needs an agent");
        };
        let mut out = Vec::new();
        let mut screen = Screen { out: &mut out, style: Style::PLAIN, bars: false, answers: None };
        let error = carry_out(verb, &mut screen).await.unwrap_err();
        assert_eq!(exit_of(&error), Exit::Unreachable);
        assert!(error.to_string().contains("unix:/nonexistent/client.sock"), "{error}");
    }
}
