//! What a restored database lacks, as findings: the same words for a restore and for its rehearsal.

use crate::report::{Finding, Level};
use crate::sources::postgres::restore::{LeftOut, Replayed, Unsettled};

/// What a dump could not give back, and what is not as it was.
pub(super) fn replayed(subject: &str, replayed: &Replayed) -> Vec<Finding> {
    let left_out =
        |one: &LeftOut| Finding::new(Level::Degraded, "not-given-back", subject, one.to_string()).with_hint(one.hint());
    let note = |note: &String| Finding::new(Level::Note, "not-as-it-was", subject, note.clone());
    replayed.left_out.iter().map(left_out).chain(replayed.notes.iter().map(note)).collect()
}

/// Owners, rights, views and parts that are not as they were.
pub(super) fn unsettled(subject: &str, unsettled: &[Unsettled]) -> Vec<Finding> {
    let told = |one: &Unsettled| {
        let finding = Finding::new(Level::Degraded, "not-settled", subject, one.to_string());
        match &one.statement {
            Some(statement) => finding.with_hint(format!("in the restored database, run: {statement}")),
            None => finding,
        }
    };
    unsettled.iter().map(told).collect()
}
