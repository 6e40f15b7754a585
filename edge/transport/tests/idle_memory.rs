//! What an idle link holds. Alone in its process, because it reads the process's memory.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[path = "loopback/bloc.rs"]
#[expect(dead_code, clippy::wildcard_enum_match_arm, reason = "shared with other tests")]
mod bloc;

use bloc::{Bloc, Node, frame};
use skep_transport::Config;
use skep_wire::Lane;

/// Both ends are in this process, so twice as many.
const LINKS: u64 = 256;
/// The design allows 20 KiB an end; allocators keep some more.
const MAX_BYTES_AN_END: u64 = 24 * 1024;

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Makes links one after the other: what a hundred handshakes at once leave behind in the
/// allocator is another matter.
async fn link(one: &mut Node, two: &mut Node, count: u64) {
    for number in 0..count {
        one.dial(number, two, Lane::Control);
        let (at_one, ..) = one.up().await;
        let (at_two, ..) = two.up().await;
        // As much as a link has said and heard when it falls idle.
        one.transport.send(at_one, frame(&[1; 30_000])).unwrap();
        two.transport.send(at_two, frame(&[2; 30_000])).unwrap();
        one.frame().await;
        two.frame().await;
    }
}

#[tokio::test]
async fn an_idle_link_holds_little() {
    let bloc = Bloc::new("example");
    let config = Config { max_links_per_peer: 1000, ..Config::default() };
    let (mut one, mut two) = (bloc.node_with("one", config.clone()), bloc.node_with("two", config));
    // What is needed once is not counted.
    link(&mut one, &mut two, 32).await;
    let before = resident_bytes();
    link(&mut one, &mut two, LINKS).await;
    let an_end = resident_bytes().saturating_sub(before) / (2 * LINKS);
    assert!(an_end <= MAX_BYTES_AN_END, "{an_end} bytes an end of an idle link");
}
