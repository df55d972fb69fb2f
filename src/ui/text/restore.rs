//! What `restore` did or would do, for a tired person: the verdicts first, then the plan or the steps, then what holds,
//! and at the end what is left to do.

use crate::engine::restore::{RestoreReport, followup};
use crate::guard::{Judged, Verdict};
use std::io::{self, Write};

/// Prints the report.
pub(super) fn restore(out: &mut dyn Write, report: &RestoreReport) -> io::Result<()> {
    let snapshot = report.snapshot.as_deref().unwrap_or("no snapshot");
    let below = report.root.as_ref().map(|root| format!(", below {root}")).unwrap_or_default();
    let kind = if report.dry_run { "dry run of " } else { "" };
    writeln!(out, "{}: {kind}{}, node {}, {snapshot}{below}", report.title, report.scenario, report.node)?;
    writeln!(out, "\nGuards:")?;
    report.guards.iter().try_for_each(|judged| verdict(out, judged))?;
    if let Some(plan) = &report.plan {
        writeln!(out, "\nThe plan, of which nothing was done:")?;
        for step in &plan.steps {
            writeln!(out, "  {}: {}", step.id, step.title)?;
            for action in &step.actions {
                writeln!(out, "    {action}")?;
            }
        }
    }
    if !report.steps.is_empty() {
        writeln!(out, "\nSteps:")?;
        for step in &report.steps {
            let how = if step.how == "done" { "done  " } else { "before" };
            writeln!(out, "  {how}  {}", step.title)?;
        }
    }
    for inspected in &report.inspected {
        writeln!(out, "\nLooked at {}: {}", inspected.what, inspected.title)?;
        for line in &inspected.lines {
            writeln!(out, "  {line}")?;
        }
    }
    if !report.must_hold.is_empty() {
        writeln!(out, "\nWhat must hold:")?;
        for held in &report.must_hold {
            writeln!(out, "  {:<14} {}: {}", held.outcome, held.what, held.seen)?;
        }
    }
    if !report.followup.is_empty() {
        writeln!(out, "\nWhat is left to do{}:\n", if report.dry_run { " afterwards" } else { "" })?;
        write!(out, "{}", followup::text(&report.followup))?;
    }
    if let Some(folder) = &report.folder {
        writeln!(out, "Journal, follow-up list, copies and quarantine are in {folder}.")?;
    }
    Ok(())
}

fn verdict(out: &mut dyn Write, judged: &Judged) -> io::Result<()> {
    match &judged.verdict {
        Verdict::Cleared { because } => writeln!(out, "  {:<10} clear: {because}", judged.guard.as_str()),
        Verdict::NotApplicable { why } => writeln!(out, "  {:<10} does not apply: {why}", judged.guard.as_str()),
        Verdict::Accepted { why, refusal } => {
            writeln!(out, "  {:<10} ACCEPTED by you ({why}): {}", judged.guard.as_str(), refusal.reason)
        }
        Verdict::Refused(refusal) => {
            writeln!(out, "  {:<10} REFUSES: {}", judged.guard.as_str(), refusal.reason)?;
            for detail in &refusal.details {
                writeln!(out, "    {}: {}", detail.subject, detail.message)?;
                writeln!(out, "      {}", detail.hint)?;
            }
            Ok(())
        }
    }
}
