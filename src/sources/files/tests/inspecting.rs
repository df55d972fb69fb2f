//! Tars that are read again: hostile, damaged, or anything at all.

use super::*;

/// Name, kind and link target of an entry.
type RawEntry<'a> = (&'a [u8], tar::EntryType, &'a [u8]);

fn tar_with(entries: &[RawEntry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, link) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_size(0);
        header.set_mode(0o644);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn hostile_names_are_refused() {
    use tar::EntryType as Kind;
    let hostile: [&[RawEntry<'_>]; 8] = [
        &[(b"/etc/passwd", Kind::Regular, b"")],
        &[(b"a/../../etc/passwd", Kind::Regular, b"")],
        &[(b"..", Kind::Directory, b"")],
        &[(b"", Kind::Regular, b"")],
        &[(b"a", Kind::Symlink, b"/etc"), (b"a/passwd", Kind::Regular, b"")],
        &[(b"a", Kind::Link, b"../../etc/shadow")],
        &[(b"a", Kind::Link, b"/etc/shadow")],
        &[(b"a", Kind::Char, b"")],
    ];
    for entries in hostile {
        let error = inspect(&tar_with(entries)[..]).unwrap_err();
        assert!(matches!(error, FilesError::Tar(TarError::Hostile { .. })), "{entries:?}: {error}");
    }
    let mut nul = tar::Builder::new(Vec::new());
    nul.append_pax_extensions([("path", &b"a\0b"[..])]).unwrap();
    let mut bytes = nul.get_ref().clone();
    bytes.extend(tar_with(&[(b"x", Kind::Regular, b"")]));
    assert!(matches!(inspect(&bytes[..]), Err(FilesError::Tar(TarError::Hostile { why: "holds a NUL", .. }))));
    let fine = tar_with(&[
        (b"a/..b", Kind::Regular, b""),
        (b"l", Kind::Symlink, b"/anywhere/../x"),
        (b"h", Kind::Link, b"a/..b"),
    ]);
    assert_eq!(inspect(&fine[..]).unwrap().facts.entries, 3);
}

#[test]
fn a_tar_cut_anywhere_is_damage() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("a"), "x".repeat(700)).unwrap();
    fs::write(home.path().join("b"), "y").unwrap();
    let (bytes, facts, _) = tar_of(&[home.path().to_owned()]);
    for length in (0..bytes.len()).step_by(100).chain([bytes.len() - 1, bytes.len() - 512, bytes.len() - 1024]) {
        assert!(matches!(inspect(&bytes[..length]), Err(FilesError::Tar(TarError::Damaged { .. }))), "cut to {length}");
    }
    let mut more = facts.clone();
    more.files += 1;
    assert!(matches!(check(&bytes[..], &more), Err(FilesError::Differs { what: "files", .. })));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_inspected_without_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3000)) {
        drop(inspect(&bytes[..]));
    }

    #[test]
    fn a_broken_database_is_looked_at_without_a_panic(
        at in 16_usize..12_000, bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..64),
    ) {
        let mut whole = fs::read(wallet()).unwrap();
        whole.truncate(40_000);
        whole[at..at + bytes.len()].copy_from_slice(&bytes);
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("db");
        fs::write(&path, &whole).unwrap();
        drop(sqlite_schema::tables(&fs::File::open(&path).unwrap()));
    }
}
