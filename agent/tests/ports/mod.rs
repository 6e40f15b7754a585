//! Ports of loopback that stay free while an agent that listens there is down.
//!
//! What the kernel gives for port 0 it gives to others as well, among them every connection that is
//! dialled: a port that was free a moment ago is somebody else's by the time a killed agent comes
//! back. So they are taken from below the range that the kernel hands out, each held by a lock of
//! this process for as long as it runs.

use std::fs::{self, File, TryLockError};
use std::net::TcpListener;
use std::ops::Range;
use std::sync::Mutex;

/// Below what Linux hands out by itself, which begins at 32768.
const RANGE: Range<u16> = 20_000..32_000;

static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 that nobody listens on and that no other test takes.
pub(crate) fn free() -> u16 {
    let locks = std::env::temp_dir().join("skep-test-ports");
    fs::create_dir_all(&locks).unwrap();
    // Where one looks first is chance, so that tests beside this one look elsewhere.
    let length = RANGE.len();
    let first = usize::try_from(std::process::id()).unwrap() * 61 % length;
    let ports = RANGE.cycle().skip(first).take(length);
    for port in ports {
        let file = File::options().create(true).append(true).open(locks.join(port.to_string()));
        let file = file.unwrap();
        match file.try_lock() {
            Ok(()) if TcpListener::bind(("127.0.0.1", port)).is_ok() => {
                HELD.lock().unwrap().push(file);
                return port;
            }
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => panic!("port {port} is not to be locked: {error}"),
        }
    }
    panic!("no port of {RANGE:?} is free");
}
