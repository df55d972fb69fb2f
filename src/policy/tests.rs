//! The policy's tests: every example loads, every kind of mistake has its message.

mod between;
mod values;

use super::*;
use std::path::Path;

const RECIPIENT: &str = "age1z5z8lel6p8gecfuzsvyvc0xgdawflhs0vs4l6uknyu9els3g3q2q5cg4p5";

const OTHER: &str = "age1rlnstpm9f04kkhw0khlshmvr93pq60kx2rddcc938j2xt344pe8qjsduwq";

/// A good policy of 18 lines; tests break one line of it.
fn good() -> String {
    format!(
        r#"node = "n1"
[keys]
recipients = ["{RECIPIENT}"]
[[vault]]
name = "local"
url = "fs:///srv/vault"
[backup]
copies_required = 1
[[source]]
name = "cln"
kind = "cln"
lightning_dir = "/var/lib/clightning"
[[source]]
name = "etc"
kind = "files"
paths = ["/etc/medusa"]
[retention]
keep_last = 7
"#
    )
}

fn read(text: &str) -> Result<Policy, PolicyError> {
    parse(Path::new("p.toml"), text)
}

/// What comes of replacing one piece of the good policy: message and hint.
#[track_caller]
fn broken(from: &str, to: &str) -> (String, String) {
    let text = good();
    assert!(text.contains(from), "{from} is not in the good policy");
    let error = read(&text.replacen(from, to, 1)).expect_err("this policy should be refused");
    (error.to_string(), error.hint().unwrap_or_default())
}

#[track_caller]
fn refuses(from: &str, to: &str, message: &str, hint: &str) {
    let (found_message, found_hint) = broken(from, to);
    assert_eq!(found_message, message);
    assert!(found_hint.contains(hint), "hint {found_hint:?} does not hold {hint:?}");
}

#[test]
fn every_example_loads_and_shows_the_same_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let policy = parse(&path, &text).unwrap_or_else(|error| panic!("{error}\n{:?}", error.hint()));
        let shown = show(&policy);
        let again = parse(&path, &shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
        assert_eq!(show(&again), shown);
        count += 1;
    }
    assert!(count >= 3, "only {count} examples were found");
}

#[test]
fn examples_without_their_remark_signs_load_too() {
    let text = include_str!("../../policies/btcpay-cln.toml");
    let mut opened = String::new();
    for line in text.lines() {
        let bare = line.trim_start();
        let is_key = bare.strip_prefix("# ").is_some_and(|rest| {
            rest.starts_with("[[") || rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
        });
        opened.push_str(if is_key { bare.trim_start_matches("# ") } else { line });
        opened.push('\n');
    }
    let policy = read(&opened).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(policy.keys.trusted.len(), 1);
    assert_eq!(policy.vaults[1].bandwidth, Some(2 << 20));
    assert_eq!(policy.vaults[1].via, Via::Sync);
    assert_eq!(policy.keys.recipients_file.as_deref(), Some(Path::new("/etc/relay-backup/recipients.txt")));
    assert_eq!(policy.retention.keep_triggers, ["pre-update", "final"]);
}

#[test]
fn the_examples_fit_the_published_schema() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for text in [
        include_str!("../../policies/btcpay-cln.toml"),
        include_str!("../../policies/btcpay-lnd.toml"),
        include_str!("../../policies/minimal.toml"),
    ] {
        let value: toml::Value = toml::from_str(text).unwrap();
        let value = serde_json::to_value(value).unwrap();
        assert_eq!(validator.iter_errors(&value).map(|error| error.to_string()).collect::<Vec<_>>(), [""; 0]);
    }
    assert!(!validator.is_valid(&serde_json::json!({ "node": "n" })));
}

#[test]
fn defaults_are_the_documented_ones() {
    let policy = read(&good()).unwrap();
    assert_eq!(policy.state_dir, Path::new("/var/lib/relay-backup"));
    assert_eq!(policy.objectives.rpo.as_secs(), 26 * 3600);
    assert_eq!(policy.backup.memory, 96 << 20);
    assert_eq!(policy.backup.lock_budget.as_millis(), 250);
    assert_eq!(policy.retention.keep_yearly, 3);
    assert!(matches!(&policy.sources[0].kind, SourceKind::Cln { network, .. } if network == "bitcoin"));
    assert_eq!(policy.vaults_that_count().len(), 1);
    let documented = include_str!("../../docs/POLICY.md");
    for line in show(&policy).lines().filter(|line| line.contains(" = ")) {
        let (key, value) = line.split_once(" = ").unwrap();
        let is_default = !good().contains(&format!("{key} = ")) && key != "exclude";
        let row =
            documented.lines().find(|row| row.starts_with(&format!("| `{key}` |"))).unwrap_or_else(|| panic!("{key}"));
        if is_default {
            let value = value.trim_matches('"').replace("1w", "7d");
            assert!(row.contains(&format!("`{value}` |")), "{row} does not name the default {value}");
        }
    }
}

#[test]
fn every_key_of_the_schema_is_documented() {
    fn keys(schema: &serde_json::Value, into: &mut std::collections::BTreeSet<String>) {
        for (key, value) in schema["properties"].as_object().into_iter().flatten() {
            into.insert(key.clone());
            keys(value, into);
        }
        if schema["items"].is_object() {
            keys(&schema["items"], into);
        }
        for kind in schema["oneOf"].as_array().into_iter().flatten() {
            keys(kind, into);
        }
    }
    let mut all = std::collections::BTreeSet::new();
    keys(&schema(), &mut all);
    assert!(all.len() > 35, "{all:?}");
    let documented = include_str!("../../docs/POLICY.md");
    for key in all {
        let found = documented.contains(&format!("| `{key}` |")) || documented.contains(&format!("[{key}]"));
        assert!(found, "docs/POLICY.md does not explain {key}");
    }
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    refuses(
        "lightning_dir =",
        "lightning_dri =",
        "p.toml, line 12: [[source]] lightning_dri: is not a key that is known here\n\
         p.toml, line 9: [[source]]: the key `lightning_dir` is missing"
            .split('\n')
            .rev()
            .collect::<Vec<_>>()
            .join("\n")
            .as_str(),
        "did you mean `lightning_dir`?",
    );
    refuses(
        "[retention]",
        "[retension]",
        "p.toml, line 17: retension: is not a key that is known here",
        "`retention`?",
    );
    refuses(
        "keep_last = 7",
        "zzz = 7",
        "p.toml, line 18: [retention] zzz: is not a key that is known here",
        "[retention] knows: keep_last, keep_daily",
    );
}

#[test]
fn a_key_of_another_kind_of_source_is_refused() {
    refuses(
        "paths = [\"/etc/medusa\"]",
        "paths = [\"/etc/medusa\"]\nlightning_dir = \"/x\"",
        "p.toml, line 17: [[source]] lightning_dir: belongs to a source of kind cln, not to one of kind files",
        "files knows: kind, name, codec, paths, exclude",
    );
}

#[test]
fn a_missing_key_or_table_is_named() {
    refuses("name = \"etc\"\n", "", "p.toml, line 13: [[source]]: the key `name` is missing", "add `name`");
    refuses("kind = \"files\"\n", "", "p.toml, line 13: [[source]]: the key `kind` is missing", "cln, postgres, lnd");
    refuses(
        "kind = \"files\"",
        "kind = \"file\"",
        "p.toml, line 15: [[source]] kind: there is no kind of source \"file\"",
        "did you mean \"files\"?",
    );
    let (message, hint) = broken("node = \"n1\"\n", "");
    assert_eq!(message, "p.toml, line 1: the top of the file: the key `node` is missing");
    assert!(hint.starts_with("add `node`. The name of the protected host"), "{hint}");
    let error = read("node = \"n\"\n").unwrap_err();
    assert_eq!(error.problems().len(), 3);
    assert!(error.hint().unwrap().contains("add at least one [[vault]]"), "{error:?}");
    assert!(error.hint().unwrap().contains("add at least one [[source]]"), "{error:?}");
}

#[test]
fn a_value_of_the_wrong_type_is_named() {
    refuses(
        "keep_last = 7",
        "keep_last = \"7\"",
        "p.toml, line 18: [retention] keep_last: is a text; expected a whole number",
        "keep_last = 1",
    );
    refuses("keep_last = 7", "keep_last = -1", "p.toml, line 18: [retention] keep_last: -1 is out of range", "0 to");
    refuses(
        "keep_last = 7",
        "keep_last = 7\ngrace = 7",
        "p.toml, line 19: [retention] grace: is a number; expected a text",
        "in quotes",
    );
    refuses(
        "[\"/etc/medusa\"]",
        "\"/etc/medusa\"",
        "p.toml, line 16: [[source]] paths: is a text; expected a list",
        "paths = [",
    );
    refuses("[\"/etc/medusa\"]", "[1]", "p.toml, line 16: [[source]] paths: holds a number; expected texts only", "");
    refuses("[[vault]]", "[vault]", "p.toml, line 4: vault: is a table; expected a list", "");
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    let (message, _) = broken("keep_last = 7", "keep_last = ");
    assert!(message.starts_with("p.toml, line 18: this is not TOML: "), "{message}");
    let (message, _) = broken("keep_last = 7", "keep_last = 7\nkeep_last = 8");
    assert!(message.starts_with("p.toml, line 19: this is not TOML: duplicate key"), "{message}");
}

#[test]
fn a_secret_key_is_refused_and_never_quoted() {
    let secret = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    for text in [
        good().replace(RECIPIENT, secret),
        good().replace("node = ", &format!("node = \"{secret}\" broken")),
        good().replace("node = ", &format!("# {}\nnode = ", secret.to_lowercase())),
        good().replace("keep_last = 7", &format!("\"{secret}\" = 1")),
    ] {
        let error = read(&text).unwrap_err();
        assert!(error.to_string().contains("a SECRET key stands here; this host must never hold one"), "{error}");
        let everything = format!("{error} {error:?} {:?}", error.hint()).to_lowercase();
        assert!(!everything.contains("gfpyysjz"), "{everything}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_without_a_panic(text in "\\PC*") {
        drop(read(&text));
    }

    #[test]
    fn a_policy_with_one_piece_replaced_is_parsed_or_refused_without_a_panic(
        at in 0_usize..500, length in 0_usize..40, piece in "[\\[\\]\"'=.,a-z0-9:/@?&%#\\n{}é-]{0,20}",
    ) {
        let text = good();
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        let broken = format!("{}{piece}{}", &text[..at], &text[end..]);
        if let Err(error) = read(&broken) {
            proptest::prop_assert!(!error.to_string().is_empty());
        }
    }
}
