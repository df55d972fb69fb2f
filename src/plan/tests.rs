//! Plans tell everything they touch, as text and as JSON.

use super::*;
use crate::artifact::ArtifactKind;
use std::path::Path;

fn lightning() -> LightningPlace {
    LightningPlace {
        lightning_dir: "/srv/cln".into(),
        network_dir: "/srv/cln/bitcoin".into(),
        wallet: "/db/lightningd.sqlite3".into(),
        pid_file: "/srv/cln/lightningd-bitcoin.pid".into(),
        rpc_socket: "/srv/cln/bitcoin/lightning-rpc".into(),
    }
}

fn plan(actions: Vec<Action>) -> Plan {
    Plan {
        scenario: "server-loss".parse().unwrap(),
        secrecy: Secrecy::Kept,
        node: "shop".parse().unwrap(),
        snapshot: Some("20261120T051200Z-000042".parse().unwrap()),
        root: Some("/mnt/new".into()),
        steps: vec![PlannedStep { id: "the-step".parse().unwrap(), title: "One step".to_owned(), actions }],
    }
}

fn secret() -> Action {
    Action::PlaceFile {
        artifact: "cln/hsm_secret".parse().unwrap(),
        kind: ArtifactKind::HsmSecret,
        to: "/srv/cln/bitcoin/hsm_secret".into(),
        owner: Owner { user: Some("clightning".to_owned()), uid: 991, group: None, gid: 990 },
        mode: 0o400,
        length: 32,
    }
}

fn unit(name: &str, change: UnitChange) -> Action {
    Action::Unit { unit: name.to_owned(), role: UnitRole::Btcpay, change }
}

#[test]
fn each_action_is_one_line_with_all_it_touches() {
    let database = Action::RestoreDatabase {
        artifact: "btcpay/btcpaydb.dump".parse().unwrap(),
        server: ServerUrl("postgresql:///postgres".to_owned()),
        database: "btcpaydb".to_owned(),
        owner_role: "btcpayserver".to_owned(),
        length: 7,
        swap: Swap::KeepOld { aside: "btcpaydb_replaced".to_owned() },
    };
    let shown = plan(vec![Action::RaiseFence { lightning: lightning() }, secret(), database]).to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines,
        [
            "server-loss for shop from 20261120T051200Z-000042 below /mnt/new",
            "the-step: One step",
            "  raise the fence at /db/lightningd.sqlite3, holding the lock of /srv/cln/lightningd-bitcoin.pid",
            "  place cln/hsm_secret at /srv/cln/bitcoin/hsm_secret (32 bytes, clightning:990, mode 0400)",
            "  restore btcpay/btcpaydb.dump as database btcpaydb on postgresql:///postgres (7 bytes, owner \
             btcpayserver), the old one kept as btcpaydb_replaced",
        ]
    );
}

#[test]
fn the_json_has_modes_as_people_write_them() {
    let json = serde_json::to_value(plan(vec![secret()])).unwrap();
    let action = &json["steps"][0]["actions"][0];
    assert_eq!((action["do"].as_str(), action["mode"].as_str()), (Some("place-file"), Some("0400")));
    assert_eq!(action["owner"]["uid"], 991);
    let schema = serde_json::to_value(schemars::schema_for!(Plan)).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&json), "the schema fits what is written");
    assert!(!validator.is_valid(&serde_json::json!({"scenario": "x"})));
}

#[test]
fn what_is_touched_is_told_once_and_in_order() {
    let aside = Action::MoveAside { paths: vec!["/a".into(), "/a-wal".into()], together: Together::Database };
    let plan = plan(vec![aside.clone(), aside, unit("btcpayserver.service", UnitChange::Start)]);
    assert_eq!(
        plan.touches(),
        [Touch::Path(Path::new("/a")), Touch::Path(Path::new("/a-wal")), Touch::Unit("btcpayserver.service")]
    );
    assert!(plan.starts("btcpayserver.service") && plan.starts_role(UnitRole::Btcpay));
    assert!(!plan.starts("nginx.service") && !plan.starts_role(UnitRole::Lnd));
}

#[test]
fn a_stop_counts_only_before_the_action_and_until_the_next_start() {
    let is_secret = |action: &Action| matches!(action, Action::PlaceFile { .. });
    let stop = || unit("b.service", UnitChange::Stop);
    assert!(plan(vec![stop(), secret()]).stops_before("b.service", is_secret));
    assert!(!plan(vec![stop(), secret()]).stops_before("c.service", is_secret));
    assert!(!plan(vec![secret(), stop()]).stops_before("b.service", is_secret));
    let again = plan(vec![stop(), unit("b.service", UnitChange::Start), secret()]);
    assert!(!again.stops_before("b.service", is_secret));
}

#[test]
fn a_nodes_places_are_known_by_folder() {
    let place = lightning();
    for inside in ["/srv/cln/config", "/srv/cln/bitcoin/x/y", "/db/anything"] {
        assert!(place.holds(Path::new(inside)), "{inside}");
    }
    for outside in ["/srv/clnx", "/db/deeper/x", "/quarantine/TOXIC"] {
        assert!(!place.holds(Path::new(outside)), "{outside}");
    }
}
