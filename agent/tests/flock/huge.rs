//! Updates that are larger than the memory that an agent may take: from a file of the publisher to
//! a command and a subscriber at the other end (FLOOD-32, FLOOD-41).

use std::fs::{self, File};
use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use skep_base::{Digest, tree};
use skep_client::{Event, Options, Server, Start, Subscribe, blocking};

use crate::agents::{Agent, Bloc};
use crate::large::{PIECE_BYTES, kept, received};
use crate::ports;

const MIB: u64 = 1 << 20;
/// Of the update.
const BODY_BYTES: u64 = 300 * MIB;
/// What an agent may have in memory at any moment of its life, whatever it floods: what it is made
/// of, the pieces on their way, and what waits in the queues of its links. The update is three
/// times as large.
const PEAK_BYTES: u64 = 100 * MIB;

/// A file in which each piece is another; gives its digest.
fn huge_file(path: &Path) -> Digest {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()
    };
    let mut block: Vec<u8> = (0..MIB / 8).flat_map(|_| next()).collect();
    let (mut file, mut growing) = (File::create(path).unwrap(), tree::Growing::new());
    for _ in 0..BODY_BYTES / MIB {
        for piece in block.chunks_mut(256 << 10) {
            piece[..8].copy_from_slice(&next());
        }
        file.write_all(&block).unwrap();
        growing.update(&block);
    }
    growing.finish().1
}

fn digest_of(path: &Path) -> Digest {
    let (mut file, mut growing) = (File::open(path).unwrap(), tree::Growing::new());
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return growing.finish().1,
            count => growing.update(&buffer[..count]),
        }
    }
}

/// The first update that a subscriber of the agent gets, as it comes.
fn digest_at_subscriber(agent: &Agent) -> (u64, Digest) {
    let server = Server::Unix(agent.dir.join("sock-client.sock"));
    let client = blocking::Client::connect(Options::to(server)).unwrap();
    let from_first = Subscribe::to("web".parse().unwrap()).from(Start::First);
    let mut updates = client.subscribe(from_first).unwrap();
    let Event::Long(long) = updates.next().unwrap().unwrap() else { panic!("it is long") };
    let mut growing = tree::Growing::new();
    while let Some(part) = updates.part().unwrap() {
        growing.update(&part);
    }
    (long.size, growing.finish().1)
}

/// Whether the update is in the log.
fn holds(agent: &Agent) -> bool {
    agent.ask(&["group", "web"])["updates"] == 1
}

fn spool_files(agent: &Agent) -> usize {
    let files = fs::read_dir(agent.dir.join("state/incoming")).unwrap().map(Result::unwrap);
    files.filter(|file| file.path().extension().is_some_and(|end| end == "spool")).count()
}

#[test]
fn what_is_larger_than_memory_is_flooded_and_handed_over_also_over_a_kill() {
    let bloc = Bloc::new();
    let groups = "[groups]\nextra = [\"web\"]\n";
    let mut source = bloc.agent("source", "30d", &[], groups);
    let mut relay = bloc.agent("relay", "30d", &[&source], groups);
    let exported = source.dir.with_file_name("exported");
    let export = format!(
        "{groups}[group.web]\nexport_command = '''cat > {0}.part && mv {0}.part {0}'''\n",
        exported.display()
    );
    let mut sink = bloc.agent("sink", "30d", &[&relay], &export);
    source.start();
    relay.start();
    let file = source.dir.with_file_name("body");
    let digest = huge_file(&file);
    let publish =
        || source.skep(&["flood", "send", "-g", "web", file.to_str().unwrap()]).status.success();
    source.until("it takes the update", publish);
    source.until("its spool is empty again", || spool_files(&source) == 0);
    relay.until("the update is here", || holds(&relay));
    sink.start();
    sink.until("a part is here", || kept(&sink) >= 50 || holds(&sink));
    let peak = sink.peak_memory();
    assert!(peak < PEAK_BYTES, "the sink had {} MiB while it received", peak / MIB);
    sink.kill();
    let before = kept(&sink);
    sink.start();
    sink.until("all is here", || holds(&sink));
    let rest = BODY_BYTES - before * PIECE_BYTES;
    let again = received(&sink);
    assert!(again < rest + rest / 50 + 16 * PIECE_BYTES, "{again} bytes for {rest}");
    sink.until("the command has it", || exported.exists());
    assert_eq!(digest_of(&exported), digest, "at the command");
    assert_eq!(digest_at_subscriber(&relay), (BODY_BYTES, digest), "at the subscriber");
    for agent in [&source, &relay, &sink] {
        let peak = agent.peak_memory();
        assert!(peak < PEAK_BYTES, "{} had {} MiB", agent.name, peak / MIB);
    }
}

#[test]
fn a_publisher_that_is_killed_while_it_receives_has_flooded_nothing() {
    let bloc = Bloc::new();
    let port = ports::free();
    let serving = format!("[client]\nenabled = true\nport = {port}\naddresses = [\"127.0.0.1\"]\n");
    let mut source = bloc.agent("source", "30d", &[], &serving);
    let mut other = bloc.agent("other", "30d", &[&source], "");
    source.start();
    other.start();
    let publish = || source.skep(&["flood", "send", "--text", "before"]).status.success();
    source.until("it takes updates", publish);
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(client, "binary {} all\r\n", 64 * MIB).unwrap();
    client.write_all(&vec![b'x'; 32 << 20]).unwrap();
    source.until("a part is laid down", || spool_files(&source) == 1);
    source.kill();
    // It is gone in the middle: nothing was said but the greeting.
    let mut said = Vec::new();
    drop(BufReader::new(client).read_to_end(&mut said));
    assert_eq!(String::from_utf8(said).unwrap().lines().count(), 1);
    assert_eq!(spool_files(&source), 1, "a kill leaves it");
    source.start();
    assert_eq!(spool_files(&source), 0, "the next start does not");
    let publish = || source.skep(&["flood", "send", "--text", "after"]).status.success();
    source.until("it takes updates again", publish);
    // Whatever was flooded before it would come before it.
    other.until("what came after is here", || other.updates().len() >= 2);
    assert_eq!(other.updates(), ["YmVmb3Jl", "YWZ0ZXI="]);
}
