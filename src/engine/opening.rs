//! Opening an artifact: its segments are fetched, checked, decrypted and decompressed by all cores, and handed on in
//! order, on bounded memory. A segment that one vault gives damaged is taken from another.

use super::error::chain;
use super::given::{NotGiven, nobody_gave};
use super::pipeline::{lock, read_object};
use super::progress::Event;
use super::reading::{Opened, Place};
use super::{Context, Error};
use crate::base::ids::{ArtifactName, NodeName};
use crate::manifest::{Artifact, Segment};
use crate::seal::segment::open;
use crossbeam_channel::bounded;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

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
    pub fn segment(&self, artifact: &Artifact, index: usize) -> Result<Vec<u8>, Error> {
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
    pub fn segment_from(&self, place: &Place, artifact: &Artifact, segment: &Segment) -> Result<Vec<u8>, NotGiven> {
        let sealed = read_object(&place.vault, self.node, &segment.object)?;
        let thing = format!("object {}", segment.object);
        let plaintext = open(artifact.codec, &self.opened.epoch, &sealed, &thing)
            .map_err(|error| NotGiven::damaged(chain(&error)))?;
        if self.opened.dedup.segment_id(artifact.codec, &self.opened.epoch.id, &plaintext) != segment.id {
            return Err(NotGiven::damaged("it opens to other content than its id names"));
        }
        Ok(plaintext)
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
        opened: &crossbeam_channel::Receiver<(usize, Result<Vec<u8>, Error>)>,
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
