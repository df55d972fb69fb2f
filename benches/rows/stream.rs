//! A stream of any length through the pipeline into a folder vault, in a process of its own whose memory the kernel
//! measures: the library's own pipeline and catalog, no source program, nothing before it and nothing behind.

use super::{Options, child};
use relay_backup::artifact::{ArtifactKind, ArtifactSpec, Codec, Toxicity};
use relay_backup::base::clock::Clock;
use relay_backup::base::interrupt::Interrupt;
use relay_backup::base::limits::MEMORY_BYTES_DEFAULT;
use relay_backup::base::memory;
use relay_backup::catalog::Catalog;
use relay_backup::engine::Context;
use relay_backup::engine::pipeline::{self, Settings, Target};
use relay_backup::policy::VaultUrl;
use relay_backup::seal::identity;
use relay_backup::seal::names::DedupKey;
use relay_backup::seal::recipients::Recipients;
use relay_backup::vault::Vault;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

/// Bytes that the generator writes at once.
const PART_BYTES: usize = 64 * 1024;
/// Bytes of a row, half of which are random.
const ROW_BYTES: usize = 256;

/// What the process does.
#[derive(Serialize, Deserialize)]
pub(crate) struct Task {
    folder: PathBuf,
    megabytes: u64,
}

/// What it says.
#[derive(Serialize, Deserialize)]
pub(crate) struct Done {
    seconds: f64,
    peak: u64,
    segments: u64,
    shipped: u64,
}

/// Measures and prints.
pub(crate) fn table(options: &Options, out: &mut dyn Write) {
    writeln!(
        out,
        "\nA made stream, rows of {ROW_BYTES} bytes of which half are random and none comes twice, through the pipeline \
         (zstd, limit {} MiB) into a folder vault.\n",
        MEMORY_BYTES_DEFAULT / 1024 / 1024
    )
    .unwrap();
    writeln!(out, "| stream MB | wall s | MB/s | peak MiB | segments | stored MB |").unwrap();
    writeln!(out, "|---|---|---|---|---|---|").unwrap();
    // The short one shows what of the peak is there whatever the length.
    for megabytes in [options.stream / 100, options.stream / 10, options.stream] {
        let folder = tempfile::Builder::new().prefix("relay-backup-bench-").tempdir().unwrap();
        let task = Task { folder: folder.path().to_owned(), megabytes: megabytes.max(1) };
        let done: Done = child::Child::start(&(options.child)("stream"), &task).end();
        let rate = task.megabytes as f64 / done.seconds;
        let (peak, stored) = (done.peak as f64 / 1048576.0, done.shipped as f64 / 1e6);
        writeln!(
            out,
            "| {} | {:.1} | {rate:.0} | {peak:.0} | {} | {stored:.0} |",
            task.megabytes, done.seconds, done.segments
        )
        .unwrap();
    }
}

/// Runs the pipeline in this process.
pub(crate) fn run(task: &Task) -> Done {
    let (context_interrupt, now) = (Interrupt::new(), Clock::System.now());
    let (_, recipient) = identity::generate(now);
    let recipients = Recipients::parse(&[recipient]).unwrap();
    let (epoch, _) = identity::new_epoch(&recipients, now).unwrap();
    let url = VaultUrl::Fs(task.folder.join("vault"));
    let vault = Vault::open_url("local".parse().unwrap(), &url, None).unwrap();
    let id = format!("{:032x}", 1).parse().unwrap();
    vault.create(&id, now).unwrap();
    let (catalog, _) = Catalog::open(&task.folder.join("catalog.db")).unwrap();
    let settings = Settings {
        context: Context { clock: Clock::System, interrupt: &context_interrupt, progress: &|_| {} },
        node: &"bench".parse().unwrap(),
        dedup: &DedupKey::generate().unwrap(),
        epoch: &epoch,
        catalog: &catalog,
        memory: MEMORY_BYTES_DEFAULT,
    };
    let spec = ArtifactSpec {
        name: "made/stream".parse().unwrap(),
        kind: ArtifactKind::Tar,
        codec: Codec::Zstd,
        toxicity: Toxicity::Harmless,
    };
    let targets = [Target::new(&vault, id)];
    let begin = Instant::now();
    let ran = pipeline::run(&settings, &targets, |pipeline| {
        let mut writer = pipeline.begin(&spec);
        generate(task.megabytes * 1_000_000, &mut writer);
        writer.finish().unwrap()
    });
    let artifact = ran.unwrap().result;
    vault.settle().unwrap();
    assert_eq!(artifact.length, task.megabytes * 1_000_000);
    assert!(targets[0].failure().is_none());
    Done {
        seconds: begin.elapsed().as_secs_f64(),
        peak: memory::peak_bytes(),
        segments: artifact.segments.len() as u64,
        shipped: targets[0].shipped().1,
    }
}

/// Writes so many bytes of rows: half text that repeats, half that does not compress.
fn generate(bytes: u64, out: &mut dyn Write) {
    let (mut state, mut left) = (1u64, bytes);
    let mut part = Vec::with_capacity(PART_BYTES + ROW_BYTES);
    while left > 0 {
        part.clear();
        while part.len() < PART_BYTES {
            let row = part.len();
            part.extend_from_slice(
                b"{\"status\": \"settled\", \"currency\": \"SATS\", \"checkout\": {\"default\": \"LN\"}, \"id\": ",
            );
            part.resize(row + ROW_BYTES / 2, b' ');
            while part.len() < row + ROW_BYTES {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                part.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
            }
        }
        let length = usize::try_from(left).map_or(part.len(), |left| left.min(part.len()));
        out.write_all(&part[..length]).unwrap();
        left -= length as u64;
    }
}
