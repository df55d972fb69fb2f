//! The scanner on real dumps, on hand-written archives of other versions, and on damaged and hostile bytes.
use super::*;
use proptest::prelude::*;

/// Writes an archive as `pg_dump` does, for versions that no program here writes.
struct Writer {
    minor: u8,
    bytes: Vec<u8>,
}

impl Writer {
    fn int(&mut self, value: i32) -> &mut Self {
        self.bytes.push(u8::from(value < 0));
        self.bytes.extend(value.wrapping_abs().to_le_bytes());
        self
    }

    fn text(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            None => self.int(-1),
            Some(text) => {
                self.int(i32::try_from(text.len()).unwrap());
                self.bytes.extend(text.bytes());
                self
            }
        }
    }

    fn head(minor: u8, compression: i32, entries: i32) -> Self {
        let mut bytes = b"PGDMP".to_vec();
        bytes.extend([1, minor, 0, 4, 8, 1]);
        let mut writer = Self { minor, bytes };
        if minor >= 15 {
            writer.bytes.push(u8::try_from(compression).unwrap());
        } else {
            writer.int(compression);
        }
        for field in [1, 2, 3, 20, 10, 126, 0] {
            writer.int(field);
        }
        writer.text(Some("shop")).text(Some("18.4")).text(Some("18.4")).int(entries);
        writer
    }

    fn entry(&mut self, id: i32, kind: &str, tag: &str, defn: Option<&str>, copy: Option<&str>) -> &mut Self {
        let has_data = i32::from(kind == "TABLE DATA" || kind == "BLOBS");
        self.int(id).int(has_data).text(Some("0")).text(Some("16400")).text(Some(tag)).text(Some(kind)).int(3);
        self.text(defn).text(Some("")).text(copy).text(Some("public")).text(None).text(None);
        if self.minor >= 16 {
            self.int(114);
        }
        self.text(Some("owner")).text(Some("false")).text(Some("7")).text(None);
        self.bytes.extend([if has_data == 1 { 1 } else { 3 }, 0, 0, 0, 0, 0, 0, 0, 0]);
        self
    }

    fn chunks(&mut self, pieces: &[&[u8]]) -> &mut Self {
        for piece in pieces {
            self.int(i32::try_from(piece.len()).unwrap());
            self.bytes.extend(*piece);
        }
        self.int(0)
    }

    fn block(&mut self, kind: u8, id: i32) -> &mut Self {
        self.bytes.push(kind);
        self.int(id)
    }
}

/// One of everything.
fn sample(minor: u8) -> Vec<u8> {
    let mut writer = Writer::head(minor, 0, 7);
    writer
        .entry(1, "ENCODING", "ENCODING", Some("SET client_encoding = 'UTF8';\n"), None)
        .entry(2, "TABLE", "t", Some("CREATE TABLE t"), None)
        .entry(3, "TABLE DATA", "t", None, Some("COPY public.t (a, b) FROM stdin;\n"))
        .entry(4, "BLOBS", "BLOBS", None, None)
        .entry(5, "SEQUENCE SET", "s", Some("SELECT pg_catalog.setval('public.s', 9, true);\n"), None)
        .entry(6, "MATERIALIZED VIEW", "v", Some("CREATE MATERIALIZED VIEW"), None)
        .entry(7, "MATERIALIZED VIEW DATA", "v", Some("REFRESH MATERIALIZED VIEW"), None);
    writer.block(1, 3).chunks(&[b"1\tone\n2\ttw", b"o\n3\t\\N\n", b"\\.\n\n\n"]);
    // An object whose number does not fit a signed integer is written as a negative one.
    writer.block(3, 4).int(17).chunks(&[b"abc", b"def"]).int(-5).chunks(&[]).int(0);
    writer.bytes
}

fn scan(bytes: &[u8], step: usize) -> Result<Archive, ArchiveError> {
    let mut scanner = Scanner::new();
    for piece in bytes.chunks(step) {
        scanner.push(piece)?;
    }
    scanner.finish()
}

#[test]
fn every_version_is_understood_in_slices_of_any_length() {
    for minor in 14..=16 {
        let bytes = sample(minor);
        let archive = scan(&bytes, usize::MAX).unwrap();
        assert_eq!(archive.version, format!("1.{minor}"));
        assert_eq!((archive.server.as_str(), archive.encoding.as_str()), ("18.4", "UTF8"));
        let table = &archive.tables[0];
        assert_eq!((table.oid, table.rows, table.columns.len()), (16400, 3, 2));
        assert_eq!((archive.sequences[0].last_value, archive.sequences[0].is_called), (9, true));
        assert!(archive.materialized_views[0].populated);
        assert_eq!(archive.large_objects.count, 2);
        assert_eq!(archive.bytes, bytes.len() as u64);
        for step in [1, 2, 3, 5, 6, 7, 11, 64] {
            assert_eq!(scan(&bytes, step).unwrap(), archive, "in steps of {step}");
        }
    }
}

#[test]
fn an_object_s_number_is_part_of_its_digest() {
    let one = scan(&sample(16), 100).unwrap().large_objects;
    let other = sample(16);
    let at = other.windows(5).rposition(|window| window == [0, 17, 0, 0, 0]).unwrap();
    let mut changed = other;
    changed[at + 1] = 18;
    assert_ne!(scan(&changed, 100).unwrap().large_objects.digest, one.digest);
}

#[test]
fn a_dump_cut_anywhere_is_not_whole() {
    let bytes = sample(15);
    for length in 0..bytes.len() {
        let error = scan(&bytes[..length], 50).unwrap_err();
        let expected =
            matches!(error, ArchiveError::Empty | ArchiveError::Truncated { .. } | ArchiveError::MissingData { .. });
        assert!(expected, "cut to {length}: {error}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(scan(&longer, 50).is_err(), "bytes behind the end");
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let error = |bytes: &[u8]| scan(bytes, 10).unwrap_err().to_string();
    assert!(error(&Writer::head(17, 0, 0).bytes).contains("1.17.0"));
    assert!(error(&Writer::head(13, 0, 0).bytes).contains("1.13.0"));
    assert!(error(&Writer::head(16, 3, 0).bytes).contains("--compress=0"));
    assert!(error(&Writer::head(14, -1, 0).bytes).contains("--compress=0"));
    assert!(error(b"-- PostgreSQL database dump").contains("custom format"));
    assert!(error(b"PG").contains("its header"));
    let mut writer = Writer::head(16, 0, 1);
    writer.int(1).int(1).int(i32::MAX);
    assert!(error(&writer.bytes).contains("at most"));
    let mut writer = Writer::head(16, 0, 2);
    for _ in 0..2 {
        writer.entry(3, "TABLE DATA", "t", None, Some("COPY public.t (a) FROM stdin;\n"));
    }
    assert!(error(&writer.bytes).contains("twice"));
    let mut writer = Writer::head(16, 0, 1);
    writer.entry(3, "TABLE DATA", "t", None, Some("COPY public.t (a) FROM stdin;\n"));
    writer.block(1, 4);
    assert!(error(&writer.bytes).contains("number of a data block"));
    let mut writer = Writer::head(16, 0, 1);
    writer.entry(3, "TABLE DATA", "t", None, Some("COPY public.t (a) FROM stdin;\n"));
    writer.block(1, 3).chunks(&[b"1\n2\n"]);
    assert!(error(&writer.bytes).contains("public.t do not end"));
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), step in 1usize..50) {
        drop(scan(&bytes, step));
    }

    #[test]
    fn a_changed_dump_never_panics(
        minor in 14u8..=16,
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        step in 1usize..80,
    ) {
        let mut bytes = sample(minor);
        let at = at.index(bytes.len());
        bytes[at] = value;
        drop(scan(&bytes, step));
    }
}
