//! The pipeline: what a source writes is cut, named, compressed, encrypted and put to every vault, on bounded memory.
//!
//! One thread reads and cuts, as many as the machine and the memory budget allow seal, and each vault has threads of
//! its own that put. A segment is sealed once, whatever the number of vaults. A vault whose queue is full while
//! another takes the segment gets it later, read back from that other one (the vault's backlog); so a slow uplink
//! neither pins memory nor holds a database's snapshot open. Nothing here makes a snapshot exist: that is
//! [`super::commit`]'s work.

mod target;
mod writer;

pub use target::Target;
pub(super) use target::read_object;
pub use writer::ArtifactWriter;

use super::Context;
use crate::artifact::ArtifactSpec;
use crate::base::ids::{NodeName, SegmentId, Sha256Hex, VaultId};
use crate::base::limits::{SEGMENT_BYTES_MAX, VAULT_PUTTERS};
use crate::catalog::{Catalog, CatalogError};
use crate::manifest::Segment;
use crate::seal::SealError;
use crate::seal::codec::Compressor;
use crate::seal::cut::{Cutter, Knife};
use crate::seal::identity::EpochRecipient;
use crate::seal::names::DedupKey;
use crate::seal::segment::seal;
use crate::vault::layout::ObjectKey;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use writer::{Sharing, Slot};

/// Sealed segments that wait for one vault.
const QUEUE_PER_VAULT: usize = 2;

/// Why the pipeline as a whole stopped.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Sealing failed.
    #[error("cannot seal a segment")]
    Seal(#[from] SealError),
    /// Every vault failed.
    #[error("no vault is left that takes what is put")]
    NoVaultLeft,
}

/// What the pipeline works with.
pub struct Settings<'a> {
    /// The flow's context.
    pub context: Context<'a>,
    /// The node whose segments these are.
    pub node: &'a NodeName,
    /// What ids and cutting are derived from.
    pub dedup: &'a DedupKey,
    /// Whom segments are sealed to.
    pub epoch: &'a EpochRecipient,
    /// What is where.
    pub catalog: &'a Catalog,
    /// Bytes of memory the pipeline may use.
    pub memory: u64,
}

/// Locks; a thread that panicked while it held the lock has already ended the run.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A segment on its way to be sealed.
struct Piece {
    slot: Slot,
    plaintext: Vec<u8>,
    sharing: Sharing,
}

/// A sealed segment on its way to vaults.
struct Upload {
    id: SegmentId,
    object: Sha256Hex,
    bytes: Vec<u8>,
    /// Queues it still stands in.
    waiting: AtomicUsize,
    /// Whether some vault has it.
    is_kept: AtomicBool,
}

struct Shared<'s> {
    settings: &'s Settings<'s>,
    targets: &'s [Target<'s>],
    queues: Vec<Sender<Arc<Upload>>>,
    in_flight: Mutex<HashMap<SegmentId, (Sha256Hex, u64)>>,
    /// Contents that are being looked up or sealed: the same one twice at a time would be sealed twice.
    claimed: Mutex<HashSet<SegmentId>>,
    unclaimed: Condvar,
    failure: OnceLock<PipelineError>,
    catalog_failure: OnceLock<CatalogError>,
    stopped: AtomicBool,
}

/// The pipeline while it runs: the place that artifacts are written to.
pub struct Pipeline<'s> {
    shared: &'s Shared<'s>,
    pieces: Sender<Piece>,
    knife: Knife,
}

/// What came of a run of the pipeline.
#[derive(Debug)]
pub struct Ran<R> {
    /// What the body gave.
    pub result: R,
    /// Why the catalog could not be used, if it could not: content that it knows was then sealed again.
    pub catalog_failure: Option<CatalogError>,
}

/// Runs `body` with a pipeline, then waits until everything written is sealed and every vault's queue is empty.
/// Vaults that failed on the way say so in their [`Target`]. A catalog that fails costs space, not the backup.
pub fn run<R>(
    settings: &Settings<'_>,
    targets: &[Target<'_>],
    body: impl FnOnce(&Pipeline<'_>) -> R,
) -> Result<Ran<R>, PipelineError> {
    let workers = workers(settings.memory);
    let (pieces, pieces_out) = bounded::<Piece>(workers);
    let (queues, queues_out): (Vec<_>, Vec<_>) = targets.iter().map(|_| bounded(QUEUE_PER_VAULT)).unzip();
    let shared = Shared {
        settings,
        targets,
        queues,
        in_flight: Mutex::new(HashMap::new()),
        claimed: Mutex::new(HashSet::new()),
        unclaimed: Condvar::new(),
        failure: OnceLock::new(),
        catalog_failure: OnceLock::new(),
        stopped: AtomicBool::new(false),
    };
    let result = std::thread::scope(|scope| {
        for (target, queue) in targets.iter().zip(queues_out) {
            for _ in 0..VAULT_PUTTERS {
                let (shared, queue) = (&shared, queue.clone());
                scope.spawn(move || shared.put_from(target, &queue));
            }
        }
        let sealers: Vec<_> = (0..workers)
            .map(|_| {
                let (shared, pieces) = (&shared, pieces_out.clone());
                scope.spawn(move || shared.seal_from(&pieces))
            })
            .collect();
        drop(pieces_out);
        let mut ending = Ending { shared: &shared, is_orderly: false };
        let pipeline = Pipeline { shared: &shared, pieces, knife: Knife::new(settings.dedup.gear_table()) };
        let result = body(&pipeline);
        drop(pipeline);
        for sealer in sealers {
            if sealer.join().is_err() {
                shared.stop();
            }
        }
        ending.is_orderly = true;
        drop(ending);
        result
    });
    match shared.failure.into_inner() {
        Some(error) => Err(error),
        None => Ok(Ran { result, catalog_failure: shared.catalog_failure.into_inner() }),
    }
}

/// Tells the putting threads to end, also when a source panics: they would wait for ever, and the program with them.
struct Ending<'a, 's> {
    shared: &'a Shared<'s>,
    is_orderly: bool,
}

impl Drop for Ending<'_, '_> {
    fn drop(&mut self) {
        if !self.is_orderly {
            self.shared.stop();
        }
        self.shared.close();
    }
}

/// The right to work on a content alone; given back when dropped.
struct Claim<'a> {
    claimed: &'a Mutex<HashSet<SegmentId>>,
    unclaimed: &'a Condvar,
    id: SegmentId,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(self.claimed).remove(&self.id);
        self.unclaimed.notify_all();
    }
}

fn workers(memory: u64) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let by_memory = usize::try_from(memory / (3 * SEGMENT_BYTES_MAX as u64)).unwrap_or(usize::MAX);
    cores.min(by_memory).max(1)
}

impl Shared<'_> {
    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn fail(&self, error: PipelineError) {
        // Only the first failure is kept; later ones follow from it.
        drop(self.failure.set(error));
        self.stop();
    }

    /// What the catalog says; its first failure is kept, and nothing is known from then on.
    fn noted<T>(&self, result: Result<T, CatalogError>) -> Option<T> {
        result.map_err(|error| drop(self.catalog_failure.set(error))).ok()
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) || self.settings.context.interrupt.is_set()
    }

    /// Tells the putting threads that nothing more comes.
    fn close(&self) {
        for _ in 0..VAULT_PUTTERS {
            for queue in &self.queues {
                let end = Upload::end();
                // A queue nobody reads any more needs no end.
                drop(queue.send(Arc::new(end)));
            }
        }
    }

    fn seal_from(&self, pieces: &Receiver<Piece>) {
        let mut compressor = match Compressor::new() {
            Ok(compressor) => Some(compressor),
            Err(error) => {
                self.fail(SealError::Memory(error).into());
                None
            }
        };
        for mut piece in pieces {
            let Some(compressor) = compressor.as_mut().filter(|_| !self.is_stopped()) else { continue };
            match self.process(compressor, &piece) {
                Ok(segment) => piece.slot.segment = segment,
                Err(error) => self.fail(error),
            }
        }
    }

    /// Names a piece, and seals and delivers it unless every vault has it. `None` when the run was stopped.
    fn process(&self, compressor: &mut Compressor, piece: &Piece) -> Result<Option<Segment>, PipelineError> {
        let Settings { dedup, epoch, catalog, .. } = self.settings;
        let codec = piece.slot.artifact.codec;
        let id = dedup.segment_id(codec, &epoch.id, &piece.plaintext);
        let _claim = (piece.sharing == Sharing::Shared).then(|| self.claim(&id));
        if piece.sharing == Sharing::Shared {
            if let Some((object, length)) = lock(&self.in_flight).get(&id) {
                return Ok(Some(Segment { id, object: object.clone(), length: *length }));
            }
            if let Some(known) = self.noted(catalog.known(&id)).flatten() {
                let lacking = self.active(|target| !known.vaults.contains(&target.id));
                if lacking.is_empty() || self.copy_known(&id, &known.object, &known.vaults, &lacking)? {
                    return Ok(Some(Segment { id, object: known.object, length: known.length }));
                }
            }
        }
        let sealed = seal(compressor, codec, epoch, &piece.plaintext)?;
        let segment = Segment { id: id.clone(), object: sealed.object.clone(), length: sealed.bytes.len() as u64 };
        self.noted(catalog.record_sealed(&segment.id, &segment.object, segment.length));
        if piece.sharing == Sharing::Shared {
            lock(&self.in_flight).insert(id.clone(), (segment.object.clone(), segment.length));
        }
        let upload = Upload {
            id,
            object: sealed.object,
            bytes: sealed.bytes,
            waiting: AtomicUsize::new(0),
            is_kept: AtomicBool::new(false),
        };
        let delivered = self.deliver(upload, self.active(|_| true))?;
        Ok(delivered.then_some(segment))
    }

    /// Waits until nobody else works on this content, and keeps others from it.
    fn claim(&self, id: &SegmentId) -> Claim<'_> {
        let claimed = lock(&self.claimed);
        let mut claimed =
            self.unclaimed.wait_while(claimed, |claimed| claimed.contains(id)).unwrap_or_else(PoisonError::into_inner);
        claimed.insert(id.clone());
        Claim { claimed: &self.claimed, unclaimed: &self.unclaimed, id: id.clone() }
    }

    fn active(&self, wanted: impl Fn(&Target<'_>) -> bool) -> Vec<usize> {
        let is_active = |target: &Target<'_>| target.failure().is_none();
        (0..self.targets.len())
            .filter(|&index| is_active(&self.targets[index]) && wanted(&self.targets[index]))
            .collect()
    }

    /// Gives the vaults that lack a known object its bytes from one that has it; false when none could be read.
    fn copy_known(
        &self,
        id: &SegmentId,
        object: &Sha256Hex,
        holders: &[VaultId],
        lacking: &[usize],
    ) -> Result<bool, PipelineError> {
        let holders = self.active(|target| holders.contains(&target.id));
        let Some(bytes) = holders.iter().find_map(|&index| self.read_sealed(&self.targets[index], object)) else {
            return Ok(false);
        };
        let upload = Arc::new(Upload {
            id: id.clone(),
            object: object.clone(),
            bytes,
            waiting: AtomicUsize::new(1),
            is_kept: AtomicBool::new(true),
        });
        // It is safe where it is: nobody waits for a vault that has no room for it now.
        let mut lacking = lacking.to_vec();
        self.offer(&upload, &mut lacking);
        self.postpone(&upload, &lacking);
        self.release(&upload);
        Ok(true)
    }

    fn read_sealed(&self, holder: &Target<'_>, object: &Sha256Hex) -> Option<Vec<u8>> {
        read_object(holder.vault, self.settings.node, object).inspect_err(|reason| {
            tracing::warn!(vault = %holder.vault.name(), %object, %reason, "an object that should be there cannot be read");
        }).ok()
    }

    /// Hands an object to the queues of these vaults; to the backlog of those that are slow, as long as another takes
    /// it. False when the run was stopped.
    fn deliver(&self, upload: Upload, mut wanted: Vec<usize>) -> Result<bool, PipelineError> {
        let upload = Arc::new(upload);
        let mut accepted = false;
        // One hold of our own, so that nobody calls it done while it is still being handed out.
        upload.waiting.fetch_add(1, Ordering::SeqCst);
        while !accepted && !self.is_stopped() {
            accepted = self.offer(&upload, &mut wanted);
            if accepted {
                break;
            }
            // Of those that were wanted none is left only when none is left at all.
            if self.active(|_| true).is_empty() {
                return Err(PipelineError::NoVaultLeft);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.postpone(&upload, &wanted);
        self.release(&upload);
        Ok(accepted)
    }

    /// Offers an object to vaults without waiting; keeps in `wanted` those that had no room. Whether one took it.
    fn offer(&self, upload: &Arc<Upload>, wanted: &mut Vec<usize>) -> bool {
        let mut accepted = false;
        wanted.retain(|&index| self.targets[index].failure().is_none());
        wanted.retain(|&index| {
            upload.waiting.fetch_add(1, Ordering::SeqCst);
            match self.queues[index].try_send(Arc::clone(upload)) {
                Ok(()) => {
                    accepted = true;
                    false
                }
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    upload.waiting.fetch_sub(1, Ordering::SeqCst);
                    true
                }
            }
        });
        accepted
    }

    /// Leaves an object for these vaults to fetch from another one when the snapshot is committed.
    fn postpone(&self, upload: &Upload, late: &[usize]) {
        for &index in late {
            lock(&self.targets[index].backlog).push((upload.id.clone(), upload.object.clone()));
        }
    }

    /// One hold on an object less; the last one ends its being in flight.
    fn release(&self, upload: &Upload) {
        if upload.waiting.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        if !upload.is_kept.load(Ordering::SeqCst) {
            self.rescue(upload);
        }
        lock(&self.in_flight).remove(&upload.id);
    }

    /// Puts an object that no vault has to those that left it for later: the one that was to give it to them failed.
    fn rescue(&self, upload: &Upload) {
        for target in self.targets.iter().filter(|target| target.failure().is_none()) {
            let mut backlog = lock(&target.backlog);
            let before = backlog.len();
            backlog.retain(|(_, object)| object != &upload.object);
            let is_late = backlog.len() < before;
            drop(backlog);
            if is_late
                && !self.is_stopped()
                && let Err(error) = self.put_one(target, upload)
            {
                self.fail(error);
            }
        }
    }

    fn put_from(&self, target: &Target<'_>, queue: &Receiver<Arc<Upload>>) {
        for upload in queue {
            if upload.is_end() {
                return;
            }
            if target.failure().is_none()
                && let Err(error) = self.put_one(target, &upload)
            {
                self.fail(error);
            }
            self.release(&upload);
        }
    }

    fn put_one(&self, target: &Target<'_>, upload: &Upload) -> Result<(), PipelineError> {
        let Settings { node, catalog, context, .. } = self.settings;
        match target.put(&ObjectKey::segment(node, &upload.object), &upload.bytes) {
            Ok(()) => {
                upload.is_kept.store(true, Ordering::SeqCst);
                self.noted(catalog.record_put(&target.id, &upload.object, context.now()));
            }
            Err(error) => {
                target.fail(error);
                if self.active(|_| true).is_empty() {
                    return Err(PipelineError::NoVaultLeft);
                }
            }
        }
        Ok(())
    }
}

impl Upload {
    /// What tells a putting thread to end.
    fn end() -> Self {
        let nothing = Sha256Hex::of(b"");
        let id = SegmentId::from_bytes([0; 32]);
        Self { id, object: nothing, bytes: Vec::new(), waiting: AtomicUsize::new(0), is_kept: AtomicBool::new(false) }
    }

    fn is_end(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl<'s> Pipeline<'s> {
    /// A writer for one artifact.
    pub fn begin(&self, spec: &ArtifactSpec) -> ArtifactWriter<'_, 's> {
        ArtifactWriter::new(self, Cutter::new(self.knife.clone()), spec.clone())
    }

    /// Whether nothing more can be written: an interrupt, or a failure that [`run`] will return.
    pub fn is_stopped(&self) -> bool {
        self.shared.is_stopped()
    }
}
