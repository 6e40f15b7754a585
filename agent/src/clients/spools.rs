//! Long updates of clients, laid down beside the log while they come in: the log takes the file
//! over as it is, and nothing is copied or hashed twice.

use std::io;

use skep_client_port::{Laid, Laying, Spools};
use skep_store::bodies;

/// The spools of the store, as the port knows them.
#[derive(Debug)]
pub(super) struct BesideTheLog(pub(super) bodies::Spools);

struct Coming(bodies::Laying);

/// Removes the file in its turn: on the main loop's thread nothing waits for a disk.
struct Keep(Option<bodies::SpooledBody>);

impl Spools for BesideTheLog {
    fn begin(&self) -> io::Result<Box<dyn Laying>> {
        Ok(Box::new(Coming(self.0.begin()?)))
    }
}

impl Laying for Coming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write(bytes)
    }

    fn finish(self: Box<Self>) -> io::Result<Laid> {
        let body = self.0.finish()?;
        let (number, digest) = (body.number, body.digest);
        Ok(Laid { number, digest, keep: Box::new(Keep(Some(body))) })
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        let body = self.0.take();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(body))),
            Err(_) => drop(body),
        }
    }
}
