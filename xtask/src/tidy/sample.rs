//! A small sound workspace, in which tests of the checks plant what must be found.

use super::{Dependency, External, Kind, Member, SourceFile, Workspace};

/// An edit that breaks exactly the rule of the check it belongs to.
pub(super) struct Plant {
    /// What is planted, for the message of a check that misses it.
    pub(super) what: &'static str,
    /// Plants it.
    pub(super) edit: fn(&mut Workspace),
}

const MANIFEST: &str = "\
[package]
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true
publish.workspace = true

[lints]
workspace = true

[dependencies]
serde.workspace = true
";

const ROOT_FILE: &str = "\
//! What this crate is for,
//! in three lines,
//! as FLOOD-33 asks.

#![no_std]
#![warn(missing_docs)]
";

/// A workspace in which no check finds anything.
pub(super) fn sound() -> Workspace {
    let mut workspace = Workspace {
        externals: vec![External {
            name: "serde".to_owned(),
            version: "1.0.0".to_owned(),
            licence: Some("MIT OR Apache-2.0".to_owned()),
            source: "registry+https://github.com/rust-lang/crates.io-index".to_owned(),
            built: true,
        }],
        ..Workspace::default()
    };
    for (folder, on) in [
        ("core/base", &[][..]),
        ("core/wire", &["core/base"]),
        ("core/records", &["core/base", "core/wire"]),
        ("core/flood", &["core/base", "core/wire"]),
        ("core/node", &["core/base", "core/wire", "core/records", "core/flood"]),
        ("edge/identity", &["core/base"]),
        ("edge/store", &["core/base", "core/flood"]),
        ("edge/control", &["core/base"]),
        ("edge/transport", &["core/wire", "edge/identity"]),
        ("agent", &["core/node", "edge/transport", "edge/store", "cli"]),
        ("cli", &["core/base", "edge/control"]),
        ("testing/sim", &["core/node"]),
        ("xtask", &["testing/sim"]),
    ] {
        let mut dependencies: Vec<Dependency> =
            on.iter().map(|to| dependency(to, Kind::Normal)).collect();
        dependencies.push(Dependency {
            name: "serde".to_owned(),
            folder: None,
            kind: Kind::Normal,
        });
        workspace.members.push(Member {
            folder: folder.to_owned(),
            name: format!("skep-{}", folder.rsplit('/').next().unwrap()),
            version: "0.0.0".to_owned(),
            manifest: MANIFEST.to_owned(),
            entry: format!("{folder}/src/lib.rs"),
            dependencies,
        });
        workspace.write(&format!("{folder}/src/lib.rs"), ROOT_FILE);
    }
    workspace.write("Cargo.lock", "");
    workspace.write("clippy.toml", "too-many-lines-threshold = 100\n");
    workspace.write("core/clippy.toml", "too-many-lines-threshold = 100\n");
    workspace.write("docs/requirements.md", "- **FLOOD-33** Drop policy when full.\n");
    workspace.write("docs/guide.md", "# First steps\n");
    workspace.write("docs/README.md", "[guide](guide.md), [list](requirements.md)\n");
    workspace.write("README.md", "[guide](docs/guide.md#first-steps), [all](docs), FLOOD-33\n");
    workspace
}

/// A dependency on one of our own crates.
pub(super) fn dependency(folder: &str, kind: Kind) -> Dependency {
    Dependency {
        name: format!("skep-{}", folder.rsplit('/').next().unwrap()),
        folder: Some(folder.to_owned()),
        kind,
    }
}

/// Edits, for plants. Each panics when what it edits is not there.
impl Workspace {
    pub(super) fn member(&mut self, folder: &str) -> &mut Member {
        self.members.iter_mut().find(|member| member.folder == folder).unwrap()
    }

    pub(super) fn depend(&mut self, from: &str, to: &str, kind: Kind) {
        self.member(from).dependencies.push(dependency(to, kind));
    }

    pub(super) fn write(&mut self, path: &str, text: &str) {
        self.files.retain(|file| file.path != path);
        self.files.push(SourceFile { path: path.to_owned(), text: text.to_owned() });
        let size = u64::try_from(text.len()).unwrap();
        self.paths.push((path.to_owned(), size));
    }

    pub(super) fn append(&mut self, path: &str, text: &str) {
        self.text(path).push_str(text);
    }

    pub(super) fn replace(&mut self, path: &str, old: &str, new: &str) {
        let text = self.text(path);
        assert!(text.contains(old), "{path} does not hold {old}");
        *text = text.replace(old, new);
    }

    fn text(&mut self, path: &str) -> &mut String {
        let file = self.files.iter_mut().find(|file| file.path == path);
        &mut file.unwrap().text
    }
}
