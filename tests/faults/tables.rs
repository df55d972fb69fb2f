//! The benchmark lives: all its tables at the smallest size. What they say is looked at, no figure is.

use crate::tables::{self, Options, child};

#[test]
#[ignore = "a process of the benchmark's; the test of this file starts it"]
fn stream() {
    child::stream();
}

fn arguments(kind: &str) -> Vec<String> {
    match kind {
        "writer" => super::wallet::writer_arguments(),
        _ => ["faults::tables::stream", "--exact", "--ignored", "--nocapture"].map(str::to_owned).to_vec(),
    }
}

#[test]
fn every_table_of_the_benchmark_can_be_measured() {
    let mut options = Options::new(arguments);
    (options.shop, options.wallet, options.stream, options.files) = (2, 20, 30, 40);
    let mut out = Vec::new();
    tables::run(&options, &mut out);
    let text = String::from_utf8(out).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let row =
        |name: &str| rows.iter().find(|row| row[1] == name).unwrap_or_else(|| panic!("no row {name:?} in\n{text}"));
    for name in ["first backup", "backup: 1 % of new rows", "backup: 1 % of the invoices changed, scattered"] {
        assert!(row(name)[5].ends_with(" MiB") && row(name)[6].ends_with(" MB"), "{text}");
    }
    for name in ["verify --depth opened", "extract to a pipe"] {
        assert!(row(name)[5].ends_with(" MiB"), "{text}");
    }
    for name in ["delete, a writer", "wal, a writer"] {
        assert_eq!((row(name)[2], row(name)[9]), ("exact", "0"), "{text}");
    }
    for name in ["read into a tar", "tar -x, one sync", "placed by restore", "placed already"] {
        assert_eq!(row(name).len(), 5, "{text}");
    }
    assert!(row("30")[4].parse::<u64>().unwrap() > 0, "{text}");
}
