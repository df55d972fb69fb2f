//! `policy check|show|schema`.

use super::Edge;
use crate::cli::PolicyVerb;
use crate::exit::Failure;
use crate::policy::{schema, show};
use crate::ui::Answer;
use schemars::JsonSchema;
use serde::Serialize;

/// What `policy check` found good.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PolicyReport {
    /// The file.
    pub file: String,
    /// The node it is for.
    pub node: String,
    /// Its vaults.
    pub vaults: Vec<String>,
    /// Its sources.
    pub sources: Vec<String>,
}

/// Checks, shows or describes the policy.
pub fn run(edge: &Edge<'_>, verb: &PolicyVerb) -> Result<Answer, Failure> {
    if let PolicyVerb::Schema = verb {
        return Ok(Answer::Schema(schema()));
    }
    let policy = edge.policy()?;
    // Recipients that cannot be used are a fault of the policy, found before a backup needs them.
    crate::seal::recipients::Recipients::parse(&policy.keys.recipients)?;
    crate::engine::state::pinned(&policy)?;
    if let PolicyVerb::Show = verb {
        return Ok(Answer::Text(show(&policy)));
    }
    Ok(Answer::Policy(PolicyReport {
        file: policy.file.display().to_string(),
        node: policy.node.to_string(),
        vaults: policy.vaults.iter().map(|vault| vault.name.to_string()).collect(),
        sources: policy.sources.iter().map(|source| source.name.to_string()).collect(),
    }))
}
