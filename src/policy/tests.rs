//! The policy's tests: every example loads, every kind of mistake has its message.

use super::*;
use std::os::unix::fs::PermissionsExt;
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

#[test]
fn recipients_are_checked_for_their_form() {
    let place = "p.toml, line 3: [keys] recipients: ";
    refuses(
        RECIPIENT,
        &RECIPIENT.replace("q5cg4p5", "q5cg4p4"),
        &format!("{place}is damaged: its checksum does not fit"),
        "age1",
    );
    refuses(RECIPIENT, "ssh-rsa AAAA", &format!("{place}is an SSH key of a kind that is not supported"), "ssh-ed25519");
    refuses(RECIPIENT, "ssh-ed25519 AAAA", &format!("{place}is not a whole ssh-ed25519 public key"), "age1");
    refuses(RECIPIENT, "hello", &format!("{place}is not an age recipient"), "age1");
    refuses(
        &format!("[\"{RECIPIENT}\"]"),
        "[]",
        &format!("{place}there is no recipient, so nobody could open a backup"),
        "keygen",
    );
    refuses(
        &format!("[\"{RECIPIENT}\"]"),
        &format!("[\"{RECIPIENT}\", \"{RECIPIENT}\"]"),
        &format!("{place}this recipient stands there twice"),
        "remove one",
    );
    for good_one in [
        OTHER,
        "age1yubikey1qfllap4h6l0ucp2w360799gjpuyn9ttncgecy7379ergt3udydse6xes950",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA/pEL8/em5a0sYW54bCv1ULKh4AL8t4Ya7Ofof6sEkp root@shop",
    ] {
        read(&good().replace(RECIPIENT, good_one)).unwrap();
    }
    assert!(RECIPIENT.parse::<age::x25519::Recipient>().is_ok(), "what passes here must be a recipient for age too");
}

#[test]
fn trusted_keys_are_checked_for_their_form() {
    let with = |role: &str, key: &str| {
        good().replace("[[vault]]", &format!("[[keys.trusted]]\nrole = \"{role}\"\nkey = \"{key}\"\n[[vault]]"))
    };
    let key = "RWSHr3tHna/RMi1iaLwwD2nRYjofqXNW1bvrmqx7bBHAzvvLhJYIU8Zy";
    assert_eq!(read(&with("pruner", key)).unwrap().keys.trusted[0].role, KeyRole::Pruner);
    let error = read(&with("pruner", &key[..52])).unwrap_err();
    assert_eq!(error.to_string(), "p.toml, line 6: [[keys.trusted]] key: is not a minisign public key");
    let error = read(&with("prune", key)).unwrap_err();
    assert_eq!(error.to_string(), "p.toml, line 5: [[keys.trusted]] role: there is no role \"prune\"");
    assert_eq!(error.hint().unwrap(), "did you mean \"pruner\"? There are: node, drill, pruner");
}

#[test]
fn vault_urls_are_checked_and_credentials_never_quoted() {
    let place = "p.toml, line 6: [[vault]] url: ";
    let url = |to: &str, message: &str, hint: &str| {
        refuses("fs:///srv/vault", to, &format!("{place}{message}"), hint);
    };
    url("fs://srv/vault", "does not name an absolute folder", "three slashes");
    url("fs:///srv/../vault", "\"/srv/../vault\" holds a \"..\"", "without");
    url("fs:///", "is the root folder", "");
    url("ftp://host/x", "a vault cannot be reached by \"ftp://\"", "s3://bucket");
    url("/srv/vault", "is not a URL", "fs:///");
    url("s3://", "names no bucket", "s3://bucket/prefix");
    url("s3://b/p?endpont=https://h", "the query key \"endpont\" is not known", "did you mean \"endpoint\"?");
    url("s3://b/p?endpoint=h", "the endpoint is not an http or https URL", "https://");
    url("s3://b/../p", "\"../p\" is not a usable prefix", "");
    for hidden in
        ["s3://AKIAX:hunter2@b/p", "s3://b/p?secret_access_key=hunter2", "s3://b?endpoint=https://u:hunter2%40h"]
    {
        let (message, hint) = broken("fs:///srv/vault", hidden);
        assert!(message.contains("credentials"), "{message}");
        assert!(hint.contains("credentials_file"), "{hint}");
        assert!(!format!("{message}{hint}").contains("hunter2"), "{message}{hint}");
    }
    let policy =
        read(&good().replace("fs:///srv/vault", "s3://b/p/q/?endpoint=http://127.0.0.1:3900&region=garage")).unwrap();
    let endpoint = Some("http://127.0.0.1:3900".to_owned());
    let expected = VaultUrl::S3 { bucket: "b".into(), prefix: "p/q".into(), endpoint, region: Some("garage".into()) };
    assert_eq!(policy.vaults[0].url, expected);
}

#[test]
fn further_kinds_of_store_are_parsed_and_refused_where_they_are_not_built() {
    let parse = |service: Service, text: &str| super::url::service(service, text).map_err(|bad| bad.what);
    let azblob = parse(Service::Azblob, "box/a/b?endpoint=https://shop.blob.core.windows.net").unwrap();
    let endpoint = Some("https://shop.blob.core.windows.net".to_owned());
    let (place, prefix) = ("box".to_owned(), "a/b".to_owned());
    assert_eq!(azblob, ServiceUrl { service: Service::Azblob, place, prefix, endpoint });
    let gcs = parse(Service::Gcs, "bucket").unwrap();
    assert_eq!((gcs.place.as_str(), gcs.prefix.as_str(), gcs.endpoint), ("bucket", "", None));
    let webdav = parse(Service::Webdav, "cloud.example.net:8443/remote.php/dav/").unwrap();
    assert_eq!((webdav.place.as_str(), webdav.prefix.as_str()), ("cloud.example.net:8443", "remote.php/dav"));
    for (service, text, wrong) in [
        (Service::Azblob, "box/a", "names no endpoint"),
        (Service::Gcs, "", "names no bucket"),
        (Service::Gcs, "b?region=x", "\"region\" is not known"),
        (Service::Gcs, "b?endpoint=h", "the endpoint is not"),
        (Service::Webdav, "/folder", "is not a host"),
        (Service::Webdav, "host:https/x", "is not a host"),
        (Service::Webdav, "host/x?endpoint=https://h", "\"endpoint\" is not known"),
        (Service::Webdav, "shop:hunter2@host/x", "holds credentials"),
        (Service::Azblob, "box?sig=hunter2", "holds credentials"),
    ] {
        let said = parse(service, text).unwrap_err();
        assert!(said.contains(wrong) && !said.contains("hunter2"), "{text}: {said}");
    }
    for text in ["azblob://box?endpoint=https://h", "gcs://bucket/p", "webdav://host/p"] {
        let (name, _) = text.split_once(':').unwrap();
        let read = read(&good().replace("fs:///srv/vault", text));
        let (built, said) = match &read {
            Ok(_) => panic!("without credentials"),
            Err(error) => (error.to_string().contains("needs a credentials_file"), error.hint().unwrap()),
        };
        assert!(built || said.contains(&format!("cargo build --release --locked --features {name}")), "{said}");
        assert_eq!(built, VaultUrl::parse(text).is_ok());
    }
}

#[test]
fn postgres_urls_are_checked_and_passwords_never_quoted() {
    let source = |url: &str| {
        good().replace(
            "kind = \"cln\"\nlightning_dir = \"/var/lib/clightning\"",
            &format!("kind = \"postgres\"\nurl = \"{url}\"\ndatabases = [\"a\"]"),
        )
    };
    read(&source("postgresql:///postgres?host=/run/postgresql")).unwrap();
    read(&source("postgres://me@db.example.net:5432/postgres?sslmode=verify-full")).unwrap();
    for hidden in [
        "postgresql://me:hunter2@h/db",
        "postgresql://me:hun@ter2:hunter2@h/db",
        "postgresql://me:hunter2?hunter2@h/db",
        "postgresql://h/db?password=hunter2",
    ] {
        let error = read(&source(hidden)).unwrap_err();
        assert!(error.to_string().starts_with("p.toml, line 12: [[source]] url: holds a password"), "{error}");
        let everything = format!("{error} {error:?} {:?}", error.hint());
        assert!(everything.contains("passfile") && !everything.contains("hunter2"), "{everything}");
    }
    let error = read(&source("postgresql://h/db?sslmod=require")).unwrap_err();
    assert_eq!(error.to_string(), "p.toml, line 12: [[source]] url: the parameter \"sslmod\" is not known");
    assert_eq!(error.hint().unwrap(), "did you mean \"sslmode\"?");
    let error = read(&source("postgresql:///x").replace("[\"a\"]", "[]")).unwrap_err();
    assert_eq!(error.to_string(), "p.toml, line 13: [[source]] databases: the list is empty");
    let error = read(&source("postgresql:///x").replace("[\"a\"]", "[\"a\", \"a\"]")).unwrap_err();
    assert_eq!(error.to_string(), "p.toml, line 13: [[source]] databases: this database stands there twice");
}

#[test]
fn lengths_of_time_and_sizes_are_checked() {
    let objectives = |key: &str, value: &str| good() + &format!("[objectives]\n{key} = \"{value}\"\n");
    for (value, message) in [
        ("26", "\"26\" is not a length of time"),
        ("h", "\"h\" is not a length of time"),
        ("26 h", "\"26 h\" is not a length of time"),
        ("12h1d", "\"12h1d\" does not go from the larger unit to the smaller"),
        ("0d", "is no time at all"),
        ("99999999999999999999d", "\"99999999999999999999d\" is not a length of time"),
        ("9999999999999999999d", "is longer than 100 years"),
        ("5s", "is shorter than 1m"),
    ] {
        let error = read(&objectives("rpo", value)).unwrap_err();
        assert_eq!(error.to_string(), format!("p.toml, line 20: [objectives] rpo: {message}"));
    }
    assert_eq!(read(&objectives("rpo", "1d12h")).unwrap().objectives.rpo.as_secs(), 36 * 3600);
    refuses(
        "copies_required = 1",
        "memory = \"96\"",
        "p.toml, line 8: [backup] memory: \"96\" is not a number of bytes",
        "such as \"96MiB\"",
    );
    refuses("copies_required = 1", "memory = \"1MiB\"", "p.toml, line 8: [backup] memory: is out of range", "32MiB");
    refuses(
        "url = \"fs:///srv/vault\"",
        "url = \"fs:///srv/vault\"\nbandwidth = \"2MiB\"",
        "p.toml, line 7: [[vault]] bandwidth: \"2MiB\" does not end in /s",
        "2MiB/s",
    );
    refuses(
        "url = \"fs:///srv/vault\"",
        "url = \"fs:///srv/vault\"\nbandwidth = \"15KiB/s\"",
        "p.toml, line 7: [[vault]] bandwidth: is less than 16KiB/s, at which one object takes more than four minutes",
        "16KiB/s or more",
    );
}

#[test]
fn lock_budgets_stay_far_below_the_nodes_patience() {
    refuses(
        "copies_required = 1",
        "lock_budget = \"2s\"",
        "p.toml, line 8: [backup] lock_budget: is longer than 1s, which payments would feel",
        "1s or less",
    );
    refuses(
        "copies_required = 1",
        "lock_budget_max = \"21s\"",
        "p.toml, line 8: [backup] lock_budget_max: is longer than 20s; lightningd ends itself when its database stays locked for 60s",
        "20s or less",
    );
    refuses(
        "copies_required = 1",
        "lock_budget_max = \"100ms\"",
        "p.toml, line 8: [backup] lock_budget_max: is shorter than lock_budget",
        "lock_budget or more",
    );
}

#[test]
fn paths_are_checked() {
    let place = "p.toml, line 16: [[source]] paths: ";
    let path = |to: &str, message: &str| refuses("/etc/medusa", to, &format!("{place}{message}"), "");
    path("etc/medusa", "\"etc/medusa\" is not an absolute path");
    path("/etc/../medusa", "\"/etc/../medusa\" holds a \"..\"");
    path("/", "is the root folder");
    path("/proc/1", "lies in /proc, which the kernel makes up");
    let (message, hint) = broken("/etc/medusa", "/etc/[medusa");
    assert!(message.starts_with(&format!("{place}\"/etc/[medusa\" is not a valid pattern: ")), "{message}");
    assert!(hint.contains("[[]"), "{hint}");
    refuses("[\"/etc/medusa\"]", "[]", &format!("{place}the list is empty"), "at least one");
    refuses("[\"/etc/medusa\"]", "[\"/a\", \"/a\"]", &format!("{place}this path stands there twice"), "remove");
    refuses(
        "[\"/etc/medusa\"]",
        "[\"/a\"]\nexclude = [\"/a/\"]",
        "p.toml, line 17: [[source]] exclude: leaves out the very path that is to be taken",
        "remove",
    );
}

#[test]
fn names_are_unique_and_plain() {
    refuses(
        "name = \"etc\"",
        "name = \"cln\"",
        "p.toml, line 14: [[source]] name: this name stands there twice",
        "of its own",
    );
    refuses(
        "name = \"etc\"",
        "name = \"e/c\"",
        "p.toml, line 14: [[source]] name: \"e/c\" is not a valid source name",
        "letters",
    );
    refuses("node = \"n1\"", "node = \"\"", "p.toml, line 1: node: \"\" is not a valid node name", "letters");
    let second = "url = \"fs:///srv/vault\"\n[[vault]]\nname = \"local\"\nurl = \"fs:///srv/vault/\"";
    refuses(
        "url = \"fs:///srv/vault\"",
        second,
        "p.toml, line 8: [[vault]] name: this name stands there twice\n\
         p.toml, line 9: [[vault]] url: this place stands there twice",
        "line 9: two vaults in one place are one copy",
    );
}

#[test]
fn words_are_checked_with_the_nearest_known_one() {
    refuses(
        "kind = \"cln\"",
        "kind = \"cln\"\nnetwork = \"mainnet\"",
        "p.toml, line 12: [[source]] network: there is no network \"mainnet\" for this kind of node",
        "calls it \"bitcoin\"",
    );
    refuses(
        "kind = \"cln\"",
        "kind = \"cln\"\ncodec = \"gz\"",
        "p.toml, line 12: [[source]] codec: there is no codec \"gz\"",
        "gzip",
    );
    refuses(
        "url = \"fs:///srv/vault\"",
        "url = \"fs:///srv/vault\"\nvia = \"synk\"",
        "p.toml, line 7: [[vault]] via: there is no way to write a vault \"synk\"",
        "did you mean \"sync\"?",
    );
    refuses(
        "keep_last = 7",
        "keep_triggers = [\"Pre Update\"]",
        "p.toml, line 18: [retention] keep_triggers: \"Pre Update\" is not the name of a trigger",
        "pre-update",
    );
}

#[test]
fn copies_cannot_exceed_the_vaults_that_count() {
    let what = |copies, counting, all| {
        format!(
            "p.toml, line 8: [backup] copies_required: asks for {copies} copies, but only {counting} of {all} vaults count \
             (written by backup; only the offsite ones where any is marked offsite)"
        )
    };
    refuses("copies_required = 1", "copies_required = 2", &what(2, 1, 1), "use 1 or less");
    refuses(
        "copies_required = 1",
        "copies_required = 0",
        "p.toml, line 8: [backup] copies_required: is 0: a run that stored nothing would count",
        "1 or more",
    );
    refuses(
        "url = \"fs:///srv/vault\"",
        "url = \"fs:///srv/vault\"\nvia = \"sync\"",
        "p.toml, line 1: [[vault]] via: every vault is written by sync, so backup would write nowhere",
        "",
    );
    let offsite = good().replace(
        "[backup]\ncopies_required = 1",
        "[[vault]]\nname = \"o\"\nurl = \"s3://b/p\"\noffsite = true\n[backup]\ncopies_required = 2",
    );
    let error = read(&offsite).unwrap_err();
    assert!(error.to_string().contains("only 1 of 2 vaults count"), "{error}");
}

#[test]
fn a_source_may_not_hold_its_own_vault() {
    refuses(
        "/etc/medusa",
        "/srv",
        "p.toml, line 1: [[source]] paths: \"/srv\" of the source etc holds the vault local itself",
        "add \"/srv/vault\" to its exclude list",
    );
    read(&good().replace("[\"/etc/medusa\"]", "[\"/srv\"]\nexclude = [\"/srv/vault\"]")).unwrap();
    let other = good().replace("[\"/etc/medusa\"]", "[\"/srv\"]\nexclude = [\"/srv/cache\"]");
    assert!(read(&other).unwrap_err().to_string().contains("holds the vault local itself"));
}

#[test]
fn retention_that_keeps_nothing_is_refused() {
    refuses(
        "keep_last = 7",
        "keep_last = 0\nkeep_daily = 0\nkeep_weekly = 0\nkeep_monthly = 0\nkeep_yearly = 0",
        "p.toml, line 1: [retention]: nothing would be kept: every keep_ number is 0",
        "keep_last to 1",
    );
}

#[test]
fn a_file_that_others_can_change_is_refused_with_its_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    std::fs::write(&path, good()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(load(&path).unwrap_err().hint().unwrap(), format!("chmod 0644 {}", path.display()));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(load(&path).unwrap().node.as_str(), "n1");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert_eq!(load(&path).unwrap_err().to_string(), format!("{} is not UTF-8 text", path.display()));
    std::fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert!(matches!(load(&path), Err(PolicyError::File(crate::base::fsio::FileError::TooLarge { .. }))));
}

#[test]
fn the_recipients_file_is_read_and_guarded_like_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let (path, list) = (folder.path().join("policy.toml"), folder.path().join("recipients.txt"));
    let line = format!("recipients_file = {:?}", list.display().to_string());
    std::fs::write(&path, good().replace(&format!("recipients = [\"{RECIPIENT}\"]"), &line)).unwrap();
    let set = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    set(&path, 0o644);
    std::fs::write(&list, format!("# the owner's\n\n{RECIPIENT}\n{OTHER}")).unwrap();
    set(&list, 0o664);
    assert_eq!(load(&path).unwrap_err().hint().unwrap(), format!("chmod 0644 {}", list.display()));
    set(&list, 0o600);
    let policy = load(&path).unwrap();
    assert_eq!(policy.keys.recipients, [RECIPIENT, OTHER]);
    assert_eq!(show(&parse(&path, &show(&policy)).unwrap()).lines().count() + 1, show(&policy).lines().count());
    std::fs::write(&list, "# nobody\nage1oops\n").unwrap();
    let error = load(&path).unwrap_err();
    let expected = format!("{}, line 2: the recipient is damaged: its checksum does not fit", list.display());
    assert_eq!(error.to_string(), expected);
    std::fs::write(&list, "# nobody\n").unwrap();
    assert_eq!(load(&path).unwrap_err().to_string(), format!("{}, line 1: no recipient stands in it", list.display()));
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
