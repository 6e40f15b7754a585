//! The fast network: veth pairs on a kernel bridge in a namespace of its own, with one nftables set
//! of the pairs that are cut and one rule for each pair that loses frames.

use anyhow::{Context as _, Result, ensure};

use crate::netns::NetNs;
use crate::rules::{Dropped, Path, Port, Rules};
use crate::tools;

/// `numgen random mod` this: losses are exact to a hundredth of a percent.
const LOSS_STEPS: u32 = 10_000;

/// Snooping is off because the bridge has no querier to learn from, and nothing may be learnt
/// slowly in a network that lives for seconds.
const BRIDGE: &str = "type bridge forward_delay 0 stp_state 0 mcast_snooping 0";

/// Debian's nft reads `fwd` as a keyword and wants a line end before a closing brace.
const TABLE: &str = "\
table bridge lab {
  counter cut { }
  counter lost { }
  set cut {
    type ifname . ifname;
  }
  chain loss {
  }
  chain forward {
    type filter hook forward priority 0;
    iifname . oifname @cut counter name \"cut\" drop
    jump loss
  }
}
";

/// The bridge and what is plugged into it.
#[derive(Debug)]
pub(crate) struct Bridge {
    netns: NetNs,
}

impl Bridge {
    /// Makes the namespace, the bridge and the empty rules.
    ///
    /// # Errors
    /// When a tool refuses.
    pub(crate) fn new(netns: NetNs) -> Result<Self> {
        tools::ip_batch(None, &[format!("netns add {}", netns.name())])?;
        let bridge = Self { netns };
        tools::ip_batch(
            Some(bridge.netns.name()),
            &["link set lo up".into(), format!("link add br0 {BRIDGE}"), "link set br0 up".into()],
        )?;
        bridge.nft(TABLE)?;
        Ok(bridge)
    }

    /// Plugs hosts in: each gets an `eth0`.
    ///
    /// # Errors
    /// When a tool refuses.
    pub(crate) fn attach(&self, hosts: &[(Port, NetNs)]) -> Result<()> {
        let sw = self.netns.name();
        let pair = |(port, host): &(Port, NetNs)| {
            format!(
                "link add eth0 netns {} type veth peer name {} netns {sw}",
                host.name(),
                plug(*port)
            )
        };
        tools::ip_batch(None, &hosts.iter().map(pair).collect::<Vec<_>>())?;
        let up = |(port, _): &(Port, NetNs)| format!("link set {} master br0 up", plug(*port));
        tools::ip_batch(Some(sw), &hosts.iter().map(up).collect::<Vec<_>>())
    }

    /// Puts new rules in force by one transaction.
    ///
    /// # Errors
    /// When the rules ask for what a bridge cannot do, or nft refuses.
    pub(crate) fn apply(&self, rules: &Rules) -> Result<()> {
        let script = script(rules)?;
        self.nft(&script)
    }

    /// Plugs a host's cable in or out.
    ///
    /// # Errors
    /// When the tool refuses.
    pub(crate) fn set_carrier(&self, port: Port, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        let line = format!("link set {} {state}", plug(port));
        tools::ip_batch(Some(self.netns.name()), &[line])
    }

    /// Frames dropped so far.
    ///
    /// # Errors
    /// When nft does not answer in its own format.
    pub(crate) fn dropped(&self) -> Result<Dropped> {
        let netns = self.netns.name();
        let counters = "list counters table bridge lab";
        let args = ["netns", "exec", netns, "nft", "-j"];
        let args: Vec<&str> = args.into_iter().chain(counters.split(' ')).collect();
        read_counters(&tools::run("ip", &args)?)
    }

    fn nft(&self, script: &str) -> Result<()> {
        let args = ["netns", "exec", self.netns.name(), "nft", "-f", "-"];
        tools::feed("ip", &args, script).map(drop)
    }
}

/// The bridge's end of a host's cable.
fn plug(port: Port) -> String {
    format!("v{}", port.0)
}

/// The transaction that replaces whatever rules there are.
fn script(rules: &Rules) -> Result<String> {
    let mut script = String::from("flush set bridge lab cut\nflush chain bridge lab loss\n");
    let cuts: Vec<String> =
        rules.cuts().map(|(from, to)| format!("\"{}\" . \"{}\"", plug(from), plug(to))).collect();
    if !cuts.is_empty() {
        let cuts = cuts.join(", ");
        script += &format!("add element bridge lab cut {{ {cuts} }}\n");
    }
    for ((from, to), path) in rules.paths() {
        ensure!(
            !path.needs_a_switch(),
            "a kernel bridge can lose frames but not delay or shape them: make this lab with \
             Lab::switched to use {path:?}"
        );
        let share = loss_share(path);
        script += &format!(
            "add rule bridge lab loss iifname \"{}\" oifname \"{}\" \
             numgen random mod {LOSS_STEPS} < {share} counter name \"lost\" drop\n",
            plug(from),
            plug(to)
        );
    }
    Ok(script)
}

fn loss_share(path: Path) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0–1, so the product is between 0 and LOSS_STEPS"
    )]
    let share = (path.loss.clamp(0.0, 1.0) * f64::from(LOSS_STEPS)).round() as u32;
    share
}

fn read_counters(json: &str) -> Result<Dropped> {
    let listing: serde_json::Value = serde_json::from_str(json).context("nft's own listing")?;
    let items = listing["nftables"].as_array().context("no list from nft")?;
    let packets = |name: &str| {
        items
            .iter()
            .map(|item| &item["counter"])
            .find(|counter| counter["name"] == name)
            .and_then(|counter| counter["packets"].as_u64())
            .with_context(|| format!("no counter {name} in nft's listing"))
    };
    Ok(Dropped { cut: packets("cut")?, lost: packets("lost")?, queue: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_script_replaces_all_rules_at_once() {
        let mut rules = Rules::default();
        assert_eq!(
            script(&rules).unwrap(),
            "flush set bridge lab cut\nflush chain bridge lab loss\n"
        );
        rules.cut_one_way(Port(1), Port(2));
        rules.set_path(Port(2), Port(1), Path::lossy(0.125));
        assert_eq!(
            script(&rules).unwrap(),
            "flush set bridge lab cut\nflush chain bridge lab loss\n\
             add element bridge lab cut { \"v1\" . \"v2\" }\n\
             add rule bridge lab loss iifname \"v2\" oifname \"v1\" \
             numgen random mod 10000 < 1250 counter name \"lost\" drop\n"
        );
    }

    #[test]
    fn what_a_bridge_cannot_do_is_said() {
        let mut rules = Rules::default();
        rules.set_path(Port(1), Port(2), Path::delayed(Duration::from_millis(5)));
        assert!(script(&rules).unwrap_err().to_string().contains("switched"));
    }

    #[test]
    fn counters_are_read_from_the_listing() {
        let json = r#"{"nftables": [{"metainfo": {}},
            {"counter": {"name": "cut", "packets": 3, "bytes": 9}},
            {"counter": {"name": "lost", "packets": 5, "bytes": 9}}]}"#;
        let dropped = read_counters(json).unwrap();
        assert_eq!((dropped.cut, dropped.lost), (3, 5));
        assert!(read_counters("{}").is_err());
    }
}
