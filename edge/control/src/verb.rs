//! The table of what can be asked: method, path, permission. The router is made from it, so no verb
//! can be served without a permission, and `docs/control.md` is compared with it.

use crate::access::Permission;

/// One thing that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verb {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// The path below [`crate::api::PREFIX`], with its parameters in braces.
    pub path: &'static str,
    /// What it asks of the caller.
    pub permission: Permission,
    /// Longest body, in bytes.
    pub max_body: usize,
    /// What it does.
    pub about: &'static str,
}

const fn read(path: &'static str, about: &'static str) -> Verb {
    Verb { method: "GET", path, permission: Permission::Read, max_body: 0, about }
}

const fn operate(method: &'static str, path: &'static str, about: &'static str) -> Verb {
    Verb {
        method,
        path,
        permission: Permission::Operate,
        max_body: crate::api::MAX_REQUEST_BYTES,
        about,
    }
}

macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident = $verb:expr;)*) => {
        $($(#[$doc])* pub const $name: Verb = $verb;)*
        /// All of them, in the order of the documentation.
        pub const VERBS: &[Verb] = &[$($name),*];
    };
}

verbs! {
    /// The agent in one page.
    STATUS = read("/status", "the agent in one page");
    /// Its own checks.
    HEALTH = read("/health", "whether the agent can do its work");
    /// All members.
    MEMBERS = read("/members", "all members known, with presence");
    /// The flock.
    FLOCK = read("/flock", "who can reach whom now, and who manages the flock; `ask_master`");
    /// Manage the flock otherwise.
    MANAGE_FLOCK = operate("POST", "/flock", "order something of the managers");
    /// What a recovery here would mean.
    FLOCK_RECOVERY =
        read("/flock-recovery", "what this node would found a flock from, and what would be lost");
    /// The catalog.
    CATALOG = read("/catalog", "the desired state and how fresh it is; `kind`");
    /// Change the catalog.
    WRITE_CATALOG = operate("POST", "/catalog", "set or remove an entry, as the master decides");
    /// One entry.
    CATALOG_ENTRY = read("/catalog/{kind}/{name}", "an entry and its last versions");
    /// What changed.
    CATALOG_DIFF = read("/catalog-diff", "what changed between two indices; `from`, `to`");
    /// The catalog as a file.
    CATALOG_EXPORT = read("/catalog-export", "the whole catalog as a file");
    /// From a file.
    CATALOG_IMPORT = Verb {
        max_body: crate::api::MAX_IMPORT_BYTES,
        ..operate(
            "POST",
            "/catalog-import",
            "make the catalog what a file says; `replace`, `dry_run`",
        )
    };
    /// Apply an entry of the conflict log.
    CATALOG_REAPPLY = operate(
        "POST",
        "/catalog-conflicts/{name}",
        "let an entry of the conflict log happen after all",
    );
    /// Incidents.
    NOTIFY = read("/notify", "what is or was wrong, and who was told of it");
    /// Try the targets.
    NOTIFY_TEST = operate("POST", "/notify/test", "send a letter to every target, or to one");
    /// The links.
    LINKS = read("/links", "links that are up, with the kernel's figures");
    /// The events.
    EVENTS = read("/events", "what happened, one JSON object a line; `after`, `last`, `follow`");
    /// The figures.
    METRICS = read("/metrics", "counters and gauges");
    /// The certificate.
    CERT = read("/cert", "the certificate that the agent shows");
    /// The certificate authority.
    CA = read("/ca", "the certificate authority, where this node serves it");
    /// All groups.
    GROUPS = read("/groups", "all groups known, with members and log sizes");
    /// One group.
    GROUP = read("/groups/{group}", "one group");
    /// Who links to whom in a group.
    TOPOLOGY = read("/groups/{group}/topology", "who links to whom in a group; `draw`");
    /// How far apart two nodes are.
    RTT = read("/rtt/{from}/{to}", "what is known of the round trip between two nodes");
    /// Publish.
    PUBLISH = Verb {
        max_body: crate::api::MAX_UPDATE_BYTES,
        ..operate("POST", "/groups/{group}/updates", "publish the body as an update; `trail`")
    };
    /// Read the log.
    UPDATES = Verb {
        permission: Permission::Operate,
        ..read(
            "/groups/{group}/updates",
            "read the log; `subscriber` or `after`, `max`, `wait_ms`",
        )
    };
    /// Commit a cursor.
    COMMIT = operate(
        "POST",
        "/groups/{group}/subscribers/{subscriber}",
        "note that all up to a cursor is done with",
    );
    /// Forget a subscriber.
    UNSUBSCRIBE = operate(
        "DELETE",
        "/groups/{group}/subscribers/{subscriber}",
        "forget a subscriber and his cursor",
    );
    /// All images.
    IMAGES = read("/images", "versions of images on this node");
    /// One image.
    IMAGE = read("/images/{name}", "one version and its entries; `version`");
    /// Remove what nobody needs.
    PRUNE_IMAGES = operate("POST", "/images/prune", "remove old versions and chunks of none");
    /// All waves.
    WAVES = read("/waves", "waves known, newest first");
    /// One wave.
    WAVE = read("/waves/{id}", "one wave, node by node");
    /// Start one.
    START_WAVE = operate("POST", "/waves", "start a wave");
    /// Dial addresses.
    JOIN_ADDRESS = operate("POST", "/join-address", "dial these addresses");
    /// Stop.
    SHUTDOWN = operate("POST", "/shutdown", "stop, announcing a restart or leaving for good");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_verbs_share_method_and_path() {
        let mut seen = std::collections::BTreeSet::new();
        for verb in VERBS {
            assert!(seen.insert((verb.method, verb.path)), "{verb:?} twice");
        }
    }

    #[test]
    fn whatever_is_not_get_needs_an_operator() {
        for verb in VERBS {
            if verb.method != "GET" {
                assert_eq!(verb.permission, Permission::Operate, "{verb:?}");
            }
        }
    }
}
