//! Vaults in a real S3 store: the same story as in a folder, and a store that goes away in the middle.

use crate::support::env::TestEnv;
use crate::support::garage::{GARAGE, Garage};
use crate::support::host::{Host, WALLET};
use rustix::process::Signal;
use std::fs;
use std::time::Duration;

/// How Garage calls uploads that were begun in parts and never ended, after their number.
const UNFINISHED: &str = " multipart uploads";

/// A host whose only vault is in the store, under this prefix.
fn host_of(mut host: Host, garage: &Garage, prefix: &str) -> Host {
    let credentials = host.env.path("credentials");
    garage.credentials(&credentials);
    host.vaults.clear();
    host.more = vault_text("offsite", &garage.url(prefix), &credentials);
    host.write_policy();
    host
}

fn vault_text(name: &str, url: &str, credentials: &std::path::Path) -> String {
    format!("[[vault]]\nname = \"{name}\"\nurl = \"{url}\"\ncredentials_file = \"{}\"\n", credentials.display())
}

#[test]
fn the_whole_story_on_s3() {
    let host = host_of(Host::with_databases(), &GARAGE, "whole");
    host.run(&["init"]).exits(0).prints("Vault offsite: made").prints("Signing key");
    host.run(&["backup"]).exits(0).prints("complete").prints("whole");
    let before = stored("whole");
    host.run(&["backup"]).exits(0).prints("complete");
    let after = stored("whole");
    assert!((after - before) * 10 < before, "the second backup shipped {} of {before} bytes", after - before);
    host.run(&["list"]).exits(0).prints("complete");
    host.run(&["verify", "--depth", "sealed", "--snapshot", "all"]).exits(0);
    host.open(&["verify", "--depth", "meaning"]).exits(0).prints("restored and equal");
    assert_eq!(host.extract("cln/hsm_secret"), fs::read(host.lightning("hsm_secret")).unwrap());
    assert!(host.extract(WALLET).starts_with(b"SQLite format 3\0"));
    host.run(&["catalog", "rebuild"]).exits(0).prints("2 snapshots");

    // From a plain copy, without the program.
    let copy = host.env.path("copy");
    GARAGE.copy_to("whole", &copy);
    let to = host.env.path("by-hand");
    let arguments = ["--signing-key", &host.signing_key(), "--identity", host.identity(), "--to", to.to_str().unwrap()];
    host.env.program("sh").arg(copy.join("recover.sh")).args(arguments).ends().exits(0);
    assert_eq!(fs::read(to.join("cln/hsm_secret")).unwrap(), fs::read(host.lightning("hsm_secret")).unwrap());
}

#[test]
fn the_store_tells_its_own_time() {
    use relay_backup::base::clock::Clock;
    use relay_backup::policy::VaultUrl;
    use relay_backup::vault::{ObjectKey, Vault};
    let env = TestEnv::new();
    let credentials = env.path("credentials");
    GARAGE.credentials(&credentials);
    let url = VaultUrl::parse(&GARAGE.url("clock")).unwrap();
    let vault = Vault::open_url("offsite".parse().unwrap(), &url, Some(&credentials)).unwrap();
    let far = jiff::Timestamp::UNIX_EPOCH;
    vault.create(&"00112233445566778899aabbccddeeff".parse().unwrap(), far).unwrap();
    let stored = vault.look(&ObjectKey::vault_json()).unwrap().unwrap().stored.unwrap();
    // Ours stands at 1970.
    let now = vault.now(Clock::Fixed(far)).unwrap();
    assert!(now.as_second() >= stored.as_second(), "{now} is before {stored}");
}

fn stored(prefix: &str) -> u64 {
    lengths(prefix).into_iter().sum()
}

/// How long each object below a prefix is.
fn lengths(prefix: &str) -> Vec<u64> {
    let operator = GARAGE.operator(prefix);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let entries = runtime.block_on(async { operator.list_with("").recursive(true).await.unwrap() });
    entries.iter().map(|entry| entry.metadata().content_length()).collect()
}

#[test]
fn the_demo_plays_on_s3_with_every_step_and_refuses_a_vault_that_is_there() {
    let env = TestEnv::new();
    let credentials = env.path("credentials");
    GARAGE.credentials(&credentials);
    let url = GARAGE.url("demo");
    let demo = ["demo", "--vault", &url, "--credentials-file", credentials.to_str().unwrap()];
    let ended = env.run(&demo).exits(0).prints("Verdict: PASSED").prints("one bit flipped").prints("stays at s3://");
    assert!(!ended.stdout.contains("left out"), "{ended}");
    assert!(stored("demo") > 1024 * 1024);
    assert!(!ended.stdout.contains(Garage::SECRET_KEY) && !ended.stderr.contains(Garage::SECRET_KEY));
    env.run(&demo).exits(2).complains("there is a vault at").complains("already");
    env.run(&demo[..3]).exits(2).complains("--credentials-file FILE");
}

#[test]
fn a_bandwidth_is_held_over_a_whole_run() {
    const RATE: u64 = 2 * 1024 * 1024;
    let mut host = host_of(Host::of_files(), &GARAGE, "paced");
    host.more.push_str("bandwidth = \"2MiB/s\"\n");
    host.write_policy();
    host.run(&["init"]).exits(0);
    let (code, document) = host.json(&["backup"]);
    let shipped = document["report"]["vaults"][0]["bytes_shipped"].as_u64().unwrap();
    assert!(code == 0 && shipped > 3 * 1024 * 1024, "{document}");
    let largest = lengths("paced").into_iter().max().unwrap();
    let least = (shipped - largest) as f64 / RATE as f64;
    let took = document["report"]["seconds"].as_f64().unwrap();
    assert!(took >= least, "{shipped} bytes in {took} s, in less than {least} s");
}

#[test]
fn a_damaged_object_in_the_store_is_found_and_named() {
    let host = host_of(Host::of_files(), &GARAGE, "damaged");
    host.run(&["init"]).exits(0);
    host.run(&["backup"]).exits(0);
    let operator = GARAGE.operator("damaged");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let name = runtime.block_on(async {
        let entries = operator.list_with("nodes/").recursive(true).await.unwrap();
        let path =
            entries.iter().map(|entry| entry.path()).find(|path| path.contains("/segments/")).unwrap().to_owned();
        let mut bytes = operator.read(&path).await.unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        operator.write(&path, bytes).await.unwrap();
        path.rsplit('/').next().unwrap().trim_end_matches(".age").to_owned()
    });
    host.run(&["verify"]).exits(0);
    host.run(&["verify", "--depth", "sealed"]).exits(20).complains(&name).complains("offsite");
}

#[test]
fn init_tells_what_the_store_does_and_nothing_depends_on_it() {
    let host = host_of(Host::of_files(), &GARAGE, "probe");
    // Garage takes a put that asks to be refused, and replaces the object all the same.
    host.run(&["init"]).exits(0).prints("relay-backup does not rely on it").prints("can replace what is stored");
    host.run(&["init"]).exits(0).prints("Vault offsite: found");
    let (code, document) = host.json(&["backup"]);
    let row = &document["report"]["vaults"][0];
    assert_eq!((code, row["write_once"].as_str(), row["probed"].is_string()), (0, Some("overwrites"), true), "{row}");
}

#[test]
fn a_weaker_store_is_told_by_backup_until_init_takes_it_for_the_rule() {
    let host = Host::of_files();
    host.init();
    host.run(&["backup"]).exits(0).prints("what is stored can be replaced");
    let file = host.state().join("stores.json");
    let rewrite = |from: &str, to: &str| {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        crate::support::vault::overwrite(&file, text.replace(from, to).as_bytes());
    };
    rewrite("\"overwrites\"", "\"refused\"");
    host.run(&["backup"]).exits(0).prints("what is stored cannot be replaced");
    rewrite("\"at\": \"20", "\"at\": \"19");
    host.run(&["backup"]).exits(3).complains("store-weakened").complains("relay-backup init");
    host.run(&["backup"]).exits(3).complains("store-weakened");
    host.run(&["init"]).exits(0).complains("counts as known");
    host.run(&["backup"]).exits(0).keeps_quiet_about("store-weakened");
}

#[test]
fn wrong_credentials_and_buckets_are_told_with_the_remedy() {
    let mut host = host_of(Host::of_files(), &GARAGE, "denied");
    host.run(&["init"]).exits(0);
    let file = host.env.path("credentials");
    fs::write(&file, "access_key_id = \"GK31c2f218a2e44f485b94239f\"\nsecret_access_key = \"hush\"\n").unwrap();
    let denied = host.run(&["backup"]).exits(1).complains("offsite").keeps_quiet_about("hush");
    let denied = denied.complains("the store answered 403").complains("check the credentials of vault offsite");
    assert!(!denied.stderr.contains("Parts {"), "a person reads this\n{denied}");
    fs::write(&file, "hush").unwrap();
    host.run(&["backup"]).exits(1).complains("access_key_id").keeps_quiet_about("hush");
    GARAGE.credentials(&file);
    host.more = host.more.replace("relay-backups/", "no-such-bucket/");
    host.write_policy();
    host.run(&["backup"]).exits(1).complains("NoSuchBucket").complains("make the bucket, or mend its name");
    host.more = host.more.replace("no-such-bucket/", "relay-backups/").replace("region=garage", "region=elsewhere");
    host.write_policy();
    host.run(&["backup"]).exits(1).complains("mend endpoint and region in the url of vault offsite");
}

#[test]
fn a_store_that_is_gone_leaves_the_folder_whole_and_catches_up() {
    let garage = Garage::start();
    let mut host = Host::of_files();
    let credentials = host.env.path("credentials");
    garage.credentials(&credentials);
    host.more = vault_text("offsite", &garage.url("gone"), &credentials);
    host.write_policy();
    host.run(&["init"]).exits(0);
    host.run(&["backup"]).exits(0);
    garage.stop();
    host.run(&["backup"]).exits(3).complains("offsite").prints("BEHIND");
    host.run(&["verify"]).exits(3).complains("offsite");
    garage.resume();
    host.run(&["verify"]).exits(3).complains("behind");
    host.run(&["backup"]).exits(0);
    host.run(&["verify", "--depth", "sealed", "--snapshot", "all"]).exits(0);
}

#[test]
fn a_killed_run_leaves_nothing_half_done_in_the_store() {
    let garage = Garage::start();
    let host = host_of(Host::with_databases(), &garage, "killed");
    host.run(&["init"]).exits(0);
    for round in 0..6u64 {
        let running = host.command(&["backup"]).start();
        std::thread::sleep(Duration::from_millis(40 + 90 * round));
        running.signal(Signal::KILL);
        running.ends();
        let listed = host.run(&["list"]);
        assert!(matches!(listed.code, Some(0)), "{listed}");
        if !listed.stdout.contains("No snapshots") {
            host.open(&["verify", "--depth", "opened", "--snapshot", "all"]).exits(0);
        }
    }
    host.run(&["backup"]).exits(0);
    host.open(&["verify", "--depth", "opened", "--snapshot", "all"]).exits(0);
    let described = garage.describe();
    assert!(described.contains("Objects:") && !described.contains(UNFINISHED), "{described}");

    // That the server would have told:
    let operator = garage.operator("begun");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut writer = operator.writer("large").await.unwrap();
        for _ in 0..2 {
            writer.write(vec![7; 5 << 20]).await.unwrap();
        }
    });
    let described = garage.describe();
    assert!(described.contains(UNFINISHED), "{described}");
}
