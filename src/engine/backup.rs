//! One snapshot: look at the vaults, read every source through the pipeline, write the notes, sign the manifest,
//! commit it in every vault, and say what happened.

use super::commit::{Ready, commit};
use super::error::chain;
use super::init::ensure_keys;
use super::pipeline::{self, Pipeline, Settings, Target};
use super::progress::Event;
use super::reading::absent_vault;
use super::state::{HostState, as_attestation};
use super::survey::{catalog_finding, survey};
use super::{Context, Error};
use crate::artifact::{ArtifactSpec, Codec};
use crate::base::ids::{ArtifactName, Sha256Hex, SnapshotId};
use crate::base::lock::Lock;
use crate::catalog::Catalog;
use crate::facts::Facts;
use crate::manifest::{self, Artifact, Attested, FileDigest, Manifest, Previous, SourceOutcome, VaultHead};
use crate::notes::{ArtifactNotes, DedupKeyHex, Notes};
use crate::policy::{Policy, SourceKind, SourcePolicy, VaultPolicy, Via};
use crate::report::{Finding, Level};
use crate::sources::cln::Cln;
use crate::sources::files::Files;
use crate::sources::lnd::Lnd;
use crate::sources::postgres::{Postgres, Programs};
use crate::sources::sqlite::{self, CopyOptions, LockBudget};
use crate::sources::{Body, Sink, SourceError};
use crate::vault::Vault;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Only these sources; all when empty.
    pub only: Vec<String>,
    /// Why it runs.
    pub trigger: String,
}

/// What a backup did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct BackupReport {
    /// The protected host.
    pub node: String,
    /// The snapshot, when one was committed somewhere.
    pub snapshot: Option<String>,
    /// Whether every source of the policy succeeded.
    pub complete: bool,
    /// When the run began, UTC.
    pub created: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// How each source fared.
    pub sources: Vec<SourceRow>,
    /// The artifacts of the snapshot.
    pub artifacts: Vec<ArtifactRow>,
    /// How each vault fared.
    pub vaults: Vec<VaultRow>,
    /// Plaintext read, in bytes.
    pub bytes_read: u64,
    /// The most memory this process has used, in bytes.
    pub peak_memory_bytes: u64,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// How one source fared.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SourceRow {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Whether everything it should yield was read.
    pub ok: bool,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// One artifact.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ArtifactRow {
    /// Its name.
    pub name: String,
    /// Plaintext length in bytes.
    pub length: u64,
    /// Number of segments.
    pub segments: usize,
    /// Whether a guard must clear it before a node may start on it.
    pub toxic: bool,
    /// How a live database's lock was held while it was copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockRow>,
}

/// How a live database's lock was held.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LockRow {
    /// Longest single hold, in milliseconds.
    pub longest_hold_ms: u64,
    /// How often a writer made the copy start over.
    pub restarts: u64,
}

/// How one vault fared.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct VaultRow {
    /// Its name.
    pub name: String,
    /// Whether the snapshot is committed there.
    pub whole: bool,
    /// Objects put in this run.
    pub objects_shipped: u64,
    /// Bytes put in this run.
    pub bytes_shipped: u64,
}

/// Takes one snapshot.
pub fn backup(context: &Context<'_>, policy: &Policy, request: &Request) -> Result<BackupReport, Error> {
    let began = std::time::Instant::now();
    let chosen = choose(policy, &request.only)?;
    let mut state = HostState::load(policy)?;
    let _lock = Lock::acquire(&state.folder.lock(), "backup", context.clock)?;
    let (catalog, opened) = Catalog::open(&state.folder.catalog())?;
    let mut findings: Vec<Finding> =
        catalog_finding(&opened).into_iter().chain(recipients_differ(policy, &state)).collect();
    let created = context.now();
    let half_grace = jiff::SignedDuration::try_from(policy.retention.grace / 2).unwrap_or_default();
    catalog.set_own_put_cutoff(created.saturating_sub(half_grace).unwrap_or(created))?;

    let written: Vec<&VaultPolicy> = policy.vaults.iter().filter(|vault| vault.via == Via::Backup).collect();
    let vaults = open_vaults(&written)?;
    let (targets, heads) = look_at_vaults(context, policy, &state, &catalog, &vaults, &mut findings)?;
    let sequence = heads.iter().map(|head| head.sequence).max().unwrap_or(0) + 1;
    let snapshot = SnapshotId::new(created, sequence);

    let settings = Settings {
        context: *context,
        node: &policy.node,
        dedup: &state.dedup,
        epoch: &state.epoch,
        catalog: &catalog,
        memory: policy.backup.memory,
    };
    let inherited = heads.iter().max_by_key(|head| head.sequence).map_or(Vec::new(), |head| head.attested.clone());
    let reading = Reading { context, policy, state: &state, chosen: &chosen, inherited };
    let read = pipeline::run(&settings, &targets, |pipeline| reading.read_all(pipeline));
    context.check()?;
    let mut read = match read {
        Err(pipeline::PipelineError::NoVaultLeft) => {
            findings.extend(left_behind(&written, &targets));
            return Ok(failed(policy, created, began, &written, &targets, findings));
        }
        other => other?,
    };
    findings.append(&mut read.findings);
    for attestation in read.attestations.drain(..) {
        state.attest(attestation)?;
    }
    if read.artifacts.is_empty() {
        findings.push(Finding::new(
            Level::Failed,
            "nothing-read",
            policy.node.as_str(),
            "no source gave anything: no snapshot was made",
        ));
        return Ok(failed(policy, created, began, &written, &targets, findings));
    }

    let complete = chosen.len() == policy.sources.len() && read.sources.iter().all(|source| source.ok);
    let draft = Draft { policy, state: &state, snapshot, sequence, created, complete, trigger: &request.trigger };
    let prepared = draft.prepare(&read, &targets, &heads, &findings)?;
    context.tell(Event::Step("committing".into()));
    let whole = commit_everywhere(context, &catalog, &draft, &prepared, &targets, &mut findings);
    context.check()?;
    findings.extend(left_behind(&written, &targets));
    if let Some(finding) = too_few_copies(policy, &whole) {
        findings.push(finding);
    }
    Ok(BackupReport {
        node: policy.node.to_string(),
        snapshot: (!whole.is_empty()).then(|| draft.snapshot.to_string()),
        complete,
        created: created.to_string(),
        seconds: began.elapsed().as_secs_f64(),
        bytes_read: read.artifacts.iter().map(|artifact| artifact.length).sum(),
        peak_memory_bytes: crate::base::memory::peak_bytes(),
        artifacts: read.artifacts.iter().map(|artifact| artifact_row(artifact, &read.notes)).collect(),
        sources: read.sources,
        vaults: vault_rows(&written, &targets, &whole),
        findings,
    })
}

fn choose<'p>(policy: &'p Policy, only: &[String]) -> Result<Vec<&'p SourcePolicy>, Error> {
    for name in only {
        if !policy.sources.iter().any(|source| source.name.as_str() == name) {
            let known = policy.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::Unknown { what: "source", name: name.clone(), known });
        }
    }
    let is_chosen = |source: &&SourcePolicy| only.is_empty() || only.iter().any(|name| name == source.name.as_str());
    Ok(policy.sources.iter().filter(is_chosen).collect())
}

/// A policy whose recipients are no longer those that the epoch's key is sealed to.
fn recipients_differ(policy: &Policy, state: &HostState) -> Option<Finding> {
    let sorted = |texts: &[String]| {
        let mut sorted = texts.to_vec();
        sorted.sort_unstable();
        sorted
    };
    (sorted(&policy.keys.recipients) != sorted(&state.recipients)).then(|| {
        Finding::new(
            Level::Degraded,
            "recipients-differ",
            format!("epoch {}", state.epoch.id),
            "the policy's recipients are not those that this epoch's key is sealed to: a recipient who was added cannot \
             open this snapshot, one who was removed can",
        )
        .with_hint("`relay-backup rotate` begins an epoch that is sealed to the policy's recipients")
    })
}

fn open_vaults(written: &[&VaultPolicy]) -> Result<Vec<Vault>, Error> {
    if written.is_empty() {
        return Err(Error::Usage("every vault of the policy says via = \"sync\": there is none to write to".into()));
    }
    written.iter().map(|policy| Vault::open(policy).map_err(Error::from)).collect()
}

/// A vault's newest snapshot when the run began, and the largest sequence number it has seen.
struct Head {
    newest: Option<(SnapshotId, Sha256Hex)>,
    sequence: u64,
    attested: Vec<Attested>,
}

/// Opens and surveys each vault. One that is missing or fails is left behind; none at all is an error.
fn look_at_vaults<'v>(
    context: &Context<'_>,
    policy: &Policy,
    state: &HostState,
    catalog: &Catalog,
    vaults: &'v [Vault],
    findings: &mut Vec<Finding>,
) -> Result<(Vec<Target<'v>>, Vec<Head>), Error> {
    let trusted = state.trusted(policy)?;
    let (mut targets, mut heads, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    for vault in vaults {
        context.check()?;
        context.tell(Event::Step(format!("looking at vault {}", vault.name())));
        let looked = vault.identify().map_err(Error::from).and_then(|info| {
            let Some(info) = info else { return Ok(None) };
            let found = survey(vault, &info.id, &policy.node, &trusted, catalog)?;
            ensure_keys(vault, policy, state)?;
            Ok(Some((info.id, found)))
        });
        match looked {
            Ok(Some((id, mut found))) => {
                // What lies there already does not make this run fail, but somebody must look at it.
                found.findings.iter_mut().for_each(|finding| finding.level = finding.level.min(Level::Degraded));
                findings.append(&mut found.findings);
                heads.push(Head { newest: found.head, sequence: found.sequence, attested: found.attested });
                targets.push(Target::new(vault, id));
            }
            Ok(None) => {
                absent.push(vault.name().to_string());
                findings.push(absent_vault(vault.name().as_str()));
            }
            Err(error @ Error::Vault(_)) => findings.push(behind(vault.name().as_str(), &chain(&error), error.hint())),
            Err(error) => return Err(error),
        }
    }
    if targets.is_empty() && absent.len() == vaults.len() {
        return Err(Error::NoVault { place: absent.join(", ") });
    }
    if targets.is_empty() {
        let reasons: Vec<String> =
            findings.iter().map(|finding| format!("{}: {}", finding.subject, finding.message)).collect();
        return Err(Error::NoVaultAnswers { reasons: reasons.join("; ") });
    }
    Ok((targets, heads))
}

fn behind(vault: &str, reason: &str, hint: Option<String>) -> Finding {
    let finding = Finding::new(Level::Degraded, "vault-behind", vault, format!("it is left behind: {reason}"));
    match hint {
        Some(hint) => finding.with_hint(hint),
        None => finding.with_hint("the next backup that reaches it makes it whole again"),
    }
}

fn left_behind(written: &[&VaultPolicy], targets: &[Target<'_>]) -> Vec<Finding> {
    let failures = targets.iter().filter_map(|target| target.failure().map(|failure| (target, failure)));
    let failures = failures.filter(|(target, _)| written.iter().any(|policy| &policy.name == target.vault.name()));
    failures.map(|(target, error)| behind(target.vault.name().as_str(), &chain(error), error.hint())).collect()
}

/// What all sources gave.
#[derive(Default)]
struct Read {
    artifacts: Vec<Artifact>,
    notes: Vec<ArtifactNotes>,
    findings: Vec<Finding>,
    sources: Vec<SourceRow>,
    attestations: Vec<crate::facts::cln::Attestation>,
}

/// Takes what sources deliver, for the pipeline.
struct Collector<'p, 's> {
    context: &'p Context<'p>,
    pipeline: &'p Pipeline<'s>,
    read: Read,
}

impl Sink for Collector<'_, '_> {
    fn artifact(&mut self, spec: ArtifactSpec, body: Body<'_>) -> Result<(), SourceError> {
        let name: ArtifactName = spec.name.clone();
        self.context.tell(Event::Step(format!("reading {name}")));
        if self.read.artifacts.iter().any(|artifact| artifact.name == name) {
            return Err(SourceError::Sink(std::io::Error::other(format!("the artifact {name} came twice"))));
        }
        let read_from = self.context.clock.now();
        let mut writer = self.pipeline.begin(&spec);
        let facts: Facts = body(&mut writer)?;
        let artifact = writer.finish().map_err(SourceError::Sink)?;
        self.context.tell(Event::ArtifactDone { name: name.to_string(), length: artifact.length });
        self.read.artifacts.push(artifact);
        self.read.notes.push(ArtifactNotes { name, read_from, read_until: self.context.clock.now(), facts });
        Ok(())
    }

    fn finding(&mut self, finding: Finding) {
        self.read.findings.push(finding);
    }
}

/// What reading the sources needs.
struct Reading<'a> {
    context: &'a Context<'a>,
    policy: &'a Policy,
    state: &'a HostState,
    chosen: &'a [&'a SourcePolicy],
    /// What the newest snapshot attests: it counts where this host's state says nothing.
    inherited: Vec<Attested>,
}

impl Reading<'_> {
    fn read_all(&self, pipeline: &Pipeline<'_>) -> Read {
        let mut collector = Collector { context: self.context, pipeline, read: Read::default() };
        for source in self.chosen {
            if pipeline.is_stopped() {
                break;
            }
            let began = std::time::Instant::now();
            self.context.tell(Event::Step(format!("reading {}", source.name)));
            let before = collector.read.findings.len();
            if let Err(error) = self.read_one(source, &mut collector) {
                let finding = Finding::new(Level::Failed, "source-failed", source.name.as_str(), chain(&error));
                collector.read.findings.push(match error.hint() {
                    Some(hint) => finding.with_hint(hint),
                    None => finding,
                });
            }
            let ok = collector.read.findings[before..].iter().all(|finding| finding.level < Level::Failed);
            collector.read.sources.push(SourceRow {
                name: source.name.to_string(),
                kind: source.kind.as_str().to_owned(),
                ok,
                seconds: began.elapsed().as_secs_f64(),
            });
        }
        collector.read
    }

    fn read_one(&self, source: &SourcePolicy, collector: &mut Collector<'_, '_>) -> Result<(), SourceError> {
        let interrupt = self.context.interrupt;
        let name = &source.name;
        let budget = LockBudget { hold: self.policy.backup.lock_budget, hold_max: self.policy.backup.lock_budget_max };
        let scratch_folder = self.state.folder.path();
        match &source.kind {
            SourceKind::Cln { lightning_dir, network, wallet } => {
                let inherited = self.inherited.iter().find(|attested| &attested.source == name).map(as_attestation);
                let attested = self.state.attestation(name).or(inherited.as_ref());
                let wallet = wallet.as_deref();
                let cln = Cln { name, lightning_dir, network, wallet, attested, budget, scratch_folder, interrupt };
                let report = cln.read(collector)?;
                collector.read.attestations.extend(report.attestation);
                Ok(())
            }
            SourceKind::Postgres { url, passfile, databases } => {
                let postgres = Postgres {
                    name,
                    url,
                    passfile: passfile.as_deref(),
                    databases,
                    codec: source.codec.unwrap_or(Codec::Zstd),
                    interrupt: interrupt.clone(),
                    programs: Programs::default(),
                };
                postgres.read(collector)
            }
            SourceKind::Lnd { lnd_dir, network, paths } => {
                Lnd { name, lnd_dir, network, paths, interrupt }.read(collector)
            }
            SourceKind::Sqlite { path } => {
                let codec = source.codec.unwrap_or(Codec::Zstd);
                sqlite::read(path, name, codec, CopyOptions { scratch_folder, budget, interrupt }, collector)
            }
            SourceKind::Files { paths, exclude } => {
                let codec = source.codec.unwrap_or(Codec::Gzip);
                Files { name, paths, exclude, codec, interrupt }.read(collector)
            }
        }
    }
}

/// The snapshot before it is written down.
struct Draft<'a> {
    policy: &'a Policy,
    state: &'a HostState,
    snapshot: SnapshotId,
    sequence: u64,
    created: Timestamp,
    complete: bool,
    trigger: &'a str,
}

/// Everything a vault needs for the commit.
struct Prepared {
    manifest: Manifest,
    text: String,
    signature: String,
    notes: Vec<u8>,
}

impl Draft<'_> {
    fn prepare(
        &self,
        read: &Read,
        targets: &[Target<'_>],
        heads: &[Head],
        findings: &[Finding],
    ) -> Result<Prepared, Error> {
        let Self { policy, state, .. } = self;
        let notes = self.seal_notes(read, findings)?;
        let digest = |bytes: &[u8]| FileDigest { sha256: Sha256Hex::of(bytes), length: bytes.len() as u64 };
        let newest = heads.iter().filter_map(|head| head.newest.clone()).max_by(|left, right| left.0.cmp(&right.0));
        let attested = state.attestations().iter().map(|attestation| Attested {
            source: attestation.source.clone(),
            salt: attestation.salt.clone(),
            sha256: attestation.sha256.clone(),
        });
        let sources = read
            .sources
            .iter()
            .map(|row| Ok(SourceOutcome { name: row.name.parse()?, kind: row.kind.clone(), ok: row.ok }));
        let manifest = Manifest {
            format: manifest::FORMAT,
            program: format!("relay-backup {}", env!("CARGO_PKG_VERSION")),
            node: policy.node.clone(),
            instance: state.instance.clone(),
            snapshot: self.snapshot.clone(),
            sequence: self.sequence,
            created: self.created,
            trigger: self.trigger.to_owned(),
            complete: self.complete,
            previous: newest.map(|(snapshot, sha256)| Previous { snapshot, sha256 }),
            vaults: targets
                .iter()
                .zip(heads)
                .map(|(target, head)| VaultHead {
                    vault: target.id.clone(),
                    head: head.newest.as_ref().map(|(snapshot, _)| snapshot.clone()),
                })
                .collect(),
            epoch: state.epoch.id.clone(),
            epoch_key: digest(&state.sealed_epoch),
            notes: digest(&notes),
            recipients: state.recipients.iter().map(|text| crate::seal::recipients::fingerprint(text)).collect(),
            attested: attested.collect(),
            sources: sources.collect::<Result<_, Error>>()?,
            artifacts: read.artifacts.clone(),
        };
        let text = manifest::encode(&manifest);
        // What is signed must be what every reader accepts.
        manifest::decode(text.as_bytes()).map_err(|source| Error::Manifest {
            snapshot: self.snapshot.clone(),
            place: "this run".into(),
            source,
        })?;
        let signature =
            state.signing.sign(text.as_bytes(), &format!("relay-backup {} {}", policy.node, self.snapshot))?;
        Ok(Prepared { manifest, text, signature, notes })
    }

    fn seal_notes(&self, read: &Read, findings: &[Finding]) -> Result<Vec<u8>, Error> {
        let dedup = self.state.dedup.to_hex();
        let notes = Notes {
            format: crate::notes::FORMAT,
            node: self.policy.node.clone(),
            snapshot: self.snapshot.clone(),
            created: self.created,
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            dedup_key: DedupKeyHex(String::from_utf8_lossy(dedup.expose()).into_owned()),
            policy: self.policy.text.clone(),
            artifacts: read.notes.clone(),
            findings: findings.to_vec(),
        };
        let plaintext = notes.encode().map_err(|source| Error::Notes { snapshot: self.snapshot.clone(), source })?;
        Ok(self.state.epoch.seal(plaintext.expose())?)
    }
}

/// Commits in all vaults at once; a slow one does not hold up the others. Gives the names of those that are whole.
fn commit_everywhere(
    context: &Context<'_>,
    catalog: &Catalog,
    draft: &Draft<'_>,
    prepared: &Prepared,
    targets: &[Target<'_>],
    findings: &mut Vec<Finding>,
) -> Vec<String> {
    let ready = Ready {
        node: &draft.policy.node,
        manifest: &prepared.manifest,
        text: &prepared.text,
        signature: &prepared.signature,
        notes: &prepared.notes,
        epoch_key: &draft.state.sealed_epoch,
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let working: Vec<&Target<'_>> = targets.iter().filter(|target| target.failure().is_none()).collect();
        let threads: Vec<_> = working
            .iter()
            .map(|&target| {
                let others: Vec<&Vault> =
                    working.iter().filter(|other| other.id != target.id).map(|other| other.vault).collect();
                let ready = &ready;
                (target, scope.spawn(move || commit(context, catalog, ready, target, &others)))
            })
            .collect();
        threads.into_iter().map(|(target, thread)| (target, thread.join())).collect()
    });
    let mut whole = Vec::new();
    for (target, result) in results {
        let name = target.vault.name().to_string();
        match result {
            Ok(Ok(())) => whole.push(name),
            Ok(Err(error)) => findings.push(behind(&name, &chain(&error), error.hint())),
            Err(_) => findings.push(behind(&name, "the committing thread ended early", None)),
        }
    }
    whole
}

/// A failure when fewer vaults are whole than the policy requires; where one is offsite, only such count.
fn too_few_copies(policy: &Policy, whole: &[String]) -> Option<Finding> {
    let any_offsite = policy.vaults.iter().any(|vault| vault.offsite);
    let counts =
        |name: &str| policy.vaults.iter().any(|vault| vault.name.as_str() == name && (vault.offsite || !any_offsite));
    let copies = whole.iter().filter(|name| counts(name)).count();
    let required = policy.backup.copies_required;
    (copies < required).then(|| {
        let kind = if any_offsite { "offsite copies" } else { "copies" };
        Finding::new(
            Level::Failed,
            "too-few-copies",
            policy.node.as_str(),
            format!("{copies} of the {required} {kind} required were written"),
        )
        .with_hint("see what is said of each vault, mend it, and run `relay-backup backup` again")
    })
}

fn artifact_row(artifact: &Artifact, notes: &[ArtifactNotes]) -> ArtifactRow {
    let facts = notes.iter().find(|note| note.name == artifact.name).map(|note| &note.facts);
    let lock = match facts {
        Some(Facts::ClnWallet(wallet)) => Some(&wallet.copy),
        Some(Facts::Sqlite(sqlite)) => Some(&sqlite.copy),
        _ => None,
    };
    ArtifactRow {
        name: artifact.name.to_string(),
        length: artifact.length,
        segments: artifact.segments.len(),
        toxic: artifact.toxic,
        lock: lock.map(|copy| LockRow { longest_hold_ms: copy.longest_hold_ms, restarts: u64::from(copy.restarts) }),
    }
}

fn vault_rows(written: &[&VaultPolicy], targets: &[Target<'_>], whole: &[String]) -> Vec<VaultRow> {
    let row = |policy: &&VaultPolicy| {
        let target = targets.iter().find(|target| target.vault.name() == &policy.name);
        let (objects_shipped, bytes_shipped) = target.map_or((0, 0), Target::shipped);
        VaultRow {
            name: policy.name.to_string(),
            whole: whole.iter().any(|name| name == policy.name.as_str()),
            objects_shipped,
            bytes_shipped,
        }
    };
    written.iter().map(row).collect()
}

fn failed(
    policy: &Policy,
    created: Timestamp,
    began: std::time::Instant,
    written: &[&VaultPolicy],
    targets: &[Target<'_>],
    mut findings: Vec<Finding>,
) -> BackupReport {
    if !findings.iter().any(|finding| finding.level == Level::Failed) {
        findings.extend(too_few_copies(policy, &[]));
    }
    BackupReport {
        node: policy.node.to_string(),
        snapshot: None,
        complete: false,
        created: created.to_string(),
        seconds: began.elapsed().as_secs_f64(),
        sources: Vec::new(),
        artifacts: Vec::new(),
        vaults: vault_rows(written, targets, &[]),
        bytes_read: 0,
        peak_memory_bytes: crate::base::memory::peak_bytes(),
        findings,
    }
}
