//! What follows from the lines of the CA's journal.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use skep_base::{NetworkName, NodeName, WallTime};

use crate::founding::FoundingToken;
use crate::invitation::Terms;
use crate::key::PUBLIC_KEY_BYTES;
use crate::roles::{Role, Roles};
use crate::trust::DEFAULT_GRACE;

/// How long an invitation that is over is remembered, so that its holder is told what happened.
const REMEMBER_INVITATION: Duration = Duration::from_secs(30 * 24 * 3600);

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Entry {
    /// An invitation was made.
    Invited {
        invitation: Key,
        expires: WallTime,
        #[serde(default)]
        node: Option<NodeName>,
        #[serde(default)]
        network: Option<NetworkName>,
        #[serde(default)]
        roles: Vec<Role>,
    },
    /// A certificate was made; with an invitation, that one is used up.
    Issued {
        node: NodeName,
        key: Key,
        at: WallTime,
        until: WallTime,
        since: WallTime,
        #[serde(default)]
        invitation: Option<Key>,
        certificate: Base64,
        /// The bloc's founding token, where it was made with this certificate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        founding: Option<Base64>,
    },
    /// The CA was made here, with this ledger: a copy of its key elsewhere makes no first token.
    Begun { at: WallTime },
    /// A founding token was made by itself, or is remembered after its line was forgotten.
    Founding { number: u64, node: NodeName, at: WallTime, until: WallTime },
}

/// The newest founding token in the ledger. Its number is never forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Founding {
    pub(crate) number: u64,
    pub(crate) node: NodeName,
    pub(crate) at: WallTime,
    pub(crate) until: WallTime,
}

/// An invitation in the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) terms: Terms,
    pub(crate) expires: WallTime,
    /// The certificate it was used for.
    pub(crate) used: Option<Issued>,
}

/// A certificate in the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) node: NodeName,
    pub(crate) key: [u8; PUBLIC_KEY_BYTES],
    pub(crate) at: WallTime,
    pub(crate) until: WallTime,
    /// When the node got its first certificate that was no renewal. Older ones of that name are of
    /// a machine that was replaced, and are not renewed.
    pub(crate) since: WallTime,
    pub(crate) certificate: Vec<u8>,
    /// The founding token that went with it, for whoever asks the same again.
    pub(crate) founding: Option<FoundingToken>,
}

impl Issued {
    /// Until when the name belongs to whoever holds this certificate: it still links in its grace.
    pub(crate) fn name_held_until(&self) -> WallTime {
        later(self.until, DEFAULT_GRACE)
    }
}

/// All invitations, and the newest certificate of each node.
#[derive(Debug, Default)]
pub(crate) struct Book {
    invitations: BTreeMap<[u8; PUBLIC_KEY_BYTES], Opened>,
    nodes: BTreeMap<NodeName, (Issued, Option<Key>)>,
    founding: Option<Founding>,
    begun: Option<WallTime>,
}

impl Book {
    /// Whether this is the ledger that the CA began with.
    pub(crate) const fn is_first(&self) -> bool {
        self.begun.is_some()
    }

    pub(crate) fn founding(&self) -> Option<&Founding> {
        self.founding.as_ref()
    }

    /// Of two tokens the one with the higher number is the newer.
    fn founded(&mut self, founding: Founding) {
        if self.founding.as_ref().is_none_or(|known| known.number < founding.number) {
            self.founding = Some(founding);
        }
    }

    pub(crate) fn invitation(&self, id: &[u8; PUBLIC_KEY_BYTES]) -> Option<&Opened> {
        self.invitations.get(id)
    }

    pub(crate) fn node(&self, name: &NodeName) -> Option<&Issued> {
        self.nodes.get(name).map(|(issued, _)| issued)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Issued> {
        self.nodes.values().map(|(issued, _)| issued)
    }

    /// How many invitations are neither used nor over.
    pub(crate) fn open_invitations(&self, now: WallTime) -> usize {
        self.invitations
            .values()
            .filter(|opened| opened.used.is_none() && opened.expires > now)
            .count()
    }

    /// An upper bound of the lines that [`Book::entries`] makes.
    pub(crate) fn len(&self) -> usize {
        let used = self.invitations.values().filter(|opened| opened.used.is_some());
        self.invitations.len() + used.count() + self.nodes.len() + 2
    }

    pub(crate) fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Invited { invitation, expires, node, network, roles } => {
                let terms = Terms { node, network, roles: roles.into_iter().collect() };
                let opened = Opened { terms, expires, used: None };
                self.invitations.insert(invitation.0, opened);
            }
            Entry::Begun { at } => self.begun = Some(at),
            Entry::Founding { number, node, at, until } => {
                self.founded(Founding { number, node, at, until });
            }
            Entry::Issued { node, key, at, until, invitation, certificate, since, founding } => {
                let founding = founding.and_then(|bytes| FoundingToken::from_bytes(&bytes.0).ok());
                if let Some(token) = &founding {
                    let (number, until) = (token.number(), token.not_after());
                    self.founded(Founding { number, node: node.clone(), at, until });
                }
                let issued = Issued {
                    node: node.clone(),
                    key: key.0,
                    at,
                    until,
                    since,
                    certificate: certificate.0,
                    founding,
                };
                if let Some(opened) = invitation.and_then(|id| self.invitations.get_mut(&id.0)) {
                    opened.used = Some(issued.clone());
                }
                self.nodes.insert(node, (issued, invitation));
            }
        }
    }

    /// Drops invitations that are long over, and certificates whose names are free again.
    pub(crate) fn forget(&mut self, now: WallTime) {
        self.invitations.retain(|_, opened| later(opened.expires, REMEMBER_INVITATION) > now);
        self.nodes.retain(|_, (issued, _)| issued.name_held_until() > now);
    }

    /// Entries from which the same book follows.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> {
        let opened = self.invitations.iter().map(|(id, opened)| Entry::Invited {
            invitation: Key(*id),
            expires: opened.expires,
            node: opened.terms.node.clone(),
            network: opened.terms.network.clone(),
            roles: opened.terms.roles.iter().collect(),
        });
        let used = self
            .invitations
            .iter()
            .filter_map(|(id, opened)| Some(entry_of(opened.used.as_ref()?, Some(Key(*id)))));
        // After the used ones: a renewal is newer than what the invitation gave.
        let nodes = self.nodes.values().map(|(issued, invitation)| entry_of(issued, *invitation));
        let founding = self.founding.clone().map(|it| {
            let Founding { number, node, at, until } = it;
            Entry::Founding { number, node, at, until }
        });
        let begun = self.begun.map(|at| Entry::Begun { at });
        begun.into_iter().chain(founding).chain(opened).chain(used).chain(nodes)
    }
}

fn entry_of(issued: &Issued, invitation: Option<Key>) -> Entry {
    Entry::Issued {
        node: issued.node.clone(),
        key: Key(issued.key),
        at: issued.at,
        until: issued.until,
        since: issued.since,
        invitation,
        certificate: Base64(issued.certificate.clone()),
        founding: issued.founding.as_ref().map(|token| Base64(token.to_bytes())),
    }
}

fn later(at: WallTime, span: Duration) -> WallTime {
    let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    WallTime::from_unix_ms(at.unix_ms.saturating_add(ms))
}

impl Entry {
    pub(crate) fn invited(id: [u8; PUBLIC_KEY_BYTES], expires: WallTime, terms: &Terms) -> Self {
        let roles: Roles = terms.roles;
        Self::Invited {
            invitation: Key(id),
            expires,
            node: terms.node.clone(),
            network: terms.network.clone(),
            roles: roles.iter().collect(),
        }
    }

    pub(crate) fn issued(issued: &Issued, invitation: Option<[u8; PUBLIC_KEY_BYTES]>) -> Self {
        entry_of(issued, invitation.map(Key))
    }
}

/// A public key, in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) [u8; PUBLIC_KEY_BYTES]);

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("not a key"))
    }
}

/// A certificate, in base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base64(pub(crate) Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&data_encoding::BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        data_encoding::BASE64.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}
