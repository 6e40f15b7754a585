//! Every external crate has an owner: the few crates of ours that may name it.
//!
//! A raw dependency that two crates use in two ways is two habits to keep in step. The table below
//! is complete: a crate that is not in it may not be used, so that each newcomer is a choice.

use super::{Check, Findings, Workspace};

#[cfg(test)]
use super::sample::Plant;
#[cfg(test)]
use super::{Dependency, Kind};

/// Who may name an external crate: a folder, or a layer as in `core/*`.
const OWNERS: &[(&str, &[&str])] = &[
    ("anyhow", &["agent", "cli", "xtask", "testing/*"]),
    ("aws-lc-rs", &["edge/identity", "edge/notify"]),
    ("axum", &["edge/control"]),
    ("blake3", &["core/*", "edge/store", "edge/hostfs", "testing/*"]),
    ("bytes", &["core/*", "edge/*", "agent", "client", "testing/*"]),
    ("cargo_metadata", &["xtask"]),
    ("clap", &["cli", "agent", "xtask", "testing/*"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("comfy-table", &["cli", "xtask"]),
    ("data-encoding", &["edge/identity", "edge/control", "edge/notify"]),
    ("expect-test", &["core/*", "edge/*", "agent", "cli", "testing/*"]),
    ("fastcdc", &["core/image"]),
    ("fastrand", &["core/base"]),
    ("http-body-util", &["edge/control", "edge/notify"]),
    ("hyper", &["edge/control", "edge/notify"]),
    ("hyper-util", &["edge/control", "edge/notify"]),
    ("indicatif", &["cli", "agent"]),
    ("lettre", &["edge/notify"]),
    ("libc", &["edge/control", "edge/hostfs", "edge/transport", "testing/lab"]),
    ("mimalloc", &["testing/sim"]),
    ("petgraph", &["core/topology", "testing/sim"]),
    ("postcard", &["core/wire"]),
    ("proptest", &["core/*", "edge/*", "agent", "testing/*"]),
    ("protobuf", &["core/managers"]),
    ("raft", &["core/managers"]),
    ("rcgen", &["edge/identity"]),
    ("rusqlite", &["edge/store"]),
    (
        "rustix",
        &[
            "edge/control",
            "edge/hostfs",
            "edge/identity",
            "edge/notify",
            "edge/runner",
            "edge/sensors",
            "edge/store",
            "edge/transport",
            "agent",
            "testing/lab",
            "xtask",
        ],
    ),
    ("rustls", &["edge/identity", "edge/transport", "edge/client-port", "edge/notify", "client"]),
    ("rustls-pki-types", &["edge/identity", "edge/transport", "edge/notify"]),
    ("rustls-webpki", &["edge/identity"]),
    ("sd-notify", &["agent"]),
    ("serde", &["core/*", "edge/*", "agent", "cli", "testing/*", "xtask"]),
    ("serde_bytes", &["core/*"]),
    ("serde_json", &["edge/identity", "edge/control", "agent", "cli", "testing/*", "xtask"]),
    ("slog", &["core/managers"]),
    ("socket2", &["edge/transport", "edge/client-port"]),
    ("stateright", &["testing/model"]),
    ("tempfile", &["core/*", "edge/*", "agent", "cli", "client", "testing/*", "xtask"]),
    ("thiserror", &["core/*", "edge/*", "agent", "client"]),
    ("time", &["edge/identity", "edge/notify", "cli"]),
    (
        "tokio",
        &[
            "edge/transport",
            "edge/control",
            "edge/client-port",
            "edge/notify",
            "edge/runner",
            "agent",
            "cli",
            "client",
        ],
    ),
    ("tokio-rustls", &["edge/transport", "edge/client-port", "edge/notify", "client"]),
    ("tokio-util", &["edge/transport", "agent"]),
    ("toml", &["agent"]),
    ("tracing", &["edge/*", "agent"]),
    ("tracing-subscriber", &["agent"]),
    ("zstd", &["core/image", "edge/store"]),
];

/// What may not come in at all, not even through somebody else's dependencies.
const REFUSED: &[(&str, &str)] = &[
    ("ring", "one crypto library is enough: aws-lc-rs"),
    ("openssl-sys", "TLS is rustls"),
    ("quinn", "QUIC costs five times the CPU per byte here"),
    ("bincode", "postcard is the encoding"),
    ("native-tls", "TLS is rustls"),
];

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "owners",
        why: "a raw dependency has few owners, and a new one is a decision",
        run: owners,
        #[cfg(test)]
        plants: &[
            Plant {
                what: "a crate used outside its owner",
                edit: |workspace| workspace.member("core/flood").dependencies.push(raw("rusqlite")),
            },
            Plant {
                what: "a crate that nobody owns",
                edit: |workspace| workspace.member("agent").dependencies.push(raw("left-pad")),
            },
        ],
    },
    Check {
        name: "refused",
        why: "some crates were weighed and left out; they shall not come back unseen",
        run: refused,
        #[cfg(test)]
        plants: &[Plant {
            what: "a second crypto library",
            edit: |workspace| workspace.externals[0].name = "ring".to_owned(),
        }],
    },
];

fn owners(workspace: &Workspace, findings: &mut Findings) {
    for member in &workspace.members {
        let path = format!("{}/Cargo.toml", member.folder);
        for dependency in member.dependencies.iter().filter(|found| found.folder.is_none()) {
            let name = dependency.name.as_str();
            match OWNERS.iter().find(|(known, _)| *known == name) {
                None => findings.file(
                    &path,
                    format!("{name} has no owner: add it to `tidy/owners.rs` and say why"),
                ),
                Some((_, owners)) if !owners.iter().any(|owner| owns(owner, &member.folder)) => {
                    findings.file(&path, format!("{name} belongs to {}", owners.join(", ")));
                }
                Some(_) => {}
            }
        }
    }
}

fn owns(owner: &str, folder: &str) -> bool {
    match owner.strip_suffix('*') {
        Some(layer) => folder.starts_with(layer),
        None => owner == folder,
    }
}

fn refused(workspace: &Workspace, findings: &mut Findings) {
    for external in workspace.externals.iter().filter(|external| external.built) {
        if let Some((name, why)) = REFUSED.iter().find(|(name, _)| *name == external.name) {
            findings.file("Cargo.lock", format!("{name} {} came in: {why}", external.version));
        }
    }
}

#[cfg(test)]
fn raw(name: &str) -> Dependency {
    Dependency { name: name.to_owned(), folder: None, kind: Kind::Normal }
}
