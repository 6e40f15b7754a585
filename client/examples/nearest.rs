//! Says which agents are near, as measured from here.
//!
//! ```text
//! cargo run -p skep-client --example nearest -- 127.0.0.1:2000
//! ```

use std::io::Write as _;

use skep_client::{Options, blocking};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "/run/skep/client.sock".to_owned());
    let client = blocking::Client::connect(Options::to(server.parse()?))?;
    for near in client.nearest()? {
        let server = near.server.map_or_else(|| "-".to_owned(), |server| server.to_string());
        writeln!(std::io::stdout(), "{} {:?} {server}", near.node, near.measured)?;
    }
    Ok(())
}
