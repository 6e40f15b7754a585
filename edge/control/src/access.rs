//! Who may ask what: a pure function of the credentials that the kernel vouches for.
//!
//! Root and the agent's own user are operators, members of one group read, everybody else is
//! refused. The socket's mode says the same, so the check here is the second of two.

use std::fmt;

/// What a verb asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Looks, and changes nothing.
    Read,
    /// Changes something, or reads what updates carry.
    Operate,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "read",
            Self::Operate => "operate",
        })
    }
}

/// What the kernel says of the process at the other end of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The process that connected, for the log only: numbers are used again.
    pub pid: Option<i32>,
}

/// Whom the agent trusts on its own host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The agent's own user.
    pub own_uid: u32,
    /// The group whose members read; nobody where there is no such group.
    pub readers: Option<u32>,
}

impl Access {
    /// The most that a process with `credentials` may do; nothing for strangers.
    #[must_use]
    pub fn judge(&self, credentials: &Credentials) -> Option<Permission> {
        if credentials.uid == 0 || credentials.uid == self.own_uid {
            return Some(Permission::Operate);
        }
        let readers = self.readers?;
        (credentials.gid == readers || credentials.groups.contains(&readers))
            .then_some(Permission::Read)
    }
}

/// A client and what he may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// His user.
    pub uid: u32,
    /// His process, for the log.
    pub pid: Option<i32>,
    /// The most he may do; nothing for strangers.
    pub permission: Option<Permission>,
}

impl Caller {
    /// Whether he may do what needs `wanted`.
    #[must_use]
    pub fn may(&self, wanted: Permission) -> bool {
        self.permission.is_some_and(|permission| permission >= wanted)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid)?;
        match self.pid {
            Some(pid) => write!(f, " (process {pid})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
        Credentials { uid, gid, groups: groups.to_vec(), pid: None }
    }

    #[test]
    fn root_and_the_agents_user_operate_the_group_reads_nobody_else_may() {
        let access = Access { own_uid: 990, readers: Some(77) };
        let may = |uid, gid, groups: &[u32]| access.judge(&process(uid, gid, groups));
        assert_eq!(may(0, 0, &[]), Some(Permission::Operate));
        assert_eq!(may(990, 990, &[]), Some(Permission::Operate));
        assert_eq!(may(1000, 77, &[]), Some(Permission::Read));
        assert_eq!(may(1000, 1000, &[4, 77]), Some(Permission::Read));
        assert_eq!(may(1000, 1000, &[4, 27]), None);
        assert_eq!(may(77, 1000, &[]), None, "a user number is no group number");
        assert_eq!(may(1000, 0, &[0]), None, "root's group is not root");
    }

    #[test]
    fn without_the_group_nobody_reads() {
        let access = Access { own_uid: 0, readers: None };
        assert_eq!(access.judge(&process(1000, 1000, &[77])), None);
    }

    #[test]
    fn operators_read_and_readers_do_not_operate() {
        let caller = |permission| Caller { uid: 1, pid: Some(2), permission };
        assert!(caller(Some(Permission::Operate)).may(Permission::Read));
        assert!(!caller(Some(Permission::Read)).may(Permission::Operate));
        assert!(!caller(None).may(Permission::Read));
    }
}
