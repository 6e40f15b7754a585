//! Publishes each line of standard input, and says when all of them are durable.
//!
//! ```text
//! seq 1000 | cargo run -p skep-client --example publish -- /run/skep/client.sock all
//! ```

use std::io::{BufRead as _, Write as _};

use skep_client::{Options, blocking};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "/run/skep/client.sock".to_owned());
    let groups = arguments.map(|group| group.parse()).collect::<Result<Vec<_>, _>>()?;
    let client = blocking::Client::connect(Options::to(server.parse()?))?;
    let mut sent = Vec::new();
    for line in std::io::stdin().lock().lines() {
        // Waits for room only; the reply comes when the disk of the agent's node has it.
        sent.push(client.send(&groups, line?)?);
    }
    let count = sent.len();
    let mut last = None;
    for pending in sent {
        last = pending.wait()?.ids.pop();
    }
    if let Some((group, id)) = last {
        writeln!(std::io::stdout(), "{count} updates, the last is {id} in {group}")?;
    }
    Ok(())
}
