//! The rule of layers: a module uses what lies below it, never what lies above or beside it, and each outside crate
//! stays behind the module that hides it. The tables in this file are the rule; change them on purpose only.

use crate::mask::code_only;
use crate::report::{Finding, line_of};
use std::collections::{BTreeMap, BTreeSet};

/// Which layer a module of the crate's root belongs to, lowest first.
const LAYERS: [(usize, &[&str]); 5] = [
    (0, &["base"]),
    (1, &["artifact", "facts", "manifest", "notes", "policy", "report", "guard", "scenario", "plan", "witness"]),
    (2, &["sources", "seal", "vault", "catalog", "sandbox", "target"]),
    (3, &["engine"]),
    (4, &["commands", "cli", "ui", "exit", "main"]),
];

/// Layers whose modules may use each other, so long as they do not do so in a circle.
const SHARED_LAYERS: [usize; 2] = [1, 4];

/// The exceptions among adapters: the user, what it uses, and why.
const ALLOWED: [(&str, &str); 2] = [("sandbox", "sources"), ("target", "sources")];

/// The order inside `sources`: the first may use the second.
const SOURCES_ALLOWED: [(&str, &str); 6] = [
    ("cln", "files"),
    ("cln", "readable"),
    ("cln", "sqlite"),
    ("files", "readable"),
    ("lnd", "files"),
    ("lnd", "sqlite"),
];

/// Outside crates and the only places that may name them.
const CRATES: [(&str, &[&str]); 14] = [
    ("landlock", &["src/base/confinement"]),
    ("nix", &["src/base/confinement", "src/target/record_lock", "src/target/look"]),
    ("opendal", &["src/vault"]),
    ("http", &["src/vault"]),
    ("reqwest", &["src/target/delivery"]),
    ("hmac", &["src/sources/postgres/restore/btcpay"]),
    ("tokio", &["src/vault", "src/sources/postgres", "src/sandbox/cluster"]),
    ("tokio_postgres", &["src/sources/postgres", "src/sandbox"]),
    ("rusqlite", &["src/catalog", "src/sources", "src/sandbox"]),
    ("age", &["src/seal"]),
    ("minisign", &["src/seal"]),
    ("clap", &["src/cli", "src/commands", "src/main"]),
    ("indicatif", &["src/ui"]),
    ("tracing_subscriber", &["src/cli", "src/commands", "src/main", "src/ui"]),
];

/// Names outside of the program, most of the standard library, that only some places may use.
const STANDARD: [(&str, &[&str], &str); 5] = [
    ("std::process::Command", &["src/base/exec"], "start processes through base::exec"),
    ("std::process::exit", &[], "return an exit code from main"),
    // Such a lock must be given back by saying so; see base::flock.
    ("FlockOperation", &["src/base/flock", "src/sandbox/cluster"], "lock through base::flock"),
    ("try_lock", &["src/base/flock"], "lock through base::flock"),
    ("std::env", &["src/base", "src/cli", "src/main"], "read the environment at the edge and hand the value down"),
];

/// The first part of a file's module path and how deep the file lies: `src/vault/fs.rs` is `vault`, 2.
fn module_of(path: &str) -> Option<(&str, usize)> {
    let inside = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    if inside == "lib" {
        return None;
    }
    Some((inside.split('/').next().unwrap_or(inside), inside.split('/').count()))
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().find(|(_, modules)| modules.contains(&module)).map(|(layer, _)| *layer)
}

fn lies_in(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| {
        path.strip_prefix(place).is_some_and(|rest| rest == ".rs" || rest.starts_with('/')) || path == *place
    })
}

/// One use of a module of our own: its path below the crate's root, and where it stands.
struct Use {
    path: Vec<String>,
    at: usize,
}

/// Checks one file of `src/` up to its tests.
pub(crate) fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let Some((module, depth)) = module_of(path) else { return Vec::new() };
    let code = code_only(text);
    let mut findings = Vec::new();
    match layer_of(module) {
        None => findings.push(Finding::failure(
            path,
            1,
            format!("the module {module} has no layer"),
            "give it one in LAYERS in tests/tidy/layers.rs",
        )),
        Some(layer) => {
            for used in uses(&code, module, depth) {
                findings.extend(judge_use(path, module, layer, &used, line_of(&code, used.at)));
            }
        }
    }
    // A group in braces names one module several times; it is one place to mend.
    findings.dedup_by_key(|finding| finding.to_string());
    findings.extend(check_crates(path, &code));
    findings
}

fn judge_use(path: &str, module: &str, layer: usize, used: &Use, line: usize) -> Option<Finding> {
    let target = used.path.first()?.as_str();
    if target == module {
        return judge_source(path, used, line);
    }
    let Some(target_layer) = layer_of(target) else {
        // A type or a function at the crate's root (such as `run`) belongs to the edge.
        return (layer < 4).then(|| {
            Finding::failure(
                path,
                line,
                format!("{module} uses crate::{target}, which is not a module with a layer"),
                "use the module that defines it, or give it a layer in LAYERS in tests/tidy/layers.rs",
            )
        });
    };
    if target_layer < layer
        || (target_layer == layer && SHARED_LAYERS.contains(&layer))
        || ALLOWED.contains(&(module, target))
    {
        return None;
    }
    let remedy = if target_layer == layer {
        "modules of this layer do not know each other: let a layer above bring them together"
    } else {
        "use goes downward only: move what is shared down, or hand it in from above"
    };
    Some(Finding::failure(
        path,
        line,
        format!("{module} (layer {layer}) must not use {target} (layer {target_layer})"),
        remedy,
    ))
}

/// Inside `sources`, the sources do not know each other either.
fn judge_source(path: &str, used: &Use, line: usize) -> Option<Finding> {
    let inside = path.strip_prefix("src/sources/")?.strip_suffix(".rs")?;
    let user = inside.split('/').next()?;
    let target = match used.path.as_slice() {
        [first, second, ..] if first == "sources" => second.as_str(),
        _ => return None,
    };
    let is_module = target.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
    if !is_module || target == user || SOURCES_ALLOWED.contains(&(user, target)) {
        return None;
    }
    Some(Finding::failure(
        path,
        line,
        format!("the source {user} must not use the source {target}"),
        "move what both need into a file of its own in a lower layer",
    ))
}

fn check_crates(path: &str, code: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, places) in CRATES {
        if lies_in(path, places) {
            continue;
        }
        for at in crate_uses(code, name) {
            let remedy = format!("{name} may be named only in {}", places.join(", "));
            findings.push(Finding::failure(path, line_of(code, at), format!("names the crate {name}"), &remedy));
        }
    }
    for (name, places, remedy) in STANDARD {
        if lies_in(path, places) {
            continue;
        }
        for at in word_places(code, name) {
            findings.push(Finding::failure(path, line_of(code, at), format!("names {name}"), remedy));
        }
    }
    findings
}

/// Where the code names an outside crate: `use age…`, or a path that begins with it.
fn crate_uses(code: &str, name: &str) -> Vec<usize> {
    word_places(code, name)
        .into_iter()
        .filter(|&at| {
            let before = code[..at].trim_end();
            let after = &code[at + name.len()..];
            let begins_path = !before.ends_with("::") && !before.ends_with('.');
            let is_use = before.ends_with("use") || before.ends_with("extern crate");
            begins_path && (after.starts_with("::") || (is_use && after.trim_start().starts_with([';', ' '])))
        })
        .collect()
}

fn word_places(code: &str, word: &str) -> Vec<usize> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|&at| !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
        .collect()
}

/// Every path below the crate's root that the code of a file this deep in this module names: `crate::…`,
/// `relay_backup::…`, and `super::` as often as it leads to the root or to the module. Braces of a `use` are opened.
fn uses(code: &str, module: &str, depth: usize) -> Vec<Use> {
    let to_root = "super::".repeat(depth);
    let to_module = "super::".repeat(depth - 1);
    let mut found = Vec::new();
    for prefix in ["crate::", "relay_backup::"] {
        for at in path_begins(code, prefix) {
            open(&code[at + prefix.len()..], at, &[], &mut found);
        }
    }
    for at in path_begins(code, &to_root) {
        open(&code[at + to_root.len()..], at, &[], &mut found);
    }
    // From a module inside a file at the top, as many lead to the file itself: only known names are the root's.
    found.retain(|used| !code[used.at..].starts_with("super") || layer_of(&used.path[0]).is_some());
    if depth > 1 {
        for at in path_begins(code, &to_module) {
            open(&code[at + to_module.len()..], at, &[module.to_owned()], &mut found);
        }
    }
    found
}

/// Where a path begins with this prefix and with no further `super::`.
fn path_begins(code: &str, prefix: &str) -> Vec<usize> {
    let continues = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    code.match_indices(prefix)
        .map(|(at, _)| at)
        .filter(|&at| !code[..at].ends_with(continues) && !code[at + prefix.len()..].starts_with("super::"))
        .collect()
}

/// Reads one path, or a group of them in braces, and adds what it names.
fn open(text: &str, at: usize, prefix: &[String], found: &mut Vec<Use>) {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        let mut depth = 0;
        let mut begins = 0;
        for (index, letter) in group.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                '}' | ',' if depth == 0 => {
                    open(&group[begins..index], at, prefix, found);
                    begins = index + 1;
                    if letter == '}' {
                        return;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    let name: String = text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    if name.is_empty() {
        return;
    }
    let mut path = prefix.to_vec();
    path.push(name.clone());
    match text[name.len()..].strip_prefix("::") {
        Some(rest) if path.len() < 2 => open(rest, at, &path, found),
        _ => found.push(Use { path, at }),
    }
}

/// Finds modules that use each other in a circle. `files` are paths with their text up to the tests.
pub(crate) fn check_circles<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Finding> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in files {
        let Some((module, depth)) = module_of(path) else { continue };
        let targets = edges.entry(module.to_owned()).or_default();
        targets.extend(
            uses(&code_only(text), module, depth)
                .into_iter()
                .map(|used| used.path[0].clone())
                .filter(|target| target != module),
        );
    }
    let reached = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut ahead: Vec<&str> = vec![from];
        while let Some(module) = ahead.pop() {
            for target in edges.get(module).into_iter().flatten() {
                if seen.insert(target.as_str()) {
                    ahead.push(target);
                }
            }
        }
        seen.contains(from)
    };
    edges
        .keys()
        .filter(|module| layer_of(module).is_none_or(|layer| layer < 4) && reached(module))
        .map(|module| {
            Finding::failure(
                &format!("src/{module}.rs"),
                1,
                format!("{module} uses itself through other modules"),
                "break the circle: move what both sides need into a lower module",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check_file(path, text).into_iter().map(|finding| finding.to_string()).collect()
    }

    fn refused(path: &str, text: &str, part: &str) {
        let found = messages(path, text);
        assert!(found.len() == 1 && found[0].contains(part), "{path}: {text}\ngave {found:?}");
    }

    fn accepted(path: &str, text: &str) {
        assert_eq!(messages(path, text), Vec::<String>::new(), "{path}: {text}");
    }

    #[test]
    fn use_goes_downward_only() {
        accepted("src/engine/backup.rs", "use crate::{vault::Vault, seal::{self, keys}, base::ids};");
        accepted("src/vault/fs.rs", "use super::Vault; use crate::policy::VaultPolicy;");
        refused(
            "src/vault.rs",
            "\n\nuse crate::catalog::Catalog;",
            "src/vault.rs:3: vault (layer 2) must not use catalog (layer 2)",
        );
        refused(
            "src/policy/check.rs",
            "fn f() { crate::vault::open() }",
            "policy (layer 1) must not use vault (layer 2)",
        );
        refused("src/base/exec.rs", "use crate::{artifact::Codec};", "base (layer 0) must not use artifact (layer 1)");
        refused("src/vault/fs.rs", "use super::super::catalog;", "must not use catalog");
        refused("src/vault.rs", "use super::engine;", "must not use engine");
        refused("src/seal.rs", "use crate::{base::ids, vault::{Vault, layout}};", "must not use vault");
        refused("src/oddity.rs", "", "has no layer");
        refused("src/vault.rs", "fn f() { crate::run() }", "is not a module with a layer");
        accepted("src/main.rs", "fn f() { relay_backup::run() }");
        accepted("src/vault.rs", "// crate::engine is above\nfn f() -> &'static str { \"crate::engine\" }");
    }

    #[test]
    fn adapters_do_not_know_each_other() {
        accepted("src/sandbox/shop.rs", "use crate::sources::postgres::Postgres;");
        refused("src/sources/postgres.rs", "use crate::sandbox::cluster;", "must not use sandbox");
        accepted(
            "src/sources/cln/wallet.rs",
            "use crate::sources::sqlite::Copy; use crate::sources::{Sink, SourceError};",
        );
        refused(
            "src/sources/files.rs",
            "use crate::sources::sqlite;",
            "the source files must not use the source sqlite",
        );
        accepted("src/sources/cln/wallet.rs", "use super::hsm_secret; use super::super::{Sink, sqlite::Copy};");
        accepted("src/sources/lnd.rs", "use super::files::Files;");
        refused("src/sources/lnd.rs", "use super::cln::Cln;", "the source lnd must not use the source cln");
        refused("src/sources/files/tar.rs", "use super::super::{Sink, cln};", "must not use the source cln");
        refused(
            "src/sources/lnd.rs",
            "use crate::sources::{Sink, postgres::Server};",
            "the source lnd must not use the source postgres",
        );
    }

    #[test]
    fn outside_crates_stay_where_they_belong() {
        accepted("src/vault/fs.rs", "use opendal::Operator; use tokio::runtime::Runtime;");
        refused("src/catalog.rs", "use opendal::Operator;", "names the crate opendal");
        refused("src/seal.rs", "fn f() { rusqlite::version(); }", "names the crate rusqlite");
        refused("src/engine.rs", "use age;", "names the crate age");
        accepted("src/engine.rs", "fn f(age: u64) -> u64 { age + self.age::<u64>() }");
        accepted("src/engine.rs", "use crate::report::Level; fn f() { seal::age::x() }");
        refused("src/seal.rs", "use tokio_postgres::Client;", "names the crate tokio_postgres");
        refused("src/engine.rs", "fn f() { std::process::Command::new(\"true\"); }", "base::exec");
        refused("src/target.rs", "fn f(file: &File) { file.try_lock() }", "lock through base::flock");
        refused("src/target.rs", "use rustix::fs::{AtFlags, FlockOperation};", "lock through base::flock");
        refused("src/vault.rs", "use std::env;", "read the environment at the edge");
        refused("src/main.rs", "fn f() { std::process::exit(1) }", "return an exit code");
        accepted("src/base/exec.rs", "use std::process::Command;");
        assert_eq!(messages("src/vaulted/x.rs", "use opendal::Operator;").len(), 2, "a like name is another module");
    }

    #[test]
    fn circles_are_found() {
        let files = [
            ("src/notes.rs", "use crate::facts::Facts;"),
            ("src/facts/cln.rs", "use crate::policy::Policy;"),
            ("src/policy.rs", "use crate::artifact::Codec;"),
        ];
        assert!(check_circles(files.into_iter()).is_empty());
        let files = [("src/notes.rs", "use crate::facts::Facts;"), ("src/facts/cln.rs", "use crate::notes::Notes;")];
        assert_eq!(check_circles(files.into_iter()).len(), 2);
    }
}
