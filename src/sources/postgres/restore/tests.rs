//! Databases brought back on real servers, step by step, each step stopped and called again.

mod derived;
mod hostile;
mod rights;

use super::super::tests::{read, unique};
use super::btcpay::Burnt;
use super::*;
use crate::sandbox::cluster::Cluster;
use crate::sandbox::cluster::tests::shared;
use crate::sandbox::shop::{Shop, Size};
use crate::scenario::Burn;
use std::io::{self, Cursor};

const OWNER: &str = "btcpayserver";

fn snapshot() -> SnapshotId {
    "20261120T051200Z-000042".parse().unwrap()
}

fn server(cluster: &Cluster) -> Server {
    Server::parse(&cluster.url("postgres"), None).unwrap()
}

fn landing<'a>(
    server: &'a Server,
    database: &'a str,
    snapshot: &'a SnapshotId,
    interrupt: &'a Interrupt,
) -> Landing<'a> {
    Landing { server, database, owner: OWNER, snapshot, run: "one", interrupt }
}

fn count(cluster: &Cluster, database: &str, table: &str) -> String {
    let rows = cluster.query(database, &format!("SELECT count(*) FROM \"{table}\"")).unwrap();
    rows[0][0].clone().unwrap()
}

#[test]
fn a_server_that_is_gone_comes_back_with_its_roles_its_rows_and_their_owner() {
    let old = Cluster::start(&std::env::temp_dir()).unwrap();
    Shop::create(&old, 1, Size::Invoices(300)).unwrap();
    let roles = format!(
        "CREATE ROLE {OWNER} LOGIN PASSWORD 'hunter2'; CREATE ROLE \"odd \"\"one\" IN ROLE {OWNER}; \
         COMMENT ON ROLE {OWNER} IS 'it''s; the shop'; ALTER DATABASE btcpaydb OWNER TO {OWNER}"
    );
    old.execute("postgres", &roles).unwrap();
    let collected = read(&old, &["btcpaydb".to_owned()]);
    let (bytes, facts) = collected.dump("btcpaydb");
    assert_eq!(facts.owner, OWNER);

    let new = Cluster::start(&std::env::temp_dir()).unwrap();
    let (server, snapshot, interrupt) = (server(&new), snapshot(), Interrupt::new());
    let landing = landing(&server, "btcpaydb", &snapshot, &interrupt);
    assert!(matches!(landing.make(facts), Err(RestoreError::NoOwner { .. })), "roles come first");
    let done = restore_roles(&server, collected.globals().0).unwrap();
    assert_eq!((done.made, done.left_out), (vec![OWNER.to_owned(), "odd \"one".to_owned()], vec![]));
    let password = "SELECT rolpassword FROM pg_authid WHERE rolname = 'btcpayserver'";
    assert_eq!(new.query("postgres", password).unwrap(), old.query("postgres", password).unwrap());
    new.execute("postgres", &format!("ALTER ROLE {OWNER} PASSWORD 'changed'")).unwrap();
    let changed = new.query("postgres", password).unwrap();
    let done = restore_roles(&server, collected.globals().0).unwrap();
    assert!(done.made.is_empty() && done.kept.len() == 3, "{done:?}");
    assert_eq!(new.query("postgres", password).unwrap(), changed, "what is there is left as it is");
    let member = "SELECT pg_has_role('odd \"one', 'btcpayserver', 'member')::text";
    assert_eq!(new.query("postgres", member).unwrap(), [[Some("true".to_owned())]]);

    assert_eq!(occupancy(&server, "btcpaydb").unwrap(), None);
    assert_eq!(landing.stand().unwrap(), Stand::NotBegun);
    for _ in 0..2 {
        landing.make(facts).unwrap();
        assert_eq!(landing.stand().unwrap(), Stand::Made);
    }
    // A dump that breaks off leaves it empty, and so does a wish to stop.
    let half = &bytes[..bytes.len() / 2];
    assert!(matches!(landing.fill(facts, &mut &half[..]), Err(RestoreError::Dump { .. })));
    assert_eq!(landing.stand().unwrap(), Stand::Partial);
    assert!(matches!(landing.fill(facts, &mut &half[..]), Err(RestoreError::NotEmpty { .. })));
    landing.make(facts).unwrap();
    assert_eq!(landing.stand().unwrap(), Stand::Made, "what was left half filled is made anew");
    let broken = &mut Cursor::new(half).chain(Failing);
    assert!(matches!(landing.fill(facts, broken), Err(RestoreError::Dump { .. })));
    landing.make(facts).unwrap();
    let stopping = &mut Stopping(bytes, &interrupt);
    assert!(matches!(landing.fill(facts, stopping), Err(RestoreError::Interrupted { .. })));
    let interrupt = Interrupt::new();
    let landing = Landing { interrupt: &interrupt, ..landing };
    landing.make(facts).unwrap();
    landing.fill(facts, &mut &bytes[..]).unwrap();
    assert_eq!(landing.stand().unwrap(), Stand::Filled);
    assert!(matches!(landing.fill(facts, &mut &bytes[..]), Err(RestoreError::NotEmpty { .. })));
    landing.make(facts).unwrap();
    assert!(landing.proved_before().unwrap().is_none());
    let proved = landing.prove(facts).unwrap();
    assert!(landing.proved_before().unwrap().is_some(), "a run that goes on need not prove it again");
    assert!(proved.proof.rows > 1000 && proved.proof.sequences > 0, "{:?}", proved.proof);
    assert_eq!(landing.swap(proved).unwrap(), Swapped { replaced: None });
    assert_eq!(landing.stand().unwrap(), Stand::Swapped);
    landing.make(facts).unwrap();
    assert_eq!(landing.stand().unwrap(), Stand::Swapped, "a run that goes on makes nothing anew");
    let another = Landing { run: "two", ..landing.clone() };
    assert_eq!(another.stand().unwrap(), Stand::NotBegun, "what another run put in service may have changed since");
    assert_eq!(count(&new, "btcpaydb", "Invoices"), "300");
    let owners = "SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
    assert_eq!(
        new.query("btcpaydb", owners).unwrap(),
        old.query("btcpaydb", owners).unwrap(),
        "everything is whose it was"
    );
}

struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the vault is gone"))
    }
}

/// Hands on bytes, and asks to stop after the first of them.
struct Stopping<'a>(&'a [u8], &'a Interrupt);

impl Read for Stopping<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = into.len().min(4096);
        let count = self.0.read(&mut into[..count])?;
        self.1.set();
        Ok(count)
    }
}

/// A database of one table on the shared server, its owner, and a dump of it.
fn small(cluster: &Cluster) -> String {
    let database = unique("landing");
    let role = format!(
        "DO $$ BEGIN CREATE ROLE {OWNER} LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    );
    cluster.execute("postgres", &role).unwrap();
    cluster.create_plain_database(&database).unwrap();
    let sql = "CREATE TABLE t (id serial PRIMARY KEY, v text); \
        INSERT INTO t (v) SELECT 'x' || n FROM generate_series(1, 50) n";
    cluster.execute(&database, sql).unwrap();
    cluster.execute("postgres", &format!("ALTER DATABASE {database} OWNER TO {OWNER}")).unwrap();
    database
}

#[test]
fn a_session_of_our_own_that_is_ending_is_no_use_of_the_database() {
    let cluster = shared();
    let database = small(&cluster);
    let server = server(&cluster);
    let session = cluster.session(&database).unwrap();
    let ending = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        drop(session);
    });
    assert_eq!(occupancy(&server, &database).unwrap().unwrap().sessions, [""; 0]);
    ending.join().unwrap();
}

#[test]
fn a_damaged_database_is_renamed_and_never_while_it_is_in_use() {
    let cluster = shared();
    let database = small(&cluster);
    let collected = read(&cluster, std::slice::from_ref(&database));
    let (bytes, facts) = collected.dump(&database);
    cluster.execute(&database, "DELETE FROM t WHERE id > 10").unwrap();
    let (server, snapshot, interrupt) = (server(&cluster), snapshot(), Interrupt::new());
    let landing = landing(&server, &database, &snapshot, &interrupt);
    landing.make(facts).unwrap();
    landing.fill(facts, &mut &bytes[..]).unwrap();

    let user = cluster.session(&database).unwrap();
    let there = occupancy(&server, &database).unwrap().unwrap();
    assert_eq!((there.tables, there.sessions.len()), (Some(1), 1));
    let error = landing.swap(landing.prove(facts).unwrap()).unwrap_err();
    assert!(
        matches!(&error, RestoreError::InUse { sessions, .. } if sessions[0].starts_with("postgres by relay-backup"))
    );
    assert_eq!(landing.stand().unwrap(), Stand::Filled);
    assert_eq!(count(&cluster, &database, "t"), "10", "nothing changed");
    drop(user);
    let swapped = landing.swap(landing.prove(facts).unwrap()).unwrap();
    let replaced = swapped.replaced.unwrap();
    assert_eq!(replaced, landing.replaced_name());
    assert_eq!((count(&cluster, &database, "t"), count(&cluster, &replaced, "t")), ("50".into(), "10".into()));
    assert_eq!(landing.stand().unwrap(), Stand::Swapped);
    let next = cluster.query(&database, "SELECT nextval('t_id_seq')").unwrap();
    assert_eq!(next, [[Some("51".to_owned())]], "sequences go on where they were");
}

#[test]
fn only_a_copy_that_is_equal_can_be_swapped_and_only_what_is_ours_is_dropped() {
    let cluster = shared();
    let database = small(&cluster);
    let collected = read(&cluster, std::slice::from_ref(&database));
    let (bytes, facts) = collected.dump(&database);
    let (server, snapshot, interrupt) = (server(&cluster), snapshot(), Interrupt::new());
    let landing = landing(&server, &database, &snapshot, &interrupt);
    landing.make(facts).unwrap();
    landing.fill(facts, &mut &bytes[..]).unwrap();
    let fresh = landing.fresh_name();
    let differs = |landing: &Landing<'_>| match landing.prove(facts) {
        Err(RestoreError::Differs { differences, .. }) => differences[0].subject.clone(),
        other => panic!("{other:?}"),
    };
    cluster.execute(&fresh, "UPDATE t SET v = 'forged' WHERE id = 7").unwrap();
    assert_eq!(differs(&landing), "table public.t");
    cluster.execute(&fresh, "UPDATE t SET v = 'x7' WHERE id = 7; SELECT setval('t_id_seq', 3)").unwrap();
    assert_eq!(differs(&landing), "sequence public.t_id_seq");
    cluster.execute(&fresh, "SELECT setval('t_id_seq', 50); ALTER TABLE t OWNER TO btcpayserver").unwrap();
    let unsettled = landing.compare(facts).unwrap().unsettled;
    assert!(unsettled.iter().any(|one| one.what == "the owner of table public.t"), "{unsettled:?}");
    let toxic = DatabaseFacts { channel_tables: vec!["public.channels".to_owned()], ..facts.clone() };
    assert!(matches!(landing.prove(&toxic), Err(RestoreError::Toxic { .. })));
    let needs = |name: &str| DatabaseFacts {
        extensions: vec![crate::facts::postgres::ExtensionFacts { name: name.to_owned(), version: "1".to_owned() }],
        ..facts.clone()
    };
    assert!(matches!(landing.make(&needs("no_such_extension")), Err(RestoreError::NoExtension { .. })));

    cluster.execute("postgres", &format!("COMMENT ON DATABASE {fresh} IS 'somebody''s'")).unwrap();
    assert!(matches!(landing.discard(), Err(RestoreError::NotEmpty { .. })));
    let mark = format!("COMMENT ON DATABASE {fresh} IS 'relay-backup: proved from snapshot {snapshot} by run two'");
    cluster.execute("postgres", &mark).unwrap();
    assert!(landing.is_left_over().unwrap(), "another restore's, which was given up");
    landing.discard().unwrap();
    assert!(!landing.is_left_over().unwrap());
    landing.discard().unwrap();
    assert_eq!(landing.stand().unwrap(), Stand::NotBegun);
    assert_eq!(count(&cluster, &database, "t"), "50");
}

#[test]
fn what_another_restore_put_under_the_same_name_is_not_swapped_in() {
    let cluster = shared();
    let database = small(&cluster);
    let collected = read(&cluster, std::slice::from_ref(&database));
    let (bytes, facts) = collected.dump(&database);
    let (server, snapshot, interrupt) = (server(&cluster), snapshot(), Interrupt::new());
    let first = landing(&server, &database, &snapshot, &interrupt);
    first.make(facts).unwrap();
    first.fill(facts, &mut &bytes[..]).unwrap();
    let proved = first.prove(facts).unwrap();
    // While a person thinks about the swap, another scenario restores the same snapshot.
    let second = Landing { run: "two", ..first.clone() };
    assert!(second.is_left_over().unwrap());
    second.discard().unwrap();
    second.make(facts).unwrap();
    assert!(matches!(first.swap(proved), Err(RestoreError::NotProved { .. })));
    assert_eq!(count(&cluster, &database, "t"), "50");
    second.discard().unwrap();
}

#[test]
fn channel_state_is_never_swapped_in_whatever_the_notes_say() {
    let cluster = shared();
    let database = small(&cluster);
    let tables = "CREATE TABLE channels (a int); CREATE TABLE shachains (a int); CREATE TABLE vars (a int)";
    cluster.execute(&database, tables).unwrap();
    let collected = read(&cluster, std::slice::from_ref(&database));
    let (bytes, facts) = collected.dump(&database);
    let notes =
        DatabaseFacts { channel_tables: Vec::new(), software: crate::facts::postgres::Software::None, ..facts.clone() };
    let (server, snapshot, interrupt) = (server(&cluster), snapshot(), Interrupt::new());
    let landing = landing(&server, &database, &snapshot, &interrupt);
    landing.make(&notes).unwrap();
    landing.fill(&notes, &mut &bytes[..]).unwrap();
    match landing.prove(&notes) {
        Err(RestoreError::Toxic { tables, .. }) => assert_eq!(tables.len(), 3),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_stay_within_the_servers_limit_and_apart() {
    let cluster = shared();
    let (server, snapshot, interrupt) = (server(&cluster), snapshot(), Interrupt::new());
    let named = |database: &str| {
        let landing = landing(&server, database, &snapshot, &interrupt);
        (landing.fresh_name(), landing.replaced_name())
    };
    assert_eq!(named("btcpaydb").0, "btcpaydb_restoring_20261120t051200z_000042");
    let (one, two) = (named(&format!("{}1", "ä".repeat(30))), named(&format!("{}2", "ä".repeat(30))));
    for name in [&one.0, &one.1, &two.0, &two.1] {
        assert!(name.len() <= 63, "{name}");
    }
    assert!(one.0 != two.0 && one.1 != two.1 && one.0 != one.1);
}

#[test]
fn what_was_stolen_is_burnt_and_named_without_its_value() {
    let cluster = Cluster::start(&std::env::temp_dir()).unwrap();
    Shop::create(&cluster, 1, Size::Invoices(120)).unwrap();
    let server = server(&cluster).with_database("btcpaydb");
    let keys = btcpay::api_keys(&server).unwrap();
    assert_eq!((keys.len(), keys[0].permissions.as_slice()), (4, &["btcpay.store.canviewinvoices".to_owned()][..]));
    let hooks = btcpay::webhooks(&server).unwrap();
    assert!(hooks.iter().all(|hook| hook.is_active && hook.has_secret && !hook.stores.is_empty()), "{hooks:?}");
    let events: Vec<_> = hooks.iter().map(|hook| hook.events.clone()).collect();
    assert_eq!(events, [None, Some(vec!["InvoiceSettled".to_owned()])]);
    let payouts = btcpay::payouts(&server).unwrap();
    assert_eq!((payouts.processors.len(), payouts.processors[0].method.as_str()), (1, "BTC-CHAIN"));
    assert_eq!(payouts.pending, [("AwaitingPayment".to_owned(), 3)]);
    assert!(!format!("{keys:?}{hooks:?}").contains("demo-"), "no value of a key or secret");

    // Which event a test would be, of those that each of them wants; neither address nor secret is shown.
    let more = "INSERT INTO \"Webhooks\" VALUES ('hook3', '{\"url\": \"http://u:demo-@odd.example/?demo-\"}'), \
            ('hook4', '{\"active\": false, \"authorizedEvents\": {\"everything\": false, \
                \"specificEvents\": [\"PayoutCreated\"]}}'), \
            ('hook5', '{\"authorizedEvents\": {\"specificEvents\": [\"InvoiceSettled\", \"InvoiceProcessing\"]}}')";
    cluster.execute("btcpaydb", more).unwrap();
    let endpoints = btcpay::endpoints(&server).unwrap();
    assert!(!format!("{endpoints:?}").contains("demo-"), "{endpoints:?}");
    let events: Vec<_> = endpoints.iter().map(|one| (one.event, one.store.as_deref(), one.is_active)).collect();
    assert_eq!(
        events,
        [
            (Some("InvoiceCreated"), Some("store2"), true),
            (Some("InvoiceSettled"), Some("store1"), true),
            (Some("InvoiceCreated"), None, true),
            (None, None, false),
            (Some("InvoiceProcessing"), None, true),
        ]
    );
    cluster.execute("btcpaydb", "DELETE FROM \"Webhooks\" WHERE \"Id\" IN ('hook3', 'hook4', 'hook5')").unwrap();

    // Every twentieth delivery failed. Of invoice 40 a later try got through; of 8 only that it was made was told.
    let sql = "INSERT INTO \"WebhookDeliveries\" SELECT 'again', \"WebhookId\", \"Timestamp\" + interval '1 minute', \
        true, \
            '{\"status\": \"HttpSuccess\", \"httpCode\": 200, \"request\": {\"type\": \"InvoiceSettled\"}}'
            FROM \"WebhookDeliveries\" d JOIN \"InvoiceWebhookDeliveries\" l ON l.\"DeliveryId\" = d.\"Id\"
                JOIN \"Invoices\" i ON i.\"Id\" = l.\"InvoiceId\" WHERE get_orderid(i.\"Blob2\") = 'order-40'; \
        INSERT INTO \"InvoiceWebhookDeliveries\" SELECT \"Id\", \
            'again' FROM \"Invoices\" WHERE get_orderid(\"Blob2\") = 'order-40'; \
        UPDATE \"WebhookDeliveries\" SET \"Blob\" = \"Blob\" || '{\"request\": {\"type\": \"InvoiceCreated\"}}'
            WHERE \"Id\" IN (SELECT \"DeliveryId\" FROM \"InvoiceWebhookDeliveries\" l JOIN \"Invoices\" i ON i.\"Id\" = l.\"InvoiceId\"
                WHERE get_orderid(i.\"Blob2\") = 'order-8')";
    cluster.execute("btcpaydb", sql).unwrap();
    let undelivered = |most| btcpay::undelivered(&server, most).unwrap();
    let open = undelivered(3);
    assert!(!open.is_cut, "three are all");
    let open = open.list;
    let told = |open: &[btcpay::Undelivered]| -> Vec<(String, String)> {
        open.iter().map(|one| (one.order.clone().unwrap(), one.last.clone().unwrap_or_default())).collect()
    };
    let pair = |order: &str, last: &str| (order.to_owned(), last.to_owned());
    assert_eq!(
        told(&open),
        [pair("order-120", "HttpError 500"), pair("order-80", "HttpError 500"), pair("order-8", "HttpSuccess 200")]
    );
    assert_eq!(open[2].created, "2025-01-01T00:12:56Z");
    let cut = undelivered(2);
    assert_eq!((&cut.list[..], cut.is_cut), (&open[..2], true), "a list that was cut says so");
    let never = "DELETE FROM \"InvoiceWebhookDeliveries\" WHERE \"InvoiceId\" =
        (SELECT \"Id\" FROM \"Invoices\" WHERE get_orderid(\"Blob2\") = 'order-8')";
    cluster.execute("btcpaydb", never).unwrap();
    assert_eq!(told(&undelivered(3).list)[2], pair("order-8", ""), "never tried counts too");

    let all = [Burn::ApiKeys, Burn::Webhooks, Burn::PayoutProcessors];
    let burnt = btcpay::burn(&server, &all).unwrap();
    assert_eq!(burnt, Burnt { api_keys: 4, webhooks: 2, payout_processors: 1 });
    assert_eq!(btcpay::burn(&server, &all).unwrap(), Burnt::default(), "once more burns nothing more");
    assert!(btcpay::api_keys(&server).unwrap().is_empty());
    assert!(btcpay::payouts(&server).unwrap().processors.is_empty());
    let hooks = btcpay::webhooks(&server).unwrap();
    assert!(hooks.len() == 2 && hooks.iter().all(|hook| !hook.is_active && !hook.has_secret), "{hooks:?}");
    assert_eq!(hooks[0].url, "https://consumer1.example/hook");
    let left =
        cluster.query("btcpaydb", "SELECT count(*) FROM \"Webhooks\" WHERE \"Blob2\"::text LIKE '%secret%'").unwrap();
    assert_eq!(left, [[Some("0".to_owned())]]);

    // All or nothing: without one of the tables nothing is burnt.
    cluster
        .execute(
            "btcpaydb",
            "INSERT INTO \"ApiKeys\" VALUES ('demo-key-9', 'u', NULL, 0, 'new', '{}'); DROP TABLE \"PayoutProcessors\"",
        )
        .unwrap();
    assert!(matches!(btcpay::burn(&server, &all), Err(RestoreError::NotBtcpay { table: "PayoutProcessors", .. })));
    assert_eq!(count(&cluster, "btcpaydb", "ApiKeys"), "1");
}
