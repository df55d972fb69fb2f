//! The rules about words, lengths and first lines, file by file. Rules that a compiler or clippy already keeps are not
//! repeated here.

use crate::mask::code_only;
use crate::report::{Finding, line_of};

const LINE_CHARS_MAX: usize = 120;
/// A message in a string may be longer: broken in two, nobody who reads it on a screen would find it in the code.
const LINE_WITH_STRING_CHARS_MAX: usize = 180;
const FILE_LINES_NOTE: usize = 400;
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_NOTE: usize = 60;

/// Words that may not stand in a source file, not even in a comment. Split so that this file passes its own rule.
const WORDS: [(&str, &str); 6] = [
    (concat!("TO", "DO"), "do it now, or open an issue"),
    (concat!("FIX", "ME"), "mend it now, or open an issue"),
    (concat!("XX", "X"), "say what is wrong, or mend it"),
    (concat!("dbg", "!"), "remove it"),
    (concat!("todo", "!"), "write it"),
    (concat!("unimplemented", "!"), "write it, or return an error that says so"),
];

/// Paths and hosts of somebody's machine. Each is the beginning of an absolute path or a name of a host.
const PLACES: [(&str, &str); 6] = [
    (concat!("/wo", "rk/"), "use a path relative to the checkout"),
    (concat!("/ro", "ot/"), "use a path relative to the checkout, or $HOME"),
    (concat!("index.", "crates.io"), "name no registry host"),
    (concat!("static.", "crates.io"), "name no registry host"),
    (concat!("sparse", "+http"), "name no registry host"),
    (concat!("replace", "-with"), "configure registries outside the project"),
];

/// The only place the lock file may take crates from.
const LOCK_SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Lines up to the unit tests: where they begin, or the whole text.
pub(crate) fn without_tests(text: &str) -> &str {
    let code = code_only(text);
    code.match_indices("#[cfg(test)]")
        .map(|(at, mark)| (at, code[at + mark.len()..].trim_start()))
        .find(|(_, rest)| rest.starts_with("mod ") && !rest.lines().next().unwrap_or_default().ends_with(';'))
        .map_or(text, |(at, _)| &text[..at])
}

/// Whether a whole file is test code.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Checks any text file: words, places and, for Rust, everything else.
pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    if path == "Cargo.lock" {
        return check_lock(path, text);
    }
    let mut findings = check_words(path, text);
    if path.ends_with(".rs") {
        findings.extend(check_rust(path, text));
    }
    findings
}

fn check_lock(path: &str, text: &str) -> Vec<Finding> {
    text.lines()
        .enumerate()
        .filter_map(|(index, line)| Some((index + 1, line.strip_prefix("source = \"")?.strip_suffix('"')?)))
        .filter(|(_, source)| *source != LOCK_SOURCE)
        .map(|(line, source)| {
            Finding::failure(
                path,
                line,
                format!("takes a crate from {source}"),
                "use a released version from crates.io",
            )
        })
        .collect()
}

fn check_words(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (word, remedy) in WORDS {
            if holds_word(line, word) {
                findings.push(Finding::failure(path, index + 1, format!("holds the word {word}"), remedy));
            }
        }
        for (place, remedy) in PLACES {
            if holds_place(line, place) {
                findings.push(Finding::failure(path, index + 1, format!("names {place}"), remedy));
            }
        }
    }
    findings
}

/// The word stands alone: the longer row of letters in a template of `mktemp` is another word.
fn holds_word(line: &str, word: &str) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word).any(|(at, _)| {
        let after = &line[at + word.len()..];
        !line[..at].ends_with(is_word) && (word.ends_with('!') || !after.starts_with(is_word))
    })
}

/// The place begins here and is not the tail of a longer path.
fn holds_place(line: &str, place: &str) -> bool {
    line.match_indices(place)
        .any(|(at, _)| !line[..at].ends_with(|letter: char| letter.is_alphanumeric() || "._-}$)".contains(letter)))
}

fn check_rust(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !text.starts_with("//! ") {
        let remedy = "begin with //! and say what it is for, why, and what it must never do";
        findings.push(Finding::failure(path, 1, "has no module comment on its first line", remedy));
    }
    for (index, line) in text.lines().enumerate() {
        let chars = line.chars().count();
        let is_comment = line.trim_start().starts_with("//");
        let limit = if line.contains('"') && !is_comment { LINE_WITH_STRING_CHARS_MAX } else { LINE_CHARS_MAX };
        if chars > limit {
            let rule = format!("the line has {chars} characters, {limit} are allowed");
            findings.push(Finding::failure(path, index + 1, rule, "break it"));
        }
    }
    let plain = without_tests(text);
    findings.extend(check_length(path, plain));
    let code = code_only(plain);
    findings.extend(check_functions(path, &code));
    findings.extend(check_lost_causes(path, &code));
    if !is_test_file(path) {
        for (at, _) in code.match_indices("use super::*") {
            let remedy = "name what is used; only `mod tests` may take everything";
            findings.push(Finding::failure(path, line_of(&code, at), "takes everything from its parent", remedy));
        }
    }
    findings
}

fn check_length(path: &str, plain: &str) -> Option<Finding> {
    let lines = plain.lines().count();
    let rule = format!("the file has {lines} lines without its tests");
    let remedy = "split it by idea";
    match lines {
        _ if lines > FILE_LINES_MAX && !is_test_file(path) => Some(Finding::failure(path, lines, rule, remedy)),
        _ if lines > FILE_LINES_NOTE => Some(Finding::note(path, lines, rule, remedy)),
        _ => None,
    }
}

/// An error turned into text loses its cause.
fn check_lost_causes(path: &str, code: &str) -> Vec<Finding> {
    code.match_indices("map_err(|")
        .filter(|(at, opening)| {
            let statement = &code[*at..];
            let end = closing(statement, '(', ')').unwrap_or(statement.len());
            let (error, body) = statement[opening.len()..end].split_once('|').unwrap_or_default();
            let name = error.split(':').next().unwrap_or_default().trim();
            !name.is_empty() && holds_word(body, &format!("{name}.to_string"))
        })
        .map(|(at, _)| {
            let remedy = "keep the error itself as #[source]";
            Finding::failure(path, line_of(code, at), "turns an error into text and loses its cause", remedy)
        })
        .collect()
}

/// The place after the bracket that closes the first opening one.
fn closing(text: &str, opens: char, closes: char) -> Option<usize> {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        if letter == opens {
            depth += 1;
        } else if letter == closes {
            depth -= 1;
            if depth == 0 {
                return Some(at + 1);
            }
        }
    }
    None
}

fn check_functions(path: &str, code: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
            continue;
        }
        let rest = &code[at..];
        let Some(body) = rest.find(['{', ';']).filter(|&body| rest[body..].starts_with('{')) else { continue };
        let Some(end) = closing(&rest[body..], '{', '}') else { continue };
        let lines = rest[..body + end].lines().count();
        if lines > FUNCTION_LINES_NOTE {
            let name: String =
                rest[3..].chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            let rule = format!("the function {name} has {lines} lines");
            findings.push(Finding::note(path, line_of(code, at), rule, "split it by idea"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Weight;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(path, text).into_iter().map(|finding| format!("{:?} {finding}", finding.weight)).collect()
    }

    fn refused(path: &str, text: &str, part: &str) {
        let found = found(path, text);
        assert!(
            found.len() == 1 && found[0].starts_with("Failure") && found[0].contains(part),
            "{text}\ngave {found:?}"
        );
    }

    fn accepted(path: &str, text: &str) {
        assert_eq!(found(path, text), Vec::<String>::new(), "{text}");
    }

    #[test]
    fn banned_words_are_found_everywhere() {
        for (word, _) in WORDS {
            refused("src/a.rs", &format!("//! A.\n// {word} later"), &format!("src/a.rs:2: holds the word {word}"));
            refused("docs/a.md", &format!("x {word}"), "holds the word");
        }
        accepted("run", "mktemp -d x.XXXXXX");
    }

    #[test]
    fn places_of_one_machine_are_found() {
        for (place, _) in PLACES {
            refused("a.sh", &format!("cd {place}x"), &format!("names {place}"));
        }
        accepted("a.sh", concat!("cd /var", "/wo", "rk/ $HOME", "/ro", "ot/"));
    }

    #[test]
    fn a_lock_file_knows_one_registry() {
        accepted("Cargo.lock", &format!("source = \"{LOCK_SOURCE}\"\n"));
        refused("Cargo.lock", "\nsource = \"git+https://example.org/x\"\n", "Cargo.lock:2: takes a crate from");
    }

    #[test]
    fn a_file_says_what_it_is_for() {
        refused("src/a.rs", "use std::fs;\n", "src/a.rs:1: has no module comment");
        accepted("src/a.rs", "//! A.\n");
    }

    #[test]
    fn long_lines_and_files_are_found() {
        refused("src/a.rs", &format!("//! A.\n// {}", "x".repeat(118)), "src/a.rs:2: the line has 121 characters");
        accepted("src/a.rs", &format!("//! A.\n// {}", "ä".repeat(117)));
        accepted("src/a.rs", &format!("//! A.\n#[error(\"{}\")]", "x".repeat(168)));
        refused("src/a.rs", &format!("//! A.\n#[error(\"{}\")]", "x".repeat(169)), "181 characters, 180 are allowed");
        refused("src/a.rs", &format!("//! A.{}", "\n".repeat(601)), "the file has 601 lines");
        let with_tests = format!("//! A.\n#[cfg(test)]\nmod tests {{{}}}", "\n".repeat(601));
        accepted("src/a.rs", &with_tests);
        let notes = check("src/a.rs", &format!("//! A.{}", "\n".repeat(401)));
        assert!(notes.len() == 1 && notes[0].weight == Weight::Note);
    }

    #[test]
    fn long_functions_are_noted() {
        let text = format!("//! A.\nstruct S {{}}\npub(crate) fn long(a: u8) -> u8 {{{}a }}\n", "\n".repeat(60));
        let notes = check("src/a.rs", &text);
        assert!(notes.len() == 1 && notes[0].weight == Weight::Note, "{notes:?}");
        assert_eq!(notes[0].to_string(), "src/a.rs:3: the function long has 61 lines; split it by idea");
        accepted("src/a.rs", &format!("//! A.\ntrait T {{ fn short(); }}\nstruct S {{{}}}\n", "\n".repeat(60)));
    }

    #[test]
    fn errors_keep_their_causes() {
        refused(
            "src/a.rs",
            "//! A.\nfn f() { g().map_err(|e| E(\n    e.to_string())) }",
            "src/a.rs:2: turns an error into text",
        );
        accepted("src/a.rs", "//! A.\nfn f() { g().map_err(|source| E { source })?; x.to_string() }");
        accepted("src/a.rs", "//! A.\nfn f() { g().map_err(|source| E { source, key: key.to_string() }) }");
    }

    #[test]
    fn only_tests_take_everything() {
        refused("src/a/b.rs", "//! A.\nuse super::*;", "src/a/b.rs:2: takes everything");
        accepted("src/a.rs", "//! A.\n#[cfg(test)]\nmod tests {\n    use super::*;\n}");
        accepted("src/a/tests.rs", "//! A.\nuse super::*;");
        refused("src/a.rs", "//! A.\n#[cfg(test)]\nmod tests;\nuse super::*;", "takes everything");
    }
}
