//! What people write: the configuration and the file of addresses.

use std::path::Path;

use skep_agent::config::floodd::{Floodd, sexp};
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

/// S-expressions.
pub(super) const SEXP: Target = Target {
    name: "sexp",
    decode: fuzz_sexp,
    seeds: || {
        let all = "# a comment\n(:form (:name value 1.5) ; another\n \
                   (:text \"a \\\"b\\\\\\n\tc\") ())\nx#y";
        vec![("all-kinds", all.into())]
    },
    accepts: |data| std::str::from_utf8(data).is_ok_and(|text| sexp::read(text).is_ok()),
};

/// floodd's configuration file (FLOOD-37).
pub(super) const FLOODD: Target = Target {
    name: "floodd",
    decode: fuzz_floodd,
    seeds: || {
        let sample = include_str!("../../../../docs/examples/floodd.conf");
        vec![("sample", sample.into())]
    },
    accepts: |data| Floodd::parse(Path::new(FLOODD_FILE), data).is_ok(),
};

/// The file of floodd that is said to have been read.
const FLOODD_FILE: &str = "/etc/floodd.conf";
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

fn fuzz_sexp(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match sexp::read(text) {
        Ok(values) => {
            let written = sexp::write(&values);
            let again = sexp::read(&written).map(|values| sexp::write(&values));
            assert_eq!(again, Ok(written));
        }
        Err(error) => assert!(error.at.line as usize <= text.split('\n').count()),
    }
}

/// What one site's settings say, its import as a `skep.toml` says as well; or both are refused.
fn fuzz_floodd(data: &[u8]) {
    let floodd = match Floodd::parse(Path::new(FLOODD_FILE), data) {
        Ok(floodd) => floodd,
        Err(errors) => {
            assert!(errors.to_string().contains(FLOODD_FILE), "in which file: {errors}");
            return;
        }
    };
    let Some(site) = floodd.sites().map(|(site, _)| site.clone()).next() else {
        return;
    };
    let mapped = match floodd.map(&site) {
        Ok(mapped) => mapped,
        Err(error) => panic!("a site that is there: {error}"),
    };
    let toml = mapped.to_toml();
    let imported = parse(Some((Path::new(FILE), &toml)), &|_| None, &[]);
    match (mapped.parse(None, &|_| None, &[]), imported) {
        (Ok(direct), Ok(imported)) => {
            let values = |config: Config| -> Vec<_> {
                config.settings.into_iter().map(|set| (set.key, set.value)).collect()
            };
            assert_eq!(values(direct), values(imported));
        }
        (Err(_), Err(_)) => {}
        (Ok(_), Err(error)) => panic!("the import is refused: {error}\n{toml}"),
        (Err(error), Ok(_)) => panic!("only the import is taken: {error}\n{toml}"),
    }
}

fn config_seeds() -> Vec<Seed> {
    let small = "[join]\naddresses = [\"10.0.0.1:7400\"]\n[groups]\nextra = [\"web\"]\n\
                 [timers]\nheartbeat = \"500ms\"\n[flood]\nstorage_max = \"1 GiB\"\n";
    vec![("small", small.into())]
}
