//! Every PostgreSQL from 13 to 18 as the server that a backup reads, and every one that is not older as the server that
//! a restore fills: a shop's databases, NBXplorer's with functions, triggers and materialised views, one of each kind
//! of thing, and two that are not in UTF-8.

use super::restore::BURNT;
use crate::support::host::Host;
use crate::support::servers;
use relay_backup::sandbox::cluster::Cluster;
use relay_backup::sandbox::shop::{Shop, Size};
use std::fs;

const DATABASES: [&str; 5] = [Shop::BTCPAY, Shop::NBXPLORER, "kinds", "latin", "kanji"];
const NBXPLORER: &str = include_str!("../fixtures/sql/nbxplorer.sql");
const KINDS: &str = include_str!("../fixtures/sql/kinds.sql");
const ROLES: &str = "CREATE ROLE shop LOGIN; CREATE ROLE reader";

/// A server with all databases.
fn filled(bin: &std::path::Path) -> Cluster {
    let cluster = Cluster::start_with(&std::env::temp_dir(), bin).unwrap();
    cluster.execute("postgres", ROLES).unwrap();
    Shop::create(&cluster, 3, Size::Invoices(40)).unwrap();
    cluster.execute(Shop::NBXPLORER, NBXPLORER).unwrap();
    cluster.create_plain_database("kinds").unwrap();
    cluster.execute("kinds", KINDS).unwrap();
    for (name, encoding, text) in [("latin", "LATIN1", "Käufer Größe"), ("kanji", "EUC_JP", "注文 数量")] {
        let sql =
            format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'");
        cluster.execute("postgres", &sql).unwrap();
        let sql = format!(
            "CREATE TABLE \"{text}\" (\"{text}\" text DEFAULT '{text}' CHECK (\"{text}\" <> 'x{text}')); INSERT INTO \"{text}\" VALUES ('{text}'), ('x');
             CREATE VIEW \"v {text}\" AS SELECT * FROM \"{text}\"; COMMENT ON TABLE \"{text}\" IS '{text}'; ALTER
            TABLE \"{text}\" OWNER TO shop"
        );
        cluster.execute(name, &sql).unwrap();
    }
    cluster
        .execute(
            "postgres",
            "ALTER DATABASE btcpaydb OWNER TO shop; ALTER DATABASE kinds SET search_path = public, pg_catalog",
        )
        .unwrap();
    cluster
}

/// What is in a database, by counting and by the catalogue's own words.
fn seen(cluster: &Cluster, database: &str) -> Vec<String> {
    let names = "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename), tableowner FROM pg_tables
        WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1";
    let mut seen = Vec::new();
    for row in cluster.query(database, names).unwrap() {
        let (name, owner) = (row[0].clone().unwrap(), row[1].clone().unwrap());
        let sql = format!("SELECT count(*), md5(string_agg(t::text, ';' ORDER BY t::text)) FROM {name} t");
        seen.push(format!("{name} of {owner}: {:?}", cluster.query(database, &sql).unwrap()[0]));
    }
    let views = "SELECT matviewname, ispopulated FROM pg_matviews ORDER BY 1";
    seen.extend(cluster.query(database, views).unwrap().iter().map(|row| format!("{row:?}")));
    let counts = "SELECT (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal),
        (SELECT count(*) FROM pg_index WHERE indrelid >= 16384),
        (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prolang <> 12),
        (SELECT count(*) FROM pg_views WHERE schemaname = 'public'),
        (SELECT count(*) FROM pg_policy), (SELECT count(*) FROM pg_largeobject_metadata),
        (SELECT count(*) FROM pg_description WHERE objoid = 4711 OR objoid >= 16384)";
    seen.push(format!("{:?}", cluster.query(database, counts).unwrap()));
    seen
}

/// Makes the policy's server this one.
fn point(host: &mut Host, cluster: &Cluster) {
    let databases = DATABASES.map(|name| format!("\"{name}\"")).join(", ");
    host.sources.truncate(1);
    host.add_postgres(&cluster.url("postgres"), &databases);
}

#[test]
fn every_version_goes_to_every_version_that_is_not_older() {
    let (Some(servers), Some(client)) = (servers::all(), servers::client()) else { return };
    let mut host = Host::of_files();
    for program in ["pg_dump", "pg_dumpall"] {
        host.env.fake(program, &format!("exec {} \"$@\"", client.join(program).display()));
    }
    let clusters: Vec<Cluster> = servers.iter().map(|server| filled(&server.bin)).collect();
    host.init();
    let mut snapshots = Vec::new();
    for cluster in &clusters {
        point(&mut host, cluster);
        snapshots.push((host.backup(), DATABASES.map(|name| seen(cluster, name))));
    }
    let root = host.env.path("root");
    fs::create_dir(&root).unwrap();
    for (from, (snapshot, expected)) in snapshots.iter().enumerate() {
        for (to, cluster) in clusters.iter().enumerate().skip(from) {
            let pair = format!("PostgreSQL {} to {}", servers[from].major, servers[to].major);
            point(&mut host, cluster);
            // Below a root of its own, so that no run takes the other's work for its own.
            let root = root.join(pair.replace(' ', "-"));
            fs::create_dir(&root).unwrap();
            let place = ["--root", root.to_str().unwrap(), "--yes", "--identity", host.identity()];
            let accepted = ["--accept", BURNT, "--accept", "freshness=a test", "--accept", "payout=a test"];
            let wanted = ["restore", "--scenario", "postgres-corruption", "--snapshot", snapshot];
            let arguments: Vec<&str> = wanted.into_iter().chain(place).chain(accepted).collect();
            let ended = host.run(&arguments);
            assert_eq!(ended.code, Some(0), "{pair}\n{ended}");
            for (name, expected) in DATABASES.iter().zip(expected) {
                assert_eq!(&seen(cluster, name), expected, "{name}, {pair}");
            }
        }
    }
}
