//! A new epoch changes who can open what comes, never who can open what was.

use crate::support::host::Host;

#[test]
fn after_a_rotation_old_and_new_snapshots_are_readable() {
    let host = Host::of_files();
    host.init();
    let first = host.backup();
    host.run(&["rotate"]).exits(0).prints("stays readable").prints(&host.keeper.recipient);
    let second = host.backup();
    let vault = host.vault();
    assert_ne!(vault.manifest(&first)["epoch"], vault.manifest(&second)["epoch"]);
    let keys = vault.files().into_keys().filter(|name| name.contains("/keys/") && name.ends_with(".age"));
    assert_eq!(keys.count(), 2);
    host.open(&["verify", "--depth", "opened", "--snapshot", "all"]).exits(0);
    for id in [&first, &second] {
        let to = host.env.path(&format!("{id}.tar"));
        let verb = ["extract", "--snapshot", id, "--artifact", "medusa/files.tar", "--to", to.to_str().unwrap()];
        host.open(&verb).exits(0);
    }
}

#[test]
fn nothing_is_shared_between_epochs() {
    let host = Host::of_files();
    host.init();
    let first = host.backup();
    host.run(&["rotate"]).exits(0);
    let second = host.backup();
    let vault = host.vault();
    let before = vault.objects_of(&first, "medusa/files.tar");
    let after = vault.objects_of(&second, "medusa/files.tar");
    assert!(after.iter().all(|object| !before.contains(object)));
}

#[test]
fn a_new_recipient_opens_the_new_epoch_and_not_the_old() {
    let mut host = Host::of_files();
    host.init();
    let first = host.backup();
    let partner = host.env.identity("owner/partner.key");
    host.recipients.push(partner.recipient.clone());
    host.write_policy();
    host.run(&["backup"]).exits(3).complains("recipients-differ").complains("relay-backup rotate");
    host.run(&["verify"]).exits(3).complains("a recipient of the policy cannot open it");
    host.run(&["rotate"]).exits(0).prints(&partner.recipient).prints(&host.keeper.recipient);
    let second = host.backup();
    host.run(&["verify"]).exits(0);
    let show = |id: &str| host.run(&["show", id, "--identity", partner.file.to_str().unwrap()]);
    show(&second).exits(0).prints("policy:");
    show(&first).exits(12);
    host.open(&["show", &first]).exits(0);
    host.open(&["show", &second]).exits(0);
}

#[test]
fn a_removed_recipient_opens_the_old_epoch_and_not_the_new() {
    let mut host = Host::of_files();
    let partner = host.env.identity("owner/partner.key");
    host.recipients.push(partner.recipient.clone());
    host.write_policy();
    host.init();
    let first = host.backup();
    host.recipients.pop();
    host.write_policy();
    host.run(&["rotate"]).exits(0).keeps_quiet_about(&partner.recipient);
    let second = host.backup();
    let show = |id: &str| host.run(&["show", id, "--identity", partner.file.to_str().unwrap()]);
    show(&first).exits(0);
    show(&second).exits(12).complains(&second[..8]);
}

#[test]
fn a_rotation_with_a_bad_recipient_changes_nothing() {
    let mut host = Host::of_files();
    host.init();
    let epoch = host.json(&["init"]).1["report"]["epoch"].clone();
    host.recipients.push("age1nonsense".into());
    host.write_policy();
    let ended = host.run(&["rotate"]).exits(2);
    assert!(ended.stderr.contains("[keys] recipients: is damaged"), "{ended}");
    host.recipients.pop();
    host.write_policy();
    assert_eq!(host.json(&["init"]).1["report"]["epoch"], epoch);
}
