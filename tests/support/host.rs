//! A protected host: a Lightning node's directory, a shop's files, perhaps databases, a policy over them, the key of
//! the person who keeps the backups, and the program run on it.

use super::env::{Ended, Identity, Run, TestEnv};
use super::shop;
use super::vault::VaultFolder;
use super::{janitor, json};
use relay_backup::sandbox::shop::Shop;
use relay_backup::seal::sign::SigningKey;
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The node's name in the policy.
pub(crate) const NODE: &str = "shops-btc-01";
/// What the shop keeps secret, made up; no message and no log may ever hold it.
pub(crate) const SHOP_SECRET: &str = "made-up-api-key-0003";
/// How the wallet is called as an artifact.
pub(crate) const WALLET: &str = "cln/lightningd.sqlite3";

/// One host.
pub(crate) struct Host {
    /// Where everything lies.
    pub(crate) env: TestEnv,
    /// The key that opens backups.
    pub(crate) keeper: Identity,
    /// The policy's recipients.
    pub(crate) recipients: Vec<String>,
    /// The policy's sources, each as TOML without name.
    pub(crate) sources: Vec<(String, String)>,
    /// The policy's vaults: folders of the test.
    pub(crate) vaults: Vec<String>,
    /// More of the policy.
    pub(crate) more: String,
}

impl Host {
    /// A host with the sources `cln` and `medusa` (files), one vault, and nothing set up yet.
    pub(crate) fn new() -> Self {
        let env = TestEnv::new();
        let keeper = env.identity("owner/recovery.key");
        let lightning = env.lightning_dir("04-after-25-payments");
        let medusa = shop_files(&env);
        let sources = vec![
            named("cln", format!("kind = \"cln\"\nlightning_dir = \"{}\"\nnetwork = \"regtest\"", lightning.display())),
            named("medusa", format!("kind = \"files\"\npaths = [\"{}\"]", medusa.display())),
        ];
        let recipients = vec![keeper.recipient.clone()];
        let host = Self { env, keeper, recipients, sources, vaults: vec!["local".into()], more: String::new() };
        host.write_policy();
        host
    }

    /// The same with the shop's databases.
    pub(crate) fn with_databases() -> Self {
        let mut host = Self::new();
        let databases = format!("\"{}\", \"{}\"", Shop::BTCPAY, Shop::NBXPLORER);
        host.add_postgres(&shop::cluster().url("postgres"), &databases);
        host
    }

    /// Only a source of files.
    pub(crate) fn of_files() -> Self {
        let mut host = Self::new();
        host.sources.remove(0);
        host.write_policy();
        host
    }

    /// Adds the source `btcpay`.
    pub(crate) fn add_postgres(&mut self, url: &str, databases: &str) {
        self.sources.push(named("btcpay", format!("kind = \"postgres\"\nurl = \"{url}\"\ndatabases = [{databases}]")));
        self.write_policy();
    }

    /// The policy's text.
    pub(crate) fn policy_text(&self) -> String {
        let recipients: Vec<String> = self.recipients.iter().map(|recipient| format!("{recipient:?}")).collect();
        let mut text = format!(
            "node = \"{NODE}\"\nstate_dir = \"{}\"\n\n[keys]\nrecipients = [{}]\n\n[objectives]\nrpo = \"26h\"\n",
            self.state().display(),
            recipients.join(", ")
        );
        for name in &self.vaults {
            write!(text, "\n[[vault]]\nname = \"{name}\"\nurl = \"{}\"\n", self.vault_named(name).url()).unwrap();
        }
        for (name, rest) in &self.sources {
            write!(text, "\n[[source]]\nname = \"{name}\"\n{rest}\n").unwrap();
        }
        text + "\n" + &self.more
    }

    /// Writes the policy; to be called again after something of it was changed.
    pub(crate) fn write_policy(&self) -> PathBuf {
        self.env.policy(&self.policy_text())
    }

    /// The first vault.
    pub(crate) fn vault(&self) -> VaultFolder {
        self.vault_named(&self.vaults[0])
    }

    /// A vault of the policy.
    pub(crate) fn vault_named(&self, name: &str) -> VaultFolder {
        VaultFolder { root: self.env.path(&format!("vault-{name}")), node: NODE.into() }
    }

    /// The state folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.env.path("state")
    }

    /// The folder of the node's network.
    pub(crate) fn lightning(&self, file: &str) -> PathBuf {
        self.env.path("lightning/regtest").join(file)
    }

    /// The identity's file, as an argument.
    pub(crate) fn identity(&self) -> &str {
        self.keeper.file.to_str().unwrap()
    }

    /// The public signing key, as `init` prints it.
    pub(crate) fn signing_key(&self) -> String {
        self.signer().public().to_base64()
    }

    /// The key that signs this host's manifests: what a thief of the host has.
    pub(crate) fn signer(&self) -> SigningKey {
        SigningKey::read(&self.state().join("signing.key")).unwrap()
    }

    /// The program under this host's policy.
    pub(crate) fn command(&self, arguments: &[&str]) -> Run {
        self.env.relay_backup(&["--policy", self.env.path("policy.toml").to_str().unwrap()]).args(arguments)
    }

    /// Runs a verb under this host's policy to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).ends()
    }

    /// Runs a verb with `--json`; gives how it ended and its document, checked against the published schema.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let ended = self.run(&[&["--json"], arguments].concat());
        let document = json::document(&ended);
        (ended.code.unwrap(), document)
    }

    /// Runs a verb with the keeper's identity.
    pub(crate) fn open(&self, arguments: &[&str]) -> Ended {
        self.run(&[arguments, &["--identity", self.identity()]].concat())
    }

    /// Gives an artifact of the newest complete snapshot, by way of a file.
    #[track_caller]
    pub(crate) fn extract(&self, artifact: &str) -> Vec<u8> {
        let fresh = TestEnv::new();
        let to = fresh.path("TOXIC");
        self.open(&["extract", "--artifact", artifact, "--to", to.to_str().unwrap()]).exits(0);
        fs::read(to).unwrap()
    }

    /// Sets the host up.
    #[track_caller]
    pub(crate) fn init(&self) {
        self.run(&["init"]).exits(0);
    }

    /// Takes a snapshot that must be whole; gives its id.
    #[track_caller]
    pub(crate) fn backup(&self) -> String {
        self.run(&["backup"]).exits(0).prints("complete").keeps_quiet_about(SHOP_SECRET);
        self.vault().newest()
    }

    /// Replaces a file of the node.
    pub(crate) fn replace(&self, file: &str, bytes: impl AsRef<[u8]>) {
        self.env.write(&format!("lightning/regtest/{file}"), bytes, 0o600);
    }
}

fn named(name: &str, rest: String) -> (String, String) {
    (name.to_owned(), rest)
}

/// A shop's files: secrets, links, times, modes, and one large enough for several segments.
fn shop_files(env: &TestEnv) -> PathBuf {
    env.write("medusa/.env", format!("JWT=made-up-jwt-0001\nBTCPAY_API_KEY={SHOP_SECRET}\n"), 0o600);
    env.write("medusa/uploads/logo.svg", "<svg/>", 0o644);
    env.write("medusa/uploads/empty", "", 0o640);
    env.write("medusa/bin/start", "#!/bin/sh\n", 0o755);
    env.write("medusa/uploads/archive.bin", noise(3 * 1024 * 1024), 0o600);
    symlink("uploads/logo.svg", env.path("medusa/logo")).unwrap();
    symlink("/nowhere/at/all", env.path("medusa/dangling")).unwrap();
    env.program("touch").args(["-d", "2021-03-04T05:06:07Z"]).arg(env.path("medusa/uploads/logo.svg")).ends().exits(0);
    env.path("medusa")
}

/// Bytes that do not compress, the same every time.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let next = std::iter::from_fn(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_le_bytes())
    });
    next.flatten().take(length).collect()
}

/// A host with everything, backed up twice without a change in between. Tests only read it; one that damages a vault
/// takes a copy, one that changes the host makes its own.
pub(crate) struct Whole {
    /// The host.
    pub(crate) host: Host,
    /// The first snapshot.
    pub(crate) first: String,
    /// The second.
    pub(crate) second: String,
    /// Bytes in the vault before the first, after it, and after the second.
    pub(crate) bytes: [u64; 3],
}

static WHOLE: LazyLock<Whole> = LazyLock::new(|| {
    let host = Host::with_databases();
    janitor::wipes(host.env.path("home").parent().unwrap());
    // Large against what every snapshot brings anew: notes, manifest, secrets, the heads of dumps.
    host.env.write("medusa/uploads/more.bin", &noise(8 * 1024 * 1024)[5 * 1024 * 1024..], 0o600);
    host.init();
    let empty = host.vault().bytes();
    let first = host.backup();
    let after_first = host.vault().bytes();
    let second = host.backup();
    let bytes = [empty, after_first, host.vault().bytes()];
    Whole { host, first, second, bytes }
});

/// The host that tests share.
pub(crate) fn whole() -> &'static Whole {
    &WHOLE
}

/// A copy of the shared host's vault, and what a bare machine needs to read it.
pub(crate) struct Bare {
    /// The copy.
    pub(crate) vault: VaultFolder,
    /// Where it lies.
    pub(crate) env: TestEnv,
}

impl Bare {
    /// A fresh copy.
    pub(crate) fn new() -> Self {
        let env = TestEnv::new();
        let vault = whole().host.vault().copy_to(&env, "vault");
        Self { vault, env }
    }

    /// The newest snapshot.
    pub(crate) fn newest(&self) -> &str {
        &whole().second
    }

    /// Runs a verb on the copy with the true signing key and no policy.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        let from = ["--vault", &self.vault.url(), "--signing-key", &whole().host.signing_key()];
        self.env.run(&[arguments, &from].concat())
    }

    /// The same with the keeper's identity.
    pub(crate) fn open(&self, arguments: &[&str]) -> Ended {
        self.run(&[arguments, &["--identity", whole().host.identity()]].concat())
    }

    /// Verifies the newest snapshot at a depth, with the identity where it needs one.
    pub(crate) fn verify(&self, depth: &str) -> Ended {
        let verb = ["verify", "--depth", depth];
        if ["opened", "meaning"].contains(&depth) { self.open(&verb) } else { self.run(&verb) }
    }
}

/// A file's mode.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}
