//! What is there: the snapshots of the vaults, and what one of them holds.

use super::reading::{From, Opened, Place, Reader, Wanted, copies, look, not_believed, open_snapshot};
use super::survey::{Disbelief, believe};
use super::{Context, Error};
use crate::base::ids::NodeName;
use crate::facts::Facts;
use crate::manifest::Manifest;
use crate::policy::Policy;
use crate::report::Finding;
use crate::seal::identity::Identities;
use schemars::JsonSchema;
use serde::Serialize;

/// The snapshots of one node.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ListReport {
    /// The node.
    pub node: String,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<SnapshotLine>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// One snapshot in a list.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SnapshotLine {
    /// Its id.
    pub snapshot: String,
    /// When it was taken, UTC.
    pub created: String,
    /// Whether every source of the policy succeeded.
    pub complete: bool,
    /// Why it was taken.
    pub trigger: String,
    /// Number of artifacts.
    pub artifacts: usize,
    /// Plaintext length of all artifacts, in bytes.
    pub length: u64,
    /// The vaults that hold its manifest.
    pub vaults: Vec<String>,
}

/// Lists the snapshots of the reader's node.
pub fn list(context: &Context<'_>, reader: &Reader) -> Result<ListReport, Error> {
    let mut findings = reader.findings.clone();
    findings.extend(copies(&reader.places));
    let mut snapshots = Vec::new();
    for (id, holders) in reader.snapshots()? {
        context.check()?;
        let (mut manifest, mut vaults) = (None, Vec::new());
        for (place, _) in holders {
            match believe(&place.vault, &reader.node, &id, &reader.trusted) {
                Ok(believed) => {
                    vaults.push(place.vault.name().to_string());
                    manifest.get_or_insert(believed.manifest);
                }
                Err(Disbelief::Vault(error)) => return Err(error.into()),
                Err(reason) => findings.push(not_believed(place, &id, &reason)),
            }
        }
        if let Some(manifest) = manifest {
            snapshots.push(line(&manifest, vaults));
        }
    }
    Ok(ListReport { node: reader.node.to_string(), snapshots, findings })
}

fn line(manifest: &Manifest, vaults: Vec<String>) -> SnapshotLine {
    SnapshotLine {
        snapshot: manifest.snapshot.to_string(),
        created: manifest.created.to_string(),
        complete: manifest.complete,
        trigger: manifest.trigger.clone(),
        artifacts: manifest.artifacts.len(),
        length: manifest.artifacts.iter().map(|artifact| artifact.length).sum(),
        vaults,
    }
}

/// One snapshot in full.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ShowReport {
    /// The node.
    pub node: String,
    /// The snapshot.
    #[serde(flatten)]
    pub line: SnapshotLine,
    /// The program that wrote it.
    pub program: String,
    /// The epoch it is sealed to.
    pub epoch: String,
    /// Fingerprints of the recipients that can open it.
    pub recipients: Vec<String>,
    /// The snapshot before it.
    pub previous: Option<String>,
    /// How each source fared.
    pub sources: Vec<ShowSource>,
    /// Its artifacts.
    pub contents: Vec<ShowArtifact>,
    /// The host's own name; with an identity only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The policy it was taken under; with an identity only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What was found while it was taken (with an identity), and while it was looked at.
    pub findings: Vec<Finding>,
}

/// How a source fared.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ShowSource {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Whether everything it should yield was read.
    pub ok: bool,
}

/// One artifact.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ShowArtifact {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: crate::artifact::ArtifactKind,
    /// How its segments are compressed.
    pub codec: crate::artifact::Codec,
    /// Whether a guard must clear it before a node may start on it.
    pub toxic: bool,
    /// Plaintext length in bytes.
    pub length: u64,
    /// Number of segments.
    pub segments: usize,
    /// Length of its sealed objects in bytes.
    pub sealed_length: u64,
    /// What was learned about it; with an identity only. Its shape depends on the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub facts: Option<Facts>,
}

/// Shows one snapshot; with identities also what its notes say.
pub fn show(reader: &Reader, wanted: &Wanted, identities: Option<&Identities>) -> Result<ShowReport, Error> {
    let (believed, places) = reader.find(wanted)?;
    let manifest = &believed.manifest;
    let opened: Option<Opened> =
        identities.map(|identities| open_snapshot(&places, &reader.node, manifest, identities)).transpose()?;
    let notes = opened.as_ref().map(|opened| &opened.notes);
    let contents = manifest.artifacts.iter().map(|artifact| ShowArtifact {
        name: artifact.name.to_string(),
        kind: artifact.kind,
        codec: artifact.codec,
        toxic: artifact.toxic,
        length: artifact.length,
        segments: artifact.segments.len(),
        sealed_length: artifact.segments.iter().map(|segment| segment.length).sum(),
        facts: notes.and_then(|notes| notes.facts(&artifact.name)).cloned(),
    });
    let name = |place: &&Place| place.vault.name().to_string();
    Ok(ShowReport {
        node: reader.node.to_string(),
        line: line(manifest, places.iter().map(name).collect()),
        program: manifest.program.clone(),
        epoch: manifest.epoch.to_string(),
        recipients: manifest.recipients.clone(),
        previous: manifest.previous.as_ref().map(|previous| previous.snapshot.to_string()),
        sources: manifest
            .sources
            .iter()
            .map(|source| ShowSource { name: source.name.to_string(), kind: source.kind.clone(), ok: source.ok })
            .collect(),
        contents: contents.collect(),
        hostname: notes.map(|notes| notes.hostname.clone()),
        policy: notes.map(|notes| notes.policy.clone()),
        findings: reader
            .findings
            .iter()
            .cloned()
            .chain(notes.into_iter().flat_map(|notes| notes.findings.iter().cloned()))
            .collect(),
    })
}

/// The nodes that have snapshots in the vaults.
pub fn nodes(context: &Context<'_>, policy: Option<&Policy>, from: &From) -> Result<Vec<NodeName>, Error> {
    let places = look(context, policy, from)?.places;
    let mut nodes = Vec::new();
    for place in &places {
        nodes.extend(place.vault.nodes()?);
    }
    nodes.sort_unstable();
    nodes.dedup();
    Ok(nodes)
}
