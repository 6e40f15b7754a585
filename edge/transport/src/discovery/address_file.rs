//! A file of addresses to join at, one a line: what a configuration tool can write.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Addresses in one file; the address book holds no more.
pub const MAX_JOIN_ADDRESSES: usize = 4096;
/// Longest file that is read: the longest names on every line.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Longest host name that DNS knows.
const MAX_HOST_BYTES: usize = 253;
/// Addresses taken from one name.
const MAX_RESOLVED: usize = 16;

/// Where to dial: an address, or a name that leads to some.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JoinAddress {
    /// `192.0.2.1:7400` or `[2001:db8::1]:7400`.
    Socket(SocketAddr),
    /// `seed.example:7400`, asked for anew each time it is dialled.
    Name {
        /// The name, in lower case.
        host: String,
        /// The port.
        port: u16,
    },
}

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinAddressError {
    /// There is no `:port` at the end.
    #[error("no port: write host:port, or [address]:port for IPv6")]
    NoPort,
    /// The port is none.
    #[error("not a port: expected a number from 1 to 65535")]
    BadPort,
    /// What stands before the port is neither an address nor a name.
    #[error("not a host: expected an IP address or a host name")]
    BadHost,
}

/// Where in a file of addresses which fault is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {why}")]
pub struct LineError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub why: LineFault,
}

/// What is wrong in a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// The address.
    #[error(transparent)]
    Address(#[from] JoinAddressError),
    /// Something follows the address.
    #[error("one address a line; a comment begins with #")]
    LeftOver,
    /// One line more than is ever dialled.
    #[error("more than {MAX_JOIN_ADDRESSES} addresses")]
    TooMany,
}

/// Why a file of addresses gave none.
#[derive(Debug, thiserror::Error)]
pub enum AddressFileError {
    /// It cannot be read.
    #[error("cannot read the address file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is longer than any such file.
    #[error("the address file {} is over {MAX_FILE_BYTES} bytes long", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A line is wrong. The addresses read before stay in use.
    #[error("address file {}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: LineError,
    },
}

impl FromStr for JoinAddress {
    type Err = JoinAddressError;

    fn from_str(text: &str) -> Result<Self, JoinAddressError> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return if socket.port() == 0 {
                Err(JoinAddressError::BadPort)
            } else {
                Ok(Self::Socket(socket))
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or(JoinAddressError::NoPort)?;
        if !is_host_name(host) {
            return Err(JoinAddressError::BadHost);
        }
        match port.parse() {
            Ok(port) if port != 0 => Ok(Self::Name { host: host.to_ascii_lowercase(), port }),
            Ok(_) | Err(_) => Err(JoinAddressError::BadPort),
        }
    }
}

impl fmt::Display for JoinAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(socket) => socket.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl JoinAddress {
    /// The addresses behind it, at most 16.
    ///
    /// # Errors
    /// The resolver's, for a name.
    pub async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Socket(socket) => Ok(vec![*socket]),
            Self::Name { host, port } => {
                let found = tokio::net::lookup_host((host.as_str(), *port)).await?;
                Ok(found.take(MAX_RESOLVED).collect())
            }
        }
    }
}

/// The addresses in `text`: one a line, blank lines and what follows a `#` left out.
///
/// # Errors
/// [`LineError`] for the first line that is wrong: a file that is half understood is not used.
pub fn parse_addresses(text: &str) -> Result<Vec<JoinAddress>, LineError> {
    let mut addresses = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let at = |offset: usize, why: LineFault| LineError {
            line: number + 1,
            column: line.bytes().take(offset).filter(|byte| byte & 0xC0 != 0x80).count() + 1,
            why,
        };
        let code = line.split('#').next().unwrap_or_default();
        let indent = code.len() - code.trim_start().len();
        let mut words = code.split_whitespace();
        let Some(word) = words.next() else {
            continue;
        };
        let address = word.parse().map_err(|error: JoinAddressError| {
            let offset = match error {
                JoinAddressError::BadPort => word.rfind(':').map_or(0, |colon| colon + 1),
                JoinAddressError::NoPort => word.len(),
                JoinAddressError::BadHost => 0,
            };
            at(indent + offset, error.into())
        })?;
        if words.next().is_some() {
            let rest = code.trim_start().trim_start_matches(word);
            let gap = rest.len() - rest.trim_start().len();
            return Err(at(indent + word.len() + gap, LineFault::LeftOver));
        }
        if addresses.len() >= MAX_JOIN_ADDRESSES {
            return Err(at(indent, LineFault::TooMany));
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// A file of addresses that is looked at again and again, and read when it changed.
#[derive(Debug)]
pub struct AddressFile {
    path: PathBuf,
    seen: Option<Stamp>,
}

/// What changes when a file does, whether it is rewritten or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl AddressFile {
    /// The file at `path`, not read yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: None }
    }

    /// The addresses in the file if it changed since the last look, which need not have worked.
    /// Blocks on the disk for one small file.
    ///
    /// # Errors
    /// [`AddressFileError`], once for each state of the file; keep the addresses read before.
    pub fn changed(&mut self) -> Result<Option<Vec<JoinAddress>>, AddressFileError> {
        let opened = File::open(&self.path).and_then(|file| {
            let stamp = Stamp::of(&file)?;
            Ok((file, stamp))
        });
        let (file, stamp) = match opened {
            Ok(opened) => opened,
            Err(source) => {
                self.seen = None;
                return Err(self.read_error(source));
            }
        };
        if self.seen == Some(stamp) {
            return Ok(None);
        }
        self.seen = Some(stamp);
        let mut text = String::new();
        let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
        let length = read.map_err(|source| self.read_error(source))?;
        if length as u64 > MAX_FILE_BYTES {
            return Err(AddressFileError::TooLong { path: self.path.clone() });
        }
        parse_addresses(&text)
            .map(Some)
            .map_err(|source| AddressFileError::Line { path: self.path.clone(), source })
    }

    fn read_error(&self, source: io::Error) -> AddressFileError {
        AddressFileError::Read { path: self.path.clone(), source }
    }
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

fn is_host_name(host: &str) -> bool {
    let label_fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    host.len() <= MAX_HOST_BYTES && !numeric && host.split('.').all(label_fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_comments_and_blank_lines_are_read() {
        let text = "\
# seeds of the example bloc
10.0.0.1:7400
  [2001:db8::1]:7400   # the second

Seed.Example:7401
10.0.0.1:7400
";
        let found: Vec<_> =
            parse_addresses(text).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1:7400", "[2001:db8::1]:7400", "seed.example:7401"]);
    }

    #[test]
    fn faults_are_found_at_their_line_and_column() {
        let fault = |text: &str| {
            let error = parse_addresses(text).unwrap_err();
            (error.line, error.column, error.why)
        };
        use JoinAddressError::{BadHost, BadPort, NoPort};
        assert_eq!(fault("\n  seed"), (2, 7, NoPort.into()));
        assert_eq!(fault("seed:port"), (1, 6, BadPort.into()));
        assert_eq!(fault("10.0.0.1:0"), (1, 10, BadPort.into()));
        assert_eq!(fault(" s/ed:1"), (1, 2, BadHost.into()));
        assert_eq!(fault("10.0.0.256:1"), (1, 1, BadHost.into()));
        assert_eq!(fault("::1:7400x"), (1, 1, BadHost.into()));
        assert_eq!(fault("a:1\nb:2 c:3"), (2, 5, LineFault::LeftOver));
        assert_eq!(fault("ö:1 "), (1, 1, BadHost.into()));
        let long: String = (0..=MAX_JOIN_ADDRESSES).map(|n| format!("h{n}:1\n")).collect();
        assert_eq!(fault(&long), (MAX_JOIN_ADDRESSES + 1, 1, LineFault::TooMany));
    }

    #[test]
    fn a_file_is_read_again_only_when_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seeds");
        let mut file = AddressFile::new(&path);
        assert!(matches!(file.changed(), Err(AddressFileError::Read { .. })));
        std::fs::write(&path, "a:1\n").unwrap();
        assert_eq!(file.changed().unwrap().unwrap().len(), 1);
        assert!(file.changed().unwrap().is_none());
        // Replaced, as careful writers do.
        let beside = dir.path().join("seeds.new");
        std::fs::write(&beside, "a:1\nb:2\n").unwrap();
        std::fs::rename(&beside, &path).unwrap();
        assert_eq!(file.changed().unwrap().unwrap().len(), 2);
        std::fs::write(&path, "nonsense\n").unwrap();
        let error = file.changed().unwrap_err().to_string();
        assert!(error.contains("line 1, column 9"), "{error}");
        assert!(file.changed().unwrap().is_none(), "a fault is told once");
    }

    #[tokio::test]
    async fn an_address_needs_no_resolver() {
        let address: JoinAddress = "127.0.0.1:9".parse().unwrap();
        assert_eq!(address.resolve().await.unwrap(), ["127.0.0.1:9".parse().unwrap()]);
    }
}
