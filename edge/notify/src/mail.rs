//! A mail server.

use std::path::PathBuf;
use std::time::Duration;

use lettre::address::Envelope;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::response::Response;
use lettre::transport::smtp::{AsyncSmtpTransport, Error, SMTP_PORT, SUBMISSION_PORT};
use lettre::{Address, AsyncTransport as _, Tokio1Executor};

use crate::PATIENCE;
use crate::error::NotifyError;
use crate::files::{roots, secret};
use crate::message::Message;

/// TLS from the start (RFC 8314).
const TLS_PORT: u16 = 465;

/// Whether others can read what goes to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// A connection that is turned into TLS before anything is said; never in the clear.
    StartTls,
    /// TLS from the start.
    Tls,
    /// None: for a server on this host. No password goes this way.
    None,
}

/// A mail server, and what is sent from whom to whom through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Its name, which its certificate must bear, or its address.
    pub host: String,
    /// Its port; the usual one where none is given.
    pub port: Option<u16>,
    /// How it is spoken to.
    pub encryption: Encryption,
    /// The file of the authorities that its certificate may be of, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// As whom, and the file with the password.
    pub login: Option<(String, PathBuf)>,
    /// The sender.
    pub from: String,
    /// The receivers, at least one.
    pub to: Vec<String>,
}

impl Mail {
    /// The server, as messages name it.
    #[must_use]
    pub fn server(&self) -> String {
        format!("{}:{}", self.host, self.port())
    }

    /// Whether the files that it needs are there, and nobody else may read the password.
    ///
    /// # Errors
    /// The first that is not as it should be.
    pub fn check_files(&self) -> Result<(), NotifyError> {
        if self.encryption != Encryption::None {
            roots(self.ca_file.as_deref())?;
        }
        self.login.as_ref().map_or(Ok(()), |(_, file)| secret(file).map(drop))
    }

    fn port(&self) -> u16 {
        self.port.unwrap_or(match self.encryption {
            Encryption::StartTls => SUBMISSION_PORT,
            Encryption::Tls => TLS_PORT,
            Encryption::None => SMTP_PORT,
        })
    }

    /// Hands a letter over. Gives what the server said, which usually has the number under which it
    /// keeps it.
    ///
    /// # Errors
    /// What kept it from being taken. Until this says otherwise, it may have been taken all the
    /// same, as where the connection breaks before the last word.
    pub async fn send(&self, message: &Message) -> Result<String, NotifyError> {
        match tokio::time::timeout(PATIENCE, self.try_send(message)).await {
            Ok(said) => said,
            Err(_) => Err(NotifyError::Slow { server: self.server(), seconds: PATIENCE.as_secs() }),
        }
    }

    async fn try_send(&self, message: &Message) -> Result<String, NotifyError> {
        let envelope = self.envelope()?;
        let bytes = message.to_bytes(&self.from, &self.to);
        let mail = self.clone();
        // Files are read where that may take its time.
        let transport = tokio::task::spawn_blocking(move || mail.transport()).await;
        let transport = transport.map_err(|error| NotifyError::Target(error.to_string()))??;
        match transport.send_raw(&envelope, &bytes).await {
            Ok(response) => Ok(words(&response)),
            Err(error) if error.is_permanent() && self.to.len() > 1 => {
                self.send_to_each(&transport, &envelope, &bytes).await
            }
            Err(error) => Err(self.explained(&error)),
        }
    }

    /// One receiver that is refused for good keeps no other from being told. Where one is to be
    /// tried again, all are: who has it already knows it by its Message-ID.
    async fn send_to_each(
        &self,
        transport: &AsyncSmtpTransport<Tokio1Executor>,
        envelope: &Envelope,
        bytes: &[u8],
    ) -> Result<String, NotifyError> {
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        for to in envelope.to() {
            let one = Envelope::new(envelope.from().cloned(), vec![to.clone()]);
            let one = one.map_err(|error| NotifyError::Target(error.to_string()))?;
            match transport.send_raw(&one, bytes).await {
                Ok(response) => taken.push(words(&response)),
                Err(error) if error.is_permanent() => refused.push((to, error)),
                Err(error) => return Err(self.explained(&error)),
            }
        }
        match (taken.pop(), refused.as_slice()) {
            (Some(said), refused) => {
                let names: Vec<String> = refused.iter().map(|(to, _)| to.to_string()).collect();
                Ok(format!("{said}; refused for {}", names.join(", ")))
            }
            (None, [(_, error), ..]) => Err(self.explained(error)),
            (None, []) => Err(NotifyError::Target("the mail has no receiver".to_owned())),
        }
    }

    fn envelope(&self) -> Result<Envelope, NotifyError> {
        let wrong = |error: String| NotifyError::Target(error);
        let address = |text: &String| {
            check_address(text).map_err(|why| wrong(format!("{text:?} {why}")))?;
            text.parse::<Address>().map_err(|error| wrong(format!("{text:?}: {error}")))
        };
        let to = self.to.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        Envelope::new(Some(address(&self.from)?), to).map_err(|error| wrong(error.to_string()))
    }

    fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, NotifyError> {
        let tls = match self.encryption {
            Encryption::StartTls => Tls::Required(self.tls()?),
            Encryption::Tls => Tls::Wrapper(self.tls()?),
            Encryption::None => Tls::None,
        };
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.host)
            .port(self.port())
            .timeout(Some(PATIENCE / 2).filter(|span| *span > Duration::ZERO))
            .tls(tls);
        let Some((user, file)) = &self.login else {
            return Ok(builder.build());
        };
        if self.encryption == Encryption::None {
            let what = "a password goes to no mail server without TLS";
            return Err(NotifyError::Target(what.to_owned()));
        }
        Ok(builder.credentials(Credentials::new(user.clone(), secret(file)?)).build())
    }

    fn tls(&self) -> Result<TlsParameters, NotifyError> {
        let failed = |error: &Error| self.explained(error);
        let mut builder =
            TlsParameters::builder(self.host.clone()).certificate_store(CertificateStore::None);
        for root in roots(self.ca_file.as_deref())? {
            let root = Certificate::from_der(root.to_vec()).map_err(|error| failed(&error))?;
            builder = builder.add_root_certificate(root);
        }
        builder.build().map_err(|error| failed(&error))
    }

    /// What the library says, in the words of who has to do something about it.
    fn explained(&self, error: &Error) -> NotifyError {
        let server = self.server();
        let mut said = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            let inner_says = inner.to_string();
            if !said.contains(&inner_says) {
                said = format!("{said}: {inner_says}");
            }
            source = inner.source();
        }
        // 530 to 538: it wants a login, or another.
        const LOGIN: std::ops::RangeInclusive<u16> = 530..=538;
        let code = error.status().map(u16::from);
        if code.is_some_and(|code| LOGIN.contains(&code)) {
            NotifyError::Login { server, said }
        } else if error.is_tls() || said.contains("certificate") {
            NotifyError::Tls { server, why: said }
        } else if error.is_permanent() || error.is_transient() {
            NotifyError::Refused { server, said, for_good: error.is_permanent() }
        } else if error.is_timeout() {
            NotifyError::Slow { server, seconds: PATIENCE.as_secs() / 2 }
        } else if error.is_client() {
            NotifyError::Refused { server, said, for_good: false }
        } else {
            NotifyError::Unreachable { server, why: said }
        }
    }
}

fn words(response: &Response) -> String {
    let said: Vec<&str> = response.message().collect();
    format!("{} {}", response.code(), said.join(" ")).trim().to_owned()
}

/// Whether a text is a mail address, and nothing besides.
///
/// # Errors
/// What it must be.
pub fn check_address(text: &str) -> Result<(), &'static str> {
    let plain = !text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '<');
    let valid = plain && text.is_ascii() && text.len() <= 254 && text.parse::<Address>().is_ok();
    valid.then_some(()).ok_or("is no mail address such as ops@example.org")
}

/// A mail server's name and port.
///
/// # Errors
/// What it must be.
pub fn check_server(text: &str) -> Result<(String, Option<u16>), &'static str> {
    const WRONG: &str = "must be a name or address, and perhaps a port: mail.example.org:587";
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or(WRONG)?)),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || host.len() > 253 || !host.chars().all(fits) {
        return Err(WRONG);
    }
    let port = port.map(|port| port.parse::<u16>().ok().filter(|port| *port != 0).ok_or(WRONG));
    Ok((host.to_owned(), port.transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_and_no_more() {
        check_address("ops@example.org").unwrap();
        check_address("root@localhost").unwrap();
        for text in ["", "ops", "ops@", "a@b\r\nRCPT TO:<c@d>", "Ops <ops@example.org>", "a b@c.d"]
        {
            check_address(text).unwrap_err();
        }
    }

    #[test]
    fn a_server_is_a_name_and_perhaps_a_port() {
        let server = |text: &str| check_server(text);
        assert_eq!(server("mail.example.org"), Ok(("mail.example.org".to_owned(), None)));
        assert_eq!(server("127.0.0.1:25"), Ok(("127.0.0.1".to_owned(), Some(25))));
        assert_eq!(server("[::1]:2525"), Ok(("::1".to_owned(), Some(2525))));
        for text in ["", ":25", "mail:0", "mail:99999", "a b", "smtp://mail", "[::1]2525", "[::1]:"]
        {
            server(text).unwrap_err();
        }
    }
}
