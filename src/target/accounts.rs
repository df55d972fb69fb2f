//! Whose a restored file becomes: by name first, because numbers differ between machines; by number where the name is
//! not known. Below another system's root its own lists of users and groups count, where it has any.

use super::{Root, TargetError};
use crate::facts::sqlite::LiveFile;
use crate::plan;
use crate::report::{Finding, Level};
use std::collections::HashMap;
use std::path::Path;

/// Largest list of users or groups that is read, in bytes.
const LIST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Whose a file was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user's name, where it was known.
    pub user: Option<String>,
    /// The user's number there.
    pub uid: u32,
    /// The group's name, where it was known.
    pub group: Option<String>,
    /// The group's number there.
    pub gid: u32,
}

impl From<&LiveFile> for Owner {
    fn from(live: &LiveFile) -> Self {
        Self { user: live.owner.clone(), uid: live.uid, group: live.group.clone(), gid: live.gid }
    }
}

impl From<&plan::Owner> for Owner {
    fn from(planned: &plan::Owner) -> Self {
        Self { user: planned.user.clone(), uid: planned.uid, group: planned.group.clone(), gid: planned.gid }
    }
}

impl From<Owner> for plan::Owner {
    fn from(owner: Owner) -> Self {
        Self { user: owner.user, uid: owner.uid, group: owner.group, gid: owner.gid }
    }
}

impl Owner {
    /// This process itself.
    pub fn ourselves() -> Self {
        Self { user: None, uid: uzers::get_effective_uid(), group: None, gid: uzers::get_effective_gid() }
    }
}

/// The numbers an owner has here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Who is known where the files go.
#[derive(Debug)]
pub(super) enum Accounts {
    /// The users and groups of the running system.
    System,
    /// Those of a system that is not running, by name.
    Listed { users: HashMap<String, u32>, groups: HashMap<String, u32> },
    /// None can be known: the root holds no system yet.
    Nobody,
}

impl Accounts {
    /// Those of the system below this root, whose lists are reached without following a link.
    pub(super) fn below(root: &Root) -> Result<Self, TargetError> {
        let list = |name: &str| match root.read_file(Path::new(name), LIST_BYTES_MAX) {
            Ok(bytes) => Ok(bytes.map(|bytes| parse(bytes.expose()))),
            Err(TargetError::File(error)) => Err(TargetError::Accounts(error)),
            Err(error) => Err(error),
        };
        Ok(match (list("/etc/passwd")?, list("/etc/group")?) {
            (Some(users), Some(groups)) => Self::Listed { users, groups },
            _ => Self::Nobody,
        })
    }

    /// The numbers that an owner has here. Finds it worth saying when a name is not known and the number has to do.
    pub(super) fn resolve(&self, owner: &Owner, findings: &mut Vec<Finding>) -> Result<Numbers, TargetError> {
        let uid = self.number("user", owner.user.as_deref(), owner.uid, findings)?;
        let gid = self.number("group", owner.group.as_deref(), owner.gid, findings)?;
        Ok(Numbers { uid, gid })
    }

    fn number(
        &self,
        kind: &'static str,
        name: Option<&str>,
        number: u32,
        findings: &mut Vec<Finding>,
    ) -> Result<u32, TargetError> {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(number) };
        if let Some(known) = self.by_name(kind, name) {
            return Ok(known);
        }
        if let Some(other) = self.by_number(kind, number) {
            return Err(TargetError::UnknownOwner { kind, name: name.to_owned(), number, other });
        }
        if name == "root" && number == 0 {
            // The same on every system.
            return Ok(0);
        }
        let message = format!("{kind} {name} is not known there; its number {number} was used");
        if !findings.iter().any(|finding| finding.message == message) {
            findings.push(
                Finding::new(Level::Note, "owner-by-number", name, message).with_hint(format!(
                    "see that {kind} {name} gets the number {number}, or give the files away again"
                )),
            );
        }
        Ok(number)
    }

    fn by_name(&self, kind: &str, name: &str) -> Option<u32> {
        match (self, kind) {
            (Self::System, "user") => uzers::get_user_by_name(name).map(|user| user.uid()),
            (Self::System, _) => uzers::get_group_by_name(name).map(|group| group.gid()),
            (Self::Listed { users, .. }, "user") => users.get(name).copied(),
            (Self::Listed { groups, .. }, _) => groups.get(name).copied(),
            (Self::Nobody, _) => None,
        }
    }

    fn by_number(&self, kind: &str, number: u32) -> Option<String> {
        let listed = |list: &HashMap<String, u32>| {
            list.iter().filter(|(_, other)| **other == number).map(|(name, _)| name.clone()).min()
        };
        let text = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
        match (self, kind) {
            (Self::System, "user") => uzers::get_user_by_uid(number).map(|user| text(user.name())),
            (Self::System, _) => uzers::get_group_by_gid(number).map(|group| text(group.name())),
            (Self::Listed { users, .. }, "user") => listed(users),
            (Self::Listed { groups, .. }, _) => listed(groups),
            (Self::Nobody, _) => None,
        }
    }
}

/// `name:password:number:…`, a line each; what is not such a line is passed over.
fn parse(bytes: &[u8]) -> HashMap<String, u32> {
    let text = String::from_utf8_lossy(bytes);
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            Some((name.to_owned(), fields.nth(1)?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::root::tests::ground;
    use super::*;
    use std::os::unix::fs::symlink;

    fn owner(user: &str, uid: u32) -> Owner {
        Owner { user: Some(user.to_owned()), uid, group: None, gid: 7 }
    }

    #[test]
    fn a_name_goes_before_a_number_and_a_number_of_somebody_else_is_refused() {
        let (folder, root) = ground();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        let users = "clightning:x:998:997::/:\nnginx:x:990:990::/:\nodd\n";
        std::fs::write(folder.path().join("etc/passwd"), users).unwrap();
        std::fs::write(folder.path().join("etc/group"), "nginx:x:990:\n").unwrap();
        let accounts = Accounts::below(&root).unwrap();
        let mut findings = Vec::new();
        let numbers = accounts.resolve(&owner("clightning", 990), &mut findings).unwrap();
        assert_eq!((numbers, findings.len()), (Numbers { uid: 998, gid: 7 }, 0));
        let error = accounts.resolve(&owner("lnd", 990), &mut findings).unwrap_err();
        assert!(matches!(&error, TargetError::UnknownOwner { other, .. } if other == "nginx"), "{error}");
        assert!(error.hint().unwrap().contains("useradd --system lnd"));
        assert_eq!(accounts.resolve(&owner("lnd", 5), &mut findings).unwrap().uid, 5);
        assert_eq!(accounts.resolve(&owner("lnd", 5), &mut findings).unwrap().uid, 5);
        assert_eq!(findings.len(), 1, "said once: {findings:?}");
    }

    #[test]
    fn lists_behind_a_link_are_not_read() {
        let (folder, root) = ground();
        let refused = || {
            let error = Accounts::below(&root).unwrap_err();
            assert!(matches!(error, TargetError::Symlink { .. }), "{error}");
        };
        symlink("/etc", folder.path().join("etc")).unwrap();
        refused();
        std::fs::remove_file(folder.path().join("etc")).unwrap();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        symlink("/etc/passwd", folder.path().join("etc/passwd")).unwrap();
        refused();
    }

    #[test]
    fn an_empty_root_knows_nobody_and_the_system_knows_root() {
        let (_folder, root) = ground();
        let accounts = Accounts::below(&root).unwrap();
        let mut findings = Vec::new();
        assert_eq!(accounts.resolve(&owner("root", 4242), &mut findings).unwrap().uid, 4242);
        assert_eq!(findings[0].code, "owner-by-number");
        assert_eq!(Accounts::System.resolve(&owner("root", 4242), &mut Vec::new()).unwrap().uid, 0);
    }
}
