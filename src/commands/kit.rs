//! `kit`: the printable recovery kit.

use super::Edge;
use crate::base::fsio;
use crate::cli::Kit;
use crate::engine::recovery;
use crate::exit::Failure;
use crate::ui::Answer;
use schemars::JsonSchema;
use serde::Serialize;

/// What `kit` did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct KitReport {
    /// The page.
    pub file: String,
}

/// Writes the kit.
pub fn run(edge: &Edge<'_>, args: &Kit) -> Result<Answer, Failure> {
    let page = recovery::kit(&edge.policy()?, edge.context().now())?;
    let Some(file) = &args.out else { return Ok(Answer::Text(page)) };
    fsio::create_durably(file, page.as_bytes(), 0o644)?;
    Ok(Answer::Kit(KitReport { file: file.display().to_string() }))
}
