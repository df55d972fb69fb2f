//! What holds only for a vault in a folder: durability's traces, modes, links put in the way, leftovers of a crash.

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

fn made() -> (tempfile::TempDir, PathBuf, Vault) {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("vault");
    let vault = folder(&root);
    vault.create(&id(), Timestamp::UNIX_EPOCH).unwrap();
    (outer, root, vault)
}

fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all_below(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn a_put_never_makes_the_vault_s_own_folder() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("unmounted");
    let vault = folder(&root);
    let error = vault.put(&segment(b"x"), b"x").unwrap_err();
    assert!(matches!(error, VaultError::Missing { .. }), "{error}");
    assert!(error.hint().unwrap().contains("mount"));
    assert!(vault.list(&Prefix::all()).is_err(), "a vault that is not there is not an empty one");
    assert!(vault.length(&segment(b"x")).is_err());
    assert_eq!(vault.identify().unwrap(), None);
    assert!(!root.exists());
}

#[test]
fn only_the_owner_may_look() {
    let (_outer, root, vault) = made();
    vault.put(&segment(b"x"), b"x").unwrap();
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
    for path in all_below(&root) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
}

#[test]
fn what_a_crashed_put_left_is_invisible_and_swept_when_old() {
    let (_outer, root, vault) = made();
    let (old, young) = (root.join(".tmp/put-old"), root.join(".tmp/put-young"));
    fs::write(&old, b"half").unwrap();
    fs::write(&young, b"half").unwrap();
    let two_days_ago = fs::metadata(&old).unwrap().modified().unwrap() - Duration::from_secs(2 * 24 * 3600);
    fs::File::open(&old).unwrap().set_modified(two_days_ago).unwrap();
    let vault = vault.with_patience(Patience::default());
    assert_eq!(vault.list(&Prefix::all()).unwrap().objects.len(), 1, "vault.json alone");
    assert!(old.exists(), "reading removes nothing");
    vault.put(&segment(b"x"), b"x").unwrap();
    assert!(!old.exists() && young.exists());
    assert_eq!(fs::read_dir(root.join(".tmp")).unwrap().count(), 1, "a put leaves nothing of its own");
}

#[test]
fn a_put_that_fails_leaves_nothing() {
    let (_outer, root, vault) = made();
    let key = segment(b"x");
    fs::create_dir_all(root.join(key.as_str())).unwrap();
    assert!(vault.put(&key, b"x").is_err(), "a folder stands in its place");
    assert_eq!(fs::read_dir(root.join(".tmp")).unwrap().count(), 0);
}

#[test]
fn a_link_in_the_way_is_refused_and_not_followed() {
    let (outer, root, vault) = made();
    let elsewhere = outer.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("secret"), b"not for the vault").unwrap();
    let key = segment(b"x");
    let parent = root.join(key.as_str()).parent().unwrap().to_owned();
    fs::create_dir_all(parent.parent().unwrap()).unwrap();
    symlink(&elsewhere, &parent).unwrap();
    let error = vault.put(&key, b"x").unwrap_err();
    assert!(matches!(error, VaultError::NotPlain { expected: "folder", .. }), "{error}");
    assert!(error.hint().is_some());
    assert!(vault.get(&key, 10).is_err() && vault.length(&key).is_err() && vault.remove(&key).is_err());
    let listing = vault.list(&Prefix::all()).unwrap();
    assert_eq!(listing.strangers.len(), 1, "the link is named: {listing:?}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1, "nothing was written through the link");

    fs::remove_file(&parent).unwrap();
    fs::create_dir(&parent).unwrap();
    symlink(elsewhere.join("secret"), root.join(key.as_str())).unwrap();
    assert!(matches!(vault.get(&key, 100).unwrap_err(), VaultError::NotPlain { expected: "file", .. }));
    assert!(vault.length(&key).is_err());
    vault.put(&key, b"x").unwrap();
    assert_eq!(vault.get(&key, 100).unwrap(), b"x", "the link itself was replaced");
    assert_eq!(fs::read(elsewhere.join("secret")).unwrap(), b"not for the vault");

    fs::remove_dir_all(root.join(".tmp")).unwrap();
    symlink(&elsewhere, root.join(".tmp")).unwrap();
    assert!(vault.put(&segment(b"y"), b"y").is_err());
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1);
}

#[test]
fn what_is_no_plain_file_is_named_in_a_listing_and_never_waited_for() {
    let (_outer, root, vault) = made();
    let key = segment(b"x");
    vault.put(&key, b"x").unwrap();
    fs::remove_file(root.join(key.as_str())).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join(key.as_str()),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(matches!(vault.get(&key, 10).unwrap_err(), VaultError::NotPlain { .. }));
    fs::create_dir(root.join("lost+found")).unwrap();
    fs::write(root.join("a name\nwith a line end"), "x").unwrap();
    let listing = vault.list(&Prefix::all()).unwrap();
    assert_eq!(listing.strangers_count, 3, "{listing:?}");
    assert!(listing.strangers.iter().all(|name| !name.contains('\n')));
}

#[test]
fn settling_fails_when_a_folder_is_gone_and_is_tried_again() {
    let (_outer, root, vault) = made();
    let key = segment(b"x");
    vault.put(&key, b"x").unwrap();
    let nodes = root.join("nodes");
    fs::rename(&nodes, root.join(".aside")).unwrap();
    assert!(vault.settle().is_err());
    assert!(vault.settle().is_err(), "what could not be synced is not forgotten");
    fs::rename(root.join(".aside"), &nodes).unwrap();
    vault.settle().unwrap();
    fs::rename(&nodes, root.join(".aside")).unwrap();
    vault.settle().unwrap();
    assert_eq!(vault.length(&key).unwrap(), None);
}

#[test]
fn what_was_looked_at_is_settled_too() {
    let (_outer, root, vault) = made();
    let key = segment(b"x");
    vault.put(&key, b"x").unwrap();
    let forget_all = |vault: &Vault| {
        fs::rename(root.join("nodes"), root.join(".aside")).unwrap();
        let settled = vault.settle();
        fs::rename(root.join(".aside"), root.join("nodes")).unwrap();
        settled
    };
    let next = vault.with_patience(Patience::default());
    forget_all(&next).unwrap();
    assert_eq!(next.length(&key).unwrap(), Some(1));
    assert!(forget_all(&next).is_err(), "the folder of an object that was looked at is synced");
    let next = vault.with_patience(Patience::default());
    assert_eq!(next.list(&Prefix::segments(&node())).unwrap().objects.len(), 1);
    assert!(forget_all(&next).is_err(), "and those of a listing");
}

#[test]
fn a_folder_that_may_not_be_read_is_an_error_and_not_empty() {
    let (_outer, root, vault) = made();
    vault.put(&segment(b"x"), b"x").unwrap();
    let nodes = root.join("nodes");
    fs::set_permissions(&nodes, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&nodes).is_ok() {
        // root may read it all the same.
        return;
    }
    let error = vault.list(&Prefix::all()).unwrap_err();
    fs::set_permissions(&nodes, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(error.trouble() == Trouble::Denied && error.hint().unwrap().contains("own"), "{error}");
}

#[test]
fn no_space_is_said_to_be_no_space() {
    let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let folder = PathBuf::from("/vault");
    let error = VaultError::Folder { vault: name(), action: "write", key: "k".to_owned(), folder, source };
    assert_eq!(error.to_string(), "vault test: cannot write k in /vault");
    assert!(!error.is_temporary() && error.hint().unwrap().starts_with("free space where vault test lies"));
}

#[test]
fn opendal_s_own_fs_service_reads_the_same_vault() {
    let (_outer, root, vault) = made();
    let key = segment(b"content");
    vault.put(&key, b"content").unwrap();
    let fs = opendal::services::Fs::default().root(root.to_str().unwrap());
    let other = Vault::from_operator(name(), opendal::Operator::new(fs).unwrap()).unwrap();
    assert_eq!(other.identify().unwrap(), vault.identify().unwrap());
    assert_eq!(other.get(&key, 100).unwrap(), b"content");
    assert_eq!(other.nodes().unwrap(), vault.nodes().unwrap());
    let (ours, theirs) = (vault.list(&Prefix::nodes()).unwrap(), other.list(&Prefix::nodes()).unwrap());
    assert_eq!(ours, theirs);
    assert!(ours.objects[0].stored.is_some());
}

#[test]
fn the_clock_of_a_folder_is_that_of_whoever_dates_its_files() {
    let (_outer, root, vault) = made();
    let listed = || {
        let mut all = all_below(&root);
        all.sort();
        all
    };
    let before = listed();
    // What this machine dates itself, by its own clock.
    let moment = Timestamp::from_second(1_800_000_000).unwrap();
    assert_eq!(vault.now(Clock::Fixed(moment)).unwrap(), moment);
    // What another machine serves, by a file that it dates.
    let served = super::super::folder::FolderStore::new(name(), root.clone());
    let stored = vault.look(&ObjectKey::vault_json()).unwrap().unwrap().stored.unwrap();
    let now = served.now_by_a_file().unwrap();
    assert!(now >= stored && now < moment, "{now} is no time after {stored}");
    assert_eq!(listed(), before, "nothing stays behind");
    fs::remove_dir_all(&root).unwrap();
    assert!(vault.now(Clock::Fixed(moment)).is_err());
}
