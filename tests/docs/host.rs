//! A host for the documents' commands, made of real parts inside a scratch folder: a PostgreSQL server with shop
//! databases, a Core Lightning node's files, a shop's secrets, an empty backup disk. `/etc`, `/var`, `/mnt` and
//! `/run/postgresql` of a document mean places inside it. Nothing outside is touched.

use crate::support::env::TestEnv;
use relay_backup::sandbox::cluster::Cluster;
use relay_backup::sandbox::shop::{Shop, Size};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Folders of a document that lie in the sandbox.
const FOLDERS: [&str; 3] = ["/etc/", "/var/", "/mnt/"];
/// Where the documents say that PostgreSQL's socket is.
const SOCKET: &str = "/run/postgresql";
/// What stands in a document for a key that is made on the way, and the identity file it comes from.
const RECIPIENTS: [(&str, &str); 2] =
    [("age1OWNERS-PUBLIC-KEY", "owner.key"), ("age1OPERATORS-PUBLIC-KEY", "operator.key")];
/// What stands in a document for the key that `init` prints.
const SIGNING_KEY: &str = "RWSIGNING-KEY";

/// The policy of a host that is set up already, as docs/SETUP.md writes it.
const POLICY: &str = r#"
node = "shops-btc-01"
[keys]
recipients = ["age1OWNERS-PUBLIC-KEY"]
[[vault]]
name = "disk"
url = "fs:///mnt/backup-disk/relay-backup"
[[source]]
name = "cln"
kind = "cln"
lightning_dir = "/var/lib/clightning"
network = "bitcoin"
[[source]]
name = "btcpay"
kind = "postgres"
url = "postgresql:///postgres?host=/run/postgresql"
databases = ["btcpaydb", "nbxplorer"]
[[source]]
name = "host"
kind = "files"
paths = ["/etc/medusa/.env", "/etc/nix-bitcoin-secrets", "/var/lib/nixos"]
"#;

/// The host.
pub(super) struct Host {
    // The order matters: the server ends before its folder goes.
    cluster: Cluster,
    pub(super) env: TestEnv,
}

impl Host {
    /// A host that was never backed up.
    pub(super) fn fresh() -> Self {
        let env = TestEnv::new();
        let cluster = Cluster::start(&env.path("tmp")).unwrap_or_else(|error| panic!("{error}"));
        Shop::create(&cluster, 11, Size::Invoices(40)).unwrap_or_else(|error| panic!("{error}"));
        // The made-up shop has one; BTCPay's own databases have none, and `pg_read_all_data` does not cover them.
        cluster
            .query(Shop::BTCPAY, "SELECT lo_unlink(oid) FROM pg_largeobject_metadata")
            .unwrap_or_else(|error| panic!("{error}"));
        for (name, text, mode) in [
            ("etc/medusa/.env", "JWT_SECRET=made-up-1\nBTCPAY_API_KEY=made-up-2\n", 0o600),
            ("etc/nix-bitcoin-secrets/rtl-password", "made-up-3\n", 0o440),
            ("var/lib/nixos/uid-map", "{\"clightning\":991}\n", 0o644),
        ] {
            env.write(name, text, mode);
        }
        let lightning = env.lightning_dir("04-after-25-payments");
        let place = env.path("var/lib/clightning");
        std::fs::rename(lightning, place).unwrap();
        std::fs::create_dir_all(env.path("mnt/backup-disk")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_relay-backup"), env.path("bin/relay-backup")).unwrap();
        let sudo = format!(
            "while [ $# -gt 0 ]; do case $1 in -u) shift 2 ;; *) break ;; esac; done\nPGHOST='{}' PGUSER=postgres exec \"$@\"",
            cluster.socket().display()
        );
        env.fake("sudo", &sudo);
        Self { cluster, env }
    }

    /// A host that is set up and has two snapshots; the identity lies in `owner.key` in the home folder.
    pub(super) fn with_snapshots() -> Self {
        let host = Self::fresh();
        let role = host.fill("CREATE ROLE root LOGIN IN ROLE pg_read_all_data");
        host.cluster.execute("postgres", &role).unwrap_or_else(|error| panic!("{error}"));
        host.verb(&["keygen", "--out", "owner.key"]);
        host.env.write("etc/relay-backup/policy.toml", host.fill(POLICY), 0o644);
        for arguments in [&["init"][..], &["backup"], &["backup", "--trigger", "timer"]] {
            host.verb(arguments);
        }
        host
    }

    fn verb(&self, arguments: &[&str]) {
        self.env.relay_backup(arguments).env("RELAY_BACKUP_POLICY", self.policy()).ends().exits(0);
    }

    /// Where the sandbox's policy lies.
    pub(super) fn policy(&self) -> PathBuf {
        self.env.path("etc/relay-backup/policy.toml")
    }

    /// A document's text with everything that stands for something of this host put in.
    pub(super) fn fill(&self, text: &str) -> String {
        let mut text = text.replace(SOCKET, &self.cluster.socket().display().to_string());
        let top = self.env.path("");
        let top = top.display().to_string();
        for folder in FOLDERS {
            text = replace_paths(&text, folder, &format!("{}{folder}", top.trim_end_matches('/')));
        }
        for (mark, file) in RECIPIENTS {
            if let Some(recipient) = recipient_of(&self.env.home().join(file)) {
                text = text.replace(mark, &recipient);
            }
        }
        if let Some(key) = self.signing_key() {
            text = text.replace(SIGNING_KEY, &key);
        }
        // Where a policy names no state folder it is one of the machine's own.
        let state =
            format!("node = \"shops-btc-01\"\nstate_dir = \"{}\"", self.env.path("var/lib/relay-backup").display());
        // The node of the fixtures lives on a test network, and the server trusts whoever can reach its socket.
        text.replace("node = \"shops-btc-01\"", &state)
            .replace("network = \"bitcoin\"", "network = \"regtest\"")
            .replace("CREATE ROLE root ", &format!("CREATE ROLE \"{}\" ", user()))
    }

    fn signing_key(&self) -> Option<String> {
        let folder = self.env.path("mnt/backup-disk/relay-backup/nodes/shops-btc-01/signing");
        let file = std::fs::read_dir(folder).ok()?.next()?.ok()?.path();
        std::fs::read_to_string(file).ok()?.lines().last().map(str::to_owned)
    }
}

/// The user that the program would log in as.
fn user() -> String {
    uzers::get_current_username().unwrap().to_string_lossy().into_owned()
}

fn recipient_of(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "an identity is private");
    text.lines().find_map(|line| line.strip_prefix("# public key: ").map(str::to_owned))
}

/// Replaces a folder where it begins a path, not where it stands inside one.
fn replace_paths(text: &str, folder: &str, with: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(folder) {
        let before = rest[..at].chars().next_back();
        out.push_str(&rest[..at]);
        let inside = before.is_some_and(|letter| letter.is_alphanumeric() || "._-}".contains(letter));
        out.push_str(if inside { folder } else { with });
        rest = &rest[at + folder.len()..];
    }
    out + rest
}

#[test]
fn only_the_beginning_of_a_path_is_replaced() {
    assert_eq!(
        replace_paths("cd /etc/a fs:///etc/b $x/etc/c a.etc ./etc/d", "/etc/", "/s/etc/"),
        "cd /s/etc/a fs:///s/etc/b $x/etc/c a.etc ./etc/d"
    );
}
