//! Reading the sources through the pipeline, one after the other.
//!
//! One after the other also because closing a file drops this process's locks on it: nothing may open and close a
//! wallet while it is being copied.

use super::SourceRow;
use crate::artifact::{ArtifactSpec, Codec};
use crate::base::ids::ArtifactName;
use crate::engine::Context;
use crate::engine::error::chain;
use crate::engine::pipeline::Pipeline;
use crate::engine::progress::Event;
use crate::engine::state::{HostState, as_attestation};
use crate::facts::Facts;
use crate::manifest::{Artifact, Attested};
use crate::notes::ArtifactNotes;
use crate::policy::{Policy, SourceKind, SourcePolicy};
use crate::report::{Finding, Level};
use crate::sources::cln::Cln;
use crate::sources::files::Files;
use crate::sources::lnd::Lnd;
use crate::sources::postgres::{Postgres, Programs};
use crate::sources::sqlite::{self, CopyOptions, LockBudget, Scratch};
use crate::sources::{Body, Sink, SourceError};

/// What all sources gave.
#[derive(Default)]
pub(super) struct Read {
    pub(super) artifacts: Vec<Artifact>,
    pub(super) notes: Vec<ArtifactNotes>,
    pub(super) findings: Vec<Finding>,
    pub(super) sources: Vec<SourceRow>,
    pub(super) attestations: Vec<crate::facts::cln::Attestation>,
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
pub(super) struct Reading<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) policy: &'a Policy,
    pub(super) state: &'a HostState,
    pub(super) chosen: &'a [&'a SourcePolicy],
    /// What the newest snapshot attests: it counts where this host's state says nothing.
    pub(super) inherited: Vec<Attested>,
}

impl Reading<'_> {
    pub(super) fn read_all(&self, pipeline: &Pipeline<'_>) -> Read {
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
                let commands = &crate::engine::departure::commands(lightning_dir)[..];
                let cln =
                    Cln { name, lightning_dir, network, wallet, commands, attested, budget, scratch_folder, interrupt };
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
                sqlite::read(
                    path,
                    name,
                    codec,
                    CopyOptions { scratch: Scratch::Folder(scratch_folder), budget, interrupt },
                    collector,
                )
            }
            SourceKind::Files { paths, exclude } => {
                let codec = source.codec.unwrap_or(Codec::Gzip);
                Files { name, paths, exclude, codec, interrupt }.read(collector)
            }
        }
    }
}
