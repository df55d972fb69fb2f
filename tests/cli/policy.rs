//! Faults of the policy, told with file, line and remedy; and the examples that are shipped.

use crate::support::env::TestEnv;
use crate::support::host::Host;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_mistyped_key_is_told_with_file_line_and_the_nearest_one() {
    let host = Host::of_files();
    let text = host.policy_text().replace("state_dir", "state_dri");
    let file = host.env.policy(&text);
    for verb in [&["policy", "check"][..], &["policy", "show"], &["backup"], &["init"], &["list"], &["verify"]] {
        let ended = host.run(verb).exits(2);
        assert!(ended.stderr.contains(&format!("{}, line 2", file.display())), "{ended}");
        assert!(ended.stderr.contains("state_dri") && ended.stderr.contains("did you mean `state_dir`?"), "{ended}");
    }
}

#[test]
fn several_faults_are_told_at_once() {
    let host = Host::of_files();
    let text = host.policy_text().replace("kind = \"files\"", "kind = \"file\"").replace("rpo = ", "rop = ");
    host.env.policy(&text);
    host.run(&["policy", "check"]).exits(2).complains("rpo").complains("files");
}

#[test]
fn a_policy_that_others_can_change_is_refused_with_the_chmod() {
    let host = Host::of_files();
    let file = host.env.path("policy.toml");
    for mode in [0o666, 0o664, 0o622] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        for verb in [&["policy", "check"][..], &["backup"]] {
            let ended = host.run(verb).exits(2).complains("can be changed by others");
            let chmod = format!("chmod {:04o} {}", mode & 0o755, file.display());
            assert!(ended.stderr.contains(&chmod), "{chmod}\n{ended}");
        }
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    host.run(&["policy", "check"]).exits(0);
}

#[test]
fn a_missing_policy_is_named() {
    let env = TestEnv::new();
    for verb in [&["policy", "check"][..], &["backup"], &["list"], &["init"]] {
        let ended = env.run(&[&["--policy", "/nonexistent/policy.toml"], verb].concat()).exits(2);
        assert!(ended.stderr.contains("/nonexistent/policy.toml"), "{ended}");
    }
}

#[test]
fn what_is_no_policy_is_refused() {
    let host = Host::of_files();
    for (bytes, told) in
        [(&b"node = \"x\"\n[[["[..], "line 2"), (b"", "node"), (b"\xff\xfe", "UTF-8"), (b"\0", "line 1")]
    {
        host.env.write("policy.toml", bytes, 0o644);
        host.run(&["policy", "check"]).exits(2).complains(told).keeps_quiet_about("panicked");
    }
    let folder = host.env.path("folder");
    fs::create_dir(&folder).unwrap();
    host.env.run(&["--policy", folder.to_str().unwrap(), "policy", "check"]).exits(2).complains("folder");
}

#[test]
fn a_good_policy_is_called_good_and_shown_with_its_defaults() {
    let host = Host::new();
    host.run(&["policy", "check"]).exits(0).prints("is a good policy for node shops-btc-01").prints("cln, medusa");
    let shown = host.run(&["policy", "show"]).exits(0).prints("copies_required = 1").prints("lock_budget");
    // What is shown is a policy itself, and means the same.
    host.env.policy(&shown.stdout);
    assert_eq!(host.run(&["policy", "show"]).exits(0).stdout, shown.stdout);
}

#[test]
fn every_shipped_policy_follows_the_published_schema() {
    let env = TestEnv::new();
    let schema: Value = serde_json::from_str(&env.run(&["policy", "schema"]).exits(0).stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut seen = 0;
    for entry in fs::read_dir("policies").unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let value: toml::Value = toml::from_str(&text).unwrap();
        let value = serde_json::to_value(value).unwrap();
        let problems: Vec<String> =
            validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(problems.is_empty(), "{}: {problems:?}", path.display());
        let wrong = format!("state_dri = \"/var/lib/relay-backup\"\n{text}");
        let wrong = serde_json::to_value(toml::from_str::<toml::Value>(&wrong).unwrap()).unwrap();
        assert!(!validator.is_valid(&wrong), "{}: the schema passes a mistyped key", path.display());
        seen += 1;
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn the_hosts_of_these_tests_follow_the_published_schema() {
    let env = TestEnv::new();
    let schema: Value = serde_json::from_str(&env.run(&["policy", "schema"]).exits(0).stdout).unwrap();
    let value: toml::Value = toml::from_str(&Host::new().policy_text()).unwrap();
    assert!(jsonschema::validator_for(&schema).unwrap().is_valid(&serde_json::to_value(value).unwrap()));
}
