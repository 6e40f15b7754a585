//! Who may what of the flock: whom the catalog expels, whom certificates name as managers, and
//! whose wishes the master carries out.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use skep_base::{Digest, NodeId, Time};
use skep_catalog::{Asker, Key, Kind, Rules, Wish};
use skep_managers::Eligibility;
use skep_records::{Verifier, kind as record};

use crate::managed::Fit;
use crate::node::Node;

/// The role by which the CA names who may be a manager.
const MANAGER: &str = "manager";

/// See the module.
pub(crate) struct Access {
    verifier: Arc<dyn Verifier>,
    /// The roles of nodes whose certificate gives them any.
    roles: BTreeMap<NodeId, BTreeSet<String>>,
    /// Known nodes that are members no more.
    expelled: BTreeSet<NodeId>,
    rules: Rules,
}

/// Why a wish is not carried out.
pub(crate) struct Unwanted {
    pub(crate) why: String,
    /// It may be, asked over a link of the asker's own.
    pub(crate) again: bool,
}

impl Access {
    pub(crate) fn new(verifier: Arc<dyn Verifier>, catalog: &skep_catalog::Catalog) -> Self {
        let (roles, expelled) = (BTreeMap::new(), BTreeSet::new());
        Self { verifier, roles, expelled, rules: Rules::of(catalog) }
    }

    pub(crate) fn is_expelled(&self, node: NodeId) -> bool {
        self.expelled.contains(&node)
    }

    /// What a node may be that says that it may be `said`: where certificates of the bloc name
    /// managers, nobody else is one (architecture, section 5).
    pub(crate) fn certified(&self, node: NodeId, said: Fit) -> Fit {
        if !self.names_managers() || self.is_manager(node) {
            return said;
        }
        Fit { eligible: Eligibility::No, ..said }
    }

    fn names_managers(&self) -> bool {
        self.roles.values().any(|roles| roles.contains(MANAGER))
    }

    /// The number of a founding token, judged.
    pub(crate) fn founding(&self, token: &skep_catalog::Token) -> Result<u64, String> {
        self.verifier.founding(&token.0)
    }

    fn is_manager(&self, node: NodeId) -> bool {
        self.roles.get(&node).is_some_and(|roles| roles.contains(MANAGER))
    }
}

impl Node {
    /// A node's certificate is another one.
    pub(crate) fn certificate_changed(&mut self, now: Time, owner: NodeId) {
        let stored = self.records.get(owner, record::CERTIFICATE).filter(|it| !it.retracted);
        let roles = stored.map(|it| self.access.verifier.roles(&it.body)).unwrap_or_default();
        self.roles_changed(now, owner, roles);
        self.look_whether_expelled(now, owner);
    }

    /// A node is forgotten, and what its certificate said with it.
    pub(crate) fn access_forgets(&mut self, now: Time, owner: NodeId) {
        self.roles_changed(now, owner, BTreeSet::new());
        if self.access.expelled.remove(&owner) {
            self.tell_managers_of_expelled(now);
        }
    }

    fn roles_changed(&mut self, now: Time, owner: NodeId, roles: BTreeSet<String>) {
        let before = (self.access.names_managers(), self.access.is_manager(owner));
        if roles.is_empty() {
            self.access.roles.remove(&owner);
        } else {
            self.access.roles.insert(owner, roles);
        }
        let after = (self.access.names_managers(), self.access.is_manager(owner));
        if before.0 != after.0 {
            // What everybody may be hangs on whether any certificate names a manager.
            let present = self.membership.present().to_vec();
            present.into_iter().for_each(|node| self.tell_managers_of(now, node));
            self.tell_managers_of(now, self.id);
        } else if before.1 != after.1 {
            self.tell_managers_of(now, owner);
        }
    }

    /// Entries of the catalog say something else.
    pub(crate) fn access_changed(&mut self, now: Time, keys: &[Key]) {
        if keys.iter().any(|key| key.kind() == Kind::RULE) {
            self.access.rules = Rules::of(self.catalog.catalog());
        }
        if keys.iter().any(|key| key.kind() == Kind::EXPELLED) {
            let all: alloc::vec::Vec<NodeId> =
                self.membership.members().map(|it| it.node).collect();
            all.into_iter().for_each(|node| self.look_whether_expelled(now, node));
        }
    }

    /// Whether the catalog expels a node that is known here.
    #[must_use]
    pub fn is_expelled(&self, node: NodeId) -> bool {
        self.access.is_expelled(node)
    }

    /// Takes note where the catalog expels a node, or does so no more.
    pub(crate) fn look_whether_expelled(&mut self, now: Time, node: NodeId) {
        let name = self.membership.member(node).and_then(|member| member.name);
        let certificate = self.records.get(node, record::CERTIFICATE);
        let certificate = certificate.map(|stored| Digest::of(&stored.body));
        let catalog = self.catalog.catalog();
        let expelled = name.is_some_and(|name| catalog.expels(name, certificate.as_ref()));
        if expelled == self.access.expelled.contains(&node) {
            return;
        }
        if expelled {
            self.access.expelled.insert(node);
            if node != self.id {
                self.manage(now, skep_managers::Input::Silent { node });
            }
            self.tell_managers_of_expelled(now);
        } else {
            self.access.expelled.remove(&node);
            self.tell_managers_of_expelled(now);
            self.tell_managers_of(now, node);
            self.tell_announcement(now, node);
        }
    }

    pub(crate) fn tell_managers_of_expelled(&mut self, now: Time) {
        let expelled = self.access.expelled.clone();
        self.manage(now, skep_managers::Input::Expelled(expelled));
    }

    /// Whether a wish of `asker` is carried out by this node as the master. `direct`: it came over
    /// a link, so that it is surely the asker's.
    pub(crate) fn admit(&self, asker: NodeId, direct: bool, wish: &Wish) -> Result<(), Unwanted> {
        let no = |why: String| Err(Unwanted { why, again: false });
        if self.access.is_expelled(asker) {
            return no("the node that asks is expelled by the catalog".into());
        }
        if !self.access.rules.concern(wish) {
            return Ok(());
        }
        if !direct {
            let why = "rules say who may ask this, so it must come over a link to the master, and \
                       none came up: see `skep links`";
            return Err(Unwanted { why: why.into(), again: true });
        }
        let Some(name) = self.membership.member(asker).and_then(|member| member.name) else {
            return no("nobody here knows the name of the node that asks".into());
        };
        let none = BTreeSet::new();
        let roles = self.access.roles.get(&asker).unwrap_or(&none);
        let asker = Asker { node: name, roles };
        self.access.rules.judge(&asker, wish).or_else(|(right, key)| {
            let what =
                key.map_or_else(|| "order the managers".into(), |key| format!("change {key}"));
            no(format!(
                "{name} may not {what}: rules name who has the right `{right}`, and it is not \
                 among them; see `skep catalog get --kind rule`"
            ))
        })
    }
}
