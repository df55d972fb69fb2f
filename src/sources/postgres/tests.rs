//! The source on real servers: dumps that come back row for row, and every way in which one can fail in silence.
use super::*;
use crate::artifact::{ArtifactKind, ArtifactSpec, Toxicity};
use crate::facts::Facts;
use crate::facts::postgres::{DatabaseFacts, GlobalsFacts, Passwords};
use crate::sandbox::cluster::{Cluster, tests::shared};
use crate::sandbox::shop::{Shop, Size};
use crate::sources::Body;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

/// Keeps whole artifacts; forgets those whose body failed, as the engine does.
#[derive(Debug, Default)]
pub(super) struct Collected {
    artifacts: BTreeMap<String, (ArtifactSpec, Vec<u8>, Facts)>,
    order: Vec<String>,
    findings: Vec<Finding>,
}

impl Sink for Collected {
    fn artifact(&mut self, spec: ArtifactSpec, body: Body<'_>) -> Result<(), SourceError> {
        let mut bytes = Vec::new();
        let facts = body(&mut bytes)?;
        self.order.push(spec.name.as_str().to_owned());
        self.artifacts.insert(spec.name.as_str().to_owned(), (spec, bytes, facts));
        Ok(())
    }

    fn finding(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}

/// Takes dumps and remembers where a segment was asked to end.
#[derive(Default)]
struct Marked {
    dumps: Vec<(Vec<u8>, Vec<usize>)>,
}

impl Sink for Marked {
    fn artifact(&mut self, _: ArtifactSpec, body: Body<'_>) -> Result<(), SourceError> {
        struct Marks(Vec<u8>, Vec<usize>);
        impl std::io::Write for Marks {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                self.1.push(self.0.len());
                Ok(())
            }
        }
        let mut marks = Marks(Vec::new(), Vec::new());
        if let Facts::PostgresDump(_) = body(&mut marks)? {
            self.dumps.push((marks.0, marks.1));
        }
        Ok(())
    }

    fn finding(&mut self, finding: Finding) {
        assert_eq!(finding.level, Level::Note, "{finding:?}");
    }
}

impl Collected {
    fn failed(&self) -> Vec<&Finding> {
        self.findings.iter().filter(|finding| finding.level >= Level::Degraded).collect()
    }

    pub(super) fn dump(&self, database: &str) -> (&[u8], &DatabaseFacts) {
        match &self.artifacts[&format!("pg/{database}.dump")] {
            (_, bytes, Facts::PostgresDump(facts)) => (bytes, facts),
            other => panic!("{:?} is no dump", other.0),
        }
    }

    pub(super) fn globals(&self) -> (&[u8], &GlobalsFacts) {
        match &self.artifacts["pg/globals.sql"] {
            (_, bytes, Facts::PostgresGlobals(facts)) => (bytes, facts),
            other => panic!("{:?} is no globals", other.0),
        }
    }
}

/// A name no other test uses.
pub(super) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}_{}", NEXT.fetch_add(1, Ordering::SeqCst))
}

fn read_with(url: &str, databases: &[String], programs: Programs) -> Collected {
    let mut sink = Collected::default();
    let name: SourceName = "pg".parse().unwrap();
    let interrupt = Interrupt::new();
    let source = Postgres { name: &name, url, passfile: None, databases, codec: Codec::Zstd, interrupt, programs };
    source.read(&mut sink).unwrap();
    sink
}

pub(super) fn read(cluster: &Cluster, databases: &[String]) -> Collected {
    read_with(&cluster.url("postgres"), databases, Programs::default())
}

/// Makes a database with this schema, dumps it, and restores it beside itself.
fn round_trip(cluster: &Cluster, database: &str) -> (DatabaseFacts, String) {
    let collected = read(cluster, &[database.to_owned()]);
    assert_eq!(collected.failed(), Vec::<&Finding>::new());
    let (bytes, facts) = collected.dump(database);
    let copy = format!("{database}_copy");
    cluster.create_database(&copy, facts).unwrap();
    cluster.restore(facts, &mut &bytes[..], &copy).unwrap();
    (facts.clone(), copy)
}

fn proof(cluster: &Cluster, database: &str, facts: &DatabaseFacts) -> Proof {
    prove(&cluster.url(database), None, facts).unwrap()
}

fn differing(cluster: &Cluster, database: &str, facts: &DatabaseFacts) -> Vec<String> {
    proof(cluster, database, facts).differences.into_iter().map(|difference| difference.subject).collect()
}

/// A script that stands in for a program.
fn script(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pg_dump");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (folder, path)
}

#[test]
fn a_shop_comes_back_row_for_row_and_every_change_is_named() {
    let cluster = Cluster::start(&std::env::temp_dir()).unwrap();
    Shop::create(&cluster, 7, Size::Invoices(600)).unwrap();
    // The server's own settings must not show in rows or digests.
    for setting in [
        "timezone TO 'Asia/Kolkata'",
        "bytea_output TO 'escape'",
        "datestyle TO 'SQL, DMY'",
        "client_encoding TO 'LATIN1'",
    ] {
        cluster.execute("postgres", &format!("ALTER DATABASE btcpaydb SET {setting}")).unwrap();
    }
    cluster.execute("postgres", "CREATE ROLE clerk LOGIN PASSWORD 'geheim'").unwrap();
    cluster.execute("btcpaydb", "GRANT SELECT ON \"Stores\" TO clerk").unwrap();
    let collected = read(&cluster, &["nbxplorer".to_owned(), "postgres".to_owned(), "btcpaydb".to_owned()]);
    assert_eq!(collected.failed(), Vec::<&Finding>::new());
    let order = ["pg/btcpaydb.dump", "pg/nbxplorer.dump", "pg/postgres.dump", "pg/globals.sql"];
    assert_eq!(collected.order, order);
    let (bytes, facts) = collected.dump("btcpaydb");
    assert_eq!(facts.software, Software::Btcpay);
    assert_eq!(facts.large_objects.count, 4);
    assert!(facts.roles.contains(&"clerk".to_owned()));
    let marks = facts.marks.btcpay.as_ref().unwrap();
    assert_eq!((marks.invoices, marks.invoices_unsettled), (Some(600), Some(150)));
    assert_eq!(marks.newest_migration.as_deref(), Some("20260610081428_latest"));
    assert_eq!((marks.payout_processors, marks.webhooks_undelivered), (Some(1), None));
    assert_eq!(marks.newest_invoice.as_deref(), Some("2025-01-01T16:10:00.000000Z"));
    let invoices = facts.tables.iter().find(|table| table.name == "Invoices").unwrap();
    assert_eq!((invoices.rows, invoices.columns.len()), (600, 10));
    let odds = facts.tables.iter().find(|table| table.name == "Odds").unwrap();
    assert!(!odds.columns.contains(&"halved".to_owned()), "generated columns are not in a dump");
    let (_, nbx) = collected.dump("nbxplorer");
    let marks = nbx.marks.nbxplorer.as_ref().unwrap();
    assert_eq!((marks.hot_wallet_keys, marks.has_block_locator), (Some(2), Some(true)));
    let highest = cluster.query("nbxplorer", "SELECT max(height) FROM blks WHERE confirmed").unwrap();
    assert_eq!(marks.height.map(|height| height.to_string()), highest[0][0]);
    assert_eq!(marks.descriptors.as_ref().unwrap().len(), 6);
    assert_eq!(nbx.materialized_views.iter().map(|view| view.populated).collect::<Vec<_>>(), [true, false]);
    let (globals, roles) = collected.globals();
    assert_eq!(roles.passwords, Passwords::Included);
    assert!(roles.roles.iter().any(|role| role.name == "clerk" && role.attributes == ["login"]));
    assert!(String::from_utf8_lossy(globals).contains("CREATE ROLE clerk"));
    // Facts go into the notes as JSON and come back the same.
    let json = serde_json::to_string(facts).unwrap();
    assert_eq!(serde_json::from_str::<DatabaseFacts>(&json).unwrap(), *facts);

    let other = Cluster::start(&std::env::temp_dir()).unwrap();
    other.create_database("copy", facts).unwrap();
    other.restore(facts, &mut &bytes[..], "copy").unwrap();
    let equal = proof(&other, "copy", facts);
    assert_eq!(equal.differences, []);
    assert_eq!((equal.tables, equal.sequences, equal.large_objects), (facts.tables.len(), 2, 4));
    let (bytes, _) = collected.dump("nbxplorer");
    other.create_database("nbx", nbx).unwrap();
    other.restore(nbx, &mut &bytes[..], "nbx").unwrap();
    assert_eq!(proof(&other, "nbx", nbx).differences, []);
    let changes = [
        ("UPDATE \"Stores\" SET \"StoreName\" = 'Shop 4' WHERE \"Id\" = 'store1'", "table public.Stores"),
        ("INSERT INTO \"ApiKeys\" VALUES ('new', '', '', 0, '', NULL)", "table public.ApiKeys"),
        ("DELETE FROM \"Odds\" WHERE id = 3", "table public.Odds"),
        ("UPDATE \"Payouts\" SET \"Blob\" = NULL WHERE \"Id\" = 'payout1'", "table public.Payouts"),
        ("SELECT setval('\"InvoiceSearches_Id_seq\"', 5)", "sequence public.InvoiceSearches_Id_seq"),
        ("SELECT lo_put((SELECT max(loid) FROM pg_largeobject), 5, 'x')", "large objects"),
        ("DROP TABLE \"PayoutProcessors\"", "table public.PayoutProcessors"),
        ("CREATE TABLE surplus (a int)", "table public.surplus"),
        ("ALTER TABLE \"Webhooks\" RENAME \"Blob2\" TO \"Blob3\"", "table public.Webhooks"),
    ];
    let mut expected: Vec<&str> = Vec::new();
    for (sql, subject) in changes {
        other.execute("copy", sql).unwrap();
        expected.push(subject);
        let mut found = differing(&other, "copy", facts);
        found.sort();
        expected.sort_unstable();
        assert_eq!(found, expected, "after {sql}");
    }
    other.execute("nbx", "REFRESH MATERIALIZED VIEW wallets_unfilled").unwrap();
    let unsettled = proof(&other, "nbx", nbx).unsettled;
    assert_eq!(unsettled.len(), 1, "{unsettled:?}");
    assert_eq!(unsettled[0].what, "materialised view public.wallets_unfilled");
}

#[test]
fn odd_tables_come_back() {
    let cluster = shared();
    let database = unique("oddtables");
    cluster.create_plain_database(&database).unwrap();
    let schema = "CREATE SCHEMA \"my \"\"schema\"; \
        CREATE TABLE empty (a int, b text); CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; \
        CREATE TABLE \"my \"\"schema\".\"T, (x)\" (\"a, b\" text, \"q\"\"q\" int, \"ä\" text); \
        INSERT INTO \"my \"\"schema\".\"T, (x)\" VALUES ('x', 1, 'ö'), (NULL, 2, ''); \
        CREATE TABLE parted (day date, n int) PARTITION BY RANGE (day); \
        CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2026-07-01'); \
        CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2026-07-01') TO ('2027-01-01'); \
        INSERT INTO parted SELECT date '2026-01-01' + n, n FROM generate_series(0, 300) n; \
        CREATE TABLE parent (a int); CREATE TABLE child (b int) INHERITS (parent); \
        INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 3); \
        CREATE UNLOGGED TABLE quick (a int); INSERT INTO quick VALUES (1); \
        CREATE TABLE dropped (a int, b int, c int); INSERT INTO dropped VALUES (1, 2, 3); ALTER TABLE dropped DROP b; \
        CREATE TABLE long (a text); INSERT INTO long VALUES (repeat('lang', 500000)), ('kurz'); \
        CREATE TABLE same (a int); INSERT INTO same SELECT 1 FROM generate_series(1, 1000); \
        CREATE EXTENSION hstore SCHEMA public; CREATE TABLE pairs (h hstore); INSERT INTO pairs
            VALUES ('a=>1, b=>NULL'); \
        CREATE SEQUENCE untouched; CREATE SEQUENCE down INCREMENT -1; SELECT nextval('down');";
    cluster.execute(&database, schema).unwrap();
    let (facts, copy) = round_trip(&cluster, &database);
    assert_eq!(proof(&cluster, &copy, &facts).differences, []);
    let rows = |name: &str| facts.tables.iter().find(|table| table.name == name).map(|table| table.rows);
    assert_eq!(rows("empty"), Some(0));
    assert_eq!(rows("nothing"), Some(1));
    assert_eq!((rows("parted"), rows("parted_1"), rows("parted_2")), (None, Some(181), Some(120)));
    assert_eq!((rows("parent"), rows("child")), (Some(1), Some(1)));
    assert_eq!(rows("same"), Some(1000));
    cluster.execute(&copy, "DELETE FROM same WHERE ctid = '(0,1)'").unwrap();
    cluster.execute(&copy, "UPDATE long SET a = overlay(a placing 'L' from 1000000) WHERE a <> 'kurz'").unwrap();
    let mut found = differing(&cluster, &copy, &facts);
    found.sort();
    assert_eq!(found, ["table public.long", "table public.same"]);
}

#[test]
fn what_differs_in_every_run_is_marked_off_from_the_rows() {
    let cluster = shared();
    let database = unique("still");
    cluster.create_plain_database(&database).unwrap();
    cluster.execute(&database, "CREATE TABLE a AS SELECT n, md5(n::text) FROM generate_series(1, 50000) n").unwrap();
    let mut sink = Marked::default();
    let (name, databases): (SourceName, _) = ("pg".parse().unwrap(), [database.clone(), database]);
    let url = cluster.url("postgres");
    let (interrupt, programs) = (Interrupt::new(), Programs::default());
    let databases = &databases[..];
    let source =
        Postgres { name: &name, url: &url, passfile: None, databases, codec: Codec::Zstd, interrupt, programs };
    source.read(&mut sink).unwrap();
    let [(one, one_marks), (other, other_marks)] = &sink.dumps[..] else { panic!("two dumps were expected") };
    let ([one_head], [other_head]) = (&one_marks[..], &other_marks[..]) else { panic!("one mark in each") };
    assert!(*one_head < 64 * 1024 && one.len() > 1_000_000);
    assert_eq!(one[*one_head..], other[*other_head..]);
}

#[test]
fn another_encoding_comes_back() {
    let cluster = shared();
    let database = unique("latin");
    let options = "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'";
    cluster.execute("postgres", &format!("CREATE DATABASE {database} {options}")).unwrap();
    cluster
        .execute(&database, "CREATE TABLE \"Käufer\" (\"Größe\" text); INSERT INTO \"Käufer\" VALUES ('Ärger'), ('x')")
        .unwrap();
    cluster.execute(&database, "CREATE SEQUENCE \"zähler\"").unwrap();
    let (facts, copy) = round_trip(&cluster, &database);
    assert_eq!(facts.encoding, "LATIN1");
    assert_eq!((facts.tables[0].name.as_str(), facts.tables[0].columns[0].as_str()), ("Käufer", "Größe"));
    assert_eq!(facts.sequences[0].name, "zähler");
    assert_eq!(proof(&cluster, &copy, &facts).differences, []);
    cluster.execute(&copy, "UPDATE \"Käufer\" SET \"Größe\" = 'Årger' WHERE \"Größe\" = 'Ärger'").unwrap();
    assert_eq!(differing(&cluster, &copy, &facts), ["table public.Käufer"]);
}

#[test]
fn another_locale_provider_comes_back() {
    let cluster = shared();
    if cluster.major() < 15 {
        return; // ICU as a database's provider came with PostgreSQL 15.
    }
    let database = unique("icu");
    let options =
        "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' LC_COLLATE 'C' LC_CTYPE 'C'";
    cluster.execute("postgres", &format!("CREATE DATABASE {database} {options}")).unwrap();
    cluster
        .execute(&database, "CREATE TABLE a (t text PRIMARY KEY); INSERT INTO a VALUES ('Ä'), ('b'), ('A')")
        .unwrap();
    let (facts, copy) = round_trip(&cluster, &database);
    assert_eq!((facts.locale_provider.as_str(), facts.locale.as_deref()), ("icu", Some("de-DE")));
    assert_eq!(proof(&cluster, &copy, &facts).differences, []);
    let sql = format!("SELECT datlocprovider FROM pg_database WHERE datname = '{copy}'");
    assert_eq!(cluster.query("postgres", &sql).unwrap(), [[Some("i".to_owned())]]);
}

#[test]
fn writes_during_the_dump_do_not_show() {
    let cluster = shared();
    let database = unique("busy");
    cluster.create_plain_database(&database).unwrap();
    let fill = "CREATE TABLE \"Stores\" (a int); CREATE TABLE \"AddressInvoices\" (a int); CREATE TABLE b (n bigint); \
        CREATE TABLE \"Invoices\" (\"Id\" bigint, \"Status\" text, \"ExceptionStatus\" text); \
        INSERT INTO \"Invoices\" SELECT n, 'New', repeat(md5((n % 5)::text), 20) FROM generate_series(1, 20000) n; \
        INSERT INTO b SELECT count(*) FROM \"Invoices\"";
    let write = "BEGIN; INSERT INTO \"Invoices\" VALUES (0, 'New', ''); UPDATE b SET n = n + 1; COMMIT";
    cluster.execute(&database, fill).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (facts, copy) = std::thread::scope(|scope| {
        scope.spawn(|| {
            // One transaction keeps b equal to the number of invoices.
            let session = cluster.session(&database).unwrap();
            while !stop.load(Ordering::SeqCst) {
                session.execute("write", write).unwrap();
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| round_trip(&cluster, &database)));
        stop.store(true, Ordering::SeqCst);
        result.unwrap()
    });
    assert_eq!(proof(&cluster, &copy, &facts).differences, []);
    let same = cluster.query(&copy, "SELECT (SELECT count(*) FROM \"Invoices\") = (SELECT n FROM b)").unwrap();
    assert_eq!(same, [[Some("t".to_owned())]]);
    let rows = facts.tables.iter().find(|table| table.name == "Invoices").unwrap().rows;
    assert_eq!(facts.marks.btcpay.as_ref().unwrap().invoices, Some(rows), "marks and dump are of one moment");
    assert_eq!(differing(&cluster, &database, &facts).len(), 2, "the live database has gone on");
}

#[test]
fn channel_state_makes_a_dump_toxic() {
    let cluster = shared();
    let database = unique("node");
    cluster.create_plain_database(&database).unwrap();
    cluster
        .execute(&database, "CREATE TABLE channels (a int); CREATE TABLE shachains (a int); CREATE TABLE vars (a int)")
        .unwrap();
    let collected = read(&cluster, std::slice::from_ref(&database));
    let spec = &collected.artifacts[&format!("pg/{database}.dump")].0;
    assert_eq!((spec.toxicity, spec.kind), (Toxicity::Toxic, ArtifactKind::PostgresDump));
    let (_, facts) = collected.dump(&database);
    assert_eq!((facts.software, facts.channel_tables.len()), (Software::Cln, 3));
}

#[test]
fn dumps_that_fail_in_silence_are_noticed_and_others_are_kept() {
    let cluster = shared();
    let (good, bad) = (unique("good"), unique("bad"));
    for database in [&good, &bad] {
        cluster.create_plain_database(database).unwrap();
        cluster
            .execute(
                database,
                "CREATE TABLE a AS SELECT n, md5(n::text) FROM generate_series(1, 3000) n; CREATE TABLE b (n int)",
            )
            .unwrap();
    }
    let real = programs::for_server("pg_dump", cluster.major()).unwrap();
    let real = real.path.display();
    // Each does what it does for the bad database only.
    let run = |deed: &str| {
        let text = format!(
            "case \"$*\" in *--version*) exec {real} \"$@\";; *\"dbname='{bad}'\"*) {deed};; *) exec {real} \"$@\";; \
                esac"
        );
        let (_folder, path) = script(&text);
        let programs = Programs { pg_dump: Some(path), pg_dumpall: None };
        read_with(&cluster.url("postgres"), &[bad.clone(), good.clone()], programs)
    };
    let cases = [
        (format!("{real} \"$@\" | head -c 40000; echo 'no luck' >&2; exit 1"), "no luck"),
        (format!("{real} \"$@\" | head -c 40000; exit 0"), "stops short, inside table public.a"),
        (format!("{real} \"$@\" | head -c 900; exit 0"), "stops short, inside its table of contents"),
        ("exit 0".to_owned(), "the dump is empty"),
        ("echo '-- PostgreSQL database dump'; exit 0".to_owned(), "not a dump in pg_dump's custom format"),
        (
            format!("{real} \"$@\" --exclude-table=public.b"),
            "lacks 1 tables that the server has, first of all public.b",
        ),
        (format!("{real} \"$@\" --compress=6"), "compressed"),
        ("kill -9 $$".to_owned(), "signal 9"),
    ];
    for (deed, expected) in &cases {
        let collected = run(deed);
        let failed = collected.failed();
        assert_eq!(failed.len(), 1, "{deed}: {failed:?}");
        assert_eq!((failed[0].level, failed[0].code.as_str()), (Level::Failed, "dump-failed"));
        assert_eq!(failed[0].subject, format!("pg/{bad}.dump"));
        assert!(failed[0].message.contains(expected), "{deed}: {}", failed[0].message);
        assert_eq!(collected.order, [format!("pg/{good}.dump"), "pg/globals.sql".to_owned()]);
    }
    let collected = run(&format!("{real} \"$@\"; echo 'circular foreign keys' >&2"));
    assert_eq!(collected.failed(), Vec::<&Finding>::new());
    assert!(
        collected.findings.iter().any(|finding| finding.code == "dump-warned" && finding.message.contains("circular"))
    );
    for (deed, expected) in
        [("exit 0", "it is empty"), ("echo '--'; exit 0", "last line is missing"), ("exit 3", "exit code 3")]
    {
        let (_folder, path) =
            script(&format!("case \"$*\" in *--version*) echo 'pg_dumpall (PostgreSQL) 15.1';; *) {deed};; esac"));
        let programs = Programs { pg_dump: None, pg_dumpall: Some(path) };
        let collected = read_with(&cluster.url("postgres"), std::slice::from_ref(&good), programs);
        assert_eq!(collected.order, [format!("pg/{good}.dump")]);
        assert!(collected.failed()[0].message.contains(expected), "{:?}", collected.findings);
    }
}

#[test]
fn a_role_with_few_rights_is_told_what_it_lacks() {
    let cluster = shared();
    let (database, role, weak) = (unique("rights"), unique("reader"), unique("weak"));
    cluster.create_plain_database(&database).unwrap();
    cluster.execute(&database, "CREATE TABLE a (n int)").unwrap();
    cluster
        .execute(
            "postgres",
            &format!("CREATE ROLE {role} LOGIN; CREATE ROLE {weak} LOGIN; GRANT pg_read_all_data TO {role}"),
        )
        .unwrap();
    let url = |role: &str| cluster.url("postgres").replace("postgres@", &format!("{role}@"));
    let collected = read_with(&url(&weak), std::slice::from_ref(&database), Programs::default());
    assert_eq!(collected.order, ["pg/globals.sql"], "{:?}", collected.findings);
    assert!(collected.failed()[0].message.contains("permission denied"), "{:?}", collected.findings);
    assert!(collected.failed()[0].hint.as_ref().unwrap().contains("GRANT pg_read_all_data"));
    assert_eq!(collected.globals().1.passwords, Passwords::Absent);
    let collected = read_with(&url(&role), &["no such".to_owned(), database.clone()], Programs::default());
    assert_eq!(collected.failed().len(), 1, "{:?}", collected.findings);
    assert_eq!(collected.failed()[0].subject, "pg/no_x20such.dump");
    assert!(collected.failed()[0].hint.as_ref().unwrap().contains("there is no database"));
    assert!(collected.artifacts.contains_key(&format!("pg/{database}.dump")));
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    let name: SourceName = "pg".parse().unwrap();
    let databases = ["x".to_owned()];
    let interrupt = Interrupt::new();
    let url = "postgresql://u@/postgres?host=/nonexistent";
    let mut source = Postgres {
        name: &name,
        url,
        passfile: None,
        databases: &databases,
        codec: Codec::Zstd,
        interrupt,
        programs: Programs::default(),
    };
    let mut sink = Collected::default();
    let error = source.read(&mut sink).unwrap_err();
    assert!(error.hint().unwrap().contains("socket folder"), "{error}");
    let cluster = shared();
    let url = cluster.url("postgres");
    source.url = &url;
    source.interrupt.set();
    assert!(matches!(source.read(&mut sink), Err(SourceError::Sink(_))));
}

#[test]
fn a_dump_that_breaks_off_is_an_error_and_a_role_that_is_gone_is_named() {
    let cluster = shared();
    let database = unique("half");
    cluster.create_plain_database(&database).unwrap();
    cluster
        .execute(
            &database,
            "CREATE ROLE broken_off_owner; \
        CREATE TABLE a AS SELECT n FROM generate_series(1, 5000) n; GRANT SELECT ON a TO broken_off_owner",
        )
        .unwrap();
    let collected = read(&cluster, std::slice::from_ref(&database));
    let (bytes, facts) = collected.dump(&database);
    let copy = format!("{database}_copy");
    cluster.create_database(&copy, facts).unwrap();
    let error = cluster.restore(facts, &mut &bytes[..bytes.len() / 2], &copy).unwrap_err();
    assert!(error.is_of_the_dump(), "{error:?}");
    cluster.drop_database(&copy).unwrap();
    cluster.execute(&database, "DROP OWNED BY broken_off_owner; DROP ROLE broken_off_owner").unwrap();
    cluster.create_plain_database(&copy).unwrap();
    assert!(cluster.restore(facts, &mut &bytes[..], &copy).unwrap().left_out.is_empty());
    let server = Server::parse(&cluster.url(&copy), None).unwrap();
    let unsettled = restore::compare_rights(&server, facts).unwrap();
    let told: Vec<String> = unsettled.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["the right SELECT on table public.a for broken_off_owner was not given back: it was given and is not"]
    );
    assert_eq!(unsettled[0].statement.as_deref(), Some("GRANT SELECT ON TABLE public.a TO \"broken_off_owner\""));
    let newer = DatabaseFacts { server: ServerVersion { number: 990_000, text: "99".to_owned() }, ..facts.clone() };
    assert!(cluster.create_database("never", &newer).unwrap_err().hint().unwrap().contains("PostgreSQL 99"));
    let elsewhere =
        DatabaseFacts { collation: "xx_XX.UTF-8".to_owned(), ctype: "xx_XX.UTF-8".to_owned(), ..facts.clone() };
    let made = cluster.create_database(&unique("elsewhere"), &elsewhere).unwrap();
    assert!(made.notes[0].contains("xx_XX.UTF-8"));
}

#[test]
fn a_name_that_is_no_text_is_refused_with_what_to_do() {
    let cluster = shared();
    let database = unique("bytes");
    let sql = format!("CREATE DATABASE {database} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'");
    cluster.execute("postgres", &sql).unwrap();
    let sql = "DO $$ BEGIN EXECUTE 'CREATE TABLE \"' || convert_from('\\xe4', 'SQL_ASCII') || '\" (a int)'; END $$";
    cluster.execute(&database, sql).unwrap();
    let collected = read(&cluster, std::slice::from_ref(&database));
    let failed = collected.failed();
    let hint = failed[0].hint.as_deref().unwrap();
    assert!(hint.contains("SQL_ASCII") && hint.contains("rename"), "{failed:?}");
}

#[test]
fn a_server_that_wants_tls_is_told_apart() {
    let cluster = Cluster::start(&std::env::temp_dir()).unwrap();
    let hba = cluster.folder().join("data/pg_hba.conf");
    std::fs::write(&hba, "local all postgres trust\nlocal all all peer\n").unwrap();
    cluster.execute("postgres", "CREATE ROLE nobodys LOGIN; SELECT pg_reload_conf()").unwrap();
    let url = cluster.url("postgres").replace("postgres@", "nobodys@");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let error = loop {
        match Server::parse(&url, None).unwrap().connect() {
            Ok(_) if std::time::Instant::now() < deadline => {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            Ok(_) => panic!("it was let in"),
            Err(error) => break error,
        }
    };
    assert!(error.hint().unwrap().contains("peer"), "{error:?}");
    let tls = PostgresError::Connect {
        database: "x".to_owned(),
        place: "here".to_owned(),
        source: said::Said::for_test("FATAL: no pg_hba.conf entry for host \"127.0.0.1\", user \"u\", no encryption"),
    };
    assert!(tls.hint().unwrap().contains("TLS"));
}

#[test]
fn marks_are_read_without_a_dump_and_old_versions_are_no_error() {
    let cluster = shared();
    let database = unique("old");
    cluster.create_plain_database(&database).unwrap();
    let old = "CREATE TABLE \"Stores\" (\"Id\" text); CREATE TABLE \"AddressInvoices\" (\"Address\" text); \
        CREATE TABLE \"Invoices\" (\"Id\" text, \"Status\" text, \"ExceptionStatus\" text, \"Created\" timestamptz); \
        CREATE TABLE \"WebhookDeliveries\" (\"Id\" text, \"WebhookId\" text, \"Timestamp\" timestamptz, \"Blob\" bytea); \
        INSERT INTO \"Invoices\" VALUES ('a', 'paid', NULL, '2020-01-01 00:00:00Z')";
    cluster.execute(&database, old).unwrap();
    let name: SourceName = "pg".parse().unwrap();
    let (url, databases) = (cluster.url("postgres"), [database.clone()]);
    let interrupt = Interrupt::new();
    let source = Postgres {
        name: &name,
        url: &url,
        passfile: None,
        databases: &databases,
        codec: Codec::Zstd,
        interrupt,
        programs: Programs::default(),
    };
    let marks = source.marks().unwrap().remove(0).1.unwrap().btcpay.unwrap();
    assert_eq!((marks.invoices, marks.invoices_unsettled, marks.payments), (Some(1), Some(1), None));
    assert_eq!((marks.webhooks_undelivered, marks.newest_webhook_delivery), (None, None));
}

#[test]
fn a_password_comes_from_the_passfile_and_is_never_told() {
    let cluster = Cluster::start(&std::env::temp_dir()).unwrap();
    cluster.create_plain_database("shop").unwrap();
    let role = "CREATE ROLE keeper LOGIN PASSWORD 'hunter:2\\'; GRANT pg_read_all_data TO keeper";
    cluster.execute("postgres", role).unwrap();
    let hba = cluster.folder().join("data/pg_hba.conf");
    let old = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("local all keeper scram-sha-256\n{old}")).unwrap();
    cluster.execute("postgres", "SELECT pg_reload_conf()").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let passfile = folder.path().join("pass");
    let read = |line: &str| {
        std::fs::write(&passfile, line).unwrap();
        std::fs::set_permissions(&passfile, std::fs::Permissions::from_mode(0o600)).unwrap();
        let name: SourceName = "pg".parse().unwrap();
        let (url, databases) = (cluster.url("postgres").replace("postgres@", "keeper@"), ["shop".to_owned()]);
        let (interrupt, programs) = (Interrupt::new(), Programs::default());
        let passfile = Some(passfile.as_path());
        let source = Postgres {
            name: &name,
            url: &url,
            passfile,
            databases: &databases,
            codec: Codec::Zstd,
            interrupt,
            programs,
        };
        let mut sink = Collected::default();
        // The reload may come a moment after its order.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            match source.read(&mut sink) {
                Ok(()) if line.contains("wrong") && std::time::Instant::now() < deadline => {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
                result => return result.map(|()| sink),
            }
        }
    };
    let error = read("*:*:*:keeper:wrong\n").unwrap_err();
    let told = format!("{} {error:?}", chain(&error));
    assert!(error.hint().unwrap().contains("passfile") && !told.contains("wrong"), "{told}");
    let collected = read(&format!("{}:5432:*:keeper:hunter\\:2\\\\\n", cluster.socket().display())).unwrap();
    assert_eq!(collected.failed(), Vec::<&Finding>::new());
    assert_eq!(collected.order, ["pg/shop.dump", "pg/globals.sql"]);
}
