//! As whom a command runs: looked up in `/etc/passwd` and `/etc/group`, as the kernel knows nothing
//! of names.

use std::io;

/// Longest such file that is read: some hundred thousand users.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Supplementary groups of one user.
const MAX_GROUPS: usize = 1024;

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name; the number where there is none.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// Other groups.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: String,
}

/// Why a command cannot run as somebody.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Nobody of that name or number.
    #[error("there is no user {name:?} on this host; see /etc/passwd")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// Only root can.
    #[error("only root can run a command as {name}: start the agent as root, or as {name}")]
    NotRoot {
        /// What was asked for.
        name: String,
    },
    /// The lists of users cannot be read.
    #[error("cannot read {path}")]
    Unread {
        /// Which.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl User {
    /// The user that a job names, or this process's own.
    ///
    /// # Errors
    /// [`UserError`] when there is none, or this process may not become it.
    pub fn find(wanted: Option<&str>) -> Result<Self, UserError> {
        let own = rustix::process::geteuid().as_raw();
        let passwd = read("/etc/passwd")?;
        let user = match wanted {
            Some(name) => of_name(&passwd, name)
                .ok_or_else(|| UserError::Unknown { name: name.to_owned() })?,
            None => of_number(&passwd, own).unwrap_or_else(|| Self::numbered(own)),
        };
        if own != 0 && user.uid != own {
            return Err(UserError::NotRoot { name: user.name });
        }
        let groups = groups_of(&read("/etc/group")?, &user);
        Ok(Self { groups, ..user })
    }

    /// What people call the user of this number: its name, else the number.
    #[must_use]
    pub fn called(uid: u32) -> String {
        let passwd = read("/etc/passwd").unwrap_or_default();
        of_number(&passwd, uid).map_or_else(|| format!("uid {uid}"), |user| user.name)
    }

    fn numbered(uid: u32) -> Self {
        let home = "/".to_owned();
        Self { name: uid.to_string(), uid, gid: uid, groups: Vec::new(), home }
    }
}

fn read(path: &'static str) -> Result<String, UserError> {
    let text = || -> io::Result<String> {
        if std::fs::metadata(path)?.len() > MAX_FILE_BYTES {
            return Err(io::Error::other("it is over 16 MiB long"));
        }
        Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
    };
    match text() {
        // A container may have none, and numbers are numbers all the same.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(|source| UserError::Unread { path, source }),
    }
}

fn of_name(passwd: &str, name: &str) -> Option<User> {
    let named = users(passwd).find(|user| user.name == name);
    // A number needs no entry.
    named.or_else(|| {
        let uid = name.parse().ok()?;
        Some(of_number(passwd, uid).unwrap_or_else(|| User::numbered(uid)))
    })
}

fn of_number(passwd: &str, uid: u32) -> Option<User> {
    users(passwd).find(|user| user.uid == uid)
}

fn users(passwd: &str) -> impl Iterator<Item = User> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else {
            return None;
        };
        Some(User {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            groups: Vec::new(),
            home: if home.is_empty() { "/".to_owned() } else { home.to_owned() },
        })
    })
}

fn groups_of(group: &str, user: &User) -> Vec<u32> {
    let member = group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members, ..] = fields[..] else {
            return None;
        };
        let gid: u32 = gid.parse().ok()?;
        let among = members.split(',').any(|member| member == user.name);
        (among && gid != user.gid).then_some(gid)
    });
    member.take(MAX_GROUPS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\nbroken:x:1\n\
        filer:x:1001:1002:Files:/srv/filer:/bin/sh\nnohome:x:7:7:::\n";
    const GROUP: &str = "root:x:0:\nfiler:x:1002:filer\ndisk:x:6:a,filer,b\nmail:x:8:filers\nx\n";

    #[test]
    fn users_are_found_by_name_and_number_with_their_groups() {
        let filer = of_name(PASSWD, "filer").unwrap();
        assert_eq!((filer.uid, filer.gid, filer.home.as_str()), (1001, 1002, "/srv/filer"));
        assert_eq!(groups_of(GROUP, &filer), [6]);
        assert_eq!(of_name(PASSWD, "1001"), Some(filer));
        assert_eq!(of_name(PASSWD, "nohome").unwrap().home, "/");
        assert_eq!(of_name(PASSWD, "4711").unwrap(), User::numbered(4711));
        assert_eq!(of_name(PASSWD, "broken"), None);
        assert_eq!(of_name(PASSWD, "-1"), None);
    }

    #[test]
    fn oneself_is_always_somebody() {
        let user = User::find(None).unwrap();
        assert_eq!(user.uid, rustix::process::geteuid().as_raw());
        let unknown = User::find(Some("no-such-user")).unwrap_err();
        assert!(unknown.to_string().contains("no-such-user"));
    }
}
