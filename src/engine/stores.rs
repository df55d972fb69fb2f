//! What each vault's store does with a second put and with a removal, remembered from run to run: a store that kept
//! what it was given and no longer does may have been opened to a thief. Only told, never relied upon; nothing here
//! may make a backup fail.

use super::error::chain;
use super::state::{StateFolder, read_json, write_json};
use super::{Context, Error};
use crate::base::ids::VaultId;
use crate::base::limits::STORE_PROBE_AGE_MAX;
use crate::report::{Finding, Level};
use crate::vault::{Answer, Condition, Probe, Vault, WriteOnce};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

const FORMAT: u64 = 1;

/// What a store did when it was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// When, by this host's clock.
    pub at: Timestamp,
    /// What became of a put where there was an object already.
    pub write_once: WriteOnce,
    /// What became of one that asked to be refused there.
    pub create: Condition,
    /// Whether an object could be removed.
    pub delete: Answer,
}

impl Seen {
    fn of(probe: &Probe, at: Timestamp) -> Self {
        Self { at, write_once: probe.write_once(), create: probe.create, delete: probe.delete }
    }

    /// In which ways it keeps less well what it is given than before.
    fn weaker_than(&self, before: &Self) -> Vec<&'static str> {
        let mut ways = Vec::new();
        if before.write_once == WriteOnce::Refused && self.write_once == WriteOnce::Overwrites {
            ways.push("what is stored could not be replaced, and now it can");
        }
        if before.delete != Answer::Yes && self.delete == Answer::Yes {
            ways.push("what is stored could not be removed, and now it can");
        }
        if before.create == Condition::Kept && self.create == Condition::Ignored {
            ways.push("a put that must not replace anything was refused, and now it replaces");
        }
        ways
    }

    /// The better of both, one by one; dated by the last time that all of it was so.
    fn best(&self, newer: &Self) -> Self {
        let refuses = self.write_once == WriteOnce::Refused;
        Self {
            at: if newer.weaker_than(self).is_empty() { newer.at } else { self.at },
            write_once: if refuses { self.write_once } else { newer.write_once },
            create: if self.create == Condition::Kept { self.create } else { newer.create },
            delete: if self.delete == Answer::Yes { newer.delete } else { self.delete },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// At the last probe.
    seen: Seen,
    /// The best that was seen since `init` last took what it saw for the rule.
    known: Seen,
}

impl Record {
    fn is_weaker(&self) -> bool {
        !self.seen.weaker_than(&self.known).is_empty()
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoresFile {
    format: u64,
    stores: BTreeMap<String, Record>,
}

/// What is remembered of every store.
#[derive(Debug)]
pub struct Stores {
    file: PathBuf,
    records: BTreeMap<String, Record>,
}

impl Stores {
    /// Reads what is remembered. A record that cannot be read is begun anew, and said.
    pub fn load(folder: &StateFolder, findings: &mut Vec<Finding>) -> Self {
        let file = folder.stores();
        let records = match read_json::<StoresFile>(&file) {
            Ok(Some(read)) if read.format == FORMAT => read.stores,
            Ok(None) => BTreeMap::new(),
            Ok(Some(read)) => {
                findings.push(unkept(&format!("{} has the format {}", file.display(), read.format)));
                BTreeMap::new()
            }
            Err(error) => {
                findings.push(unkept(&chain(&error)));
                BTreeMap::new()
            }
        };
        Self { file, records }
    }

    /// What the store of this vault did when it was last tried.
    pub fn seen(&self, vault: &VaultId) -> Option<&Seen> {
        self.records.get(vault.as_str()).map(|record| &record.seen)
    }

    /// Takes what a person is shown just now for what is known. Says in what the store was better before.
    pub fn accept(&mut self, vault: &Vault, id: &VaultId, probe: &Probe, now: Timestamp) -> Option<Finding> {
        let seen = Seen::of(probe, now);
        let before = self.records.insert(id.to_string(), Record { seen, known: seen })?;
        let ways = seen.weaker_than(&before.known);
        (!ways.is_empty()).then(|| {
            let mut finding = weakened(vault, &ways, &before.known);
            finding.level = Level::Note;
            finding.with_hint("from now on this counts as known; if you did not change it, somebody else did")
        })
    }

    /// Tries the stores that were not tried for long, and those that got weaker. What a store refuses to tell, and a
    /// probe that fails, changes nothing.
    pub fn observe<'v>(
        &mut self,
        context: &Context<'_>,
        vaults: impl Iterator<Item = (&'v Vault, &'v VaultId)>,
        findings: &mut Vec<Finding>,
    ) {
        let mut is_changed = false;
        for (vault, id) in vaults {
            if context.check().is_err() {
                break;
            }
            if self.is_due(id, context.now()) {
                match vault.tried_once().probe() {
                    Ok(probe) => {
                        is_changed = true;
                        self.note(id, Seen::of(&probe, context.now()));
                        findings.extend(lowered(&probe));
                    }
                    Err(error) => findings.push(not_probed(vault, &chain(&error))),
                }
            }
            findings.extend(self.weakened(vault, id));
        }
        if is_changed && let Err(error) = self.save() {
            findings.push(unkept(&chain(&error)));
        }
    }

    /// Writes what is remembered.
    pub fn save(&self) -> Result<(), Error> {
        write_json(&self.file, &StoresFile { format: FORMAT, stores: self.records.clone() })
    }

    fn is_due(&self, id: &VaultId, now: Timestamp) -> bool {
        self.records.get(id.as_str()).is_none_or(|record| {
            // A moment in the future is a clock's mistake, and tells nothing.
            let age = std::time::Duration::try_from(now.duration_since(record.seen.at));
            let is_fresh = age.is_ok_and(|age| age <= STORE_PROBE_AGE_MAX);
            !is_fresh || record.seen.write_once == WriteOnce::Unknown || record.is_weaker()
        })
    }

    fn note(&mut self, id: &VaultId, seen: Seen) {
        let known = self.records.get(id.as_str()).map_or(seen, |record| record.known.best(&seen));
        self.records.insert(id.to_string(), Record { seen, known });
    }

    fn weakened(&self, vault: &Vault, id: &VaultId) -> Option<Finding> {
        let record = self.records.get(id.as_str())?;
        let ways = record.seen.weaker_than(&record.known);
        (!ways.is_empty()).then(|| weakened(vault, &ways, &record.known))
    }
}

/// The finding for a store that keeps less well what it is given than it did.
fn weakened(vault: &Vault, ways: &[&str], known: &Seen) -> Finding {
    let message = format!(
        "the store keeps less well what it is given than it did until {}: {}",
        known.at.strftime("%Y-%m-%d"),
        ways.join("; ")
    );
    Finding::new(Level::Degraded, "store-weakened", vault.name().as_str(), message).with_hint(
        "look at the bucket's policy, object lock and keys, and run `relay-backup verify --snapshot all`; if you changed \
         them yourself, `relay-backup init` takes this for the new rule",
    )
}

/// What a probe found wrong; a backup is not judged by it, but somebody must look.
fn lowered(probe: &Probe) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        probe.findings.iter().filter(|finding| finding.level >= Level::Degraded).cloned().collect();
    findings.iter_mut().for_each(|finding| finding.level = Level::Degraded);
    findings
}

fn not_probed(vault: &Vault, reason: &str) -> Finding {
    let message = format!("what its store does with a second put could not be tried: {reason}");
    Finding::new(Level::Note, "store-not-probed", vault.name().as_str(), message)
        .with_hint("the next backup tries again; nothing depends on it")
}

fn unkept(reason: &str) -> Finding {
    let message = format!("what the vaults' stores were seen to do cannot be kept: {reason}");
    Finding::new(Level::Degraded, "store-record-failed", "state", message)
        .with_hint("see to the state folder; `relay-backup init` begins the record anew")
}
