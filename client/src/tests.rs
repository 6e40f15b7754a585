//! The library against an agent that follows a script, and breaks off where it says so.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{Client, Error, Event, Options, Subscribe, blocking};

/// One connection of a script: what must come in, and what is answered. Then it is closed.
type Connection = Vec<(&'static str, &'static str)>;

const GREETING: &[u8] = b"220 inferno skep 0.0.0 client/1 ready; try help\r\n";

/// Serves the connections one after the other; gives the lines that came in.
fn agent(connections: Vec<Connection>) -> (Options, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let heard = std::thread::spawn(move || {
        let mut heard = Vec::new();
        for connection in connections {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(GREETING).unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            for (expected, answer) in connection {
                let mut line = String::new();
                lines.read_line(&mut line).unwrap();
                assert!(line.starts_with(expected), "{line:?} for {expected:?}");
                if let Some(size) = line.strip_prefix("binary ") {
                    let size = size.split(' ').next().unwrap().parse().unwrap();
                    let mut body = vec![0; size];
                    lines.read_exact(&mut body).unwrap();
                    line.push_str(&String::from_utf8(body).unwrap());
                }
                heard.push(line);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
        heard
    });
    (Options::to(server.parse().unwrap()), heard)
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_under_its_key_and_in_its_order() {
    let (options, heard) = agent(vec![
        vec![("binary 1 web key=", "250 web inferno:7:1\r\n"), ("binary 1", ""), ("binary 1", "")],
        vec![("binary 1", "250 web inferno:7:2\r\n"), ("binary 1", "250 web inferno:7:3\r\n")],
    ]);
    let client = Client::connect(options).await.unwrap();
    let web = ["web".parse().unwrap()];
    let mut sent = Vec::new();
    for body in ["a", "b", "c"] {
        sent.push(client.send(&web, body).await.unwrap());
    }
    let mut ids = Vec::new();
    for publishing in sent {
        ids.push(publishing.await.unwrap().ids[0].1.sequence);
    }
    assert_eq!(ids, [1, 2, 3]);
    let heard = heard.join().unwrap();
    assert_eq!(heard[1..3], heard[3..5], "the same keys and bodies");
    assert!(heard[0].ends_with(":1\r\na") && heard[4].ends_with(":3\r\nc"), "{heard:?}");
}

#[tokio::test]
async fn an_agent_that_says_later_is_asked_later() {
    let (options, heard) = agent(vec![
        vec![("binary 1", "450 this node is still finding out\r\n")],
        vec![("binary 1", "250 all inferno:8:1\r\n")],
    ]);
    let client = Client::connect(options).await.unwrap();
    assert_eq!(client.publish(&[], "x").await.unwrap().ids.len(), 1);
    let heard = heard.join().unwrap();
    assert_eq!(heard[0], heard[1]);
}

#[tokio::test]
async fn what_may_have_been_logged_by_one_that_is_gone_is_uncertain_and_not_published_twice() {
    let (first, gone) = agent(vec![vec![("binary 1", "")]]);
    let (second, other) = agent(vec![vec![("binary 1 all", "250 all b:1:1\r\n")]]);
    let options = first.or(second.servers[0].clone()).patience(Duration::from_millis(300));
    let client = Client::connect(options).await.unwrap();
    let error = client.publish(&[], "x").await.unwrap_err();
    assert!(matches!(error, Error::Uncertain { .. }), "{error}");
    gone.join().unwrap();
    // The next goes to whoever is there.
    let published = client.publish(&["all".parse().unwrap()], "y").await.unwrap();
    assert_eq!(published.ids[0].1.to_string(), "b:1:1");
    other.join().unwrap();
}

#[tokio::test]
async fn a_refusal_is_the_applications() {
    let (options, heard) = agent(vec![vec![("binary 1", "552 an update has at most 0 B\r\n")]]);
    let client = Client::connect(options).await.unwrap();
    let error = client.publish(&[], "x").await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: 552, .. }), "{error}");
    heard.join().unwrap();
}

#[tokio::test]
async fn several_hints_are_tried_at_once_and_the_answer_is_kept() {
    let (near, tried) = agent(vec![vec![("noop", "250 still here\r\n")]]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // The agent ranks them by its own distance, and knows nothing of who can be reached from here.
    let hints = format!(
        "250-inferno 0\r\n250-gone 100 plain:{nobody}\r\n250-quiet ?\r\n\
         250-near 9000 tls:{nobody} {}\r\n250 4 nodes\r\n",
        near.servers[0]
    );
    let (options, asked) = agent(vec![
        vec![("nearest", hints.leak())],
        // Itself is tried the way it was reached; another time nothing is asked.
        vec![("noop", "250 still here\r\n")],
    ]);
    let client = Client::connect(options).await.unwrap();
    let nodes = client.nearest().await.unwrap();
    let measured: Vec<&str> = nodes[..2].iter().map(|near| near.node.as_str()).collect();
    assert!(measured.contains(&"inferno") && measured.contains(&"near"), "{nodes:?}");
    assert!(nodes[..2].iter().all(|near| near.measured.is_some() && near.server.is_some()));
    let rest: Vec<_> = nodes[2..].iter().map(|near| (near.node.as_str(), &near.server)).collect();
    assert_eq!(rest, [("gone", &None), ("quiet", &None)]);
    tried.join().unwrap();
    asked.join().unwrap();
    assert_eq!(client.nearest().await.unwrap(), nodes, "though nobody is there any more");
}

#[tokio::test]
async fn a_subscription_goes_on_where_it_was() {
    let (options, heard) = agent(vec![
        vec![],
        vec![("subscribe web\r\n", "250 web 16\r\n150 web 17 inferno:7:1 0 1\r\nx\r\n")],
        vec![(
            "subscribe web from=17",
            "250 web 17\r\n150 web 20 inferno:7:2 0 1\r\ny\r\n152 web 20 caught up\r\n",
        )],
    ]);
    let client = Client::connect(options).await.unwrap();
    let mut updates = client.subscribe(Subscribe::to("web".parse().unwrap())).await.unwrap();
    let mut seen = Vec::new();
    loop {
        match updates.next().await.unwrap() {
            Event::Update(update) => seen.push(update.cursor),
            Event::CaughtUp => break,
            other @ (Event::Long(_) | Event::Gap(_) | Event::Lost { .. }) => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [17, 20]);
    heard.join().unwrap();
}

#[test]
fn a_program_without_a_runtime_does_the_same() {
    let (options, heard) = agent(vec![vec![
        ("binary 2 web", "250 web inferno:7:1\r\n"),
        ("statistics", "250-links 4 links that are up\r\n250 1 figures\r\n"),
    ]]);
    let client = blocking::Client::connect(options).unwrap();
    client.publish(&["web".parse().unwrap()], "hi").unwrap();
    assert_eq!(client.statistics().unwrap()[0].value, 4);
    heard.join().unwrap();
}

#[test]
fn without_a_runtime_readers_are_set_back_and_subscriptions_closed() {
    let (options, heard) = agent(vec![
        vec![],
        vec![("binary 3 web key=", "")],
        vec![("binary 3 web key=", "250 web inferno:7:1\r\n")],
        vec![
            ("subscribe web name=deploy", "250 web 4\r\n150 web 5 inferno:7:1 0 3\r\nabc\r\n"),
            ("ack web 5", "250 web 5\r\n"),
            ("quit", "221 good-bye\r\n"),
        ],
    ]);
    let client = blocking::Client::connect(options).unwrap();
    let web = "web".parse().unwrap();
    let mut reader = std::io::Cursor::new(b"abc");
    let published = client.publish_from(&[web], 3, &mut reader).unwrap();
    assert_eq!(published.ids[0].1.sequence, 1);
    let wanted = Subscribe::to("web".parse().unwrap()).named("deploy");
    let mut updates = client.subscribe(wanted).unwrap();
    assert_eq!((updates.group().as_str(), updates.cursor()), ("web", 4));
    let Some(Ok(Event::Update(update))) = updates.next() else { panic!("there is one") };
    updates.ack(&update).unwrap();
    assert_eq!(updates.cursor(), 5);
    updates.close().unwrap();
    assert!(heard.join().unwrap()[3].starts_with("ack web 5"), "acknowledged before it closed");
}

#[test]
fn nobody_there_is_said_after_the_patience() {
    let options = Options::to("127.0.0.1:1".parse().unwrap()).patience(Duration::ZERO);
    let error = blocking::Client::connect(options).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(error.to_string(), "no agent answers at plain:127.0.0.1:1");
}

/// What a channel's agent is asked, and what it says after that.
fn channel_agent(connections: Vec<(&'static str, Vec<u8>)>) -> (Options, JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let heard = std::thread::spawn(move || {
        // The client's own connection, which stays idle.
        let (mut first, _) = listener.accept().unwrap();
        first.write_all(GREETING).unwrap();
        let mut heard = Vec::new();
        for (expected, answer) in connections {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(GREETING).unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            assert_eq!(line, expected);
            stream.write_all(&answer).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            lines.read_to_end(&mut rest).unwrap();
            heard.push(rest);
        }
        heard
    });
    (Options::to(server.parse().unwrap()), heard)
}

#[tokio::test]
async fn a_channel_is_asked_for_again_until_there_is_an_answer_and_its_end_is_known() {
    let served = b"255 mirror channel open; its bytes follow\r\n\0\0\0\x05hello\0\0\0\x01!\0\0\0\0";
    let (options, heard) = channel_agent(vec![
        ("serve sync framed\r\n", Vec::new()),
        ("serve sync framed\r\n", b"421 the agent stops\r\n".to_vec()),
        ("serve sync framed\r\n", served.to_vec()),
    ]);
    let client = Client::connect(options).await.unwrap();
    let mut channel = client.serve(&"sync".parse().unwrap()).await.unwrap();
    assert_eq!(channel.node().as_str(), "mirror");
    let mut said = String::new();
    channel.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "hello!");
    channel.write_all(b"in step").await.unwrap();
    channel.shutdown().await.unwrap();
    assert!(channel.write(b"more").await.is_err(), "it has said all");
    drop(channel);
    let heard = heard.join().unwrap();
    assert_eq!(heard, [&b""[..], b"", b"\0\0\0\x07in step\0\0\0\0"]);
}

#[tokio::test]
async fn a_channel_that_broke_off_is_not_taken_for_one_that_ended() {
    let open = b"255 mirror channel open; its bytes follow\r\n".to_vec();
    let with = |bytes: &[u8]| [&open[..], bytes].concat();
    let asked = "channel mirror sync framed\r\n";
    let (options, heard) = channel_agent(vec![
        (asked, with(b"")),
        (asked, with(b"\0\0\0")),
        (asked, with(b"\0\0\0\x05hel")),
        (asked, with(b"\0\0\0\x03hel")),
        (asked, b"454 no way leads to mirror\r\n".to_vec()),
    ]);
    let client = Client::connect(options).await.unwrap();
    let (node, name) = ("mirror".parse().unwrap(), "sync".parse().unwrap());
    for expected in ["", "", "hel", "hel"] {
        let mut channel = client.channel(&node, &name).await.unwrap();
        let mut said = Vec::new();
        let error = channel.read_to_end(&mut said).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        assert_eq!(said, expected.as_bytes());
    }
    let error = client.channel(&node, &name).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: 454, .. }), "{error}");
    drop(client);
    heard.join().unwrap();
}

#[test]
fn threads_share_a_channel_without_a_runtime() {
    let open = b"255 mirror channel open; its bytes follow\r\n\0\0\0\x02hi\0\0\0\0".to_vec();
    let (options, heard) = channel_agent(vec![("channel mirror sync framed\r\n", open)]);
    let client = blocking::Client::connect(options).unwrap();
    let channel = client.channel(&"mirror".parse().unwrap(), &"sync".parse().unwrap()).unwrap();
    let mut writer = channel.writer;
    let writing = std::thread::spawn(move || {
        writer.write_all(b"hello").unwrap();
        writer.end().unwrap();
    });
    let (mut reader, mut said) = (channel.reader, String::new());
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hi");
    writing.join().unwrap();
    drop(reader);
    assert_eq!(heard.join().unwrap(), [b"\0\0\0\x05hello\0\0\0\0".to_vec()]);
}

#[tokio::test]
async fn a_long_update_is_read_again_when_the_connection_breaks_and_keeps_its_key() {
    let (options, heard) = agent(vec![
        vec![],
        vec![("binary 3 web key=", "")],
        vec![("binary 3 web key=", "452 too many long updates come in at once\r\n")],
        vec![("binary 3 web key=", "250 web inferno:7:1\r\n")],
    ]);
    let client = Client::connect(options).await.unwrap();
    let web = ["web".parse().unwrap()];
    let published = client.publish_from(&web, 3, std::io::Cursor::new(b"abc")).await.unwrap();
    assert_eq!(published.ids[0].1.sequence, 1);
    let heard = heard.join().unwrap();
    assert!(heard[0].ends_with(":1\r\nabc") && heard[0] == heard[1] && heard[1] == heard[2]);
}

#[tokio::test]
async fn a_long_update_is_refused_while_it_is_sent_and_one_that_is_shorter_than_it_said_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let agent = std::thread::spawn(move || {
        let _first = listener.accept().map(|(mut stream, _)| stream.write_all(GREETING)).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(GREETING).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        lines.read_line(&mut String::new()).unwrap();
        // More is to come than would be read to its end.
        stream.write_all(b"552 an update has at most 8 MiB; closing\r\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let said = lines.bytes().count();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(GREETING).unwrap();
        drop(stream.read_to_end(&mut Vec::new()));
        said
    });
    let client = Client::connect(Options::to(server.parse().unwrap())).await.unwrap();
    let body = std::io::Cursor::new(vec![b'x'; 100 << 20]);
    let error = client.publish_from(&[], 100 << 20, body).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: 552, .. }), "{error}");
    let error = client.publish_from(&[], 4, std::io::Cursor::new(b"abc")).await.unwrap_err();
    assert!(matches!(error, Error::Source(_)), "{error}");
    assert!(agent.join().unwrap() < 50 << 20, "it was not sent to its end");
}

#[tokio::test]
async fn a_long_update_comes_in_parts_and_again_where_it_broke_off() {
    let (mut options, heard) = agent(vec![
        vec![],
        vec![("subscribe web", "250 web 4\r\n150 web 5 inferno:7:1 0 6\r\nabc")],
        vec![(
            "subscribe web from=4",
            "250 web 4\r\n150 web 5 inferno:7:1 0 6\r\nabcdef\r\n150 web 6 inferno:7:2 0 5\r\n\
             dropp\r\n150 web 7 inferno:7:3 0 1\r\nx\r\n",
        )],
    ]);
    options.whole_max = 4;
    let client = Client::connect(options).await.unwrap();
    let mut updates = client.subscribe(Subscribe::to("web".parse().unwrap())).await.unwrap();
    let Event::Long(long) = updates.next().await.unwrap() else { panic!("it is long") };
    assert_eq!((long.cursor, long.size, updates.cursor()), (5, 6, 4));
    assert_eq!(updates.part().await.unwrap().unwrap(), "abc");
    assert!(matches!(updates.part().await, Err(Error::BrokenOff { .. })));
    let again = updates.next().await.unwrap();
    assert_eq!(again, Event::Long(long));
    let mut body = Vec::new();
    while let Some(part) = updates.part().await.unwrap() {
        body.extend_from_slice(&part);
    }
    assert_eq!((&body[..], updates.cursor()), (&b"abcdef"[..], 5));
    // What is not wanted is passed over.
    assert!(matches!(updates.next().await.unwrap(), Event::Long(long) if long.cursor == 6));
    let Event::Update(last) = updates.next().await.unwrap() else { panic!("it is short") };
    assert_eq!(last.cursor, 7);
    heard.join().unwrap();
}
