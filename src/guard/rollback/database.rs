//! PostgreSQL databases at the target: one with tables is kept under another name, or the restore is refused.

use crate::guard::facts::{DatabaseAt, Facts, Known};
use crate::guard::objections::Objections;
use crate::plan::{Action, ServerUrl, Swap};

pub(super) fn judge(objections: &mut Objections, facts: &Facts, action: &Action) {
    let Action::RestoreDatabase { server, database, swap, .. } = action else { return };
    let Some(there) = there(objections, facts, server, database) else { return };
    match swap {
        Swap::IntoEmpty => {
            let hint =
                "use the scenario that restores beside it and swaps the two, or another server; nothing is dropped";
            objections.add(named(server, database), format!("{there}, which would be lost"), hint);
        }
        Swap::KeepOld { aside } => {
            if let Some(there) = self::there(objections, facts, server, aside) {
                let message = format!("the old database would be kept under this name, and is there already: {there}");
                objections.add(named(server, aside), message, "rename or remove that one when you know what it is");
            }
        }
    }
}

/// What is there that is not this plan's own; `None` where there is nothing to lose, or nobody knows.
fn there(objections: &mut Objections, facts: &Facts, server: &ServerUrl, database: &str) -> Option<String> {
    let at = Known::found(facts.target.databases.get(&(server.clone(), database.to_owned())));
    match objections.need(named(server, database), "what is in it", at)? {
        DatabaseAt::Absent | DatabaseAt::Empty | DatabaseAt::Restored => None,
        DatabaseAt::Other { tables } => Some(format!("it has {tables} tables")),
        // What is renamed need not be read.
        DatabaseAt::Unreadable => Some("it has what cannot be read".to_owned()),
    }
}

fn named(server: &ServerUrl, database: &str) -> String {
    format!("database {database} on {}", server.0)
}
