//! The fence against a real SQLite, real locks of another process, and cuts at every point.

use super::super::Owners;
use super::super::aside::Stand;
use super::super::record_lock::tests::Locker;
use super::*;
use rusqlite::Connection;
use std::os::unix::fs::MetadataExt;

fn place() -> Place {
    Place {
        lightning_dir: "/cln".into(),
        wallet: "/cln/bitcoin/lightningd.sqlite3".into(),
        pid_file: "/cln/lightningd-bitcoin.pid".into(),
        owner: Owner::ourselves(),
    }
}

fn why() -> Why<'static> {
    Why { command: "relay-backup restore --scenario server-loss", snapshot: None, since: Timestamp::UNIX_EPOCH }
}

fn ground() -> (tempfile::TempDir, Root) {
    super::super::root::tests::ground_of(Owners::Required)
}

/// A ground with a database of 100 rows, and a journal beside it.
fn with_database() -> (tempfile::TempDir, Root) {
    let (folder, root) = ground();
    std::fs::create_dir_all(folder.path().join("cln/bitcoin")).unwrap();
    let path = folder.path().join("cln/bitcoin/lightningd.sqlite3");
    let sql = "PRAGMA journal_mode = WAL; CREATE TABLE channels AS WITH RECURSIVE n(i) AS \
               (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) SELECT i FROM n";
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(sql).unwrap();
    // Ended without a checkpoint, as a crash would: the rows are in the -wal alone.
    std::mem::forget(connection);
    assert!(std::fs::metadata(path.with_file_name("lightningd.sqlite3-wal")).unwrap().len() > 0);
    (folder, root)
}

fn aside() -> Aside {
    Aside::database(&place().wallet, "now").unwrap()
}

fn held(error: FenceError) -> Option<u32> {
    match error {
        FenceError::Held { holder, .. } => holder,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pid_file_that_is_another_file_as_well_is_not_given_away() {
    let (folder, root) = ground();
    let others = folder.path().join("others-and-empty");
    std::fs::write(&others, "").unwrap();
    let before = std::fs::metadata(&others).unwrap();
    std::fs::create_dir(folder.path().join("cln")).unwrap();
    std::fs::hard_link(&others, folder.path().join("cln/lightningd-bitcoin.pid")).unwrap();
    let error = raise(&root, &place(), &why(), None).unwrap_err();
    assert!(matches!(&error, FenceError::SecondName { .. }), "{error}");
    assert!(error.hint().unwrap().contains("lightningd-bitcoin.pid"));
    let now = std::fs::metadata(&others).unwrap();
    assert_eq!((now.uid(), now.mode()), (before.uid(), before.mode()));
    std::fs::remove_file(&others).unwrap();
    raise(&root, &place(), &why(), None).unwrap().lower().unwrap();
}

#[test]
fn sqlite_refuses_a_fence_and_leaves_it_alone() {
    let (folder, root) = ground();
    let fence = raise(&root, &place(), &why(), None).unwrap();
    let path = folder.path().join("cln/bitcoin/lightningd.sqlite3");
    let before = std::fs::read(&path).unwrap();
    let connection = Connection::open(&path).unwrap();
    let error = connection.execute_batch("BEGIN; CREATE TABLE t (x)").unwrap_err();
    assert!(error.to_string().contains("file is not a database"), "{error}");
    drop(connection);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let text = String::from_utf8(before).unwrap();
    assert!(text.contains("--scenario server-loss") && text.contains("1970-01-01T00:00:00Z"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    fence.lower().unwrap();
    assert_eq!(find(&root, &place()).unwrap(), Found::Nothing);
    assert!(!folder.path().join("cln/lightningd-bitcoin.pid").exists(), "made for the lock, and gone with it");
}

#[test]
fn a_second_holder_is_refused_and_lightningd_is_too() {
    let (folder, root) = ground();
    let fence = raise(&root, &place(), &why(), None).unwrap();
    assert_eq!(held(raise(&root, &place(), &why(), None).unwrap_err()), None);
    drop(fence);
    assert!(matches!(find(&root, &place()).unwrap(), Found::Fence(_)), "the text outlives a crash");
    raise(&root, &place(), &why(), None).unwrap().lower().unwrap();

    let pid_file = folder.path().join("cln/lightningd-bitcoin.pid");
    std::fs::write(&pid_file, "812\n").unwrap();
    let lightningd = Locker::start(&pid_file);
    let error = raise(&root, &place(), &why(), None).unwrap_err();
    assert!(error.hint().unwrap().contains("lightningd runs"));
    assert_eq!(held(error), Some(lightningd.id()));
    assert_eq!(find(&root, &place()).unwrap(), Found::Nothing, "nothing changed");
    drop(lightningd);
    raise(&root, &place(), &why(), None).unwrap().lower().unwrap();
    assert_eq!(std::fs::read(&pid_file).unwrap(), b"812\n", "not ours to remove");
}

#[test]
fn a_database_in_the_place_is_exchanged_whole_wherever_an_earlier_run_was_cut_off() {
    let points = steps::survive(
        with_database,
        |(folder, root)| {
            let wallet = folder.path().join("cln/bitcoin/lightningd.sqlite3");
            assert!(wallet.exists(), "the place is never empty");
            let raised = raise(root, &place(), &why(), Some(&aside()));
            assert!(wallet.exists(), "the place is never empty");
            raised.map(drop).map_err(|error| match error {
                FenceError::Target(error) => error,
                other => panic!("{other}"),
            })
        },
        |(folder, root), point| {
            let Found::Fence(text) = find(root, &place()).unwrap() else { panic!("point {point}: no fence") };
            assert!(text.contains("lightningd.sqlite3.replaced-now"), "{text}");
            let mut names: Vec<_> = std::fs::read_dir(folder.path().join("cln/bitcoin"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            assert_eq!(names, ["lightningd.sqlite3", "lightningd.sqlite3.replaced-now"], "point {point}");
            let moved = folder.path().join("cln/bitcoin/lightningd.sqlite3.replaced-now/lightningd.sqlite3");
            let rows = Connection::open(moved).unwrap();
            let rows: i64 = rows.query_one("SELECT count(*) FROM channels", [], |row| row.get(0)).unwrap();
            assert_eq!(rows, 100, "point {point}: with its journal it is the database it was");
            assert_eq!(root.aside_stand(&aside()).unwrap(), Stand::Again);
        },
    );
    assert_eq!(points, 12);
}

#[test]
fn a_database_in_the_place_is_never_overwritten() {
    let (folder, root) = with_database();
    let path = folder.path().join("cln/bitcoin/lightningd.sqlite3");
    let before = std::fs::read(&path).unwrap();
    let error = raise(&root, &place(), &why(), None).unwrap_err();
    assert!(matches!(error, FenceError::Target(TargetError::Occupied { .. })), "{error}");
    drop(raise(&root, &place(), &why(), Some(&aside())).unwrap());
    // Somebody puts a database over the fence: neither that nor the one aside is touched.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &before).unwrap();
    let error = raise(&root, &place(), &why(), Some(&aside())).unwrap_err();
    assert!(matches!(error, FenceError::Target(TargetError::Occupied { .. })), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_cleared_database_takes_the_place_of_the_fence_only() {
    let (folder, root) = ground();
    let fence = raise(&root, &place(), &why(), None).unwrap();
    let (home, owner) = (Path::new("/cln"), Owner::ourselves());
    let stage = |to: &str| {
        let wanted = Wanted { to: Path::new(to), home, owner: &owner, mode: 0o600 };
        let mut staged = root.stage(&wanted).unwrap();
        staged.write_all(b"cleared").unwrap();
        staged.check(|_, _| Ok::<_, TargetError>(())).unwrap().0
    };
    let wallet = "/cln/bitcoin/lightningd.sqlite3";
    assert!(matches!(stage(wallet).publish(), Err(TargetError::Occupied { .. })), "the fence holds the place");
    assert!(matches!(fence.publish(stage("/cln/bitcoin/other")), Err(FenceError::Gone { .. })));
    fence.publish(stage(wallet)).unwrap();
    let path = folder.path().join("cln/bitcoin/lightningd.sqlite3");
    assert_eq!(std::fs::read(&path).unwrap(), b"cleared");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert!(matches!(fence.publish(stage(wallet)), Err(FenceError::Gone { .. })));
    assert_eq!(held(raise(&root, &place(), &why(), None).unwrap_err()), None, "the lock stays");
    fence.lower().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"cleared", "lowering removes nothing but a fence");
}

#[test]
fn a_fence_is_lowered_and_a_database_put_in_its_place_wherever_an_earlier_run_was_cut_off() {
    let only_target = |error| match error {
        FenceError::Target(error) => error,
        other => panic!("{other}"),
    };
    let points = steps::survive(
        ground,
        |(_, root)| raise(root, &place(), &why(), None).and_then(Fence::lower).map_err(only_target),
        |(folder, root), point| {
            assert_eq!(find(root, &place()).unwrap(), Found::Nothing, "point {point}");
            assert_eq!(std::fs::read_dir(folder.path().join("cln")).unwrap().count(), 1, "only the network's folder");
        },
    );
    assert!(points > 8, "{points}");
    let owner = Owner::ourselves();
    steps::survive(
        ground,
        |(_, root)| {
            let to = place().wallet;
            let there = matches!(find(root, &place())?, Found::Other(_));
            let fence = if there { hold(root, &place()) } else { raise(root, &place(), &why(), None) };
            let fence = fence.map_err(only_target)?;
            let mut staged = root.stage(&Wanted { to: &to, home: Path::new("/cln"), owner: &owner, mode: 0o600 })?;
            staged.write_all(b"cleared").unwrap();
            let (checked, ()) = staged.check(|_, _| Ok::<_, TargetError>(()))?;
            // What the first run put there is the same file, or an error.
            if there {
                checked.publish().map(drop)?
            } else {
                fence.publish(checked).map(drop).map_err(only_target)?
            }
            fence.lower().map_err(only_target)
        },
        |(folder, _), point| {
            let bitcoin = folder.path().join("cln/bitcoin");
            assert_eq!(std::fs::read(bitcoin.join("lightningd.sqlite3")).unwrap(), b"cleared", "point {point}");
            assert_eq!(std::fs::read_dir(bitcoin).unwrap().count(), 1, "point {point}");
            assert!(!folder.path().join("cln/lightningd-bitcoin.pid").exists());
        },
    );
}

#[test]
fn a_database_comes_back_whole_wherever_an_earlier_run_was_cut_off() {
    let prepared = || {
        let (folder, root) = with_database();
        drop(hold(&root, &place()).unwrap().raise_for_good(&why(), &aside()).unwrap());
        assert_eq!(labels_aside(&root, &place().wallet, "no").unwrap(), ["now"]);
        assert!(labels_aside(&root, &place().wallet, "then").unwrap().is_empty());
        (folder, root)
    };
    let wallet = "cln/bitcoin/lightningd.sqlite3";
    let points = steps::survive(
        prepared,
        |(folder, root)| {
            let is_back = matches!(find(root, &place()).unwrap(), Found::Other(_));
            let log = folder.path().join(wallet).with_file_name("lightningd.sqlite3-wal");
            assert!(!is_back || log.exists(), "a database without its log is an older one");
            hold(root, &place()).unwrap().put_back(&aside()).map_err(|error| match error {
                FenceError::Target(error) => error,
                other => panic!("{other}"),
            })
        },
        |(folder, root), point| {
            assert!(matches!(find(root, &place()).unwrap(), Found::Other(_)), "point {point}");
            assert_eq!(root.aside_stand(&aside()).unwrap(), Stand::There, "nothing lies aside");
            assert!(!folder.path().join("cln/bitcoin/lightningd.sqlite3.replaced-now").exists());
            assert!(!folder.path().join("cln/lightningd-bitcoin.pid").exists());
            let rows = Connection::open(folder.path().join(wallet)).unwrap();
            let rows: i64 = rows.query_one("SELECT count(*) FROM channels", [], |row| row.get(0)).unwrap();
            assert_eq!(rows, 100, "point {point}");
        },
    );
    assert_eq!(points, 4);
}

#[test]
fn nothing_is_put_back_over_a_database_or_without_one() {
    let (folder, root) = with_database();
    drop(hold(&root, &place()).unwrap().raise_for_good(&why(), &aside()).unwrap());
    let Found::Fence(text) = find(&root, &place()).unwrap() else { panic!() };
    assert!(text.contains("undo-final") && text.contains("lightningd.sqlite3.replaced-now"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    let path = folder.path().join("cln/bitcoin/lightningd.sqlite3");
    std::fs::remove_file(&path).unwrap();
    let back = || hold(&root, &place()).unwrap().put_back(&aside());
    assert!(matches!(back(), Err(FenceError::Gone { .. })), "the fence is gone: somebody else was here");
    std::fs::write(&path, "another database").unwrap();
    assert!(matches!(back(), Err(FenceError::Gone { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"another database");
    assert!(matches!(labels_aside(&root, &place().wallet, "now").unwrap()[..], [_]));
}

#[test]
fn a_configuration_makes_us_create_and_hand_over_nothing_outside_of_the_nodes_folder() {
    let (folder, root) = with_database();
    let outside = Place { pid_file: "/etc/ld.so.preload".into(), ..place() };
    let path = folder.path().join("etc/ld.so.preload");
    let is_foreign = |raised: Result<Fence<'_>, FenceError>| matches!(raised, Err(FenceError::Foreign { .. }));
    assert!(is_foreign(raise(&root, &outside, &why(), Some(&aside()))));
    assert!(!path.parent().unwrap().exists());
    assert!(folder.path().join("cln/bitcoin/lightningd.sqlite3-wal").exists(), "nothing was moved");
    // A file of the node's owner is locked, and stays as it is.
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let fence = raise(&root, &outside, &why(), Some(&aside())).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    fence.lower().unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        assert!(is_foreign(raise(&root, &outside, &why(), None)));
    }
}
