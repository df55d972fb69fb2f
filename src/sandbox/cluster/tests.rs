//! Scratch clusters: made, used, ended and wiped, also after a kill; never one that is not ours.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, Weak};

/// One cluster for all tests that run at the same time; stopped when the last of them lets go.
pub(crate) fn shared() -> Arc<Cluster> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(cluster) = shared.upgrade() {
        return cluster;
    }
    let cluster = Arc::new(Cluster::start(&std::env::temp_dir()).unwrap());
    *shared = Arc::downgrade(&cluster);
    cluster
}

fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

#[test]
fn a_cluster_is_private_and_leaves_nothing_even_after_a_panic() {
    // Deep enough that the socket cannot lie in the cluster's own folder.
    let parent = open_folder();
    let deep = parent.path().join("d".repeat(90));
    std::fs::create_dir(&deep).unwrap();
    let seen = std::panic::catch_unwind(|| {
        let cluster = Cluster::start(&deep).unwrap();
        let mode = std::fs::metadata(cluster.folder()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(cluster.query("postgres", "SHOW listen_addresses").unwrap(), [[Some(String::new())]]);
        assert!(cluster.socket().as_os_str().len() < 90);
        let seen = (cluster.folder().to_owned(), cluster.socket().to_owned(), cluster.id().unwrap());
        std::panic::resume_unwind(Box::new(seen));
    });
    let (folder, socket, pid) = *seen.unwrap_err().downcast::<(PathBuf, PathBuf, u32)>().unwrap();
    assert!(!folder.exists() && !socket.exists());
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the server still runs");
}

#[test]
fn a_folder_that_nobody_else_can_walk_to_serves_where_the_server_has_its_own_view() {
    if uzers::get_effective_uid() != 0 {
        return; // Only root hands the cluster to another user.
    }
    let parent = tempfile::tempdir().unwrap();
    std::fs::set_permissions(parent.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    drop(Cluster::start(parent.path()).unwrap());
    let bin = find("initdb").unwrap().canonicalize().unwrap();
    let interrupt = Interrupt::new();
    let error = Cluster::make(parent.path(), bin.parent().unwrap(), &interrupt, Wanted::NoNamespaces).unwrap_err();
    assert!(matches!(&error, ClusterError::Closed { closed, .. } if *closed == parent.path().canonicalize().unwrap()));
    assert!(error.hint().unwrap().starts_with("chmod o+x"));
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn who_asks_to_stop_is_obeyed_while_it_is_made() {
    let parent = open_folder();
    let interrupt = Interrupt::new();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| Cluster::start_unless(parent.path(), &interrupt));
        // In the middle of `initdb`, which has made its folder then.
        let is_made = || {
            let folders = std::fs::read_dir(parent.path()).unwrap().flatten();
            folders.into_iter().any(|folder| folder.path().join("data/base").exists())
        };
        while !is_made() {
            assert!(begun.elapsed() < START_TIMEOUT && !starting.is_finished());
            std::thread::sleep(LOOK_AGAIN);
        }
        interrupt.set();
        assert!(matches!(starting.join().unwrap(), Err(ClusterError::Interrupted)));
    });
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    assert!(matches!(Cluster::start_unless(parent.path(), &interrupt), Err(ClusterError::Interrupted)));
}

#[test]
fn programs_that_are_missing_are_named() {
    let parent = open_folder();
    let error = Cluster::start_with(parent.path(), Path::new("/nonexistent")).unwrap_err();
    assert!(matches!(error, ClusterError::Initdb { .. }), "{error}");
    let error = find("no-such-initdb").unwrap_err();
    assert!(error.hint().unwrap().contains("apt install postgresql"));
}

#[test]
fn what_a_killed_process_left_is_swept_and_what_is_in_use_stays() {
    let parent = open_folder();
    let folder = |name: &str| {
        let path = parent.path().join(name);
        std::fs::create_dir(&path).unwrap();
        let lock = std::fs::File::create(path.join("owner.lock")).unwrap();
        (path, lock)
    };
    let (abandoned, _) = folder("relay-pg-aaaaaa");
    let (used, lock) = folder("relay-pg-bbbbbb");
    let (foreign, _) = folder("somebody-else");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    folder::sweep(parent.path());
    assert!(!abandoned.exists() && used.exists() && foreign.exists());
}
