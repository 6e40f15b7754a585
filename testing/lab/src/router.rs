//! A router with address translation between a host and all others: what a home, an office and most
//! clouds put there. The host opens connections to others, as its router; nobody opens one to it.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

use crate::host::Host;
use crate::netns::NetNs;
use crate::{host, tools};

/// The address of every host behind a router: as everywhere, many have the same.
pub(crate) const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);
/// The router's own on that side.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);

/// What comes from inside goes out under the router's address, and its answers come back. Debian's
/// nft wants a line end before a closing brace.
const TABLE: &str = "\
table inet router {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname \"lan\" accept
  }
  chain leaving {
    type nat hook postrouting priority 100;
    oifname \"wan\" masquerade
  }
}
";

/// Whether this kernel translates addresses.
///
/// # Errors
/// Why not, in one line.
pub(crate) fn available() -> Result<(), String> {
    let tried = tools::feed("unshare", &["--net", "nft", "-f", "-"], TABLE);
    tried.map(drop).map_err(|error| error.to_string())
}

/// Puts a router between `host` and its cable. The router keeps the host's address of IPv4; of IPv6
/// there is none behind it.
pub(crate) fn put_before(host: &Host, router: &NetNs) -> Result<()> {
    let (inside, router_name) = (host.netns().name(), router.name());
    let outside = host.ipv4();
    tools::ip_batch(None, &[format!("netns add {router_name}")])?;
    let unplug = [format!("link set eth0 netns {router_name}")];
    tools::ip_batch(Some(inside), &unplug)
        .with_context(|| format!("the cable of {} cannot be put elsewhere", host.name()))?;
    let plug = format!("link add eth0 netns {inside} type veth peer name lan netns {router_name}");
    tools::ip_batch(None, &[plug])?;
    let lines = [
        "link set lo up".into(),
        "link set eth0 name wan".into(),
        format!("addr add {outside}/16 brd + dev wan"),
        "link set wan up".into(),
        format!("addr add {GATEWAY}/24 brd + dev lan"),
        "link set lan up".into(),
    ];
    tools::ip_batch(Some(router_name), &lines)?;
    let forward = || fs::write("/proc/sys/net/ipv4/ip_forward", "1");
    router.enter(forward)?.context("the router may not forward")?;
    tools::feed("ip", &["netns", "exec", router_name, "nft", "-f", "-"], TABLE)?;
    host::no_duplicate_detection(host.netns())?;
    let lines = [
        format!("addr add {INSIDE}/24 brd + dev eth0"),
        "link set eth0 up".into(),
        format!("route add default via {GATEWAY}"),
    ];
    tools::ip_batch(Some(inside), &lines)
}
