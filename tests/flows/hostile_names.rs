//! Names from a command line or from a store that would become paths of their own.

use crate::support::env::TestEnv;
use crate::support::host::{Bare, Host, NODE, whole};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

const HOSTILE: [&str; 7] = ["../x", "..", "a/../b", "/etc/passwd", "", ".hidden/x", "a/b\n"];

#[test]
fn artifact_names_that_could_be_paths_are_refused() {
    let host = &whole().host;
    let env = TestEnv::new();
    for name in HOSTILE {
        let to = env.path("out");
        let ended = host.open(&["extract", "--artifact", name, "--to", to.to_str().unwrap()]).exits(2);
        assert!(ended.stderr.contains("--artifact") && !to.exists(), "{name:?}\n{ended}");
    }
}

#[test]
fn snapshot_ids_that_could_be_paths_are_refused() {
    let host = &whole().host;
    for id in HOSTILE.into_iter().chain(["20261120T051200Z-000042/..", "20261120T051200Z"]) {
        host.run(&["show", id]).exits(2).complains("latest");
        host.run(&["verify", "--snapshot", id]).exits(2).complains("--snapshot");
    }
}

#[test]
fn node_names_that_could_be_paths_are_refused() {
    let bare = Bare::new();
    for name in HOSTILE.into_iter().chain([".."]) {
        bare.run(&["list", "--node", name]).exits(2).complains("node name");
    }
}

#[test]
fn triggers_are_plain_words() {
    let host = &whole().host;
    for word in ["../x", "a b", "", "x\n", "final"] {
        host.run(&["backup", "--trigger", word]).exits(2).complains("trigger");
    }
    assert_eq!(host.vault().snapshots().len(), 2);
}

#[test]
fn a_vault_with_strange_files_in_it_is_read_all_the_same() {
    let bare = Bare::new();
    let node = bare.vault.root.join("nodes").join(NODE);
    for folder in ["snapshots", "segments", "keys", "signing"] {
        for name in ["...", ".hidden", "-rf", "new\nline", "sp ace", "latest", "manifest.json", "$(reboot)"] {
            fs::write(node.join(folder).join(name), "x").unwrap();
        }
        let raw = PathBuf::from(std::ffi::OsString::from_vec(vec![0xff, 0xfe, b'x']));
        fs::write(node.join(folder).join(raw), "x").unwrap();
    }
    fs::create_dir(node.join("snapshots/20310101T000000Z-9")).unwrap();
    fs::write(node.join("snapshots/20310101T000000Z-9/manifest.json"), "{}").unwrap();
    fs::create_dir_all(bare.vault.root.join("nodes/.evil/snapshots")).unwrap();
    bare.run(&["list"]).exits(0).prints(&whole().second);
    bare.verify("opened").exits(0);
    let to = bare.env.path("secret");
    bare.open(&["extract", "--artifact", "cln/hsm_secret", "--to", to.to_str().unwrap()]).exits(0);
}

#[test]
fn links_in_a_vault_lead_nowhere() {
    let bare = Bare::new();
    let secret = bare.env.write("outside", "not for a vault to show", 0o600);
    let object = bare.vault.objects_of(bare.newest(), "cln/hsm_secret").remove(0);
    fs::remove_file(bare.vault.object(&object)).unwrap();
    symlink(&secret, bare.vault.object(&object)).unwrap();
    let ended = bare.verify("sealed");
    assert!(ended.code != Some(0) && !ended.stdout.contains("not for a vault"), "{ended}");

    let bare = Bare::new();
    let manifest = bare.vault.snapshot(bare.newest()).join("manifest.json");
    let aside = bare.env.path("manifest.json");
    fs::rename(&manifest, &aside).unwrap();
    symlink(&aside, &manifest).unwrap();
    let ended = bare.verify("present");
    assert!(ended.code != Some(0) || !ended.stdout.contains(bare.newest()), "a link was followed\n{ended}");
}

#[test]
fn a_fifo_in_a_vault_hangs_nobody() {
    let bare = Bare::new();
    let object = bare.vault.objects_of(bare.newest(), "cln/hsm_secret").remove(0);
    fs::remove_file(bare.vault.object(&object)).unwrap();
    bare.env.program("mkfifo").arg(bare.vault.object(&object)).ends().exits(0);
    let ended = bare.verify("sealed");
    assert!(ended.code != Some(0), "{ended}");
}

#[test]
fn hostile_files_on_the_host_are_backed_up_by_name() {
    let host = Host::of_files();
    for name in ["new\nline", "-rf", "sp ace", "quote\"'", "$(reboot)"] {
        host.env.write(&format!("medusa/{name}"), name, 0o600);
    }
    host.init();
    host.backup();
    let tar = host.env.write("files.tar", host.extract("medusa/files.tar"), 0o600);
    fs::create_dir(host.env.path("out")).unwrap();
    host.env.program("tar").arg("-xpf").arg(&tar).arg("-C").arg(host.env.path("out")).ends().exits(0);
    let restored = host.env.path("out").join(host.env.path("medusa").strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(restored.join("new\nline")).unwrap(), "new\nline");
    assert_eq!(fs::read_to_string(restored.join("$(reboot)")).unwrap(), "$(reboot)");
}
