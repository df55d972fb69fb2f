//! Backups of a shop's database beside `pg_dump` alone, through compressors and age, and beside restic, which is given
//! the very same changes.

use super::Options;
use super::measure::{Figure, bytes_below, has, measure};
use relay_backup::sandbox::cluster::Cluster;
use relay_backup::sandbox::shop::{Shop, Size};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The table while it is measured.
struct Table<'a> {
    out: &'a mut dyn Write,
    folder: PathBuf,
    /// The line that dumps the database to its standard output.
    dump: String,
    /// Whom everything is encrypted to.
    recipient: String,
    /// `pg_dump` alone, on the database as it is now.
    raw: Figure,
    /// Bytes of that dump.
    dump_bytes: u64,
}

/// Measures and prints.
pub(crate) fn table(options: &Options, out: &mut dyn Write) {
    let folder = tempfile::Builder::new().prefix("relay-backup-bench-").tempdir().unwrap();
    let cluster = Cluster::start(&std::env::temp_dir()).unwrap();
    let mut shop = Shop::create(&cluster, 1, Size::Megabytes(options.shop)).unwrap();
    let dump = format!("pg_dump -Fc -Z0 --dbname='{}'", cluster.url(Shop::BTCPAY));
    // Once for the page cache, which every later row then shares.
    measure(&format!("{dump} >/dev/null"));
    let recipient = set_up(folder.path(), &cluster);
    writeln!(
        out,
        "{} MB asked for, {} invoices. Processor time is without the server's; peak is the largest process of the line; \
         MB/s are of plaintext; bytes are those added to where it is stored.\n",
        options.shop,
        shop.invoices()
    )
    .unwrap();
    writeln!(
        out,
        "| what                                                     | wall s  | ratio | cpu s   | peak     | bytes      | MB/s  |"
    )
    .unwrap();
    writeln!(out, "|---|---|---|---|---|---|---|").unwrap();
    let raw = Figure { wall: 1.0, cpu: 0.0, peak: 0, stdout: String::new() };
    let mut table = Table { out, folder: folder.path().to_owned(), dump, recipient, raw, dump_bytes: 0 };
    table.dump_alone("pg_dump -Fc -Z0 >/dev/null");
    table.through_compressors();
    table.ours("first backup", "backup");
    table.restic("first");
    table.ours("backup, nothing changed", "backup");
    shop.add_percent(1).unwrap();
    table.after("1 % of new rows");
    shop.update_scattered(10).unwrap();
    table.after("1 % of the invoices changed, scattered");
    table.reading();
    table.coming_back(&cluster);
}

/// A policy for the one database in one folder vault, set up; returns the recipient.
fn set_up(folder: &Path, cluster: &Cluster) -> String {
    let program = env!("CARGO_BIN_EXE_relay-backup");
    let place = folder.display().to_string();
    measure(&format!("{program} keygen --out {place}/key"));
    let text = fs::read_to_string(folder.join("key")).unwrap();
    let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    let policy = format!(
        "node = \"bench\"\nstate_dir = \"{place}/state\"\n[keys]\nrecipients = [\"{recipient}\"]\n\
         [[vault]]\nname = \"local\"\nurl = \"fs://{place}/vault\"\n\
         [[source]]\nname = \"btcpay\"\nkind = \"postgres\"\nurl = \"{}\"\ndatabases = [\"{}\"]\n",
        cluster.url("postgres"),
        Shop::BTCPAY
    );
    relay_backup::base::fsio::create_durably(&folder.join("policy.toml"), policy.as_bytes(), 0o600).unwrap();
    measure(&format!("{program} --policy {place}/policy.toml init"));
    recipient.to_owned()
}

impl Table<'_> {
    fn row(&mut self, name: &str, figure: &Figure, bytes: Option<u64>) {
        let Figure { wall, cpu, peak, .. } = figure;
        let ratio = wall / self.raw.wall;
        let rate = self.dump_bytes as f64 / 1e6 / wall;
        let peak = if *peak == 0 { "-".to_owned() } else { format!("{:.0} MiB", *peak as f64 / 1048576.0) };
        let bytes = bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{:.2} MB", bytes as f64 / 1e6));
        writeln!(
            self.out,
            "| {name:<56} | {wall:>7.2} | {ratio:>5.2} | {cpu:>7.2} | {peak:>8} | {bytes:>10} | {rate:>5.0} |"
        )
        .unwrap();
    }

    /// What everything that follows is compared with.
    fn dump_alone(&mut self, name: &str) {
        let length = measure(&format!("{} | wc -c", self.dump)).stdout;
        self.dump_bytes = length.trim().parse().unwrap();
        self.raw = measure(&format!("{} >/dev/null", self.dump));
        let raw = Figure { stdout: String::new(), ..self.raw };
        self.row(name, &raw, None);
    }

    fn through_compressors(&mut self) {
        for pack in ["zstd -1", "gzip -1", "gzip"] {
            if has("age") && has(pack.split(' ').next().unwrap()) {
                let out = self.folder.join("out");
                let line = format!("{} | {pack} -q | age -r {} > {}", self.dump, self.recipient, out.display());
                let figure = measure(&line);
                let length = fs::metadata(&out).unwrap().len();
                fs::remove_file(&out).unwrap();
                self.row(&format!("pg_dump, {pack}, age"), &figure, Some(length));
            }
        }
    }

    /// Runs a verb of ours; what it added to the vault.
    fn ours(&mut self, name: &str, verb: &str) {
        let vault = self.folder.join("vault");
        let before = bytes_below(&vault);
        let figure = measure(&self.verb(verb));
        self.row(name, &figure, Some(bytes_below(&vault) - before));
    }

    fn verb(&self, verb: &str) -> String {
        let program = env!("CARGO_BIN_EXE_relay-backup");
        format!("{program} --policy {}/policy.toml {verb}", self.folder.display())
    }

    /// One backup by restic, of the same dump; what it added to its repository.
    fn restic(&mut self, name: &str) {
        if !has("restic") {
            return;
        }
        let repository = self.folder.join("restic");
        let restic = self.restic_line();
        if !repository.exists() {
            fs::write(self.folder.join("password"), "bench").unwrap();
            measure(&format!("{restic} init"));
        }
        let before = bytes_below(&repository);
        let figure = measure(&format!("{} | {restic} backup --stdin --stdin-filename dump", self.dump));
        self.row(&format!("pg_dump, restic: {name}"), &figure, Some(bytes_below(&repository) - before));
    }

    fn restic_line(&self) -> String {
        let folder = self.folder.display();
        format!("restic -q --no-cache -r {folder}/restic -p {folder}/password")
    }

    /// A change has been made: both back it up, and are compared with a dump of what is there now.
    fn after(&mut self, change: &str) {
        self.dump_alone(&format!("pg_dump alone: {change}"));
        self.ours(&format!("backup: {change}"), "backup");
        self.restic(change);
    }

    fn reading(&mut self) {
        let key = self.folder.join("key").display().to_string();
        let opened = measure(&self.verb(&format!("verify --depth opened --identity {key}")));
        self.row("verify --depth opened", &opened, None);
        let extract = format!("extract --artifact btcpay/{}.dump --to - --identity {key}", Shop::BTCPAY);
        let extract = measure(&format!("{} | cat >/dev/null", self.verb(&extract)));
        self.row("extract to a pipe", &extract, None);
        if has("restic") {
            let figure = measure(&format!("{} dump latest dump | cat >/dev/null", self.restic_line()));
            self.row("restic dump to a pipe", &figure, None);
        }
    }

    /// The way back into a server of its own, by PostgreSQL's program alone and by ours, which opens the snapshot
    /// whole, fills a fresh database, gives owners and rights back, proves every row and swaps. The ratio is to the
    /// first.
    fn coming_back(&mut self, from: &Cluster) {
        let target = || Cluster::start(&std::env::temp_dir()).unwrap();
        let folder = self.folder.clone();
        let (key, dump) = (folder.join("key").display().to_string(), folder.join("dump").display().to_string());
        let extract = format!("extract --artifact btcpay/{}.dump --to {dump} --identity {key}", Shop::BTCPAY);
        measure(&self.verb(&extract));
        let plain = target();
        plain.create_plain_database("shop").unwrap();
        let url = plain.url("shop");
        let restored = measure(&format!("pg_restore --no-owner --single-transaction --dbname='{url}' {dump}"));
        drop(plain);
        self.raw = Figure { stdout: String::new(), ..restored };
        self.row("pg_restore --single-transaction", &restored, None);
        let ours = target();
        let policy = fs::read_to_string(folder.join("policy.toml")).unwrap();
        let policy = policy.replace(&from.url("postgres"), &ours.url("postgres"));
        let moved = folder.join("moved.toml");
        relay_backup::base::fsio::create_durably(&moved, policy.as_bytes(), 0o600).unwrap();
        let root = folder.join("root");
        fs::create_dir(&root).unwrap();
        let line = format!(
            "{} --policy {} restore --scenario postgres-corruption --root {} --identity {key} --yes --accept twin=bench \
             --accept freshness=bench --accept payout=bench >{}/said",
            env!("CARGO_BIN_EXE_relay-backup"),
            moved.display(),
            root.display(),
            folder.display()
        );
        let restored = measure(&line);
        self.row("restore, proved and in service", &restored, None);
    }
}
