//! HashiCorp's serf: gossip over UDP with random probes, the peer that membership is measured by.

use std::path::Path;
use std::process::Command;

use super::{Micros, Seat, Seen, Sighting};

pub(super) fn agent(binary: &Path, seat: &Seat, seed: &Seat) -> Command {
    let mut command = Command::new(binary);
    command.args(["agent", "-log-level=info", "-retry-interval=200ms"]);
    command.arg(format!("-node={}", seat.name));
    command.arg(format!("-bind={}:7946", seat.ip));
    command.arg(format!("-rpc-addr={}:7373", seat.ip));
    if seat != seed {
        command.arg(format!("-retry-join={}:7946", seed.ip));
    }
    command
}

/// `… [INFO] serf: EventMemberJoin: NAME ADDRESS`
pub(super) fn sighting(stamp: Micros, line: &str) -> Option<Sighting> {
    let (_, event) = line.split_once("serf: EventMember")?;
    let (what, rest) = event.split_once(": ")?;
    let seen = match what {
        "Join" => Seen::Present,
        "Failed" => Seen::Silent,
        "Leave" => Seen::Left,
        _ => return None,
    };
    let node = rest.split_whitespace().next()?.to_owned();
    Some(Sighting { at: stamp, node, seen })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_log_is_understood() {
        let at = Micros(7);
        let said = |what: &str| sighting(at, &format!("    2026/11/21 [INFO] serf: {what}"));
        let of = |seen| Some(Sighting { at, node: "n3".to_owned(), seen });
        assert_eq!(said("EventMemberJoin: n3 127.77.0.3"), of(Seen::Present));
        assert_eq!(said("EventMemberFailed: n3 127.77.0.3"), of(Seen::Silent));
        assert_eq!(said("EventMemberUpdate: n3"), None);
        assert_eq!(sighting(at, "agent: Received event: member-join"), None);
    }
}
