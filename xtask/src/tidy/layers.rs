//! The folder is the permission: who may depend on whom.

use std::collections::{BTreeMap, VecDeque};

use super::{Check, Findings, Workspace};

#[cfg(test)]
use super::Kind;
#[cfg(test)]
use super::sample::{Plant, dependency};

/// Crates every machine is written in.
const VOCABULARY: [&str; 2] = ["core/base", "core/wire"];
/// The client protocol's grammar, for both of its ends.
const CLIENT_PROTOCOL: &str = "core/lines";
/// The only crate that knows the machines.
const COMPOSER: &str = "core/node";
/// Edge crates that may know another edge crate.
const EDGE_TO_EDGE: [(&str, &str); 4] = [
    ("edge/transport", "edge/identity"),
    // Applications prove who they are by certificates of the bloc.
    ("edge/client-port", "edge/identity"),
    ("edge/gateway", "edge/identity"),
    ("edge/gateway", "edge/control"),
];

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "layers",
        why: "core is pure, edges touch one outside thing each, the agent composes",
        run: layers,
        #[cfg(test)]
        plants: &[
            Plant {
                what: "a machine that imports another",
                edit: |workspace| workspace.depend("core/flood", "core/records", Kind::Normal),
            },
            Plant {
                what: "a machine that imports another for its tests",
                edit: |workspace| workspace.depend("core/flood", "core/records", Kind::Dev),
            },
            Plant {
                what: "a vocabulary crate that knows a machine",
                edit: |workspace| workspace.depend("core/wire", "core/flood", Kind::Normal),
            },
            Plant {
                what: "core on an edge",
                edit: |workspace| workspace.depend("core/node", "edge/identity", Kind::Normal),
            },
            Plant {
                what: "edge to edge outside the list",
                edit: |workspace| workspace.depend("edge/identity", "edge/store", Kind::Normal),
            },
            Plant {
                what: "the command line on the agent's insides",
                edit: |workspace| workspace.depend("cli", "core/node", Kind::Normal),
            },
            Plant {
                what: "something that ships on testing",
                edit: |workspace| workspace.depend("agent", "testing/sim", Kind::Dev),
            },
            Plant {
                what: "an edge on the agent",
                edit: |workspace| workspace.depend("edge/store", "agent", Kind::Normal),
            },
            Plant {
                what: "a folder without a rule",
                edit: |workspace| workspace.member("cli").folder = "helpers/cli".to_owned(),
            },
        ],
    },
    Check {
        name: "cycles",
        why: "cargo allows a cycle through dev-dependencies; readers do not forgive one",
        run: cycles,
        #[cfg(test)]
        plants: &[Plant {
            what: "a cycle through a dev-dependency",
            edit: |workspace| {
                let back = dependency("core/flood", Kind::Dev);
                workspace.member("core/base").dependencies.push(back);
            },
        }],
    },
];

fn layers(workspace: &Workspace, findings: &mut Findings) {
    for member in &workspace.members {
        let path = format!("{}/Cargo.toml", member.folder);
        if layer(&member.folder).is_none() {
            findings.file(&path, "the folder is in no layer: see `tidy/layers.rs`");
        }
        for dependency in &member.dependencies {
            let Some(to) = &dependency.folder else {
                continue;
            };
            if let Err(why) = allowed(&member.folder, to) {
                findings.file(&path, format!("may not depend on {to}: {why}"));
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    Core,
    Edge,
    Agent,
    Cli,
    Client,
    Testing,
    Xtask,
}

fn layer(folder: &str) -> Option<Layer> {
    match folder.split('/').collect::<Vec<_>>()[..] {
        ["core", _] => Some(Layer::Core),
        ["edge", _] => Some(Layer::Edge),
        ["agent"] => Some(Layer::Agent),
        ["cli"] => Some(Layer::Cli),
        ["client"] => Some(Layer::Client),
        ["testing", _] => Some(Layer::Testing),
        ["xtask"] => Some(Layer::Xtask),
        _ => None,
    }
}

fn allowed(from: &str, to: &str) -> Result<(), &'static str> {
    let (Some(from_layer), Some(to_layer)) = (layer(from), layer(to)) else {
        return Err("one of the two is in no layer");
    };
    let fine = match from_layer {
        Layer::Core => return core(from, to, to_layer),
        Layer::Edge => {
            to_layer == Layer::Core
                || (to_layer == Layer::Edge && EDGE_TO_EDGE.contains(&(from, to)))
        }
        Layer::Agent => {
            matches!(to_layer, Layer::Core | Layer::Edge | Layer::Cli | Layer::Client)
        }
        // Updates are sent and read as any application does it: by the client library.
        Layer::Cli => ["edge/control", "core/base", "client"].contains(&to),
        Layer::Client => {
            VOCABULARY.contains(&to) || [CLIENT_PROTOCOL, "edge/identity"].contains(&to)
        }
        Layer::Testing => to_layer != Layer::Xtask,
        Layer::Xtask => true,
    };
    if fine { Ok(()) } else { Err(reason(from_layer, to_layer)) }
}

fn reason(from: Layer, to: Layer) -> &'static str {
    match (from, to) {
        (_, Layer::Testing) => "nothing that ships knows testing/",
        (Layer::Edge, Layer::Edge) => "edge crates know one another only by the list",
        (Layer::Edge, _) => "an edge knows core/ only",
        (Layer::Cli, _) => {
            "the command line speaks only to edge/control's client and by skep-client"
        }
        (Layer::Client, _) => "the client library is core/lines, core/wire and edge/identity",
        (Layer::Agent, _) => "the agent composes what ships",
        (Layer::Testing | Layer::Xtask | Layer::Core, _) => "nothing depends on xtask",
    }
}

fn core(from: &str, to: &str, to_layer: Layer) -> Result<(), &'static str> {
    if to_layer != Layer::Core {
        return Err("core/ depends on core/ only");
    }
    match (from, to) {
        ("core/base", _) => Err("core/base is the bottom"),
        (_, "core/base") | (COMPOSER, _) => Ok(()),
        ("core/wire", _) => Err("core/wire knows frames, not messages"),
        (_, to) if VOCABULARY.contains(&to) => Ok(()),
        _ => Err("machines do not know one another: core/node carries facts between them"),
    }
}

fn cycles(workspace: &Workspace, findings: &mut Findings) {
    for member in &workspace.members {
        if let Some(way) = way_back(workspace, &member.folder) {
            findings.file(
                &format!("{}/Cargo.toml", member.folder),
                format!("depends on itself: {}", way.join(" -> ")),
            );
        }
    }
}

/// The shortest chain of dependencies, of every kind, from `start` back to itself.
fn way_back<'a>(workspace: &'a Workspace, start: &'a str) -> Option<Vec<&'a str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        let member = workspace.members.iter().find(|member| member.folder == at)?;
        for to in member.dependencies.iter().filter_map(|found| found.folder.as_deref()) {
            if to == start {
                let mut way = vec![start, at];
                while way.last() != Some(&start) {
                    way.push(came_from.get(way.last()?)?);
                }
                way.reverse();
                return Some(way);
            }
            if !came_from.contains_key(to) {
                came_from.insert(to, at);
                queue.push_back(to);
            }
        }
    }
    None
}
