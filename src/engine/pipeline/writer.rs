//! Writing one artifact into the pipeline: it is cut on the way, and its segments come back in order.

use super::{Piece, Pipeline, lock};
use crate::artifact::{ArtifactSpec, Codec};
use crate::base::limits::PRECIOUS_BYTES_MAX;
use crate::engine::progress::Event;
use crate::manifest::{Artifact, Segment};
use crate::seal::cut::Cutter;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A segment's place in its artifact. Dropping it settles the place, with a segment or without, so that nobody waits
/// for one that was lost on the way.
pub(super) struct Slot {
    pub(super) artifact: Arc<Pending>,
    index: usize,
    pub(super) segment: Option<Segment>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.artifact.place(self.index, self.segment.take());
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Content that is known is not stored again.
    Shared,
    /// Stored anew in every snapshot.
    Precious,
}

/// An artifact whose segments are being sealed.
pub(super) struct Pending {
    pub(super) codec: Codec,
    segments: Mutex<(Vec<Option<Segment>>, usize)>,
    all_done: Condvar,
}

impl Pending {
    fn expect_one(&self) -> usize {
        let mut state = lock(&self.segments);
        state.0.push(None);
        state.0.len() - 1
    }

    fn place(&self, index: usize, segment: Option<Segment>) {
        let mut state = lock(&self.segments);
        state.0[index] = segment;
        state.1 += 1;
        if state.1 == state.0.len() {
            self.all_done.notify_all();
        }
    }

    /// Waits until all segments are placed; `None` when one could not be.
    fn wait(&self) -> Option<Vec<Segment>> {
        let state = lock(&self.segments);
        let mut state = self
            .all_done
            .wait_while(state, |(segments, placed)| *placed < segments.len())
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.0).into_iter().collect()
    }
}

/// Takes one artifact's bytes. Dropping it before [`ArtifactWriter::finish`] leaves only orphans.
pub struct ArtifactWriter<'p, 's> {
    pipeline: &'p Pipeline<'s>,
    pending: Arc<Pending>,
    cutter: Cutter,
    length: u64,
    spec: ArtifactSpec,
}

impl<'p, 's> ArtifactWriter<'p, 's> {
    pub(super) fn new(pipeline: &'p Pipeline<'s>, cutter: Cutter, spec: ArtifactSpec) -> Self {
        let pending = Pending { codec: spec.codec, segments: Mutex::new((Vec::new(), 0)), all_done: Condvar::new() };
        Self { pipeline, pending: Arc::new(pending), cutter, length: 0, spec }
    }

    /// Ends the artifact and waits until all of it is sealed.
    pub fn finish(mut self) -> io::Result<Artifact> {
        let mut sharing = Sharing::Shared;
        if self.length <= PRECIOUS_BYTES_MAX {
            // One object that nothing else depends on, whatever was marked.
            sharing = Sharing::Precious;
            self.cutter.forget_marks();
        }
        let (pipeline, pending) = (self.pipeline, self.pending);
        self.cutter.finish(|segment| pipeline.send(&pending, segment, sharing))?;
        let segments = pending.wait().ok_or_else(stopped)?;
        if pipeline.is_stopped() {
            return Err(stopped());
        }
        Ok(Artifact {
            name: self.spec.name,
            kind: self.spec.kind,
            codec: self.spec.codec,
            toxic: self.spec.toxicity == crate::artifact::Toxicity::Toxic,
            length: self.length,
            segments,
        })
    }
}

fn stopped() -> io::Error {
    // Not of kind `Interrupted`, which writers of the standard library retry.
    io::Error::other("the run was stopped")
}

impl Pipeline<'_> {
    fn send(&self, pending: &Arc<Pending>, segment: &[u8], sharing: Sharing) -> io::Result<()> {
        if self.is_stopped() {
            return Err(stopped());
        }
        let artifact = Arc::clone(pending);
        let index = artifact.expect_one();
        let slot = Slot { artifact, index, segment: None };
        self.shared.settings.context.tell(Event::Bytes(segment.len() as u64));
        self.pieces.send(Piece { slot, plaintext: segment.to_vec(), sharing }).map_err(|_| stopped())
    }
}

impl Write for ArtifactWriter<'_, '_> {
    fn write(&mut self, portion: &[u8]) -> io::Result<usize> {
        let (pipeline, pending) = (self.pipeline, &self.pending);
        self.cutter.push(portion, |segment| pipeline.send(pending, segment, Sharing::Shared))?;
        self.length += portion.len() as u64;
        Ok(portion.len())
    }

    /// Ends a segment here: see [`Cutter::mark`].
    fn flush(&mut self) -> io::Result<()> {
        self.cutter.mark();
        Ok(())
    }
}
