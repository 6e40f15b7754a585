//! Long bodies: laid down as they come in, and read from their files as they go out.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use skep_base::tree;

use super::*;
use crate::{Laid, Laying, Spools, StoredBody};

/// Spool files in a directory that is there as long as anybody knows it.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    dir: Arc<tempfile::TempDir>,
    full: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
}

struct Coming {
    file: File,
    growing: tree::Growing,
    number: u64,
    gone: Gone,
}

/// Removes the file.
struct Gone(PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

impl Files {
    pub(crate) fn new() -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self { dir, full: Arc::default(), next: Arc::default() }
    }

    pub(crate) fn read(&self, number: u64) -> Vec<u8> {
        fs::read(self.path(number)).unwrap()
    }

    pub(crate) fn count(&self) -> usize {
        fs::read_dir(self.dir.path()).unwrap().count()
    }

    pub(crate) fn fill_up(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.path().join(number.to_string())
    }
}

impl Spools for Files {
    fn begin(&self) -> io::Result<Box<dyn Laying>> {
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let file = File::create_new(self.path(number))?;
        let gone = Gone(self.path(number));
        Ok(Box::new(Coming { file, growing: tree::Growing::new(), number, gone }))
    }
}

impl Laying for Coming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.growing.update(bytes);
        self.file.write_all(bytes)
    }

    fn finish(self: Box<Self>) -> io::Result<Laid> {
        let Self { growing, number, gone, .. } = *self;
        Ok(Laid { number, digest: growing.finish().1, keep: Box::new(gone) })
    }
}

/// What the agent pushes of a body: one of more than a mebibyte is in a file, unless the log has
/// made room.
pub(super) fn stored(body: &Bytes) -> (Bytes, Option<StoredBody>) {
    if body.len() <= 1 << 20 {
        return (body.clone(), None);
    }
    let (length, body) = (body.len() as u64, body.clone());
    let open = Box::pin(async move {
        if body.starts_with(b"gone") {
            return None;
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&body).unwrap();
        Some(file)
    });
    (Bytes::new(), Some(StoredBody { length, open }))
}

fn long_body() -> Vec<u8> {
    (0..3_000_000_u32).flat_map(|n| (n % 251).to_le_bytes()).take(5 << 20).collect()
}

#[test]
fn a_long_body_is_spooled_and_comes_whole() {
    let place = Place::new(Config::default());
    let mut client = place.client();
    let body = long_body();
    client.say(format!("binary {} web\n", body.len()));
    client.say(&body[..1 << 20]);
    // It comes in; nobody else minds.
    let mut other = place.client();
    other.say("data web\nshort\n.\n");
    other.expect(&["354 end with a line that holds one dot", "250 web inferno:7:1"]);
    client.say(&body[1 << 20..]);
    client.expect(&["250 web inferno:7:2"]);
    assert_eq!(place.log.lock().unwrap()[1].1, body);
    assert_eq!(place.files.count(), 0);
}

#[test]
fn a_spool_that_is_full_turns_updates_away_and_gives_room_back() {
    let config = Config { spool: 8 << 20, body_max: 8 << 20, ..Config::default() };
    let place = Place::new(config);
    let (mut first, mut second) = (place.client(), place.client());
    first.say("binary 6000000 web\n");
    first.say(vec![b'a'; 5_900_000]);
    // Its answers come when what it sent before was taken in.
    let mut statistics = place.client();
    loop {
        statistics.say("statistics\n");
        let mut spooled = 0;
        loop {
            let line = statistics.line();
            if let Some(rest) = line.strip_prefix("250-client_spool_bytes ") {
                spooled = rest.split(' ').next().unwrap().parse().unwrap();
            }
            if line.starts_with("250 ") {
                break;
            }
        }
        if spooled > 5_500_000 {
            break;
        }
    }
    second.say("binary 6000000 web\n");
    second.say(vec![b'b'; 6_000_000]);
    assert!(second.line().starts_with("452 too many long updates come in at once"));
    first.say(vec![b'a'; 100_000]);
    first.expect(&["250 web inferno:7:1"]);
    second.say("binary 6000000 web\n");
    second.say(vec![b'b'; 6_000_000]);
    second.expect(&["250 web inferno:7:2"]);
}

#[test]
fn of_a_long_body_that_breaks_off_nothing_is_left_and_nothing_flooded() {
    let place = Place::new(Config::default());
    let mut client = place.client();
    client.say("binary 3000000 web\n");
    client.say(vec![b'a'; 2_000_000]);
    let begun = std::time::Instant::now();
    while place.files.count() == 0 {
        assert!(begun.elapsed() < PATIENCE, "it is not laid down");
        std::thread::yield_now();
    }
    client.reader.get_ref().shutdown(Shutdown::Both).unwrap();
    while place.files.count() > 0 {
        assert!(begun.elapsed() < PATIENCE, "it is still there");
        std::thread::yield_now();
    }
    assert!(place.logged().is_empty());
}

#[test]
fn a_disk_that_is_full_refuses_a_long_update_and_takes_a_short_one() {
    let place = Place::new(Config::default());
    place.files.fill_up();
    let mut client = place.client();
    client.say("binary 100000 web\n");
    client.say(vec![b'a'; 100_000]);
    client.expect(&["451 cannot keep a long update: no storage space: is the disk full?"]);
    client.say("binary 1 web\nx");
    client.expect(&["250 web inferno:7:1"]);
    // Of more than would be read to its end a client is told at once.
    client.say("binary 900000000 web\n");
    client.say(vec![b'a'; 100_000]);
    let told = "451 cannot keep a long update: no storage space: is the disk full?; closing";
    client.expect(&[told]);
}

#[test]
fn a_long_body_is_pushed_from_its_file_between_others() {
    let place = Place::new(Config::default());
    let mut client = place.client();
    let body = long_body();
    client.say("binary 3 web\noneb");
    client.say(format!("inary {} web\n", body.len()));
    client.say(&body);
    client.say("binary 2000000 web\ngone");
    client.say(vec![b'x'; 1_999_996]);
    client.say("binary 3 web\ntwo");
    for number in 1..=4 {
        client.expect(&[&format!("250 web inferno:7:{number}")]);
    }
    let mut listens = place.client();
    listens.say("subscribe web from=0\nnoop\n");
    listens.expect(&["250 web 0"]);
    let mut said = Vec::new();
    let mut rest = 5 * body.len();
    // A reply never comes between the parts of a body.
    while rest > 0 && !said.ends_with(b"\r\ntwo\r\n") {
        let mut byte = [0; 65536];
        let count = listens.reader.read(&mut byte).unwrap();
        said.extend_from_slice(&byte[..count]);
        rest = rest.saturating_sub(count);
    }
    let head = format!("150 web 2 inferno:7:2 0 {}\r\n", body.len());
    let whole = [head.as_bytes(), &body, b"\r\n153 web 1 lost\r\n"].concat();
    let at = said.windows(head.len()).position(|it| it == head.as_bytes()).unwrap();
    assert_eq!(said[at..at + whole.len()], whole[..]);
    let around = [&said[..at], &said[at + whole.len()..]].concat();
    let around = String::from_utf8(around).unwrap();
    let around: Vec<&str> = around.lines().filter(|line| *line != "250 still here").collect();
    let one = ["150 web 1 inferno:7:1 0 3", "one"];
    assert_eq!(around, [&one[..], &["150 web 4 inferno:7:4 0 3", "two"]].concat());
}

#[test]
fn what_was_pushed_to_a_subscription_that_ended_is_none_of_the_next() {
    let place = Place::new(Config::default());
    let mut publisher = place.client();
    // More than the two kernels take between them: the body is on its way when the client thinks
    // better of it.
    let long = vec![b'x'; 32 << 20];
    publisher.say(format!("binary {} web\n", long.len()));
    publisher.say(&long);
    publisher.say("binary 5 web\nshort");
    publisher.expect(&["250 web inferno:7:1", "250 web inferno:7:2"]);
    let head = format!("150 web 1 inferno:7:1 0 {}", long.len());
    let mut client = place.client();
    client.say("subscribe web name=deploy\n");
    client.expect(&["250 web 0", &head]);
    client.say("unsubscribe web\nsubscribe web name=other\nack web 1\n");
    let begun = std::time::Instant::now();
    while place.subscribed.load(Ordering::Relaxed) < 2 {
        assert!(begun.elapsed() < PATIENCE, "the agent was not asked");
        std::thread::yield_now();
    }
    let mut body = vec![0; long.len() + 2];
    client.reader.read_exact(&mut body).unwrap();
    assert!(body == [&long[..], b"\r\n"].concat());
    // The rest of the first batch is not given under the second name, nor does what was given
    // under the first count for it.
    client.expect(&["250 no more", "250 web 0", "503 1 was not given yet: web is at 0", &head]);
    client.reader.read_exact(&mut body).unwrap();
    client.expect(&["150 web 2 inferno:7:2 0 5", "short"]);
}
