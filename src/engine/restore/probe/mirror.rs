//! The mirror that lightningd keeps of its database. It copies the database over the mirror when it starts, so whatever
//! lies there must be known before.

use super::View;
use crate::base::limits::NODE_FILE_BYTES_MAX;
use crate::base::secret::Secret;
use crate::engine::Error;
use crate::facts::Facts;
use crate::guard::facts::Known;
use crate::plan::{Action, LightningPlace};
use crate::sources::cln::{self, Mirror};
use crate::sources::files::TarReader;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::PathBuf;

/// The mirror that lightningd keeps of its database, by its configuration at the target and by the one that is placed.
pub(super) fn probe(view: &View<'_>) -> Result<Known<Option<PathBuf>>, Error> {
    let mut mirrors = BTreeSet::new();
    for node in view.plan.fences() {
        match mirror_of(view, node)? {
            Known::Is(found) => mirrors.extend(found),
            Known::Unknown(why) => return Ok(Known::Unknown(why)),
        }
    }
    let mut mirrors = mirrors.into_iter();
    Ok(match (mirrors.next(), mirrors.next()) {
        (Some(one), Some(other)) => Known::Unknown(format!(
            "lightningd's configurations name more than one ({}, {})",
            one.display(),
            other.display()
        )),
        (found, _) => Known::Is(found),
    })
}

fn mirror_of(view: &View<'_>, node: &LightningPlace) -> Result<Known<BTreeSet<PathBuf>>, Error> {
    let paths = [node.lightning_dir.join("config"), node.network_dir.join("config")];
    let mut texts = Vec::new();
    for path in &paths {
        match view.settle(view.world.root.read_file(path, NODE_FILE_BYTES_MAX))? {
            Known::Is(Some(text)) => texts.push((path.display().to_string(), text)),
            Known::Is(None) => {}
            Known::Unknown(why) => return Ok(Known::Unknown(why)),
        }
    }
    match configs_in_extras(view, node)? {
        Known::Is(placed) => texts.extend(placed),
        Known::Unknown(why) => return Ok(Known::Unknown(why)),
    }
    let mut mirrors = BTreeSet::new();
    for (name, text) in texts {
        match cln::mirror(&String::from_utf8_lossy(text.expose())) {
            Mirror::NotTold | Mirror::None => {}
            // lightningd runs in the network's folder.
            Mirror::At(path) => drop(mirrors.insert(node.network_dir.join(path))),
            Mirror::Elsewhere => {
                return Ok(Known::Unknown(format!("{name} takes in other files, which may name a mirror")));
            }
        }
    }
    Ok(Known::Is(mirrors))
}

/// lightningd's configuration in the small files that the plan brings back for this node.
fn configs_in_extras(view: &View<'_>, node: &LightningPlace) -> Result<Known<Vec<(String, Secret)>>, Error> {
    let mut found = Vec::new();
    for action in view.plan.actions() {
        let Action::PlaceTree { artifact: name, below, .. } = action else { continue };
        if *below != node.lightning_dir || !matches!(view.notes(name), Some(Facts::ClnExtras(_))) {
            continue;
        }
        let (artifact, opener) = match (view.artifact(name), view.opener()) {
            (Known::Is(artifact), Known::Is(opener)) => (artifact, opener),
            (Known::Unknown(why), _) | (_, Known::Unknown(why)) => return Ok(Known::Unknown(why)),
        };
        let read = opener.through_pipe(artifact, |tar| {
            configs_in(tar).map_err(|source| Error::Output { to: format!("the files of {name}"), source })
        });
        match view.settle(read)? {
            Known::Is(configs) => found.extend(configs),
            Known::Unknown(why) => return Ok(Known::Unknown(why)),
        }
    }
    Ok(Known::Is(found))
}

fn configs_in(tar: &mut dyn Read) -> io::Result<Vec<(String, Secret)>> {
    let mut found = Vec::new();
    let mut tar = TarReader::new(tar);
    while let Some(head) = tar.next_entry().map_err(io::Error::other)? {
        let name = String::from_utf8_lossy(&head.name).into_owned();
        if name == "config" || name.ends_with("/config") {
            let mut text = Vec::new();
            let read = (&mut tar).take(NODE_FILE_BYTES_MAX).read_to_end(&mut text);
            let text = Secret::new(text);
            read?;
            found.push((name, text));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_configurations_are_taken_from_a_tar() {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in
            [("config", "wallet=a"), ("regtest/config", "b"), ("regtest/ca.pem", "c"), ("myconfig", "d")]
        {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        let tar = tar.into_inner().unwrap();
        let found = configs_in(&mut tar.as_slice()).unwrap();
        let found: Vec<_> = found.iter().map(|(name, text)| (name.as_str(), text.expose())).collect();
        assert_eq!(found, [("config", &b"wallet=a"[..]), ("regtest/config", b"b")]);
    }
}
