//! Small talk between hosts: numbered datagrams to an echo, and lines over TCP.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use skep_lab::{Host, Lab};

use crate::PATIENCE;

const PORT: u16 = 7;
/// How often a waiting thread looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(20);

/// Answers every datagram with itself, and counts them.
pub(crate) struct Echo {
    heard: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub(crate) fn on(host: &Host) -> Result<Self> {
        let socket = host.enter(|| UdpSocket::bind(("::", PORT)))??;
        socket.set_read_timeout(Some(GLANCE))?;
        let heard = Arc::new(AtomicU64::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (heard, over) = (Arc::clone(&heard), Arc::clone(&over));
            move || {
                let mut buffer = [0; 2048];
                while !over.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                        heard.fetch_add(1, Ordering::Relaxed);
                        socket.send_to(&buffer[..length], from).ok();
                    }
                }
            }
        });
        Ok(Self { heard, over, thread: Some(thread) })
    }

    /// Datagrams that came in so far.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Sends numbered datagrams to an echo.
pub(crate) struct Pinger {
    socket: UdpSocket,
    to: SocketAddr,
    sent: u64,
}

impl Pinger {
    pub(crate) fn from(host: &Host, to: IpAddr) -> Result<Self> {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = host.enter(|| UdpSocket::bind((any, 0)))??;
        Ok(Self { socket, to: (to, PORT).into(), sent: 0 })
    }

    /// Sends the next number without waiting.
    pub(crate) fn send(&mut self) -> u64 {
        self.sent += 1;
        // Where there is no way, the error is the answer that does not come.
        self.socket.send_to(&self.sent.to_be_bytes(), self.to).ok();
        self.sent
    }

    /// The next number that comes back within `within`.
    pub(crate) fn next(&self, within: Duration) -> Option<u64> {
        let mut buffer = [0; 8];
        self.socket.set_read_timeout(Some(within)).ok()?;
        let length = self.socket.recv(&mut buffer).ok()?;
        (length == 8).then(|| u64::from_be_bytes(buffer))
    }

    /// Sends one and waits for its own answer a moment: the time it took.
    pub(crate) fn ping(&mut self) -> Result<Duration> {
        let start = Instant::now();
        let number = self.send();
        while let Some(answer) = self.next(Duration::from_secs(1)) {
            if answer == number {
                return Ok(start.elapsed());
            }
        }
        anyhow::bail!("no answer to {number}")
    }

    /// Pings until an answer comes.
    pub(crate) fn until_answered(&mut self, lab: &Lab) -> Result<Duration> {
        let what = format!("{} answers", self.to);
        lab.wait_until(&what, PATIENCE, || self.ping())
    }
}

/// Sends a text by TCP from one host to another and returns what came out there.
pub(crate) fn tell(from: &Host, to: &Host, address: IpAddr, text: &str) -> Result<String> {
    let listener = to.enter(|| TcpListener::bind((address, 0)))??;
    let address = listener.local_addr()?;
    let listening = std::thread::spawn(move || -> Result<String> {
        let (mut stream, _) = listener.accept()?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    });
    let mut stream =
        from.enter(|| TcpStream::connect_timeout(&address, PATIENCE))?.context("cannot connect")?;
    stream.write_all(text.as_bytes())?;
    drop(stream);
    let told = listening.join();
    told.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Shows that frames pass from one host to the other and not back: the echo hears, its answers
/// are dropped by the cut.
pub(crate) fn only_heard(lab: &Lab, echo: &Echo, pinger: &mut Pinger) -> Result<()> {
    let (heard, cut) = (echo.heard(), lab.dropped()?.cut);
    lab.wait_until("the other side hears but its answers are cut", PATIENCE, || {
        pinger.send();
        ensure!(echo.heard() > heard, "nothing was heard");
        ensure!(lab.dropped()?.cut > cut, "nothing was cut");
        Ok(())
    })?;
    ensure!(pinger.next(Duration::from_millis(1)).is_none(), "an answer passed the cut");
    Ok(())
}

/// Shows that nothing passes to the echo: frames are dropped by the cut and none is heard.
pub(crate) fn unheard(lab: &Lab, echo: &Echo, pinger: &mut Pinger) -> Result<()> {
    let (heard, cut) = (echo.heard(), lab.dropped()?.cut);
    lab.wait_until("frames are cut", PATIENCE, || {
        pinger.send();
        ensure!(lab.dropped()?.cut > cut, "nothing was cut");
        Ok(())
    })?;
    ensure!(echo.heard() == heard, "a frame passed the cut");
    Ok(())
}
