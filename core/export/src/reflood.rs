//! Whether what an export command publishes may be flooded (FLOOD-42).
//!
//! A command may publish: into another group what it made of the updates of this one. It may not
//! publish into a group whose command is behind it already, in this batch or further back: at every
//! member that would be handed to the command again, and so on for ever. The *trail* that an update
//! carries says what is behind it; where it comes from is told by who publishes it: by the process,
//! where that is one of a command's own, or by the trail that the command was given and names.

use alloc::vec::Vec;

use skep_base::{GroupName, MAX_TRAIL, Trail};

/// The batch of a command that a publish seems to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Came {
    /// What the updates of the batch came through before.
    pub through: Trail,
    /// The group that the batch is of.
    pub of: GroupName,
    /// Whether it surely comes from there. A program that published and was gone before anybody
    /// could look at it may be the command's or not: it may begin a chain, but not go on with one.
    pub sure: bool,
}

/// Where an update may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// To which groups.
    pub groups: Vec<GroupName>,
    /// What it carries.
    pub trail: Trail,
}

/// Why it may not be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Looped {
    /// It would come round.
    #[error(
        "this comes from the export command of group {0}, or from what that command was given: \
         flooded into {0} it would go round for ever"
    )]
    Round(GroupName),
    /// No group is left.
    #[error("this has come through the export commands of all groups of this site")]
    Everywhere,
    /// The chain is long.
    #[error("this has come through {0} export commands, more than {MAX_TRAIL}")]
    Long(usize),
}

/// Where an update may go that names the trail `said` and seems to come from `came`. Of groups that
/// were not named one by one, those that it came through are left out.
///
/// # Errors
/// [`Looped`] says why it may go nowhere.
pub fn judge(
    said: &Trail,
    came: &[Came],
    groups: Vec<GroupName>,
    named: bool,
) -> Result<Allowed, Looped> {
    if said.is_empty() && came.is_empty() {
        return Ok(Allowed { groups, trail: Trail::none() });
    }
    let mut behind = said.clone();
    let mut trail = said.clone();
    for one in came {
        let whole = one.through.clone().through(&one.of);
        behind = behind.and(if one.sure { &whole } else { &one.through });
        trail = trail.and(&whole);
    }
    let mut allowed = groups;
    if named {
        if let Some(round) = allowed.iter().find(|group| behind.leads_through(group)) {
            return Err(Looped::Round(round.clone()));
        }
    } else {
        allowed.retain(|group| !behind.leads_through(group));
        if allowed.is_empty() {
            return Err(Looped::Everywhere);
        }
    }
    if !trail.is_sound() {
        return Err(Looped::Long(trail.len()));
    }
    Ok(Allowed { groups: allowed, trail })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;

    fn group(name: &str) -> GroupName {
        name.parse().unwrap()
    }

    fn from(of: &str, through: &[&str], sure: bool) -> Came {
        let through = through.iter().fold(Trail::none(), |trail, name| trail.through(&group(name)));
        Came { through, of: group(of), sure }
    }

    #[test]
    fn what_no_command_has_made_goes_where_it_likes() {
        let groups = vec![group("web"), group("db")];
        let allowed = judge(&Trail::none(), &[], groups.clone(), true).unwrap();
        assert_eq!(allowed, Allowed { groups, trail: Trail::none() });
    }

    #[test]
    fn a_command_may_publish_into_other_groups_than_those_behind_it() {
        let came = [from("web", &["db"], true)];
        let to = |name: &str| judge(&Trail::none(), &came, vec![group(name)], true);
        assert_eq!(to("web"), Err(Looped::Round(group("web"))));
        assert_eq!(to("db"), Err(Looped::Round(group("db"))));
        let trail = to("dns").unwrap().trail;
        assert!(trail.leads_through(&group("web")) && trail.leads_through(&group("db")));
        // The same by what the command was told to name, from wherever it is said.
        let again = judge(&trail, &[], vec![group("dns"), group("web")], true);
        assert_eq!(again, Err(Looped::Round(group("web"))));
    }

    #[test]
    fn without_named_groups_those_behind_are_left_out() {
        let came = [from("web", &[], true)];
        let site = vec![group("web"), group("db")];
        let allowed = judge(&Trail::none(), &came, site, false).unwrap();
        assert_eq!(allowed.groups, [group("db")]);
        let nowhere = judge(&Trail::none(), &came, vec![group("web")], false);
        assert_eq!(nowhere, Err(Looped::Everywhere));
    }

    #[test]
    fn who_was_not_seen_may_begin_a_chain_and_not_go_on_with_it() {
        let to_web = |came: Came| judge(&Trail::none(), &[came], vec![group("web")], true);
        let first = to_web(from("web", &[], false)).unwrap();
        assert!(first.trail.leads_through(&group("web")), "it is marked");
        assert!(to_web(from("web", &["web"], false)).is_err(), "and ends at the next command");
    }

    #[test]
    fn every_chain_ends() {
        let mut said = Trail::none();
        for hop in 0..=MAX_TRAIL {
            let here = group(&format!("group-{hop}"));
            let came = [Came { through: said.clone(), of: here, sure: true }];
            match judge(&Trail::none(), &came, vec![group("next")], true) {
                Ok(allowed) => said = allowed.trail,
                Err(error) => {
                    assert_eq!((hop, error), (MAX_TRAIL, Looped::Long(MAX_TRAIL + 1)));
                    return;
                }
            }
        }
        panic!("a chain of {} commands", said.len());
    }
}
