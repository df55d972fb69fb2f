//! From the policy's paths and globs to the roots of the walk: sorted, none inside another, none reached through a
//! symbolic link that the source itself holds. And the excludes, which know whether they were ever used.

use super::obstacle::{Obstacle, shown};
use crate::report::{Finding, Level};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

const OPTIONS: glob::MatchOptions =
    glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// What is to be walked.
#[derive(Default)]
pub(super) struct Plan {
    /// Sorted by name; none lies inside another.
    pub(super) roots: Vec<PathBuf>,
    pub(super) excludes: Excludes,
    pub(super) obstacles: Vec<Obstacle>,
    pub(super) findings: Vec<Finding>,
}

/// What is left out.
#[derive(Default)]
pub(super) struct Excludes(Vec<Exclude>);

struct Exclude {
    text: String,
    pattern: glob::Pattern,
    is_used: bool,
}

impl Excludes {
    fn new(texts: &[String], obstacles: &mut Vec<Obstacle>) -> Self {
        let mut all = Vec::new();
        for text in texts {
            match glob::Pattern::new(text) {
                Ok(pattern) => all.push(Exclude { text: text.clone(), pattern, is_used: false }),
                // The policy's check refuses such a pattern before; one that came another way must not be skipped.
                Err(_) => obstacles.push(Obstacle::NoMatch { pattern: text.clone() }),
            }
        }
        Self(all)
    }

    /// Whether this very path is left out, and with it all that lies below.
    pub(super) fn covers(&mut self, path: &Path) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let text = path.to_string_lossy();
        let mut is_covered = false;
        for exclude in &mut self.0 {
            if exclude.pattern.matches_with(&text, OPTIONS) {
                exclude.is_used = true;
                is_covered = true;
            }
        }
        if is_covered {
            // What would only have matched below was never looked for.
            for exclude in self.0.iter_mut().filter(|exclude| Path::new(&exclude.text).starts_with(path)) {
                exclude.is_used = true;
            }
        }
        is_covered
    }

    fn covers_with_parents(&mut self, path: &Path) -> bool {
        path.ancestors().any(|part| self.covers(part))
    }

    /// Those that matched nothing.
    pub(super) fn unused(&self) -> Vec<Finding> {
        let unused = self.0.iter().filter(|exclude| !exclude.is_used);
        unused
            .map(|exclude| {
                let message = format!("the exclude {} matches nothing", exclude.text);
                Finding::new(Level::Degraded, "exclude-unused", &exclude.text, message)
                    .with_hint("what it was meant to leave out may now be taken under another name: mend or remove it")
            })
            .collect()
    }
}

/// Finds the roots. What is missing is an obstacle, never skipped.
pub(super) fn expand(paths: &[String], exclude: &[String]) -> Plan {
    let mut plan = Plan::default();
    plan.excludes = Excludes::new(exclude, &mut plan.obstacles);
    let mut found = Vec::new();
    for path in paths {
        if path.contains(['*', '?', '[']) {
            match_glob(&mut plan, path, &mut found);
        } else {
            match_path(&mut plan, path, &mut found);
        }
    }
    found.sort();
    found.dedup();
    drop_nested(&mut plan, found);
    let links: Vec<PathBuf> = plan.roots.iter().filter(|root| is_symlink(root)).cloned().collect();
    for link in links {
        judge_link(&mut plan, &link);
    }
    plan
}

fn is_symlink(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_symlink())
}

fn match_path(plan: &mut Plan, text: &str, found: &mut Vec<PathBuf>) {
    let path: PathBuf = Path::new(text).components().collect();
    match fs::symlink_metadata(&path) {
        Ok(_) if plan.excludes.covers_with_parents(&path) => {
            plan.obstacles.push(Obstacle::Excluded { pattern: text.to_owned() });
        }
        Ok(_) => found.push(path),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            plan.obstacles.push(Obstacle::Missing { path });
        }
        Err(source) => plan.obstacles.push(Obstacle::Unreadable { action: "look at", path, source }),
    }
}

fn match_glob(plan: &mut Plan, pattern: &str, found: &mut Vec<PathBuf>) {
    let Ok(matches) = glob::glob_with(pattern, OPTIONS) else {
        plan.obstacles.push(Obstacle::NoMatch { pattern: pattern.to_owned() });
        return;
    };
    // Up to here the operator wrote the path out, and may have meant a link in it.
    let written_out = Path::new(pattern)
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']))
        .count();
    let (mut taken, mut excluded) = (0, 0);
    for entry in matches {
        let path = match entry {
            Ok(path) => path,
            Err(error) => {
                let path = error.path().to_owned();
                plan.obstacles.push(Obstacle::Unreadable { action: "list", path, source: error.into() });
                taken += 1;
                continue;
            }
        };
        if let Some(link) = link_on_the_way(&path, written_out) {
            let message = format!("{pattern} was not followed through the symbolic link {}", shown(&link));
            plan.findings.push(Finding::new(Level::Note, "link-not-followed", shown(&link), message));
        } else if plan.excludes.covers_with_parents(&path) {
            excluded += 1;
        } else {
            found.push(path);
            taken += 1;
        }
    }
    if taken == 0 {
        let pattern = pattern.to_owned();
        let obstacle = if excluded > 0 { Obstacle::Excluded { pattern } } else { Obstacle::NoMatch { pattern } };
        plan.obstacles.push(obstacle);
    }
}

/// The first symbolic link among the parents of a path, after its first `skip` components.
fn link_on_the_way(path: &Path, skip: usize) -> Option<PathBuf> {
    let mut so_far = PathBuf::new();
    let count = path.components().count();
    for (number, part) in path.components().enumerate().take(count.saturating_sub(1)) {
        so_far.push(part);
        if number >= skip && part != Component::RootDir && is_symlink(&so_far) {
            return Some(so_far);
        }
    }
    None
}

fn drop_nested(plan: &mut Plan, found: Vec<PathBuf>) {
    for path in found {
        let Some(outer) = plan.roots.iter().rev().find(|root| path.starts_with(root)) else {
            plan.roots.push(path);
            continue;
        };
        // A path that leads through a link lies elsewhere: the walk of the outer root stops at the link.
        let skip = outer.components().count().saturating_sub(1);
        if let Some(link) = link_on_the_way(&path, skip) {
            plan.obstacles.push(Obstacle::ThroughLink { path, link });
        }
    }
}

/// A root that is a symbolic link is stored as one: what it points to must be named as well, or it is not backed up.
fn judge_link(plan: &mut Plan, link: &Path) {
    let is_held = |target: &PathBuf| plan.roots.iter().any(|root| root != link && target.starts_with(root));
    let (message, hint) = match fs::canonicalize(link) {
        Ok(target) if is_held(&target) => return,
        Ok(target) => (
            format!("{} is a symbolic link; what it points to is not backed up", shown(link)),
            format!("add {:?} to paths", target.to_string_lossy()),
        ),
        Err(error) => (
            format!("{} is a symbolic link that leads nowhere ({error})", shown(link)),
            "mend the link, or remove it from paths".to_owned(),
        ),
    };
    plan.findings.push(Finding::new(Level::Degraded, "root-is-link", shown(link), message).with_hint(hint));
}
