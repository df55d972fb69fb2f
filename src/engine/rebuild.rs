//! The catalog, made anew from what the vaults hold. Losing it costs time only.

use super::progress::Event;
use super::reading::{absent_vault, unreachable};
use super::state::HostState;
use super::survey::{open_catalog, survey};
use super::{Context, Error};
use crate::policy::Policy;
use crate::report::Finding;
use crate::vault::Vault;
use schemars::JsonSchema;
use serde::Serialize;

/// What was rebuilt.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CatalogReport {
    /// Vault by vault.
    pub vaults: Vec<CatalogVault>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// What was learned from one vault.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CatalogVault {
    /// Its name.
    pub name: String,
    /// Snapshots that were learned.
    pub snapshots: usize,
}

/// Forgets what the catalog says of each vault that answers, and learns it again.
pub fn rebuild(context: &Context<'_>, policy: &Policy) -> Result<CatalogReport, Error> {
    let (state, _lock) = HostState::load_locked(policy, "catalog rebuild", context.clock)?;
    let mut findings = Vec::new();
    let catalog = open_catalog(&state.folder.catalog(), &mut findings)?;
    let trusted = state.trusted(policy)?;
    let (mut vaults, mut absent) = (Vec::new(), Vec::new());
    for vault_policy in &policy.vaults {
        context.check()?;
        context.tell(Event::Step(format!("reading the manifests of vault {}", vault_policy.name)));
        let vault = Vault::open(vault_policy)?;
        let info = match vault.identify() {
            Ok(Some(info)) => info,
            Ok(None) => {
                absent.push(vault_policy.url.to_string());
                findings.push(absent_vault(vault_policy.name.as_str()));
                continue;
            }
            Err(error) => {
                findings.push(unreachable(vault_policy.name.as_str(), &error));
                continue;
            }
        };
        catalog.forget_vault(&info.id)?;
        let mut found = survey(&vault, &info.id, &policy.node, &trusted, &catalog)?;
        findings.append(&mut found.findings);
        if let Some(error) = found.catalog_failure {
            return Err(error.into());
        }
        vaults
            .push(CatalogVault { name: vault_policy.name.to_string(), snapshots: catalog.snapshots(&info.id)?.len() });
    }
    if vaults.is_empty() && absent.len() == policy.vaults.len() {
        return Err(Error::NoVault { place: absent.join(", ") });
    }
    Ok(CatalogReport { vaults, findings })
}
