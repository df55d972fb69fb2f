//! What no tar may hold: channel databases under any name, databases in use, data folders of PostgreSQL.

use super::*;

#[test]
fn a_lightning_wallet_is_refused_under_any_name() {
    let home = tempfile::tempdir().unwrap();
    let hidden = home.path().join("notes.txt");
    fs::copy(wallet(), &hidden).unwrap();
    fs::write(home.path().join("a"), "fine").unwrap();
    let text = refused(&[home.path().join("*")], &[], &["toxic-database"]);
    assert!(text.contains("Core Lightning's channel database: an old copy of it can lose every channel"), "{text}");
    assert!(text.contains("a source of kind cln or lnd, and add") && text.contains("notes.txt"), "{text}");
    // With the exclude that the hint asks for, the rest is taken.
    let (sink, result) = read(&[home.path().join("*")], &[hidden.display().to_string()]);
    result.unwrap();
    assert_eq!(listed(&sink.get("s/files.tar").0).len(), 1);
    // LND's, as SQLite and as bolt.
    let lnd = Connection::open(home.path().join("lnd")).unwrap();
    lnd.execute_batch("CREATE TABLE channeldb_kv (id INTEGER PRIMARY KEY, key BLOB, value BLOB)").unwrap();
    drop(lnd);
    bolt_file(&home.path().join("old-bolt"), &["close-summaries", "open-chan-bucket"]);
    bolt_file(&home.path().join("replay"), &["shared-hash"]);
    let codes = ["toxic-database"; 4];
    refused(&[home.path().to_owned()], &[], &codes);
}

#[test]
fn the_channels_of_every_other_node_are_refused_by_their_content() {
    let home = tempfile::tempdir().unwrap();
    let sqlite = |name: &str, tables: &str| {
        Connection::open(home.path().join(name)).unwrap().execute_batch(tables).unwrap();
    };
    sqlite("phoenix.mainnet.db", "CREATE TABLE local_channels (id); CREATE TABLE htlc_infos (id)");
    sqlite("renamed", "CREATE TABLE ldk_node_data (primary_namespace, secondary_namespace, key, value)");
    let wallet = "{\"channels\": {\"00ab\": {}}, \"seed_version\": 59}";
    fs::write(home.path().join("default_wallet"), wallet).unwrap();
    let update = [&[1, 1][..], &12_u64.to_be_bytes(), &1_u64.to_be_bytes(), &[0, 90, 1, 2, 3]].concat();
    fs::create_dir_all(home.path().join("monitor_updates/aa_0")).unwrap();
    fs::write(home.path().join("monitor_updates/aa_0/12"), update).unwrap();
    let text = refused(&[home.path().to_owned()], &[], &["toxic-database"; 4]);
    for node in ["eclair's or phoenixd's", "an LDK node's", "an Electrum wallet's"] {
        assert!(text.contains(node), "{node}: {text}");
    }
    let encrypted = home.path().join("encrypted");
    fs::write(&encrypted, "QklFMQxxxxxxxxxxxxxxxx").unwrap();
    // It may hold channels, and is left out, and told.
    let (_, facts, sink) = tar_of(std::slice::from_ref(&encrypted));
    let found = &sink.findings[0];
    let text = format!("{} {}", found.message, found.hint.clone().unwrap_or_default());
    assert_eq!((sink.codes(), facts.files, found.level), (vec!["database-unclear"], 0, Level::Degraded));
    assert!(text.contains("an encrypted Electrum wallet") && text.contains("keep the seed"), "{text}");
}

#[test]
fn every_fixture_wallet_is_recognised() {
    let nodes = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cln/node");
    let mut count = 0;
    for entry in fs::read_dir(nodes).unwrap() {
        let path = entry.unwrap().path().join("lightningd.sqlite3");
        if path.exists() {
            refused(&[path], &[], &["toxic-database"]);
            count += 1;
        }
    }
    assert_eq!(count, 7);
}

#[test]
fn the_list_of_tables_is_the_one_sqlite_gives() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    for page_size in [512, 1024, 4096, 65536] {
        fs::remove_file(&path).unwrap_or_default();
        let db = Connection::open(&path).unwrap();
        db.execute_batch(&format!("PRAGMA page_size = {page_size}; BEGIN")).unwrap();
        for number in 0..300 {
            let columns = "x".repeat(number * 3 + 1);
            db.execute_batch(&format!(
                "CREATE TABLE t{number} ({columns} TEXT); CREATE INDEX i{number} ON t{number} ({columns})"
            ))
            .unwrap();
        }
        db.execute_batch("DROP TABLE t7; COMMIT").unwrap();
        let mut statement = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
        let expected =
            statement.query_map([], |row| row.get::<_, String>(0)).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(sqlite_schema::tables(&fs::File::open(&path).unwrap()), Some(expected));
    }
    let whole = fs::read(wallet()).unwrap();
    // Cut off, it could be anything, and is left where it is; the others are taken.
    fs::write(home.path().join("other"), "fine").unwrap();
    for length in [99, 100, 4095, 4096, 9000] {
        fs::write(&path, &whole[..length]).unwrap();
        let (bytes, facts, sink) = tar_of(&[home.path().join("*")]);
        assert_eq!((sink.codes(), facts.files), (vec!["database-unclear"], 1), "{length}");
        assert!(listed(&bytes)[0].ends_with("/other") && sink.findings[0].level == Level::Degraded);
    }
}

#[test]
fn what_sqlite_itself_refuses_is_no_database_and_is_taken_byte_for_byte() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("upload");
    let whole = fs::read(wallet()).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let none =
        [whole[..16].to_vec(), with(16, &[3, 0])[..200].to_vec(), with(19, &[3])[..100].to_vec(), with(21, &[0])];
    for content in none.iter().take(3) {
        fs::write(&path, content).unwrap();
        let refused = Connection::open(&path).unwrap().query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
        assert_eq!(refused.unwrap_err().sqlite_error_code(), Some(rusqlite::ErrorCode::NotADatabase));
        let (_, facts, sink) = tar_of(std::slice::from_ref(&path));
        assert_eq!((sink.codes(), facts.bytes), (vec!["no-database"], content.len() as u64));
        assert_eq!(placed_content(&fs::File::open(&path).unwrap()), Content::Harmless);
    }
    // A channel database is one whatever its header says.
    for content in [with(19, &[3]), none[3].clone(), with(24, &[9; 8])] {
        fs::write(&path, content).unwrap();
        refused(std::slice::from_ref(&path), &[], &["toxic-database"]);
        assert!(matches!(placed_content(&fs::File::open(&path).unwrap()), Content::Toxic(_)));
    }
}

#[test]
fn a_database_in_use_is_refused_and_an_idle_one_taken() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("shop.sqlite");
    let db = Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE orders (id INTEGER)").unwrap();
    drop(db);
    tar_of(std::slice::from_ref(&path));
    for ending in ["-wal", "-journal", "-shm"] {
        let companion = home.path().join(format!("shop.sqlite{ending}"));
        fs::write(&companion, "").unwrap();
        let text = refused(std::slice::from_ref(&path), &[], &["live-database"]);
        assert!(text.contains(&format!("its {ending} file")) && text.contains("a source of kind sqlite"), "{text}");
        fs::remove_file(companion).unwrap();
    }
    let bolt = home.path().join("bolt");
    bolt_file(&bolt, &["things"]);
    tar_of(std::slice::from_ref(&bolt));
    let open = fs::File::open(&bolt).unwrap();
    let _in_use = Locked::alone_at_last(open).unwrap();
    refused(std::slice::from_ref(&bolt), &[], &["live-database"]);
}

#[test]
fn a_database_that_another_process_has_locked_is_refused() {
    if !Path::new("/usr/bin/sqlite3").exists() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE orders (id INTEGER)").unwrap();
    drop(db);
    let ready = home.path().join("ready");
    // It ends with its input, and so with this test, however that ends.
    let mut sqlite = Exec::new("/usr/bin/sqlite3").arg(&path).feed().unwrap();
    write!(sqlite, "BEGIN; SELECT count(*) FROM orders;\n.shell touch {}\n", ready.display()).unwrap();
    while !ready.exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let text = refused(std::slice::from_ref(&path), &[], &["live-database"]);
    assert!(text.contains("another process holds a lock on it"), "{text}");
    drop(sqlite);
    tar_of(std::slice::from_ref(&path));
}

#[test]
fn a_postgresql_data_folder_is_refused() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join("15/global")).unwrap();
    fs::write(home.path().join("15/PG_VERSION"), "15\n").unwrap();
    fs::write(home.path().join("15/global/pg_control"), "x").unwrap();
    let text = refused(&[home.path().to_owned()], &[], &["live-database"]);
    assert!(text.contains("a source of kind postgres"), "{text}");
}

#[test]
fn a_phrase_is_told_of_but_never_shown() {
    let home = tempfile::tempdir().unwrap();
    let phrase = "legal winner thank year wave sausage worth useful legal winner thank yellow";
    fs::write(home.path().join("notes"), format!("seed:\n{phrase}\n")).unwrap();
    let (_, facts, sink) = tar_of(&[home.path().to_owned()]);
    assert_eq!(sink.codes(), ["bip39-phrase"]);
    assert!(sink.findings[0].subject.ends_with("/notes"));
    assert!(!format!("{:?} {facts:?}", sink.findings).contains("sausage"));
}
