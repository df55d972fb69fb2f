//! Depths `sealed` and `opened`: every object of the chosen snapshots is read once and must hash to its name; with an
//! identity it must also open to the content its id names.

use super::super::Error;
use super::super::opening::{Opener, name_segment};
use super::super::pipeline::{lock, read_object};
use super::super::progress::Event;
use super::super::reading::{Opened, open_snapshot};
use super::present::named;
use super::{Check, Depth, Look, Run, Verdict};
use crate::base::ids::{EpochId, Sha256Hex, SnapshotId};
use crate::base::limits::{NOTES_BYTES_MAX, SMALL_OBJECT_BYTES_MAX};
use crate::manifest::Manifest;
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
            match open_here(run, look, &manifest) {
                Ok(opened) => last = Some((manifest.epoch.clone(), opened)),
                Err(Error::Seal(error @ crate::seal::SealError::NoMatch { .. })) => return Err(error.into()),
                Err(error) => {
                    let message = format!("it cannot be opened: {}", super::super::error::chain(&error));
                    look.unopenable.insert(id.clone());
                    run.damage(
                        "snapshot-unreadable",
                        subject.clone(),
                        message,
                        "restore from another vault or snapshot",
                    );
                    last = None;
                }
            }
        }
        let opened = last.as_ref().filter(|_| depth >= Depth::Opened).map(|(_, opened)| opened);
        let bad = objects_of(run, look, &manifest, opened, &mut done)?;
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
        let known_bad = manifest.segments().any(|segment| look.bad.contains(&segment.object));
        look.bad.extend(bad.into_iter().map(|(object, _)| object));
        let verdict = if small == 0 && !known_bad && !manifest.segments().any(|s| look.bad.contains(&s.object)) {
            Verdict::Passed
        } else {
            Verdict::Failed
        };
        run.checks.push(Check::new("every object hashes to its name", subject.clone(), verdict, ""));
        if depth >= Depth::Opened {
            let verdict = if opened.is_some() { verdict } else { Verdict::Failed };
            run.checks.push(Check::new("every segment opens to its content", subject, verdict, ""));
        }
    }
    Ok(())
}

fn open_here(run: &Run<'_>, look: &Look<'_>, manifest: &Manifest) -> Result<Opened, Error> {
    let identities = run.request.identities.ok_or(Error::NoIdentity { what: "verify --depth opened or meaning" })?;
    open_snapshot(&[look.place], &run.reader.node, manifest, identities)
}

/// Holds the files beside the manifest against their digests; gives the number of damaged ones.
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
            Err(error) => format!("{} cannot be read: {}", file.name(), super::super::error::chain(&error)),
        };
        bad += 1;
        if file == SnapshotFile::Notes {
            look.unopenable.insert(manifest.snapshot.clone());
        }
        run.damage("file-damaged", subject.to_owned(), problem, "copy it back from another vault");
    }
    Ok(bad)
}

/// Reads every object of a snapshot that was not read before, with all cores. Gives the bad ones with the reason.
fn objects_of(
    run: &Run<'_>,
    look: &mut Look<'_>,
    manifest: &Manifest,
    opened: Option<&Opened>,
    done: &mut HashSet<Sha256Hex>,
) -> Result<Vec<(Sha256Hex, String)>, Error> {
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
    let (next, bytes, bad) = (AtomicUsize::new(0), AtomicU64::new(0), Mutex::new(Vec::new()));
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
                    let outcome = match &opener {
                        Some(opener) => opener.segment_from(place, artifact, segment).map(drop),
                        None => read_object(&place.vault, &run.reader.node, &segment.object).map(drop),
                    };
                    if let Err(reason) = outcome {
                        lock(&bad).push((segment.object.clone(), reason));
                    }
                    bytes.fetch_add(segment.length, Ordering::SeqCst);
                    context.tell(Event::Bytes(segment.length));
                }
            });
        }
    });
    context.check()?;
    look.row.bytes += bytes.into_inner();
    let mut bad = bad.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    bad.sort_unstable();
    Ok(bad)
}
