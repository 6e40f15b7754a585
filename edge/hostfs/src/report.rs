//! What could not be set for want of privilege, as a list.

use std::fmt;

use skep_image::TreePath;

/// Most items a report names; the rest is counted.
const MAX_NAMED: usize = 1000;

/// One thing that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Of which entry.
    pub path: TreePath,
    /// What.
    pub what: LeftWhat,
}

/// What can be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftWhat {
    /// The owner: the entry belongs to the agent's user instead.
    Owner {
        /// Wanted user.
        uid: u32,
        /// Wanted group.
        gid: u32,
    },
    /// Set-user-id or set-group-id, which without the owner would give away another's rights.
    SetId,
    /// The device, of which nothing was made; nor were further names of it.
    Device,
    /// An extended attribute, by name.
    Xattr(Vec<u8>),
}

/// All that was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The first thousand.
    pub named: Vec<Left>,
    /// How many in all.
    pub count: u64,
}

impl LeftOut {
    /// Whether nothing was left out.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn add(&mut self, path: &TreePath, what: LeftWhat) {
        self.count += 1;
        if self.named.len() < MAX_NAMED {
            self.named.push(Left { path: path.clone(), what });
        }
    }
}

impl fmt::Display for LeftWhat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner { uid, gid } => write!(f, "owner {uid}:{gid}"),
            Self::SetId => f.write_str("set-user-id or set-group-id, since the owner is another"),
            Self::Device => f.write_str("the device itself"),
            Self::Xattr(name) => write!(f, "extended attribute {}", name.escape_ascii()),
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

impl fmt::Display for LeftOut {
    /// The first few, for one line; the list is in [`LeftOut::named`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        for (index, left) in self.named.iter().take(SHOWN).enumerate() {
            let comma = if index > 0 { "; " } else { "" };
            write!(f, "{comma}{left}")?;
        }
        match self.count.saturating_sub(SHOWN as u64) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
