//! Rows first: what derives from them and cannot be given back costs nothing else, and is named.

use super::*;

fn brought(schema: &str) -> (Cluster, Result<(Replayed, Proof), RestoreError>) {
    let cluster = Cluster::start(&std::env::temp_dir()).unwrap();
    cluster.create_plain_database("shop").unwrap();
    cluster.execute("shop", schema).unwrap();
    let collected = read(&cluster, &["shop".to_owned()]);
    let (bytes, facts) = collected.dump("shop");
    let (server, snapshot, interrupt) = (server(&cluster), snapshot(), Interrupt::new());
    let landing = Landing { owner: &facts.owner, ..landing(&server, "shop", &snapshot, &interrupt) };
    landing.make(facts).unwrap();
    let brought = landing.fill(facts, &mut &bytes[..]).and_then(|replayed| Ok((replayed, landing.compare(facts)?)));
    (cluster, brought)
}

#[test]
fn what_fails_after_the_rows_is_left_out_and_named() {
    let (_, brought) = brought(
        "CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 1), (2, 2); \
         CREATE FUNCTION later() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.t'; \
         CREATE MATERIALIZED VIEW fails AS SELECT later() AS n; CREATE MATERIALIZED VIEW stands AS SELECT a FROM t; \
         ALTER TABLE t RENAME TO u; \
         CREATE FUNCTION et() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; \
         CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION et(); COMMENT ON EVENT TRIGGER watch IS 'x'; \
         CREATE PUBLICATION all_of_it FOR ALL TABLES; CREATE PUBLICATION picked FOR TABLE u; \
         CREATE FUNCTION raw() RETURNS int LANGUAGE internal AS 'pg_backend_pid'; \
         CREATE FOREIGN DATA WRAPPER wrapper; \
         SET client_min_messages = error; \
         CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere password=hunter2' PUBLICATION p WITH (connect = false)",
    );
    let (replayed, proof) = brought.unwrap();
    assert_eq!(proof.differences, [], "the rows are all there");
    let mut told: Vec<&str> = replayed.left_out.iter().map(|one| one.what.as_str()).collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "event trigger watch",
            "foreign data wrapper wrapper",
            "function public.raw()",
            "publication all_of_it",
            "subscription sub",
            "the rows of materialised view public.fails",
        ]
    );
    let all = format!("{replayed:?}");
    assert!(!all.contains("hunter2"), "{all}");
    let statement =
        |what: &str| replayed.left_out.iter().find(|one| one.what.contains(what)).unwrap().statement.clone();
    assert_eq!(statement("public.fails").as_deref(), Some("REFRESH MATERIALIZED VIEW public.fails;"));
    assert_eq!(
        statement("all_of_it").as_deref(),
        Some("CREATE PUBLICATION all_of_it FOR ALL TABLES WITH (publish = 'insert, update, delete, truncate');")
    );
    assert_eq!(statement("sub"), None, "it holds a password");
    assert!(proof.unsettled.iter().any(|one| one.what == "materialised view public.fails"), "{:?}", proof.unsettled);
    assert!(replayed.left_out.iter().all(|one| !one.hint().contains("run the same command")), "nothing would change");
}

#[test]
fn functions_find_what_they_find_in_service() {
    let (_, brought) = brought(
        "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 9); \
         CREATE FUNCTION cnt() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM t'; \
             CREATE MATERIALIZED VIEW mv AS SELECT cnt(); \
         CREATE FUNCTION is_key(k text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT k <> '''''; \
         CREATE FUNCTION ok(k text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN is_key(k); END'; \
         CREATE TABLE m (k text CHECK (ok(k)), g bool GENERATED ALWAYS AS (ok(k)) STORED); \
             INSERT INTO m VALUES ('Mnemonic'); \
         CREATE INDEX by_ok ON m (ok(k))",
    );
    let (replayed, proof) = brought.unwrap();
    assert_eq!((replayed.left_out, proof.differences, proof.unsettled), (vec![], vec![], vec![]));
}

#[test]
fn rows_that_are_refused_end_the_restore_and_are_not_shown() {
    let (cluster, brought) = brought(
        "CREATE TABLE allowed (k text); INSERT INTO allowed VALUES ('abandon ability'); \
         CREATE FUNCTION ok(k text) RETURNS bool LANGUAGE plpgsql AS
            'BEGIN IF NOT EXISTS (SELECT FROM public.allowed a WHERE a.k = $1) THEN RAISE ''no %'', $1; END IF; \
                RETURN true; END'; \
         CREATE TABLE aaa (k text CHECK (ok(k))); INSERT INTO aaa VALUES ('abandon ability'); DELETE FROM allowed",
    );
    let error = brought.unwrap_err();
    let told = format!("{error} {error:?} {:?}", error.hint());
    assert!(matches!(&error, RestoreError::Refused { what, .. } if what == "the rows of table public.aaa"), "{told}");
    assert!(!told.contains("abandon"), "{told}");
    assert!(!told.contains("the same command"), "{told}");
    assert!(!error.is_of_the_dump(), "the bytes are whole");
    // The server's log holds what other sessions did wrong, and nothing of the restore.
    cluster.query("shop", "SELECT no_such_column").unwrap_err();
    let log = cluster.stop();
    assert!(log.contains("no_such_column") && !log.contains("abandon"), "{log}");
}
