//! Owners, rights, defaults and what belongs to the database itself come back, or are named.

use super::*;

/// Makes the roles on both servers, fills the old one's database, and brings it to the new one.
fn moved(roles: &str, database: &str, schema: &str) -> (Cluster, Cluster, Proved) {
    let (old, new) = (Cluster::start(&std::env::temp_dir()).unwrap(), Cluster::start(&std::env::temp_dir()).unwrap());
    old.create_plain_database("btcpaydb").unwrap();
    old.execute("postgres", roles).unwrap();
    old.execute("postgres", database).unwrap();
    old.execute("btcpaydb", schema).unwrap();
    let collected = read(&old, &["btcpaydb".to_owned()]);
    let (bytes, facts) = collected.dump("btcpaydb");
    let (server, snapshot, interrupt) = (server(&new), snapshot(), Interrupt::new());
    restore_roles(&server, collected.globals().0).unwrap();
    let landing = Landing { owner: &facts.owner, ..landing(&server, "btcpaydb", &snapshot, &interrupt) };
    landing.make(facts).unwrap();
    let replayed = landing.fill(facts, &mut &bytes[..]).unwrap();
    assert_eq!(replayed.left_out, [], "{replayed:?}");
    let proved = landing.prove(facts).unwrap();
    (old, new, proved)
}

const ROLES: &str = "CREATE ROLE shop LOGIN; CREATE ROLE clerk LOGIN; CREATE ROLE reader; CREATE ROLE \"odd \"\"one\" LOGIN; \
    CREATE ROLE chief LOGIN SUPERUSER";
const SCHEMA: &str = "
    CREATE SCHEMA own AUTHORIZATION clerk; GRANT USAGE ON SCHEMA own TO shop; GRANT CREATE ON SCHEMA public TO shop; \
    CREATE TABLE \"Invoices\" (id serial PRIMARY KEY, n text, secret text); ALTER TABLE \"Invoices\" OWNER TO shop; \
    INSERT INTO \"Invoices\" (n) SELECT 'x' || g FROM generate_series(1, 100) g; \
    GRANT SELECT ON \"Invoices\" TO reader WITH GRANT OPTION; GRANT UPDATE (n) ON \"Invoices\" TO clerk; \
    REVOKE DELETE ON \"Invoices\" FROM shop; GRANT INSERT ON \"Invoices\" TO PUBLIC; \
    SET ROLE reader; GRANT SELECT ON \"Invoices\" TO \"odd \"\"one\"; RESET ROLE; \
    CREATE TABLE own.kept (a int); ALTER TABLE own.kept OWNER TO clerk; CREATE VIEW own.seen AS SELECT n FROM \"Invoices\"; \
        ALTER VIEW own.seen OWNER TO \"odd \"\"one\"; \
    CREATE FUNCTION f(a int, b text) RETURNS int LANGUAGE sql AS 'SELECT 1'; \
    ALTER FUNCTION f(int, text) OWNER TO clerk; \
    REVOKE EXECUTE ON FUNCTION f(int, text) FROM PUBLIC; GRANT EXECUTE ON FUNCTION f(int, text) TO reader; \
    CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'; ALTER PROCEDURE p() OWNER TO shop; \
    CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int); ALTER AGGREGATE total(int) OWNER TO clerk; \
    CREATE AGGREGATE number(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0'); \
        ALTER AGGREGATE number(*) OWNER TO clerk; \
    CREATE TYPE colour AS ENUM ('red'); ALTER TYPE colour OWNER TO shop; CREATE DOMAIN few AS int CHECK (VALUE < 9); \
    ALTER DOMAIN few OWNER TO clerk; CREATE TYPE pair AS (a int, b int); ALTER TYPE pair OWNER TO clerk; \
    CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl); \
        ALTER OPERATOR ### (int, int) OWNER TO clerk; \
    CREATE COLLATION mine FROM \"C\"; ALTER COLLATION mine OWNER TO clerk; \
    CREATE TEXT SEARCH CONFIGURATION tongue (COPY = simple); ALTER TEXT SEARCH CONFIGURATION tongue OWNER TO clerk; \
    CREATE STATISTICS two ON id, n FROM \"Invoices\"; ALTER STATISTICS two OWNER TO clerk; \
    CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM \"Invoices\"; \
        ALTER MATERIALIZED VIEW counted OWNER TO shop; \
    CREATE SEQUENCE loose; ALTER SEQUENCE loose OWNER TO clerk; GRANT USAGE ON SEQUENCE loose TO shop; \
    SELECT lo_create(4711); ALTER LARGE OBJECT 4711 OWNER TO clerk; GRANT SELECT ON LARGE OBJECT 4711 TO shop; \
        SELECT lo_create(4712); \
    ALTER DEFAULT PRIVILEGES FOR ROLE chief IN SCHEMA public GRANT SELECT ON TABLES TO reader; \
    ALTER DEFAULT PRIVILEGES FOR ROLE shop REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC; \
    ALTER DEFAULT PRIVILEGES FOR ROLE clerk GRANT USAGE ON SEQUENCES TO shop WITH GRANT OPTION; \
    COMMENT ON TABLE \"Invoices\" IS 'it''s; ours'";
const DATABASE: &str = "ALTER DATABASE btcpaydb OWNER TO shop; REVOKE CONNECT ON DATABASE btcpaydb FROM PUBLIC; \
    GRANT CONNECT, TEMP ON DATABASE btcpaydb TO reader; ALTER DATABASE btcpaydb CONNECTION LIMIT 17; \
    COMMENT ON DATABASE btcpaydb IS 'the shop''s [main]'; \
        ALTER DATABASE btcpaydb SET search_path = \"odd name\", public; \
    ALTER DATABASE btcpaydb SET statement_timeout = '1ms'; \
        ALTER DATABASE btcpaydb SET default_transaction_read_only = on; \
    ALTER DATABASE btcpaydb SET quote_all_identifiers = on; \
        ALTER DATABASE btcpaydb SET idle_in_transaction_session_timeout = '1ms'; \
    ALTER ROLE clerk IN DATABASE btcpaydb SET work_mem = '7MB'";

/// What the catalogue says of owners and rights, by queries that the program does not use.
fn seen(cluster: &Cluster) -> Vec<Vec<Option<String>>> {
    let lists = [
        "SELECT relname::text, relowner::regrole::text, coalesce(relacl, \
            acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", relowner))::text
            FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'own'::regnamespace) AND relkind IN ('r', \
                'v', 'm', 'S')",
        "SELECT proname::text, proowner::regrole::text, coalesce(proacl, acldefault('f', \
            proowner))::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
        "SELECT attrelid::regclass::text || attname::text, attacl::text, '' FROM pg_attribute WHERE attacl IS NOT NULL",
        "SELECT nspname::text, nspowner::regrole::text, nspacl::text FROM pg_namespace WHERE nspname IN ('public', \
            'own')",
        "SELECT typname::text, typowner::regrole::text, \
            typacl::text FROM pg_type WHERE typnamespace = 'public'::regnamespace",
        "SELECT oid::text, lomowner::regrole::text, lomacl::text FROM pg_largeobject_metadata",
        "SELECT defaclrole::regrole::text, defaclnamespace::regnamespace::text || defaclobjtype::text, \
            defaclacl::text FROM pg_default_acl",
        "SELECT collname::text, collowner::regrole::text, '' FROM pg_collation WHERE collname = 'mine'",
        "SELECT stxname::text, stxowner::regrole::text, '' FROM pg_statistic_ext",
        "SELECT oprname::text, oprowner::regrole::text, '' FROM pg_operator WHERE oprname = '###'",
        "SELECT cfgname::text, cfgowner::regrole::text, '' FROM pg_ts_config WHERE cfgname = 'tongue'",
    ];
    let quiet = "SET statement_timeout = 0; SET quote_all_identifiers = off; SET search_path = public";
    let sql = lists.map(|list| list.to_owned()).join(" UNION ALL ");
    let mut rows =
        cluster.query("btcpaydb_seen", &format!("{quiet}; SELECT * FROM ({sql}) x ORDER BY 1, 2, 3")).unwrap();
    // In which order rights were given is not what they are.
    for list in rows.iter_mut().flatten().flatten().filter(|text| text.starts_with('{')) {
        let mut rights: Vec<&str> = list.trim_matches(['{', '}']).split(',').collect();
        rights.sort_unstable();
        *list = rights.join(",");
    }
    rows
}

#[test]
fn everything_is_whose_it_was_and_everybody_may_what_they_might() {
    let (old, new, proved) = moved(ROLES, DATABASE, SCHEMA);
    assert_eq!(proved.proof.unsettled, []);
    let (server, snapshot, interrupt) = (server(&new), snapshot(), Interrupt::new());
    landing(&server, "btcpaydb", &snapshot, &interrupt).swap(proved).unwrap();
    let own = "SELECT datname, datdba::regrole::text, datacl::text, datconnlimit::text, \
            regexp_replace(shobj_description(oid, 'pg_database'), ' \\[relay-backup: .*', '')
        FROM pg_database WHERE datname = 'btcpaydb'";
    assert_eq!(new.query("postgres", own).unwrap(), old.query("postgres", own).unwrap());
    let settings =
        "SELECT coalesce(setrole::regrole::text, ''), array_to_string(ARRAY(SELECT unnest(setconfig) ORDER BY 1), ';')
        FROM pg_db_role_setting WHERE setdatabase <> 0 ORDER BY 1";
    assert_eq!(new.query("postgres", settings).unwrap(), old.query("postgres", settings).unwrap());
    for cluster in [&old, &new] {
        // The database's own settings end every session that is not the program's.
        cluster
            .execute(
                "postgres",
                "ALTER DATABASE btcpaydb RENAME TO btcpaydb_seen; ALTER DATABASE btcpaydb_seen RESET ALL",
            )
            .unwrap();
    }
    assert_eq!(seen(&new), seen(&old));
}

#[test]
fn a_superusers_things_are_given_back_where_nobody_else_has_functions() {
    let database = "ALTER DATABASE btcpaydb OWNER TO chief";
    let schema = "CREATE TABLE chiefs (a int); ALTER TABLE chiefs OWNER TO chief; \
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
        CREATE TRIGGER t BEFORE INSERT ON chiefs FOR EACH ROW EXECUTE FUNCTION f(); \
        CREATE TABLE \"Invoices\" (a int); ALTER TABLE \"Invoices\" OWNER TO shop; \
        CREATE VIEW seen AS SELECT f FROM (SELECT a AS f FROM chiefs) x";
    let (_old, _new, proved) = moved(ROLES, database, schema);
    assert_eq!(proved.proof.unsettled, []);
}

#[test]
fn what_cannot_be_given_back_is_named_with_its_statement() {
    let (_, new, proved) = moved(ROLES, DATABASE, SCHEMA);
    drop(proved);
    let (server, snapshot, interrupt) = (server(&new), snapshot(), Interrupt::new());
    let landing = landing(&server, "btcpaydb", &snapshot, &interrupt);
    let fresh = landing.fresh_name();
    let tampered = "SET default_transaction_read_only = off; SET statement_timeout = 0; \
        ALTER TABLE own.kept OWNER TO shop; \
        GRANT DELETE ON \"Invoices\" TO shop; DROP VIEW own.seen; ALTER DATABASE DB CONNECTION LIMIT 3; \
            ALTER DATABASE DB RESET search_path";
    new.execute(&fresh, &tampered.replace("DB", &quote_name(&fresh))).unwrap();
    let old = Cluster::start(&std::env::temp_dir()).unwrap();
    old.create_plain_database("btcpaydb").unwrap();
    for sql in [ROLES, DATABASE] {
        old.execute("postgres", sql).unwrap();
    }
    let quiet = "SET default_transaction_read_only = off; SET statement_timeout = 0; SET quote_all_identifiers = off";
    old.execute("btcpaydb", &format!("{quiet}; {SCHEMA}")).unwrap();
    let collected = read(&old, &["btcpaydb".to_owned()]);
    let (_, facts) = collected.dump("btcpaydb");
    let unsettled = compare_rights(&server.with_database(&fresh), facts).unwrap();
    let told: Vec<&str> = unsettled.iter().map(|one| one.what.as_str()).collect();
    assert_eq!(
        told,
        [
            "the owner of table own.kept",
            "the right DELETE on table public.\"Invoices\" for shop",
            "view own.seen",
            "the database's limit of connections",
            "the database's setting search_path",
        ]
    );
    assert_eq!(unsettled[0].statement.as_deref(), Some("ALTER TABLE own.kept OWNER TO \"clerk\""));
}

#[test]
fn a_role_that_is_no_superuser_restores_what_it_may_and_names_the_rest() {
    let old = Cluster::start(&std::env::temp_dir()).unwrap();
    old.create_plain_database("btcpaydb").unwrap();
    old.execute("postgres", "CREATE ROLE btcpayserver LOGIN; ALTER DATABASE btcpaydb OWNER TO btcpayserver").unwrap();
    old.execute(
        "btcpaydb",
        "CREATE TABLE t (a serial); ALTER TABLE t OWNER TO btcpayserver; INSERT INTO t DEFAULT VALUES",
    )
    .unwrap();
    let collected = read(&old, &["btcpaydb".to_owned()]);
    let (bytes, facts) = collected.dump("btcpaydb");
    let new = Cluster::start(&std::env::temp_dir()).unwrap();
    let roles = "CREATE ROLE keeper LOGIN CREATEDB CREATEROLE; CREATE ROLE reader LOGIN IN ROLE pg_read_all_data CREATEDB; \
        CREATE ROLE sly LOGIN CREATEDB IN ROLE pg_execute_server_program";
    new.execute("postgres", roles).unwrap();
    let as_role =
        |role: &str| Server::parse(&new.url("postgres").replace("postgres@", &format!("{role}@")), None).unwrap();
    let (snapshot, interrupt) = (snapshot(), Interrupt::new());
    let keeper = as_role("keeper");
    restore_roles(&keeper, collected.globals().0).unwrap();
    let restored = landing(&keeper, "btcpaydb", &snapshot, &interrupt);
    restored.make(facts).unwrap();
    assert_eq!(restored.fill(facts, &mut &bytes[..]).unwrap().left_out, []);
    let proved = restored.prove(facts).unwrap();
    assert_eq!(proved.proof.unsettled, []);
    restored.swap(proved).unwrap();
    assert_eq!(count(&new, "btcpaydb", "t"), "1");
    // A role that could run programs may not be the one that runs what a dump brings.
    let sly = as_role("sly");
    let refused = Landing { run: "sly", ..landing(&sly, "other", &snapshot, &interrupt) };
    refused.make(facts).unwrap();
    let error = refused.fill(facts, &mut &bytes[..]).unwrap_err();
    assert!(matches!(&error, RestoreError::NoHand { .. }) && error.hint().unwrap().contains("CREATEROLE"), "{error}");
}
