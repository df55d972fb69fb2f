//! Files that change while they are read, and a reader that is told to stop.

use super::*;
use std::os::unix::fs::FileExt;

/// A sink that changes a file each time bytes of it arrive.
struct Meddler {
    path: PathBuf,
    times: usize,
    shrinks: bool,
    inner: Collected,
}

struct MeddlingWriter<'a> {
    bytes: Vec<u8>,
    path: &'a Path,
    times: &'a mut usize,
    shrinks: bool,
}

impl io::Write for MeddlingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_content = bytes.len() > 100_000;
        if is_content && *self.times > 0 {
            *self.times -= 1;
            let file = fs::File::options().write(true).open(self.path).unwrap();
            if self.shrinks {
                file.set_len(file.metadata().unwrap().len() - 1).unwrap();
            }
            file.write_all_at(b"changed", 0).unwrap();
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Meddler {
    fn artifact(&mut self, spec: ArtifactSpec, body: Body<'_>) -> Result<(), SourceError> {
        let mut writer =
            MeddlingWriter { bytes: Vec::new(), path: &self.path, times: &mut self.times, shrinks: self.shrinks };
        let facts = body(&mut writer)?;
        self.inner.artifacts.insert(spec.name.to_string(), (writer.bytes, facts));
        Ok(())
    }

    fn finding(&mut self, finding: Finding) {
        self.inner.findings.push(finding);
    }
}

#[test]
fn a_large_file_that_changes_is_appended_again_and_the_last_one_counts() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("big");
    let cases = [
        (1, true, 1, vec![]),
        (1, false, 1, vec![]),
        (usize::MAX, true, 3, vec!["file-kept-changing"]),
        (usize::MAX, false, 3, vec!["file-kept-changing"]),
    ];
    for (times, shrinks, repeated, codes) in cases {
        fs::write(&path, vec![1; 6 * 1024 * 1024]).unwrap();
        let mut sink = Meddler { path: path.clone(), times, shrinks, inner: Collected::default() };
        read_into(&mut sink, &[path.display().to_string()], &[]).unwrap();
        assert_eq!(sink.inner.codes(), codes);
        let (bytes, facts) = sink.inner.get("s/files.tar");
        let Facts::Tar(facts) = facts else { panic!("{facts:?}") };
        assert_eq!((facts.repeated, facts.files), (repeated, repeated + 1));
        check(&bytes[..], &facts).unwrap();
        if repeated == 1 {
            let to = home.path().join(format!("out-{shrinks}"));
            extract(&bytes, &to);
            let extracted = fs::read(to.join(path.strip_prefix("/").unwrap())).unwrap();
            assert!(extracted == fs::read(&path).unwrap(), "the last entry is the file as it stayed");
        }
    }
}

#[test]
fn an_interrupt_ends_the_walk_with_an_error() {
    let home = tempfile::tempdir().unwrap();
    let interrupt = Interrupt::new();
    interrupt.set();
    let mut sink = Collected::default();
    let paths = [home.path().display().to_string()];
    let files =
        Files { name: &"s".parse().unwrap(), paths: &paths, exclude: &[], codec: Codec::Gzip, interrupt: &interrupt };
    let error = files.read(&mut sink).unwrap_err();
    assert!(matches!(error, SourceError::Files(FilesError::Interrupted { .. })));
    assert!(sink.artifacts.is_empty());
}
