//! Accepting a changed `hsm_secret`: by name, when a person meant it. The old attestation is kept beside the new one.

use super::state::HostState;
use super::{Context, Error};
use crate::policy::{Policy, SourceKind, SourcePolicy};
use crate::sources::cln;
use schemars::JsonSchema;
use serde::Serialize;

/// What `attest` did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AttestReport {
    /// The source.
    pub source: String,
    /// What was attested before.
    pub before: Option<AttestedSecret>,
    /// What is attested now.
    pub now: AttestedSecret,
    /// Whether anything changed.
    pub changed: bool,
}

/// A secret, described without giving any of it away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AttestedSecret {
    /// Its format.
    pub format: String,
    /// The node id it derives, where no passphrase is needed for that.
    pub node_id: Option<String>,
}

/// Accepts the live secret of a source as the right one.
pub fn attest(context: &Context<'_>, policy: &Policy, source: Option<&str>) -> Result<AttestReport, Error> {
    let chosen = choose(policy, source)?;
    let SourceKind::Cln { lightning_dir, network, .. } = &chosen.kind else {
        return Err(Error::Usage(format!(
            "{} is a {} source; only a cln source has an hsm_secret",
            chosen.name,
            chosen.kind.as_str()
        )));
    };
    let (mut state, _lock) = HostState::load_locked(policy, "attest", context.clock)?;
    let failed = |source: cln::ClnError| Error::Source { name: chosen.name.to_string(), source: source.into() };
    let describe = |attestation: &crate::facts::cln::Attestation| AttestedSecret {
        format: attestation.format.as_str().to_owned(),
        node_id: attestation.node_id.clone(),
    };
    let before = state.attestation(&chosen.name).cloned();
    if let Some(same) = &before
        && cln::is_attested(same, lightning_dir, network).map_err(failed)?
    {
        let now = describe(same);
        return Ok(AttestReport { source: chosen.name.to_string(), before: Some(now.clone()), now, changed: false });
    }
    let attestation = cln::attest(&chosen.name, lightning_dir, network).map_err(failed)?;
    let report = AttestReport {
        source: chosen.name.to_string(),
        before: before.as_ref().map(describe),
        now: describe(&attestation),
        changed: true,
    };
    state.attest(attestation)?;
    Ok(report)
}

fn choose<'p>(policy: &'p Policy, source: Option<&str>) -> Result<&'p SourcePolicy, Error> {
    let cln: Vec<&SourcePolicy> =
        policy.sources.iter().filter(|source| matches!(source.kind, SourceKind::Cln { .. })).collect();
    let known = || cln.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
    match (source, &cln[..]) {
        (Some(name), _) => policy
            .sources
            .iter()
            .find(|source| source.name.as_str() == name)
            .ok_or_else(|| Error::Unknown { what: "source", name: name.to_owned(), known: known() }),
        (None, [only]) => Ok(only),
        (None, []) => Err(Error::Usage("the policy has no cln source, so there is no hsm_secret to attest".into())),
        (None, _) => Err(Error::Usage(format!("name the source whose hsm_secret is meant: {}", known()))),
    }
}
