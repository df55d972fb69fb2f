//! Single values: keys, urls, lengths of time, paths, names, words. What is wrong is told with line, place and remedy.

use super::*;

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
