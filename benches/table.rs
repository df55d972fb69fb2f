//! Measures one run on one machine and prints a table: our backups beside `pg_dump` alone, `pg_dump` through a
//! compressor and age, and restic where it is installed. Wall time, processor time, peak memory, bytes.
//!
//! `cargo bench --bench table -- 1000` takes a BTCPay-shaped database of about 1,000 MB. Times are whole processes' as
//! the kernel counts them; a busy machine shows in all rows, so read the ratios.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on stops; its answer is text"
)]

use relay_backup::sandbox::cluster::Cluster;
use relay_backup::sandbox::shop::{Shop, Size};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// One measured command.
struct Figure {
    wall: f64,
    cpu: f64,
    peak: u64,
}

/// Runs a shell line and measures it and its children. Pipelines are what it is compared with, so a shell runs them.
fn measure(line: &str) -> Figure {
    let before = children_cpu();
    let begin = Instant::now();
    #[expect(clippy::disallowed_methods, reason = "a benchmark runs what it is compared with")]
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let wall = begin.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line}\n{said}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let peak = serde_json::from_str::<serde_json::Value>(&stdout)
        .ok()
        .and_then(|document| document["report"]["peak_memory_bytes"].as_u64())
        .unwrap_or(0);
    Figure { wall, cpu: children_cpu() - before, peak }
}

/// Processor seconds of all children that ended, the database server not included.
fn children_cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[13].parse::<u64>().unwrap() + fields[14].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .map(|entry| entry.unwrap())
        .map(|entry| if entry.path().is_dir() { bytes_below(&entry.path()) } else { entry.metadata().unwrap().len() })
        .sum()
}

fn has(program: &str) -> bool {
    relay_backup::base::exec::find(program, &[]).is_ok()
}

/// Prints a row; `raw` is what it is compared with.
fn row(name: &str, figure: &Figure, raw: &Figure, bytes: Option<u64>) {
    let ratio = figure.wall / raw.wall;
    let peak = if figure.peak == 0 { "-".to_owned() } else { format!("{:.0} MiB", figure.peak as f64 / 1048576.0) };
    let bytes = bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6));
    println!("| {name:<46} | {:>7.2} | {ratio:>5.2} | {:>7.2} | {peak:>8} | {bytes:>9} |", figure.wall, figure.cpu);
}

/// A policy for one database in one folder vault, and the line that runs a verb under it.
fn set_up(folder: &Path, cluster: &Cluster) -> (PathBuf, impl Fn(&str) -> String) {
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
    let line = move |verb: &str| format!("{program} --json --policy {place}/policy.toml {verb}");
    (folder.join("vault"), line)
}

fn main() {
    let megabytes = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(200);
    let parent = std::env::temp_dir();
    let folder = tempfile::Builder::new().prefix("relay-backup-bench-").tempdir_in(&parent).unwrap();
    let cluster = Cluster::start(&parent).unwrap();
    let mut shop = Shop::create(&cluster, 1, Size::Megabytes(megabytes)).unwrap();
    let (vault, line) = set_up(folder.path(), &cluster);
    measure(&line("init"));

    let dump = format!("pg_dump -Fc -Z0 --dbname='{}'", cluster.url(Shop::BTCPAY));
    // Once for the page cache, which every later row then shares.
    measure(&format!("{dump} >/dev/null"));
    let raw = measure(&format!("{dump} >/dev/null"));
    println!("{megabytes} MB asked for, {} invoices; processor time is without the server's.\n", shop.invoices());
    println!("| what                                           | wall s  | ratio | cpu s   | peak     | bytes     |");
    println!("|---|---|---|---|---|---|");
    row("pg_dump -Fc -Z0 >/dev/null", &raw, &raw, None);

    let first = measure(&line("backup"));
    let stored = bytes_below(&vault);
    row("first backup", &first, &raw, Some(stored));
    let same = measure(&line("backup"));
    row("second backup, nothing changed", &same, &raw, Some(bytes_below(&vault) - stored));
    let before = bytes_below(&vault);
    shop.add_percent(1).unwrap();
    let second = measure(&line("backup"));
    row("backup after 1 % of new rows", &second, &raw, Some(bytes_below(&vault) - before));
    let key = folder.path().join("key").display().to_string();
    let opened = measure(&line(&format!("verify --depth opened --identity {key}")));
    row("verify --depth opened", &opened, &raw, None);
    let extract = format!("extract --artifact btcpay/{}.dump --to - --identity {key} >/dev/null", Shop::BTCPAY);
    let extract = measure(&line(&extract).replace(" --json ", " "));
    row("extract to a pipe", &extract, &raw, None);

    let recipient = fs::read_to_string(folder.path().join("key")).unwrap();
    let recipient = recipient.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned();
    let out = folder.path().join("out");
    for (name, pack) in [("zstd -1", "zstd -1 -q"), ("gzip", "gzip")] {
        if has("age") {
            let line = format!("{dump} | {pack} | age -r {recipient} > {}", out.display());
            let figure = measure(&line);
            row(&format!("pg_dump, {name}, age"), &figure, &raw, Some(fs::metadata(&out).unwrap().len()));
        }
    }
    if has("restic") {
        let repository = folder.path().join("restic");
        let password = folder.path().join("password");
        fs::write(&password, "bench").unwrap();
        let restic = format!("restic -q -r {} -p {}", repository.display(), password.display());
        measure(&format!("{restic} init"));
        let backup = format!("{dump} | {restic} backup --stdin --stdin-filename dump");
        let figure = measure(&backup);
        let stored = bytes_below(&repository);
        row("pg_dump, restic: first", &figure, &raw, Some(stored));
        shop.add_percent(1).unwrap();
        let figure = measure(&backup);
        row("pg_dump, restic: after 1 % of new rows", &figure, &raw, Some(bytes_below(&repository) - stored));
    }
}
