//! Just enough of HTTP/1.1 to ask an agent, or a peer, one thing after the other over one
//! connection: a library would be measured with them.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::Seat;
use super::skep::socket;

/// An agent answers in milliseconds; one that takes this long will not.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Longest answer, or chunk of one, with room: a catalog of some ten thousand entries.
pub(super) const ANSWER_BYTES_AT_MOST: usize = 16 << 20;

/// A lasting connection, over which one thing is asked after the other.
pub struct Http<S> {
    reader: BufReader<S>,
}

/// The control socket of one of our agents.
pub type Control = Http<UnixStream>;

impl Control {
    /// Connects to the agent of `seat`.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn new(seat: &Seat) -> Result<Self> {
        let path = socket(seat);
        let stream = UnixStream::connect(&path)
            .with_context(|| format!("connecting to {}", path.display()))?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self::over(stream))
    }

    /// Waits for answers as long as `within`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn patient(self, within: Duration) -> Result<Self> {
        self.reader.get_ref().set_read_timeout(Some(within))?;
        Ok(self)
    }
}

impl<S: Read + Write> Http<S> {
    /// Speaks over a connection that is there.
    pub fn over(stream: S) -> Self {
        Self { reader: BufReader::new(stream) }
    }

    /// Reads something.
    ///
    /// # Errors
    /// When the other end refuses, hangs up, or does not answer in JSON.
    pub fn get(&mut self, path: &str) -> Result<Value> {
        self.ask("GET", path, "application/json", &[])
    }

    /// Has something done, said in JSON.
    ///
    /// # Errors
    /// As [`Http::get`].
    pub fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        self.ask("POST", path, "application/json", body.to_string().as_bytes())
    }

    /// Has something done with bytes.
    ///
    /// # Errors
    /// As [`Http::get`].
    pub fn post_bytes(&mut self, path: &str, body: &[u8]) -> Result<Value> {
        self.ask("POST", path, "application/octet-stream", body)
    }

    fn ask(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Value> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: skep\r\ncontent-type: {kind}\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.reader.get_mut().write_all(&request)?;
        let head = head(&mut self.reader)?;
        let content = match field(&head, "content-length") {
            Some(length) => {
                let length: usize = length.parse().context("the length of an answer")?;
                ensure!(length <= ANSWER_BYTES_AT_MOST, "an answer of {length} bytes");
                let mut content = vec![0; length];
                self.reader.read_exact(&mut content)?;
                content
            }
            None => self.chunks()?,
        };
        if !head.starts_with("HTTP/1.1 2") {
            bail!("{method} {path} was refused: {}", String::from_utf8_lossy(&content));
        }
        serde_json::from_slice(&content).context("reading an answer")
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        while let Some(chunk) = next_chunk(&mut self.reader)? {
            content.extend(chunk);
            ensure!(content.len() <= ANSWER_BYTES_AT_MOST, "an answer without end");
        }
        // Trailers, up to a blank line.
        let mut line = String::new();
        while self.reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        Ok(content)
    }
}

/// The answer's head, to the blank line.
pub(super) fn head(reader: &mut impl BufRead) -> Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(reader.read_line(&mut head)? > 0, "the agent closed after {head:?}");
    }
    Ok(head)
}

fn field<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim())
    })
}

/// The next chunk of a chunked body; nothing at its end, and when the agent is gone.
pub(super) fn next_chunk(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = String::new();
    match reader.read_line(&mut line) {
        Ok(0) | Err(_) => return Ok(None), // Killed: its last words are read.
        Ok(_) => {}
    }
    let size = usize::from_str_radix(line.trim_end(), 16)
        .with_context(|| format!("not the size of a chunk: {line:?}"))?;
    ensure!(size <= ANSWER_BYTES_AT_MOST, "a chunk of {size} bytes");
    if size == 0 {
        return Ok(None);
    }
    let mut chunk = vec![0; size + 2];
    if reader.read_exact(&mut chunk).is_err() {
        return Ok(None);
    }
    chunk.truncate(size);
    Ok(Some(chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read was there before; what is written goes nowhere.
    struct Script(std::io::Cursor<Vec<u8>>);

    impl Read for Script {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(into)
        }
    }

    impl Write for Script {
        fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
            Ok(from.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn answers_of_both_shapes_are_read_one_after_the_other_and_a_refusal_is_told() {
        let script = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}\
                      HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                      3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\nX: y\r\n\r\n\
                      HTTP/1.1 503 No\r\ncontent-length: 5\r\n\r\n\"why\"";
        let script = Script(std::io::Cursor::new(script.as_bytes().to_vec()));
        let mut http = Http::over(script);
        assert_eq!(http.get("/").unwrap(), serde_json::json!({}));
        assert_eq!(http.post("/", &Value::Null).unwrap()["a"], 1);
        assert!(http.get("/x").unwrap_err().to_string().contains("why"));
    }
}
