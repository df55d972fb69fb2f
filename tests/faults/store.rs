//! The way to a real S3 store breaks, or something answers in the store's stead, seen through the command line: what
//! passes is tried again, what stays is told with its remedy, nothing half is committed, and the next run uses what was
//! put. A faulty proxy stands before Garage.

use super::noise;
use crate::support::faulty::On;
use crate::support::garage::GARAGE;
use crate::support::host::{Host, NODE};
use crate::support::proxy::{Fault, Proxy, When, fits};
use std::collections::BTreeMap;

/// A host of files with these vaults in the store, each behind its proxy; and a folder, or not.
pub(super) fn host_of(mut host: Host, folders: &[&str], vaults: &[(&str, &Proxy)], story: &str) -> Host {
    let credentials = host.env.path("credentials");
    GARAGE.credentials(&credentials);
    host.vaults = folders.iter().map(|name| (*name).to_owned()).collect();
    for (name, proxy) in vaults {
        host.more += &format!(
            "[[vault]]\nname = \"{name}\"\nurl = \"{}\"\ncredentials_file = \"{}\"\n",
            GARAGE.url_through(proxy, &format!("{story}-{name}")),
            credentials.display()
        );
    }
    host.write_policy();
    host
}

/// Other content in the large file: about two segments.
pub(super) fn change(host: &Host, seed: u64) {
    host.env.write("medusa/uploads/archive.bin", noise(seed, 1_500_000), 0o600);
}

/// The objects below a vault's prefix whose name fits this text, read past the proxy.
pub(super) fn stored(prefix: &str, part: &str) -> Vec<String> {
    let operator = GARAGE.operator(prefix);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let entries = runtime.block_on(async { operator.list_with("").recursive(true).await.unwrap() });
    let names = entries.into_iter().map(|entry| entry.path().to_owned());
    names.filter(|name| fits(name, part) && !name.ends_with('/')).collect()
}

/// No segment's object was put again after the store had taken it and said so.
#[track_caller]
pub(super) fn assert_put_once(proxy: &Proxy) {
    let mut puts: BTreeMap<String, u32> = BTreeMap::new();
    for seen in proxy.seen().into_iter().filter(|seen| seen.on == On::Put && seen.path.contains("/segments/")) {
        if seen.is_done {
            *puts.entry(seen.path).or_default() += 1;
        }
    }
    assert!(!puts.is_empty());
    let twice: Vec<_> = puts.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "put again: {twice:?}");
}

/// Runs a backup for each fault, which meets the first request of each kind, and demands that nobody notices.
fn passes(story: &str, faults: &[Fault], targets: &[(On, &str)]) {
    let proxy = GARAGE.proxy();
    let host = host_of(Host::of_files(), &[], &[("offsite", &proxy)], story);
    host.init();
    for (fault, seed) in faults.iter().zip(1..) {
        for (on, path) in targets {
            proxy.on(*on, path, When::At(1), fault.clone());
        }
        change(&host, seed);
        let before = proxy.broken();
        host.run(&["backup"]).exits(0).prints("complete");
        assert_eq!(proxy.broken() - before, targets.len() as u64, "{fault:?} did not meet every kind of request");
        proxy.heal();
    }
    assert_eq!(stored(&format!("{story}-offsite"), "/manifest.json$").len(), faults.len());
    host.open(&["verify", "--depth", "opened", "--snapshot", "all"]).exits(0);
}

const PUTS_AND_LOOKS: [(On, &str); 4] =
    [(On::Put, "/segments/"), (On::Put, "/manifest.json$"), (On::Look, "/segments/"), (On::List, "/snapshots/")];

#[test]
fn a_connection_that_breaks_once_is_made_again() {
    passes("resets", &[Fault::ResetBefore, Fault::ResetAfter], &PUTS_AND_LOOKS);
    // Bodies: of an object on its way there, of a listing and of a small file on their way back.
    let targets = [(On::Put, "/segments/"), (On::List, "/snapshots/"), (On::Get, "/vault.json")];
    passes("cuts", &[Fault::CutRequest(1000)], &targets[..1]);
    passes("torn", &[Fault::CutAnswer(60)], &targets[1..]);
}

#[test]
fn a_store_that_fails_once_or_asks_to_slow_down_is_asked_again() {
    passes("errors", &[Fault::code(500, "InternalError"), Fault::slow_down()], &PUTS_AND_LOOKS);
    let page = Fault::Answer(200, "<html><body>Please log in</body></html>".into(), "Content-Type: text/html\r\n");
    passes("pages", &[page], &PUTS_AND_LOOKS[3..]);
}

/// One fault for good each: the vault's name, which requests, the fault, and what the message must say.
fn for_good() -> Vec<(&'static str, On, &'static str, Fault, [&'static str; 2])> {
    let reaches = "check that this host reaches the endpoint";
    let skewed = Fault::code(403, "RequestTimeTooSkewed");
    let moved = Fault::code(301, "PermanentRedirect");
    let sent_on = Fault::code(307, "TemporaryRedirect");
    vec![
        ("unreached", On::Put, "/segments/", Fault::ResetBefore, ["Connection reset", reaches]),
        ("torn", On::Put, "/segments/", Fault::CutRequest(1000), ["the connection", reaches]),
        ("silent", On::Put, "/manifest.json$", Fault::ResetAfter, ["Connection reset", reaches]),
        ("failing", On::Put, "/segments/", Fault::code(500, "InternalError"), ["500 InternalError", "fails by itself"]),
        (
            "denied",
            On::Put,
            "/segments/",
            Fault::code(403, "AccessDenied"),
            ["403 AccessDenied", "check the credentials"],
        ),
        ("skewed", On::Any, "", skewed, ["RequestTimeTooSkewed", "set this host's clock"]),
        ("gone", On::Any, "", Fault::code(404, "NoSuchBucket"), ["404 NoSuchBucket", "make the bucket"]),
        ("moved", On::Any, "", moved, ["301 PermanentRedirect", "mend endpoint and region"]),
        ("sent-on", On::Put, "", sent_on, ["307 TemporaryRedirect", "mend endpoint and region"]),
        ("full", On::Put, "/segments/", Fault::code(507, "InsufficientStorage"), ["507", "free space"]),
    ]
}

#[test]
fn what_stays_broken_leaves_that_vault_behind_with_its_remedy_and_the_next_run_uses_what_was_put() {
    let faults = for_good();
    let proxies: Vec<Proxy> = faults.iter().map(|_| GARAGE.proxy()).collect();
    let vaults: Vec<(&str, &Proxy)> = faults.iter().map(|fault| fault.0).zip(&proxies).collect();
    let host = host_of(Host::of_files(), &["local"], &vaults, "good");
    host.init();
    host.backup();
    change(&host, 2);
    for ((_, on, path, fault, _), proxy) in faults.iter().zip(&proxies) {
        proxy.on(*on, path, When::From(1), fault.clone());
    }
    let mut ended = host.run(&["backup"]).exits(3).prints("complete");
    for (name, .., said) in &faults {
        let block = |text: &str| ended.stderr.split("\n\n").any(|part| part.contains(name) && part.contains(text));
        let is_told = said.iter().all(|text| ended.stderr.contains(text)) || said.iter().all(|text| block(text));
        assert!(is_told, "vault {name}: {said:?}\n{ended}");
        // The answer to a manifest's put got lost: it is committed, and nobody could know.
        let manifests = if *name == "silent" { 2 } else { 1 };
        assert_eq!(stored(&format!("good-{name}"), "/manifest.json$").len(), manifests, "vault {name}");
        ended = ended.keeps_quiet_about("secret_access_key");
    }
    // Whatever is committed opens, also where a vault was left behind.
    proxies.iter().for_each(Proxy::heal);
    host.open(&["verify", "--depth", "opened", "--snapshot", "all"]).exits(3).complains("behind");
    host.run(&["backup"]).exits(0).prints("complete");
    host.open(&["verify", "--depth", "opened", "--snapshot", "all"]).exits(0);
    for (proxy, (name, ..)) in proxies.iter().zip(&faults) {
        assert_put_once(proxy);
        assert!(stored(&format!("good-{name}"), "/manifest.json$").len() >= 2, "vault {name}");
    }
}

#[test]
fn with_no_other_vault_the_run_fails_and_the_next_uses_what_was_put() {
    let proxy = GARAGE.proxy();
    let host = host_of(Host::of_files(), &[], &[("offsite", &proxy)], "alone");
    host.init();
    // All segments get there; what the manifest needs beside them does not.
    proxy.on(On::Put, "/notes.age", When::From(1), Fault::code(403, "AccessDenied"));
    host.run(&["backup"]).exits(1).complains("403 AccessDenied").complains("check the credentials of vault offsite");
    assert_eq!(stored("alone-offsite", "/manifest.json$"), [""; 0]);
    let sealed = stored("alone-offsite", "/segments/");
    assert!(!sealed.is_empty());
    proxy.heal();
    let before = proxy.count(On::Put, "/segments/");
    host.run(&["backup"]).exits(0);
    let shipped = proxy.count(On::Put, "/segments/") - before;
    assert!(shipped <= 1, "only the small artifact is put anew, and {shipped} objects were");
    assert_put_once(&proxy);
    host.open(&["verify", "--depth", "opened", "--snapshot", "all"]).exits(0);
}

#[test]
fn a_store_that_refuses_connections_for_a_moment_is_waited_for() {
    let proxy = GARAGE.proxy();
    let host = host_of(Host::of_files(), &[], &[("offsite", &proxy)], "refused");
    host.init();
    proxy.close();
    let running = host.command(&["backup"]).start();
    // The pauses between four tries are longer than this in all.
    std::thread::sleep(std::time::Duration::from_millis(600));
    proxy.open();
    running.ends().exits(0).prints("complete");
    host.open(&["verify", "--depth", "opened", "--snapshot", "all"]).exits(0);
}

#[test]
fn what_could_not_be_read_is_neither_taken_for_content_nor_called_damaged() {
    let proxy = GARAGE.proxy();
    let host = host_of(Host::of_files(), &[], &[("offsite", &proxy)], "reads");
    host.init();
    host.run(&["backup"]).exits(0);
    let opened = ["verify", "--depth", "opened"];
    proxy.on(On::Get, "/segments/", When::At(1), Fault::CutAnswer(100));
    proxy.on(On::Get, "/notes.age", When::At(1), Fault::CutAnswer(100));
    host.open(&opened).exits(0);
    assert_eq!(proxy.broken(), 2);
    proxy.heal();
    // For good, on one object of the large artifact, which extract needs as well.
    let largest = proxy.seen().into_iter().filter(|seen| seen.on == On::Get && seen.path.contains("/segments/"));
    let object = largest.map(|seen| seen.path).next_back().unwrap();
    proxy.on(On::Get, &object, When::From(1), Fault::CutAnswer(100));
    host.open(&opened)
        .exits(1)
        .complains("could not be read, so nothing is known of")
        .complains("the answer breaks off")
        .complains("check that this host reaches the endpoint of vault offsite")
        .keeps_quiet_about("restore from another vault");
    let to = host.env.path("out.tar");
    let extract = ["extract", "--artifact", "medusa/files.tar", "--to", to.to_str().unwrap()];
    proxy.heal();
    proxy.on(On::Get, &object, When::From(1), Fault::code(403, "AccessDenied"));
    host.open(&extract).exits(1).complains("could not be read, so nothing is known of it");
    assert!(!to.exists(), "nothing half-read is left");
    proxy.heal();
    // It was not taken for damaged: it is still relied upon, and opens.
    let before = proxy.count(On::Put, "/segments/");
    host.run(&["backup"]).exits(0);
    assert!(proxy.count(On::Put, "/segments/") - before <= 1, "nothing is sealed anew");
    host.open(&["verify", "--depth", "opened", "--snapshot", "all"]).exits(0);
    // Fewer bytes with a length that agrees are other content, whoever is to blame.
    proxy.on(On::Get, &object, When::From(1), Fault::Shorten(100));
    host.open(&opened).exits(20).complains("does not have the digest that is its name");
}

#[test]
fn a_manifest_that_could_not_be_read_is_not_called_forged() {
    let proxy = GARAGE.proxy();
    let host = host_of(Host::of_files(), &["local"], &[("offsite", &proxy)], "unread");
    host.init();
    host.run(&["backup"]).exits(0);
    let denied = Fault::code(403, "AccessDenied");
    proxy.on(On::Get, "/manifest.json$", When::From(1), denied);
    // One of two vaults ceases to answer while it is looked at: the other is looked at all the same.
    host.open(&["verify", "--depth", "opened"]).exits(3).complains("offsite").complains("403 AccessDenied");
    host.open(&["verify", "--depth", "opened", "--vault", "offsite"]).exits(1).complains("403 AccessDenied");
    let to = host.env.path("out.tar");
    let extract = ["extract", "--artifact", "medusa/files.tar", "--to", to.to_str().unwrap(), "--vault", "offsite"];
    host.open(&extract).exits(1).complains("403 AccessDenied").keeps_quiet_about("cannot be believed");
    // With the other vault it works.
    host.open(&extract[..5]).exits(0);
    assert!(stored("unread-offsite", NODE).len() > 5);
}
