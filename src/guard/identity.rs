//! Refuses to bring together what is not of one node: a secret of another node, a database of another chain, a database
//! that the target's lightningd is too old to read.

use super::facts::{Facts, Known};
use super::objections::Objections;
use super::{Guard, Verdict};
use crate::artifact::ArtifactKind;
use crate::plan::{Action, Plan};

const SECRET: &str = "hsm_secret";
const DATABASE: &str = "lightningd.sqlite3";

pub(super) fn judge(plan: &Plan, facts: &Facts) -> Verdict {
    let places_database = plan.actions().any(|action| matches!(action, Action::PlaceChannelDatabase { .. }));
    if !places_database && !plan.actions().any(places_node_file) {
        return Verdict::NotApplicable { why: "nothing of a Core Lightning node is placed".to_owned() };
    }
    let facts = &facts.identity;
    let mut objections = Objections::of(Guard::Identity);
    let id = same(
        &mut objections,
        Pair { what: "the node id", left: (SECRET, &facts.secret_node_id), right: (DATABASE, &facts.database_node_id) },
        "find out which of the two was replaced; restore the pair that belongs together, from one snapshot. lightningd \
         will not start with this one, and with an empty database it would start as another node",
    );
    let network = same(
        &mut objections,
        Pair {
            what: "the network",
            left: (DATABASE, &facts.database_network),
            right: ("the target", &facts.target_network),
        },
        "restore to a node of the snapshot's network, or choose a snapshot of this one",
    );
    same(
        &mut objections,
        Pair {
            what: "the chain's first block",
            left: (DATABASE, &facts.database_genesis),
            right: ("the target", &facts.target_genesis),
        },
        "the two are of different chains: restore to a node of the snapshot's chain",
    );
    if places_database {
        schema(&mut objections, &facts.database_schema, &facts.lightningd_schema);
    }
    let (id, network) = (id.map_or("", String::as_str), network.map_or("", String::as_str));
    objections.verdict(format!("secret and database are of node {id} on {network}"))
}

fn places_node_file(action: &Action) -> bool {
    use ArtifactKind::{EmergencyRecover, HsmSecret};
    matches!(action, Action::PlaceFile { kind: HsmSecret | EmergencyRecover, .. })
}

/// Two facts that must be equal.
struct Pair<'a> {
    what: &'static str,
    left: (&'static str, &'a Known<String>),
    right: (&'static str, &'a Known<String>),
}

fn same<'a>(objections: &mut Objections, pair: Pair<'a>, hint: &str) -> Option<&'a String> {
    let left = objections.need(pair.left.0, pair.what, pair.left.1.as_ref());
    let right = objections.need(pair.right.0, pair.what, pair.right.1.as_ref());
    let (left, right) = (left?, right?);
    if left != right {
        let message = format!("{} is {left}, but of {} it is {right}", pair.what, pair.right.0);
        objections.add(pair.left.0, message, hint);
    }
    Some(left)
}

fn schema(objections: &mut Objections, database: &Known<i64>, lightningd: &Known<i64>) {
    let database = objections.need(DATABASE, "its schema version", database.as_ref());
    let lightningd = objections.need("lightningd", "the newest schema it can read", lightningd.as_ref());
    let (Some(database), Some(lightningd)) = (database, lightningd) else { return };
    if database > lightningd {
        let message = format!("it has schema {database}, and the target's lightningd knows none above {lightningd}");
        objections.add(
            DATABASE,
            message,
            "install the lightningd that wrote it, or a newer one; never edit the database",
        );
    }
}
