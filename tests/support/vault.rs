//! A vault in a folder, looked at and damaged from outside with nothing but a file system, as its owner, its thief or a
//! failing disk would.

use super::env::TestEnv;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of a snapshot, in no special order.
pub(crate) const SNAPSHOT_FILES: [&str; 4] = ["epoch.age", "notes.age", "manifest.json.minisig", "manifest.json"];

/// A vault's folder and the one node that is in it.
#[derive(Clone, Debug)]
pub(crate) struct VaultFolder {
    /// The folder.
    pub(crate) root: PathBuf,
    /// The node.
    pub(crate) node: String,
}

impl VaultFolder {
    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("fs://{}", self.root.display())
    }

    /// The committed snapshots, oldest first.
    pub(crate) fn snapshots(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.node_folder().join("snapshots")) else { return Vec::new() };
        let mut ids: Vec<String> = entries
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().join("manifest.json").exists())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        ids.sort();
        ids
    }

    /// The newest committed snapshot.
    pub(crate) fn newest(&self) -> String {
        self.snapshots().pop().expect("the vault holds no snapshot")
    }

    /// A snapshot's folder.
    pub(crate) fn snapshot(&self, id: &str) -> PathBuf {
        self.node_folder().join("snapshots").join(id)
    }

    /// A snapshot's manifest, read as JSON.
    pub(crate) fn manifest(&self, id: &str) -> Value {
        serde_json::from_slice(&fs::read(self.snapshot(id).join("manifest.json")).unwrap()).unwrap()
    }

    /// The names of a snapshot's artifacts.
    pub(crate) fn artifacts(&self, id: &str) -> Vec<String> {
        let manifest = self.manifest(id);
        let artifacts = manifest["artifacts"].as_array().unwrap();
        artifacts.iter().map(|artifact| artifact["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The objects that hold an artifact's segments, in order.
    pub(crate) fn objects_of(&self, id: &str, artifact: &str) -> Vec<String> {
        let manifest = self.manifest(id);
        let artifacts = manifest["artifacts"].as_array().unwrap();
        let found = artifacts.iter().find(|found| found["name"] == artifact);
        let segments = found.unwrap_or_else(|| panic!("{id} has no {artifact}"))["segments"].as_array().unwrap();
        segments.iter().map(|segment| segment["object"].as_str().unwrap().to_owned()).collect()
    }

    /// The file of an object.
    pub(crate) fn object(&self, name: &str) -> PathBuf {
        self.node_folder().join("segments").join(&name[..2]).join(format!("{name}.age"))
    }

    /// Every file below the vault's folder with its length, by relative path.
    pub(crate) fn files(&self) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::new();
        let mut ahead = vec![self.root.clone()];
        while let Some(folder) = ahead.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    ahead.push(entry.path());
                } else {
                    let name = entry.path().strip_prefix(&self.root).unwrap().to_str().unwrap().to_owned();
                    found.insert(name, entry.metadata().unwrap().len());
                }
            }
        }
        found
    }

    /// The names of all segment objects.
    pub(crate) fn objects(&self) -> Vec<String> {
        let all = self.files().into_keys().filter(|name| name.contains("/segments/"));
        all.map(|name| Path::new(&name).file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    }

    /// Bytes in it.
    pub(crate) fn bytes(&self) -> u64 {
        self.files().values().sum()
    }

    /// A copy of it below a test's own folder, made by `cp`.
    pub(crate) fn copy_to(&self, env: &TestEnv, name: &str) -> Self {
        let root = env.path(name);
        env.program("cp").arg("-a").arg(&self.root).arg(&root).ends().exits(0);
        Self { root, node: self.node.clone() }
    }

    fn node_folder(&self) -> PathBuf {
        self.root.join("nodes").join(&self.node)
    }
}

/// Changes what a file holds, whatever its mode.
pub(crate) fn overwrite(file: &Path, bytes: &[u8]) {
    fs::remove_file(file).unwrap();
    fs::write(file, bytes).unwrap();
}

/// Flips one bit in the middle of a file.
pub(crate) fn flip_bit(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    overwrite(file, &bytes);
}

/// Cuts a file's last bytes off: more than a line's end, which nobody misses.
pub(crate) fn truncate(file: &Path) {
    let bytes = fs::read(file).unwrap();
    overwrite(file, &bytes[..bytes.len() - 5]);
}
