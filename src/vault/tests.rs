//! Tests of the vault on a real folder and on OpenDAL's memory store.
use super::faulty::{Fault, Faults, Nth, On};
use super::*;

mod in_folder;
mod requests;

fn name() -> VaultName {
    "test".parse().unwrap()
}

fn node() -> NodeName {
    "shops-btc-01".parse().unwrap()
}

fn id() -> VaultId {
    "00112233445566778899aabbccddeeff".parse().unwrap()
}

fn memory() -> Vault {
    Vault::from_operator(name(), opendal::Operator::new(opendal::services::Memory::default()).unwrap()).unwrap()
}

fn folder(root: &Path) -> Vault {
    Vault::open_url(name(), &VaultUrl::Fs(root.to_owned()), None).unwrap()
}

fn segment(content: &[u8]) -> ObjectKey {
    ObjectKey::segment(&node(), &crate::base::ids::Sha256Hex::of(content))
}

fn both(check: impl Fn(&Vault)) {
    let root = tempfile::tempdir().unwrap();
    let at = root.path().join("deep/vault");
    for vault in [memory(), folder(&at)] {
        assert!(vault.identify().unwrap().is_none());
        vault.create(&id(), Timestamp::UNIX_EPOCH).unwrap();
        check(&vault);
    }
}

#[test]
fn a_store_that_does_not_tell_the_time_is_not_given_another_clock() {
    let vault = memory();
    vault.create(&id(), Timestamp::UNIX_EPOCH).unwrap();
    let error = vault.now(Clock::Fixed(Timestamp::UNIX_EPOCH)).unwrap_err();
    assert!(matches!(error, VaultError::NoClock { .. }), "{error}");
}

#[test]
fn a_vault_is_created_once_and_known_again() {
    both(|vault| {
        assert_eq!(vault.identify().unwrap(), Some(VaultInfo { id: id(), created: Timestamp::UNIX_EPOCH }));
        let before = vault.get(&ObjectKey::vault_json(), 1000).unwrap();
        assert_eq!(
            String::from_utf8(before.clone()).unwrap(),
            "{\"format\":1,\"vault\":\"00112233445566778899aabbccddeeff\",\"created\":\"1970-01-01T00:00:00Z\"}\n"
        );
        let other = "ff112233445566778899aabbccddeeff".parse().unwrap();
        assert!(matches!(vault.create(&other, Timestamp::UNIX_EPOCH), Err(VaultError::Exists { .. })));
        assert_eq!(vault.get(&ObjectKey::vault_json(), 1000).unwrap(), before);
    });
}

#[test]
fn what_was_put_comes_back_and_is_listed_with_its_length() {
    both(|vault| {
        let contents: Vec<Vec<u8>> = (0..40_u32).map(|i| i.to_le_bytes().repeat(i as usize * 100)).collect();
        for content in &contents {
            vault.put(&segment(content), content).unwrap();
        }
        vault.settle().unwrap();
        let listing = vault.list(&Prefix::segments(&node())).unwrap();
        assert_eq!(listing.objects.len(), contents.len());
        assert!(listing.objects.is_sorted_by(|a, b| a.key < b.key));
        for content in &contents {
            let key = segment(content);
            let length = content.len() as u64;
            assert_eq!(&vault.get(&key, length).unwrap(), content);
            assert_eq!(vault.length(&key).unwrap(), Some(length));
            assert!(listing.objects.iter().any(|listed| listed.key == key && listed.length == length));
            if length > 0 {
                let error = vault.get(&key, length - 1).unwrap_err();
                assert!(matches!(error, VaultError::TooLarge { limit, .. } if limit == length - 1), "{error}");
            }
        }
        let mut parts = 0;
        for first in 0..=255 {
            parts += vault.list(&Prefix::segments_part(&node(), first)).unwrap().objects.len();
        }
        assert_eq!(parts, contents.len());
        assert_eq!(vault.nodes().unwrap(), [node()]);
        assert_eq!(vault.list(&Prefix::all()).unwrap().objects.len(), contents.len() + 1);
    });
}

#[test]
fn what_is_not_there_is_said_to_be_not_there() {
    both(|vault| {
        let key = segment(b"nothing");
        assert!(vault.get(&key, 10).unwrap_err().is_not_found());
        assert_eq!(vault.length(&key).unwrap(), None);
        assert_eq!(vault.list(&Prefix::node(&node())).unwrap(), Listing::default());
        assert!(vault.nodes().unwrap().is_empty());
        vault.remove(&key).unwrap();
    });
}

/// A memory store that fails on demand, and is tried again at once.
fn faulty() -> (Faults, Vault) {
    let faults = Faults::new();
    let operator = opendal::Operator::new(opendal::services::Memory::default()).unwrap().layer(faults.layer());
    let patience = Patience { pause: Duration::from_millis(1), tries: 3, ..Patience::default() };
    let vault = Vault::from_operator(name(), operator).unwrap().with_patience(patience);
    (faults, vault)
}

#[test]
fn what_may_pass_is_tried_again_from_the_first_byte() {
    let (faults, vault) = faulty();
    let key = segment(b"content");
    for on in [On::Put, On::Get, On::Look, On::List, On::Remove] {
        faults.on(on, Nth::At(1), Fault::Temporary);
        faults.on(on, Nth::At(2), Fault::Reset);
    }
    vault.put(&key, b"content").unwrap();
    assert_eq!(vault.get(&key, 100).unwrap(), b"content");
    assert_eq!(vault.length(&key).unwrap(), Some(7));
    assert_eq!(vault.list(&Prefix::all()).unwrap().objects.len(), 1);
    vault.remove(&key).unwrap();
    for on in [On::Put, On::Get, On::Look, On::List, On::Remove] {
        assert_eq!(faults.count(on), 3, "{on:?}");
    }
}

#[test]
fn what_stays_wrong_is_an_error_with_its_cause_and_remedy() {
    let tell = |fault: Fault| {
        let (faults, vault) = faulty();
        faults.on(On::Put, Nth::From(1), fault);
        let error = vault.put(&segment(b"content"), b"content").unwrap_err();
        (error, faults.count(On::Put))
    };
    let (error, tries) = tell(Fault::Temporary);
    assert!(error.is_temporary() && tries == 3);
    assert!(error.to_string().starts_with("vault test: cannot put nodes/shops-btc-01/segments/"), "{error}");
    assert!(error.to_string().ends_with("(tried 3 times)"), "{error}");
    let (error, tries) = tell(Fault::Permanent);
    assert!(!error.is_temporary() && tries == 1 && error.hint().is_none());
    let (error, tries) = tell(Fault::Full);
    assert!(!error.is_temporary() && tries == 1, "a full store is not asked again and again");
    assert!(error.trouble() == Trouble::Full && error.hint().unwrap().starts_with("free space"));
    let (error, _) = tell(Fault::Denied);
    assert!(error.trouble() == Trouble::Denied && error.hint().unwrap().contains("credentials"));
    let (error, _) = tell(Fault::Reset);
    assert!(error.trouble() == Trouble::Connection && error.hint().unwrap().contains("endpoint"));
}

#[test]
fn a_listing_that_breaks_off_is_never_a_shorter_one() {
    let (faults, vault) = faulty();
    for n in 0..10_u8 {
        vault.put(&segment(&[n]), &[n]).unwrap();
    }
    faults.on(On::List, Nth::At(1), Fault::BreakAfter(4));
    let listing = vault.list(&Prefix::all()).unwrap();
    assert_eq!(listing.objects.len(), 10, "begun anew, nothing twice");
    faults.clear();
    faults.on(On::List, Nth::From(1), Fault::BreakAfter(4));
    assert!(vault.list(&Prefix::all()).is_err());
    assert!(vault.visit(&Prefix::all(), &mut |_| {}).is_err());
    assert!(vault.nodes().is_ok(), "one entry only: it ends before it would break");
    faults.clear();
    faults.on(On::List, Nth::At(1), Fault::BreakAfter(4));
    let mut seen = 0;
    assert!(vault.visit(&Prefix::all(), &mut |_| seen += 1).is_err(), "what was handed on is not handed on twice");
    assert_eq!(seen, 4);
}

#[test]
fn short_and_spoiled_reads() {
    let (faults, vault) = faulty();
    let key = segment(b"content");
    vault.put(&key, b"content").unwrap();
    faults.on(On::Get, Nth::From(1), Fault::ShortRead(3));
    let error = vault.get(&key, 100).unwrap_err();
    assert!(matches!(error, VaultError::ShortRead { expected: 7, got: 3, .. }), "{error}");
    assert_eq!(faults.count(On::Get), 3, "a short read may pass");
    faults.clear();
    faults.on(On::Get, Nth::At(1), Fault::Vanish);
    assert!(vault.get(&key, 100).unwrap_err().is_not_found());
    assert_eq!(vault.get(&key, 100).unwrap(), b"content");
}

#[test]
fn a_store_that_does_not_answer_is_given_up_on() {
    let (faults, vault) = faulty();
    let patience =
        Patience { tries: 2, pause: Duration::ZERO, control: Duration::ZERO, transfer: Duration::from_millis(1) };
    let vault = vault.with_patience(patience);
    faults.on(On::Put, Nth::From(1), Fault::Slow(Duration::from_secs(600)));
    faults.on(On::Look, Nth::From(1), Fault::Slow(Duration::from_secs(600)));
    let error = vault.put(&segment(b""), b"").unwrap_err();
    assert!(matches!(error, VaultError::TimedOut { tries: 2, .. }), "{error}");
    assert!(error.is_temporary());
    assert!(vault.length(&segment(b"")).is_err());
}

/// The faulty store under a limit of 512 KiB a second.
fn paced() -> (Faults, Vault) {
    let (faults, vault) = faulty();
    let store = match &vault.0.store {
        Store::Objects(store) => Store::Objects(store.with_patience(store.patience())),
        Store::Folder(_) => unreachable!("it is a memory store"),
    };
    let pace = Some(Arc::new(Pace::new(512 * 1024)));
    (faults, Vault(Arc::new(Inner { name: name(), store, pace })))
}

#[test]
fn all_threads_of_a_vault_share_one_limit_and_every_try_counts() {
    const LENGTH: usize = 16 * 1024;
    let (faults, vault) = paced();
    faults.on(On::Put, Nth::At(5), Fault::Temporary);
    let begin = std::time::Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..3_u8 {
            // One of them goes by another patience, and over the same uplink.
            let vault = if thread == 0 { vault.tried_once() } else { vault.clone() };
            scope.spawn(move || {
                for n in 0..4_u8 {
                    let content = [thread, n].repeat(LENGTH / 2);
                    // A try that fails is not what is looked at here, and counts like any other.
                    vault.put(&segment(&content), &content).ok();
                }
            });
        }
    });
    let tries = u32::try_from(faults.count(On::Put)).unwrap();
    assert!(tries >= 12);
    // Lower bounds only: a busy machine makes it take longer. The last one may begin when those before it are through.
    let least = Duration::from_secs(1) * (tries - 1) * LENGTH as u32 / (512 * 1024);
    assert!(begin.elapsed() >= least, "{tries} tries took {:?}, less than {least:?}", begin.elapsed());
}

#[test]
fn a_folder_is_paced_and_a_wish_to_stop_ends_the_wait() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::Folder(FolderStore::new(name(), root.path().to_owned()));
    let interrupt = Interrupt::new();
    let pace = Some(Arc::new(Pace::new(1)));
    let vault = Vault(Arc::new(Inner { name: name(), store, pace })).stopped_by(&interrupt);
    vault.put(&segment(b"first"), &[0; 1 << 20]).unwrap();
    let (done, result) = std::sync::mpsc::channel();
    let waiting = vault.clone();
    // Its turn comes after twelve days.
    std::thread::spawn(move || done.send(waiting.put(&segment(b"second"), b"second")).ok());
    assert!(result.recv_timeout(Duration::from_millis(300)).is_err(), "it does not wait");
    interrupt.set();
    let error = result.recv_timeout(Duration::from_secs(120)).expect("it goes on waiting").unwrap_err();
    assert!(matches!(error, VaultError::Stopped { .. }) && error.hint().is_some(), "{error}");
    assert_eq!(vault.length(&segment(b"second")).unwrap(), None);
}

#[test]
fn eight_threads_put_at_once() {
    both(|vault| {
        std::thread::scope(|scope| {
            for thread in 0..8_u32 {
                let vault = vault.clone();
                scope.spawn(move || {
                    for n in 0..40_u32 {
                        // Every object is put by two threads.
                        let content = (thread / 2 * 1000 + n).to_le_bytes().repeat(300);
                        vault.put(&segment(&content), &content).unwrap();
                    }
                    vault.settle().unwrap();
                });
            }
        });
        let listing = vault.list(&Prefix::segments(&node())).unwrap();
        assert_eq!((listing.objects.len(), listing.strangers_count), (160, 0));
        for listed in listing.objects {
            let bytes = vault.get(&listed.key, 1200).unwrap();
            assert_eq!(segment(&bytes), listed.key, "the name is the digest of the bytes");
        }
    });
}

#[test]
fn a_probe_tells_what_the_store_does_and_cleans_up() {
    both(|vault| {
        let probe = vault.probe().unwrap();
        assert_eq!(
            (probe.get, probe.list, probe.overwrite, probe.delete),
            (Answer::Yes, Answer::Yes, Answer::Yes, Answer::Yes)
        );
        assert_eq!(probe.create, Condition::Kept);
        assert_eq!(probe.left_behind, None);
        assert!(vault.list(&Prefix::probe()).unwrap().objects.is_empty());
        assert!(probe.findings.iter().all(|finding| finding.level == crate::report::Level::Note));
        assert_eq!(serde_json::to_value(&probe).unwrap()["create"], "kept");
    });
}

#[test]
fn a_probe_believes_nothing() {
    let probe_with = |on, nth, fault| {
        let (faults, vault) = faulty();
        faults.on(on, nth, fault);
        let probe = vault.probe().unwrap();
        let left = vault.list(&Prefix::probe()).unwrap().objects.len();
        (probe, left)
    };
    let failed = |probe: &Probe, code: &str| {
        probe.findings.iter().any(|finding| finding.code == code && finding.level == crate::report::Level::Failed)
    };
    let (probe, _) = probe_with(On::Put, Nth::At(1), Fault::FlipBit(3));
    assert!(probe.get == Answer::Wrong && failed(&probe, "store-get-wrong"));
    let (probe, _) = probe_with(On::Look, Nth::At(1), Fault::Vanish);
    assert!(failed(&probe, "store-length-wrong"));
    let (probe, _) = probe_with(On::List, Nth::At(1), Fault::Vanish);
    assert!(probe.list == Answer::Wrong && failed(&probe, "store-list-wrong"));
    let (probe, left) = probe_with(On::Remove, Nth::From(1), Fault::Denied);
    assert!(probe.delete == Answer::Refused && probe.left_behind.is_some() && left == 1);
    let (probe, left) = probe_with(On::Remove, Nth::From(1), Fault::Vanish);
    assert!(probe.delete == Answer::Wrong && left == 1);
    let (probe, _) = probe_with(On::Put, Nth::At(3), Fault::Denied);
    assert_eq!(probe.overwrite, Answer::Refused);
    let (probe, _) = probe_with(On::Get, Nth::From(1), Fault::Denied);
    assert_eq!((probe.get, probe.overwrite), (Answer::Refused, Answer::Yes));
    let (faults, vault) = faulty();
    faults.on(On::Put, Nth::From(1), Fault::Denied);
    assert_eq!(vault.probe().unwrap_err().trouble(), Trouble::Denied, "a store that takes nothing is no vault");
}

#[test]
fn vault_json_is_read_with_care() {
    let root = tempfile::tempdir().unwrap();
    let vault = folder(root.path());
    let refused = |text: &str| {
        std::fs::write(root.path().join("vault.json"), text).unwrap();
        vault.identify().unwrap_err()
    };
    assert!(matches!(refused("{\"format\":2,\"vault\":7}"), VaultError::Format { format: 2, .. }));
    assert!(matches!(refused("{\"format\":1}"), VaultError::Malformed { .. }));
    assert!(matches!(refused(""), VaultError::Malformed { .. }));
    let json = format!("{{\"format\":1,\"vault\":\"{}\",\"created\":\"yesterday\"}}", id());
    assert!(matches!(refused(&json), VaultError::Malformed { .. }));
    assert!(matches!(refused(&" ".repeat(2 << 20)), VaultError::TooLarge { .. }));
    assert!(vault.create(&id(), Timestamp::UNIX_EPOCH).is_err(), "what cannot be read is not replaced");
}

#[test]
fn a_vault_that_lost_its_vault_json_is_not_made_anew() {
    both(|vault| {
        vault.put(&segment(b"precious"), b"precious").unwrap();
        vault.remove(&ObjectKey::vault_json()).unwrap();
        let error = vault.create(&id(), Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(matches!(error, VaultError::Leftovers { .. }));
        assert!(vault.identify().unwrap().is_none());
    });
}

#[test]
fn a_bucket_that_does_not_answer_is_an_error_with_its_cause() {
    let endpoint = Some("http://127.0.0.1:9".to_owned());
    let url = VaultUrl::S3 { bucket: "b".to_owned(), prefix: String::new(), endpoint, region: None };
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("credentials");
    let text = b"access_key_id = \"GK1\"\nsecret_access_key = \"hush\"\n";
    crate::base::fsio::create_durably(&credentials, text, 0o600).unwrap();
    let patience = Patience { tries: 2, pause: Duration::from_millis(1), ..Patience::default() };
    let vault = Vault::open_url(name(), &url, Some(&credentials)).unwrap().with_patience(patience);
    let error = vault.identify().unwrap_err();
    assert_eq!(error.trouble(), Trouble::Connection, "{error:?}");
    assert!(error.hint().is_some() && !format!("{error:?}").contains("hush"));
}

#[test]
fn hostile_names_of_a_store_are_reported_and_never_used() {
    let operator = opendal::Operator::new(opendal::services::Memory::default()).unwrap();
    let vault = Vault::from_operator(name(), operator.clone()).unwrap();
    vault.put(&segment(b"good"), b"good").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let hostile =
        ["../up", "nodes/../../etc/passwd", "nodes/a\0b", "nodes/\x1b[31mred", "nodes/x/.hidden", "nodes/-rf"];
    for name in hostile {
        runtime.block_on(operator.write(name, "x")).unwrap();
    }
    runtime.block_on(operator.write("nodes/shops-btc-01/segments/zz/strange", "x")).unwrap();
    let listing = vault.list(&Prefix::all()).unwrap();
    assert_eq!(listing.strangers_count, hostile.len() as u64);
    assert!(listing.strangers.iter().all(|name| !name.chars().any(char::is_control)), "{:?}", listing.strangers);
    let places: Vec<Place> = listing.objects.iter().map(|listed| listed.key.place()).collect();
    assert_eq!(places.iter().filter(|place| **place == Place::Unknown).count(), 1);
    assert_eq!(places.len(), 2);
    let expected: [NodeName; 2] = [node(), "x".parse().unwrap()];
    assert_eq!(vault.nodes().unwrap(), expected, "names that no node can have are left out");
}
