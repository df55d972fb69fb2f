//! What lies at the target: at each path that the plan writes or moves, at the place of each secret and each channel
//! database, and below what each tar would be unpacked to.

mod files;
mod nodes;
mod trees;

pub(super) use files::same_bytes;

use super::identity::Secrets;
use super::{View, mirror};
use crate::base::ids::ArtifactName;
use crate::engine::Error;
use crate::guard::facts::{Known, TargetFacts};
use std::collections::BTreeMap;

/// Bytes of each tar that an interrupted run has placed already.
pub(super) type Written = BTreeMap<ArtifactName, u64>;

/// What lies at the target, and how many bytes of each tar are there already; databases are asked elsewhere.
pub(super) fn probe(view: &View<'_>, secrets: &Secrets) -> Result<(TargetFacts, Written), Error> {
    let mirror = mirror::probe(view)?;
    let (mut trees, mut written, mut left_out) = (BTreeMap::new(), Written::new(), Vec::new());
    for (name, compared) in trees::compared(view, &mirror)? {
        if let Known::Is(compared) = &compared {
            written.insert(name.clone(), compared.same_bytes);
            left_out.extend(compared.left_out.findings(name.as_str()));
        }
        trees.insert(name, compared.and(|compared| Known::Is(compared.differing)));
    }
    let facts = TargetFacts {
        files: files::found(view, &mirror)?,
        trees,
        left_out,
        secrets: nodes::secrets(view, secrets)?,
        emergencies: nodes::emergencies(view, secrets)?,
        wallets: nodes::wallets(view)?,
        mirror,
        databases: BTreeMap::new(),
    };
    Ok((facts, written))
}
