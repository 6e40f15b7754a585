//! Where an agent is found.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where an agent serves clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    /// A unix socket: `unix:/run/skep/client.sock`, or the path alone.
    Unix(PathBuf),
    /// TCP: `plain:HOST:PORT`, or `HOST:PORT` alone.
    Plain(String),
    /// TCP with TLS: `tls:HOST:PORT`. Wants [`crate::Options::identity`].
    Tls(String),
}

/// What stood where a server was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of unix:/PATH, plain:HOST:PORT and tls:HOST:PORT")]
pub struct ServerError(String);

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Plain(address) => write!(f, "plain:{address}"),
            Self::Tls(address) => write!(f, "tls:{address}"),
        }
    }
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let wrong = || ServerError(text.chars().take(200).collect());
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        if text.starts_with('/') || text.starts_with("./") {
            return Ok(Self::Unix(text.into()));
        }
        let (tls, address) = match (text.strip_prefix("tls:"), text.strip_prefix("plain:")) {
            (Some(address), _) => (true, address),
            (None, Some(address)) => (false, address),
            (None, None) => (false, text),
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        let address = address.to_owned();
        Ok(if tls { Self::Tls(address) } else { Self::Plain(address) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_they_are_shown() {
        for text in ["unix:/run/skep/client.sock", "plain:[::1]:2000", "tls:host.example:2443"] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), text);
        }
        assert_eq!("/run/a".parse(), Ok(Server::Unix("/run/a".into())));
        assert_eq!("localhost:2000".parse(), Ok(Server::Plain("localhost:2000".to_owned())));
        for wrong in ["", "host", "tls:host", ":2000", "host:99999"] {
            assert!(wrong.parse::<Server>().is_err(), "{wrong}");
        }
    }
}
