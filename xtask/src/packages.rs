//! Debian packages that tests use, installed where we may.
//!
//! The project builds with Rust and a C compiler alone. Only the lab and the peers of some benches
//! run other people's programs; a machine without them runs everything else, and says what it
//! leaves out.

use std::process::Command;

use anyhow::Result;

use crate::process::{find, watch};
use crate::say;

/// A program of somebody else's and the Debian package that brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// What is looked for on the search path.
    pub program: &'static str,
    /// What is installed when it is not there.
    pub package: &'static str,
}

const fn package(program: &'static str, package: &'static str) -> Package {
    Package { program, package }
}

/// What the tests of `edge/hostfs` compare a tree's metadata with, root or not.
pub const TREES: &[Package] = &[package("rsync", "rsync")];

/// What the tests of notifications are delivered to.
pub const MAILS: &[Package] =
    &[package("aiosmtpd", "python3-aiosmtpd"), package("openssl", "openssl")];

/// What `testing/lab` runs.
pub const LAB: &[Package] = &[
    package("ip", "iproute2"),
    package("tc", "iproute2"),
    package("nft", "nftables"),
    package("ping", "iputils-ping"),
    package("rsync", "rsync"),
    package("setfacl", "acl"),
    package("setfattr", "attr"),
    package("setcap", "libcap2-bin"),
    package("mkfs.ext4", "e2fsprogs"),
    package("unshare", "util-linux"),
    package("nc", "netcat-openbsd"),
    package("telnet", "telnet"),
];

/// Installs what is missing of `wanted` when this is Debian and we are root.
///
/// Gives the packages that are still missing, each once; says in one line what it does.
///
/// # Errors
/// When `apt-get` is there and cannot be started.
pub fn ensure(wanted: &[Package], may_install: bool) -> Result<Vec<&'static str>> {
    let needed = missing(wanted, |program| find(program).is_some());
    if needed.is_empty() {
        return Ok(needed);
    }
    if !may_install || !is_root() || find("apt-get").is_none() {
        say(format_args!(
            "missing packages: {} (as root on Debian: apt-get install {})",
            needed.join(", "),
            needed.join(" ")
        ));
        return Ok(needed);
    }
    say(format_args!("installing {}", needed.join(", ")));
    let mut install = apt_get();
    install.args(["install", "-y", "-q", "--no-install-recommends"]).args(&needed);
    if !watch(&mut install)?.status.success() {
        // The usual cause is a machine whose package lists were never fetched.
        watch(apt_get().args(["update", "-q"]))?;
        watch(&mut install)?;
    }
    Ok(missing(wanted, |program| find(program).is_some()))
}

/// Whether we run as root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn missing(wanted: &[Package], there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages: Vec<_> =
        wanted.iter().filter(|want| !there(want.program)).map(|want| want.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_wanted_once_however_many_programs_it_brings() {
        let found = missing(LAB, |program| !matches!(program, "ip" | "tc" | "rsync"));
        assert_eq!(found, ["iproute2", "rsync"]);
    }

    #[test]
    fn nothing_is_wanted_where_all_is_there() {
        assert!(missing(LAB, |_| true).is_empty());
    }
}
