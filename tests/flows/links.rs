//! What a restore below another root keeps its hands off: whatever lies behind a link, and, on a dry run, everything.

use super::restore::BURNT;
use crate::support::env::{Ended, Run};
use crate::support::host::Host;
use relay_backup::base::ids::Sha256Hex;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// A host with one snapshot, and an empty folder that is restored to.
struct Ground {
    host: Host,
    root: PathBuf,
    /// Where links lead to.
    behind: PathBuf,
    snapshot: String,
}

impl Ground {
    fn new() -> Self {
        Self::of(Host::new())
    }

    fn of(host: Host) -> Self {
        host.init();
        let snapshot = host.backup();
        let text = host.policy_text();
        let text = text.replace(host.state().to_str().unwrap(), host.env.path("new-state").to_str().unwrap());
        host.env.write("new-policy.toml", text, 0o600);
        let (root, behind) = (host.env.path("new-root"), host.env.path("behind"));
        for folder in [&root, &behind] {
            fs::create_dir(folder).unwrap();
        }
        Self { host, root, behind, snapshot }
    }

    /// Empties the root and what links lead to.
    fn clean(&self) {
        for folder in [&self.root, &self.behind] {
            fs::remove_dir_all(folder).unwrap();
            fs::create_dir(folder).unwrap();
        }
    }

    fn command(&self, scenario: &str, more: &[&str]) -> Run {
        let policy = self.host.env.path("new-policy.toml");
        let key = self.host.signing_key();
        let fixed = ["--policy", policy.to_str().unwrap(), "restore", "--scenario", scenario];
        let root = ["--root", self.root.to_str().unwrap(), "--accept", BURNT];
        let keys = ["--signing-key", &key, "--identity", self.host.identity()];
        self.host.env.relay_backup(&[&fixed[..], &root, &keys, more].concat())
    }

    fn run(&self, scenario: &str, more: &[&str]) -> Ended {
        self.command(scenario, more).ends()
    }

    /// The folder of the restore, as the restored machine names it.
    fn folder(&self) -> PathBuf {
        Path::new("var/lib/relay-backup/restore").join(format!("server-loss-{}", self.snapshot))
    }

    /// A file of the node, relative to the root.
    fn lightning(&self, file: &str) -> PathBuf {
        self.host.lightning(file).strip_prefix("/").unwrap().to_owned()
    }

    /// Puts a link in a place below the root, and its way.
    fn link(&self, path: &Path, to: &Path) {
        let at = self.root.join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        symlink(to, at).unwrap();
    }
}

/// What a look without changing anything leaves as it is.
#[derive(Debug, PartialEq)]
struct Seen {
    mode: u32,
    number: u64,
    modified: (i64, i64),
    content: Option<Sha256Hex>,
}

/// Every path below a folder, and the folder itself.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    let mut paths = vec![folder.to_owned()];
    while let Some(path) = paths.pop() {
        let meta = path.symlink_metadata().unwrap();
        if meta.is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let content = meta.is_file().then(|| Sha256Hex::of(&fs::read(&path).unwrap()));
        let modified = (meta.mtime(), meta.mtime_nsec());
        found.insert(path, Seen { mode: meta.mode(), number: meta.ino(), modified, content });
    }
    found
}

#[test]
fn no_folder_on_the_way_is_reached_through_a_link() {
    let ground = Ground::new();
    let restores = Path::new("var/lib/relay-backup/restore").to_owned();
    let mut folders: Vec<PathBuf> =
        restores.ancestors().map(Path::to_owned).filter(|path| !path.as_os_str().is_empty()).collect();
    folders.extend([ground.folder(), ground.folder().join("quarantine"), ground.lightning("")]);
    for folder in folders {
        ground.clean();
        ground.link(&folder.components().collect::<PathBuf>(), &ground.behind);
        let before = tree(&ground.behind);
        for more in [&["--dry-run"], &["--yes"]] {
            let ended = ground.run("server-loss", more);
            assert!(ended.code.is_some_and(|code| code != 0), "{}\n{ended}", folder.display());
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert!(said.contains("is a symbolic link"), "{}\n{ended}", folder.display());
            assert_eq!(tree(&ground.behind), before, "{} {more:?}\n{ended}", folder.display());
        }
    }
}

#[test]
fn no_file_is_read_or_written_through_a_link() {
    let ground = Ground::new();
    let folder = ground.folder();
    let mut files: Vec<PathBuf> = ["journal.jsonl", "lock", "followup.txt", "followup.json", "cln-emergency.recover"]
        .map(|name| folder.join(name))
        .into();
    files.push(folder.join("quarantine/TOXIC-cln-lightningd.sqlite3"));
    files.extend(["hsm_secret", "emergency.recover", "lightningd.sqlite3"].map(|name| ground.lightning(name)));
    files.push(ground.lightning("").parent().unwrap().join("lightningd-regtest.pid"));
    for file in files {
        // To nothing, and to the very content that belongs there.
        for there in [None, Some("hsm_secret"), Some("emergency.recover"), Some("lightningd.sqlite3")] {
            ground.clean();
            let to = ground.behind.join("file");
            if let Some(name) = there {
                fs::copy(ground.host.lightning(name), &to).unwrap();
            }
            ground.link(&file, &to);
            let before = tree(&ground.behind);
            let ended = ground.run("server-loss", &["--yes"]);
            let case = format!("{} {there:?}\n{ended}", file.display());
            assert!(ended.code.is_some_and(|code| code != 0), "{case}");
            assert!(ended.stderr.contains("a symbolic link"), "{case}");
            assert!(ended.stderr.contains(&format!("/{}", file.display())), "{case}");
            assert_eq!(tree(&ground.behind), before, "{case}");
            if there.is_none() {
                ended.complains("Hint");
            }
        }
    }
}

#[test]
fn a_plan_that_touches_nothing_needs_no_folder_of_ours() {
    let ground = Ground::new();
    ground.link(Path::new("var/lib/relay-backup"), &ground.behind);
    ground.run("disk-full", &["--yes"]).exits(0);
}

#[test]
fn a_machine_that_never_had_a_node_takes_one() {
    let ground = Ground::new();
    let secret = fs::read(ground.host.lightning("hsm_secret")).unwrap();
    fs::rename(ground.host.env.path("lightning"), ground.host.env.path("burnt")).unwrap();
    ground.run("server-loss", &["--yes"]).exits(0);
    assert_eq!(fs::read(ground.root.join(ground.lightning("hsm_secret"))).unwrap(), secret);
    // Whatever this machine has of that name is another one's.
    ground.clean();
    symlink(ground.host.env.path("burnt"), ground.host.env.path("lightning")).unwrap();
    ground.run("server-loss", &["--yes"]).exits(0);
    assert_eq!(fs::read(ground.root.join(ground.lightning("hsm_secret"))).unwrap(), secret);
}

#[test]
fn a_tar_touches_nothing_that_no_tar_may_and_a_dry_run_says_so() {
    let mut host = Host::new();
    let paths = [host.env.path("medusa"), host.lightning("emergency.recover")];
    host.sources[1].1 = format!("kind = \"files\"\npaths = {paths:?}");
    host.write_policy();
    let ground = Ground::of(host);
    let before = tree(&ground.root);
    ground.run("server-loss", &["--dry-run"]).exits(0).complains("must leave things alone");
    assert_eq!(tree(&ground.root), before);
    ground
        .run("server-loss", &["--yes"])
        .exits(0)
        .complains("must leave things alone")
        .complains("an artifact of its own");
    // The node's own artifact brought it, and the rest of the tar is there.
    let of = |root: &Path, path: &Path| Sha256Hex::of(&fs::read(root.join(path)).unwrap());
    let emergency = ground.lightning("emergency.recover");
    let files = ground.host.env.path("medusa").strip_prefix("/").unwrap().to_owned();
    for path in tree(&Path::new("/").join(&files)).into_iter().filter_map(|(path, seen)| seen.content.map(|_| path)) {
        let path = path.strip_prefix("/").unwrap();
        assert_eq!(of(&ground.root, path), of(Path::new("/"), path), "{}", path.display());
    }
    assert_eq!(of(&ground.root, &emergency), of(Path::new("/"), &emergency));
}

#[test]
fn what_backup_and_verify_accept_a_restore_brings_back() {
    let host = Host::new();
    let files = host.env.path("medusa");
    let long = format!("{}\ntail of the name", "x".repeat(90));
    for (name, content) in [("a", "precious"), ("channel.db", ""), ("lightningd.sqlite3-journal", ""), (&long, "l")] {
        host.env.write(&format!("medusa/{name}"), content, 0o600);
    }
    fs::create_dir(files.join("channel.sqlite")).unwrap();
    symlink(format!("{}\ny", "x".repeat(101)), files.join("link")).unwrap();
    xattr::set(files.join("a"), "user.note", b"a\nb").unwrap();
    let ground = Ground::of(host);
    let host = &ground.host;
    host.open(&["verify", "--depth", "meaning"]).exits(0);
    ground.run("server-loss", &["--dry-run"]).exits(0);
    ground.run("server-loss", &["--yes"]).exits(0);
    let there = ground.root.join(files.strip_prefix("/").unwrap());
    let names = |folder: &Path| -> BTreeMap<PathBuf, Option<Sha256Hex>> {
        let below = |path: &Path| path.strip_prefix(folder).unwrap().to_owned();
        tree(folder).into_iter().map(|(path, seen)| (below(&path), seen.content)).collect()
    };
    assert_eq!(names(&there), names(&files));
    assert_eq!(fs::read_link(there.join("link")).unwrap(), fs::read_link(files.join("link")).unwrap());
    assert_eq!(xattr::get(there.join("a"), "user.note").unwrap().unwrap(), b"a\nb");
}

#[test]
fn a_dry_run_writes_nothing_beside_a_large_wallet() {
    let ground = Ground::new();
    let wallet = ground.root.join(ground.lightning("lightningd.sqlite3"));
    fs::create_dir_all(wallet.parent().unwrap()).unwrap();
    for mode in ["DELETE", "WAL"] {
        fs::copy(ground.host.lightning("lightningd.sqlite3"), &wallet).unwrap();
        let connection = Connection::open(&wallet).unwrap();
        connection.execute_batch("CREATE TABLE padding AS SELECT zeroblob(20000000) AS bytes").unwrap();
        connection.pragma_update(None, "journal_mode", mode).unwrap();
        // In WAL mode first with the log of a program that has it open, then without.
        connection.execute_batch("CREATE TABLE more (x); INSERT INTO more VALUES (1)").unwrap();
        let looked = || {
            let before = tree(&ground.root);
            let ended = ground.run("cln-db-corruption", &["--dry-run"]);
            assert_eq!(tree(&ground.root), before, "{mode}\n{ended}");
            ended
        };
        looked();
        drop(connection);
        looked();
    }
}
