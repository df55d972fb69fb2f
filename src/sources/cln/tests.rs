//! Whole runs over folders made of the fixtures: files of real nodes on regtest.

use super::*;
use crate::facts::cln::{EmergencyLayout, HtlcDirection, SecretFormat};
use rusqlite::Connection;
use std::os::unix::fs::PermissionsExt;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cln");
const NODE_ID: &str = "037c0ac3be7b74b0d720936d0db9f51db75c05604a578e676515973a877d2e2ba7";
const CHANNEL_1: &str = "6459c9624c7a28dfe54f23515f4833f99de86ef8b93133fa12c8d6d0bb23b337";
const CHANNEL_2: &str = "14e2c413422aa8bce671eb959304cb7bbb43f2b550e2eab7a011cb9e4a74be7b";

/// Everything a run handed on.
#[derive(Default)]
struct Shelf {
    artifacts: Vec<(ArtifactSpec, Vec<u8>, Facts)>,
    findings: Vec<Finding>,
}

impl Sink for Shelf {
    fn artifact(&mut self, spec: ArtifactSpec, body: Body<'_>) -> Result<(), SourceError> {
        let mut bytes = Vec::new();
        let facts = body(&mut bytes)?;
        self.artifacts.push((spec, bytes, facts));
        Ok(())
    }

    fn finding(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}

impl Shelf {
    fn names(&self) -> Vec<&str> {
        self.artifacts.iter().map(|(spec, ..)| spec.name.as_str()).collect()
    }

    fn codes(&self) -> Vec<&str> {
        self.findings.iter().map(|finding| finding.code.as_str()).collect()
    }

    fn get(&self, name: &str) -> (&[u8], &Facts) {
        let (_, bytes, facts) = self.artifacts.iter().find(|(spec, ..)| spec.name.as_str() == name).unwrap();
        (bytes, facts)
    }

    fn wallet(&self) -> &WalletFacts {
        match self.get("cln/lightningd.sqlite3").1 {
            Facts::ClnWallet(facts) => facts,
            other => panic!("{other:?}"),
        }
    }

    fn secret(&self, name: &str) -> &SecretFacts {
        match self.get(name).1 {
            Facts::HsmSecret(facts) => facts,
            other => panic!("{other:?}"),
        }
    }

    fn emergency(&self) -> &crate::facts::cln::EmergencyFacts {
        match self.get("cln/emergency.recover").1 {
            Facts::EmergencyRecover(facts) => facts,
            other => panic!("{other:?}"),
        }
    }
}

/// A lightning directory of the node at one of its moments, and a state folder.
struct Host {
    lightning: tempfile::TempDir,
    state: tempfile::TempDir,
    name: SourceName,
    interrupt: Interrupt,
}

impl Host {
    fn at(moment: &str) -> Self {
        let host = Self {
            lightning: tempfile::tempdir().unwrap(),
            state: tempfile::tempdir().unwrap(),
            name: "cln".parse().unwrap(),
            interrupt: Interrupt::new(),
        };
        std::fs::create_dir(host.path("")).unwrap();
        host.put("hsm_secret", &fixture("node/hsm_secret"));
        host.put("lightningd.sqlite3", &fixture(&format!("node/{moment}/lightningd.sqlite3")));
        if moment != "03b-htlc-in-flight" {
            host.put("emergency.recover", &fixture(&format!("node/{moment}/emergency.recover")));
        }
        host
    }

    fn path(&self, file: &str) -> PathBuf {
        self.lightning.path().join("regtest").join(file)
    }

    fn put(&self, file: &str, bytes: &[u8]) {
        let path = self.path(file);
        if path.exists() {
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn remove(&self, file: &str) {
        std::fs::remove_file(self.path(file)).unwrap();
    }

    fn try_read(&self, attested: Option<&Attestation>, sink: &mut dyn Sink) -> Result<ClnReport, SourceError> {
        Cln {
            name: &self.name,
            lightning_dir: self.lightning.path(),
            network: "regtest",
            wallet: None,
            commands: &[],
            attested,
            budget: LockBudget::default(),
            scratch_folder: self.state.path(),
            interrupt: &self.interrupt,
        }
        .read(sink)
    }

    fn read(&self, attested: Option<&Attestation>) -> (Shelf, ClnReport) {
        let mut shelf = Shelf::default();
        let report = self.try_read(attested, &mut shelf).unwrap();
        (shelf, report)
    }
}

fn fixture(path: &str) -> Vec<u8> {
    std::fs::read(format!("{FIXTURES}/{path}")).unwrap()
}

fn all_moments() -> [&'static str; 7] {
    [
        "01-funded",
        "02-two-channels-open",
        "03-after-5-payments",
        "03b-htlc-in-flight",
        "04-after-25-payments",
        "08-onchain-csv-wait",
        "09-all-channels-closed",
    ]
}

#[test]
fn every_moment_of_the_node_is_read_whole_and_checks() {
    for moment in all_moments() {
        let host = Host::at(moment);
        let (shelf, report) = host.read(None);
        if moment == "03b-htlc-in-flight" {
            assert_eq!(shelf.codes(), ["scb-missing"], "the fixture has no emergency.recover");
            assert_eq!(shelf.names(), ["cln/hsm_secret", "cln/lightningd.sqlite3"]);
            continue;
        }
        assert_eq!(shelf.findings, [], "{moment}");
        assert_eq!(shelf.names(), ["cln/hsm_secret", "cln/emergency.recover", "cln/lightningd.sqlite3"]);
        assert_eq!(shelf.artifacts[2].0.toxicity, Toxicity::Toxic);
        let attestation = report.attestation.unwrap();
        assert_eq!(attestation.node_id.as_deref(), Some(NODE_ID));
        let (bytes, _) = shelf.get("cln/hsm_secret");
        assert_eq!(bytes, fixture("node/hsm_secret"));
        assert_eq!(check_secret("s", &Secret::new(bytes.to_vec()), shelf.secret("cln/hsm_secret")), []);
        let secret = parse_secret(Secret::new(bytes.to_vec())).unwrap();
        let (bytes, _) = shelf.get("cln/emergency.recover");
        assert_eq!(bytes, fixture(&format!("node/{moment}/emergency.recover")));
        assert_eq!(check_emergency("s", bytes, shelf.emergency(), Some(&secret)), []);
        let restored = host.state.path().join("restored");
        std::fs::write(&restored, shelf.get("cln/lightningd.sqlite3").0).unwrap();
        assert_eq!(check_wallet("s", &restored, shelf.wallet(), &host.interrupt), [], "{moment}");
        let (second, report) = host.read(Some(&attestation));
        assert_eq!((second.findings.len(), report.attestation), (0, None));
        assert_eq!(second.wallet().content, shelf.wallet().content);
    }
}

#[test]
fn the_wallets_facts_are_those_the_node_itself_told() {
    let (shelf, _) = Host::at("04-after-25-payments").read(None);
    let facts = shelf.wallet();
    let node = &facts.node;
    assert_eq!((node.schema_version, node.data_version), (286, Some(508)));
    assert_eq!(node.node_id.as_deref(), Some(NODE_ID));
    assert_eq!(node.network.as_deref(), Some("regtest"));
    assert_eq!(node.genesis_hash, first_block("regtest"));
    assert_eq!(node.genesis_hash.as_deref(), Some("0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"));
    assert_eq!((node.block_height, node.last_processed_block), (Some(117), Some(117)));
    assert_eq!((node.bip32_max_index, node.bip86_max_index), (None, Some(5)));
    assert_eq!((node.unspent.outputs, node.unspent.sat, node.unspent.oldest_height), (2, 9_989_999_679, Some(2)));
    assert_eq!((node.payments, node.inflights), (Some(25), Some(0)));
    assert_eq!(node.peers.len(), 2);
    assert_eq!(node.peers[0].address.as_deref(), Some("127.0.0.1:9742"));
    let said: serde_json::Value =
        serde_json::from_slice(&fixture("node/04-after-25-payments/listpeerchannels.json")).unwrap();
    for said in said["channels"].as_array().unwrap() {
        let id = said["channel_id"].as_str();
        let channel = node.channels.iter().find(|channel| channel.channel_id.as_deref() == id).unwrap();
        assert_eq!(channel.peer_id.as_deref(), said["peer_id"].as_str());
        assert_eq!(channel.short_channel_id.as_deref(), said["short_channel_id"].as_str());
        assert_eq!(crate::facts::cln::state_name(channel.state), said["state"].as_str().unwrap());
        assert_eq!(channel.local_msat, said["to_us_msat"].as_u64());
        assert_eq!(channel.lost_state, said["lost_state"].as_bool());
        assert_eq!(channel.funding_sat, said["total_msat"].as_u64().map(|msat| msat / 1000));
        let funding = format!("{}:{}", said["funding_txid"].as_str().unwrap(), said["funding_outnum"]);
        assert_eq!(channel.funding.as_deref(), Some(funding.as_str()));
        assert_eq!(channel.has_last_tx, Some(true));
    }
    let second = &node.channels[1];
    assert_eq!(second.channel_id.as_deref(), Some(CHANNEL_2));
    assert_eq!((second.next_index_local, second.next_index_remote), (Some(41), Some(41)));
    assert_eq!((second.revocations, second.next_htlc_id), (Some(40), Some(20)));
    assert_eq!(facts.content.tables["payments"].rows, 25);
    let text = serde_json::to_string(facts).unwrap();
    assert_eq!(serde_json::from_str::<WalletFacts>(&text).unwrap(), *facts);
}

#[test]
fn a_live_htlc_is_seen() {
    let (shelf, _) = Host::at("03b-htlc-in-flight").read(None);
    let htlcs = &shelf.wallet().node.htlcs;
    assert_eq!(htlcs.len(), 1);
    assert_eq!((htlcs[0].channel_dbid, htlcs[0].direction), (2, HtlcDirection::Outgoing));
    assert!(htlcs[0].cltv_expiry > 117 && !htlcs[0].has_preimage && htlcs[0].msat > 0);
}

#[test]
fn emergency_recover_tells_channels_and_revocations() {
    // The plugin writes the file before lightningd has stored the newest revocation it is told of: it may lag the
    // wallet by one, as it does here.
    for (moment, first, second) in [("02-two-channels-open", 0, 0), ("04-after-25-payments", 10, 39)] {
        let (shelf, _) = Host::at(moment).read(None);
        let contents = shelf.emergency().contents.clone().unwrap();
        assert_eq!((contents.layout, contents.version, contents.channels.len()), (EmergencyLayout::Modern, 1, 2));
        let find = |id: &str| contents.channels.iter().find(|channel| channel.channel_id == id).unwrap().clone();
        assert_eq!(find(CHANNEL_1).revocations, Some(first), "{moment}");
        assert_eq!(find(CHANNEL_2).revocations, Some(second), "{moment}");
        assert_eq!(find(CHANNEL_1).address, "127.0.0.1:9742");
        assert_eq!((find(CHANNEL_1).funding_sat, find(CHANNEL_1).opened_by_us), (5_000_000, Some(true)));
        let wallet = &shelf.wallet().node.channels;
        for channel in wallet {
            let listed = find(channel.channel_id.as_deref().unwrap());
            assert_eq!(Some(listed.funding), channel.funding);
            assert_eq!(Some(listed.peer_id), channel.peer_id);
        }
    }
}

#[test]
fn a_changed_secret_is_loud_and_takes_another_name() {
    let host = Host::at("02-two-channels-open");
    let attestation = host.read(None).1.attestation.unwrap();
    let other = fixture("hsm_secret/raw32.hsm_secret");
    host.put("hsm_secret", &other);
    let (shelf, report) = host.read(Some(&attestation));
    assert_eq!(report.attestation, None);
    assert_eq!(shelf.names(), ["cln/hsm_secret.unattested", "cln/emergency.recover", "cln/lightningd.sqlite3"]);
    assert_eq!(shelf.get("cln/hsm_secret.unattested").0, other);
    assert!(!shelf.secret("cln/hsm_secret.unattested").attested);
    assert_eq!(shelf.codes(), ["node-id-mismatch", "hsm-secret-changed", "scb-undecryptable"]);
    let changed = &shelf.findings[1];
    assert_eq!(changed.level, Level::Failed);
    assert!(changed.message.contains(NODE_ID) && changed.message.contains("028f7d42"), "{changed:?}");
    assert!(changed.hint.as_ref().unwrap().contains("relay-backup attest cln"));
    let live = is_attested(&attestation, host.lightning.path(), "regtest").unwrap();
    let accepted = attest(&host.name, host.lightning.path(), "regtest").unwrap();
    assert!(!live && accepted.matches(&other));
}

#[test]
fn the_first_run_attests_nothing_that_the_wallet_contradicts() {
    let host = Host::at("02-two-channels-open");
    host.put("hsm_secret", &fixture("hsm_secret/mnemonic.hsm_secret"));
    let (shelf, report) = host.read(None);
    assert_eq!(report.attestation, None);
    assert_eq!(shelf.codes(), ["node-id-mismatch", "scb-undecryptable"]);
    assert!(shelf.findings[0].message.contains(NODE_ID));
    assert_eq!(shelf.names()[0], "cln/hsm_secret.unattested");
}

#[test]
fn the_first_run_attests_nothing_without_the_wallet() {
    let host = Host::at("02-two-channels-open");
    let other = fixture("hsm_secret/raw32.hsm_secret");
    host.put("hsm_secret", &other);
    host.remove("lightningd.sqlite3");
    let (shelf, report) = host.read(None);
    assert_eq!(report.attestation, None);
    assert_eq!(shelf.codes(), ["wallet-missing", "scb-undecryptable"]);
    assert_eq!(shelf.get("cln/hsm_secret").0, other, "what may be precious is kept");
    assert!(!shelf.secret("cln/hsm_secret").attested);
}

#[test]
fn a_missing_or_invalid_secret_keeps_nothing_else_back() {
    let host = Host::at("02-two-channels-open");
    let attestation = host.read(None).1.attestation.unwrap();
    host.remove("hsm_secret");
    let (shelf, _) = host.read(Some(&attestation));
    assert_eq!(shelf.codes(), ["hsm-secret-missing", "scb-not-opened"]);
    assert_eq!(shelf.names(), ["cln/emergency.recover", "cln/lightningd.sqlite3"]);
    host.put("hsm_secret", b"");
    let (shelf, _) = host.read(None);
    assert_eq!(shelf.codes(), ["hsm-secret-invalid", "scb-not-opened"]);
    assert_eq!(shelf.names(), ["cln/emergency.recover", "cln/lightningd.sqlite3"]);
    let mut broken = fixture("node/hsm_secret");
    broken.push(b'\n');
    host.put("hsm_secret", &broken);
    let (shelf, report) = host.read(None);
    assert_eq!(shelf.codes(), ["hsm-secret-invalid", "scb-not-opened"]);
    assert_eq!(shelf.names()[0], "cln/hsm_secret.unattested", "what may be precious is kept");
    assert_eq!(report.attestation, None);
}

#[test]
fn passphrase_forms_are_attested_without_a_node_id() {
    let forms = [("encrypted", SecretFormat::Encrypted), ("mnemonic-pass", SecretFormat::MnemonicWithPassphrase)];
    for (name, format) in forms {
        let host = Host::at("02-two-channels-open");
        host.put("hsm_secret", &fixture(&format!("hsm_secret/{name}.hsm_secret")));
        let (shelf, report) = host.read(None);
        assert_eq!(shelf.codes(), ["scb-not-opened"]);
        assert_eq!(shelf.findings[0].level, Level::Note);
        let attestation = report.attestation.unwrap();
        assert_eq!((attestation.format, attestation.node_id), (format, None));
        assert_eq!(shelf.emergency().contents, None);
    }
}

#[test]
fn an_emergency_recover_that_lacks_channels_fails_and_names_them() {
    let host = Host::at("04-after-25-payments");
    host.put("emergency.recover", &fixture("node/09-all-channels-closed/emergency.recover"));
    let (shelf, _) = host.read(None);
    assert_eq!(shelf.codes(), ["scb-incomplete"]);
    let finding = &shelf.findings[0];
    assert_eq!(finding.level, Level::Failed);
    assert!(finding.message.contains(CHANNEL_1) && finding.message.contains(CHANNEL_2), "{finding:?}");
    assert_eq!(shelf.names().len(), 3, "everything is sealed all the same");
    // The opposite is legitimate: channels that the wallet calls closed need not be listed, but may be.
    let host = Host::at("09-all-channels-closed");
    host.put("emergency.recover", &fixture("node/04-after-25-payments/emergency.recover"));
    assert_eq!(host.read(None).0.findings, []);
}

#[test]
fn an_empty_or_damaged_emergency_recover_fails() {
    let host = Host::at("02-two-channels-open");
    host.put("emergency.recover", b"");
    assert_eq!(host.read(None).0.codes(), ["scb-empty"]);
    host.remove("emergency.recover");
    assert_eq!(host.read(None).0.codes(), ["scb-missing"]);
    let mut damaged = fixture("node/02-two-channels-open/emergency.recover");
    damaged[300] ^= 1;
    host.put("emergency.recover", &damaged);
    let (shelf, _) = host.read(None);
    assert_eq!(shelf.codes(), ["scb-undecryptable"]);
    assert_eq!(shelf.get("cln/emergency.recover").0, damaged);
}

#[test]
fn a_moment_without_emergency_recover_is_looked_at_again() {
    let host = Host::at("02-two-channels-open");
    host.put("emergency.recover", b"");
    std::thread::scope(|scope| {
        let run = scope.spawn(|| host.read(None).0.findings);
        std::thread::sleep(std::time::Duration::from_millis(250));
        let path = host.path("scb.tmp");
        std::fs::write(&path, fixture("node/02-two-channels-open/emergency.recover")).unwrap();
        std::fs::rename(path, host.path("emergency.recover")).unwrap();
        assert_eq!(run.join().unwrap(), []);
    });
}

#[test]
fn a_wallet_that_cannot_be_had_keeps_nothing_else_back() {
    let host = Host::at("02-two-channels-open");
    host.remove("lightningd.sqlite3");
    let (shelf, _) = host.read(None);
    assert_eq!(shelf.codes(), ["wallet-missing"]);
    assert_eq!(shelf.names(), ["cln/hsm_secret", "cln/emergency.recover"]);
    host.put("lightningd.sqlite3", b"A restore is under way; do not start lightningd.");
    let (shelf, _) = host.read(None);
    assert_eq!(shelf.codes(), ["wallet-not-copied"]);
    assert!(shelf.findings[0].hint.as_ref().unwrap().contains("fence"));
    let whole = fixture("node/02-two-channels-open/lightningd.sqlite3");
    host.put("lightningd.sqlite3", &whole[..whole.len() / 2]);
    assert!(host.read(None).0.findings[0].message.contains("truncated"));
    host.remove("lightningd.sqlite3");
    Connection::open(host.path("lightningd.sqlite3")).unwrap().execute_batch("CREATE TABLE songs (name)").unwrap();
    let (shelf, _) = host.read(None);
    assert_eq!(shelf.codes(), ["wallet-not-copied"]);
    assert!(shelf.findings[0].message.contains("not Core Lightning's database"), "{:?}", shelf.findings);
}

#[test]
fn an_old_schema_gives_fewer_facts_and_no_error() {
    let host = Host::at("02-two-channels-open");
    let live = Connection::open(host.path("lightningd.sqlite3")).unwrap();
    live.execute_batch(
        "PRAGMA foreign_keys = OFF;
         ALTER TABLE channels DROP COLUMN future_per_commitment_point;
         ALTER TABLE channels DROP COLUMN scid;
         ALTER TABLE peers DROP COLUMN last_known_address;
         UPDATE channels SET short_channel_id = '110x1x0' WHERE id = 1;
         DROP TABLE our_outputs; DROP TABLE channel_funding_inflights;
         DELETE FROM vars WHERE name IN ('node_id', 'genesis_hash');",
    )
    .unwrap();
    live.close().unwrap();
    let (shelf, _) = host.read(None);
    assert_eq!(shelf.codes(), ["wallet-without-node-id"]);
    let node = &shelf.wallet().node;
    assert_eq!((node.inflights, &node.network, &node.node_id), (None, &None, &None));
    assert_eq!(node.channels[0].short_channel_id.as_deref(), Some("110x1x0"));
    assert_eq!((node.channels[0].lost_state, node.channels[0].has_last_tx), (None, Some(true)));
}

#[test]
fn the_wrong_chain_is_a_failure() {
    let host = Host::at("01-funded");
    std::fs::rename(host.path(""), host.lightning.path().join("bitcoin")).unwrap();
    let mut shelf = Shelf::default();
    let cln = Cln {
        name: &host.name,
        lightning_dir: host.lightning.path(),
        network: "bitcoin",
        wallet: None,
        commands: &[],
        attested: None,
        budget: LockBudget::default(),
        scratch_folder: host.state.path(),
        interrupt: &host.interrupt,
    };
    cln.read(&mut shelf).unwrap();
    assert_eq!(shelf.codes(), ["network-mismatch"]);
}

#[test]
fn small_files_travel_with_their_modes_and_nothing_else_does() {
    let host = Host::at("01-funded");
    host.put("client-key.pem", b"key");
    host.put("config.setconfig", b"min-capacity-sat=5");
    host.put("data.clboss", b"no");
    std::fs::write(host.lightning.path().join("config"), "alias=shop\n").unwrap();
    std::fs::create_dir(host.path("lightning.pre-recover.77")).unwrap();
    host.put("hsm_secret.backup", b"left");
    let (shelf, _) = host.read(None);
    assert_eq!(shelf.codes(), ["hsm-secret-backup-left-behind", "pre-recover-left-behind"]);
    let (bytes, facts) = shelf.get("cln/extras.tar");
    let Facts::ClnExtras(facts) = facts else { panic!("{facts:?}") };
    let mut archive = tar::Archive::new(bytes);
    let entries: Vec<(String, u32)> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.path().unwrap().to_string_lossy().into_owned(), entry.header().mode().unwrap())
        })
        .collect();
    let expected = ["config", "regtest/client-key.pem", "regtest/config.setconfig"];
    assert_eq!(entries.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), expected);
    assert_eq!(entries[1].1, 0o600);
    assert_eq!(check_extras("s", &mut &bytes[..], facts), []);
    let mut damaged = bytes.to_vec();
    damaged[512] ^= 1;
    assert_eq!(check_extras("s", &mut &damaged[..], facts)[0].code, "tar-differs");
}

#[test]
fn a_secret_that_everybody_can_read_is_named_with_its_chmod() {
    let host = Host::at("01-funded");
    std::fs::set_permissions(host.path("hsm_secret"), std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::set_permissions(host.lightning.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(host.read(None).0.findings, [], "the folder above lets nobody through");
    std::fs::set_permissions(host.lightning.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (shelf, _) = host.read(None);
    assert_eq!(shelf.codes(), ["hsm-secret-exposed"]);
    assert_eq!(shelf.findings[0].level, Level::Degraded);
    assert!(shelf.findings[0].hint.as_ref().unwrap().starts_with("chmod 0400 "));
    assert_eq!(shelf.secret("cln/hsm_secret").live.mode, 0o644);
}

#[test]
fn a_missing_folder_and_a_failing_sink_are_errors() {
    let host = Host::at("01-funded");
    host.interrupt.set();
    let mut shelf = Shelf::default();
    assert!(host.try_read(None, &mut shelf).is_err());
    assert!(shelf.artifacts.is_empty());
    let host = Host::at("01-funded");
    std::fs::remove_dir_all(host.path("")).unwrap();
    let error = host.try_read(None, &mut Shelf::default()).unwrap_err();
    assert!(error.to_string().contains("regtest"), "{error}");
    assert!(error.hint().unwrap().contains("lightning_dir"));
    struct Full;
    impl Sink for Full {
        fn artifact(&mut self, _: ArtifactSpec, _: Body<'_>) -> Result<(), SourceError> {
            Err(SourceError::Sink(std::io::Error::other("disk full")))
        }
        fn finding(&mut self, _: Finding) {}
    }
    let host = Host::at("01-funded");
    assert!(matches!(host.try_read(None, &mut Full), Err(SourceError::Sink(_))));
}

#[test]
fn checks_notice_what_was_exchanged() {
    let (older, _) = Host::at("02-two-channels-open").read(None);
    let (newer, _) = Host::at("04-after-25-payments").read(None);
    let folder = tempfile::tempdir().unwrap();
    let restored = folder.path().join("wallet");
    std::fs::write(&restored, older.get("cln/lightningd.sqlite3").0).unwrap();
    let findings = check_wallet("s", &restored, newer.wallet(), &Interrupt::new());
    assert!(findings.iter().any(|finding| finding.message.contains("table payments has 0 rows where 25")));
    assert!(findings.iter().any(|finding| finding.code == "node-state-differs"));
    let secret = parse_secret(Secret::new(fixture("node/hsm_secret"))).unwrap();
    let (bytes, _) = older.get("cln/emergency.recover");
    assert_eq!(check_emergency("s", bytes, newer.emergency(), Some(&secret))[0].code, "scb-differs");
    let mut damaged = bytes.to_vec();
    damaged[100] ^= 1;
    assert_eq!(check_emergency("s", &damaged, older.emergency(), Some(&secret))[0].code, "scb-undecryptable");
    let other = Secret::new(fixture("hsm_secret/mnemonic.hsm_secret"));
    assert_eq!(check_secret("s", &other, older.secret("cln/hsm_secret"))[0].code, "hsm-secret-differs");
    std::fs::write(&restored, b"SQLite format 3\0 and then nothing").unwrap();
    assert_eq!(check_wallet("s", &restored, newer.wallet(), &Interrupt::new())[0].code, "database-unreadable");
}

#[test]
fn no_secret_is_shown_in_facts_findings_or_reports() {
    let host = Host::at("04-after-25-payments");
    let (shelf, report) = host.read(None);
    let mut shown = format!("{report:?}");
    for (_, _, facts) in &shelf.artifacts {
        shown.push_str(&serde_json::to_string(facts).unwrap());
    }
    let secret = fixture("node/hsm_secret");
    let parsed = parse_secret(Secret::new(secret.clone())).unwrap();
    let words = std::str::from_utf8(&secret[32..]).unwrap();
    assert!(!shown.contains(words));
    assert!(!shown.contains(&hex::encode(parsed.emergency_key().unwrap().as_slice())));
    assert!(!shown.contains(&hex::encode(&secret)));
}
