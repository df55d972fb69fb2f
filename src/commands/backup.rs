//! `backup` and `undo-final`: one snapshot; taking a final one back.

use super::Edge;
use crate::cli::{Backup, UndoFinal};
use crate::engine::backup::{self, Request};
use crate::engine::claim::FINAL;
use crate::engine::departure;
use crate::exit::Failure;
use crate::ui::{self, Answer};

/// Takes one snapshot.
pub fn run(edge: &Edge<'_>, args: &Backup) -> Result<Answer, Failure> {
    let policy = edge.policy()?;
    if args.last {
        let question = format!(
            "After this, lightningd cannot start on this host any more: its database lies aside, behind a fence, and waits for \
             `relay-backup restore --scenario planned-migration` on the new machine.\nMove the node {} away from this host?",
            policy.node
        );
        confirm(edge, args.yes, &question)?;
        return Ok(Answer::Backup(backup::backup_final(&edge.context(), &policy)?));
    }
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if args.trigger.is_empty() || args.trigger.len() > 64 || !args.trigger.bytes().all(is_word) {
        return Err(Failure::usage(format!("--trigger {:?}: use letters, digits, '.', '_' and '-'", args.trigger)));
    }
    if args.trigger == FINAL {
        return Err(Failure::usage(
            "--trigger final: a final snapshot is not a matter of its trigger's name; `relay-backup backup --final` takes one",
        ));
    }
    let request = Request { only: args.only.clone(), trigger: args.trigger.clone() };
    Ok(Answer::Backup(backup::backup(&edge.context(), &policy, &request)?))
}

/// Takes a final snapshot back.
pub fn undo_final(edge: &Edge<'_>, args: &UndoFinal) -> Result<Answer, Failure> {
    let policy = edge.policy()?;
    let question = format!(
        "After this, the final snapshot can be started nowhere, and lightningd can start here again. Be sure that no other \
         machine runs the node, also none that got its database by hand.\nKeep the node {} on this host?",
        policy.node
    );
    confirm(edge, args.yes, &question)?;
    Ok(Answer::UndoFinal(departure::undo(&edge.context(), &policy)?))
}

/// Asks a person, unless the answer was given with the command.
fn confirm(edge: &Edge<'_>, given: bool, question: &str) -> Result<(), Failure> {
    if given {
        return Ok(());
    }
    let answer = if edge.global.json { None } else { ui::ask(question) };
    match answer {
        Some(ui::Said::Yes) => Ok(()),
        Some(ui::Said::No) => Err(Failure::usage("not confirmed; nothing was changed")),
        None => Err(Failure::usage("nobody can be asked here: say --yes if you mean it; nothing was changed")),
    }
}
