//! The rules about what belongs to what: every source file is part of a program or a test, every document can be found,
//! every link leads somewhere. A file that nobody compiles is a test that never runs.

use crate::mask::code_only;
use crate::report::{Finding, line_of};
use std::collections::{BTreeMap, BTreeSet};

/// Paths relative to the checkout, with the text of each file.
pub(crate) type Files = BTreeMap<String, String>;

/// Finds `.rs` files below `src/` and `tests/` that no root reaches by `mod`.
pub(crate) fn check_modules(files: &Files) -> Vec<Finding> {
    let mut reached = BTreeSet::new();
    let mut ahead: Vec<(String, bool)> = roots(files).into_iter().map(|root| (root, true)).collect();
    while let Some((path, is_root)) = ahead.pop() {
        let Some(text) = files.get(&path) else { continue };
        if reached.insert(path.clone()) {
            ahead.extend(children(&path, is_root, text, files).into_iter().map(|child| (child, false)));
        }
    }
    files
        .keys()
        .filter(|path| path.ends_with(".rs") && (path.starts_with("src/") || path.starts_with("tests/")))
        .filter(|path| !reached.contains(*path))
        .map(|path| Finding::failure(path, 1, "is not part of any program or test", "name it by `mod`, or remove it"))
        .collect()
}

/// `src/lib.rs`, `src/main.rs` and every `path = "…"` of Cargo.toml.
fn roots(files: &Files) -> Vec<String> {
    let manifest = files.get("Cargo.toml").map_or("", String::as_str);
    let named = manifest.lines().filter_map(|line| line.trim().strip_prefix("path = \"")?.strip_suffix('"'));
    ["src/lib.rs", "src/main.rs"].into_iter().chain(named).map(str::to_owned).collect()
}

/// The files that a file's `mod name;` lines lead to.
fn children(path: &str, is_root: bool, text: &str, files: &Files) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.strip_suffix(".rs").unwrap_or(name);
    let inside = if is_root || stem == "mod" { folder.to_owned() } else { format!("{folder}/{stem}") };
    let code = code_only(text);
    let mut found = Vec::new();
    let mut named_path: Option<&str> = None;
    for (plain, line) in text.lines().zip(code.lines()) {
        if line.trim_start().starts_with("#[path") {
            named_path = plain.split('"').nth(1);
            continue;
        }
        let declared =
            line.split_whitespace().skip_while(|word| *word != "mod").nth(1).and_then(|word| word.strip_suffix(';'));
        let Some(module) = declared else { continue };
        match named_path.take() {
            Some(other) => found.push(format!("{folder}/{other}")),
            None => {
                let candidates = [format!("{inside}/{module}.rs"), format!("{inside}/{module}/mod.rs")];
                found.extend(candidates.into_iter().filter(|candidate| files.contains_key(candidate)));
            }
        }
    }
    found
}

/// Finds documents below `docs/` that no links lead to from README.md or ARCHITECTURE.md, where those exist.
pub(crate) fn check_documents(files: &Files) -> Vec<Finding> {
    let mut ahead: Vec<&str> = Vec::new();
    let mut found: BTreeSet<&str> = BTreeSet::new();
    for entry in ["README.md", "ARCHITECTURE.md"] {
        let Some(text) = files.get(entry) else { continue };
        ahead.push(entry);
        // These two may also just name a document.
        ahead.extend(files.keys().map(String::as_str).filter(|path| is_document(path) && text.contains(*path)));
    }
    if ahead.is_empty() {
        return Vec::new();
    }
    while let Some(path) = ahead.pop() {
        if found.insert(path) {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let linked = targets(&files[path]).filter_map(|(_, target)| resolve(folder, target));
            ahead.extend(linked.filter_map(|linked| files.get_key_value(&linked)).map(|(path, _)| path.as_str()));
        }
    }
    files
        .keys()
        .filter(|path| is_document(path) && !found.contains(path.as_str()))
        .map(|path| Finding::failure(path, 1, "no reader can find it", "link it from README.md or a page that is"))
        .collect()
}

fn is_document(path: &str) -> bool {
    path.starts_with("docs/") && path.ends_with(".md")
}

/// Where the relative links of a Markdown text lead, each with its place.
fn targets(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices("](").filter_map(|(at, _)| {
        let target = text[at + 2..].split([')', ' ', '\n']).next()?;
        let target = target.split('#').next().unwrap_or_default();
        (!target.is_empty() && !target.contains(':')).then_some((at, target))
    })
}

/// Finds relative links of Markdown files that lead nowhere. `exists` is asked for paths relative to the checkout.
pub(crate) fn check_links(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut findings = Vec::new();
    for (at, target) in targets(text) {
        let joined = resolve(folder, target);
        if joined.as_deref().is_none_or(|joined| !exists(joined)) {
            let rule = format!("links to {target}, which is not there");
            findings.push(Finding::failure(path, line_of(text, at), rule, "mend the link, or remove it"));
        }
    }
    findings
}

/// The target seen from the checkout's root; `None` when it leads out of it.
fn resolve(folder: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Files {
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_file_that_nobody_compiles_is_found() {
        let mut files = tree(&[
            ("Cargo.toml", "[[test]]\nname = \"a\"\npath = \"tests/a.rs\"\n"),
            ("src/lib.rs", "pub mod x;\n#[cfg(test)]\nmod tests;"),
            ("src/tests.rs", ""),
            ("src/x.rs", "mod y;"),
            ("src/x/y.rs", ""),
            ("tests/a.rs", "mod support;\n#[path = \"odd/z.rs\"]\nmod z;"),
            ("tests/support.rs", "pub(crate) mod env;"),
            ("tests/support/env.rs", ""),
            ("tests/odd/z.rs", ""),
        ]);
        assert!(check_modules(&files).is_empty(), "{:?}", check_modules(&files));
        files.insert("tests/lost.rs".to_owned(), String::new());
        files.insert("src/x/lost.rs".to_owned(), String::new());
        files.insert("src/x.rs".to_owned(), "mod y; // mod lost;".to_owned());
        let found: Vec<String> = check_modules(&files).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("src/x/lost.rs:1: is not part of any program or test"));
    }

    #[test]
    fn a_document_that_nobody_links_is_found() {
        let mut files = tree(&[("docs/A.md", "")]);
        assert!(check_documents(&files).is_empty());
        files.insert("README.md".to_owned(), "[a](docs/B.md)".to_owned());
        assert_eq!(check_documents(&files).len(), 1);
        files.insert("ARCHITECTURE.md".to_owned(), "[a](docs/A.md)".to_owned());
        assert!(check_documents(&files).is_empty());
        files.insert("docs/below/C.md".to_owned(), "[a](../A.md)".to_owned());
        assert_eq!(check_documents(&files).len(), 1);
        files.insert("docs/A.md".to_owned(), "[c](below/C.md#part)".to_owned());
        assert!(check_documents(&files).is_empty());
    }

    #[test]
    fn a_dead_link_is_found() {
        let text = "[a](A.md#part) [b](https://example.org) [c](../src/lib.rs)\n[d](lost.md) [e](#here) [f](../../x)";
        let found = check_links("docs/B.md", text, |path| ["docs/A.md", "src/lib.rs"].contains(&path));
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("docs/B.md:2: links to lost.md"));
    }
}
