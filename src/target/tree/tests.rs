//! Tars written by the real source and unpacked below another root; and tars that no source of ours would write.

use super::super::Owners;
use super::*;
use crate::artifact::{ArtifactSpec, Codec};
use crate::sources::files::Files;
use crate::sources::{Body, Sink, SourceError};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

#[derive(Default)]
struct Kept(Vec<u8>);

impl Sink for Kept {
    fn artifact(&mut self, _: ArtifactSpec, body: Body<'_>) -> Result<(), SourceError> {
        body(&mut self.0).map(drop)
    }
    fn finding(&mut self, _: Finding) {}
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What the source of files makes of a folder with one of each kind.
fn sample() -> (tempfile::TempDir, Vec<u8>) {
    let host = tempfile::tempdir().unwrap();
    let top = host.path().join("app");
    std::fs::create_dir_all(top.join("closed/deep")).unwrap();
    std::fs::write(top.join("env"), "SECRET=1").unwrap();
    mode(&top.join("env"), 0o640);
    std::fs::write(top.join("closed/deep").join("n".repeat(150)), vec![9; 300_000]).unwrap();
    std::fs::hard_link(top.join("env"), top.join("second")).unwrap();
    symlink("/nix/store/x", top.join("link")).unwrap();
    rustix::fs::setxattr(top.join("env"), "user.a=b", b"value", XattrFlags::empty()).unwrap();
    let past = times((1_700_000_000, 123_456_789));
    for path in ["env", "closed/deep", "closed"] {
        rustix::fs::utimensat(rustix::fs::CWD, top.join(path), &past, AtFlags::empty()).unwrap();
    }
    mode(&top.join("closed"), 0o711);
    if uzers::get_effective_uid() == 0 {
        std::os::unix::fs::chown(top.join("env"), Some(64_321), Some(64_322)).unwrap();
    }
    let (name, paths) = ("app".parse().unwrap(), [top.to_string_lossy().into_owned()]);
    let mut kept = Kept::default();
    let interrupt = Interrupt::new();
    let files = Files { name: &name, paths: &paths, exclude: &[], codec: Codec::None, interrupt: &interrupt };
    files.read(&mut kept).unwrap();
    (host, kept.0)
}

fn ground() -> (tempfile::TempDir, Root) {
    super::super::root::tests::ground_of(Owners::Required)
}

fn unpack(root: &Root, tar: &[u8], forbidden: &[PathBuf]) -> Result<Unpacked, TreeError> {
    let interrupt = Interrupt::new();
    root.unpack(tar, &Unpack { below: Path::new("/"), label: "now", forbidden, interrupt: &interrupt })
}

fn target(error: TreeError) -> TargetError {
    match error {
        TreeError::Target(error) => error,
        other => panic!("{other}"),
    }
}

/// All that is below a folder: path, kind, mode, owner, time and content.
fn listing(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut ahead = vec![folder.to_owned()];
    while let Some(next) = ahead.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let content = match meta.file_type() {
                kind if kind.is_file() => xxhash_rust::xxh3::xxh3_64(&std::fs::read(&path).unwrap()).to_string(),
                kind if kind.is_symlink() => format!("{:?}", std::fs::read_link(&path).unwrap()),
                _ => {
                    ahead.push(path.clone());
                    String::new()
                }
            };
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            let owner = format!("{}:{}", meta.uid(), meta.gid());
            found.push(format!("{name} {:o} {owner} {}.{} {content}", meta.mode(), meta.mtime(), meta.mtime_nsec()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_tree_comes_back_as_it_was_wherever_an_earlier_run_was_cut_off() {
    let (host, tar) = sample();
    let app = host.path().join("app");
    let points = steps::survive(
        ground,
        |(_, root)| unpack(root, &tar, &[]).map(drop).map_err(target),
        |(_, root), point| {
            let there = root.path_of(&app);
            assert_eq!(listing(&there), listing(&app), "point {point}");
            let (env, second) = (std::fs::metadata(there.join("env")).unwrap(), there.join("second"));
            assert_eq!(env.ino(), std::fs::metadata(second).unwrap().ino(), "two names of one file");
            let mut value = [0; 9];
            let length = rustix::fs::getxattr(there.join("env"), "user.a=b", &mut value).unwrap();
            assert_eq!(&value[..length], b"value");
            let again = unpack(root, &tar, &[]).unwrap();
            assert_eq!((again.placed, again.left, again.aside.len()), (0, 4, 0), "what is equal stays");
        },
    );
    assert!(points > 25, "{points}");
}

/// A folder of what a reader by lines stumbles over, as the source of files makes a tar of it.
fn with_newlines(host: &Path) -> Vec<u8> {
    std::fs::create_dir_all(host.join("app")).unwrap();
    let app = host.join("app");
    let long = format!("{}\ntail of the name", "x".repeat(90));
    for name in ["a", "acl", "z", &long, "15 path=shadow\n"] {
        std::fs::write(app.join(name), name).unwrap();
        mode(&app.join(name), 0o640);
    }
    symlink(format!("{}\n9 path=z\n", "y".repeat(101)), app.join("link")).unwrap();
    std::fs::create_dir(app.join("folder")).unwrap();
    let set = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::setxattr(app.join(name), key, value, XattrFlags::empty()).unwrap();
    };
    set("a", "user.note", b"a\n22 path=etc/passwd\nb");
    set("a", "user.new\nline", b"\n");
    set("a", "user.empty", b"");
    set("folder", "user.note", b"\n\n");
    // As `setfacl -m u:10:r`: version 2; user::rw-, user:10:r--, group::r--, mask::r--, other::---.
    let entries: [(u16, u16, u32); 5] = [(1, 6, !0), (2, 4, 10), (4, 4, !0), (16, 4, !0), (32, 0, !0)];
    let acl: Vec<u8> = (2_u32.to_le_bytes().into_iter())
        .chain(
            entries
                .iter()
                .flat_map(|(tag, may, who)| [&tag.to_le_bytes()[..], &may.to_le_bytes(), &who.to_le_bytes()].concat()),
        )
        .collect();
    // Not every filesystem keeps them.
    let kept = rustix::fs::setxattr(app.join("acl"), "system.posix_acl_access", &acl, XattrFlags::empty());
    assert!(matches!(kept, Ok(()) | Err(rustix::io::Errno::OPNOTSUPP)), "{kept:?}");
    let (name, paths) = ("app".parse().unwrap(), [app.to_string_lossy().into_owned()]);
    let (mut kept, interrupt) = (Kept::default(), Interrupt::new());
    let files = Files { name: &name, paths: &paths, exclude: &[], codec: Codec::None, interrupt: &interrupt };
    files.read(&mut kept).unwrap();
    kept.0
}

#[test]
fn newlines_in_attributes_names_and_targets_come_back_as_they_were() {
    let host = tempfile::tempdir().unwrap();
    let tar = with_newlines(host.path());
    let app = host.path().join("app");
    assert_eq!(crate::sources::files::inspect(&tar[..]).unwrap().left_out.count(), 0);
    let (_folder, root) = ground();
    let done = unpack(&root, &tar, &[]).unwrap();
    assert_eq!((done.placed, done.left_out.count()), (6, 0), "{done:?}");
    let there = root.path_of(&app);
    assert_eq!(listing(&there), listing(&app));
    for entry in std::fs::read_dir(&app).unwrap() {
        let name = entry.unwrap().file_name();
        let of = |folder: &Path| -> Vec<_> {
            let path = folder.join(&name);
            let mut keys: Vec<_> = xattr::list(&path).unwrap().collect();
            keys.sort();
            keys.into_iter().map(|key| (key.clone(), xattr::get(&path, &key).unwrap())).collect()
        };
        assert_eq!(of(&there), of(&app), "{name:?}");
    }
    assert_eq!(unpack(&root, &tar, &[]).unwrap().placed, 0);
    let interrupt = Interrupt::new();
    let how = Unpack { below: Path::new("/"), label: "now", forbidden: &[], interrupt: &interrupt };
    let compared = root.compare(&tar[..], &how).unwrap();
    assert_eq!((compared.differing, compared.left_out.count()), (Vec::new(), 0));
}

#[test]
fn an_entry_whose_headers_cannot_be_read_stops_no_other() {
    let pax = |records: &[u8]| raw("PaxHeaders/entry", tar::EntryType::XHeader, "", records);
    let file = |name: &str| raw(name, tar::EntryType::Regular, "", b"content");
    let too_long = vec![b'x'; 1024 * 1024 + 1];
    let bad: [&[u8]; 5] = [b"99 path=x\n", b"no number", b"13 uid=-1000\n", b"17 mtime=tuesday\n", &too_long];
    for records in bad {
        let (folder, root) = ground();
        let tar = ended([file("before"), pax(records), file("bad"), file("after")].concat());
        let seen = crate::sources::files::inspect(&tar[..]).unwrap();
        assert_eq!((seen.facts.files, seen.left_out.count()), (3, 1));
        let done = unpack(&root, &tar, &[]).unwrap();
        assert_eq!((done.placed, done.left_out.count()), (2, 1), "{done:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
    // Where the next entry begins must not be open to doubt.
    let tar = ended([pax(b"10 size=1\n"), file("bad")].concat());
    let (_folder, root) = ground();
    assert!(matches!(unpack(&root, &tar, &[]), Err(TreeError::Tar(TarError::Damaged { .. }))));
}

#[test]
fn what_differs_is_moved_aside_and_nothing_is_lost() {
    let (host, tar) = sample();
    let (_folder, root) = ground();
    let there = root.path_of(&host.path().join("app"));
    std::fs::create_dir_all(there.join("link")).unwrap();
    std::fs::write(there.join("link/inside"), "kept").unwrap();
    std::fs::write(there.join("env"), "SECRET=2").unwrap();
    std::fs::write(there.join("closed"), "a file where a folder goes").unwrap();
    std::fs::write(there.join("second"), "SECRET=1").unwrap();
    std::fs::write(there.join("other"), "not in the tar").unwrap();
    let done = unpack(&root, &tar, &[]).unwrap();
    assert_eq!((done.placed, done.left, done.aside.len()), (4, 0, 4), "{done:?}");
    let read = |path: &str| std::fs::read_to_string(there.join(path)).unwrap();
    assert_eq!((read("env"), read("env.replaced-now/env")), ("SECRET=1".into(), "SECRET=2".into()));
    assert_eq!(read("link.replaced-now/link/inside"), "kept");
    assert_eq!(read("closed.replaced-now/closed"), "a file where a folder goes");
    assert_eq!(read("other"), "not in the tar");
    assert!(there.join("link").is_symlink());
}

/// A tar of one entry whose name is written as it is, whatever a tar's maker would say to it.
fn raw(name: &str, kind: tar::EntryType, target: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o600);
    header.set_uid(uzers::get_effective_uid().into());
    header.set_gid(uzers::get_effective_gid().into());
    header.set_mtime(1);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn ended(mut tar: Vec<u8>) -> Vec<u8> {
    tar.extend_from_slice(&[0; 1024]);
    tar
}

#[test]
fn a_hostile_tar_is_refused_and_touches_nothing() {
    use tar::EntryType as Kind;
    let wallet = PathBuf::from("/cln/bitcoin/wallet.db");
    let left_out = |name: &str, kind: Kind, target: &str, part: &str| {
        let (folder, root) = ground();
        let content: &[u8] = if kind == Kind::Regular { b"x" } else { b"" };
        let tar = ended([raw(name, kind, target, content), raw("z/other", Kind::Regular, "", b"o")].concat());
        let done = unpack(&root, &tar, std::slice::from_ref(&wallet)).unwrap();
        let [told] = &done.left_out.findings("app/files.tar")[..] else { panic!("{name}: {done:?}") };
        assert!(told.message.contains(part) && told.hint.is_some(), "{name}: {told:?}");
        // Not a trace of it, and the other is there.
        let there: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(there, ["z"], "{name}");
        assert_eq!(std::fs::read(folder.path().join("z/other")).unwrap(), b"o");
        assert_eq!(unpack(&root, &tar, std::slice::from_ref(&wallet)).unwrap().placed, 0, "{name}");
    };
    let refused = |name: &str, kind: Kind, target: &str, part: &str| {
        let (folder, root) = ground();
        let error = unpack(&root, &ended(raw(name, kind, target, b"")), std::slice::from_ref(&wallet)).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let text = format!("{error} {cause}");
        assert!(text.contains(part), "{name}: {text}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{name}");
    };
    refused("../x", Kind::Regular, "", "leads out");
    refused("a/../../x", Kind::Regular, "", "leads out");
    refused("/etc/x", Kind::Regular, "", "absolute");
    refused("a//b", Kind::Regular, "", "leads out");
    left_out("a/.relay-backup-staging-1", Kind::Regular, "", "half-made");
    refused("dev", Kind::Block, "", "neither file, folder nor link");
    refused("fifo", Kind::Fifo, "", "neither file, folder nor link");
    refused("second", Kind::Link, "etc/shadow", "not in the tar before it");
    refused("second", Kind::Link, "../etc/shadow", "leads out");
    left_out("a/lightningd.sqlite3", Kind::Regular, "", "node's channel database");
    left_out("a/channel.db", Kind::Symlink, "/x", "node's channel database");
    left_out("cln/bitcoin/wallet.db", Kind::Regular, "", "leave things alone");
    left_out("cln/bitcoin/wallet.db-wal", Kind::Regular, "", "leave things alone");
    left_out("cln/bitcoin", Kind::Symlink, "/x", "move aside");
    left_out("cln", Kind::Regular, "", "move aside");
    left_out("cln/bitcoin/wallet.db/x", Kind::Regular, "", "move aside");

    let (folder, root) = ground();
    let interrupt = Interrupt::new();
    let how = Unpack { below: Path::new("/cln"), label: "now", forbidden: &[], interrupt: &interrupt };
    for out in ["/etc/passwd", "../../etc/passwd", "../x"] {
        let error = root.unpack(&ended(raw("config", Kind::Symlink, out, b""))[..], &how).unwrap_err();
        assert!(matches!(error, TreeError::Tar(TarError::Hostile { .. })), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    root.unpack(&ended(raw("config", Kind::Symlink, "bitcoin/config", b""))[..], &how).unwrap();
    // Nothing is written through a link, be it the tar's own.
    let error = root.unpack(&ended(raw("config/x", Kind::Regular, "", b"x"))[..], &how).unwrap_err();
    assert!(matches!(target(error), TargetError::Symlink { .. }));
}

#[test]
fn channel_state_under_another_name_is_refused_by_its_content() {
    let (folder, root) = ground();
    let database = folder.path().join("made.db");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.execute_batch("CREATE TABLE shachains (a); CREATE TABLE channels (a)").unwrap();
    drop(connection);
    let bytes = std::fs::read(&database).unwrap();
    std::fs::remove_file(&database).unwrap();
    let hard = raw("a/second", tar::EntryType::Link, "a/notes.txt", b"");
    let other = raw("a/other", tar::EntryType::Regular, "", b"o");
    let tar = ended([raw("a/notes.txt", tar::EntryType::Regular, "", &bytes), hard, other].concat());
    std::fs::create_dir(folder.path().join("a")).unwrap();
    std::fs::write(folder.path().join("a/second"), "what is there stays").unwrap();
    for placed in [1, 0] {
        let done = unpack(&root, &tar, &[]).unwrap();
        let told = done.left_out.findings("app/files.tar");
        assert_eq!((done.placed, told.len(), done.aside.len()), (placed, 2, 0), "{done:?}");
        assert!(told[0].message.contains("Core Lightning") && told[1].message.contains("second name"), "{told:?}");
        assert_eq!(listing(&folder.path().join("a")).len(), 2, "not even half-made");
    }
}

#[test]
fn a_file_that_is_in_the_tar_twice_counts_as_it_was_last_and_a_tar_that_breaks_off_is_an_error() {
    let file = |content: &[u8]| raw("log", tar::EntryType::Regular, "", content);
    let (folder, root) = ground();
    let tar = ended([file(b"torn"), file(b"whole")].concat());
    for placed in [1, 0] {
        let done = unpack(&root, &tar, &[]).unwrap();
        assert_eq!((done.entries, done.placed, done.aside.len()), (2, placed, 0));
        assert_eq!(std::fs::read(folder.path().join("log")).unwrap(), b"whole");
    }
    let large = ended(raw("large", tar::EntryType::Regular, "", &[1; 100_000]));
    for cut in [600, 50_000, large.len() - 1024, large.len() - 512] {
        let (folder, root) = ground();
        let error = unpack(&root, &large[..cut], &[]).unwrap_err();
        assert!(matches!(error, TreeError::Tar(TarError::Damaged { .. })), "{cut}: {error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{cut}");
    }
    let interrupt = Interrupt::new();
    interrupt.set();
    let how = Unpack { below: Path::new("/"), label: "now", forbidden: &[], interrupt: &interrupt };
    assert!(matches!(root.unpack(&tar[..], &how), Err(TreeError::Interrupted { entries: 0 })));
}

#[test]
fn what_an_older_version_took_of_a_node_comes_back_beside_its_place_and_the_rest_in_it() {
    let (folder, root) = ground();
    let database = folder.path().join("made.db");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.execute_batch("CREATE TABLE local_channels (a); CREATE TABLE htlc_infos (a)").unwrap();
    drop(connection);
    let bytes = std::fs::read(&database).unwrap();
    std::fs::remove_file(&database).unwrap();
    let mut tar = raw("a/eclair.sqlite", tar::EntryType::Regular, "", &bytes);
    tar.extend(raw("a/wallet", tar::EntryType::Regular, "", b"QklFMQxxxxxxxxxxxxxxxx"));
    tar.extend(raw("a/eclair.conf", tar::EntryType::Regular, "", b"fine"));
    std::fs::create_dir(folder.path().join("a")).unwrap();
    std::fs::write(folder.path().join("a/wallet"), "what runs now").unwrap();
    for _ in 0..2 {
        let done = unpack(&root, &ended(tar.clone()), &[]).unwrap();
        let told: Vec<_> = done.findings.iter().filter(|finding| finding.code == "toxic-set-aside").collect();
        assert_eq!(told.len(), 2, "{:?}", done.findings);
        assert!(told[0].subject.ends_with("a/eclair.sqlite") && told[0].message.contains("eclair"), "{:?}", told[0]);
        let mut names: Vec<_> = std::fs::read_dir(folder.path().join("a"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["eclair.conf", "eclair.sqlite.TOXIC", "wallet", "wallet.TOXIC"]);
        assert_eq!(std::fs::read(folder.path().join("a/wallet")).unwrap(), b"what runs now");
        let mode = std::fs::metadata(folder.path().join("a/eclair.sqlite.TOXIC")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o400);
    }
}
