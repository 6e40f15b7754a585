//! What clients may do to a real agent: a thousand at once, slow, silent, lying, gone.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::agents::{Agent, Bloc, PATIENCE};
use crate::ports;

/// As many as the requirement names.
const MANY: usize = 1000;

struct Served {
    agent: Agent,
    port: u16,
}

impl Served {
    fn new(bloc: &Bloc, more: &str) -> Self {
        let port = ports::free();
        let more = format!(
            "[groups]\nextra = [\"web\"]\n[client]\nenabled = true\nport = {port}\n\
             addresses = [\"127.0.0.1\"]\n{more}"
        );
        let mut agent = bloc.agent("inferno", "30d", &[], &more);
        agent.start();
        agent.until("it publishes", || agent.ask(&["status"])["state"] == "running");
        Self { agent, port }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(BufReader::new(stream))
    }

    fn greeted(&self) -> Client {
        let mut client = self.client();
        assert!(client.line().starts_with("220 inferno skep "));
        client
    }

    /// One of the figures that clients are told.
    fn figure(&self, name: &str) -> u64 {
        let mut client = self.greeted();
        client.say("statistics\nquit\n");
        let rest = client.rest();
        let line = rest.lines().find_map(|line| line.strip_prefix("250-")?.strip_prefix(name));
        let value = line.and_then(|line| line.split_ascii_whitespace().next());
        value.unwrap_or_else(|| panic!("no {name} in {rest}")).parse().unwrap()
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn say(&mut self, text: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(text.as_ref()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn rest(mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).unwrap();
        rest
    }
}

#[test]
fn a_thousand_clients_are_served_at_once_and_one_more_is_told_why_not() {
    let bloc = Bloc::new();
    let served = Served::new(&bloc, &format!("clients_max = {MANY}\n"));
    let mut clients: Vec<Client> = (0..MANY).map(|_| served.greeted()).collect();
    let more = served.client().rest();
    assert_eq!(more, format!("421 inferno serves {MANY} clients already\r\n"));
    // All publish, and all are answered, whoever is asked first.
    for (n, client) in clients.iter_mut().enumerate() {
        client.say(format!("binary 4 web\n{n:04}"));
    }
    let mut numbers: Vec<u64> = clients
        .iter_mut()
        .rev()
        .map(|client| {
            let line = client.line();
            let number = line.strip_prefix("250 web inferno:1:").map(str::parse);
            number.unwrap_or_else(|| panic!("{line}")).unwrap()
        })
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=MANY as u64).collect::<Vec<_>>());
    // Who goes makes room.
    drop(clients.pop());
    served.agent.until("a place is free", || served.client().line().starts_with("220 "));
}

#[test]
fn one_who_takes_nothing_delays_nobody() {
    let bloc = Bloc::new();
    let served = Served::new(&bloc, "");
    // Listens to everything, and reads none of it.
    let mut deaf = served.greeted();
    deaf.say("subscribe web from=now\n");
    assert!(deaf.line().starts_with("250 web "));
    let mut listening = served.greeted();
    listening.say("subscribe web from=now\n");
    assert!(listening.line().starts_with("250 web "));
    // More than any socket holds.
    let body = vec![b'x'; 1 << 20];
    let mut busy = served.greeted();
    for _ in 0..24 {
        busy.say(format!("binary {} web\n", body.len()));
        busy.say(&body);
        assert!(busy.line().starts_with("250 web "), "each is answered");
        let mut head = listening.line();
        while head.starts_with("152 web ") {
            head = listening.line();
        }
        assert!(head.starts_with("150 web "), "and heard: {head}");
        let mut heard = vec![0; body.len() + 2];
        listening.0.read_exact(&mut heard).unwrap();
    }
    // It is still there, and still deaf.
    assert!(served.figure("clients ") >= 3);
    drop(deaf);
}

#[test]
fn who_lies_breaks_off_or_says_nothing_floods_nothing() {
    let bloc = Bloc::new();
    let served = Served::new(&bloc, "idle_timeout = \"1s\"\nline_max = \"1KiB\"\n");
    let ended = |text: &[u8]| {
        let mut client = served.greeted();
        client.say(text);
        client.rest()
    };
    // Gone in the middle: after a line that is no end yet, within bytes, within a command.
    let halves: [&[u8]; 5] = [
        b"data web\nhalf\n..\n",
        b"data web\nhalf\n.",
        b"binary 10 web\nhalf",
        b"binary 999999999 web\nhalf",
        b"data web\r\nhalf\r\n.\r",
    ];
    for half in halves {
        let mut client = served.greeted();
        client.say(half);
        client.0.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
        let said = client.rest();
        assert!(!said.contains("250 "), "{said}");
        // And without any good-bye.
        let mut client = served.greeted();
        client.say(half);
        drop(client);
    }
    for (text, reply) in [
        (&b"binary -1 web\nquit\n"[..], "501 "),
        (b"binary 99999999999999999999 web\nquit\n", "501 "),
        (b"binary 18446744073709551615 web\nquit\n", "552 "),
        (&[b'x'; 2000][..], "501 "),
        (b"\0\0\0\nquit\n", "500 "),
        // Silent in the middle, for longer than anybody may be.
        (b"data web\nno more", "354 "),
        (b"binary 10 web\nno more", "421 "),
        (b"", "421 "),
    ] {
        let said = ended(text);
        assert!(said.starts_with(reply), "{text:?}: {said}");
        assert!(!said.contains("250 web"), "{text:?}: {said}");
    }
    served.agent.until("those that broke off are counted", || {
        served.figure("client_bodies_broken_off ") >= 2 * halves.len() as u64
    });
    assert_eq!(served.figure("client_spool_bytes "), 0, "nothing of them is left");
    let groups = ended(b"groups\nquit\n");
    let nothing = "250-web here 1 members 0 updates 0 bytes";
    assert!(groups.lines().any(|line| line == nothing), "something was flooded: {groups}");

    // A thousand lines ahead of any answer are answered all the same, and in good time.
    let since = Instant::now();
    let mut client = served.greeted();
    client.say("noop\n".repeat(5000) + "quit\n");
    assert_eq!(client.rest().lines().filter(|line| line.starts_with("250 ")).count(), 5000);
    assert!(since.elapsed() < PATIENCE.max(Duration::from_secs(60)));
}
