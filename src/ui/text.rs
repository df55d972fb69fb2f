//! Reports as text for a tired person: what happened first, then what is wrong and what to do.

mod restore;

use super::Answer;
use crate::engine::backup::{BackupReport, Outcome, Parting};
use crate::engine::departure::UndoReport;
use crate::engine::extract::ExtractReport;
use crate::engine::init::InitReport;
use crate::engine::list::{ListReport, ShowReport};
use crate::engine::verify::{Verdict, VerifyReport};
use crate::exit::{Exit, Failure};
use crate::report::{Finding, Level};
use crate::vault::WriteOnce;
use std::io::{self, Write};

/// A length for people: `1.5 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Prints a failure to standard error.
pub fn failure(out: &mut dyn Write, failure: &Failure) -> io::Result<()> {
    writeln!(out, "Error: {}", failure.message)?;
    for cause in &failure.causes {
        writeln!(out, "Caused by: {cause}")?;
    }
    if let Some(hint) = &failure.hint {
        writeln!(out, "Hint: {hint}")?;
    }
    Ok(())
}

/// Prints findings to standard error, the worst last, where the eye is.
pub fn findings(out: &mut dyn Write, findings: &[Finding]) -> io::Result<()> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.level);
    for finding in sorted {
        let word = match finding.level {
            Level::Note => "Note",
            Level::Degraded => "Not whole",
            Level::Stale => "Too old",
            Level::Failed => "Failed",
            Level::Damage => "DAMAGE",
        };
        writeln!(out, "{word}: {}: {} [{}]", finding.subject, finding.message, finding.code)?;
        if let Some(hint) = &finding.hint {
            writeln!(out, "  Hint: {hint}")?;
        }
    }
    Ok(())
}

/// Prints what a verb did.
pub fn answer(out: &mut dyn Write, answer: &Answer) -> io::Result<()> {
    match answer {
        Answer::Keygen(report) => {
            if let Some(file) = &report.file {
                writeln!(out, "Identity written to {file}. Keep it away from the protected host, and a copy of it.")?;
            }
            writeln!(out, "Recipient: {}", report.recipient)
        }
        Answer::Init(report) => init(out, report),
        Answer::Kit(report) => {
            writeln!(
                out,
                "Recovery kit written to {}. Print it, fill in who holds which key, and keep it apart.",
                report.file
            )
        }
        Answer::Man(report) => writeln!(out, "{} manual pages written.", report.files.len()),
        Answer::Restore(report) => restore::restore(out, report),
        Answer::Rotate(report) => {
            writeln!(
                out,
                "Epoch {} began; {} ended and stays readable to its recipients.",
                report.epoch, report.before
            )?;
            recipients(out, &report.recipients)
        }
        Answer::Attest(report) => {
            let node = report.now.node_id.as_deref().unwrap_or("unknown without its passphrase");
            let word = if report.changed { "is now attested" } else { "was attested already" };
            writeln!(out, "The hsm_secret of {} {word}: {}, node id {node}.", report.source, report.now.format)
        }
        Answer::Backup(report) => backup(out, report),
        Answer::UndoFinal(report) => undo_final(out, report),
        Answer::List(reports) => reports.iter().try_for_each(|report| list(out, report)),
        Answer::Show(report) => show(out, report),
        Answer::Verify(report) => verify(out, report, answer.exit()),
        Answer::Extract(report) => extract(out, report),
        Answer::Policy(report) => {
            writeln!(out, "{} is a good policy for node {}.", report.file, report.node)?;
            writeln!(out, "Sources: {}. Vaults: {}.", report.sources.join(", "), report.vaults.join(", "))
        }
        Answer::Catalog(report) => report
            .vaults
            .iter()
            .try_for_each(|vault| writeln!(out, "Vault {}: {} snapshots in the catalog.", vault.name, vault.snapshots)),
        Answer::Schema(_) | Answer::Text(_) | Answer::Raw(_) | Answer::Demo(_) => Ok(()),
    }
}

fn recipients(out: &mut dyn Write, recipients: &[String]) -> io::Result<()> {
    recipients.iter().try_for_each(|recipient| writeln!(out, "  recipient  {recipient}"))
}

fn init(out: &mut dyn Write, report: &InitReport) -> io::Result<()> {
    let word = if report.already { "was set up before; what was missing is complete now" } else { "is set up" };
    writeln!(out, "Node {} {word}. State: {}", report.node, report.state_dir)?;
    writeln!(out, "Epoch {}, sealed to:", report.epoch)?;
    recipients(out, &report.recipients)?;
    for vault in &report.vaults {
        let Some(id) = &vault.vault else { continue };
        let word = if vault.created { "made" } else { "found" };
        writeln!(out, "Vault {}: {word}, id {id}", vault.name)?;
        if let Some(probe) = &vault.probe {
            for finding in &probe.findings {
                writeln!(out, "  {}", finding.message)?;
            }
        }
    }
    writeln!(out, "Signing key {}:", report.signing_key_id)?;
    writeln!(out, "  {}", report.signing_key)?;
    writeln!(out, "Next steps:")?;
    writeln!(
        out,
        "  1. Write the signing key down, on paper: without it nobody can tell a true snapshot from a forged one."
    )?;
    writeln!(out, "  2. relay-backup backup")?;
    writeln!(out, "  3. Where an identity is kept: relay-backup verify --depth meaning --identity FILE")
}

fn backup(out: &mut dyn Write, report: &BackupReport) -> io::Result<()> {
    let Some(snapshot) = &report.snapshot else {
        return writeln!(out, "No snapshot of node {} was made.", report.node);
    };
    let word = if report.complete { "complete" } else { "NOT COMPLETE" };
    writeln!(out, "Snapshot {snapshot} of node {}: {word}, {:.1} s", report.node, report.seconds)?;
    for artifact in &report.artifacts {
        let toxic = if artifact.toxic { "  toxic: never start a node on it" } else { "" };
        writeln!(out, "  {:<40} {:>11}{toxic}", artifact.name, size(artifact.length))?;
        if let Some(lock) = &artifact.lock {
            writeln!(out, "  {:<40} longest hold {} ms, {} restarts", "", lock.longest_hold_ms, lock.restarts)?;
        }
    }
    for source in report.sources.iter().filter(|source| !source.ok) {
        writeln!(out, "  source {:<33} FAILED", source.name)?;
    }
    for vault in &report.vaults {
        let word = if vault.whole { "whole" } else { "BEHIND" };
        let shipped = format!("{} objects, {} shipped", vault.objects_shipped, size(vault.bytes_shipped));
        let kept = match vault.write_once {
            WriteOnce::Refused => "; what is stored cannot be replaced",
            WriteOnce::Overwrites => "; what is stored can be replaced",
            WriteOnce::Unknown => "",
        };
        writeln!(out, "  vault {:<34} {word:>11}  {shipped}{kept}", vault.name)?;
    }
    if let Some(parting) = &report.parting {
        farewell(out, report, snapshot, parting)?;
    } else {
        writeln!(out, "  read {}, peak memory {}", size(report.bytes_read), size(report.peak_memory_bytes))?;
    }
    report.witness.iter().try_for_each(|witness| writeln!(out, "Witness: {witness}"))
}

/// What a final snapshot means for this host, and what comes next.
fn farewell(out: &mut dyn Write, report: &BackupReport, snapshot: &str, parting: &Parting) -> io::Result<()> {
    let word = match parting.outcome {
        Outcome::Final => "FINAL: lightningd cannot start on this host any more.",
        Outcome::AlreadyFinal => "It was made FINAL by an earlier run; lightningd cannot start on this host.",
        Outcome::Unsettled => {
            "NOT FINAL, and not taken back: lightningd cannot start on this host before it is one or the other."
        }
    };
    writeln!(out, "{word}")?;
    for database in &parting.databases {
        writeln!(out, "  {}: the database lies in {}", database.source, database.lies_in.display())?;
    }
    if parting.outcome == Outcome::Unsettled {
        return Ok(());
    }
    let witness = report.witness.as_deref().unwrap_or("LINE");
    writeln!(
        out,
        "Next, on the new machine, which takes the witness's word and not the vaults' that this is the last:"
    )?;
    writeln!(out, "  relay-backup restore --scenario planned-migration --snapshot {snapshot} --witness {witness}")?;
    writeln!(out, "To keep the node here after all: relay-backup undo-final")
}

fn undo_final(out: &mut dyn Write, report: &UndoReport) -> io::Result<()> {
    if report.taken_back.is_empty() {
        return writeln!(out, "There is no final snapshot of node {} to take back.", report.node);
    }
    for snapshot in &report.taken_back {
        writeln!(out, "Snapshot {snapshot} is not final any more, in {}.", report.vaults.join(", "))?;
    }
    for database in &report.returned {
        writeln!(out, "  {}: the database is in its place again, {}", database.source, database.place.display())?;
    }
    if let Some(witness) = &report.witness {
        writeln!(out, "Witness: {witness}")?;
        writeln!(out, "Throw away the witness that `backup --final` printed: this one takes its place.")?;
    }
    writeln!(out, "Next: start lightningd, and run `relay-backup backup`.")
}

fn list(out: &mut dyn Write, report: &ListReport) -> io::Result<()> {
    if report.snapshots.is_empty() {
        return writeln!(out, "No snapshots of node {}.", report.node);
    }
    writeln!(out, "Snapshots of node {}:", report.node)?;
    for line in &report.snapshots {
        let word = if line.complete { "complete" } else { "NOT COMPLETE" };
        let vaults = line.vaults.join(", ");
        writeln!(
            out,
            "  {}  {word:<12}  {:>3} artifacts  {:>10}  {:<10}  {vaults}",
            line.snapshot,
            line.artifacts,
            size(line.length),
            line.trigger
        )?;
    }
    Ok(())
}

fn show(out: &mut dyn Write, report: &ShowReport) -> io::Result<()> {
    let line = &report.line;
    let word = if line.complete { "complete" } else { "NOT COMPLETE" };
    writeln!(out, "Snapshot {} of node {}: {word}", line.snapshot, report.node)?;
    writeln!(out, "  taken      {} ({}) by {}", line.created, line.trigger, report.program)?;
    writeln!(out, "  vaults     {}", line.vaults.join(", "))?;
    writeln!(out, "  epoch      {}", report.epoch)?;
    report.recipients.iter().try_for_each(|recipient| writeln!(out, "  recipient  {recipient}"))?;
    writeln!(out, "  follows    {}", report.previous.as_deref().unwrap_or("nothing: it is the first"))?;
    for source in report.sources.iter().filter(|source| !source.ok) {
        writeln!(out, "  source     {} FAILED", source.name)?;
    }
    for artifact in &report.contents {
        let toxic = if artifact.toxic { "  toxic" } else { "" };
        writeln!(
            out,
            "  {:<40} {:>10}  {:>5} segments, {:>10} sealed{toxic}",
            artifact.name,
            size(artifact.length),
            artifact.segments,
            size(artifact.sealed_length)
        )?;
        if let Some(facts) = &artifact.facts {
            let text = serde_json::to_string_pretty(facts).map_err(io::Error::other)?;
            text.lines().try_for_each(|line| writeln!(out, "      {line}"))?;
        }
    }
    if let Some(hostname) = &report.hostname {
        writeln!(out, "  host       {hostname}")?;
    }
    if let Some(policy) = &report.policy {
        writeln!(out, "  policy:")?;
        policy.lines().try_for_each(|line| writeln!(out, "      {line}"))?;
    }
    findings(out, &report.findings)
}

fn verify(out: &mut dyn Write, report: &VerifyReport, exit: Exit) -> io::Result<()> {
    for vault in &report.vaults {
        let newest = vault.newest_complete.as_deref().unwrap_or("none");
        writeln!(
            out,
            "Vault {}: {} snapshots, newest complete {newest}; {} objects looked at, {} read",
            vault.name,
            vault.snapshots,
            vault.objects,
            size(vault.bytes)
        )?;
    }
    for check in &report.checks {
        let word = match check.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "FAILED",
            Verdict::NotApplicable => "n/a",
        };
        let detail = if check.detail.is_empty() { String::new() } else { format!(" ({})", check.detail) };
        writeln!(out, "  {word:<7} {}: {}{detail}", check.what, check.subject)?;
    }
    if !report.still_restores.is_empty() {
        writeln!(out, "What still restores:")?;
        report.still_restores.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    }
    writeln!(
        out,
        "Verdict: {}",
        match exit {
            Exit::Ok => "everything that was looked at is as it should be",
            Exit::NotWhole => "restorable, but not whole: see below",
            Exit::Stale => "readable, but older than the objective allows",
            Exit::Damage => "DAMAGE was found: see below",
            _ => "a check failed: see below",
        }
    )
}

fn extract(out: &mut dyn Write, report: &ExtractReport) -> io::Result<()> {
    let Some(file) = &report.file else { return Ok(()) };
    writeln!(out, "{} of {} written to {file} ({})", report.artifact, report.snapshot, size(report.length))?;
    if report.toxic {
        writeln!(out, "It is TOXIC: never start a node on it. {file}.README.txt says why and what to do.")?;
    }
    Ok(())
}
