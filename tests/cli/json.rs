//! `--json`: exactly one document on standard output, of the published shape, whatever the verb and however it ends.

use crate::support::env::TestEnv;
use crate::support::host::{Bare, Host, whole};
use crate::support::json::document;
use crate::support::vault::flip_bit;
use serde_json::Value;
use std::fs;

#[test]
fn every_verb_prints_its_report() {
    let host = Host::new();
    let run = |arguments: &[&str], outcome: &str| {
        let (_, document) = host.json(arguments);
        assert_eq!(document["outcome"], outcome, "{document:#}");
        assert_eq!(document["format"], 1);
        assert!(document["error"].is_null(), "{document:#}");
        document["report"].clone()
    };
    let key = host.env.path("another.key");
    assert!(run(&["keygen", "--out", key.to_str().unwrap()], "ok")["recipient"].as_str().unwrap().starts_with("age1"));
    assert_eq!(run(&["policy", "check"], "ok")["node"], "shops-btc-01");
    assert_eq!(run(&["init"], "ok")["already"], false);
    assert_eq!(run(&["init"], "ok")["already"], true);
    let backup = run(&["backup"], "ok");
    assert_eq!(backup["complete"], true);
    assert_eq!(backup["snapshot"], host.vault().newest());
    let to = host.env.path("secret");
    let identity = host.identity();
    assert_eq!(run(&["list"], "ok")[0]["snapshots"][0]["snapshot"], host.vault().newest());
    assert_eq!(run(&["list", "--all-nodes"], "ok").as_array().unwrap().len(), 1);
    assert!(run(&["show", "latest"], "ok")["policy"].is_null());
    assert!(run(&["show", "latest", "--identity", identity], "ok")["policy"].is_string());
    for depth in ["present", "sealed", "opened", "meaning"] {
        let verify = run(&["verify", "--depth", depth, "--identity", identity], "ok");
        assert_eq!(verify["depth"], depth);
    }
    let extract = ["extract", "--artifact", "cln/hsm_secret", "--to", to.to_str().unwrap(), "--identity", identity];
    assert_eq!(run(&extract, "ok")["length"], fs::metadata(host.lightning("hsm_secret")).unwrap().len());
    assert_eq!(run(&["attest"], "ok")["changed"], false);
    assert_eq!(run(&["catalog", "rebuild"], "ok")["vaults"][0]["snapshots"], 1);
    assert!(run(&["rotate"], "ok")["epoch"].is_string());
}

#[test]
fn policy_show_is_one_document_too() {
    let host = Host::of_files();
    let ended = host.run(&["--json", "policy", "show"]).exits(0);
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(document["report"].as_str().unwrap().contains("shops-btc-01"), "{ended}");
}

#[test]
fn policy_schema_is_one_document_by_itself() {
    let ended = TestEnv::new().run(&["--json", "policy", "schema"]).exits(0);
    let schema: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(schema["properties"].is_object(), "{ended}");
}

#[test]
fn failures_are_documents_with_message_causes_and_hint() {
    let (host, env) = (Host::of_files(), TestEnv::new());
    let fails = |arguments: &[&str], code: i32, outcome: &str| {
        let (found, document) = host.json(arguments);
        assert_eq!((found, &document["outcome"]), (code, &Value::from(outcome)), "{document:#}");
        assert!(document["report"].is_null(), "{document:#}");
        document["error"].clone()
    };
    let unset = fails(&["backup"], 1, "failed");
    assert!(unset["message"].as_str().unwrap().contains("not set up") && unset["hint"].is_string(), "{unset}");
    fails(&["list"], 10, "no-vault");
    host.init();
    fails(&["show", "latest"], 1, "failed");
    host.backup();
    let stranger = env.identity("stranger.key");
    fails(&["show", "latest", "--identity", stranger.file.to_str().unwrap()], 12, "no-identity");
    fails(&["verify", "--depth", "opened"], 2, "usage");
    fails(&["show", "nonsense"], 2, "usage");
    let to = host.env.write("taken", "", 0o600);
    let extract =
        ["extract", "--artifact", "medusa/files.tar", "--to", to.to_str().unwrap(), "--identity", host.identity()];
    fails(&extract, 21, "refused");
    flip_bit(&host.vault().snapshot(&host.vault().newest()).join("manifest.json"));
    let forged = fails(&["show", "latest"], 20, "damage");
    assert!(forged["hint"].as_str().unwrap().contains("do not restore"), "{forged}");
    host.env.policy("nonsense");
    fails(&["backup"], 2, "usage");
}

#[test]
fn findings_are_in_the_report() {
    let bare = Bare::new();
    let object = bare.vault.objects_of(bare.newest(), "cln/hsm_secret").remove(0);
    flip_bit(&bare.vault.object(&object));
    let ended = bare.run(&["--json", "verify", "--depth", "sealed"]).exits(20);
    let document = document(&ended);
    let findings = document["report"]["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["code"] == "object-damaged").unwrap();
    assert!(found["subject"].as_str().unwrap().contains(&object) && found["level"] == "damage", "{document:#}");
    let still = document["report"]["still_restores"].as_array().unwrap();
    assert!(!still.is_empty(), "{document:#}");
    assert!(ended.stderr.lines().all(|line| !line.starts_with("DAMAGE")), "told once, in the document\n{ended}");
}

#[test]
fn an_incomplete_backup_is_a_document_that_says_so() {
    let host = Host::new();
    host.init();
    fs::remove_file(host.lightning("hsm_secret")).unwrap();
    let (code, document) = host.json(&["backup"]);
    assert_eq!((code, &document["report"]["complete"]), (1, &Value::from(false)));
    assert_eq!(document["report"]["sources"][0]["ok"], false, "{document:#}");
    assert!(!document.to_string().contains(crate::support::host::SHOP_SECRET));
}

#[test]
fn a_document_and_an_identity_do_not_share_one_pipe() {
    let ended = TestEnv::new().run(&["--json", "keygen"]).exits(2).keeps_quiet_about("AGE-SECRET-KEY");
    assert!(document(&ended)["error"]["message"].as_str().unwrap().contains("--out"), "{ended}");
}

#[test]
fn the_demo_tells_a_program_what_it_showed() {
    let env = TestEnv::new();
    let ended = env.run(&["--json", "demo"]).exits(0);
    let document = document(&ended);
    assert_eq!(document["report"]["passed"], true, "{ended}");
    assert!(document["report"]["steps"].as_array().unwrap().len() >= 9, "{ended}");
    let left: Vec<_> = std::fs::read_dir(env.path("tmp")).unwrap().collect();
    assert!(left.is_empty(), "the sandbox is wiped: {left:?}");
}

#[test]
fn a_document_and_an_artifact_do_not_share_one_pipe() {
    let host = &whole().host;
    let verb = ["--json", "extract", "--artifact", "cln/hsm_secret", "--to", "-", "--identity", host.identity()];
    let ended = host.run(&verb).exits(2);
    assert!(document(&ended)["error"]["message"].as_str().unwrap().contains("--to -"), "{ended}");
}
