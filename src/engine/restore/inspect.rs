//! Looking, for guidance that is backed by data: it changes nothing, and what cannot be looked at is said and is no
//! reason to stop. No value of a secret is ever part of an answer.

use super::apply::Applier;
use super::check::restored;
use super::ground::Node;
use crate::base::exec::{self, Exec};
use crate::base::limits::UNDELIVERED_MAX;
use crate::engine::Error;
use crate::engine::error::chain;
use crate::facts::Facts;
use crate::facts::postgres::DatabaseFacts;
use crate::policy::SourceKind;
use crate::scenario::{Inspection, Placeholder};
use crate::sources::postgres::Server;
use crate::sources::postgres::restore::btcpay;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::ToSocketAddrs;

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

/// Looks.
pub fn inspect(applier: &Applier<'_>, what: Inspection) -> Inspected {
    let seen = match what {
        Inspection::Webhooks => webhooks(applier),
        Inspection::UnpaidDeliveries => undelivered(applier),
        Inspection::PruneWindow => Ok(prune_window(applier)),
        Inspection::RotationList => Ok(rotation(applier)),
        Inspection::Dns => dns(applier),
        Inspection::Space => space(applier),
    };
    let lines = seen.unwrap_or_else(|error| vec![format!("it could not be looked at: {}", chain(&error))]);
    Inspected { what: what.as_str().to_owned(), title: what.meaning().to_owned(), lines }
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
        let server = Server::parse(url, passfile.as_deref())?;
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
            lines.push(format!("{}  ({state}, store {stores})  signed off by: ____________", hook.url));
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
    let mut lines = vec![format!("the snapshot's heights: {}", applier.ground.values.of(Placeholder::Heights))];
    if !applier.root.is_machine() {
        lines.push("bitcoind is not asked below another root".into());
        return lines;
    }
    lines.push(match bitcoind() {
        Ok(line) => line,
        Err(why) => format!("bitcoind could not be asked: {why}"),
    });
    lines
}

/// What `bitcoin-cli getblockchaininfo` says of its blocks. The error is a sentence.
fn bitcoind() -> Result<String, String> {
    let program = exec::find("bitcoin-cli", &["/run/current-system/sw/bin".into()]).map_err(|error| chain(&error))?;
    let said = Exec::new(program).arg("getblockchaininfo").run(b"").map_err(|error| chain(&error))?;
    let info: serde_json::Value = serde_json::from_slice(&said).map_err(|_| "its answer is no JSON".to_owned())?;
    let blocks = info["blocks"].as_u64().ok_or("its answer has no `blocks`")?;
    let headers = info["headers"].as_u64().unwrap_or(blocks);
    let from = match info["pruneheight"].as_u64().filter(|_| info["pruned"].as_bool() == Some(true)) {
        Some(height) => format!("it has the blocks from {height} on"),
        None => "it has all blocks".to_owned(),
    };
    Ok(format!("bitcoind is at block {blocks} of {headers}; {from}"))
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
        hosts.extend(btcpay::webhooks(&server)?.iter().filter_map(|hook| host_of(&hook.url)));
    }
    Ok(or_none(hosts.iter().map(|host| resolved(host)).collect()))
}

fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let host = rest.split(['/', ':', '?', '#']).next()?;
    (!host.is_empty()).then(|| host.to_owned())
}

fn resolved(host: &str) -> String {
    let shown = |addresses: &BTreeSet<String>| or_none(addresses.iter().cloned().collect()).join(", ");
    let (here, first): (BTreeSet<String>, String) = match (host, 443).to_socket_addrs() {
        Ok(addresses) => {
            let here = addresses.map(|address| address.ip().to_string()).collect();
            let first = format!("{host}: this host's resolver says {}", shown(&here));
            (here, first)
        }
        Err(error) => (BTreeSet::new(), format!("{host}: this host's resolver has no answer ({error})")),
    };
    if host.parse::<std::net::IpAddr>().is_ok() {
        return format!("{first}; it is an address and needs no name server");
    }
    match authoritative(host) {
        Ok((server, there)) if there == here => format!("{first}; so does {server}, which has the authority"),
        Ok((server, there)) => format!("{first}; {server}, which has the authority, DIFFERS: {}", shown(&there)),
        Err(why) => format!("{first}; nobody with authority was asked: {why}"),
    }
}

/// What a name server of the name's own zone says: the server and the addresses. The error is a sentence.
fn authoritative(host: &str) -> Result<(String, BTreeSet<String>), String> {
    // The name comes out of a database: nothing but a name may become an argument.
    let is_name = host.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._".contains(letter));
    if !is_name || host.starts_with('-') {
        return Err("it is no name".to_owned());
    }
    let dig = exec::find("dig", &["/run/current-system/sw/bin".into()]).map_err(|error| chain(&error))?;
    let ask = |arguments: &[&str]| {
        let said = Exec::new(&dig).args(["+short", "+time=3", "+tries=1"]).args(arguments).run(b"");
        said.map(|said| String::from_utf8_lossy(&said).into_owned()).map_err(|error| chain(&error))
    };
    let mut zone = host;
    let server = loop {
        // Of a name below its zone the answer is empty; the zone itself names its servers.
        if let Some(server) = ask(&[zone, "NS"])?.lines().next() {
            break server.trim_end_matches('.').to_owned();
        }
        zone = zone
            .split_once('.')
            .map(|(_, rest)| rest)
            .filter(|rest| rest.contains('.'))
            .ok_or("no name server was found")?;
    };
    let at = format!("@{server}");
    let mut addresses = BTreeSet::new();
    for kind in ["A", "AAAA"] {
        let said = ask(&["+norecurse", &at, host, kind])?;
        addresses.extend(said.lines().filter(|line| line.parse::<std::net::IpAddr>().is_ok()).map(str::to_owned));
    }
    Ok((server, addresses))
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
