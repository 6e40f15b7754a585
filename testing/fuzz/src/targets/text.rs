//! What people write: the configuration and the file of addresses.

use std::path::Path;

use skep_agent::config::{Config, parse};
use skep_transport::discovery::parse_addresses;

use super::{Seed, Target};

/// The configuration file.
pub(super) const CONFIG: Target = Target {
    name: "config",
    decode: fuzz_config,
    seeds: config_seeds,
    accepts: |data| read_config(data).is_some_and(|read| read.is_some()),
};

/// The file of addresses to dial.
pub(super) const ADDRESSES: Target = Target {
    name: "addresses",
    decode: fuzz_addresses,
    seeds: || {
        let lines =
            "# seeds\n10.0.0.1:7400\n[2001:db8::7]:7400\n\nseed.example:7400 # with a name\n";
        vec![("all-kinds", lines.into())]
    },
    accepts: |data| std::str::from_utf8(data).is_ok_and(|text| parse_addresses(text).is_ok()),
};

/// The file that is said to have been read.
const FILE: &str = "/etc/skep/skep.toml";

/// The configuration, nothing when it is refused; nothing at all for what is no text.
fn read_config(data: &[u8]) -> Option<Option<Config>> {
    let text = std::str::from_utf8(data).ok()?;
    Some(parse(Some((Path::new(FILE), text)), &|_| None, &[]).ok())
}

fn fuzz_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Err(errors) = parse(Some((Path::new(FILE), text)), &|_| None, &[]) {
        assert!(errors.to_string().contains(FILE), "an error says in which file: {errors}");
    }
}

fn fuzz_addresses(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(addresses) = parse_addresses(text) {
        let lines: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        assert_eq!(parse_addresses(&lines.join("\n")), Ok(addresses));
    }
}

fn config_seeds() -> Vec<Seed> {
    let small = "[join]\naddresses = [\"10.0.0.1:7400\"]\n[groups]\nextra = [\"web\"]\n\
                 [timers]\nheartbeat = \"500ms\"\n[flood]\nstorage_max = \"1 GiB\"\n";
    vec![("small", small.into())]
}
