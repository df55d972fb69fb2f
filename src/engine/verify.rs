//! Verify, in four depths: `present`, `sealed`, `opened`, `meaning`. Each includes the ones before it. A check that
//! should have run and could not is a failure; one that does not apply here says so.

mod meaning;
mod objects;
mod present;
mod witness;

use super::progress::Event;
use super::reading::{Place, Reader, copies, unreachable};
use super::state::{HostState, StateFolder};
use super::survey::{Believed, Disbelief, believe};
use super::{Context, Error};
use crate::base::ids::{Sha256Hex, SnapshotId};
use crate::catalog::Catalog;
use crate::policy::Policy;
use crate::report::{Finding, Level};
use crate::seal::identity::Identities;
use crate::vault::VaultError;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

/// How deep to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Signatures, chain, and every object there with its length.
    Present,
    /// Every object hashes to its name.
    Sealed,
    /// Every segment decrypts, decompresses and is the content its id names.
    Opened,
    /// Dumps restore, databases pass their checks, the secret derives its node id.
    Meaning,
}

/// Which snapshots' contents are looked at. Signatures and chain are looked at for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The newest complete one of each vault.
    Latest,
    /// All.
    All,
    /// This one.
    One(SnapshotId),
}

/// What is asked for.
pub struct Request<'a> {
    /// Which snapshots.
    pub which: Which,
    /// How deep.
    pub depth: Depth,
    /// For `opened` and `meaning`.
    pub identities: Option<&'a Identities>,
    /// Where `meaning` may make its sandbox.
    pub scratch: &'a Path,
}

/// What verify found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct VerifyReport {
    /// The node.
    pub node: String,
    /// How deep it looked.
    pub depth: Depth,
    /// Vault by vault.
    pub vaults: Vec<VerifiedVault>,
    /// Check by check.
    pub checks: Vec<Check>,
    /// After damage: what still restores, and from where.
    pub still_restores: Vec<String>,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// What was looked at in one vault.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct VerifiedVault {
    /// Its name.
    pub name: String,
    /// Snapshots whose signature and place in the chain were checked.
    pub snapshots: usize,
    /// The newest complete one.
    pub newest_complete: Option<String>,
    /// Its age in seconds.
    pub age_seconds: Option<i64>,
    /// The snapshots whose contents were checked.
    pub checked: Vec<String>,
    /// Objects checked.
    pub objects: u64,
    /// Bytes of objects read.
    pub bytes: u64,
}

/// One check and how it came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Check {
    /// What was checked.
    pub what: String,
    /// On which thing.
    pub subject: String,
    /// How it came out.
    pub verdict: Verdict,
    /// More about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Passed,
    /// Not as it should be; a finding says more.
    Failed,
    /// There is nothing to check here.
    NotApplicable,
}

impl Check {
    fn new(what: &str, subject: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { what: what.to_owned(), subject: subject.into(), verdict, detail: detail.into() }
    }
}

/// One vault while it is looked at.
struct Look<'r> {
    place: &'r Place,
    /// Believed snapshots, oldest first, without their segments unless they were chosen.
    believed: BTreeMap<SnapshotId, Believed>,
    /// Snapshots that are committed there but cannot be believed.
    disbelieved: BTreeSet<SnapshotId>,
    chosen: Vec<SnapshotId>,
    /// Snapshots whose notes are missing or damaged: they cannot be opened from here.
    unopenable: BTreeSet<SnapshotId>,
    /// Objects that turned out missing or damaged.
    bad: HashSet<Sha256Hex>,
    /// Objects that the vault did not give, so that nothing is known of them.
    unread: HashSet<Sha256Hex>,
    row: VerifiedVault,
}

impl Look<'_> {
    fn name(&self) -> &str {
        self.place.vault.name().as_str()
    }

    fn newest_complete(&self) -> Option<&Believed> {
        self.believed.values().rev().find(|believed| believed.manifest.complete)
    }

    fn chosen(&self) -> impl Iterator<Item = &Believed> {
        self.chosen.iter().filter_map(|id| self.believed.get(id))
    }
}

/// What is gathered on the way.
struct Run<'a> {
    context: &'a Context<'a>,
    policy: Option<&'a Policy>,
    reader: &'a Reader,
    request: &'a Request<'a>,
    findings: Vec<Finding>,
    checks: Vec<Check>,
}

impl Run<'_> {
    fn damage(&mut self, code: &str, subject: String, message: impl Into<String>, hint: &str) {
        self.findings.push(Finding::new(Level::Damage, code, subject, message).with_hint(hint));
    }

    /// Tells what could not be read: a check that should have run and could not.
    fn unread(&mut self, code: &str, subject: String, message: impl Into<String>, hint: Option<String>) {
        let finding = Finding::new(Level::Failed, code, subject, message);
        self.findings.push(match hint {
            Some(hint) => finding.with_hint(hint),
            None => finding,
        });
    }

    /// A vault that ceased to answer: told like one that never did, so that the others are still looked at. An error
    /// where there is no other.
    fn ceased(&mut self, place: &Place, error: VaultError) -> Result<(), Error> {
        if self.reader.places.len() == 1 {
            return Err(error.into());
        }
        self.findings.push(unreachable(place.vault.name().as_str(), &error));
        Ok(())
    }
}

/// Looks at the reader's vaults. `policy` adds what only a policy can say: objectives, pinned recipients, and on the
/// node itself the live secret.
pub fn verify(
    context: &Context<'_>,
    policy: Option<&Policy>,
    reader: &Reader,
    request: &Request<'_>,
) -> Result<VerifyReport, Error> {
    if request.depth >= Depth::Opened && request.identities.is_none() {
        return Err(Error::NoIdentity { what: "verify --depth opened or meaning" });
    }
    let mut run = Run { context, policy, reader, request, findings: reader.findings.clone(), checks: Vec::new() };
    run.findings.extend(copies(&reader.places));
    let mut looks = Vec::new();
    for place in &reader.places {
        match look(&mut run, place) {
            Ok(look) => looks.push(look),
            Err(Error::Vault(error)) => run.ceased(place, error)?,
            Err(error) => return Err(error),
        }
    }
    nobody_answers(&run, &looks)?;
    is_somewhere(&run, &looks)?;
    present::compare(&mut run, &looks);
    witness::compare(&mut run, &looks)?;
    present::live_secret(&mut run, &looks);
    let mut gone = HashSet::new();
    for look in &mut looks {
        match contents(&mut run, look) {
            Ok(()) => {}
            Err(Error::Vault(error)) => {
                run.ceased(look.place, error)?;
                gone.insert(look.place.vault.name().clone());
            }
            Err(error) => return Err(error),
        }
    }
    looks.retain(|look| !gone.contains(look.place.vault.name()));
    nobody_answers(&run, &looks)?;
    nothing_complete(&mut run, &looks);
    if let (Depth::Meaning, Some(identities)) = (request.depth, request.identities) {
        meaning::check(&mut run, &looks, identities)?;
    }
    tell_catalog(&run, &looks);
    let still_restores = still_restores(&run, &looks);
    Ok(VerifyReport {
        node: reader.node.to_string(),
        depth: request.depth,
        vaults: looks.into_iter().map(|look| look.row).collect(),
        checks: run.checks,
        still_restores,
        findings: run.findings,
    })
}

/// Reads and judges every manifest of one vault. Segments are kept only for the newest complete one and those asked
/// for, so that memory follows the chosen snapshots and not the vault.
fn look<'r>(run: &mut Run<'r>, place: &'r Place) -> Result<Look<'r>, Error> {
    let name = place.vault.name().to_string();
    run.context.tell(Event::Step(format!("checking signatures in vault {name}")));
    let row = VerifiedVault {
        name,
        snapshots: 0,
        newest_complete: None,
        age_seconds: None,
        checked: Vec::new(),
        objects: 0,
        bytes: 0,
    };
    let mut look = Look {
        place,
        believed: BTreeMap::new(),
        disbelieved: BTreeSet::new(),
        chosen: Vec::new(),
        unopenable: BTreeSet::new(),
        bad: HashSet::new(),
        unread: HashSet::new(),
        row,
    };
    for entry in super::survey::entries(&place.vault, &run.reader.node)? {
        run.context.check()?;
        if !entry.is_committed() {
            run.findings.push(Finding::new(
                Level::Note,
                "unfinished",
                format!("{}: {}", look.name(), entry.id),
                "a run that was interrupted left files here; nothing of it counts",
            ));
            continue;
        }
        match believe(&place.vault, &run.reader.node, &entry.id, &run.reader.trusted) {
            Ok(mut believed) => {
                let keep = match &run.request.which {
                    Which::All => true,
                    Which::One(id) => id == &entry.id,
                    Which::Latest => believed.manifest.complete,
                };
                if keep && run.request.which == Which::Latest {
                    look.believed.values_mut().for_each(|older| older.manifest.artifacts.clear());
                } else if !keep {
                    believed.manifest.artifacts.clear();
                }
                look.believed.insert(entry.id, believed);
            }
            Err(Disbelief::Vault(error)) => return Err(error.into()),
            Err(reason) => {
                run.findings.push(super::reading::not_believed(place, &entry.id, &reason));
                look.disbelieved.insert(entry.id);
            }
        }
    }
    look.row.snapshots = look.believed.len();
    look.row.newest_complete = look.newest_complete().map(|believed| believed.manifest.snapshot.to_string());
    present::chain_of(run, &look);
    present::freshness(run, &mut look);
    present::rolled_back(run, &look)?;
    present::recipients(run, &look);
    Ok(look)
}

/// An error when no vault is left: what was not looked at proves nothing, and is not the same as an empty vault.
fn nobody_answers(run: &Run<'_>, looks: &[Look<'_>]) -> Result<(), Error> {
    if !looks.is_empty() {
        return Ok(());
    }
    let unreachable: Vec<&Finding> =
        run.findings.iter().filter(|finding| finding.code == "vault-unreachable").collect();
    let reasons: Vec<String> =
        unreachable.iter().map(|finding| format!("{}: {}", finding.subject, finding.message)).collect();
    let hint = unreachable.iter().find_map(|finding| finding.hint.clone());
    Err(Error::NoVaultAnswers { reasons: reasons.join("; "), hint })
}

/// Looks at the contents of the chosen snapshots of one vault.
fn contents(run: &mut Run<'_>, look: &mut Look<'_>) -> Result<(), Error> {
    choose(run, look);
    present::objects(run, look)?;
    if run.request.depth >= Depth::Sealed {
        objects::check(run, look)?;
    }
    Ok(())
}

/// An error when the one snapshot that was asked for is committed nowhere.
fn is_somewhere(run: &Run<'_>, looks: &[Look<'_>]) -> Result<(), Error> {
    let Which::One(id) = &run.request.which else { return Ok(()) };
    if looks.iter().any(|look| look.believed.contains_key(id) || look.disbelieved.contains(id)) {
        return Ok(());
    }
    let place = looks.iter().map(Look::name).collect::<Vec<_>>().join(", ");
    Err(Error::NoSnapshot { wanted: id.to_string(), node: run.reader.node.clone(), place })
}

fn choose(run: &Run<'_>, look: &mut Look<'_>) {
    look.chosen = match &run.request.which {
        Which::All => look.believed.keys().cloned().collect(),
        Which::Latest => {
            look.newest_complete().map(|believed| believed.manifest.snapshot.clone()).into_iter().collect()
        }
        Which::One(id) => look.believed.contains_key(id).then(|| id.clone()).into_iter().collect(),
    };
    look.row.checked = look.chosen.iter().map(SnapshotId::to_string).collect();
}

/// Tells that the newest complete snapshot was asked for and there is none: a verify that looked at nothing proves
/// nothing.
fn nothing_complete(run: &mut Run<'_>, looks: &[Look<'_>]) {
    let is_told = run.findings.iter().any(|finding| finding.level >= Level::Stale);
    if run.request.which != Which::Latest || is_told || looks.iter().any(|look| !look.chosen.is_empty()) {
        return;
    }
    let message = "no vault holds a complete snapshot, so no content was looked at";
    run.findings.push(
        Finding::new(Level::Stale, "no-complete-snapshot", run.reader.node.as_str(), message)
            .with_hint("see `relay-backup list`; `verify --snapshot all` looks at incomplete ones too"),
    );
}

/// On the node itself: what turned out missing or damaged is no longer relied upon, so that the next backup seals it
/// anew instead of naming the damaged object again.
fn tell_catalog(run: &Run<'_>, looks: &[Look<'_>]) {
    let Some(policy) = run.policy.filter(|policy| policy.node == run.reader.node && HostState::exists(policy)) else {
        return;
    };
    if looks.iter().all(|look| look.bad.is_empty()) {
        return;
    }
    let told = Catalog::open(&StateFolder::of(policy).catalog()).and_then(|(catalog, _)| {
        let bad = looks.iter().flat_map(|look| look.bad.iter().map(move |object| (&look.place.id, object)));
        bad.map(|(vault, object)| catalog.forget_object(vault, object)).collect::<Result<Vec<()>, _>>()
    });
    if let Err(error) = told {
        tracing::warn!(error = %super::error::chain(&error), "the catalog still relies on what is damaged");
    }
}

/// After damage: the artifacts and snapshots that are whole as far as this run looked.
fn still_restores(run: &Run<'_>, looks: &[Look<'_>]) -> Vec<String> {
    if !run.findings.iter().any(|finding| finding.level == Level::Damage) {
        return Vec::new();
    }
    let mut lines = Vec::new();
    for look in looks {
        for believed in look.chosen().filter(|believed| !look.unopenable.contains(&believed.manifest.snapshot)) {
            let manifest = &believed.manifest;
            let is_whole = |artifact: &&crate::manifest::Artifact| {
                let is_good = |object| !look.bad.contains(object) && !look.unread.contains(object);
                artifact.segments.iter().all(|segment| is_good(&segment.object))
            };
            let whole: Vec<&str> =
                manifest.artifacts.iter().filter(is_whole).map(|artifact| artifact.name.as_str()).collect();
            let vault = look.name();
            lines.push(match whole.len() {
                0 => continue,
                count if count == manifest.artifacts.len() => {
                    format!("all of {} from vault {vault}", manifest.snapshot)
                }
                _ => format!("of {} from vault {vault}: {}", manifest.snapshot, whole.join(", ")),
            });
        }
        let older = look.believed.keys().rev().find(|id| !look.chosen.contains(id));
        if let Some(id) = older {
            lines.push(format!("perhaps {id} from vault {}: its contents were not looked at", look.name()));
        }
    }
    lines
}
