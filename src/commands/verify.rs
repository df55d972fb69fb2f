//! `verify`: proof that snapshots can be read back.

use super::Edge;
use crate::cli::{self, Verify};
use crate::engine::reading::Reader;
use crate::engine::verify::{self, Depth, Request, Which};
use crate::exit::Failure;
use crate::ui::Answer;

/// Verifies.
pub fn run(edge: &Edge<'_>, args: &Verify) -> Result<Answer, Failure> {
    let which = match args.snapshot.as_str() {
        "latest" => Which::Latest,
        "all" => Which::All,
        id => {
            Which::One(id.parse().map_err(|error| Failure::usage(format!("--snapshot: {error}, `latest` or `all`")))?)
        }
    };
    let depth = match args.depth {
        cli::Depth::Present => Depth::Present,
        cli::Depth::Sealed => Depth::Sealed,
        cli::Depth::Opened => Depth::Opened,
        cli::Depth::Meaning => Depth::Meaning,
    };
    let identities = match depth {
        Depth::Present | Depth::Sealed => None,
        Depth::Opened | Depth::Meaning => {
            Some(edge.identities_needed(&args.identity, "verify --depth opened or meaning")?)
        }
    };
    let context = edge.context();
    let policy = edge.policy_if_any(&args.from)?;
    let reader = Reader::open(&context, policy.as_ref(), &edge.from_and_witnesses(&args.from, &args.witness)?)?;
    let request = Request { which, depth, identities: identities.as_ref(), scratch: &edge.scratch };
    Ok(Answer::Verify(verify::verify(&context, policy.as_ref(), &reader, &request)?))
}
