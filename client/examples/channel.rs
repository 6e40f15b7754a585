//! Joins standard input and output to a channel: serves NAME, or opens NAME at NODE.
//!
//! ```text
//! cargo run -p skep-client --example channel -- /run/skep/client.sock sync
//! cargo run -p skep-client --example channel -- /run/skep/client.sock sync mirror-2
//! ```

use skep_client::{Options, blocking};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "/run/skep/client.sock".to_owned());
    let name = arguments.next().unwrap_or_else(|| "sync".to_owned()).parse()?;
    let client = blocking::Client::connect(Options::to(server.parse()?))?;
    let mut channel = match arguments.next() {
        Some(node) => client.channel(&node.parse()?, &name)?,
        None => client.serve(&name)?,
    };
    let mut writer = channel.writer;
    let sending = std::thread::spawn(move || {
        std::io::copy(&mut std::io::stdin().lock(), &mut writer)?;
        writer.end()
    });
    // Fails where the other side was lost before it had said all.
    std::io::copy(&mut channel.reader, &mut std::io::stdout())?;
    sending.join().map_err(|_| "the sending thread panicked")??;
    Ok(())
}
