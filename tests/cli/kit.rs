//! `kit`, `completions`, `man`: what is printed, and what a package puts beside the program.

use crate::support::host::{Host, whole};
use std::fs;

#[test]
fn the_kit_holds_what_a_rescuer_needs_and_no_secret() {
    let host = &whole().host;
    let page = host.run(&["kit"]).exits(0).stdout;
    let script = fs::read(host.vault().root.join("recover.sh")).unwrap();
    let digest = relay_backup::base::ids::Sha256Hex::of(&script);
    let recipient = &host.recipients[0];
    let place = host.vault().root.display().to_string();
    for part in [&host.signing_key(), digest.as_str(), recipient, &place, "minisign -V", "recover.sh --signing-key"] {
        assert!(page.contains(part), "{part} is missing");
    }
    for foreign in ["http://", "https://", "src=", "{node}", "{key}", "AGE-SECRET-KEY", "<script"] {
        assert!(!page.contains(foreign), "{foreign} is in the page");
    }
    let fresh = Host::of_files();
    fresh.run(&["kit"]).exits(1).complains("relay-backup init");
    fresh.init();
    let file = fresh.env.path("kit.html");
    fresh.run(&["kit", "--out", file.to_str().unwrap()]).exits(0).prints("Print it");
    fresh.run(&["kit", "--out", file.to_str().unwrap()]).exits(1).complains("kit.html");

    let script = fresh.vault().root.join("recover.sh");
    let whole = fs::read(&script).unwrap();
    crate::support::vault::overwrite(&script, b"rm -rf /\n");
    fresh.run(&["init"]).exits(0).complains("recover.sh was not this version's").complains("kit");
    assert_eq!(fs::read(&script).unwrap(), whole);
}

#[test]
fn every_verb_has_a_manual_page_and_completions() {
    let host = Host::of_files();
    let folder = host.env.path("man1");
    host.run(&["man", "--out", folder.to_str().unwrap()]).exits(0);
    let page = fs::read_to_string(folder.join("relay-backup-extract.1")).unwrap();
    assert!(page.contains("TOXIC") && page.contains("Exit codes"), "{page}");
    host.run(&["man"]).exits(0).prints(".TH");
    for shell in ["bash", "zsh", "fish"] {
        host.run(&["completions", shell]).exits(0).prints("relay-backup").prints("extract");
    }
}
