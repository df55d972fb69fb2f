//! `catalog rebuild`.

use super::Edge;
use crate::engine::rebuild;
use crate::exit::Failure;
use crate::ui::Answer;

/// Rebuilds the catalog from the vaults.
pub fn rebuild(edge: &Edge<'_>) -> Result<Answer, Failure> {
    Ok(Answer::Catalog(rebuild::rebuild(&edge.context(), &edge.policy()?)?))
}
