//! Looking, for guidance that is backed by data: it changes nothing, and what cannot be looked at is said and is no
//! reason to stop. No value of a secret is ever part of an answer. Only [`test_delivery`] sends anything, and it asks
//! first.

mod delivery;
mod dns;

use super::apply::Applier;
use super::check::restored;
use super::ground::Node;
use super::values::reached;
use crate::base::exec::{self, Exec};
use crate::base::limits::UNDELIVERED_MAX;
use crate::base::visible::one_line;
use crate::engine::Error;
use crate::engine::error::chain;
use crate::facts::Facts;
use crate::facts::postgres::DatabaseFacts;
use crate::policy::SourceKind;
use crate::scenario::{Inspection, Placeholder};
use crate::sources::postgres::Server;
use crate::sources::postgres::restore::btcpay;
use crate::target::delivery::WebAddress;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeSet;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Inspected {
    /// What was looked at.
    pub what: String,
    /// What it is, in words.
    pub title: String,
    /// What was seen, a line each.
    pub lines: Vec<String>,
}

/// Looks. Of a test delivery it says what would be sent, and sends nothing.
pub fn inspect(applier: &Applier<'_>, what: Inspection) -> Inspected {
    let seen = match what {
        Inspection::Webhooks => webhooks(applier),
        Inspection::UnpaidDeliveries => undelivered(applier),
        Inspection::PruneWindow => Ok(prune_window(applier)),
        Inspection::RotationList => Ok(rotation(applier)),
        Inspection::Dns => dns(applier),
        Inspection::TestDelivery => delivery::foreseen(applier),
        Inspection::Space => space(applier),
    };
    inspected(what, seen.unwrap_or_else(|error| vec![unseen(&error)]))
}

/// Sends one test event to each active webhook that takes one, after a yes to a question that names them all; after a
/// no, and below another root, it sends nothing. Fails where nobody could be asked, and where somebody asked to stop.
pub fn test_delivery(
    applier: &Applier<'_>,
    agrees: impl FnOnce(&str) -> Result<bool, Error>,
) -> Result<Inspected, Error> {
    let lines = match delivery::webhooks(applier) {
        Ok(webhooks) => delivery::send(applier, &webhooks, agrees)?,
        Err(error) => vec![unseen(&error)],
    };
    Ok(inspected(Inspection::TestDelivery, lines))
}

/// The lines hold words of customers and of shops: each stays one line, and nothing in it is obeyed by a terminal.
fn inspected(what: Inspection, lines: Vec<String>) -> Inspected {
    let lines = lines.iter().map(|line| one_line(line).into_owned()).collect();
    Inspected { what: what.as_str().to_owned(), title: what.meaning().to_owned(), lines }
}

fn unseen(error: &Error) -> String {
    format!("it could not be looked at: {}", chain(error))
}

/// The placeholder that an inspection fills.
pub fn placeholder(inspected: &Inspected) -> Option<Placeholder> {
    match inspected.what.as_str() {
        "webhooks" => Some(Placeholder::Webhooks),
        "rotation-list" => Some(Placeholder::RotateList),
        _ => None,
    }
}

/// BTCPay Server's databases, restored or, where the scenario restores none, live.
fn btcpay_databases(applier: &Applier<'_>) -> Result<Vec<Server>, Error> {
    let of_plan = restored(applier);
    let is_btcpay = |server: &crate::plan::ServerUrl, database: &str| {
        applier.dump_of(server, database).is_some_and(|(name, _)| applier.ground.is_btcpay(name))
    };
    if !of_plan.is_empty() {
        return of_plan
            .iter()
            .filter(|(server, database, _)| is_btcpay(server, database))
            .map(|(server, database, _)| applier.restored(server, database))
            .collect();
    }
    let mut live = Vec::new();
    for source in applier.policy.into_iter().flat_map(|policy| &policy.sources) {
        let SourceKind::Postgres { url, passfile, databases } = &source.kind else { continue };
        let server = Server::parse(url, passfile.as_deref())?.stopping_at(applier.context.interrupt);
        for database in databases {
            let server = server.with_database(database);
            // Whether it is BTCPay's is told by its tables.
            if btcpay::webhooks(&server).is_ok() {
                live.push(server);
            }
        }
    }
    Ok(live)
}

fn webhooks(applier: &Applier<'_>) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    for server in btcpay_databases(applier)? {
        for hook in btcpay::webhooks(&server)? {
            let state = if hook.is_active { "active" } else { "off" };
            let stores = hook.stores.join(", ");
            let events = hook.events.map_or_else(|| "every event".to_owned(), |events| or_none(events).join(", "));
            lines.push(format!("{}  ({state}, store {stores}, {events})  signed off by: ____________", hook.url));
        }
    }
    Ok(or_none(lines))
}

fn undelivered(applier: &Applier<'_>) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    for server in btcpay_databases(applier)? {
        let undelivered = btcpay::undelivered(&server, UNDELIVERED_MAX)?;
        for one in undelivered.list {
            let order = one.order.as_deref().unwrap_or("no order number");
            let last = one.last.as_deref().unwrap_or("never tried");
            lines.push(format!(
                "invoice {} of {} ({}, {order}): webhook {} {last}",
                one.invoice, one.created, one.status, one.webhook
            ));
        }
        if undelivered.is_cut {
            lines.push(format!(
                "database {} has MORE of them than these {UNDELIVERED_MAX}, all older: look again when these are told",
                server.database()
            ));
        }
    }
    Ok(or_none(lines))
}

/// The heights that software goes on from, and the blocks that bitcoind still has.
fn prune_window(applier: &Applier<'_>) -> Vec<String> {
    let heights = match applier.ground.chosen {
        Some(_) => format!("the snapshot's heights: {}", applier.ground.values.of(Placeholder::Heights)),
        None => "no snapshot is read here: lightningd and NBXplorer themselves say how far they are".into(),
    };
    let mut lines = vec![heights];
    if !applier.root.is_machine() {
        lines.push("bitcoind is not asked below another root".into());
        return lines;
    }
    match bitcoind() {
        Ok(Blocks { said, from }) => {
            lines.push(said);
            let reached = applier.ground.chosen.map(|(_, notes)| reached(notes)).unwrap_or_default();
            lines.extend(reached.into_iter().filter_map(|(what, height)| gone(what, height?, from)));
        }
        Err(why) => lines.push(format!("bitcoind could not be asked: {why}")),
    }
    lines
}

/// Told where bitcoind has thrown away blocks that a piece of software goes on from.
fn gone(what: &str, height: u64, from: u64) -> Option<String> {
    (height < from).then(|| {
        format!("{what} goes on from block {height}, and bitcoind has NONE BEFORE {from}: use one that has them")
    })
}

/// The blocks that bitcoind has.
struct Blocks {
    /// What it says of them.
    said: String,
    /// The lowest that it still has.
    from: u64,
}

/// What `bitcoin-cli getblockchaininfo` says of its blocks. The error is a sentence.
fn bitcoind() -> Result<Blocks, String> {
    let program = exec::find("bitcoin-cli", &["/run/current-system/sw/bin".into()]).map_err(|error| chain(&error))?;
    let said = Exec::new(program).arg("getblockchaininfo").run(b"").map_err(|error| chain(&error))?;
    let info: serde_json::Value = serde_json::from_slice(&said).map_err(|_| "its answer is no JSON".to_owned())?;
    let blocks = info["blocks"].as_u64().ok_or("its answer has no `blocks`")?;
    let headers = info["headers"].as_u64().unwrap_or(blocks);
    let pruned = info["pruneheight"].as_u64().filter(|_| info["pruned"].as_bool() == Some(true));
    let has = pruned.map_or_else(|| "all blocks".to_owned(), |from| format!("the blocks from {from} on"));
    let said = format!("bitcoind is at block {blocks} of {headers}; it has {has}");
    Ok(Blocks { said, from: pruned.unwrap_or(0) })
}

/// Everything that opens something, by name and place.
fn rotation(applier: &Applier<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for Node { place, .. } in applier.ground.nodes() {
        lines.push(format!(
            "{}: a new node with a new secret; the old one's money is swept",
            place.network_dir.join("hsm_secret").display()
        ));
        lines.push("every rune: `lightning-cli showrunes`, `lightning-cli blacklistrune`".into());
    }
    for (source, database) in api_keys(applier).into_iter().chain(applier.gathered.burnt_keys.iter().cloned()) {
        lines.push(format!("BTCPay API key {source} in {database}"));
    }
    for artifact in applier.ground.artifacts() {
        match applier.ground.facts(&artifact.name) {
            Some(Facts::Tar(tar)) => {
                lines.extend(tar.roots.iter().map(|root| format!("/{root}: every password and key in it")))
            }
            Some(Facts::ClnExtras(extras)) => {
                let keys = extras.files.iter().filter(|file| file.name.ends_with(".pem") || file.name.contains("rune"));
                lines.extend(keys.map(|file| format!("{}", extras.lightning_dir.join(&file.name).display())));
            }
            Some(Facts::PostgresGlobals(globals)) => {
                let roles = globals.roles.iter().map(|role| role.name.as_str()).collect::<Vec<_>>().join(", ");
                lines.push(format!("passwords of the PostgreSQL roles {roles}"));
            }
            Some(Facts::PostgresDump(dump)) if has_hot_wallets(dump) => {
                lines.push(format!("hot-wallet seeds in {}: new wallets, the old ones swept", dump.name));
            }
            _ => {}
        }
    }
    lines.push("SSH keys of this host and of whoever could log in".into());
    lines
}

/// Whether seeds of hot wallets lie in it, or nobody could tell.
fn has_hot_wallets(dump: &DatabaseFacts) -> bool {
    dump.marks.nbxplorer.as_ref().is_some_and(|marks| marks.hot_wallet_keys != Some(0))
}

/// API keys by label, with their database; none where they cannot be read, which the burn tells.
fn api_keys(applier: &Applier<'_>) -> Vec<(String, String)> {
    let servers = btcpay_databases(applier).unwrap_or_default();
    let of_server = |server: &Server| {
        let keys = btcpay::api_keys(server).unwrap_or_default();
        keys.into_iter().map(|key| (format!("{:?}", key.label), server.database().to_owned())).collect::<Vec<_>>()
    };
    servers.iter().flat_map(of_server).collect()
}

/// What this host's resolver says of each webhook's host, and what the name's own servers say.
fn dns(applier: &Applier<'_>) -> Result<Vec<String>, Error> {
    let mut hosts = BTreeSet::new();
    for server in btcpay_databases(applier)? {
        let addresses = btcpay::webhooks(&server)?.into_iter().map(|hook| WebAddress::parse(&hook.url.into()));
        hosts.extend(addresses.flatten().map(|address| address.host().to_owned()));
    }
    Ok(or_none(hosts.iter().map(|host| dns::look(host).to_string()).collect()))
}

fn space(applier: &Applier<'_>) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    let nodes: Vec<Node> = applier.ground.nodes().collect();
    let places = nodes.iter().map(|node| node.place.lightning_dir.as_path());
    let further = ["/", "/var/lib", "/var/log", "/nix/store", "/tmp"].map(std::path::Path::new);
    let mut seen = BTreeSet::new();
    for path in places.chain(further) {
        let space = applier.root.space(path)?;
        if seen.insert(space.filesystem) {
            let mib = |bytes: u64| bytes / (1024 * 1024);
            lines.push(format!(
                "{}: {} MiB free, {} files can still be made",
                applier.root.path_of(path).display(),
                mib(space.free_bytes),
                space.free_files.map_or_else(|| "unlimited".to_owned(), |free| free.to_string())
            ));
        }
    }
    Ok(lines)
}

fn or_none(lines: Vec<String>) -> Vec<String> {
    if lines.is_empty() { vec!["none".to_owned()] } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_are_gone_are_told() {
        assert_eq!(gone("NBXplorer", 700, 0), None);
        assert_eq!(gone("NBXplorer", 700, 700), None);
        let told = gone("NBXplorer", 700, 701).unwrap();
        assert!(told.contains("from block 700") && told.contains("NONE BEFORE 701"), "{told}");
    }
}
