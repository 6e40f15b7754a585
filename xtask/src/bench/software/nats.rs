//! The NATS server in a mesh: the peer that updates are measured by. It keeps nothing on disk and
//! here speaks in plain text.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::Seat;

const CLIENTS: u16 = 4222;
const ROUTES: u16 = 6222;
const SUBJECT: &str = "bench";
/// A server answers in milliseconds; one that says nothing for so long is gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Longest body that this bench sends, with room.
const BODY_BYTES_AT_MOST: usize = 4 << 20;

pub(super) fn agent(binary: &Path, seat: &Seat, seed: &Seat) -> Command {
    let mut command = Command::new(binary);
    command.args(["--addr", &seat.ip.to_string(), "--port", &CLIENTS.to_string()]);
    command.arg("--name").arg(&seat.name).args(["--cluster_name", "bench"]);
    command.arg("--cluster").arg(format!("nats://{}:{ROUTES}", seat.ip));
    // Else the others are told the address that a connection came from, which is all the same here.
    command.arg("--cluster_advertise").arg(format!("{}:{ROUTES}", seat.ip));
    command.arg("--routes").arg(format!("nats://{}:{ROUTES}", seed.ip));
    command
}

/// One client's connection.
pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    /// Connects to the server of `seat`.
    ///
    /// # Errors
    /// When it does not listen yet.
    pub fn new(seat: &Seat) -> Result<Self> {
        let stream = TcpStream::connect((seat.ip, CLIENTS))
            .with_context(|| format!("connecting to the server of {}", seat.name))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let mut client = Self { reader: BufReader::new(stream) };
        client.write(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n")?;
        Ok(client)
    }

    /// Asks for everything that is published from now on.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn subscribe(&mut self) -> Result<()> {
        self.write(format!("SUB {SUBJECT} 1\r\n").as_bytes())
    }

    /// Publishes a body.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn publish(&mut self, body: &[u8]) -> Result<()> {
        self.write(&command(body))
    }

    /// Publishes a body again and again, many in a write.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn publish_all(&mut self, body: &[u8], count: usize) -> Result<()> {
        const AT_ONCE: usize = 200;
        let batch = command(body).repeat(AT_ONCE);
        for _ in 0..count / AT_ONCE {
            self.write(&batch)?;
        }
        let rest = command(body).repeat(count % AT_ONCE);
        self.write(&rest)
    }

    /// The next body.
    ///
    /// # Errors
    /// When the server is gone, or silent for too long.
    pub fn receive(&mut self) -> Result<Vec<u8>> {
        loop {
            let mut line = String::new();
            ensure!(self.reader.read_line(&mut line)? > 0, "the server hung up");
            if line.starts_with("PING") {
                self.write(b"PONG\r\n")?;
            } else if line.starts_with("MSG ") {
                let length = line.split_whitespace().next_back().context("no length")?;
                let length: usize = length.parse().context("the length of a message")?;
                ensure!(length <= BODY_BYTES_AT_MOST, "a message of {length} bytes");
                let mut body = vec![0; length + 2];
                self.reader.read_exact(&mut body)?;
                body.truncate(length);
                return Ok(body);
            } else if line.starts_with("-ERR") {
                bail!("the server refused: {}", line.trim_end());
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.reader.get_mut().write_all(bytes).context("writing to the server")
    }
}

fn command(body: &[u8]) -> Vec<u8> {
    let mut command = format!("PUB {SUBJECT} {}\r\n", body.len()).into_bytes();
    command.extend_from_slice(body);
    command.extend_from_slice(b"\r\n");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_framed_as_the_protocol_says() {
        assert_eq!(command(b"ab"), b"PUB bench 2\r\nab\r\n");
    }
}
