//! `extract`: one artifact's plaintext.

use super::{Edge, wanted};
use crate::cli::Extract;
use crate::engine::extract::{self, To};
use crate::engine::reading::Reader;
use crate::exit::Failure;
use crate::ui::Answer;

/// Gives back one artifact.
pub fn run(edge: &Edge<'_>, args: &Extract) -> Result<Answer, Failure> {
    let wanted = wanted(&args.snapshot)?;
    let name = args.artifact.parse().map_err(|error| Failure::usage(format!("--artifact: {error}")))?;
    let to_pipe = args.to.as_os_str() == "-";
    if to_pipe && edge.global.json {
        return Err(Failure::usage("--json and --to - both want standard output: name a file"));
    }
    let identities = edge.identities_needed(&args.identity, "extract")?;
    let context = edge.context();
    let policy = edge.policy_if_any(&args.from)?;
    let reader = Reader::open(&context, policy.as_ref(), &edge.from(&args.from)?)?;
    let mut stdout = std::io::stdout().lock();
    let to = if to_pipe { To::Pipe(&mut stdout) } else { To::File(&args.to) };
    let report = extract::extract(&context, &reader, &wanted, &name, &identities, to)?;
    Ok(Answer::Extract(report))
}
