//! `show`: one snapshot.

use super::{Edge, wanted};
use crate::cli::Show;
use crate::engine::list;
use crate::engine::reading::Reader;
use crate::exit::Failure;
use crate::ui::Answer;

/// Shows one snapshot.
pub fn run(edge: &Edge<'_>, args: &Show) -> Result<Answer, Failure> {
    let wanted = wanted(&args.snapshot)?;
    let identities = edge.identities(&args.identity)?;
    let policy = edge.policy_if_any(&args.from)?;
    let reader = Reader::open(&edge.context(), policy.as_ref(), &edge.from(&args.from)?)?;
    Ok(Answer::Show(Box::new(list::show(&reader, &wanted, identities.as_ref())?)))
}
