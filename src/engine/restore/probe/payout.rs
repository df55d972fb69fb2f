//! What BTCPay would pay out by itself: before the restore by the snapshot's notes, after it by the restored database.

use super::View;
use super::servers::server;
use crate::engine::Error;
use crate::facts;
use crate::facts::postgres::{BtcpayMarks, Software};
use crate::guard::facts::{DatabaseAt, Known, PayoutFacts};
use crate::plan::{Action, ServerUrl};
use crate::sources::postgres::restore::btcpay::{self, Payouts};
use std::collections::BTreeMap;

/// States in which a payout is over, by BTCPay's names of them.
const OVER: [&str; 2] = ["completed", "cancelled"];

/// Adds up what every restored BTCPay database would pay.
pub(super) fn probe(
    view: &View<'_>,
    databases: &BTreeMap<(ServerUrl, String), Known<DatabaseAt>>,
) -> Result<Known<PayoutFacts>, Error> {
    let mut all: Option<PayoutFacts> = None;
    for action in view.plan.actions() {
        let Action::RestoreDatabase { artifact, server: url, database, .. } = action else { continue };
        let noted = match view.notes(artifact) {
            Some(facts::Facts::PostgresDump(facts)) if facts.software == Software::Btcpay => facts,
            _ => continue,
        };
        let is_restored = databases.get(&(url.clone(), database.clone())) == Some(&Known::Is(DatabaseAt::Restored));
        let found = if is_restored {
            let asked = server(view, url)
                .map_err(Into::into)
                .and_then(|server| btcpay::payouts(&server.with_database(database)));
            view.settle(asked)?.and(|payouts| Known::Is(of_database(payouts)))
        } else {
            noted.marks.btcpay.as_ref().map_or_else(|| untold(database), |marks| of_notes(database, marks))
        };
        let found = match found {
            Known::Is(found) => found,
            Known::Unknown(why) => return Ok(Known::Unknown(why)),
        };
        let sum = all.get_or_insert_default();
        sum.processors.extend(found.processors);
        sum.pending = sum.pending.saturating_add(found.pending);
    }
    Ok(all.map_or_else(|| Known::Unknown("no database of BTCPay Server's is restored".to_owned()), Known::Is))
}

fn of_database(payouts: Payouts) -> PayoutFacts {
    let named = payouts.processors.iter().map(|one| format!("{} of store {} ({})", one.method, one.store, one.kind));
    PayoutFacts {
        processors: named.collect(),
        pending: payouts.pending.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count)),
    }
}

fn of_notes(database: &str, marks: &BtcpayMarks) -> Known<PayoutFacts> {
    let (Some(processors), Some(states)) = (marks.payout_processors, &marks.payouts_by_state) else {
        return untold(database);
    };
    let waiting = states.iter().filter(|state| !OVER.contains(&state.state.to_ascii_lowercase().as_str()));
    Known::Is(PayoutFacts {
        processors: match processors {
            0 => Vec::new(),
            1 => vec!["the automated payout processor".to_owned()],
            count => vec![format!("{count} automated payout processors")],
        },
        pending: waiting.fold(0, |sum, state| sum.saturating_add(state.count)),
    })
}

fn untold(database: &str) -> Known<PayoutFacts> {
    Known::Unknown(format!("the snapshot's notes do not tell the payouts and payout processors of {database}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::postgres::StateCount;

    #[test]
    fn the_notes_tell_what_waits_and_what_would_pay() {
        let state = |state: &str, count| StateCount { state: state.to_owned(), count };
        let mut marks = BtcpayMarks {
            payout_processors: Some(2),
            payouts_by_state: Some(vec![
                state("AwaitingPayment", 3),
                state("InProgress", 1),
                state("Completed", 40),
                state("Cancelled", 5),
            ]),
            ..BtcpayMarks::default()
        };
        let known = of_notes("btcpaydb", &marks);
        let processors = vec!["2 automated payout processors".to_owned()];
        assert_eq!(known, Known::Is(PayoutFacts { processors, pending: 4 }));
        marks.payout_processors = None;
        assert!(matches!(of_notes("btcpaydb", &marks), Known::Unknown(why) if why.contains("btcpaydb")));
    }
}
