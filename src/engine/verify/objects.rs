//! Depths `sealed` and `opened`: every object of the chosen snapshots is read once and must hash to its name; with an
//! identity it must also open to the content its id names.

use super::super::Error;
use super::super::error::chain;
use super::super::given::NotGiven;
use super::super::opening::{Opener, name_segment};
use super::super::pipeline::{lock, read_object};
use super::super::progress::Event;
use super::super::reading::{Opened, open_snapshot};
use super::present::named;
use super::{Check, Depth, Look, Run, Verdict};
use crate::base::ids::{EpochId, Sha256Hex, SnapshotId};
use crate::base::limits::{NOTES_BYTES_MAX, SMALL_OBJECT_BYTES_MAX, UNREAD_MAX};
use crate::manifest::Manifest;
use crate::vault::VaultError;
use crate::vault::layout::{ObjectKey, SnapshotFile};
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Checks one vault's chosen snapshots.
pub(super) fn check(run: &mut Run<'_>, look: &mut Look<'_>) -> Result<(), Error> {
    let mut done: HashSet<Sha256Hex> = look.bad.clone();
    let mut last: Option<(EpochId, Opened)> = None;
    for id in look.chosen.clone() {
        let Some(manifest) = look.believed.get(&id).map(|believed| believed.manifest.clone()) else { continue };
        let subject = format!("{}: {id}", look.name());
        let small = small_files(run, look, &manifest, &subject)?;
        let depth = run.request.depth;
        if depth >= Depth::Opened && last.as_ref().is_none_or(|(epoch, _)| epoch != &manifest.epoch) {
            last = open_or_tell(run, look, &manifest, &subject)?.map(|opened| (manifest.epoch.clone(), opened));
        }
        let opened = last.as_ref().filter(|_| depth >= Depth::Opened).map(|(_, opened)| opened);
        let Outcome { bad, unread } = objects_of(run, look, &manifest, opened, &mut done)?;
        tell_unread(run, &subject, &manifest, &unread);
        for (object, reason) in &bad {
            for (artifact, index, segment) in named(&manifest, object) {
                let thing = name_segment(&artifact.name, index, segment);
                run.damage(
                    "object-damaged",
                    format!("{subject}: {thing}"),
                    reason.clone(),
                    "restore from another vault or snapshot; the next backup on the node seals this content anew",
                );
            }
        }
        look.bad.extend(bad.into_iter().map(|(object, _)| object));
        look.unread.extend(unread.into_iter().map(|(object, _)| object));
        let is_good = |object| !look.bad.contains(object) && !look.unread.contains(object);
        let is_whole = small == 0 && manifest.segments().all(|segment| is_good(&segment.object));
        let verdict = if is_whole { Verdict::Passed } else { Verdict::Failed };
        run.checks.push(Check::new("every object hashes to its name", subject.clone(), verdict, ""));
        if depth >= Depth::Opened {
            let verdict = if opened.is_some() { verdict } else { Verdict::Failed };
            run.checks.push(Check::new("every segment opens to its content", subject, verdict, ""));
        }
    }
    Ok(())
}

/// Opens a snapshot's notes and epoch key; tells when that cannot be done here. An identity that fits nothing ends all.
fn open_or_tell(
    run: &mut Run<'_>,
    look: &mut Look<'_>,
    manifest: &Manifest,
    subject: &str,
) -> Result<Option<Opened>, Error> {
    let error = match open_here(run, look, manifest) {
        Ok(opened) => return Ok(Some(opened)),
        Err(error @ Error::Seal(crate::seal::SealError::NoMatch { .. })) => return Err(error),
        Err(error) => error,
    };
    look.unopenable.insert(manifest.snapshot.clone());
    let (subject, message) = (subject.to_owned(), format!("it cannot be opened: {}", chain(&error)));
    if matches!(error, Error::Unread { .. }) {
        run.unread("snapshot-unread", subject, message, error.hint());
    } else {
        run.damage("snapshot-unreadable", subject, message, "restore from another vault or snapshot");
    }
    Ok(None)
}

fn open_here(run: &Run<'_>, look: &Look<'_>, manifest: &Manifest) -> Result<Opened, Error> {
    let identities = run.request.identities.ok_or(Error::NoIdentity { what: "verify --depth opened or meaning" })?;
    open_snapshot(&[look.place], &run.reader.node, manifest, identities)
}

/// Holds the files beside the manifest against their digests; gives the number of those that are not right or were not
/// read.
fn small_files(run: &mut Run<'_>, look: &mut Look<'_>, manifest: &Manifest, subject: &str) -> Result<usize, Error> {
    let mut bad = 0;
    let files = [
        (SnapshotFile::EpochKey, &manifest.epoch_key.sha256, SMALL_OBJECT_BYTES_MAX),
        (SnapshotFile::Notes, &manifest.notes.sha256, NOTES_BYTES_MAX),
    ];
    for (file, sha256, limit) in files {
        run.context.check()?;
        let key = ObjectKey::snapshot(&run.reader.node, &manifest.snapshot, file);
        let problem = match look.place.vault.get(&key, limit) {
            Ok(bytes) if &Sha256Hex::of(&bytes) == sha256 => continue,
            Ok(_) => format!("{} is not what the manifest names", file.name()),
            // That it is missing was said before.
            Err(crate::vault::VaultError::NotFound { .. }) => continue,
            Err(error) if !error.is_of_object() => {
                bad += 1;
                let message = format!("{} could not be read: {}", file.name(), chain(&error));
                run.unread("file-unread", subject.to_owned(), message, error.hint());
                continue;
            }
            Err(error) => format!("{} cannot be read: {}", file.name(), chain(&error)),
        };
        bad += 1;
        if file == SnapshotFile::Notes {
            look.unopenable.insert(manifest.snapshot.clone());
        }
        run.damage("file-damaged", subject.to_owned(), problem, "copy it back from another vault");
    }
    Ok(bad)
}

/// What reading objects gave, sorted.
#[derive(Default)]
struct Outcome {
    /// Damaged or missing, and why.
    bad: Vec<(Sha256Hex, String)>,
    /// Not read, and why.
    unread: Vec<(Sha256Hex, Option<VaultError>)>,
}

/// Tells what of a snapshot could not be read, in one finding: a vault that stops answering is one trouble.
fn tell_unread(run: &mut Run<'_>, subject: &str, manifest: &Manifest, unread: &[(Sha256Hex, Option<VaultError>)]) {
    let Some((object, error)) = unread.iter().find_map(|(object, error)| Some((object, error.as_ref()?))) else {
        return;
    };
    let first = named(manifest, object).next();
    let first = first.map(|(artifact, index, segment)| name_segment(&artifact.name, index, segment));
    let message = format!(
        "{} objects could not be read, so nothing is known of them; first {}: {}",
        unread.len(),
        first.unwrap_or_default(),
        chain(error)
    );
    run.unread("object-unread", subject.to_owned(), message, error.hint());
}

/// Reads every object of a snapshot that was not read before, with all cores. Once so many were not given that the
/// vault seems to be gone, the others are not asked for.
fn objects_of(
    run: &Run<'_>,
    look: &mut Look<'_>,
    manifest: &Manifest,
    opened: Option<&Opened>,
    done: &mut HashSet<Sha256Hex>,
) -> Result<Outcome, Error> {
    let snapshot: &SnapshotId = &manifest.snapshot;
    let mut work = Vec::new();
    for artifact in &manifest.artifacts {
        for segment in &artifact.segments {
            if done.insert(segment.object.clone()) {
                work.push((artifact, segment));
            }
        }
    }
    let context = run.context;
    context.tell(Event::Step(format!("reading the objects of {snapshot} in vault {}", look.name())));
    context.tell(Event::Total(work.iter().map(|(_, segment)| segment.length).sum()));
    let (next, bytes, given_up) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicUsize::new(0));
    let outcome = Mutex::new(Outcome::default());
    let place = look.place;
    let places = [place];
    let opener = opened.map(|opened| Opener { context, places: &places, node: &run.reader.node, opened });
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((artifact, segment)) = work.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if context.interrupt.is_set() {
                        return;
                    }
                    if given_up.load(Ordering::SeqCst) >= UNREAD_MAX {
                        lock(&outcome).unread.push((segment.object.clone(), None));
                        continue;
                    }
                    let read = match &opener {
                        Some(opener) => opener.segment_from(place, artifact, segment).map(drop),
                        None => read_object(&place.vault, &run.reader.node, &segment.object).map(drop),
                    };
                    match read {
                        Ok(()) => _ = bytes.fetch_add(segment.length, Ordering::SeqCst),
                        Err(NotGiven::Damaged { reason }) => lock(&outcome).bad.push((segment.object.clone(), reason)),
                        Err(NotGiven::Unread { source }) => {
                            given_up.fetch_add(1, Ordering::SeqCst);
                            lock(&outcome).unread.push((segment.object.clone(), Some(source)));
                        }
                    }
                    context.tell(Event::Bytes(segment.length));
                }
            });
        }
    });
    context.check()?;
    look.row.bytes += bytes.into_inner();
    let mut outcome = outcome.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    outcome.bad.sort_unstable();
    outcome.unread.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    Ok(outcome)
}
