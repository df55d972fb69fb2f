//! Opening an artifact: its segments are fetched, checked, decrypted and decompressed by all cores, and handed on in
//! order, on bounded memory. A segment that one vault gives damaged is taken from another.

use super::error::chain;
use super::given::{NotGiven, nobody_gave};
use super::pipeline::{lock, read_object};
use super::progress::Event;
use super::reading::{Opened, Place};
use super::{Context, Error};
use crate::base::ids::{ArtifactName, NodeName};
use crate::base::secret::Secret;
use crate::manifest::{Artifact, Manifest, Segment};
use crate::seal::segment::open;
use crate::sources::cln;
use crossbeam_channel::bounded;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use zeroize::Zeroizing;

/// Most memory that is set aside for an artifact before its bytes come.
const MEMORY_BYTES_FIRST: usize = 64 * 1024 * 1024;

/// A segment's number and what it opened to, wiped when it is dropped.
type Numbered = (usize, Result<Zeroizing<Vec<u8>>, Error>);

/// What is needed to open segments.
pub struct Opener<'a> {
    /// The flow's context.
    pub context: &'a Context<'a>,
    /// Where from; earlier ones are tried first.
    pub places: &'a [&'a Place],
    /// Whose.
    pub node: &'a NodeName,
    /// The keys.
    pub opened: &'a Opened,
}

impl Opener<'_> {
    /// Opens one segment from the first place that gives it whole.
    pub fn segment(&self, artifact: &Artifact, index: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
        let segment = &artifact.segments[index];
        let mut reasons = Vec::new();
        for place in self.places {
            match self.segment_from(place, artifact, segment) {
                Ok(plaintext) => return Ok(plaintext),
                Err(reason) => reasons.push((place.vault.name().clone(), reason)),
            }
        }
        Err(nobody_gave(name_segment(&artifact.name, index, segment), &reasons))
    }

    /// Opens one segment from one place.
    pub fn segment_from(
        &self,
        place: &Place,
        artifact: &Artifact,
        segment: &Segment,
    ) -> Result<Zeroizing<Vec<u8>>, NotGiven> {
        let sealed = read_object(&place.vault, self.node, &segment.object)?;
        let thing = format!("object {}", segment.object);
        let plaintext = open(artifact.codec, &self.opened.epoch, &sealed, &thing)
            .map_err(|error| NotGiven::damaged(chain(&error)))?;
        if self.opened.dedup.segment_id(artifact.codec, &self.opened.epoch.id, &plaintext) != segment.id {
            return Err(NotGiven::damaged("it opens to other content than its id names"));
        }
        Ok(plaintext)
    }

    /// A small artifact in memory that is wiped.
    pub fn to_memory(&self, artifact: &Artifact) -> Result<Secret, Error> {
        let mut bytes =
            Zeroizing::new(Vec::with_capacity(usize::try_from(artifact.length).unwrap_or(0).min(MEMORY_BYTES_FIRST)));
        let mut take = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok(())
        };
        self.artifact(artifact, &mut take, "memory")?;
        Ok(Secret::from(bytes))
    }

    /// The secret of the same source as an `emergency.recover`, to open that with.
    pub fn sibling_secret(&self, manifest: &Manifest, scb: &ArtifactName) -> Result<Option<cln::HsmSecret>, Error> {
        let source = scb.as_str().split('/').next().unwrap_or_default();
        let name: ArtifactName = format!("{source}/hsm_secret").parse()?;
        let Some(artifact) = manifest.artifact(&name) else { return Ok(None) };
        Ok(cln::parse_secret(self.to_memory(artifact)?).ok())
    }

    /// Streams an artifact through a pipe into something that reads.
    pub fn through_pipe<R: Send>(
        &self,
        artifact: &Artifact,
        read: impl FnOnce(&mut dyn Read) -> Result<R, Error> + Send,
    ) -> Result<R, Error> {
        let broken = |source: std::io::Error| Error::Output { to: "a pipe".into(), source };
        let (reader, writer) = std::io::pipe().map_err(broken)?;
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                let mut reader = reader;
                let result = read(&mut reader);
                // Whoever stopped early must not block the writer.
                std::io::copy(&mut reader, &mut std::io::sink()).map_err(broken)?;
                result
            });
            let mut writer = File::from(std::os::fd::OwnedFd::from(writer));
            let written = self.artifact(artifact, &mut |bytes| writer.write_all(bytes), "a pipe");
            drop(writer);
            let result =
                reading.join().unwrap_or_else(|_| Err(broken(std::io::Error::other("the reader ended early"))));
            written.and(result)
        })
    }

    /// Opens a whole artifact and hands its plaintext to `take`, in order. Its length is checked at the end.
    pub fn artifact(
        &self,
        artifact: &Artifact,
        take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
        to: &str,
    ) -> Result<(), Error> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        let next = AtomicUsize::new(0);
        let window = Window::new(2 * workers);
        let (results, opened) = bounded(workers);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let (results, next, window) = (results.clone(), &next, &window);
                scope.spawn(move || {
                    loop {
                        let index = next.fetch_add(1, Ordering::SeqCst);
                        if index >= artifact.segments.len() || !window.enter(index) {
                            return;
                        }
                        // A receiver that is gone has seen an error already.
                        if results.send((index, self.segment(artifact, index))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(results);
            let outcome = self.hand_on(artifact, &opened, &window, take, to);
            window.close();
            drop(opened);
            outcome
        })
    }

    fn hand_on(
        &self,
        artifact: &Artifact,
        opened: &crossbeam_channel::Receiver<Numbered>,
        window: &Window,
        take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
        to: &str,
    ) -> Result<(), Error> {
        let mut early = BTreeMap::new();
        let (mut expected, mut length) = (0usize, 0u64);
        for (index, result) in opened {
            self.context.check()?;
            early.insert(index, result?);
            while let Some(plaintext) = early.remove(&expected) {
                take(&plaintext).map_err(|source| Error::Output { to: to.to_owned(), source })?;
                self.context.tell(Event::Bytes(plaintext.len() as u64));
                length += plaintext.len() as u64;
                expected += 1;
                window.advance(expected);
            }
        }
        if expected != artifact.segments.len() || length != artifact.length {
            return Err(Error::Damaged {
                thing: artifact.name.to_string(),
                reason: format!("{length} bytes came out of it, and the manifest says {}", artifact.length),
            });
        }
        Ok(())
    }
}

/// Names a segment for a message.
pub fn name_segment(artifact: &ArtifactName, index: usize, segment: &Segment) -> String {
    format!("{artifact}, segment {} (object {})", index + 1, segment.object)
}

/// Keeps fast workers from running further ahead of the slowest than memory allows.
struct Window {
    size: usize,
    state: Mutex<(usize, bool)>,
    moved: Condvar,
}

impl Window {
    fn new(size: usize) -> Self {
        Self { size, state: Mutex::new((0, true)), moved: Condvar::new() }
    }

    /// Waits until `index` is near enough; false when nobody takes results any more.
    fn enter(&self, index: usize) -> bool {
        let state = lock(&self.state);
        let state = self
            .moved
            .wait_while(state, |(done, is_open)| *is_open && index >= *done + self.size)
            .unwrap_or_else(PoisonError::into_inner);
        state.1
    }

    fn advance(&self, done: usize) {
        lock(&self.state).0 = done;
        self.moved.notify_all();
    }

    fn close(&self) {
        lock(&self.state).1 = false;
        self.moved.notify_all();
    }
}
