//! From text to a checked [`Policy`]: the order of the checks, the tables but the sources, and what holds between
//! tables. `parse` does no I/O; `load` reads the policy and its recipients file and refuses either where others can
//! change it.

use super::error::PolicyError;
use super::shape::{self, Findings};
use super::source;
use super::url;
use super::values::{self, BadValue};
use super::wire::{self, BackupWire, KeysWire, ObjectivesWire, Placed, RetentionWire, VaultWire, Wire};
use super::{
    BackupPolicy, KeyRole, Keys, Objectives, Policy, Retention, ServiceUrl, SourceKind, SourcePolicy, TrustedKey,
    VaultPolicy, VaultUrl, Via,
};
use crate::base::{fsio, limits};
use serde::Deserialize;
use std::collections::HashSet;
use std::hash::Hash;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const STATE_DIR_DEFAULT: &str = "/var/lib/relay-backup";
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const RPO_DEFAULT: Duration = Duration::from_secs(26 * 3600);
const RTO_DATA_DEFAULT: Duration = Duration::from_secs(30 * 60);
const RTO_SERVICE_DEFAULT: Duration = Duration::from_secs(3 * 24 * 3600);
const DRILL_EVERY_DEFAULT: Duration = Duration::from_secs(100 * 24 * 3600);
/// Least memory of the pipeline: three of the largest segments, sealed, with room for buffers.
/// Least bandwidth of a vault, in bytes per second.
const BANDWIDTH_MIN: u64 = 16 * 1024;
const MEMORY_BYTES_MIN: u64 = 32 * 1024 * 1024;
const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Shortest lock budget: less would never finish a page.
const LOCK_BUDGET_MIN: Duration = Duration::from_millis(10);
const LOCK_BUDGET_LONGEST: Duration = Duration::from_secs(1);
/// lightningd gives up after waiting 60 s for its own database; this leaves it three times the room.
const LOCK_BUDGET_MAX_LONGEST: Duration = Duration::from_secs(20);

/// Reads and checks a policy file and the recipients file it names. Either is refused when others than its owner
/// can change it, or when it is larger than any policy.
pub fn load(file: &Path) -> Result<Policy, PolicyError> {
    let mut policy = parse(file, &read_text(file)?)?;
    if let Some(path) = policy.keys.recipients_file.clone() {
        let text = read_text(&path)?;
        add_recipients(&mut policy.keys, &path, &text)?;
    }
    Ok(policy)
}

fn read_text(file: &Path) -> Result<String, PolicyError> {
    fsio::check_unchangeable(file).map_err(PolicyError::File)?;
    let bytes = fsio::read(file, limits::POLICY_BYTES_MAX).map_err(PolicyError::File)?;
    String::from_utf8(bytes).map_err(|source| PolicyError::NotText { file: file.to_owned(), source })
}

fn add_recipients(keys: &mut Keys, path: &Path, text: &str) -> Result<(), PolicyError> {
    let mut findings = Findings::new(path, text);
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let span = start..start + line.len();
        start = span.end;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match values::recipient(line) {
            Err(error) => findings.add(&span, "", format!("the recipient {}", error.what), Some(error.remedy)),
            Ok(()) if keys.recipients.iter().any(|known| known == line) => {
                let remedy = "keep it in one place only".to_owned();
                findings.add(&span, "", "this recipient stands there twice".to_owned(), Some(remedy));
            }
            Ok(()) => keys.recipients.push(line.to_owned()),
        }
    }
    if keys.recipients.is_empty() && findings.is_empty() {
        let remedy = "add the public key that `relay-backup keygen` printed, one a line".to_owned();
        findings.add(&(0..0), "", "no recipient stands in it".to_owned(), Some(remedy));
    }
    refuse(findings)
}

fn refuse(findings: Findings<'_>) -> Result<(), PolicyError> {
    if findings.is_empty() { Ok(()) } else { Err(PolicyError::Invalid { problems: findings.into_problems() }) }
}

/// Checks a policy's text. Reads no other file: recipients that a `recipients_file` holds are not there yet.
pub fn parse(file: &Path, text: &str) -> Result<Policy, PolicyError> {
    refuse_secrets(file, text)?;
    let document = DeTable::parse(text).map_err(|error| syntax(file, text, &error))?;
    let mut findings = Findings::new(file, text);
    shape::check(&mut findings, &document, &wire::schema());
    refuse(findings)?;

    let (mut table, span) = (document.get_ref().clone(), document.span());
    let sources = table.remove("source");
    let wire = Wire::deserialize(toml::de::Deserializer::from(Spanned::new(span, table)))
        .map_err(|error| syntax(file, text, &error))?;
    let mut checker = Checker { findings: Findings::new(file, text) };
    let policy = checker.policy(file, text, &wire, sources.as_ref())?;
    checker.between(&policy, &wire);
    refuse(checker.findings)?;
    Ok(policy)
}

fn syntax(file: &Path, text: &str, error: &toml::de::Error) -> PolicyError {
    let mut findings = Findings::new(file, text);
    findings.not_toml(error, "docs/POLICY.md");
    PolicyError::Invalid { problems: findings.into_problems() }
}

/// A secret key is refused before anything else looks at the text, so that no message can quote it.
fn refuse_secrets(file: &Path, text: &str) -> Result<(), PolicyError> {
    let mut findings = Findings::new(file, text);
    findings.secret_keys(
        "a SECRET key stands here; this host must never hold one",
        "remove it and put its public half (age1…, RW…) in its place; then treat the secret as stolen: \
         make a new one where it will be kept, with `relay-backup keygen`",
    );
    refuse(findings)
}

/// Turns wire values into checked ones and collects what is wrong with them.
pub(super) struct Checker<'a> {
    pub(super) findings: Findings<'a>,
}

impl<'a> Checker<'a> {
    fn policy(
        &mut self,
        file: &'a Path,
        text: &str,
        wire: &Wire,
        sources: Option<&Spanned<DeValue<'_>>>,
    ) -> Result<Policy, PolicyError> {
        let node = self.value("node", &wire.node, name);
        let state_dir = match &wire.state_dir {
            Some(text) => self.value("state_dir", text, values::absolute),
            None => Some(PathBuf::from(STATE_DIR_DEFAULT)),
        };
        let keys = self.keys(wire.keys.0.get_ref(), &wire.keys.0.span());
        let objectives = self.objectives(&wire.objectives);
        let vaults = self.vaults(&wire.vault);
        let backup = self.backup(&wire.backup);
        let retention = self.retention(&wire.retention);
        let sources = source::read_all(self, sources).map_err(|error| syntax(file, text, &error))?;
        if let (Some(node), Some(state_dir), true) = (node, state_dir, self.findings.is_empty()) {
            let (file, text) = (file.to_owned(), text.to_owned());
            return Ok(Policy { file, node, state_dir, keys, objectives, vaults, backup, sources, retention, text });
        }
        let findings = std::mem::replace(&mut self.findings, Findings::new(file, ""));
        Err(PolicyError::Invalid { problems: findings.into_problems() })
    }

    /// Checks one value; what is wrong with it goes to the findings.
    pub(super) fn value<T>(
        &mut self,
        place: &str,
        text: &Spanned<String>,
        check: impl FnOnce(&str) -> Result<T, BadValue>,
    ) -> Option<T> {
        self.findings.value(place, text, check)
    }

    pub(super) fn add(&mut self, span: &Range<usize>, place: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.findings.add(span, place, what.into(), Some(remedy.into()));
    }

    /// Finds values that stand twice.
    pub(super) fn unique<T: Eq + Hash>(
        &mut self,
        place: &str,
        what: &str,
        items: impl Iterator<Item = (T, Range<usize>)>,
        remedy: &str,
    ) {
        let mut seen = HashSet::new();
        for (item, span) in items {
            if !seen.insert(item) {
                self.add(&span, place, format!("{what} stands there twice"), remedy);
            }
        }
    }

    fn keys(&mut self, wire: &KeysWire, span: &Range<usize>) -> Keys {
        const PLACE: &str = "[keys] recipients";
        let listed = wire.recipients.as_ref().map(|list| list.get_ref().as_slice()).unwrap_or_default();
        let mut recipients = Vec::new();
        for text in listed {
            if self.value(PLACE, text, values::recipient).is_some() {
                recipients.push(text.get_ref().clone());
            }
        }
        self.unique(PLACE, "this recipient", places(listed), "remove one of the two");
        let recipients_file =
            wire.recipients_file.as_ref().and_then(|text| self.value("[keys] recipients_file", text, values::absolute));
        if listed.is_empty() && wire.recipients_file.is_none() {
            let span = wire.recipients.as_ref().map_or_else(|| span.clone(), Spanned::span);
            let remedy = "add recipients = [\"age1…\"] with the public key that `relay-backup keygen` printed; two, kept \
                 in two places, are better than one";
            self.add(&span, PLACE, "there is no recipient, so nobody could open a backup", remedy);
        }
        let mut trusted = Vec::new();
        for entry in &wire.trusted {
            let role = self.value("[[keys.trusted]] role", &entry.role, key_role);
            let key = self
                .value("[[keys.trusted]] key", &entry.key, |text| values::minisign_key(text).map(|()| text.to_owned()));
            if let (Some(role), Some(key)) = (role, key) {
                trusted.push(TrustedKey { role, key });
            }
        }
        let pairs = wire
            .trusted
            .iter()
            .map(|entry| ((entry.role.get_ref().clone(), entry.key.get_ref().clone()), entry.key.span()));
        self.unique("[[keys.trusted]] key", "this key, in this role,", pairs, "remove one of the two");
        Keys { recipients, recipients_file, trusted }
    }

    fn duration(
        &mut self,
        place: &str,
        text: Option<&Spanned<String>>,
        default: Duration,
        least: Duration,
    ) -> Duration {
        let Some(text) = text else { return default };
        let Some(value) = self.value(place, text, values::duration) else { return default };
        if value < least {
            let least = super::show::duration(least);
            self.add(&text.span(), place, format!("is shorter than {least}"), format!("use {least} or more"));
        }
        value
    }

    fn objectives(&mut self, wire: &ObjectivesWire) -> Objectives {
        const MINUTE: Duration = Duration::from_secs(60);
        Objectives {
            rpo: self.duration("[objectives] rpo", wire.rpo.as_ref(), RPO_DEFAULT, MINUTE),
            rto_data: self.duration("[objectives] rto_data", wire.rto_data.as_ref(), RTO_DATA_DEFAULT, MINUTE),
            rto_service: self.duration(
                "[objectives] rto_service",
                wire.rto_service.as_ref(),
                RTO_SERVICE_DEFAULT,
                MINUTE,
            ),
            drill_every: self.duration(
                "[objectives] drill_every",
                wire.drill_every.as_ref(),
                DRILL_EVERY_DEFAULT,
                HOUR,
            ),
        }
    }

    fn vaults(&mut self, wires: &[Placed<VaultWire>]) -> Vec<VaultPolicy> {
        if wires.is_empty() {
            self.add(&(0..0), "[[vault]]", "there is no vault", "add at least one [[vault]] with name and url");
        }
        let vaults = wires.iter().filter_map(|wire| self.vault(wire.0.get_ref())).collect();
        let names = wires.iter().map(|wire| &wire.0.get_ref().name);
        self.unique("[[vault]] name", "this name", places(names), "give every vault a name of its own");
        let urls = wires.iter().filter_map(|wire| {
            let url = &wire.0.get_ref().url;
            let place = match url::vault(url.get_ref()).ok()? {
                VaultUrl::Fs(folder) => folder.to_string_lossy().into_owned(),
                VaultUrl::S3 { bucket, prefix, endpoint, .. } => format!("{endpoint:?} {bucket}/{prefix}"),
                VaultUrl::Service(ServiceUrl { service, place, prefix, endpoint }) => {
                    format!("{} {endpoint:?} {place}/{prefix}", service.as_str())
                }
            };
            Some((place, url.span()))
        });
        self.unique("[[vault]] url", "this place", urls, "two vaults in one place are one copy: remove one");
        vaults
    }

    fn vault(&mut self, wire: &VaultWire) -> Option<VaultPolicy> {
        let name = self.value("[[vault]] name", &wire.name, name);
        let url = self.value("[[vault]] url", &wire.url, url::vault);
        let credentials_file = wire
            .credentials_file
            .as_ref()
            .and_then(|text| Some((self.value("[[vault]] credentials_file", text, values::absolute)?, text.span())));
        if let (Some((_, span)), Some(VaultUrl::Fs(_))) = (&credentials_file, &url) {
            let remedy = "remove credentials_file, or write an s3:// url";
            self.add(span, "[[vault]] credentials_file", "a folder needs no credentials", remedy);
        }
        if let (None, Some(VaultUrl::Service(_))) = (&credentials_file, &url) {
            let what = "needs a credentials_file; this kind of store has no other road";
            self.add(
                &wire.url.span(),
                "[[vault]] url",
                what,
                "name a file of mode 0600; docs/POLICY.md says what is in it",
            );
        }
        let via = match &wire.via {
            None => Some(Via::Backup),
            Some(text) => self.value("[[vault]] via", text, |text| match text {
                "backup" => Ok(Via::Backup),
                "sync" => Ok(Via::Sync),
                other => one_of(other, "way to write a vault", &["backup", "sync"]),
            }),
        };
        let bandwidth =
            wire.bandwidth.as_ref().and_then(|text| self.value("[[vault]] bandwidth", text, values::bandwidth));
        if let Some(text) = wire.bandwidth.as_ref().filter(|_| bandwidth.is_some_and(|rate| rate < BANDWIDTH_MIN)) {
            let what = "is less than 16KiB/s, at which one object takes more than four minutes";
            self.add(&text.span(), "[[vault]] bandwidth", what, "use 16KiB/s or more, or leave it out");
        }
        let credentials_file = credentials_file.map(|(path, _)| path);
        Some(VaultPolicy { name: name?, url: url?, credentials_file, offsite: wire.offsite, via: via?, bandwidth })
    }

    fn backup(&mut self, wire: &BackupWire) -> BackupPolicy {
        let copies_required = wire.copies_required.as_ref().map_or(1, |copies| *copies.get_ref() as usize);
        let memory = wire.memory.as_ref().and_then(|text| {
            let bytes = self.value("[backup] memory", text, values::size)?;
            if !(MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&bytes) {
                self.add(&text.span(), "[backup] memory", "is out of range", "use 32MiB to 64GiB");
            }
            Some(bytes)
        });
        let (place, place_max) = ("[backup] lock_budget", "[backup] lock_budget_max");
        let lock_budget = self.duration(place, wire.lock_budget.as_ref(), limits::LOCK_BUDGET_DEFAULT, LOCK_BUDGET_MIN);
        let lock_budget_max =
            self.duration(place_max, wire.lock_budget_max.as_ref(), limits::LOCK_BUDGET_MAX_DEFAULT, LOCK_BUDGET_MIN);
        if let Some(text) = wire.lock_budget.as_ref().filter(|_| lock_budget > LOCK_BUDGET_LONGEST) {
            self.add(&text.span(), place, "is longer than 1s, which payments would feel", "use 1s or less");
        }
        if let Some(text) = wire.lock_budget_max.as_ref().filter(|_| lock_budget_max > LOCK_BUDGET_MAX_LONGEST) {
            let what = "is longer than 20s; lightningd ends itself when its database stays locked for 60s";
            self.add(&text.span(), place_max, what, "use 20s or less");
        }
        let budgets = wire.lock_budget_max.as_ref().or(wire.lock_budget.as_ref());
        if let Some(text) = budgets.filter(|_| lock_budget_max < lock_budget) {
            self.add(&text.span(), place_max, "is shorter than lock_budget", "use lock_budget or more");
        }
        BackupPolicy {
            copies_required,
            memory: memory.unwrap_or(limits::MEMORY_BYTES_DEFAULT),
            lock_budget,
            lock_budget_max,
        }
    }

    fn retention(&mut self, wire: &RetentionWire) -> Retention {
        const TRIGGERS: &str = "[retention] keep_triggers";
        let keep_triggers = match &wire.keep_triggers {
            None => vec!["pre-update".to_owned(), "final".to_owned()],
            Some(list) => {
                self.unique(TRIGGERS, "this trigger", places(list), "remove one of the two");
                list.iter().filter_map(|text| self.value(TRIGGERS, text, trigger)).collect()
            }
        };
        Retention {
            keep_last: wire.keep_last.unwrap_or(7),
            keep_daily: wire.keep_daily.unwrap_or(14),
            keep_weekly: wire.keep_weekly.unwrap_or(8),
            keep_monthly: wire.keep_monthly.unwrap_or(12),
            keep_yearly: wire.keep_yearly.unwrap_or(3),
            keep_triggers,
            grace: self.duration("[retention] grace", wire.grace.as_ref(), limits::GRACE_DEFAULT, DAY),
        }
    }

    /// What must hold between tables.
    fn between(&mut self, policy: &Policy, wire: &Wire) {
        let copies = wire.backup.copies_required.as_ref();
        let span = copies.map_or(0..0, Spanned::span);
        let counting = policy.vaults_that_count().len();
        let place = "[backup] copies_required";
        if counting == 0 {
            let what = "every vault is written by sync, so backup would write nowhere";
            self.add(&(0..0), "[[vault]] via", what, "let one vault be written by backup");
        } else if policy.backup.copies_required == 0 {
            self.add(&span, place, "is 0: a run that stored nothing would count", "use 1 or more");
        } else if policy.backup.copies_required > counting {
            let what = format!(
                "asks for {} copies, but only {counting} of {} vaults count (written by backup; only the offsite ones \
                 where any is marked offsite)",
                policy.backup.copies_required,
                policy.vaults.len(),
            );
            self.add(&span, place, what, format!("use {counting} or less, or add a vault"));
        }
        let keep = &policy.retention;
        let kept = [keep.keep_last, keep.keep_daily, keep.keep_weekly, keep.keep_monthly, keep.keep_yearly];
        if kept.iter().all(|count| *count == 0) {
            let what = "nothing would be kept: every keep_ number is 0";
            self.add(&(0..0), "[retention]", what, "set keep_last to 1 or more");
        }
        for source in &policy.sources {
            self.swallows_itself(policy, source);
        }
    }

    /// A `files` source must not take up the vault it is written to.
    fn swallows_itself(&mut self, policy: &Policy, source: &SourcePolicy) {
        let SourceKind::Files { paths, exclude } = &source.kind else { return };
        for vault in &policy.vaults {
            let VaultUrl::Fs(folder) = &vault.url else { continue };
            let covers = |pattern: &String| {
                let pattern = glob::Pattern::new(pattern).ok();
                let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
                folder
                    .ancestors()
                    .any(|part| pattern.as_ref().is_some_and(|pattern| pattern.matches_path_with(part, options)))
            };
            if let Some(path) = paths.iter().find(|path| covers(path))
                && !exclude.iter().any(covers)
            {
                let what = format!("{path:?} of the source {} holds the vault {} itself", source.name, vault.name);
                let remedy = format!("add {:?} to its exclude list", folder.display().to_string());
                self.add(&(0..0), "[[source]] paths", what, remedy);
            }
        }
    }
}

/// Parses a name of a node, vault or source.
pub(crate) fn name<T: std::str::FromStr<Err = crate::base::ids::BadId>>(text: &str) -> Result<T, BadValue> {
    text.parse().map_err(|error: crate::base::ids::BadId| BadValue {
        what: format!("{:?} is not a valid {}", shape::shown(&error.text), error.what),
        remedy: error.rule.to_owned(),
    })
}

/// The error for a word that is none of these.
pub(crate) fn one_of<T>(word: &str, what: &str, known: &[&str]) -> Result<T, BadValue> {
    let all = known.join(", ");
    let remedy = match shape::nearest(word, known.iter().copied()) {
        Some(nearest) => format!("did you mean {nearest:?}? There are: {all}"),
        None => format!("use one of: {all}"),
    };
    values::bad(format!("there is no {what} {:?}", shape::shown(word)), remedy)
}

/// Texts with their places.
pub(super) fn places<'a>(
    list: impl IntoIterator<Item = &'a Spanned<String>>,
) -> impl Iterator<Item = (String, Range<usize>)> {
    list.into_iter().map(|text| (text.get_ref().clone(), text.span()))
}

fn key_role(text: &str) -> Result<KeyRole, BadValue> {
    match text {
        "node" => Ok(KeyRole::Node),
        "drill" => Ok(KeyRole::Drill),
        "pruner" => Ok(KeyRole::Pruner),
        other => one_of(other, "role", &["node", "drill", "pruner"]),
    }
}

fn trigger(text: &str) -> Result<String, BadValue> {
    let is_plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if text.is_empty() || text.len() > limits::NAME_BYTES_MAX || !is_plain {
        let remedy = "use 1 to 64 lower-case letters, digits or '-', such as \"pre-update\"";
        return values::bad(format!("{:?} is not the name of a trigger", shape::shown(text)), remedy);
    }
    Ok(text.to_owned())
}
