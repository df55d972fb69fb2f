//! Many small files: read into a tar by the source, and unpacked again by what `restore` uses, beside `tar` with one
//! `sync` at its end.

use super::Options;
use super::measure::measure;
use relay_backup::artifact::{ArtifactSpec, Codec};
use relay_backup::base::interrupt::Interrupt;
use relay_backup::report::Finding;
use relay_backup::sources::files::Files;
use relay_backup::sources::{Body, Sink, SourceError};
use relay_backup::target::tree::Unpack;
use relay_backup::target::{Owners, Root};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

/// Files in one folder.
const FOLDER_FILES: u64 = 500;

/// Writes the tar to a file.
struct ToFile(File);

impl Sink for ToFile {
    fn artifact(&mut self, _: ArtifactSpec, body: Body<'_>) -> Result<(), SourceError> {
        let mut out = BufWriter::new(&self.0);
        body(&mut out)?;
        out.flush().map_err(SourceError::Sink)
    }

    fn finding(&mut self, _: Finding) {}
}

/// Measures and prints.
pub(crate) fn table(options: &Options, out: &mut dyn Write) {
    let ground = tempfile::Builder::new().prefix("relay-backup-bench-").tempdir().unwrap();
    let tree = ground.path().join("tree");
    for number in 0..options.files {
        let folder = tree.join(format!("d{}", number / FOLDER_FILES));
        if number % FOLDER_FILES == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        let text = format!("{number} ").repeat(1 + (number % 400) as usize);
        fs::write(folder.join(format!("file-{number}")), text).unwrap();
    }
    rustix::fs::sync();
    writeln!(out, "\n{} small files of at most 3 KB, 500 in a folder; `/` stands for a folder.\n", options.files)
        .unwrap();
    writeln!(out, "| files | wall s | files/s |").unwrap();
    writeln!(out, "|---|---|---|").unwrap();
    let mut row = |name: &str, wall: f64| {
        writeln!(out, "| {name} | {wall:.1} | {:.0} |", options.files as f64 / wall).unwrap();
    };
    let tar = ground.path().join("files.tar");
    let (name, paths, interrupt) = ("s".parse().unwrap(), [tree.display().to_string()], Interrupt::new());
    let files = Files { name: &name, paths: &paths, exclude: &[], codec: Codec::None, interrupt: &interrupt };
    let begin = Instant::now();
    files.read(&mut ToFile(File::create(&tar).unwrap())).unwrap();
    row("read into a tar", begin.elapsed().as_secs_f64());
    rustix::fs::sync();
    let by_tar = ground.path().join("by-tar");
    fs::create_dir(&by_tar).unwrap();
    row("tar -x, one sync", measure(&format!("tar -xpf {tar:?} -C {by_tar:?} && sync -f {by_tar:?}")).wall);
    let by_us = ground.path().join("by-us");
    fs::create_dir(&by_us).unwrap();
    row("placed by restore", unpacked(&tar, &by_us, &interrupt));
    row("placed already", unpacked(&tar, &by_us, &interrupt));
}

fn unpacked(tar: &Path, to: &Path, interrupt: &Interrupt) -> f64 {
    let root = Root::below(to, Owners::WherePossible).unwrap();
    let how = Unpack { below: Path::new("/"), label: "bench", forbidden: &[], interrupt };
    let begin = Instant::now();
    root.unpack(BufReader::new(File::open(tar).unwrap()), &how).unwrap();
    begin.elapsed().as_secs_f64()
}
