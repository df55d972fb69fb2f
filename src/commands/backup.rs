//! `backup`: one snapshot.

use super::Edge;
use crate::cli::Backup;
use crate::engine::backup::{self, Request};
use crate::exit::Failure;
use crate::ui::Answer;

/// Takes one snapshot.
pub fn run(edge: &Edge<'_>, args: &Backup) -> Result<Answer, Failure> {
    let policy = edge.policy()?;
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if args.trigger.is_empty() || args.trigger.len() > 64 || !args.trigger.bytes().all(is_word) {
        return Err(Failure::usage(format!("--trigger {:?}: use letters, digits, '.', '_' and '-'", args.trigger)));
    }
    if args.trigger == "final" {
        return Err(Failure::usage("a final snapshot is not a matter of its trigger's name: choose another word"));
    }
    let request = Request { only: args.only.clone(), trigger: args.trigger.clone() };
    Ok(Answer::Backup(backup::backup(&edge.context(), &policy, &request)?))
}
