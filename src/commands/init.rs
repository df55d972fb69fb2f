//! `init` and `rotate`: setting a host up, and beginning a new epoch.

use super::Edge;
use crate::base::fsio;
use crate::base::limits::SMALL_OBJECT_BYTES_MAX;
use crate::cli::Init;
use crate::engine::init;
use crate::engine::state::SealedEpoch;
use crate::exit::Failure;
use crate::ui::Answer;

/// Sets the host up.
pub fn run(edge: &Edge<'_>, args: &Init) -> Result<Answer, Failure> {
    let policy = edge.policy()?;
    let handed = match (&args.sealed_epoch, &args.epoch_recipient) {
        (Some(file), Some(recipient)) => {
            Some(SealedEpoch { recipient: recipient.clone(), sealed: fsio::read(file, SMALL_OBJECT_BYTES_MAX)? })
        }
        _ => None,
    };
    Ok(Answer::Init(init::init(&edge.context(), &policy, handed)?))
}

/// Begins a new epoch.
pub fn rotate(edge: &Edge<'_>) -> Result<Answer, Failure> {
    Ok(Answer::Rotate(init::rotate(&edge.context(), &edge.policy()?)?))
}
