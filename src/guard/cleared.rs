//! The proof that every guard let a plan pass. It cannot be made, copied or written down elsewhere, so whoever holds
//! one got it from a judgement of this very run.

use crate::plan::{Action, Plan, PlannedStep};
use std::fmt;

/// Something that every guard let pass. Only a judgement makes one:
///
/// ```compile_fail,E0423
/// fn forge(plan: relay_backup::plan::Plan) -> relay_backup::guard::Cleared<relay_backup::plan::Plan> {
///     relay_backup::guard::Cleared(plan)
/// }
/// ```
///
/// ```compile_fail,E0624
/// fn forge(plan: relay_backup::plan::Plan) -> relay_backup::guard::Cleared<relay_backup::plan::Plan> {
///     relay_backup::guard::Cleared::new(plan)
/// }
/// ```
///
/// It is not copied, so one clearing is used once:
///
/// ```compile_fail,E0599
/// fn copy(cleared: relay_backup::guard::Cleared<relay_backup::plan::Plan>) {
///     let _second = cleared.clone();
/// }
/// ```
///
/// And it is neither written down nor read back:
///
/// ```compile_fail,E0277
/// fn keep(cleared: &relay_backup::guard::Cleared<relay_backup::plan::Plan>) -> String {
///     serde_json::to_string(cleared).unwrap()
/// }
/// ```
///
/// ```compile_fail,E0277
/// fn fetch(text: &str) -> relay_backup::guard::Cleared<relay_backup::plan::Plan> {
///     serde_json::from_str(text).unwrap()
/// }
/// ```
///
/// What it holds can be seen, and its parts are cleared as it is:
///
/// ```
/// fn show(cleared: &relay_backup::guard::Cleared<relay_backup::plan::Plan>) -> usize {
///     cleared.steps().flat_map(|step| step.actions().map(|action| action.get().to_string().len()).max()).sum()
/// }
/// ```
#[must_use]
pub struct Cleared<T>(T);

impl<T> Cleared<T> {
    pub(super) fn new(thing: T) -> Self {
        Self(thing)
    }

    /// The thing itself, to be read.
    pub fn get(&self) -> &T {
        &self.0
    }
}

impl Cleared<Plan> {
    /// Its steps, cleared with it.
    pub fn steps(&self) -> impl Iterator<Item = Cleared<&PlannedStep>> {
        self.0.steps.iter().map(Cleared)
    }
}

impl<'a> Cleared<&'a PlannedStep> {
    /// Its actions, cleared with it.
    pub fn actions(&self) -> impl Iterator<Item = Cleared<&'a Action>> + use<'a> {
        self.0.actions.iter().map(Cleared)
    }
}

impl<T: fmt::Debug> fmt::Debug for Cleared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cleared").field(&self.0).finish()
    }
}
