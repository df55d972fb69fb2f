//! The demo's stage: the sandbox folder and what stands in it, and the running of verbs in it.

use crate::base::exec::Exec;
use crate::base::fsio::{self, FileError};
use crate::cli::Demo;
use crate::commands::Edge;
use crate::engine::error::chain;
use crate::exit::Failure;
use crate::sandbox::cluster::Cluster;
use crate::sandbox::node::{Moment, Wallet, wallet_content};
use crate::sandbox::shop::{Shop, Size};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How large the demo's shop is.
const INVOICES: u64 = 4000;
/// The shop's own secrets, made up.
const SHOP_ENV: &str = "DATABASE_URL=postgres:///medusa\nJWT_SECRET=demo-jwt-secret-0001\n\
    COOKIE_SECRET=demo-cookie-secret-0002\nBTCPAY_API_KEY=demo-api-key-0003\nBTCPAY_WEBHOOK_SECRET=demo-webhook-secret-0004\n";

/// Prints a line of the story.
pub(super) fn say(edge: &Edge<'_>, line: &str) {
    if !edge.global.quiet && !edge.global.json {
        // A reader that went away does not stop the story.
        drop(writeln!(std::io::stdout(), "{line}"));
    }
}

/// The sandbox folder: wiped in the end, or kept.
pub(super) enum Sandbox {
    Wiped(tempfile::TempDir),
    Kept(PathBuf),
}

impl Sandbox {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Wiped(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }

    pub(super) fn fate(&self) -> &'static str {
        match self {
            Self::Wiped(_) => "wiped at the end",
            Self::Kept(_) => "kept at the end",
        }
    }
}

/// Makes the sandbox folder.
pub(super) fn folder(edge: &Edge<'_>, args: &Demo) -> Result<Sandbox, Failure> {
    let Some(folder) = &args.keep else {
        let folder = tempfile::Builder::new()
            .prefix("relay-backup-demo-")
            .tempdir_in(&edge.scratch)
            .map_err(FileError::io("create a folder in", &edge.scratch))?;
        return Ok(Sandbox::Wiped(folder));
    };
    if folder.exists() {
        return Err(Failure::usage(format!("{} exists already: --keep makes a new folder", folder.display())));
    }
    fsio::create_folder(folder, 0o700)?;
    let folder = std::fs::canonicalize(folder).map_err(FileError::io("look at", folder))?;
    Ok(Sandbox::Kept(folder))
}

/// Starts the shop's PostgreSQL server.
pub(super) fn cluster(edge: &Edge<'_>) -> Result<Cluster, Failure> {
    Ok(Cluster::start(&edge.scratch).map_err(crate::engine::Error::from)?)
}

/// What stands in the sandbox.
pub(super) struct Stage<'c> {
    edge: &'c Edge<'c>,
    sandbox: Sandbox,
    program: PathBuf,
    cluster: &'c Cluster,
    shop: Shop<'c>,
    wallet: Wallet,
    vault_url: Option<String>,
    sizes: BTreeMap<&'static str, u64>,
    flipped: Option<(PathBuf, Vec<u8>)>,
}

impl<'c> Stage<'c> {
    /// Sets the stage: databases, wallet, files.
    pub(super) fn set(
        edge: &'c Edge<'c>,
        args: &Demo,
        sandbox: Sandbox,
        cluster: &'c Cluster,
    ) -> Result<Self, Failure> {
        let shop = Shop::create(cluster, 7, Size::Invoices(INVOICES)).map_err(crate::engine::Error::from)?;
        let path = sandbox.path();
        for folder in ["owner", "host/medusa", "restored", "quarantine"] {
            fsio::create_folder(&path.join(folder), 0o700)?;
        }
        fsio::create_durably(&path.join("host/medusa/.env"), SHOP_ENV.as_bytes(), 0o600)?;
        let lightning = path.join("host/lightning");
        let mut wallet = Wallet::create(&lightning).map_err(FileError::io("make the wallet in", &lightning))?;
        wallet.live_until(Moment::ChannelsOpen).map_err(FileError::io("play the wallet's life into", &lightning))?;
        let program = edge.program.clone();
        let (vault_url, sizes) = (args.vault.clone(), BTreeMap::new());
        Ok(Self { edge, sandbox, program, cluster, shop, wallet, vault_url, sizes, flipped: None })
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.sandbox.path().join(inside)
    }

    /// Whether something is at this place of the sandbox.
    pub(super) fn exists(&self, inside: &str) -> bool {
        self.path(inside).exists()
    }

    /// Writes the policy, with the recipient of the key that was made.
    pub(super) fn write_policy(&self) -> Result<(), String> {
        let key = self.path("owner/recovery.key");
        let text = std::fs::read_to_string(&key).map_err(|error| chain(&error))?;
        let recipient =
            text.lines().find_map(|line| line.strip_prefix("# public key: ")).ok_or("the key names no recipient")?;
        let path = self.sandbox.path().display();
        let vault = self.vault_url.clone().unwrap_or_else(|| format!("fs://{path}/vault"));
        let databases = format!("[\"{}\", \"{}\"]", Shop::BTCPAY, Shop::NBXPLORER);
        let policy = format!(
            "node = \"demo-btc-01\"\nstate_dir = \"{path}/host/state\"\n\n[keys]\nrecipients = [\"{recipient}\"]\n\n\
             [objectives]\nrpo = \"26h\"\n\n[[vault]]\nname = \"local\"\nurl = \"{vault}\"\n\n\
             [[source]]\nname = \"cln\"\nkind = \"cln\"\nlightning_dir = \"{path}/host/lightning\"\nnetwork = \"regtest\"\n\n\
             [[source]]\nname = \"btcpay\"\nkind = \"postgres\"\nurl = \"{}\"\ndatabases = {databases}\n\n\
             [[source]]\nname = \"medusa\"\nkind = \"files\"\npaths = [\"{path}/host/medusa\"]\n",
            self.cluster.url("postgres")
        );
        fsio::create_durably(&self.path("policy.toml"), policy.as_bytes(), 0o600).map_err(|error| chain(&error))
    }

    /// Runs a verb as a user would and shows it; an error unless it ends with this exit code. Gives what it said.
    pub(super) fn verb(&self, arguments: &[&str], wanted: i32) -> Result<String, String> {
        let demo = self.sandbox.path().display().to_string();
        say(self.edge, &format!("   $ relay-backup --policy DEMO/policy.toml {}", arguments.join(" ")));
        let output = Exec::new(&self.program)
            .arg("--policy")
            .arg(self.path("policy.toml"))
            .arg("--no-progress")
            .args(arguments.iter().map(|argument| argument.replace("DEMO", &demo)))
            .output()
            .map_err(|error| chain(&error))?;
        for line in output.stdout.lines().chain(output.stderr.lines().filter(|line| is_answer(line))) {
            say(self.edge, &format!("     {}", line.replace(&demo, "DEMO")));
        }
        if output.code == Some(wanted) {
            if wanted != 0 {
                say(self.edge, &format!("     (exit code {wanted}, as it should be)"));
            }
            return Ok(output.stdout + &output.stderr);
        }
        let code = output.code.map_or("a signal".into(), |code| format!("exit code {code}"));
        Err(format!("{} ended with {code}, not with {wanted}: {}", arguments.join(" "), output.stderr.trim()))
    }

    /// Lets invoices and payments happen.
    pub(super) fn live(&mut self, moment: Moment) -> Result<(), String> {
        self.shop.add_percent(1).map_err(|error| chain(&error))?;
        self.wallet.live_until(moment).map_err(|error| chain(&error))?;
        let env = format!("{SHOP_ENV}SENDGRID_API_KEY=demo-mail-key-0005\n");
        fsio::write_durably(&self.path("host/medusa/.env"), env.as_bytes(), 0o600).map_err(|error| chain(&error))
    }

    /// How many bytes lie in the vault; none when it is not a folder of the sandbox.
    pub(super) fn vault_bytes(&self) -> Option<u64> {
        self.vault_url.is_none().then(|| files(&self.path("vault")).iter().map(|(_, length)| length).sum())
    }

    /// Remembers a size.
    pub(super) fn remember(&mut self, name: &'static str, bytes: Option<u64>) {
        self.sizes.extend(bytes.map(|bytes| (name, bytes)));
    }

    /// What was remembered, twice, and what lies in the vault now.
    pub(super) fn growth(&self, since: &str) -> Option<(u64, u64, u64)> {
        let before = *self.sizes.get(since)?;
        Some((before, before, self.vault_bytes()?))
    }

    /// Holds what was extracted against what is on the host.
    pub(super) fn compare_restored(&self) -> Result<(), String> {
        let pairs = [
            (self.wallet.secret(), self.path("restored/hsm_secret")),
            (self.wallet.secret().with_file_name("emergency.recover"), self.path("restored/emergency.recover")),
        ];
        for (live, restored) in pairs {
            let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
            if read(&live)? != read(&restored)? {
                return Err(format!("{} differs", restored.display()));
            }
        }
        let tar = std::fs::File::open(self.path("restored/files.tar")).map_err(|error| chain(&error))?;
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().map_err(|error| chain(&error))?;
        for entry in entries {
            let mut entry = entry.map_err(|error| chain(&error))?;
            if entry.path().is_ok_and(|path| path.ends_with("medusa/.env")) {
                let mut text = Vec::new();
                std::io::copy(&mut entry, &mut text).map_err(|error| chain(&error))?;
                let live = std::fs::read(self.path("host/medusa/.env")).map_err(|error| chain(&error))?;
                return if text == live { Ok(()) } else { Err("the shop's .env differs".into()) };
            }
        }
        Err("the shop's .env is not in the tar".into())
    }

    /// Holds the extracted wallet against the live one, row for row.
    pub(super) fn compare_wallet(&self) -> Result<(), String> {
        let content = |path: &Path| wallet_content(path).map_err(|error| chain(&error));
        let live = content(&self.wallet.database())?;
        let restored = content(&self.path("quarantine/lightningd.sqlite3.TOXIC"))?;
        if live == restored { Ok(()) } else { Err("the extracted wallet differs from the live one".into()) }
    }

    /// Flips one bit in the largest object of the newest snapshot; gives the object's name.
    pub(super) fn flip_bit(&mut self) -> Result<Option<String>, String> {
        if self.vault_url.is_some() {
            return Ok(None);
        }
        let node = self.path("vault/nodes/demo-btc-01");
        let snapshots = std::fs::read_dir(node.join("snapshots")).map_err(|error| chain(&error))?;
        let newest = snapshots.flatten().map(|entry| entry.path()).max().ok_or("the vault holds no snapshot")?;
        let manifest = std::fs::read(newest.join("manifest.json")).map_err(|error| chain(&error))?;
        let manifest = crate::manifest::decode(&manifest).map_err(|error| chain(&error))?;
        let largest = manifest.segments().max_by_key(|segment| segment.length).ok_or("the snapshot is empty")?;
        let object = largest.object.as_str();
        let file = node.join("segments").join(&object[..2]).join(format!("{object}.age"));
        let bytes = std::fs::read(&file).map_err(|error| chain(&error))?;
        let mut changed = bytes.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        std::fs::write(&file, changed).map_err(|error| chain(&error))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        say(self.edge, &format!("   one bit flipped in object {name}"));
        self.flipped = Some((file, bytes));
        Ok(Some(name))
    }

    /// Puts the bit back.
    pub(super) fn flip_back(&mut self) -> Result<(), String> {
        let Some((file, bytes)) = self.flipped.take() else { return Ok(()) };
        std::fs::write(file, bytes).map_err(|error| chain(&error))
    }

    /// Ends the story; gives the folder when it was kept.
    pub(super) fn finish(self) -> Result<Option<String>, Failure> {
        match self.sandbox {
            Sandbox::Kept(folder) => Ok(Some(folder.display().to_string())),
            Sandbox::Wiped(folder) => {
                let path = folder.path().to_owned();
                folder.close().map_err(FileError::io("wipe", &path))?;
                Ok(None)
            }
        }
    }
}

/// Whether a line of standard error is part of the answer and not progress.
fn is_answer(line: &str) -> bool {
    ["Error:", "Caused by:", "Hint:", "  Hint:", "Note:", "Not whole:", "Too old:", "Failed:", "DAMAGE:"]
        .iter()
        .any(|start| line.starts_with(start))
}

fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => found.extend(files(&entry.path())),
            Ok(meta) => found.push((entry.path(), meta.len())),
            Err(_) => {}
        }
    }
    found
}
