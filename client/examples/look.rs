//! Shows what an agent knows: groups, the members and links of one, and the agent's figures.
//!
//! ```text
//! cargo run -p skep-client --example look -- /run/skep/client.sock all
//! ```

use std::io::Write as _;

use skep_client::{Options, blocking};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "/run/skep/client.sock".to_owned());
    let group = arguments.next().unwrap_or_else(|| "all".to_owned()).parse()?;
    let client = blocking::Client::connect(Options::to(server.parse()?))?;
    let mut out = std::io::stdout().lock();
    for known in client.groups()? {
        writeln!(
            out,
            "group {}: {} members, {} updates",
            known.name, known.members, known.updates
        )?;
    }
    for (node, presence) in client.members(&group)? {
        writeln!(out, "{node} is {presence}")?;
    }
    let topology = client.topology(&group)?;
    writeln!(out, "{}", topology.summary)?;
    for (a, b) in topology.links {
        writeln!(out, "{a} -- {b}")?;
    }
    for figure in client.statistics()? {
        writeln!(out, "{} {} {}", figure.name, figure.value, figure.help)?;
    }
    Ok(())
}
