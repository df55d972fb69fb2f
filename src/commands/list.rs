//! `list`: the snapshots.

use super::Edge;
use crate::cli::List;
use crate::engine::list;
use crate::engine::reading::Reader;
use crate::exit::Failure;
use crate::ui::Answer;

/// Lists the snapshots.
pub fn run(edge: &Edge<'_>, args: &List) -> Result<Answer, Failure> {
    let context = edge.context();
    let policy = edge.policy_if_any(&args.from)?;
    let mut from = edge.from(&args.from)?;
    if !args.all_nodes {
        let reader = Reader::open(&context, policy.as_ref(), &from)?;
        return Ok(Answer::List(vec![list::list(&context, &reader)?]));
    }
    let mut reports = Vec::new();
    for node in list::nodes(&context, policy.as_ref(), &from)? {
        from.node = Some(node.to_string());
        let reader = Reader::open(&context, policy.as_ref(), &from)?;
        reports.push(list::list(&context, &reader)?);
    }
    Ok(Answer::List(reports))
}
