//! Places on the restored machine that several parts must agree on: where the nodes are, where LND keeps its channel
//! state, what no tar of a snapshot may touch, and how quarantine lies there.

use super::ground::node;
use crate::plan::{LightningPlace, Plan};
use crate::policy::{Policy, SourceKind};
use std::path::{Path, PathBuf};

/// Mode of what lies in quarantine: even its owner does not write to it.
pub const QUARANTINE_MODE: u32 = 0o400;

/// Where the Core Lightning nodes are that the plan or the policy names, each once.
pub fn nodes(plan: &Plan, policy: Option<&Policy>) -> Vec<LightningPlace> {
    let mut nodes: Vec<LightningPlace> = Vec::new();
    let of_policy = policy.into_iter().flat_map(|policy| &policy.sources).filter_map(node).map(|node| node.place);
    // The plan's own word on a node goes first.
    for place in plan.fences().cloned().chain(of_policy) {
        if !nodes.iter().any(|known| known.network_dir == place.network_dir) {
            nodes.push(place);
        }
    }
    nodes
}

/// Where LND nodes keep their channel state: below `data`, which is LND's own place, or below the folder itself, which
/// nix-bitcoin sets as `datadir`.
pub fn lnd_graphs(policy: Option<&Policy>) -> Vec<PathBuf> {
    let graphs = policy.into_iter().flat_map(|policy| &policy.sources).flat_map(|source| match &source.kind {
        SourceKind::Lnd { lnd_dir, network, .. } => {
            let graph = |data: &Path| data.join("graph").join(network);
            vec![graph(&lnd_dir.join("data")), graph(lnd_dir)]
        }
        _ => Vec::new(),
    });
    graphs.collect()
}

/// What no tar may touch: each node's database, its mirror, its secret and its `emergency.recover`, and LND's channel
/// state. Each of these comes from an artifact of its own, under its own guards, or not at all.
pub fn forbidden(plan: &Plan, policy: Option<&Policy>, mirror: Option<&Path>) -> Vec<PathBuf> {
    let of_nodes = nodes(plan, policy).into_iter().flat_map(|node| {
        let (secret, emergency) = (node.network_dir.join("hsm_secret"), node.network_dir.join("emergency.recover"));
        [node.wallet, secret, emergency]
    });
    of_nodes.chain(mirror.map(Path::to_owned)).chain(lnd_graphs(policy)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Action, PlannedStep, Secrecy};
    use crate::policy;

    const POLICY: &str = r#"
node = "shop"
state_dir = "/var/lib/relay-backup"

[keys]
recipients = ["age1z5z8lel6p8gecfuzsvyvc0xgdawflhs0vs4l6uknyu9els3g3q2q5cg4p5"]

[objectives]
rpo = "26h"

[[vault]]
name = "local"
url = "fs:///mnt/vault"

[[source]]
name = "cln"
kind = "cln"
lightning_dir = "/var/lib/clightning"
network = "bitcoin"

[[source]]
name = "lnd"
kind = "lnd"
lnd_dir = "/var/lib/lnd"
network = "mainnet"
"#;

    fn plan(actions: Vec<Action>) -> Plan {
        Plan {
            scenario: "server-loss".parse().unwrap(),
            secrecy: Secrecy::Kept,
            node: "shop".parse().unwrap(),
            snapshot: None,
            root: None,
            steps: vec![PlannedStep { id: "one".parse().unwrap(), title: String::new(), actions }],
        }
    }

    fn second() -> LightningPlace {
        let dir = Path::new("/mnt/second");
        LightningPlace {
            lightning_dir: dir.to_owned(),
            network_dir: dir.join("bitcoin"),
            wallet: "/mnt/fast/second.sqlite3".into(),
            pid_file: dir.join("lightningd-bitcoin.pid"),
            rpc_socket: dir.join("bitcoin/lightning-rpc"),
        }
    }

    #[test]
    fn every_place_that_a_tar_may_not_touch_is_in_the_one_list() {
        let policy = policy::parse(Path::new("policy.toml"), POLICY).unwrap();
        let plan = plan(vec![Action::RaiseFence { lightning: second() }]);
        let list = forbidden(&plan, Some(&policy), Some(Path::new("/mnt/mirror.sqlite3")));
        for place in [
            "/var/lib/clightning/bitcoin/lightningd.sqlite3",
            "/var/lib/clightning/bitcoin/hsm_secret",
            "/var/lib/clightning/bitcoin/emergency.recover",
            "/mnt/fast/second.sqlite3",
            "/mnt/second/bitcoin/hsm_secret",
            "/mnt/second/bitcoin/emergency.recover",
            "/mnt/mirror.sqlite3",
            "/var/lib/lnd/data/graph/mainnet",
            "/var/lib/lnd/graph/mainnet",
        ] {
            assert!(list.contains(&PathBuf::from(place)), "{place} in {list:?}");
        }
        assert_eq!(list.len(), 9, "{list:?}");
    }

    #[test]
    fn a_node_that_plan_and_policy_name_is_one() {
        let policy = policy::parse(Path::new("policy.toml"), POLICY).unwrap();
        let named = |actions| nodes(&plan(actions), Some(&policy));
        let [own] = &named(Vec::new())[..] else { panic!("{:?}", named(Vec::new())) };
        assert_eq!(own.wallet, Path::new("/var/lib/clightning/bitcoin/lightningd.sqlite3"));
        // Where the plan puts the database elsewhere, that counts.
        let moved = LightningPlace { wallet: "/mnt/fast/wallet.sqlite3".into(), ..own.clone() };
        let raise = |place: &LightningPlace| Action::RaiseFence { lightning: place.clone() };
        assert_eq!(named(vec![raise(&moved), raise(&moved)]), [moved]);
    }
}
