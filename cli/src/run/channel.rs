//! Standard input and output as one end of a channel.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use anyhow::{Context as _, anyhow};
use skep_client::{Channel, Client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::args::{ChannelOpen, ChannelServe};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;
/// Reads of standard input that may be ahead of the channel.
const READS_AHEAD: usize = 4;

pub(super) async fn serve(args: ChannelServe) -> anyhow::Result<()> {
    let client = Client::connect(args.connect.options()).await?;
    pass(client.serve(&args.name).await?).await
}

pub(super) async fn open(args: ChannelOpen) -> anyhow::Result<()> {
    let client = Client::connect(args.connect.options()).await?;
    pass(client.channel(&args.node, &args.name).await?).await
}

/// Passes bytes both ways until both sides have said all.
async fn pass(channel: Channel) -> anyhow::Result<()> {
    let node = channel.node().clone();
    if io::stderr().is_terminal() {
        writeln!(io::stderr(), "skep: the channel to {node} is open")?;
    }
    let (from, to) = tokio::io::split(channel);
    // In words: that the channel is a broken pipe is no wish of whoever reads what is printed.
    let broke_off = |error: io::Error| anyhow!("the channel to {node} broke off: {error}");
    tokio::try_join!(print(from, &broke_off), send(to, &broke_off)).map(drop)
}

async fn print(
    mut from: ReadHalf<Channel>,
    broke_off: &impl Fn(io::Error) -> anyhow::Error,
) -> anyhow::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = from.read(&mut buffer).await.map_err(broke_off)?;
        if read == 0 {
            return Ok(());
        }
        // Whoever reads our output slowly must not hold up what we send.
        let printing = tokio::task::spawn_blocking(move || {
            let mut out = io::stdout().lock();
            let printed = out.write_all(&buffer[..read]).and_then(|()| out.flush());
            printed.map(|()| buffer)
        });
        buffer = printing.await??;
    }
}

async fn send(
    mut to: WriteHalf<Channel>,
    broke_off: &impl Fn(io::Error) -> anyhow::Error,
) -> anyhow::Result<()> {
    let (bytes, mut read) = mpsc::channel(READS_AHEAD);
    // A thread of its own: a read that waits for a terminal keeps no command from ending.
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut buffer = vec![0; READ_BYTES];
            let outcome = input.read(&mut buffer).map(|count| {
                buffer.truncate(count);
                buffer
            });
            let ended = !matches!(&outcome, Ok(bytes) if !bytes.is_empty());
            if bytes.blocking_send(outcome).is_err() || ended {
                return;
            }
        }
    });
    while let Some(bytes) = read.recv().await {
        let bytes = bytes.context("cannot read standard input")?;
        if bytes.is_empty() {
            return to.shutdown().await.map_err(broke_off);
        }
        to.write_all(&bytes).await.map_err(broke_off)?;
        to.flush().await.map_err(broke_off)?;
    }
    Ok(())
}
