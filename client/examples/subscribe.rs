//! Prints a group's updates as they come, each once it is dealt with acknowledged: stopped and
//! started again it goes on where it was.
//!
//! ```text
//! cargo run -p skep-client --example subscribe -- /run/skep/client.sock all my-name
//! ```

use std::io::Write as _;

use skep_client::{Client, Event, Options, Subscribe};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "/run/skep/client.sock".to_owned());
    let group = arguments.next().unwrap_or_else(|| "all".to_owned());
    let name = arguments.next().unwrap_or_else(|| "example".to_owned());
    let client = Client::connect(Options::to(server.parse()?)).await?;
    let mut updates = client.subscribe(Subscribe::to(group.parse()?).named(name)).await?;
    let mut out = std::io::stdout();
    loop {
        match updates.next().await? {
            Event::Update(update) => {
                let text = String::from_utf8_lossy(&update.body);
                writeln!(out, "{} {}", update.id, text.trim_end())?;
                updates.ack(&update).await?;
            }
            // Too long for memory: what to do with its parts is the application's affair.
            Event::Long(long) => {
                let mut bytes = 0;
                while let Some(part) = updates.part().await? {
                    bytes += part.len();
                }
                writeln!(out, "{} {bytes} bytes", long.id)?;
                updates.ack_to(long.cursor).await?;
            }
            Event::Gap(gap) => {
                writeln!(out, "missing up to {}: {}", gap.up_to, gap.why)?;
                updates.ack_to(gap.cursor).await?;
            }
            Event::Lost { lost } => writeln!(out, "{lost} places of the log are gone")?,
            Event::CaughtUp => writeln!(out, "that is all for now")?,
        }
    }
}
