//! The port over real sockets, with an agent that keeps its log in a list.

mod long;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use skep_base::{Digest, GroupName, Trail};
use skep_export::{Came, judge};
use skep_lines::{Id, Keys, Logged, Update};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::long::Files;
use crate::{
    Answer, Ask, Caller, ClientId, ClientPort, Config, Content, Host, Joined, Listeners, LocalEnd,
    Provenance, Publication, Push, Pushed, Pusher, Refusal, Who, asks, start,
};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the agent was asked to flood, in its order.
type Log = Arc<Mutex<Vec<(Vec<GroupName>, Bytes)>>>;

struct Place {
    port: Option<ClientPort>,
    address: SocketAddr,
    log: Log,
    exits: Arc<Mutex<Vec<Who>>>,
    /// Subscriptions that the agent was asked for.
    subscribed: Arc<AtomicUsize>,
    may_exit: Arc<AtomicBool>,
    /// Whoever connects belongs to the export command of the group web.
    commanded: Arc<AtomicBool>,
    runtime: tokio::runtime::Runtime,
    files: Files,
}

/// Whether clients are programs of an export command.
struct Commands(Arc<AtomicBool>);

impl Provenance for Commands {
    fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn of(&self, caller: Caller) -> Vec<Came> {
        assert!(matches!(caller, Caller::Tcp { theirs, .. } if theirs.ip().is_loopback()));
        vec![Came { through: Trail::none(), of: "web".parse().unwrap(), sure: true }]
    }
}

impl Place {
    fn new(config: Config) -> Self {
        let files = Files::new();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (ask, asked) = asks();
        let (log, exits) = (Log::default(), Arc::default());
        let may_exit = Arc::new(AtomicBool::new(false));
        let allowed = Arc::clone(&may_exit);
        let commanded = Arc::new(AtomicBool::new(false));
        let subscribed = Arc::new(AtomicUsize::new(0));
        let seen = (Arc::clone(&exits), Arc::clone(&subscribed));
        runtime.spawn(agent(asked, (Arc::clone(&log), files.clone()), seen));
        let host = Host {
            node: "inferno".parse().unwrap(),
            version: "0.0.0".to_owned(),
            spools: Arc::new(files.clone()),
            may_exit: Arc::new(move |who| {
                matches!(who, Who::Plain(_)) && allowed.load(Ordering::Relaxed)
            }),
            provenance: Arc::new(Commands(Arc::clone(&commanded))),
        };
        let listeners = Listeners { plain: vec![listener], ..Listeners::default() };
        let port = {
            let _inside = runtime.enter();
            start(listeners, None, config, host, ask).unwrap()
        };
        Self {
            port: Some(port),
            address,
            log,
            exits,
            subscribed,
            may_exit,
            commanded,
            runtime,
            files,
        }
    }

    fn client(&self) -> Client {
        Client::new(TcpStream::connect(self.address).unwrap())
    }

    fn logged(&self) -> Vec<String> {
        let text = |(groups, body): &(Vec<GroupName>, Bytes)| {
            let groups: Vec<&str> = groups.iter().map(GroupName::as_str).collect();
            format!("{}: {}", groups.join("+"), String::from_utf8_lossy(body))
        };
        self.log.lock().unwrap().iter().map(text).collect()
    }
}

type Waits = BTreeMap<skep_base::ChannelName, oneshot::Sender<Result<Joined, Refusal>>>;

fn join_channels(serving: &mut Waits, ask: Ask) {
    match ask {
        Ask::Serve { name, reply } => drop(serving.insert(name, reply)),
        Ask::Channel { node, name, reply } => {
            let waits = serving.remove(&name).filter(|waits| !waits.is_closed());
            drop(match waits {
                Some(waits) => {
                    let (one, other) = LocalEnd::pair();
                    let from = "mirror".parse().unwrap();
                    drop(waits.send(Ok(Joined { node: from, stream: Box::new(one) })));
                    reply.send(Ok(Joined { node, stream: Box::new(other) }))
                }
                None => reply.send(Err(Refusal::new(550, "nobody serves it there"))),
            });
        }
        other @ (Ask::Publish(_)
        | Ask::Group { .. }
        | Ask::Groups(_)
        | Ask::Statistics(_)
        | Ask::Topology { .. }
        | Ask::Nearest(_)
        | Ask::Subscribe { .. }
        | Ask::Ack { .. }
        | Ask::Unsubscribe { .. }
        | Ask::Forget { .. }
        | Ask::Exit { .. }) => panic!("{other:?} is about no channel"),
    }
}

/// The groups of the agent.
const KNOWN: [&str; 2] = ["web", "all"];

fn missing(group: &GroupName) -> Refusal {
    Refusal::new(550, format!("no group {group}"))
}

fn id(sequence: usize) -> Id {
    Id { origin: "inferno".parse().unwrap(), incarnation: 7, sequence: sequence as u64 }
}

/// Puts an update into the log of the agent, or refuses it.
fn take(publication: Publication, keys: &mut Keys, log: &Log, files: &Files) {
    let Publication { groups, key, trail, came, body, slot, .. } = publication;
    let body = match &body {
        Content::Here(bytes) => bytes.clone(),
        Content::LaidDown(laid) => {
            let bytes = files.read(laid.number());
            assert_eq!((bytes.len() as u64, Digest::of(&bytes)), (laid.length(), laid.digest()));
            bytes.into()
        }
    };
    let everywhere = || KNOWN.iter().rev().map(|name| name.parse().unwrap()).collect();
    let groups: Vec<GroupName> = if groups.is_empty() { everywhere() } else { groups };
    if let Some(wrong) = groups.iter().find(|group| !KNOWN.contains(&group.as_str())) {
        return slot.answer(Err(missing(wrong)));
    }
    if let Err(looped) = judge(&trail, &came, groups.clone(), true) {
        return slot.answer(Err(Refusal::new(555, looped.to_string())));
    }
    if &body[..] == b"later" {
        return slot.answer(Err(Refusal::new(450, "not yet")));
    }
    let mut log = log.lock().unwrap();
    let at = match key.as_ref().map(|key| keys.find(key)) {
        Some(skep_lines::Found::Logged(logged)) => usize::try_from(logged[0].first).unwrap(),
        _ => {
            log.push((groups.clone(), body));
            log.len()
        }
    };
    if let Some(key) = &key {
        keys.note(key, Logged { incarnation: 7, first: at as u64, groups: 1, of: 1 });
    }
    let ids = groups.into_iter().map(|group| (group, id(at))).collect();
    slot.answer(Ok(Answer::Published(ids)));
}

/// An agent in few words: groups `web` and `all`, the body `later` is refused for now.
async fn agent(
    mut asked: mpsc::Receiver<Ask>,
    (log, files): (Log, Files),
    (exits, subscribed): (Arc<Mutex<Vec<Who>>>, Arc<AtomicUsize>),
) {
    let mut keys = Keys::new();
    let mut followers: BTreeMap<(ClientId, GroupName), (Pusher, usize)> = BTreeMap::new();
    let mut serving = Waits::new();
    while let Some(ask) = asked.recv().await {
        match ask {
            Ask::Publish(batch) => {
                for publication in batch {
                    take(publication, &mut keys, &log, &files);
                }
            }
            Ask::Subscribe { client, subscribe, pusher, slot } => {
                let group = subscribe.group;
                subscribed.fetch_add(1, Ordering::Relaxed);
                slot.answer(Ok(Answer::Place { group: group.clone(), cursor: 0 }));
                followers.insert((client, group), (pusher, 0));
            }
            Ask::Ack { client, group, cursor, slot } => {
                if let Some((_, at)) = followers.get_mut(&(client, group.clone())) {
                    *at = usize::try_from(cursor).unwrap();
                }
                if let Some(slot) = slot {
                    slot.answer(Ok(Answer::Place { group, cursor }));
                }
            }
            Ask::Unsubscribe { client, group, slot } => {
                followers.remove(&(client, group));
                if let Some(slot) = slot {
                    slot.answer(Ok(Answer::Done("no more".to_owned())));
                }
            }
            Ask::Exit { who, slot } => {
                exits.lock().unwrap().push(who);
                slot.answer(Ok(Answer::Done("stopping".to_owned())));
            }
            Ask::Statistics(slot) => slot.answer(Ok(Answer::Statistics(Vec::new()))),
            Ask::Groups(slot) => slot.answer(Ok(Answer::Groups(Vec::new()))),
            Ask::Nearest(slot) => slot.answer(Ok(Answer::Nearest(Vec::new()))),
            Ask::Group { group, slot } | Ask::Topology { group, slot } => {
                slot.answer(Err(missing(&group)));
            }
            Ask::Forget { slot, .. } => drop(slot),
            channel @ (Ask::Serve { .. } | Ask::Channel { .. }) => {
                join_channels(&mut serving, channel);
            }
        }
        for ((_, group), (pusher, at)) in &mut followers {
            let log = log.lock().unwrap();
            let more = log.iter().enumerate().skip(*at).take(64);
            let more: Vec<Pushed> = more
                .map(|(at, (_, body))| {
                    let (here, stored) = long::stored(body);
                    let (group, cursor, id) = (group.clone(), at as u64 + 1, id(at + 1));
                    let update = Update { group, cursor, id, age_ms: 0, late: false, body: here };
                    Pushed { update, stored }
                })
                .collect();
            // One batch before the next acknowledgement.
            if !more.is_empty() {
                pusher.push(Push::Updates { updates: more, gaps: Vec::new() });
                *at = usize::MAX;
            }
        }
    }
}

struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self { reader: BufReader::new(stream) };
        assert_eq!(client.line(), "220 inferno skep 0.0.0 client/1 ready; try help");
        client
    }

    fn say(&mut self, text: impl AsRef<[u8]>) {
        self.reader.get_mut().write_all(text.as_ref()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert!(line.ends_with("\r\n") || line.is_empty(), "{line:?}");
        line.trim_end().to_owned()
    }

    #[track_caller]
    fn expect(&mut self, lines: &[&str]) {
        for expected in lines {
            assert_eq!(self.line(), *expected);
        }
    }

    /// Everything up to the end of the connection.
    fn rest(mut self) -> String {
        let mut rest = String::new();
        self.reader.read_to_string(&mut rest).unwrap();
        rest
    }
}

#[test]
fn a_person_may_use_either_line_end_and_send_ahead() {
    let place = Place::new(Config::default());
    let mut client = place.client();
    client.say("data web\r\nhello\r\n..\r\n.\r\ndata\nhi\n.\nbinary 4 web\n.\n\r\nnoop\nQUIT\r\n");
    client.expect(&[
        "354 end with a line that holds one dot",
        "250 web inferno:7:1",
        "354 end with a line that holds one dot",
        "250-all inferno:7:2",
        "250 web inferno:7:2",
        "250 web inferno:7:3",
        "250 still here",
        "221 good-bye",
    ]);
    assert_eq!(client.rest(), "");
    assert_eq!(place.logged(), ["web: hello\r\n.\r\n", "all+web: hi\n", "web: .\n\r\n"]);
}

#[test]
fn what_is_sent_before_the_end_is_answered_though_the_client_says_no_more() {
    let place = Place::new(Config::default());
    let mut client = place.client();
    let many = 5 * crate::MAX_PIPELINE;
    client.say("binary 1 web\nx".repeat(many));
    client.reader.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest().lines().filter(|line| line.starts_with("250 web")).count(), many);
    assert_eq!(place.logged().len(), many);
}

#[test]
fn of_an_update_that_breaks_off_nothing_is_flooded() {
    let place = Place::new(Config::default());
    for open in ["data web\nhello\n", "data web\nhello\n.", "binary 10 web\nhello", "binary 10"] {
        let mut client = place.client();
        client.say(open);
        client.reader.get_ref().shutdown(Shutdown::Both).unwrap();
    }
    let mut client = place.client();
    client.say("data web\nwhole\n.\n");
    client.expect(&["354 end with a line that holds one dot", "250 web inferno:7:1"]);
    assert_eq!(place.logged(), ["web: whole\n"]);
}

#[test]
fn a_size_that_is_none_ends_the_connection_and_nothing_is_believed() {
    let place = Place::new(Config::default());
    for size in ["-1", "", "1e3", "99999999999999999999", "0x10"] {
        let mut client = place.client();
        client.say(format!("binary {size}\nexit\ndata web\nx\n.\n"));
        let rest = client.rest();
        assert!(rest.starts_with("501 binary wants a number of bytes"), "{size}: {rest}");
        assert_eq!(rest.lines().count(), 1, "{size}: {rest}");
    }
    assert!(place.logged().is_empty() && place.exits.lock().unwrap().is_empty());
}

#[test]
fn an_update_over_the_limit_is_refused_and_the_next_is_taken() {
    let config = Config { body_max: 100, ..Config::default() };
    let place = Place::new(config);
    let mut client = place.client();
    let long = "x".repeat(101);
    client.say(format!(
        "binary 101 web\n{long}data web\n{long}\n.\nbinary 100 web\n{}",
        "x".repeat(100)
    ));
    let refused = "552 an update has at most 100 B: nothing was flooded";
    client.expect(&[refused, "354 end with a line that holds one dot", refused]);
    client.expect(&["250 web inferno:7:1"]);
    client.say("binary 9999999999 web\n");
    assert!(client.line().starts_with("552 an update has at most 100 B"));
    assert_eq!(client.rest(), "", "what cannot be read to its end ends the connection");
}

#[test]
fn the_body_of_a_wrong_command_is_no_command() {
    let place = Place::new(Config::default());
    let mut client = place.client();
    client.say("data a/b\nexit\n.\nbinary 5 a/b\nexit\ndata nowhere\nexit\n.\nnoop\n");
    let go_on = "354 end with a line that holds one dot";
    client.expect(&[go_on]);
    assert!(client.line().starts_with("501 group name"));
    assert!(client.line().starts_with("501 group name"));
    client.expect(&[go_on, "550 no group nowhere", "250 still here"]);
    assert!(place.logged().is_empty() && place.exits.lock().unwrap().is_empty());
}

#[test]
fn lines_without_end_and_bytes_that_are_none_harm_nobody() {
    let config = Config { line_max: 4096, ..Config::default() };
    let place = Place::new(config);
    let mut client = place.client();
    client.say(b"gro\0ups\n\xff\xfb\x01\nnoop\n");
    let wrong = "500 a command is printable ASCII, separated by blanks";
    client.expect(&[wrong, wrong, "250 still here"]);
    client.say("a".repeat(5000));
    assert!(client.line().starts_with("501 the line is too long"));
    assert_eq!(client.rest(), "");
    let mut client = place.client();
    client.say("data web\n\0\u{1}\0\n.\n");
    client.expect(&["354 end with a line that holds one dot", "250 web inferno:7:1"]);
    assert_eq!(place.logged(), ["web: \0\u{1}\0\n"]);
}

#[test]
fn a_silent_client_is_let_go_also_within_a_body_and_a_subscriber_is_not() {
    let config = Config { idle: Duration::from_secs(1), ..Config::default() };
    let place = Place::new(config);
    let (quiet, mut within, mut listens) = (place.client(), place.client(), place.client());
    listens.say("subscribe web\n");
    listens.expect(&["250 web 0"]);
    within.say("binary 10 web\nhel");
    assert_eq!(quiet.rest(), "421 you were silent for too long\r\n");
    assert_eq!(within.rest(), "421 you were silent for too long\r\n");
    let mut other = place.client();
    other.say("binary 1 web\nx");
    other.expect(&["250 web inferno:7:1"]);
    listens.expect(&["150 web 1 inferno:7:1 0 1", "x"]);
    assert_eq!(place.logged(), ["web: x"]);
}

#[test]
fn a_key_that_comes_again_is_logged_once() {
    let place = Place::new(Config::default());
    let mut client = place.client();
    client.say("binary 1 web key=me:1\nxbinary 1 web key=me:1\nxbinary 1 web key=me:2\ny");
    client.expect(&["250 web inferno:7:1", "250 web inferno:7:1", "250 web inferno:7:2"]);
    assert_eq!(place.logged(), ["web: x", "web: y"]);
}

#[test]
fn the_agent_is_told_which_commands_stand_behind_an_update() {
    let place = Place::new(Config::default());
    let trail = Trail::none().through(&"all".parse().unwrap());
    let mut before = place.client();
    place.commanded.store(true, Ordering::Relaxed);
    let mut client = place.client();
    client.say("binary 1 web\r\nabinary 1 all\r\nb");
    assert!(client.line().starts_with("555 this comes from the export command of group web"));
    client.expect(&["250 all inferno:7:1"]);
    // Who was there before the command began is not of it; what it says of itself counts.
    before.say(format!("binary 1 web\r\ncbinary 1 all trail={trail}\r\nd"));
    before.expect(&["250 web inferno:7:2"]);
    assert!(before.line().starts_with("555 "));
    assert_eq!(place.logged(), ["all: b", "web: c"]);
}

#[test]
fn a_subscriber_is_given_a_batch_and_gets_the_next_for_its_acknowledgement() {
    let place = Place::new(Config::default());
    let mut client = place.client();
    client.say("subscribe web name=deploy\nsubscribe web\nack web 1\nack all 1\n");
    client.expect(&[
        "250 web 0",
        "503 you are subscribed to web already",
        "503 1 was not given yet: web is at 0",
        "503 you are not subscribed to all",
    ]);
    client.say("binary 1 web\nx");
    client.expect(&["250 web inferno:7:1", "150 web 1 inferno:7:1 0 1", "x"]);
    client.say("binary 1 web\nybinary 1 web\nz");
    client.expect(&["250 web inferno:7:2", "250 web inferno:7:3"]);
    client.say("ack web 1\n");
    client.expect(&[
        "250 web 1",
        "150 web 2 inferno:7:2 0 1",
        "y",
        "150 web 3 inferno:7:3 0 1",
        "z",
    ]);
    client.say("unsubscribe web\nunsubscribe web\n");
    client.expect(&["250 no more", "503 you are not subscribed to web"]);
}

#[test]
fn only_whom_the_configuration_names_may_stop_the_agent() {
    let place = Place::new(Config::default());
    let mut client = place.client();
    client.say("exit\n");
    let line = client.line();
    assert!(line.starts_with("553 this agent's configuration does not let you"), "{line}");
    assert!(place.exits.lock().unwrap().is_empty());
    place.may_exit.store(true, Ordering::Relaxed);
    client.say("exit\n");
    client.expect(&["250 stopping"]);
    assert_eq!(place.exits.lock().unwrap().len(), 1);
}

#[test]
fn clients_over_the_limit_are_told_so() {
    let config = Config { clients: 3, ..Config::default() };
    let place = Place::new(config);
    let served: Vec<Client> = (0..3).map(|_| place.client()).collect();
    let mut turned_away = BufReader::new(TcpStream::connect(place.address).unwrap());
    let mut said = String::new();
    turned_away.read_to_string(&mut said).unwrap();
    assert_eq!(said, "421 inferno serves 3 clients already\r\n");
    drop(served);
    // A place that is given back is given to the next; the server sees the end when it reads it.
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let mut line = String::new();
        BufReader::new(TcpStream::connect(place.address).unwrap()).read_line(&mut line).unwrap();
        if line.starts_with("220 ") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{line}");
    }
}

#[test]
fn one_who_takes_nothing_delays_nobody_and_is_cut_off() {
    let config = Config { stall: Duration::from_secs(1), ..Config::default() };
    let place = Place::new(config);
    let mut slow = place.client();
    slow.say("subscribe web\n");
    slow.expect(&["250 web 0"]);
    // From here on it reads nothing, and its socket fills.
    let body = vec![b'x'; 1 << 20];
    let mut quick = place.client();
    for number in 1..=40 {
        quick.say(format!("binary {} web\n", body.len()));
        quick.say(&body);
        quick.expect(&[&format!("250 web inferno:7:{number}")]);
    }
    quick.say("statistics\n");
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let line = quick.line();
        if line.starts_with("250-clients_too_slow 1 ") {
            break;
        }
        if line.starts_with("250 ") {
            assert!(std::time::Instant::now() < deadline, "never cut off");
            quick.say("statistics\n");
        }
    }
}

#[test]
fn a_thousand_clients_publish_and_listen_at_once() {
    let config = Config { clients: 1100, ..Config::default() };
    let place = Place::new(config);
    let mut clients: Vec<Client> = (0..1000).map(|_| place.client()).collect();
    for client in &mut clients {
        client.say("subscribe web\n");
    }
    for client in &mut clients {
        client.expect(&["250 web 0"]);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        if number % 100 == 0 {
            client.say(format!("binary 3 web\n{number:03}"));
        }
    }
    for client in &mut clients {
        let mut heard = 0;
        while heard < 10 {
            heard += usize::from(client.line().starts_with("150 web "));
        }
    }
    assert_eq!(place.logged().len(), 10);
}

#[test]
fn clients_are_told_when_the_agent_stops() {
    let mut place = Place::new(Config::default());
    let client = place.client();
    let port = place.port.take().unwrap();
    let told = std::thread::spawn(move || client.rest());
    place.runtime.block_on(port.stop());
    assert_eq!(told.join().unwrap(), "421 the agent stops: connect again in a moment\r\n");
    assert!(TcpStream::connect(place.address).is_err(), "nobody listens any more");
}

#[test]
fn a_connection_becomes_a_channel_with_all_that_was_sent_ahead() {
    let place = Place::new(Config::default());
    let mut one = place.client();
    one.say("serve sync\nhello from one");
    let mut two = place.client();
    // What was asked before is answered before; what comes after is no command. This connection may
    // be heard before the other; then it ends by its quit, and another is tried.
    loop {
        two.say("noop\nchannel inferno sync\nquit\r\n");
        two.expect(&["250 still here"]);
        match two.line().as_str() {
            "255 inferno channel open; its bytes follow" => break,
            "550 nobody serves it there" => two = place.client(),
            other => panic!("{other}"),
        }
    }
    one.expect(&["255 mirror channel open; its bytes follow", "quit"]);
    let mut greeting = [0; 14];
    two.reader.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"hello from one");
    let long = vec![7; 3 << 20];
    let sent = long.clone();
    let mut writer = two.reader.get_ref().try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    one.reader.read_to_end(&mut got).unwrap();
    assert!(got == long, "{} bytes came", got.len());
    writing.join().unwrap();
    // The other direction is open until it ends as well.
    one.say("bye");
    drop(one);
    assert_eq!(two.rest(), "bye");
}

/// Everything that is left of a framed channel: its bytes, and whether their end was said.
fn pieces(mut client: Client) -> (Vec<u8>, bool) {
    let mut raw = Vec::new();
    client.reader.read_to_end(&mut raw).unwrap();
    let (mut rest, mut bytes) = (&raw[..], Vec::new());
    while let Some((length, more)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 {
            assert_eq!(more, [0; 0], "something follows the end");
            return (bytes, true);
        }
        bytes.extend_from_slice(&more[..length]);
        rest = &more[length..];
    }
    (bytes, false)
}

#[test]
fn a_framed_channel_tells_its_end_from_breaking_off() {
    let place = Place::new(Config::default());
    let open = |how: [&str; 2]| {
        let (mut one, mut two) = (place.client(), place.client());
        one.say(format!("serve sync{}\n\0\0\0\x05hel", how[0]));
        one.say("lo\0\0\0\0");
        // The other connection may be heard first.
        loop {
            two.say(format!("channel inferno sync{}\n", how[1]));
            match two.line().as_str() {
                "550 nobody serves it there" => {}
                line => break assert_eq!(line, "255 inferno channel open; its bytes follow"),
            }
        }
        one.expect(&["255 mirror channel open; its bytes follow"]);
        (one, two)
    };
    let (one, mut two) = open([" framed", " FRAMED"]);
    let long = vec![7; 1 << 20];
    let writing = std::thread::spawn(move || pieces(one));
    for part in long.chunks(300_000) {
        two.say(u32::try_from(part.len()).unwrap().to_be_bytes());
        two.say(part);
    }
    two.say([0; 4]);
    assert_eq!(pieces(two), (b"hello".to_vec(), true));
    assert!(writing.join().unwrap() == (long, true));

    // In the middle of a piece, and between two.
    for cut in [&b"\0\0\0\x09hel"[..], b"\0\0\0\x03hel"] {
        let (one, mut two) = open([" framed", " framed"]);
        two.say(cut);
        drop(two);
        let (bytes, ended) = pieces(one);
        assert!(!ended && b"hel".starts_with(&bytes), "{bytes:?}");
    }
}

#[test]
fn a_channel_that_is_not_served_leaves_the_connection_as_it_was() {
    let place = Place::new(Config::default());
    let mut gone = place.client();
    gone.say("serve sync\n");
    gone.reader.get_ref().shutdown(Shutdown::Both).unwrap();
    let mut client = place.client();
    client.say("channel inferno other\nchannel inferno\nserve a b\nnoop\nsubscribe web\nserve x\n");
    client.expect(&[
        "550 nobody serves it there",
        "501 the channel's name is missing; usage: channel NODE NAME [framed]",
        "501 \"b\" is too much; usage: serve NAME [framed]",
        "250 still here",
        "250 web 0",
        "503 you are subscribed: open the channel over a connection of its own",
    ]);
}
