//! What the documents say is held against the program: every command in them is run, every published schema and help
//! text is compared with the code, every number of the format is computed again. A document that is wrong at 3 a.m. is
//! worse than none.

mod commands;
mod exit_codes;
mod format;
mod generated;
mod host;
mod manifest_schema;
mod scenarios;

use std::path::{Path, PathBuf};

/// Reads a file of the checkout; cargo runs tests in the package's folder.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// README.md and every Markdown file of `docs/`, sorted.
pub(crate) fn documents() -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir("docs")
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| Path::new(path).extension().is_some_and(|extension| extension == "md"))
        .collect();
    found.push("README.md".to_owned());
    found.sort();
    found
}

/// Fails when a published file is not what the program says now; puts the right one below `target/`.
pub(crate) fn compare(path: &str, fresh: &str) {
    let published = std::fs::read_to_string(path).unwrap_or_default();
    if published == fresh {
        return;
    }
    // The folder that cargo gives tests to write to; it lies below the target folder.
    let beside = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(Path::new(path).file_name().unwrap());
    std::fs::create_dir_all(beside.parent().unwrap()).unwrap();
    std::fs::write(&beside, fresh).unwrap();
    let line = published.lines().zip(fresh.lines()).take_while(|(left, right)| left == right).count() + 1;
    panic!(
        "{path} is not up to date (first at line {line}). Look at the difference, then: cp {} {path}",
        beside.display()
    );
}
