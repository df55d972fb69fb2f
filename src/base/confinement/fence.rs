//! A fence: the kernel's Landlock, which any process may put around itself where there are no namespaces to be had. The
//! newest kernels shut out more; what an old one does not know is left out, except files, without which it is no fence.

use super::{ConfinementError, How, Shown};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    path_beneath_rules,
};

/// The newest rights that are known here.
const NEWEST: ABI = ABI::V10;

pub(super) fn enter(shown: &[Shown]) -> Result<(), ConfinementError> {
    let of = |how: How| shown.iter().filter(move |shown| shown.how == how).map(|shown| &shown.from);
    let device: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile;
    let fenced = || {
        Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?
            .add_rules(path_beneath_rules(of(How::Read), AccessFs::from_read(NEWEST)))?
            .add_rules(path_beneath_rules(of(How::Write), AccessFs::from_all(NEWEST)))?
            .add_rules(path_beneath_rules(of(How::Device), device))?
            .restrict_self()
    };
    match fenced().map_err(ConfinementError::Fence)?.ruleset {
        RulesetStatus::NotEnforced => Err(ConfinementError::NoFence),
        _ => Ok(()),
    }
}
