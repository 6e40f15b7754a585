//! The client protocol, from both of its ends.

use bytes::BytesMut;
use skep_lines::{Command, Decoder, Event, LINE_BYTES, Reply, ReplyDecoder, Said, stuff};

use super::{Seed, Target};

/// What a client sends.
pub(super) const COMMANDS: Target = Target {
    name: "client-commands",
    decode: fuzz_commands,
    seeds: command_seeds,
    accepts: |data| matches!(events(data, data.len()).first(), Some(Event::Command(_))),
};

/// What an agent sends.
pub(super) const REPLIES: Target = Target {
    name: "client-replies",
    decode: fuzz_replies,
    seeds: reply_seeds,
    accepts: |data| said(data, data.len()).is_some_and(|said| !said.is_empty()),
};

/// Longest update that the reader of replies believes in.
const BODY_MAX: u64 = 1 << 20;

/// All events of a stream that comes in portions; parts of a body are joined.
fn events(data: &[u8], portion: usize) -> Vec<Event> {
    let (mut decoder, mut input, mut found) = (Decoder::default(), BytesMut::new(), Vec::new());
    for bytes in data.chunks(portion.max(1)) {
        input.extend_from_slice(bytes);
        while let Some(event) = decoder.next(&mut input) {
            match (found.last_mut(), event) {
                (Some(Event::Body(so_far)), Event::Body(more)) => {
                    *so_far = [&so_far[..], &more[..]].concat().into();
                }
                (_, event) => found.push(event),
            }
        }
    }
    assert!(input.len() < LINE_BYTES, "what is left over is bounded");
    found
}

fn fuzz_commands(data: &[u8]) {
    let whole = events(data, data.len());
    for portion in [1, 7] {
        assert_eq!(events(data, portion), whole, "in portions of {portion}");
    }
    let bodies = whole.iter().map(|event| match event {
        Event::Body(body) => body.len(),
        Event::Command(_) | Event::Wrong(_) | Event::BodyEnd | Event::Lost(_) => 0,
    });
    assert!(bodies.sum::<usize>() <= data.len(), "bodies come out of what came in");
    for event in &whole {
        if let Event::Command(command) = event {
            let line = command.to_string();
            assert_eq!(Command::parse(line.as_bytes()).as_ref(), Ok(command), "{line}");
        }
    }
    // Any bytes can be sent as text, and come out with at most a line end more.
    let mut wire = b"data\n".to_vec();
    stuff(data, &mut wire);
    let sent = events(&wire, wire.len());
    assert_eq!(sent.last(), Some(&Event::BodyEnd));
    if let Some(Event::Body(body)) = sent.get(1) {
        assert!(body.starts_with(data) && body.len() <= data.len() + 2);
    }
}

fn said(data: &[u8], portion: usize) -> Option<Vec<Said>> {
    let (mut decoder, mut input) = (ReplyDecoder::new(BODY_MAX), BytesMut::new());
    let mut found = Vec::new();
    for bytes in data.chunks(portion.max(1)) {
        input.extend_from_slice(bytes);
        while let Some(next) = decoder.next(&mut input).ok()? {
            found.push(next);
        }
    }
    Some(found)
}

fn fuzz_replies(data: &[u8]) {
    let whole = said(data, data.len());
    assert_eq!(said(data, 1), whole, "byte by byte");
    for said in whole.into_iter().flatten() {
        if let Said::Reply(reply) = said {
            let mut wire = Vec::new();
            reply.write(&mut wire);
            let text: String = String::from_utf8_lossy(&wire).into_owned();
            assert_eq!(text.lines().count(), reply.lines.len(), "no line breaks out of its own");
        }
    }
}

fn command_seeds() -> Vec<Seed> {
    let everything = "help\r\ngroup all\ngroups\ndata web mirror-1 key=me:1\r\nhello\r\n..\r\n.\r\n\
                      binary 5 web\nhello\nstatistics\ntopology web\nnearest\n\
                      subscribe web name=deploy from=first\nack web 17\nunsubscribe web\n\
                      forget web deploy\nnoop\nexit\nquit\n";
    vec![("everything", everything.into()), ("binary", b"binary 3 all\n\0\n.groups\n".to_vec())]
}

fn reply_seeds() -> Vec<Seed> {
    let mut wire = Vec::new();
    Reply::new(220, "inferno skep 0.0.0 client/1 ready").write(&mut wire);
    Reply::new(250, "web inferno:7:2").before("all inferno:7:1").write(&mut wire);
    wire.extend_from_slice(
        b"150 web 94 inferno:7:1042 3 5 late\r\nhello\r\n151 web 95 - inferno:7:9 gone\r\n\
          151 web 96 inferno:7:9 inferno:7:11 gone\r\n153 web 17 lost\r\n152 web 99 caught up\r\n",
    );
    vec![("everything", wire)]
}
