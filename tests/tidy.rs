//! House rules as a test: reads the sources and says file, line, rule and remedy for each place that breaks one. Uses
//! the standard library only and changes nothing. Notes are printed, failures fail.

#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/mask.rs"]
mod mask;
#[path = "tidy/opening.rs"]
mod opening;
#[path = "tidy/placing.rs"]
mod placing;
#[path = "tidy/report.rs"]
mod report;
#[path = "tidy/text.rs"]
mod text;
#[path = "tidy/wiring.rs"]
mod wiring;

use report::{Finding, Weight};
use std::io::Write;
use std::path::Path;
use wiring::Files;

/// Folders that hold no sources of ours.
const SKIPPED: [&str; 4] = ["target", ".git", "fixtures", "proptest-regressions"];

/// What counts as a source, besides files without an extension.
const EXTENSIONS: [&str; 9] = ["rs", "md", "sh", "toml", "nix", "lock", "sql", "html", "json"];

fn read_tree(root: &Path, folder: &Path, files: &mut Files) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if SKIPPED.contains(&name.as_str()) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            read_tree(root, &path, files)?;
        } else if path.extension().is_none_or(|extension| EXTENSIONS.iter().any(|known| extension == *known)) {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if let Ok(text) = String::from_utf8(std::fs::read(&path)?) {
                files.insert(relative, text);
            }
        }
    }
    Ok(())
}

fn check_tree(files: &Files, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let product = |path: &str| path.starts_with("src/") && path.ends_with(".rs") && !text::is_test_file(path);
    for (path, source) in files {
        findings.extend(text::check(path, source));
        if product(path) {
            findings.extend(layers::check_file(path, text::without_tests(source)));
            findings.extend(placing::check(path, text::without_tests(source)));
            findings.extend(opening::check(path, text::without_tests(source)));
        }
        if path.ends_with(".md") {
            findings.extend(wiring::check_links(path, source, &exists));
        }
    }
    let plain = files.iter().filter(|(path, _)| product(path));
    findings.extend(layers::check_circles(plain.map(|(path, source)| (path.as_str(), text::without_tests(source)))));
    findings.extend(wiring::check_modules(files));
    findings.extend(wiring::check_documents(files));
    findings
}

#[test]
fn the_tree_is_tidy() {
    // Cargo runs tests in the package's folder; a path fixed when compiling would outlive a checkout that moves.
    let root = Path::new(".");
    let mut files = Files::new();
    read_tree(root, root, &mut files).unwrap();
    assert!(files.contains_key("src/lib.rs") && files.contains_key("tests/tidy.rs"), "the sources were not found");

    let findings = check_tree(&files, |path| root.join(path).exists());
    let (failures, notes): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|finding| finding.weight == Weight::Failure);
    // Past the test runner's capture, so that notes are seen although the test passes.
    for note in notes {
        writeln!(std::io::stderr(), "tidy: note: {note}").unwrap();
    }
    let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} places break a house rule:\n{}\n", failures.len(), failures.join("\n"));
}

#[test]
fn every_rule_is_asked_of_the_tree() {
    let planted = [
        ("src/lib.rs", "//! A.\npub mod vault;\npub mod seal;\npub mod notes;\npub mod facts;\n"),
        ("src/vault.rs", "//! A.\nuse crate::seal;\n"),
        ("src/seal.rs", "//! A.\nuse rusqlite::Connection;\n"),
        ("src/notes.rs", "//! A.\nuse crate::facts::Facts;\n"),
        ("src/facts.rs", "//! A.\nuse crate::notes::Notes;\n"),
        ("src/seal/tests.rs", "use super::*;\n"),
        ("Cargo.lock", "source = \"git+https://example.org/x\"\n"),
        ("README.md", "[x](lost.md)\n"),
        ("docs/A.md", "\n"),
    ];
    let files: Files = planted.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    let found: Vec<String> = check_tree(&files, |_| false).iter().map(ToString::to_string).collect();
    for part in [
        "src/vault.rs:2: vault (layer 2) must not use seal (layer 2)",
        "src/seal.rs:2: names the crate rusqlite",
        "src/notes.rs:1: notes uses itself through other modules",
        "src/seal/tests.rs:1: has no module comment",
        "src/seal/tests.rs:1: is not part of any program or test",
        "Cargo.lock:1: takes a crate from git+https://example.org/x",
        "README.md:1: links to lost.md",
        "docs/A.md:1: no reader can find it",
    ] {
        assert!(found.iter().any(|line| line.starts_with(part)), "not found: {part}\nin {found:#?}");
    }
    // The circle is told from both its sides.
    assert_eq!(found.len(), 9, "{found:#?}");
}
