//! What a role wrote that may do nothing but own its tables does not run with more rights than that: not while its
//! database is dumped, not while the dump is tried out, not while it is restored, not afterwards.

use super::*;

/// A function for every way out of a session of a superuser's, and what calls it. Each way fails by itself, so that
/// none keeps the others from being tried; that it was called shows in the role's own sequence.
const SHOP: &str = r#"
CREATE FUNCTION try(how text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE how; EXCEPTION WHEN OTHERS THEN NULL; END $$;
CREATE FUNCTION evil(v text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    PERFORM public.try('RESET ROLE; CREATE ROLE taken_over SUPERUSER');
    PERFORM public.try('SET SESSION AUTHORIZATION DEFAULT; CREATE ROLE taken_over SUPERUSER');
    PERFORM public.try('SET ROLE postgres; CREATE ROLE taken_over SUPERUSER');
    PERFORM public.try('ALTER ROLE CURRENT_USER SUPERUSER');
    PERFORM public.try('CREATE ROLE taken_over');
    PERFORM public.try('GRANT pg_execute_server_program TO CURRENT_USER');
    PERFORM public.try('COPY (SELECT 1) TO PROGRAM ''touch MARKER''');
    PERFORM public.try('COPY (SELECT 1) TO ''MARKER''');
    PERFORM public.try('SELECT lo_export(lo_from_bytea(0, ''x''), ''MARKER'')');
    PERFORM public.try('CREATE TEMP TABLE found AS SELECT pg_read_file(''SECRET'') AS t; CREATE ROLE taken_over');
    PERFORM public.try('SELECT lo_import(''SECRET'', 4711)');
    PERFORM public.try('ALTER SYSTEM SET work_mem = ''77MB''');
    PERFORM public.try('ALTER DATABASE postgres SET work_mem = ''77MB''');
    PERFORM public.try('CREATE EVENT TRIGGER taken ON ddl_command_end EXECUTE FUNCTION public.et()');
    PERFORM public.try('CREATE FUNCTION public.c() RETURNS int LANGUAGE internal AS ''pg_backend_pid''');
    PERFORM public.try('CREATE EXTENSION file_fdw SCHEMA public');
    PERFORM public.try('CREATE EXTENSION adminpack');
    PERFORM public.try('CREATE EXTENSION plpython3u');
    PERFORM public.try('LOAD ''auto_explain''');
    RETURN v;
END $$;
CREATE FUNCTION et() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION is_fine(v text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM public.evil(v);
    RETURN true; END';
CREATE DOMAIN checked AS text CHECK (is_fine(VALUE));
CREATE TABLE bait (id int PRIMARY KEY, v text CHECK (is_fine(v)), d checked,
    g text GENERATED ALWAYS AS (evil(v)) STORED);
CREATE INDEX ON bait (evil(v));
CREATE INDEX ON bait (id) WHERE is_fine('constant');
CREATE MATERIALIZED VIEW filled AS SELECT evil(v) FROM bait;
CREATE FUNCTION on_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM public.evil(''x'');
    RETURN coalesce(NEW, OLD); END';
INSERT INTO bait SELECT n, 'x', 'y' FROM generate_series(1, 3) n;
REFRESH MATERIALIZED VIEW filled;
"#;

/// What a takeover would leave on a server.
fn signs(cluster: &Cluster, marker: &std::path::Path) -> Vec<String> {
    let sql = "SELECT 'role ' || rolname FROM pg_roles WHERE rolname = 'taken_over' OR (rolsuper AND oid <> 10)
        UNION ALL SELECT 'setting ' || name FROM pg_file_settings WHERE name = 'work_mem'
        UNION ALL SELECT 'database setting' FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database
        WHERE datname = 'postgres')";
    let rows = cluster.query("postgres", sql).unwrap();
    let mut signs: Vec<String> = rows.into_iter().map(|row| row[0].clone().unwrap()).collect();
    if marker.exists() {
        signs.push("a program ran".to_owned());
    }
    signs
}

/// A cluster with a database that a role without rights owns, filled with bait. The folder is open to the server.
fn baited(folder: &std::path::Path, owner: &str) -> (Cluster, std::path::PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let (marker, secret) = (folder.join("marker"), folder.join("secret"));
    std::fs::write(&secret, "AGE-SECRET-KEY-").unwrap();
    let cluster = Cluster::start(&std::env::temp_dir()).unwrap();
    cluster.execute("postgres", &format!("CREATE ROLE {owner} LOGIN")).unwrap();
    cluster.create_plain_database("btcpaydb").unwrap();
    cluster.execute("postgres", &format!("ALTER DATABASE btcpaydb OWNER TO {owner}")).unwrap();
    let shop = SHOP.replace("MARKER", marker.to_str().unwrap()).replace("SECRET", secret.to_str().unwrap());
    as_role(&cluster, owner, "btcpaydb", &shop);
    (cluster, marker)
}

fn as_role(cluster: &Cluster, role: &str, database: &str, sql: &str) {
    let url = cluster.url(database).replace("postgres@", &format!("{role}@"));
    let session = Server::parse(&url, None).unwrap().connect().unwrap();
    session.execute("do what the shop does", &format!("SET search_path = public; {sql}")).unwrap();
}

#[test]
fn nothing_of_a_dump_runs_with_more_rights_than_its_tables_need() {
    let folder = tempfile::tempdir().unwrap();
    let (old, marker) = baited(folder.path(), OWNER);
    assert_eq!(signs(&old, &marker), [""; 0], "the role itself can do nothing");
    let collected = read(&old, &["btcpaydb".to_owned()]);
    assert_eq!(signs(&old, &marker), [""; 0], "reading it as a superuser ran it");
    let (bytes, facts) = collected.dump("btcpaydb");

    // As `verify --depth meaning` does.
    let scratch = Cluster::start(&std::env::temp_dir()).unwrap();
    let tried = scratch.try_out(facts, &snapshot(), &Interrupt::new(), &mut &bytes[..]).unwrap();
    assert_eq!((tried.proof.differences.len(), tried.replayed.left_out.len()), (0, 0), "{tried:?}");
    assert_eq!(signs(&scratch, &marker), [""; 0]);

    // As `restore` does, with a superuser's URL.
    let new = Cluster::start(&std::env::temp_dir()).unwrap();
    let (server, snapshot, interrupt) = (server(&new), snapshot(), Interrupt::new());
    restore_roles(&server, collected.globals().0).unwrap();
    let landing = landing(&server, "btcpaydb", &snapshot, &interrupt);
    landing.make(facts).unwrap();
    let replayed = landing.fill(facts, &mut &bytes[..]).unwrap();
    let proved = landing.prove(facts).unwrap();
    assert_eq!((replayed.left_out, &proved.proof.unsettled), (vec![], &vec![]));
    landing.swap(proved).unwrap();
    assert_eq!(signs(&new, &marker), [""; 0]);
    assert_eq!(count(&new, "btcpaydb", "bait"), "3");
    let left = new.query("postgres", "SELECT rolname FROM pg_roles WHERE rolname LIKE 'relay%'").unwrap();
    assert!(left.is_empty(), "the role that restores is gone: {left:?}");

    // The attack is one: whoever runs it as a superuser is taken over.
    new.execute("btcpaydb", "SELECT evil('x')").unwrap();
    // The programs that it starts stand behind the scratch server's own walls.
    let taken = signs(&new, &marker);
    assert!(taken.contains(&"role taken_over".to_owned()), "{taken:?}");
}

/// A cast, an operator, an index on an expression, statistics, a policy: what a query of ours would call.
const TRAPS: &str = r#"
CREATE TYPE state AS ENUM ('AwaitingPayment', 'Completed', 'Cancelled');
CREATE FUNCTION told(state) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN public.evil(''x''); END';
CREATE CAST (state AS text) WITH FUNCTION told(state) AS ASSIGNMENT;
CREATE TABLE "Stores" ("Id" text); CREATE TABLE "AddressInvoices" ("Id" text);
CREATE TABLE "Invoices" ("Id" text, "Status" text, "ExceptionStatus" text, "Created" timestamptz);
CREATE TABLE "Payouts" ("Id" text, "State" state);
CREATE TABLE "PayoutProcessors" ("Id" text, "StoreId" text, "Processor" text, "PayoutMethodId" text);
INSERT INTO "Payouts" VALUES ('p', 'AwaitingPayment'); INSERT INTO "Invoices" VALUES ('i', 'New', '', '2026-01-01Z');
CREATE TABLE "ApiKeys" ("Id" text, "Label" text, "UserId" text, "StoreId" text, "Blob2" jsonb);
INSERT INTO "ApiKeys" VALUES ('k', 'one', 'u', 's', '{}');
CREATE INDEX ON "Payouts" ("Id") WHERE is_fine('constant');
CREATE INDEX ON "ApiKeys" ("Id") WHERE is_fine('constant');
CREATE STATISTICS traps ON "Id", (evil("Id")) FROM "Payouts";
ALTER TABLE "Invoices" ENABLE ROW LEVEL SECURITY;
CREATE POLICY trap ON "Invoices" USING (is_fine("Id"));
CREATE TRIGGER trap AFTER DELETE ON "ApiKeys" FOR EACH ROW EXECUTE FUNCTION on_change();
"#;

#[test]
fn no_query_of_ours_calls_what_a_tables_owner_made() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, marker) = baited(folder.path(), OWNER);
    as_role(&cluster, OWNER, "btcpaydb", TRAPS);
    let collected = read(&cluster, &["btcpaydb".to_owned()]);
    let (_, facts) = collected.dump("btcpaydb");
    let marks = facts.marks.btcpay.as_ref().unwrap();
    let states: Vec<_> = marks.payouts_by_state.iter().flatten().map(|one| (one.state.as_str(), one.count)).collect();
    assert_eq!((marks.invoices, states), (Some(1), vec![("AwaitingPayment", 1)]));
    assert_eq!(signs(&cluster, &marker), [""; 0], "a backup as a superuser ran it");
    // What a restore asks and burns afterwards, in the database in service.
    let server = server(&cluster).with_database("btcpaydb");
    occupancy(&server.with_database("postgres"), "btcpaydb").unwrap();
    btcpay::payouts(&server).unwrap();
    assert_eq!(btcpay::api_keys(&server).unwrap().len(), 1);
    assert_eq!(btcpay::burn(&server, &[Burn::ApiKeys]).unwrap().api_keys, 1);
    assert_eq!(signs(&cluster, &marker), [""; 0], "looking into it as a superuser ran it");
}

/// What a function of the shop's would change while it runs as the role that fills everything: a function of a
/// superuser's, a new one that runs with its owner's rights, a trigger on a superuser's table, and the mark of a
/// proved database.
const CHANGES: &str = r#"
CREATE FUNCTION try(how text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE how; EXCEPTION WHEN OTHERS THEN NULL; END $$;
CREATE FUNCTION evil(v text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    PERFORM public.try('CREATE OR REPLACE FUNCTION public.of_chief(sql text) RETURNS void LANGUAGE plpgsql
        SECURITY DEFINER AS ''BEGIN EXECUTE sql; END''');
    PERFORM public.try('CREATE FUNCTION public.backdoor(sql text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
        AS ''BEGIN EXECUTE sql; END''; GRANT EXECUTE ON FUNCTION public.backdoor(text) TO PUBLIC');
    PERFORM public.try('CREATE TRIGGER added AFTER INSERT ON public.of_chief FOR EACH ROW
        EXECUTE FUNCTION public.on_change()');
    PERFORM public.try(format('COMMENT ON DATABASE %I IS %L', current_database(), replace(
        (SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()),
        'being restored', 'proved')));
    PERFORM public.try(format('ALTER DATABASE %I SET search_path = evil', current_database()));
    RETURN true;
END $$;
CREATE FUNCTION on_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE bait (v text CHECK (evil(v)));
INSERT INTO bait VALUES ('x');
"#;

#[test]
fn what_ran_while_a_database_was_filled_is_given_to_nobody_with_more_rights() {
    for owner in ["chief", OWNER] {
        let old = Cluster::start(&std::env::temp_dir()).unwrap();
        let roles = format!("CREATE ROLE {OWNER} LOGIN; CREATE ROLE chief SUPERUSER LOGIN");
        old.execute("postgres", &roles).unwrap();
        old.create_plain_database("btcpaydb").unwrap();
        let of_chief = format!(
            "GRANT CREATE ON SCHEMA public TO {OWNER}; SET ROLE chief; CREATE TABLE of_chief (a int);
             CREATE FUNCTION of_chief(sql text) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'; RESET ROLE;
             ALTER DATABASE btcpaydb OWNER TO {owner}"
        );
        old.execute("btcpaydb", &of_chief).unwrap();
        as_role(&old, OWNER, "btcpaydb", CHANGES);
        let collected = read(&old, &["btcpaydb".to_owned()]);
        let (bytes, facts) = collected.dump("btcpaydb");
        let new = Cluster::start(&std::env::temp_dir()).unwrap();
        let (server, snapshot, interrupt) = (server(&new), snapshot(), Interrupt::new());
        restore_roles(&server, collected.globals().0).unwrap();
        let landing = Landing { owner: &facts.owner, ..landing(&server, "btcpaydb", &snapshot, &interrupt) };
        landing.make(facts).unwrap();
        landing.fill(facts, &mut &bytes[..]).unwrap();
        assert!(landing.proved_before().unwrap().is_none(), "the mark was written by what the dump brought");
        let fresh = landing.fresh_name();
        let unsettled = landing.prove(facts).unwrap().proof.unsettled;
        let whose = "SELECT proname::text FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner
            WHERE r.rolsuper AND p.pronamespace = 'public'::regnamespace
            UNION ALL SELECT relname::text FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
            WHERE r.rolsuper AND c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'";
        assert_eq!(new.query(&fresh, whose).unwrap(), Vec::<Vec<_>>::new(), "owner {owner}");
        let changed = "SELECT prosecdef::text FROM pg_proc WHERE proname = 'of_chief'";
        assert_eq!(new.query(&fresh, changed).unwrap(), [[Some("true".to_owned())]], "the attack did not run");
        let told: Vec<&str> = unsettled.iter().map(|one| one.what.as_str()).collect();
        for what in ["the owner of function public.of_chief(pg_catalog.text)", "the owner of table public.of_chief"] {
            assert!(told.contains(&what), "{what}: {told:?}");
        }
        let mut added = vec!["trigger added on public.of_chief"];
        added.extend(Some("function public.backdoor(pg_catalog.text)").filter(|_| owner == "chief"));
        for what in added {
            assert!(told.contains(&what), "{what}: {told:?}");
        }
        // The role that could be used to come to what stays with it lets nobody in.
        let role = "SELECT rolcanlogin::text, rolsuper::text FROM pg_roles WHERE rolname = 'relay_backup_restoring'";
        assert_eq!(new.query("postgres", role).unwrap(), [[Some("false".to_owned()), Some("false".to_owned())]]);
        let settings = "SELECT 1::text FROM pg_db_role_setting WHERE setdatabase <> 0";
        assert!(new.query("postgres", settings).unwrap().is_empty());
    }
}
