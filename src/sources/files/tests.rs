//! Files, tested on real trees and read back by the machine's own tar.

mod changing;
mod inspecting;
mod screening;

use super::*;
use crate::base::exec::Exec;
use crate::base::flock::Locked;
use crate::facts::files::TarFacts;
use crate::sources::Body;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A sink that keeps everything in memory.
#[derive(Default)]
pub(in crate::sources) struct Collected {
    pub(in crate::sources) artifacts: BTreeMap<String, (Vec<u8>, Facts)>,
    pub(in crate::sources) findings: Vec<Finding>,
}

impl Sink for Collected {
    fn artifact(&mut self, spec: ArtifactSpec, body: Body<'_>) -> Result<(), SourceError> {
        let mut bytes = Vec::new();
        let facts = body(&mut bytes)?;
        self.artifacts.insert(spec.name.to_string(), (bytes, facts));
        Ok(())
    }

    fn finding(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}

impl Collected {
    pub(in crate::sources) fn get(&self, name: &str) -> (Vec<u8>, Facts) {
        self.artifacts.get(name).unwrap_or_else(|| panic!("no artifact {name}: {:?}", self.findings)).clone()
    }

    pub(in crate::sources) fn codes(&self) -> Vec<&str> {
        self.findings.iter().map(|finding| finding.code.as_str()).collect()
    }
}

/// The names in a tar.
pub(in crate::sources) fn listed(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

/// Writes a bolt file as bbolt lays it out: two meta pages, a free list, one leaf page with these buckets.
pub(in crate::sources) fn bolt_file(path: &Path, buckets: &[&str]) {
    const PAGE: usize = 4096;
    let mut bytes = vec![0; 4 * PAGE];
    let put = |bytes: &mut Vec<u8>, at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    for page in 0..2_u64 {
        let at = page as usize * PAGE;
        put(&mut bytes, at, &page.to_le_bytes());
        put(&mut bytes, at + 8, &4_u16.to_le_bytes());
        let mut meta = Vec::new();
        meta.extend(0xED0C_DAED_u32.to_le_bytes());
        meta.extend(2_u32.to_le_bytes());
        meta.extend((PAGE as u32).to_le_bytes());
        meta.extend(0_u32.to_le_bytes());
        meta.extend(3_u64.to_le_bytes());
        meta.extend(0_u64.to_le_bytes());
        meta.extend(2_u64.to_le_bytes());
        meta.extend(4_u64.to_le_bytes());
        meta.extend(page.to_le_bytes());
        let sum = meta
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        meta.extend(sum.to_le_bytes());
        put(&mut bytes, at + 16, &meta);
    }
    let at = 3 * PAGE;
    put(&mut bytes, at, &3_u64.to_le_bytes());
    put(&mut bytes, at + 8, &2_u16.to_le_bytes());
    put(&mut bytes, at + 10, &(buckets.len() as u16).to_le_bytes());
    let mut key_at = at + 16 + 16 * buckets.len();
    for (number, bucket) in buckets.iter().enumerate() {
        let element = at + 16 + 16 * number;
        put(&mut bytes, element, &1_u32.to_le_bytes());
        put(&mut bytes, element + 4, &((key_at - element) as u32).to_le_bytes());
        put(&mut bytes, element + 8, &(bucket.len() as u32).to_le_bytes());
        put(&mut bytes, key_at, bucket.as_bytes());
        key_at += bucket.len();
    }
    fs::write(path, bytes).unwrap();
}

fn read_into(sink: &mut dyn Sink, paths: &[String], exclude: &[String]) -> Result<(), SourceError> {
    let (name, interrupt) = ("s".parse().unwrap(), Interrupt::new());
    Files { name: &name, paths, exclude, codec: Codec::Gzip, interrupt: &interrupt }.read(sink)
}

fn read(paths: &[PathBuf], exclude: &[String]) -> (Collected, Result<(), SourceError>) {
    let paths: Vec<String> = paths.iter().map(|path| path.to_str().unwrap().to_owned()).collect();
    let mut sink = Collected::default();
    let result = read_into(&mut sink, &paths, exclude);
    (sink, result)
}

fn tar_of(paths: &[PathBuf]) -> (Vec<u8>, TarFacts, Collected) {
    let (sink, result) = read(paths, &[]);
    result.unwrap();
    match sink.get("s/files.tar") {
        (bytes, Facts::Tar(facts)) => (bytes, facts, sink),
        (_, other) => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(paths: &[PathBuf], exclude: &[String], codes: &[&str]) -> String {
    let (sink, result) = read(paths, exclude);
    let error = result.expect_err("the source should fail");
    assert!(sink.artifacts.is_empty());
    let failed: Vec<_> = sink.findings.iter().filter(|found| found.level == Level::Failed).collect();
    assert_eq!(failed.iter().map(|found| found.code.as_str()).collect::<Vec<_>>(), codes, "{error}");
    format!("{error}\n{}", error.hint().unwrap_or_default())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Extracts by the machine's own tar.
fn extract(bytes: &[u8], to: &Path) {
    fs::create_dir(to).unwrap();
    Exec::new("/bin/tar")
        .args(["-x", "-p", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-f", "-", "-C"])
        .arg(to)
        .run(bytes)
        .unwrap();
}

/// Everything that must be the same after a round trip, path by path.
fn described(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_symlink() {
            format!("-> {:?}", fs::read_link(&path).unwrap())
        } else if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "folder".to_owned()
        } else {
            format!("{} bytes, {}", meta.len(), crate::base::ids::Sha256Hex::of(&fs::read(&path).unwrap()))
        };
        let owner = if is_root() { (meta.uid(), meta.gid()) } else { (0, 0) };
        let mode = if meta.is_symlink() { 0 } else { meta.mode() };
        let mut attributes: Vec<_> = xattr::list(&path)
            .map(|names| names.map(|name| (name.clone(), xattr::get(&path, &name).unwrap())).collect())
            .unwrap_or_default();
        attributes.sort();
        let links = if meta.is_dir() { 0 } else { meta.nlink() };
        let line =
            format!("{mode:o} {owner:?} {}.{:09} {links} {attributes:?} {content}", meta.mtime(), meta.mtime_nsec());
        found.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), line);
    }
    found
}

fn odd_tree(root: &Path) {
    let file = |name: &OsStr, content: &[u8]| fs::write(root.join(name), content).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    file(OsStr::new("plain"), b"hello");
    file(OsStr::new("with\nnewline"), b"n");
    file(OsStr::new("ünïcode"), b"u");
    file(OsStr::from_bytes(b"not \xff utf-8"), b"x");
    file(OsStr::new(&"l".repeat(220)), b"long");
    file(OsStr::from_bytes(&[b"\xfe".repeat(3), b"o".repeat(200)].concat()), b"long and odd");
    file(OsStr::new("large"), &vec![b'z'; 5 * 1024 * 1024 + 77]);
    let deep = root.join("d".repeat(90)).join("e".repeat(90));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("leaf"), b"leaf").unwrap();
    fs::hard_link(root.join("plain"), root.join("second name")).unwrap();
    fs::hard_link(deep.join("leaf"), root.join("zz leaf")).unwrap();
    std::os::unix::fs::symlink("plain", root.join("link")).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    std::os::unix::fs::symlink("t".repeat(180), root.join("long link")).unwrap();
    fs::set_permissions(root.join("plain"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o1700)).unwrap();
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 5, tv_nsec: 0 },
        last_modification: rustix::fs::Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 },
    };
    rustix::fs::utimensat(rustix::fs::CWD, root.join("large"), &times, rustix::fs::AtFlags::empty()).unwrap();
    if is_root() {
        std::os::unix::fs::lchown(root.join("link"), Some(1234), Some(4321)).unwrap();
        std::os::unix::fs::chown(root.join("large"), Some(3_000_000), Some(77)).unwrap();
    }
    // Not every filesystem has them.
    for (name, value) in [("user.a", &b"\0bin=ary\n\xff"[..]), ("user.odd=na%me", b"v"), ("user.empty", b"")] {
        xattr::set(root.join("large"), name, value).unwrap_or_default();
    }
}

#[test]
fn a_tree_comes_back_from_stock_tar_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("tree");
    odd_tree(&root);
    let before = described(&root);
    let (bytes, facts, sink) = tar_of(std::slice::from_ref(&root));
    assert_eq!(sink.codes(), [""; 0]);
    let to = home.path().join("out");
    extract(&bytes, &to);
    let after = described(&to.join(root.strip_prefix("/").unwrap()));
    assert_eq!(before, after);
    assert_eq!((facts.hard_links, facts.symlinks, facts.folders, facts.repeated), (2, 3, 4, 0));
    let checked = check(&bytes[..], &facts).unwrap();
    assert_eq!((checked.facts, checked.left_out.count()), (facts.counts(), 0));
    let (again, _, _) = tar_of(&[root]);
    assert!(bytes == again, "the same tree gives the same bytes");
}

#[test]
fn a_missing_path_or_glob_fails_the_source() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("there"), "x").unwrap();
    let paths = [home.path().join("there"), home.path().join("gone"), home.path().join("*.gone")];
    let text = refused(&paths, &[], &["path-missing", "glob-matches-nothing"]);
    assert!(text.contains("gone does not exist; "), "{text}");
    assert!(text.contains("*.gone matches nothing"), "{text}");
}

#[test]
fn excludes_are_kept_to_and_a_stale_one_is_reported() {
    let home = tempfile::tempdir().unwrap();
    for name in ["a", "b.log", "sub/c.log", "sub/d"] {
        fs::create_dir_all(home.path().join(name).parent().unwrap()).unwrap();
        fs::write(home.path().join(name), "x").unwrap();
    }
    let pattern = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let exclude = [pattern("**/*.log"), pattern("old-cache"), pattern("sub/d")];
    let (sink, result) = read(&[home.path().to_owned()], &exclude);
    result.unwrap();
    let names = listed(&sink.get("s/files.tar").0);
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names[1].ends_with("/a") && names[2].ends_with("/sub/"), "{names:?}");
    assert_eq!(sink.codes(), ["exclude-unused"]);
    assert_eq!((sink.findings[0].level, sink.findings[0].subject.as_str()), (Level::Degraded, exclude[1].as_str()));
    let text = refused(&[home.path().join("a")], &[pattern("*")], &["path-excluded"]);
    assert!(text.contains("left out as a whole"), "{text}");
}

#[test]
fn links_are_never_followed() {
    let home = tempfile::tempdir().unwrap();
    let (inside, outside) = (home.path().join("inside"), home.path().join("outside"));
    fs::create_dir_all(&inside).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("way-out")).unwrap();
    let (bytes, _, _) = tar_of(std::slice::from_ref(&inside));
    assert!(!listed(&bytes).iter().any(|name| name.contains("secret")));
    refused(&[inside.join("*/secret")], &[], &["glob-matches-nothing"]);
    let through = [inside.clone(), inside.join("way-out/secret")];
    let text = refused(&through, &[], &["path-through-link"]);
    assert!(text.contains("name what "), "{text}");
    let (_, _, sink) = tar_of(&[inside.join("way-out")]);
    assert_eq!(sink.codes(), ["root-is-link"]);
    assert_eq!(sink.findings[0].level, Level::Degraded);
    let (_, _, sink) = tar_of(&[inside.join("way-out"), outside]);
    assert_eq!(sink.codes(), [""; 0]);
}

#[test]
fn nested_and_doubled_paths_are_stored_once() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join("a/b")).unwrap();
    fs::write(home.path().join("a/b/c"), "x").unwrap();
    fs::write(home.path().join("a-z"), "x").unwrap();
    let (bytes, facts, _) =
        tar_of(&[home.path().join("a/b/c"), home.path().join("a"), home.path().join("a*"), home.path().join("a")]);
    assert_eq!(listed(&bytes).len(), 4);
    assert_eq!(facts.files, 2);
}

#[test]
fn what_no_restore_would_place_is_left_out_and_told_and_the_rest_is_taken() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    // Empty, or a folder: no channel state.
    for name in ["a", "channel.db", "lightningd.sqlite3-journal"] {
        fs::write(path(name), "").unwrap();
    }
    fs::create_dir(path("sphinxreplay.db")).unwrap();
    fs::write(path("lightningd.sqlite3-wal"), "pages").unwrap();
    fs::write(path("first"), "two names").unwrap();
    fs::hard_link(path("first"), path("channel.sqlite")).unwrap();
    std::os::unix::fs::symlink("/mnt/ssd/lightningd.sqlite3", path("lightningd.sqlite3")).unwrap();
    fs::write(path(".relay-backup-staging-0102"), "half").unwrap();
    let mut deep = rustix::fs::open(home.path(), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..25 {
        let name = "d".repeat(200);
        rustix::fs::mkdirat(&deep, &name, rustix::fs::Mode::RWXU).unwrap();
        deep = rustix::fs::openat(&deep, &name, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    }
    let (bytes, facts, sink) = tar_of(&[home.path().to_owned()]);
    assert_eq!(sink.codes(), ["entry-left-out"; 5]);
    let told = sink.findings.iter().all(|found| found.level == Level::Degraded && found.hint.is_some());
    assert!(told, "{:?}", sink.findings);
    let checked = check(&bytes[..], &facts).unwrap();
    assert_eq!((checked.facts.files, checked.left_out.count()), (4, 0));
    assert!(checked.facts.folders > 15, "{checked:?}");
}

#[test]
fn one_entry_too_many_fails_the_source_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c", "d", "e"] {
        fs::write(home.path().join(name), "x").unwrap();
    }
    let paths = [home.path().display().to_string()];
    let (mut out, interrupt) = (Vec::new(), Interrupt::new());
    let plan = expand::expand(&paths, &[]);
    let mut collector = Collector::new(&mut out, plan, LockedBolt::Refuse, &interrupt).at_most(4);
    assert!(collector.run().is_ok());
    let (_, obstacles, more) = collector.finish(&mut Vec::new());
    assert_eq!((obstacles.len(), more, obstacles[0].code()), (1, 0, "entries-too-many"));
    assert!(obstacles[0].hint().unwrap().contains("second source"));
}

#[test]
fn sockets_and_fifos_are_left_out_and_said_to_be() {
    let home = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(home.path().join("rpc")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, home.path().join("fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    fs::create_dir(home.path().join("lightning.pre-recover.1234")).unwrap();
    let (_, facts, sink) = tar_of(&[home.path().to_owned()]);
    assert_eq!(sink.codes(), ["special-file", "pre-recover", "special-file"]);
    assert_eq!((facts.entries, facts.notes.len()), (2, 3));
}

#[test]
fn unreadable_files_fail_the_source_and_are_all_named() {
    if is_root() {
        // Root reads everything; the same code runs for errors of a disk.
        return;
    }
    let home = tempfile::tempdir().unwrap();
    for number in 0..25 {
        let path = home.path().join(format!("f{number:02}"));
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let text = refused(&[home.path().to_owned()], &[], &["file-unreadable"; 20]);
    assert!(text.contains("and 5 more"), "{text}");
}

fn wallet() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cln/node/04-after-25-payments/lightningd.sqlite3")
}

#[test]
fn access_times_stay_as_they_were() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("file");
    fs::write(&path, "content").unwrap();
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 5, tv_nsec: 0 },
        last_modification: rustix::fs::Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 },
    };
    rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty()).unwrap();
    tar_of(std::slice::from_ref(&path));
    assert_eq!(fs::metadata(&path).unwrap().atime(), 5);
}
