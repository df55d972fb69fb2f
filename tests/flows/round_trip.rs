//! What was on the host comes back: byte for byte where it is files, row for row where it is databases.

use crate::support::env::TestEnv;
use crate::support::host::{Host, WALLET, mode, whole};
use crate::support::json::document;
use crate::support::shop;
use relay_backup::base::interrupt::Interrupt;
use relay_backup::facts::Facts;
use relay_backup::sandbox::shop::Shop;
use relay_backup::sources::{postgres, sqlite};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

#[test]
fn a_host_is_set_up_once_and_again_without_harm() {
    let host = Host::of_files();
    host.run(&["init"]).exits(0).prints("Vault local: made").prints(&host.signing_key());
    let (before, keys) = (host.vault().files(), host.signing_key());
    host.run(&["init"]).exits(0).prints("was set up before").prints("Vault local: found");
    assert_eq!((host.vault().files(), host.signing_key()), (before, keys));
}

#[test]
fn snapshots_are_listed_and_shown() {
    let whole = whole();
    let list = whole.host.run(&["list"]).exits(0);
    assert!(list.stdout.contains(&whole.first) && list.stdout.contains(&whole.second), "{list}");
    let show = whole.host.run(&["show", &whole.first]).exits(0).prints("follows    nothing: it is the first");
    for artifact in whole.host.vault().artifacts(&whole.first) {
        assert!(show.stdout.contains(&artifact), "{artifact}\n{show}");
    }
    whole.host.run(&["show", "latest"]).exits(0).prints(&whole.second).keeps_quiet_about("policy:");
    whole.host.open(&["show", "latest"]).exits(0).prints("policy:").prints("\"peer_id\"").prints("rpo = \"26h\"");
}

#[test]
fn every_artifact_that_should_be_there_is_there() {
    let artifacts = whole().host.vault().artifacts(&whole().first);
    let expected = [
        "cln/hsm_secret",
        "cln/emergency.recover",
        WALLET,
        "cln/extras.tar",
        "medusa/files.tar",
        "btcpay/globals.sql",
        "btcpay/btcpaydb.dump",
        "btcpay/nbxplorer.dump",
    ];
    for name in expected {
        assert!(artifacts.iter().any(|artifact| artifact == name), "{name} is missing in {artifacts:?}");
    }
    assert_eq!(artifacts.len(), expected.len(), "{artifacts:?}");
}

#[test]
fn verify_passes_present() {
    whole().host.run(&["verify"]).exits(0).prints("every object present").prints("live hsm_secret as attested: cln");
}

#[test]
fn verify_passes_sealed() {
    let verify = whole().host.run(&["verify", "--depth", "sealed", "--snapshot", "all"]).exits(0);
    assert_eq!(verify.stdout.matches("passed  every object hashes to its name").count(), 2, "{verify}");
}

#[test]
fn verify_passes_opened() {
    let verify = whole().host.open(&["verify", "--depth", "opened", "--snapshot", "all"]).exits(0);
    assert_eq!(verify.stdout.matches("passed  every segment opens to its content").count(), 2, "{verify}");
}

#[test]
fn verify_passes_meaning() {
    let verify = whole().host.open(&["verify", "--depth", "meaning"]).exits(0).keeps_quiet_about("FAILED");
    for artifact in whole().host.vault().artifacts(&whole().second) {
        let line = format!("passed  meaning: {}: {artifact}", whole().second);
        assert!(verify.stdout.contains(&line), "{line}\n{verify}");
    }
    verify.prints("restored and equal");
}

#[test]
fn the_secret_and_the_recovery_file_come_back_byte_for_byte() {
    let host = &whole().host;
    for file in ["hsm_secret", "emergency.recover"] {
        assert_eq!(host.extract(&format!("cln/{file}")), fs::read(host.lightning(file)).unwrap(), "{file}");
    }
}

#[test]
fn an_extracted_secret_is_its_owners_alone() {
    let env = TestEnv::new();
    for (artifact, wanted) in [("cln/hsm_secret", 0o400), ("cln/emergency.recover", 0o600)] {
        let to = env.path(artifact.rsplit('/').next().unwrap());
        whole().host.open(&["extract", "--artifact", artifact, "--to", to.to_str().unwrap()]).exits(0);
        assert_eq!(mode(&to), wanted, "{artifact}");
    }
}

#[test]
fn files_come_back_from_stock_tar_with_content_modes_times_and_links() {
    let (host, env) = (&whole().host, TestEnv::new());
    let tar = env.write("files.tar", host.extract("medusa/files.tar"), 0o600);
    fs::create_dir(env.path("out")).unwrap();
    env.program("tar").args(["-xpf"]).arg(&tar).arg("-C").arg(env.path("out")).ends().exits(0);
    let live = host.env.path("medusa");
    let restored = env.path("out").join(live.strip_prefix("/").unwrap());
    assert_eq!(tree(&restored), tree(&live));
    assert!(tree(&live).len() > 8, "there was something to compare");
}

/// Everything below a folder: kind and mode, modification time, content or target.
fn tree(root: &Path) -> BTreeMap<String, (u32, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else if meta.is_dir() {
            ahead.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        found.insert(name, (meta.mode(), meta.mtime(), content));
    }
    found
}

#[test]
fn the_wallet_comes_back_row_for_row() {
    let (host, env) = (&whole().host, TestEnv::new());
    let copy = env.write("copy.sqlite3", host.extract(WALLET), 0o400);
    let content = |path: &Path| {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        sqlite::content(&rusqlite::Connection::open_with_flags(path, flags).unwrap(), &Interrupt::new()).unwrap()
    };
    assert_eq!(content(&copy), content(&host.lightning("lightningd.sqlite3")));
    env.program("sqlite3").arg(&copy).arg("PRAGMA integrity_check").ends().exits(0).prints("ok");
}

#[test]
fn databases_come_back_row_for_row_by_stock_pg_restore() {
    let (host, env, cluster) = (&whole().host, TestEnv::new(), shop::cluster());
    let shown = document(&host.open(&["--json", "show", "latest"]).exits(0));
    for name in [Shop::BTCPAY, Shop::NBXPLORER] {
        let dump = env.write(&format!("{name}.dump"), host.extract(&format!("btcpay/{name}.dump")), 0o600);
        let restored = format!("restored_{name}");
        cluster.create_plain_database(&restored).unwrap();
        let url = cluster.url(&restored);
        let stock = ["--no-owner", "--exit-on-error", "--dbname", &url];
        env.program("pg_restore").args(stock).arg(&dump).ends().exits(0);
        let contents = shown["report"]["contents"].as_array().unwrap();
        let shown = contents.iter().find(|artifact| artifact["name"] == format!("btcpay/{name}.dump")).unwrap();
        let Facts::PostgresDump(facts) = serde_json::from_value(shown["facts"].clone()).unwrap() else {
            panic!("{shown}")
        };
        let proof = postgres::prove(&url, None, &facts).unwrap();
        assert!(proof.is_equal() && proof.tables > 2 && proof.rows > 400, "{proof:?}");

        // A proof that could not fail would prove nothing.
        let table = facts.tables.iter().find(|table| table.rows > 0).unwrap();
        cluster.execute(&restored, &format!("TRUNCATE \"{}\" CASCADE", table.name)).unwrap();
        assert!(!postgres::prove(&url, None, &facts).unwrap().is_equal());
        cluster.drop_database(&restored).unwrap();
    }
}

#[test]
fn roles_come_back_as_a_script_that_a_server_takes() {
    let script = String::from_utf8(whole().host.extract("btcpay/globals.sql")).unwrap();
    assert!(script.contains("CREATE ROLE postgres;"), "{script}");
}

#[test]
fn nothing_readable_lies_in_the_vault() {
    let host = &whole().host;
    let secrets = [
        fs::read(host.lightning("hsm_secret")).unwrap()[40..72].to_vec(),
        crate::support::host::SHOP_SECRET.as_bytes().to_vec(),
        b"lightningd.sqlite3-".to_vec(),
        fs::read(host.state().join("dedup.key")).unwrap(),
    ];
    for name in host.vault().files().into_keys() {
        let bytes = fs::read(host.vault().root.join(&name)).unwrap();
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{name} holds plaintext");
        }
    }
}

#[test]
fn the_host_holds_no_identity_after_a_backup() {
    for entry in fs::read_dir(whole().host.state()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(15).any(|window| window == b"AGE-SECRET-KEY-"), "{}", path.display());
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}
