//! What a store really does, tried with one scratch object that is removed again. A store's own declaration is not
//! believed: one may accept "only if there is none" and overwrite all the same. Nothing depends on the answers;
//! they are for `init` and `backup` to tell a person what these credentials could destroy.

use super::objects::Created;
use super::{ObjectKey, Prefix, Store, Vault, VaultError};
use crate::report::{Finding, Level};
use serde::{Deserialize, Serialize};

/// What was found out about a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Probe {
    /// Whether what was put can be read back.
    pub get: Answer,
    /// Whether a listing can be had.
    pub list: Answer,
    /// What becomes of a put that asks to be refused where there is an object already.
    pub create: Condition,
    /// Whether an object can be replaced.
    pub overwrite: Answer,
    /// Whether an object can be removed.
    pub delete: Answer,
    /// The key of the scratch object where it could not be removed.
    pub left_behind: Option<String>,
    /// The same in sentences, and whatever did not agree. Of level `Failed` where the store cannot serve as a vault.
    pub findings: Vec<Finding>,
}

/// Whether something worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It worked.
    Yes,
    /// The store refused it.
    Refused,
    /// The store said yes, and what was seen afterwards says no.
    Wrong,
}

/// What a store makes of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// It keeps it: the second put was refused and changed nothing.
    Kept,
    /// It ignores it: the second put replaced the first.
    Ignored,
    /// It cannot be asked.
    Unsupported,
}

/// What becomes of a put where there is an object of that name already, with these credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WriteOnce {
    /// The object that was there stays: what is stored is stored for good.
    Refused,
    /// The new one takes its place.
    Overwrites,
    /// It was not tried yet, or could not be seen.
    Unknown,
}

impl Probe {
    /// Whether what is stored can be replaced, all answers taken together.
    pub fn write_once(&self) -> WriteOnce {
        match (self.overwrite, self.get) {
            (Answer::Yes, Answer::Yes) => WriteOnce::Overwrites,
            (Answer::Yes, _) => WriteOnce::Unknown,
            (Answer::Refused | Answer::Wrong, _) if self.create == Condition::Ignored => WriteOnce::Overwrites,
            (Answer::Refused | Answer::Wrong, _) => WriteOnce::Refused,
        }
    }
}

const FIRST: &[u8] = b"relay-backup: a scratch object, safe to remove\n";
const SECOND: &[u8] = b"relay-backup: a scratch object, put a second time\n";
const THIRD: &[u8] = b"relay-backup: a scratch object, put a third time, in place of the first\n";

impl Vault {
    /// Tries what the store does. An error when not even a put works; everything else is in the answer. Where removing
    /// is refused, one small object stays behind under `probe/`, and the answer says so.
    pub fn probe(&self) -> Result<Probe, VaultError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| VaultError::Runtime { source: std::io::Error::other(error) })?;
        let scratch = Scratch { vault: self, key: ObjectKey::probe(random) };
        self.put(&scratch.key, FIRST)?;
        let probe = scratch.try_all();
        if probe.is_err() {
            // The error that is on its way says what is wrong; a scratch object that stays is harmless.
            self.remove(&scratch.key).ok();
        }
        probe
    }
}

struct Scratch<'a> {
    vault: &'a Vault,
    key: ObjectKey,
}

impl Scratch<'_> {
    fn try_all(&self) -> Result<Probe, VaultError> {
        let mut findings = Vec::new();
        let (get, list) = (self.try_get(&mut findings)?, self.try_list(&mut findings)?);
        let create = self.try_create(get, &mut findings)?;
        let overwrite = self.try_overwrite(get, &mut findings)?;
        let delete = self.try_delete(&mut findings)?;
        let left_behind = (delete != Answer::Yes).then(|| self.key.to_string());
        Ok(Probe { get, list, create, overwrite, delete, left_behind, findings })
    }

    fn try_get(&self, findings: &mut Vec<Finding>) -> Result<Answer, VaultError> {
        let answer = match refused(self.vault.get(&self.key, 1024))? {
            None => Answer::Refused,
            Some(bytes) if bytes == FIRST => Answer::Yes,
            Some(_) => Answer::Wrong,
        };
        findings.push(match answer {
            Answer::Yes => self.note("store-get", "What was put comes back byte for byte."),
            Answer::Refused => self.note(
                "store-get-refused",
                "These credentials may put and not get: verify and restore need others, and so does a backup that looks for what is there.",
            ),
            Answer::Wrong => self.failed("store-get-wrong", "What came back is not what was put: it cannot be a vault."),
        });
        let length = FIRST.len() as u64;
        let Some(seen) = refused(self.vault.length(&self.key))? else { return Ok(answer) };
        if seen == Some(length) {
            return Ok(answer);
        }
        let seen = seen.map_or_else(|| "not there".to_owned(), |seen| format!("{seen} bytes long"));
        let message = format!("An object of {length} bytes was put; the store says it is {seen}.");
        findings.push(self.failed("store-length-wrong", &message));
        Ok(Answer::Wrong)
    }

    fn try_list(&self, findings: &mut Vec<Finding>) -> Result<Answer, VaultError> {
        let Some(listing) = refused(self.vault.list(&Prefix::probe()))? else {
            let message = "These credentials may not list: verify, prune and sync cannot run with them.";
            findings.push(self.note("store-list-refused", message));
            return Ok(Answer::Refused);
        };
        let listed = listing.objects.iter().find(|listed| listed.key == self.key).map(|listed| listed.length);
        if listed == Some(FIRST.len() as u64) {
            findings.push(self.note("store-list", "A listing shows what was put, with its length."));
            return Ok(Answer::Yes);
        }
        let message = "A listing made after a put does not show the object with its length: the store's listings cannot be relied upon.";
        findings.push(self.failed("store-list-wrong", message));
        Ok(Answer::Wrong)
    }

    fn try_create(&self, get: Answer, findings: &mut Vec<Finding>) -> Result<Condition, VaultError> {
        self.vault.wait_turn(SECOND)?;
        let created = match &self.vault.0.store {
            Store::Folder(store) => match store.put_new(&self.key, SECOND) {
                Ok(()) => Created::Taken,
                Err(VaultError::Exists { .. }) => Created::Refused,
                Err(error) => return Err(error),
            },
            Store::Objects(store) => match refused(store.put_new(&self.key, SECOND))? {
                Some(created) => created,
                None => Created::Refused,
            },
        };
        let changed = get == Answer::Yes && self.vault.get(&self.key, 1024)? != FIRST;
        let condition = match created {
            Created::Unsupported => Condition::Unsupported,
            Created::Refused if !changed => Condition::Kept,
            Created::Refused | Created::Taken => Condition::Ignored,
        };
        findings.push(match condition {
            Condition::Kept => self.note("store-create-kept", "A put that must not replace anything is refused where there is an object."),
            Condition::Ignored => self.note(
                "store-create-ignored",
                "The store accepts a put that must not replace anything and replaces all the same; relay-backup does not rely on it.",
            ),
            Condition::Unsupported => self.note(
                "store-create-unsupported",
                "The store cannot be asked to refuse a put where there is an object; relay-backup does not rely on it.",
            ),
        });
        Ok(condition)
    }

    fn try_overwrite(&self, get: Answer, findings: &mut Vec<Finding>) -> Result<Answer, VaultError> {
        let answer = match refused(self.vault.put(&self.key, THIRD))? {
            None => Answer::Refused,
            Some(()) if get == Answer::Yes && self.vault.get(&self.key, 1024)? != THIRD => Answer::Wrong,
            Some(()) => Answer::Yes,
        };
        findings.push(match answer {
            Answer::Yes => self
                .note(
                    "store-overwrite",
                    "These credentials can replace what is stored: whoever takes this host can ruin this vault.",
                )
                .with_hint(
                    "turn on versioning or object lock, or keep a second vault that is pulled with other credentials",
                ),
            Answer::Refused => self.note("store-overwrite-refused", "These credentials cannot replace what is stored."),
            Answer::Wrong => {
                self.note("store-overwrite-dropped", "The store says yes to replacing an object and keeps the old one.")
            }
        });
        Ok(answer)
    }

    fn try_delete(&self, findings: &mut Vec<Finding>) -> Result<Answer, VaultError> {
        let answer = match refused(self.vault.remove(&self.key))? {
            None => Answer::Refused,
            Some(()) => match refused(self.vault.length(&self.key))? {
                Some(Some(_)) => Answer::Wrong,
                Some(None) | None => Answer::Yes,
            },
        };
        let stays = format!("The scratch object {} stays.", self.key);
        findings.push(match answer {
            Answer::Yes => self
                .note(
                    "store-delete",
                    "These credentials can remove what is stored: whoever takes this host can empty this vault.",
                )
                .with_hint("give this host credentials that may put and get only, and run prune elsewhere with others"),
            Answer::Refused => {
                self.note("store-delete-refused", &format!("These credentials cannot remove what is stored. {stays}"))
            }
            Answer::Wrong => self.note(
                "store-delete-dropped",
                &format!("The store says yes to a removal and keeps the object. {stays}"),
            ),
        });
        Ok(answer)
    }

    fn note(&self, code: &str, message: &str) -> Finding {
        Finding::new(Level::Note, code, self.subject(), message)
    }

    fn failed(&self, code: &str, message: &str) -> Finding {
        Finding::new(Level::Failed, code, self.subject(), message)
    }

    fn subject(&self) -> String {
        format!("vault {}", self.vault.name())
    }
}

/// `None` when the store refused for want of a right; every other error stays one.
fn refused<T>(result: Result<T, VaultError>) -> Result<Option<T>, VaultError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.trouble() == super::Trouble::Denied => Ok(None),
        Err(error) => Err(error),
    }
}
