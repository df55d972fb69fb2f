//! Tars: what unpacking each of them would meet.

use super::super::View;
use crate::base::ids::ArtifactName;
use crate::engine::Error;
use crate::engine::restore::places;
use crate::facts::Facts;
use crate::guard::facts::Known;
use crate::plan::Action;
use crate::target::look::At;
use crate::target::tree::{Compared, TreeError, Unpack};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The paths at which unpacking each tar would meet something else than it holds.
pub(super) fn compared(
    view: &View<'_>,
    mirror: &Known<Option<PathBuf>>,
) -> Result<BTreeMap<ArtifactName, Known<Compared>>, Error> {
    let mirror = match mirror {
        Known::Is(mirror) => mirror.as_deref(),
        Known::Unknown(_) => None,
    };
    let forbidden = places::forbidden(view.plan, view.world.policy, mirror);
    let mut found = BTreeMap::new();
    for action in view.plan.actions() {
        let Action::PlaceTree { artifact: name, below, .. } = action else { continue };
        view.world.context.check()?;
        let differing = match (view.artifact(name), view.opener()) {
            (Known::Unknown(why), _) | (_, Known::Unknown(why)) => Known::Unknown(why),
            (Known::Is(_), Known::Is(_)) if is_bare(view, name, below, &forbidden)? && !view.world.is_dry_run => {
                Known::Is(Compared::default())
            }
            (Known::Is(artifact), Known::Is(opener)) => {
                let (root, interrupt) = (view.world.root, view.world.context.interrupt);
                let how = Unpack { below, label: "", forbidden: &forbidden, interrupt };
                let compared = opener.through_pipe(artifact, |tar| match root.compare(tar, &how) {
                    Err(TreeError::Interrupted { .. }) => Err(Error::Interrupted),
                    other => Ok(other?),
                });
                view.settle(compared)?
            }
        };
        found.insert(name.clone(), differing);
    }
    Ok(found)
}

/// Whether nothing is at any place that a tar's files come from, and none of them is near one that no tar may touch, so
/// that there is nothing to compare and it need not be fetched twice. What the notes say is believed here for speed
/// only: unpacking looks once more at each file.
fn is_bare(view: &View<'_>, name: &ArtifactName, below: &Path, forbidden: &[PathBuf]) -> Result<bool, Error> {
    let roots: Vec<PathBuf> = match view.notes(name) {
        Some(Facts::Tar(facts)) if !facts.roots.is_empty() => facts.roots.iter().map(|root| fixed_part(root)).collect(),
        _ => vec![below.to_owned()],
    };
    for root in roots {
        // A name that only begins like one may be what SQLite keeps beside a database.
        let begins_like = |place: &PathBuf| root.as_os_str().as_bytes().starts_with(place.as_os_str().as_bytes());
        if forbidden.iter().any(|place| place.starts_with(&root) || begins_like(place)) {
            return Ok(false);
        }
        if !root.starts_with(below) || view.settle(view.world.root.at(&root))? != Known::Is(At::Nothing) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The part of a path or glob before its first wildcard.
fn fixed_part(pattern: &str) -> PathBuf {
    Path::new(pattern)
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_part_of_a_glob_ends_before_its_first_wildcard() {
        for (pattern, fixed) in
            [("/var/lib/x", "/var/lib/x"), ("/var/lib/*/x", "/var/lib"), ("/etc/a?[b]", "/etc"), ("/*", "/")]
        {
            assert_eq!(fixed_part(pattern), Path::new(fixed), "{pattern}");
        }
    }
}
