//! Depth `meaning`: what was sealed would serve. Dumps restore into a scratch PostgreSQL cluster and are proved row for
//! row, SQLite databases pass their own check and hold what the notes say, the secret derives its node id, the SCB
//! opens with it, tars list what they should. A wall that the scratch server lacks is told.
//!
//! Plaintext lies for a while in a private folder that is wiped at the end; the person who asked for this depth asked
//! for that.

use super::super::Error;
use super::super::error::chain;
use super::super::opening::Opener;
use super::super::progress::Event;
use super::super::reading::{Opened, open_snapshot};
use super::super::told;
use super::{Check, Look, Run, Verdict};
use crate::base::fsio::FileError;
use crate::base::ids::SnapshotId;
use crate::facts::Facts;
use crate::manifest::{Artifact, Manifest};
use crate::report::{Finding, Level};
use crate::sandbox::cluster::{Cluster, Walls};
use crate::sandbox::private::PrivateFolder;
use crate::seal::identity::Identities;
use crate::sources::{cln, files, postgres, sqlite};
use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

/// Checks the chosen snapshots, each once, from the first vault that holds it.
pub(super) fn check(run: &mut Run<'_>, looks: &[Look<'_>], identities: &Identities) -> Result<(), Error> {
    let mut done: HashSet<SnapshotId> = HashSet::new();
    let scratch = PrivateFolder::create(run.request.scratch, "relay-backup-meaning-")?;
    run.context.tell(Event::Step(format!("sandbox in {} (private, wiped at the end)", scratch.path().display())));
    let mut bench = Bench { parent: run.request.scratch, scratch: scratch.path(), cluster: None };
    for look in looks {
        for believed in look.chosen() {
            let manifest = &believed.manifest;
            if !done.insert(manifest.snapshot.clone()) {
                continue;
            }
            let places: Vec<_> = looks
                .iter()
                .filter(|other| other.believed.contains_key(&manifest.snapshot))
                .map(|other| other.place)
                .collect();
            let opened = match open_snapshot(&places, &run.reader.node, manifest, identities) {
                Ok(opened) => opened,
                Err(Error::Seal(error @ crate::seal::SealError::NoMatch { .. })) => return Err(error.into()),
                Err(error @ Error::Unread { .. }) => {
                    run.unread("snapshot-unread", manifest.snapshot.to_string(), chain(&error), error.hint());
                    continue;
                }
                Err(error) => {
                    run.damage(
                        "snapshot-unreadable",
                        manifest.snapshot.to_string(),
                        chain(&error),
                        "restore from another snapshot",
                    );
                    continue;
                }
            };
            let node = run.reader.node.clone();
            let context = run.context;
            let opener = Opener { context, places: &places, node: &node, opened: &opened };
            for artifact in &manifest.artifacts {
                context.check()?;
                context.tell(Event::Step(format!("checking the meaning of {}", artifact.name)));
                let outcome = bench.judge(context, &opener, &opened, manifest, artifact);
                record(run, manifest, artifact, outcome)?;
            }
        }
    }
    run.findings.extend(bench.cluster.as_ref().and_then(|cluster| weaker(cluster.walls())));
    Ok(())
}

/// How the meaning of an artifact came out.
enum Meaning {
    /// Checked; no finding of level `Damage` or `Failed` means that it passed.
    Judged(String, Vec<Finding>),
    /// There is nothing to check.
    NotApplicable(&'static str),
}

fn record(
    run: &mut Run<'_>,
    manifest: &Manifest,
    artifact: &Artifact,
    outcome: Result<Meaning, Error>,
) -> Result<(), Error> {
    const WHAT: &str = "meaning";
    let subject = format!("{}: {}", manifest.snapshot, artifact.name);
    let (verdict, detail) = match outcome {
        Err(error) if error.is_interruption() => return Err(Error::Interrupted),
        Err(error @ Error::Damaged { .. }) => {
            run.damage("artifact-damaged", subject.clone(), chain(&error), "restore from another vault or snapshot");
            (Verdict::Failed, String::new())
        }
        Err(error) => {
            let finding = Finding::new(
                Level::Failed,
                "check-impossible",
                subject.clone(),
                format!("it could not be checked: {}", chain(&error)),
            );
            run.findings.push(match error.hint() {
                Some(hint) => finding.with_hint(hint),
                None => finding,
            });
            (Verdict::Failed, String::new())
        }
        Ok(Meaning::NotApplicable(why)) => (Verdict::NotApplicable, why.to_owned()),
        Ok(Meaning::Judged(detail, findings)) => {
            let bad = findings.iter().any(|finding| finding.level >= Level::Failed);
            run.findings.extend(findings);
            (if bad { Verdict::Failed } else { Verdict::Passed }, detail)
        }
    };
    run.checks.push(Check::new(WHAT, subject, verdict, detail));
    Ok(())
}

/// Where artifacts are tried out.
struct Bench<'a> {
    parent: &'a Path,
    scratch: &'a Path,
    cluster: Option<Cluster>,
}

impl Bench<'_> {
    fn judge(
        &mut self,
        context: &super::Context<'_>,
        opener: &Opener<'_>,
        opened: &Opened,
        manifest: &Manifest,
        artifact: &Artifact,
    ) -> Result<Meaning, Error> {
        let subject = format!("{}: {}", manifest.snapshot, artifact.name);
        let Some(facts) = opened.notes.facts(&artifact.name) else {
            let finding = Finding::new(Level::Damage, "notes-incomplete", subject, "the notes say nothing about it");
            return Ok(Meaning::Judged(String::new(), vec![finding]));
        };
        match facts {
            Facts::HsmSecret(facts) => {
                let bytes = opener.to_memory(artifact)?;
                let detail = match &facts.node_id {
                    Some(id) => format!("derives node id {id}"),
                    None => "needs a passphrase to derive a node id".into(),
                };
                Ok(Meaning::Judged(detail, cln::check_secret(&subject, &bytes, facts)))
            }
            Facts::EmergencyRecover(facts) => {
                let bytes = opener.to_memory(artifact)?;
                let secret = opener.sibling_secret(manifest, &artifact.name)?;
                let findings = cln::check_emergency(&subject, bytes.expose(), facts, secret.as_ref());
                let channels = facts.contents.as_ref().map_or(0, |contents| contents.channels.len());
                Ok(Meaning::Judged(format!("{channels} channels"), findings))
            }
            Facts::ClnWallet(facts) => {
                let file = self.to_file(opener, artifact)?;
                let findings = cln::check_wallet(&subject, file.path(), facts, context.interrupt);
                Ok(Meaning::Judged("sound, and row for row as noted".into(), findings))
            }
            Facts::Sqlite(facts) => {
                let file = self.to_file(opener, artifact)?;
                let findings = sqlite::check(&subject, file.path(), facts, context.interrupt);
                Ok(Meaning::Judged("sound, and row for row as noted".into(), findings))
            }
            Facts::ClnExtras(facts) => {
                let findings = opener.through_pipe(artifact, |tar| Ok(cln::check_extras(&subject, tar, facts)))?;
                Ok(Meaning::Judged(format!("{} files", facts.files.len()), findings))
            }
            Facts::Tar(facts) => {
                let checked = opener.through_pipe(artifact, |tar| Ok(files::check(tar, facts)))?;
                let findings = match checked {
                    Ok(inspected) => inspected.left_out.findings(&subject),
                    Err(error) => vec![Finding::new(Level::Damage, "tar-differs", &subject, chain(&error))],
                };
                Ok(Meaning::Judged(format!("{} entries", facts.entries), findings))
            }
            Facts::LndChannelBackup(facts) => {
                let bytes = opener.to_memory(artifact)?;
                let detail =
                    if facts.is_empty { "no channels" } else { "encrypted to the node's seed: its length is as noted" };
                let differs = bytes.len() as u64 != facts.length;
                let finding =
                    Finding::new(Level::Damage, "channel-backup-differs", &subject, "its length is not as noted");
                Ok(Meaning::Judged(detail.into(), if differs { vec![finding] } else { Vec::new() }))
            }
            Facts::PostgresGlobals(facts) => {
                let bytes = opener.to_memory(artifact)?;
                Ok(Meaning::Judged(
                    format!("{} roles", facts.roles.len()),
                    check_globals(&subject, bytes.expose(), facts),
                ))
            }
            Facts::PostgresDump(facts) if facts.tables.is_empty() && artifact.length == 0 => {
                Ok(Meaning::NotApplicable("an empty dump"))
            }
            Facts::PostgresDump(facts) => self.restore_dump(context, opener, manifest, artifact, facts),
        }
    }

    fn restore_dump(
        &mut self,
        context: &super::Context<'_>,
        opener: &Opener<'_>,
        manifest: &Manifest,
        artifact: &Artifact,
        facts: &crate::facts::postgres::DatabaseFacts,
    ) -> Result<Meaning, Error> {
        let subject = &*format!("{}: {}", manifest.snapshot, artifact.name);
        let cluster = match &self.cluster {
            Some(cluster) => cluster,
            None => {
                context.tell(Event::Step("starting a scratch PostgreSQL server".into()));
                // Not below our own private folder: a server of another user may not be able to walk there.
                self.cluster.insert(Cluster::start_unless(self.parent, context.interrupt)?)
            }
        };
        let interrupt = context.interrupt;
        let tried =
            opener.through_pipe(artifact, |dump| Ok(cluster.try_out(facts, &manifest.snapshot, interrupt, dump)))?;
        context.check()?;
        let tried = match tried {
            Ok(tried) => tried,
            // The bytes are whole, as every segment's digest showed: a dump that cannot be read was made badly.
            Err(error) if error.is_of_the_dump() => {
                let hint = error.hint().unwrap_or_else(|| "restore from an older snapshot".to_owned());
                let finding = Finding::new(Level::Damage, "dump-does-not-restore", subject, chain(&error));
                return Ok(Meaning::Judged(String::new(), vec![finding.with_hint(hint)]));
            }
            // What this machine lacks, or a server refuses, is no damage of what is stored.
            Err(error) => return Err(error.into()),
        };
        let differs = |difference: &postgres::Difference| {
            Finding::new(Level::Damage, "database-differs", subject, difference.to_string())
                .with_hint("do not rely on this dump; an older snapshot may be good")
        };
        let mut findings: Vec<Finding> = tried.proof.differences.iter().map(differs).collect();
        findings.extend(told::replayed(subject, &tried.replayed));
        findings.extend(told::unsettled(subject, &tried.proof.unsettled));
        let notes = tried.made.notes.iter().chain(&tried.proof.not_compared);
        findings.extend(notes.map(|note| Finding::new(Level::Note, "not-compared", subject, note.clone())));
        let detail = format!("restored and equal: {} tables, {} rows", tried.proof.tables, tried.proof.rows);
        Ok(Meaning::Judged(detail, findings))
    }

    fn to_file(&self, opener: &Opener<'_>, artifact: &Artifact) -> Result<tempfile::NamedTempFile, Error> {
        let mut file =
            tempfile::NamedTempFile::new_in(self.scratch).map_err(FileError::io("create a file in", self.scratch))?;
        opener.artifact(artifact, &mut |bytes| file.write_all(bytes), "the sandbox")?;
        Ok(file)
    }
}

/// A note when the scratch server lacks a wall.
fn weaker(walls: &Walls) -> Option<Finding> {
    let finding = Finding::new(Level::Note, "sandbox-weaker", "the scratch server", walls.weakness()?);
    Some(match walls.hint() {
        Some(hint) => finding.with_hint(hint),
        None => finding,
    })
}

/// Holds the roles' script against the notes: whole to its last line, and with every role.
fn check_globals(subject: &str, script: &[u8], facts: &crate::facts::postgres::GlobalsFacts) -> Vec<Finding> {
    let text = String::from_utf8_lossy(script);
    let damage = |message: String| Finding::new(Level::Damage, "globals-differ", subject, message);
    let mut findings = Vec::new();
    if !text.trim_end().ends_with("-- PostgreSQL database cluster dump complete\n--") {
        findings.push(damage("the script of roles does not end as a whole one does".into()));
    }
    for role in &facts.roles {
        let plain = format!("CREATE ROLE {};", role.name);
        let quoted = format!("CREATE ROLE \"{}\";", role.name.replace('"', "\"\""));
        if !text.lines().any(|line| line == plain || line == quoted) {
            findings.push(damage(format!("the script of roles does not make {:?}", role.name)));
        }
    }
    findings
}
