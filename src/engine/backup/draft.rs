//! The snapshot before it is committed: its notes, sealed, and its manifest, signed.

use super::Head;
use super::reading::Read;
use crate::base::ids::{Sha256Hex, SnapshotId};
use crate::engine::Error;
use crate::engine::pipeline::Target;
use crate::engine::state::HostState;
use crate::manifest::{self, Attested, FileDigest, Manifest, Previous, SourceOutcome, VaultHead};
use crate::notes::{DedupKeyHex, Notes};
use crate::policy::Policy;
use crate::report::Finding;
use jiff::Timestamp;

/// The snapshot before it is written down.
pub(super) struct Draft<'a> {
    pub(super) policy: &'a Policy,
    pub(super) state: &'a HostState,
    pub(super) snapshot: SnapshotId,
    pub(super) sequence: u64,
    pub(super) created: Timestamp,
    pub(super) complete: bool,
    pub(super) trigger: &'a str,
}

/// Everything a vault needs for the commit.
pub(super) struct Prepared {
    pub(super) manifest: Manifest,
    pub(super) text: String,
    pub(super) signature: String,
    pub(super) notes: Vec<u8>,
}

impl Draft<'_> {
    pub(super) fn prepare(
        &self,
        read: &Read,
        targets: &[Target<'_>],
        heads: &[Head],
        findings: &[Finding],
    ) -> Result<Prepared, Error> {
        let Self { policy, state, .. } = self;
        let notes = self.seal_notes(read, findings)?;
        let digest = |bytes: &[u8]| FileDigest { sha256: Sha256Hex::of(bytes), length: bytes.len() as u64 };
        let newest = heads.iter().filter_map(|head| head.newest.clone()).max_by(|left, right| left.0.cmp(&right.0));
        let attested = state.attestations().iter().map(|attestation| Attested {
            source: attestation.source.clone(),
            salt: attestation.salt.clone(),
            sha256: attestation.sha256.clone(),
        });
        let sources = read
            .sources
            .iter()
            .map(|row| Ok(SourceOutcome { name: row.name.parse()?, kind: row.kind.clone(), ok: row.ok }));
        let manifest = Manifest {
            format: manifest::FORMAT,
            program: format!("relay-backup {}", env!("CARGO_PKG_VERSION")),
            node: policy.node.clone(),
            instance: state.instance.clone(),
            snapshot: self.snapshot.clone(),
            sequence: self.sequence,
            created: self.created,
            trigger: self.trigger.to_owned(),
            complete: self.complete,
            previous: newest.map(|(snapshot, sha256)| Previous { snapshot, sha256 }),
            vaults: targets
                .iter()
                .zip(heads)
                .map(|(target, head)| VaultHead {
                    vault: target.id.clone(),
                    head: head.newest.as_ref().map(|(snapshot, _)| snapshot.clone()),
                })
                .collect(),
            epoch: state.epoch.id.clone(),
            epoch_key: digest(&state.sealed_epoch),
            notes: digest(&notes),
            recipients: state.recipients.iter().map(|text| crate::seal::recipients::fingerprint(text)).collect(),
            attested: attested.collect(),
            sources: sources.collect::<Result<_, Error>>()?,
            artifacts: read.artifacts.clone(),
        };
        let text = manifest::encode(&manifest);
        // What is signed must be what every reader accepts.
        manifest::decode(text.as_bytes()).map_err(|source| Error::Manifest {
            snapshot: self.snapshot.clone(),
            place: "this run".into(),
            source,
        })?;
        let signature =
            state.signing.sign(text.as_bytes(), &format!("relay-backup {} {}", policy.node, self.snapshot))?;
        Ok(Prepared { manifest, text, signature, notes })
    }

    fn seal_notes(&self, read: &Read, findings: &[Finding]) -> Result<Vec<u8>, Error> {
        let dedup = self.state.dedup.to_hex();
        let notes = Notes {
            format: crate::notes::FORMAT,
            node: self.policy.node.clone(),
            snapshot: self.snapshot.clone(),
            created: self.created,
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            dedup_key: DedupKeyHex(String::from_utf8_lossy(dedup.expose()).into_owned()),
            policy: self.policy.text.clone(),
            artifacts: read.notes.clone(),
            findings: findings.to_vec(),
        };
        let plaintext = notes.encode().map_err(|source| Error::Notes { snapshot: self.snapshot.clone(), source })?;
        Ok(self.state.epoch.seal(plaintext.expose())?)
    }
}
