//! Every command in README.md and docs/*.md is run. The convention:
//!
//! - a block marked ```` ```sh ```` runs, with `sh -eu`, in the home folder; any other block does not;
//! - the blocks of a document are one story: files and variables set at the beginning of a line stay;
//! - a command that ends in `# exit code N` must end with that code, every other with 0;
//! - `/etc`, `/var`, `/mnt` and `/run/postgresql` mean places in the sandbox, see [`super::host`];
//! - a document begins on a fresh host, or, where it says `<!-- host: with snapshots -->`, on one that is set up;
//! - commands that begin like one of [`EXEMPT`] are left out.

use super::host::Host;
use super::{documents, read};
use std::collections::BTreeSet;

/// Commands that are not run here, and why.
const EXEMPT: [(&str, &str); 6] = [
    ("git clone ", "fetches this project"),
    ("cd relay-backup", "belongs to `git clone`"),
    ("./run-demo", "a command of its own; the tests of `demo` run what it runs"),
    ("./run-tests", "runs this test"),
    ("cargo build ", "has been done"),
    ("sudo install ", "puts the program where PATH finds it"),
];
/// Said by a document whose commands need a host with snapshots.
const WITH_SNAPSHOTS: &str = "<!-- host: with snapshots -->";

/// A block of commands.
struct Block {
    line: usize,
    script: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        match &mut open {
            None if line == "```sh" => open = Some(Block { line: index + 2, script: String::new() }),
            None => {}
            Some(_) if line == "```" => found.extend(open.take()),
            Some(block) => {
                let is_exempt = EXEMPT.iter().any(|(start, _)| line.starts_with(start));
                block.script.push_str(if is_exempt { ":" } else { line });
                block.script.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// A block as a script that knows the variables of those before it and leaves its own to those behind it.
fn script(block: &str, names: &mut BTreeSet<String>) -> String {
    let mut out = String::from("[ ! -e \"$HOME/.story\" ] || . \"$HOME/.story\"\n");
    for line in block.lines() {
        if let Some((name, _)) = line.split_once('=')
            && !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            names.insert(name.to_owned());
        }
        match line.rsplit_once("# exit code ").map(|(command, code)| (command.trim(), code.trim())) {
            Some((command, code)) => out.push_str(&format!(
                "code=0; {command} || code=$?\n[ \"$code\" = {code} ] || {{ echo \"ended with $code, not {code}\" >&2; exit 97; }}\n"
            )),
            None => out.push_str(&format!("{line}\n")),
        }
    }
    for name in &*names {
        out.push_str(&format!("[ -z \"${{{name}-}}\" ] || printf \"{name}='%s'\\n\" \"${name}\" >>\"$HOME/.story\"\n"));
    }
    out
}

/// Runs a document's commands; gives the host they ran on. `None` when it has none.
fn run(document: &str) -> Option<Host> {
    let text = read(document);
    let blocks = blocks(&text);
    if blocks.is_empty() {
        return None;
    }
    let host = if text.contains(WITH_SNAPSHOTS) { Host::with_snapshots() } else { Host::fresh() };
    let mut names = BTreeSet::new();
    for block in &blocks {
        let script = script(&host.fill(&block.script), &mut names);
        let ended =
            host.env.program("sh").args(["-eu", "-c", &script]).env("RELAY_BACKUP_POLICY", host.policy()).ends();
        assert!(ended.code == Some(0), "{document}, line {}:\n{}\n{ended}", block.line, block.script);
    }
    Some(host)
}

#[test]
fn the_commands_of_the_readme_run() {
    let host = run("README.md").unwrap();
    let secret = std::fs::read(host.env.home().join("recovered/hsm_secret")).unwrap();
    assert_eq!(secret, std::fs::read(host.env.path("var/lib/clightning/regtest/hsm_secret")).unwrap());
}

#[test]
fn the_commands_of_the_set_up_run() {
    assert!(run("docs/SETUP.md").is_some());
}

#[test]
fn recovery_by_hand_gives_everything_back() {
    let host = run("docs/FORMAT.md").unwrap();
    let recovered = |name: &str| std::fs::read(host.env.home().join("recovered").join(name)).unwrap();
    for name in ["hsm_secret", "emergency.recover"] {
        let live = std::fs::read(host.env.path("var/lib/clightning/regtest").join(name)).unwrap();
        assert_eq!(recovered(&format!("cln/{name}")), live, "{name}");
    }
    let given = host.env.path("given");
    host.env
        .relay_backup(&["extract", "--artifact", "cln/lightningd.sqlite3", "--identity", "owner.key", "--to"])
        .args([host.env.path("given.TOXIC")])
        .env("RELAY_BACKUP_POLICY", host.policy())
        .ends()
        .exits(0);
    assert_eq!(recovered("cln/lightningd.sqlite3.TOXIC"), std::fs::read(host.env.path("given.TOXIC")).unwrap());
    for name in
        ["btcpay/btcpaydb.dump", "btcpay/nbxplorer.dump", "btcpay/globals.sql", "host/files.tar", "cln/extras.tar"]
    {
        let to = given.with_extension(name.replace('/', "-"));
        host.env
            .relay_backup(&["extract", "--artifact", name, "--identity", "owner.key", "--to"])
            .args([&to])
            .env("RELAY_BACKUP_POLICY", host.policy())
            .ends()
            .exits(0);
        assert_eq!(recovered(name), std::fs::read(to).unwrap(), "{name}");
    }
}

#[test]
fn the_commands_of_all_other_documents_run() {
    for document in documents() {
        if !["README.md", "docs/SETUP.md", "docs/FORMAT.md"].contains(&document.as_str()) {
            run(&document);
        }
    }
}

/// What docs/EXIT-CODES.md says under code 20.
#[test]
fn a_damaged_object_is_mended_by_hand() {
    let host = Host::with_snapshots();
    let verb = |arguments: &[&str]| host.env.relay_backup(arguments).env("RELAY_BACKUP_POLICY", host.policy()).ends();
    let object = largest_below(&host.env.path("mnt/backup-disk/relay-backup/nodes/shops-btc-01/segments"));
    let mut bytes = std::fs::read(&object).unwrap();
    let whole = bytes.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&object, &bytes).unwrap();
    let name = object.file_stem().unwrap().to_str().unwrap();
    verb(&["verify", "--depth", "sealed"]).exits(20).complains(name);
    verb(&["backup"]).exits(0);
    verb(&["verify", "--depth", "sealed"]).exits(0);
    verb(&["verify", "--depth", "sealed", "--snapshot", "all"]).exits(20).complains(name);
    std::fs::write(&object, &whole).unwrap();
    verb(&["verify", "--depth", "sealed", "--snapshot", "all"]).exits(0);

    let snapshots = host.env.path("mnt/backup-disk/relay-backup/nodes/shops-btc-01/snapshots");
    let name = &largest_of_newest(&snapshots);
    let segments = host.env.path("mnt/backup-disk/relay-backup/nodes/shops-btc-01/segments");
    std::fs::remove_file(segments.join(&name[..2]).join(format!("{name}.age"))).unwrap();
    verb(&["backup"]).exits(1).complains(name);
    verb(&["backup"]).exits(0);
    verb(&["verify", "--depth", "sealed"]).exits(0);
    verb(&["verify", "--snapshot", "all"]).exits(20).complains(name);
}

/// The largest object that the newest manifest names.
fn largest_of_newest(snapshots: &std::path::Path) -> String {
    let newest = std::fs::read_dir(snapshots).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let manifest = relay_backup::manifest::decode(&std::fs::read(newest.join("manifest.json")).unwrap()).unwrap();
    manifest.segments().max_by_key(|segment| segment.length).unwrap().object.to_string()
}

fn largest_below(folder: &std::path::Path) -> std::path::PathBuf {
    let parts = std::fs::read_dir(folder).unwrap().map(|part| part.unwrap().path());
    let objects = parts.flat_map(|part| std::fs::read_dir(part).unwrap().map(|object| object.unwrap().path()));
    objects.max_by_key(|object| object.metadata().unwrap().len()).unwrap()
}

#[test]
fn a_command_that_fails_is_noticed() {
    let host = Host::fresh();
    let run = |block: &str| {
        let script = script(block, &mut BTreeSet::new());
        host.env.program("sh").args(["-eu", "-c", &script]).ends().code
    };
    assert_eq!(run("true\nfalse\ntrue\n"), Some(1));
    assert_eq!(run("false # exit code 1\n"), Some(0));
    assert_eq!(run("true # exit code 1\n"), Some(97));
    assert_eq!(run("relay-backup frobnicate\n"), Some(2));
}

#[test]
fn variables_stay_and_exempt_commands_do_not_run() {
    let text = "```sh\nname=a\n./run-tests\n```\n```text\nfalse\n```\n```sh\n[ $name = a ]\n```\n";
    let blocks = blocks(text);
    assert_eq!(blocks.iter().map(|block| block.line).collect::<Vec<_>>(), [2, 9]);
    assert_eq!(blocks[0].script, "name=a\n:\n");
    let host = crate::support::env::TestEnv::new();
    let mut names = BTreeSet::new();
    for block in blocks {
        host.program("sh").args(["-eu", "-c", &script(&block.script, &mut names)]).ends().exits(0);
    }
}
