//! The identity of a running node, which is renewed under it without a link being dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use skep_base::NodeName;

use crate::identity::Identity;

/// A shared, replaceable identity. Cheap to clone; all clones see a replacement at once.
///
/// Links that stand are not touched: their keys were agreed on when they were made. Handshakes that
/// begin after [`IdentityHandle::replace`] use the new certificate.
#[derive(Clone)]
pub struct IdentityHandle {
    shared: Arc<Shared>,
}

struct Shared {
    current: RwLock<Arc<Identity>>,
    watchers: Mutex<Watchers>,
}

type Watcher = Arc<dyn Fn(&Arc<Identity>) + Send + Sync>;

#[derive(Default)]
struct Watchers {
    next: u64,
    list: BTreeMap<u64, Watcher>,
}

/// A replacement that is not the same node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an identity of node {new} cannot replace that of node {current} of the same process")]
pub struct ReplaceError {
    /// Who the node is.
    pub current: NodeName,
    /// Who it would have become.
    pub new: NodeName,
}

impl IdentityHandle {
    /// A handle to `identity`.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self {
            shared: Arc::new(Shared {
                current: RwLock::new(Arc::new(identity)),
                watchers: Mutex::default(),
            }),
        }
    }

    /// The identity as it is now. Ask again for each use: it may be renewed in between.
    #[must_use]
    pub fn current(&self) -> Arc<Identity> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a renewed identity in place and tells all watchers, on this thread.
    ///
    /// # Errors
    /// [`ReplaceError`] when it is of another node or bloc; nothing changes then.
    pub fn replace(&self, identity: Identity) -> Result<(), ReplaceError> {
        let identity = Arc::new(identity);
        {
            let mut current = self.shared.current.write().unwrap_or_else(PoisonError::into_inner);
            if current.info().id != identity.info().id {
                return Err(ReplaceError {
                    current: current.info().node.clone(),
                    new: identity.info().node.clone(),
                });
            }
            *current = Arc::clone(&identity);
        }
        // Called outside the lock: a watcher may ask for the current identity or stop watching.
        let watchers: Vec<_> = self.shared.watchers().list.values().cloned().collect();
        for watcher in watchers {
            watcher(&identity);
        }
        Ok(())
    }

    /// Calls `watcher` after each replacement for as long as the answer is kept. It must return
    /// soon: it runs on the replacer's thread.
    #[must_use = "watching ends when this is dropped"]
    pub fn watch(&self, watcher: impl Fn(&Arc<Identity>) + Send + Sync + 'static) -> Watch {
        let mut watchers = self.shared.watchers();
        let number = watchers.next;
        watchers.next += 1;
        watchers.list.insert(number, Arc::new(watcher));
        Watch { shared: Arc::downgrade(&self.shared), number }
    }
}

impl Shared {
    fn watchers(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for IdentityHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdentityHandle").field(&self.current().info()).finish()
    }
}

/// Keeps a watcher of an [`IdentityHandle`] alive.
pub struct Watch {
    shared: Weak<Shared>,
    number: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.watchers().list.remove(&self.number);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.number).finish()
    }
}
