//! A URL that gets letters as JSON.

use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use aws_lc_rs::hmac;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::PATIENCE;
use crate::error::NotifyError;
use crate::files::{roots, secret};

/// The header with the signature of the body: `sha256=` and 64 hexadecimal digits.
pub const SIGNATURE: &str = "X-Skep-Signature";
/// The header with the letter's name, which is the same however often it comes.
const NAME: &str = "X-Skep-Letter";
/// As much of an answer is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// As much of it is told when it is a refusal.
const MAX_SAID_CHARS: usize = 200;

/// A URL that gets letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where: `https`, or `http` on this host.
    pub url: String,
    /// The file with the secret that the body is signed with, where it is.
    pub secret_file: Option<PathBuf>,
    /// The file of the authorities that its certificate may be of, in place of the system's.
    pub ca_file: Option<PathBuf>,
}

impl Webhook {
    /// Hands a letter over; gives what was answered.
    ///
    /// # Errors
    /// What kept it from being taken: any answer but 2xx counts, also one that leads elsewhere.
    pub async fn post(&self, name: &str, json: Bytes) -> Result<String, NotifyError> {
        let server = self.server();
        match tokio::time::timeout(PATIENCE, self.try_post(name, json)).await {
            Ok(answer) => answer,
            Err(_) => Err(NotifyError::Slow { server, seconds: PATIENCE.as_secs() }),
        }
    }

    /// The host, as messages name it: a path may hold what is not for logs.
    #[must_use]
    pub fn server(&self) -> String {
        let place = Place::of(&self.url);
        place.map_or_else(|_| "the webhook".to_owned(), |place| place.host_and_port())
    }

    /// Whether the files that it needs are there, and nobody else may read the secret.
    ///
    /// # Errors
    /// The first that is not as it should be.
    pub fn check_files(&self) -> Result<(), NotifyError> {
        if Place::of(&self.url).is_ok_and(|place| place.tls) {
            roots(self.ca_file.as_deref())?;
        }
        self.secret_file.as_deref().map_or(Ok(()), |file| secret(file).map(drop))
    }

    async fn try_post(&self, name: &str, json: Bytes) -> Result<String, NotifyError> {
        let place = Place::of(&self.url)
            .map_err(|why| NotifyError::Target(format!("the webhook's URL {why}")))?;
        let server = place.host_and_port();
        // Files are read where that may take its time.
        let hook = self.clone();
        let (encrypted, body) = (place.tls, json.clone());
        let files = tokio::task::spawn_blocking(move || hook.read_files(encrypted, &body)).await;
        let (signed, tls) = files.map_err(|error| NotifyError::Target(error.to_string()))??;
        let mut request = Request::post(place.path.as_str())
            .header(HOST, place.authority.as_str())
            .header(USER_AGENT, concat!("skep/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header(NAME, name);
        if let Some(signed) = signed {
            request = request.header(SIGNATURE, signed);
        }
        let request = request
            .body(Full::new(json))
            .map_err(|error| NotifyError::Target(format!("the webhook's request: {error}")))?;
        let unreachable = |error: &dyn std::fmt::Display| NotifyError::Unreachable {
            server: server.clone(),
            why: error.to_string(),
        };
        let stream = TcpStream::connect((place.host.as_str(), place.port)).await;
        let stream = stream.map_err(|error| unreachable(&error))?;
        let Some(tls) = tls else { return exchange(stream, request, &server).await };
        let refused = |why: String| NotifyError::Tls { server: server.clone(), why };
        let name = ServerName::try_from(place.host.clone())
            .map_err(|error| refused(format!("{:?}: {error}", place.host)))?;
        let connector = TlsConnector::from(Arc::new(tls));
        let stream = connector.connect(name, stream).await;
        exchange(stream.map_err(|error| refused(error.to_string()))?, request, &server).await
    }

    /// The body's signature, and whom to believe, where it goes out encrypted.
    fn read_files(
        &self,
        encrypted: bool,
        body: &Bytes,
    ) -> Result<(Option<String>, Option<ClientConfig>), NotifyError> {
        let secret = self.secret_file.as_deref().map(secret).transpose()?;
        let tls = encrypted.then(|| self.tls()).transpose()?;
        Ok((secret.map(|secret| signature(&secret, body)), tls))
    }

    fn tls(&self) -> Result<ClientConfig, NotifyError> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots(self.ca_file.as_deref())?);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| NotifyError::Target(error.to_string()))?;
        Ok(config.with_root_certificates(store).with_no_client_auth())
    }
}

/// What a receiver compares with the header of the same name, over the bytes of the body as they
/// came.
#[must_use]
pub fn signature(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("sha256={}", HEXLOWER.encode(hmac::sign(&key, body).as_ref()))
}

/// Whether letters may go to this URL.
///
/// # Errors
/// What it must be.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    Place::of(url).map(drop)
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    server: &str,
) -> Result<String, NotifyError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broke = |error: hyper::Error| NotifyError::Unreachable {
        server: server.to_owned(),
        why: error.to_string(),
    };
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
    let mut connection = pin!(connection);
    let mut asked = pin!(ask(sender, request, server));
    tokio::select! {
        answered = &mut asked => return answered,
        // What came before its end is there all the same.
        _ = &mut connection => {}
    }
    asked.await
}

async fn ask(
    mut sender: SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    server: &str,
) -> Result<String, NotifyError> {
    let answer = sender.send_request(request).await.map_err(|error| NotifyError::Unreachable {
        server: server.to_owned(),
        why: error.to_string(),
    })?;
    let status = answer.status();
    // It is taken with its first line: who never ends the rest would get it again for ever.
    if status.is_success() {
        return Ok(format!("answered {status}"));
    }
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let said = String::from_utf8_lossy(&body);
    let said: String = said.trim().chars().take(MAX_SAID_CHARS).collect();
    let said = format!("answered {status} {said}");
    // A client's error is one the next time as well, but for those that say that it is early.
    let early = matches!(status.as_u16(), 408 | 425 | 429);
    let for_good = status.is_client_error() && !early;
    let said = said.trim_end().to_owned();
    Err(NotifyError::Refused { server: server.to_owned(), said, for_good })
}

/// A URL in its parts.
struct Place {
    tls: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Place {
    fn of(url: &str) -> Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "is no URL such as https://chat.example/hook")?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("names no host")?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("must hold no user and no password: sign with secret_file instead");
        }
        let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if here => false,
            Some("http") => return Err("must be https, unless it is on this host"),
            Some(_) | None => return Err("must begin with https://"),
        };
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let authority = uri.authority().map_or_else(|| host.clone(), ToString::to_string);
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { tls, host, port, authority, path })
    }

    fn host_and_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    #[test]
    fn a_body_is_signed_as_everybody_does() {
        // The second test of RFC 4231.
        assert_eq!(
            signature("Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn letters_go_out_in_the_clear_to_this_host_alone() {
        for url in [
            "https://chat.example/hook?x=1",
            "https://[2001:db8::1]:8443/",
            "http://127.0.0.1:8080/hook",
            "http://[::1]/",
            "http://localhost/x",
        ] {
            check_url(url).unwrap();
        }
        for url in [
            "http://chat.example/hook",
            "http://192.0.2.1/",
            "ftp://chat.example/",
            "chat.example/hook",
            "https://user:password@chat.example/",
            "https://",
            "/hook",
        ] {
            assert!(check_url(url).is_err(), "{url}");
        }
    }

    /// A receiver that answers with these bytes and then says nothing more, nor hangs up; it gives
    /// what it got, and ends with its handle.
    async fn answers(bytes: &'static str) -> (Webhook, JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let receiver = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut got, mut part) = (Vec::new(), [0; 4096]);
            while !got.ends_with(b"{}") {
                let length = stream.read(&mut part).await.unwrap();
                got.extend_from_slice(&part[..length]);
            }
            stream.write_all(bytes.as_bytes()).await.unwrap();
            // Until the other side hangs up.
            while stream.read(&mut part).await.is_ok_and(|length| length > 0) {}
            got
        });
        (Webhook { url, secret_file: None, ca_file: None }, receiver)
    }

    #[tokio::test]
    async fn a_letter_is_taken_with_the_first_line_of_the_answer() {
        let head = "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\n";
        let unended = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok";
        for bytes in [unended, head] {
            let (hook, receiver) = answers(bytes).await;
            let post = hook.post("given-up.web-1.0f.1", Bytes::from_static(b"{}"));
            let said = tokio::time::timeout(PATIENCE / 2, post).await.unwrap().unwrap();
            assert!(said.starts_with("answered 20"), "{said}");
            let got = String::from_utf8(receiver.await.unwrap()).unwrap();
            assert!(got.to_lowercase().contains("x-skep-letter: given-up.web-1.0f.1"), "{got}");
        }
    }
}
