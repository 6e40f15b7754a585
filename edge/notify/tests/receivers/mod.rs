//! A mail server (aiosmtpd) and a receiver of webhooks that run on loopback, with a CA of their
//! own: for the tests of deliveries, of agents and of the lab, each of which uses some of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use tempfile::TempDir;

/// Debian's, whatever else is on the search path: its package has the mail server.
const PYTHON: &str = "/usr/bin/python3";
const RECEIVERS: &str = include_str!("../receivers.py");

/// Receivers that run. Dropped, they are ended.
pub(crate) struct Receivers {
    pub(crate) dir: TempDir,
    pub(crate) child: Child,
    /// What arrives, one after the other, as JSON.
    pub(crate) said: Receiver<String>,
    ports: String,
}

impl Drop for Receivers {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Receivers {
    /// Starts them, the mail server without TLS at `plain`, or at a port of its own where that is
    /// 0; says in one line what is missing where they cannot be.
    pub(crate) fn or_skip(plain: u16) -> Option<Self> {
        let mut module = Command::new(PYTHON);
        let module = module.args(["-c", "import aiosmtpd"]).stderr(Stdio::null());
        let there = module.status().is_ok_and(|status| status.success());
        let openssl = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
        if !(there && openssl.is_ok_and(|status| status.success())) {
            writeln!(std::io::stderr(), "skipped: needs python3-aiosmtpd and openssl").ok();
            return None;
        }
        Some(Self::start(plain))
    }

    fn start(plain: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(PYTHON);
        command
            .args(["-c", RECEIVERS])
            .arg(dir.path())
            .arg(plain.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (say, said) = channel();
        // It ends with the receivers.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        let ports = said.recv().unwrap();
        Self { dir, child, said, ports }
    }

    /// Where one of them listens: `plain`, `starttls`, `tls`, `hook` or `hook_tls`.
    pub(crate) fn port(&self, of: &str) -> u16 {
        let after = self.ports.split(&format!("\"{of}\": ")).nth(1).unwrap();
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    }

    /// A file in their directory, such as `ca.pem`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}
