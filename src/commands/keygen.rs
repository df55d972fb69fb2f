//! `keygen`: an age identity, made where it will be kept.

use super::Edge;
use crate::base::fsio;
use crate::cli::Keygen;
use crate::exit::Failure;
use crate::seal::identity::generate;
use crate::ui::Answer;
use schemars::JsonSchema;
use serde::Serialize;

/// What `keygen` did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct KeygenReport {
    /// The recipient: the public key, for the policy.
    pub recipient: String,
    /// The file that holds the identity; none when it went to standard output.
    pub file: Option<String>,
}

/// Makes an identity.
pub fn run(edge: &Edge<'_>, args: &Keygen) -> Result<Answer, Failure> {
    if edge.global.json && args.out.is_none() {
        return Err(Failure::usage("--json and the identity both want standard output: name a file with --out"));
    }
    let (identity, recipient) = generate(edge.context().now());
    match &args.out {
        Some(file) => {
            fsio::create_durably(file, identity.expose(), 0o600)?;
            let report = KeygenReport { recipient, file: Some(file.display().to_string()) };
            Ok(Answer::Keygen(report))
        }
        None => Ok(Answer::Raw(identity)),
    }
}
