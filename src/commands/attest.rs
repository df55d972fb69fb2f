//! `attest`: accepting a changed `hsm_secret`.

use super::Edge;
use crate::cli::Attest;
use crate::engine::attest;
use crate::exit::Failure;
use crate::ui::Answer;

/// Accepts the live secret.
pub fn run(edge: &Edge<'_>, args: &Attest) -> Result<Answer, Failure> {
    Ok(Answer::Attest(attest::attest(&edge.context(), &edge.policy()?, args.source.as_deref())?))
}
