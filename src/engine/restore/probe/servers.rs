//! PostgreSQL: what is in each database that is restored, and who is connected to it.

use super::View;
use crate::engine::Error;
use crate::engine::error::chain;
use crate::facts;
use crate::facts::postgres::Software;
use crate::guard::facts::{DatabaseAt, Facts, Holder, Known};
use crate::plan::{Action, Plan, ServerUrl, Swap, UnitRole};
use crate::policy::SourceKind;
use crate::sources::postgres::restore::{self, Landing, Occupancy, RestoreError, Stand};
use crate::sources::postgres::{MAINTENANCE, PostgresError, Server};

/// One database that the plan restores.
struct Wanted<'a> {
    url: &'a ServerUrl,
    database: &'a str,
    owner: &'a str,
    software: Option<Software>,
}

/// Asks each server.
pub(super) fn probe(view: &View<'_>, facts: &mut Facts) -> Result<(), Error> {
    for action in view.plan.actions() {
        let Action::RestoreDatabase { artifact, server: url, database, owner_role, swap, .. } = action else {
            continue;
        };
        view.world.context.check()?;
        let software = match view.notes(artifact) {
            Some(facts::Facts::PostgresDump(facts)) => Some(facts.software),
            _ => None,
        };
        let wanted = Wanted { url, database, owner: owner_role, software };
        let (at, sessions) = look(view, &wanted)?;
        facts.target.databases.insert((url.clone(), database.clone()), at);
        facts.running.sessions.insert((url.clone(), database.clone()), sessions);
        if let Swap::KeepOld { aside } = swap {
            let (at, _) = look(view, &Wanted { database: aside, ..wanted })?;
            facts.target.databases.insert((url.clone(), aside.clone()), at);
        }
    }
    Ok(())
}

/// The server of this URL, with the passfile of the policy's source that names it.
pub(super) fn server(view: &View<'_>, url: &ServerUrl) -> Result<Server, PostgresError> {
    let sources = view.world.policy.into_iter().flat_map(|policy| &policy.sources);
    let passfile = sources.into_iter().find_map(|source| match &source.kind {
        SourceKind::Postgres { url: known, passfile, .. } if *known == url.0 => passfile.as_deref(),
        _ => None,
    });
    let server = Server::parse(&url.0, passfile)?.stopping_at(view.world.context.interrupt);
    Ok(server.with_database(MAINTENANCE))
}

type Looked = (Known<DatabaseAt>, Known<Vec<Holder>>);

fn look(view: &View<'_>, wanted: &Wanted<'_>) -> Result<Looked, Error> {
    let both = |why: String| (Known::Unknown(why.clone()), Known::Unknown(why));
    let server = match server(view, wanted.url) {
        Ok(server) => server,
        Err(error) => return Ok(both(chain(&error))),
    };
    let found = match view.settle(restore::occupancy(&server, wanted.database))? {
        Known::Is(found) => found,
        Known::Unknown(why) => return Ok(both(why)),
    };
    let Some(found) = found else { return Ok((Known::Is(DatabaseAt::Absent), Known::Is(Vec::new()))) };
    let sessions = Known::Is(found.sessions.iter().map(|who| holder(view.plan, wanted, who)).collect());
    let at = view.settle(standing(view, &server, wanted, &found))?;
    Ok((at, sessions))
}

fn standing(
    view: &View<'_>,
    server: &Server,
    wanted: &Wanted<'_>,
    found: &Occupancy,
) -> Result<DatabaseAt, RestoreError> {
    if let Some(snapshot) = &view.plan.snapshot {
        let landing = Landing {
            server,
            database: wanted.database,
            owner: wanted.owner,
            snapshot,
            run: view.world.run,
            interrupt: view.world.context.interrupt,
        };
        if landing.stand()? == Stand::Swapped {
            return Ok(DatabaseAt::Restored);
        }
    }
    Ok(match found.tables {
        Some(0) => DatabaseAt::Empty,
        Some(tables) => DatabaseAt::Other { tables },
        None => DatabaseAt::Unreadable,
    })
}

/// A session, with the unit it belongs to as far as its role shows. A server does not tell the process of a client; the
/// role that owns a shop's database is the shop's. Should it be another's, its session still stands when the databases
/// are to be swapped, and then nothing is.
fn holder(plan: &Plan, wanted: &Wanted<'_>, session: &str) -> Holder {
    let role = match wanted.software {
        Some(Software::Btcpay) => Some(UnitRole::Btcpay),
        Some(Software::Nbxplorer) => Some(UnitRole::Nbxplorer),
        _ => None,
    };
    let is_owners = session.strip_prefix(wanted.owner).is_some_and(|rest| rest.starts_with(" by "));
    let unit = role.filter(|_| is_owners).and_then(|role| {
        plan.actions().find_map(|action| match action {
            Action::Unit { unit, role: its, .. } if *its == role => Some(unit.clone()),
            _ => None,
        })
    });
    Holder { what: session.to_owned(), unit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{PlannedStep, Secrecy, UnitChange};

    #[test]
    fn a_session_of_the_databases_owner_belongs_to_the_shops_unit() {
        let stop = Action::Unit { unit: "shop.service".to_owned(), role: UnitRole::Btcpay, change: UnitChange::Stop };
        let step = PlannedStep { id: "stop".parse().unwrap(), title: String::new(), actions: vec![stop] };
        let plan = Plan {
            scenario: "postgres-corruption".parse().unwrap(),
            secrecy: Secrecy::Kept,
            node: "shop".parse().unwrap(),
            snapshot: None,
            root: None,
            steps: vec![step],
        };
        let url = ServerUrl("postgresql:///postgres".to_owned());
        let unit = |software, session: &str| {
            let wanted = Wanted { url: &url, database: "btcpaydb", owner: "btcpay", software };
            holder(&plan, &wanted, session).unit
        };
        let shop = Some("shop.service".to_owned());
        assert_eq!(unit(Some(Software::Btcpay), "btcpay by BTCPayServer (process 7)"), shop);
        assert_eq!(unit(Some(Software::Btcpay), "btcpayother by psql (process 7)"), None);
        assert_eq!(unit(Some(Software::Btcpay), "postgres by psql (process 7)"), None);
        assert_eq!(unit(Some(Software::Medusa), "btcpay by node (process 7)"), None, "nobody knows its unit");
        assert_eq!(unit(Some(Software::Nbxplorer), "btcpay by NBXplorer (process 7)"), None, "the plan names none");
    }
}
