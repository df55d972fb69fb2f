//! The manifest's canonical text: written by hand so that its shape never depends on a library, read by serde and
//! then written again: what differs is refused.

use super::{Artifact, FORMAT, Manifest};
use crate::base::limits::{ARTIFACTS_MAX, MANIFEST_BYTES_MAX, OBJECT_BYTES_MAX, SEGMENTS_MAX};
use std::collections::HashSet;
use std::fmt::Write;

/// Why bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the right shape.
    #[error("it is not a manifest")]
    Malformed(#[source] serde_json::Error),
    /// Of a format this program does not know.
    #[error("it has format {found}, and this program reads format {FORMAT}")]
    Format {
        /// The format it names.
        found: u64,
    },
    /// Not in the canonical form: two readers could understand it differently.
    #[error("it is not in canonical form")]
    NotCanonical,
    /// Larger than a manifest may be, or contradicting itself.
    #[error("it breaks a rule of the format: {0}")]
    Rule(&'static str),
}

impl ManifestError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Format { .. } => Some("a newer relay-backup wrote it; use that version or a newer one".into()),
            _ => None,
        }
    }
}

/// The canonical text.
pub fn encode(manifest: &Manifest) -> String {
    let mut out = String::with_capacity(4096 + 230 * manifest.segments().count());
    let m = manifest;
    let mut line = |key: &str, value: String| {
        let opening = if key == "format" { "{" } else { "" };
        push(&mut out, format_args!("{opening}{}: {value},\n", quote(key)));
    };
    line("format", m.format.to_string());
    line("program", quote(&m.program));
    line("node", quote(m.node.as_str()));
    line("instance", quote(m.instance.as_str()));
    line("snapshot", quote(m.snapshot.as_str()));
    line("sequence", m.sequence.to_string());
    line("created", quote(&m.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
    line("trigger", quote(&m.trigger));
    line("complete", m.complete.to_string());
    line(
        "previous",
        m.previous.as_ref().map_or("null".into(), |previous| {
            object(&[("snapshot", quote(previous.snapshot.as_str())), ("sha256", quote(previous.sha256.as_str()))])
        }),
    );
    line(
        "vaults",
        list(m.vaults.iter().map(|vault| {
            let head = vault.head.as_ref().map_or("null".into(), |head| quote(head.as_str()));
            object(&[("vault", quote(vault.vault.as_str())), ("head", head)])
        })),
    );
    line("epoch", quote(m.epoch.as_str()));
    for (key, file) in [("epoch_key", &m.epoch_key), ("notes", &m.notes)] {
        line(key, object(&[("sha256", quote(file.sha256.as_str())), ("length", file.length.to_string())]));
    }
    line("recipients", list(m.recipients.iter().map(|recipient| quote(recipient))));
    line(
        "attested",
        list(m.attested.iter().map(|attested| {
            object(&[
                ("source", quote(attested.source.as_str())),
                ("salt", quote(&attested.salt)),
                ("sha256", quote(attested.sha256.as_str())),
            ])
        })),
    );
    line(
        "sources",
        list(m.sources.iter().map(|source| {
            object(&[
                ("name", quote(source.name.as_str())),
                ("kind", quote(&source.kind)),
                ("ok", source.ok.to_string()),
            ])
        })),
    );
    push(&mut out, format_args!("\"artifacts\": [\n"));
    for (index, artifact) in m.artifacts.iter().enumerate() {
        encode_artifact(&mut out, artifact);
        out.push_str(if index + 1 < m.artifacts.len() { ",\n" } else { "\n" });
    }
    out.push_str("]}\n");
    out
}

fn encode_artifact(out: &mut String, artifact: &Artifact) {
    push(
        out,
        format_args!(
            "{{\"name\": {}, \"kind\": {}, \"codec\": {}, \"toxic\": {}, \"length\": {}, \"segments\": [\n",
            quote(artifact.name.as_str()),
            serde_json::json!(artifact.kind),
            quote(artifact.codec.as_str()),
            artifact.toxic,
            artifact.length,
        ),
    );
    for (index, segment) in artifact.segments.iter().enumerate() {
        push(
            out,
            format_args!(
                "{{\"id\": \"{}\", \"object\": \"{}\", \"length\": {}}}{}\n",
                segment.id,
                segment.object,
                segment.length,
                if index + 1 < artifact.segments.len() { "," } else { "" },
            ),
        );
    }
    out.push_str("]}");
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    if out.write_fmt(text).is_err() {
        unreachable!("a String takes everything");
    }
}

fn quote(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{}: {value}", quote(key))).collect();
    format!("{{{}}}", fields.join(", "))
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "[]".into() } else { format!("[\n{}\n]", items.join(",\n")) }
}

#[derive(serde::Deserialize)]
struct FormatOnly {
    format: u64,
}

/// Reads a manifest. Its signature and place are for the caller to check.
pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(ManifestError::Rule("it is larger than a manifest may be"));
    }
    let format: FormatOnly = serde_json::from_slice(bytes).map_err(ManifestError::Malformed)?;
    if format.format != FORMAT {
        return Err(ManifestError::Format { found: format.format });
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(ManifestError::Malformed)?;
    check_rules(&manifest)?;
    if encode(&manifest).as_bytes() != bytes {
        return Err(ManifestError::NotCanonical);
    }
    Ok(manifest)
}

fn check_rules(manifest: &Manifest) -> Result<(), ManifestError> {
    let rule = |broken: bool, what| if broken { Err(ManifestError::Rule(what)) } else { Ok(()) };
    rule(manifest.artifacts.len() > ARTIFACTS_MAX, "it names too many artifacts")?;
    rule(manifest.snapshot.sequence() != manifest.sequence, "its sequence is not its snapshot's")?;
    let plain = |text: &str| {
        !text.is_empty() && text.len() <= 100 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b" ._-".contains(&b))
    };
    rule(!plain(&manifest.program) || !plain(&manifest.trigger), "program or trigger is not a plain word")?;
    rule(manifest.recipients.is_empty(), "it names no recipient")?;
    rule(
        !manifest
            .recipients
            .iter()
            .chain(manifest.attested.iter().map(|a| &a.salt))
            .all(|text| text.len() <= 128 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())),
        "a fingerprint or salt is not hexadecimal",
    )?;
    let mut names = HashSet::new();
    for artifact in &manifest.artifacts {
        rule(!names.insert(&artifact.name), "two artifacts have one name")?;
        rule(artifact.segments.len() > SEGMENTS_MAX, "an artifact has too many segments")?;
        rule(artifact.segments.is_empty() != (artifact.length == 0), "an artifact has segments or a length, not both")?;
        let fits = artifact.segments.iter().all(|segment| segment.length as usize <= OBJECT_BYTES_MAX);
        rule(!fits, "an object is longer than a sealed segment can be")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use proptest::prelude::*;

    fn hex(digits: usize) -> impl Strategy<Value = String> {
        proptest::string::string_regex(&format!("[0-9a-f]{{{digits}}}")).unwrap()
    }

    fn segment() -> impl Strategy<Value = Segment> {
        (hex(64), hex(64), 1..OBJECT_BYTES_MAX as u64).prop_map(|(id, object, length)| Segment {
            id: id.parse().unwrap(),
            object: object.parse().unwrap(),
            length,
        })
    }

    fn artifact(index: usize) -> impl Strategy<Value = Artifact> {
        let kinds = prop_oneof![
            Just(ArtifactKind::HsmSecret),
            Just(ArtifactKind::ClnWallet),
            Just(ArtifactKind::PostgresDump),
            Just(ArtifactKind::Tar)
        ];
        let codecs = prop_oneof![Just(Codec::None), Just(Codec::Gzip), Just(Codec::Zstd)];
        (kinds, codecs, any::<bool>(), 1u64..1 << 50, proptest::collection::vec(segment(), 0..5)).prop_map(
            move |(kind, codec, toxic, length, segments)| Artifact {
                name: format!("source/artifact-{index}").parse().unwrap(),
                kind,
                codec,
                toxic,
                length: if segments.is_empty() { 0 } else { length },
                segments,
            },
        )
    }

    prop_compose! {
        fn manifest()(
            sequence in 1u64..2_000_000,
            second in 0i64..4_000_000_000,
            complete in any::<bool>(),
            chained in any::<bool>(),
            (hash, id, salt) in (hex(64), hex(32), hex(32)),
            artifacts in (artifact(0), artifact(1), artifact(2)),
            count in 0usize..4,
        ) -> Manifest {
            let created = Timestamp::from_second(second).unwrap();
            let snapshot = SnapshotId::new(created, sequence);
            let mut artifacts = vec![artifacts.0, artifacts.1, artifacts.2];
            artifacts.truncate(count);
            Manifest {
                format: FORMAT,
                program: "relay-backup 0.1.0".into(),
                node: "shops-btc-01".parse().unwrap(),
                instance: id.parse().unwrap(),
                snapshot: snapshot.clone(),
                sequence,
                created,
                trigger: "pre-update".into(),
                complete,
                previous: chained.then(|| Previous { snapshot: snapshot.clone(), sha256: hash.parse().unwrap() }),
                vaults: vec![
                    VaultHead { vault: id.parse().unwrap(), head: chained.then_some(snapshot) },
                    VaultHead { vault: salt.parse().unwrap(), head: None },
                ],
                epoch: "20261120-9f86d081".parse().unwrap(),
                epoch_key: FileDigest { sha256: hash.parse().unwrap(), length: 400 },
                notes: FileDigest { sha256: hash.parse().unwrap(), length: 4000 },
                recipients: vec![salt.clone()],
                attested: if chained { vec![Attested { source: "cln".parse().unwrap(), salt, sha256: hash.parse().unwrap() }] } else { vec![] },
                sources: vec![SourceOutcome { name: "cln".parse().unwrap(), kind: "cln".into(), ok: complete }],
                artifacts,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(manifest in manifest()) {
            let text = encode(&manifest);
            prop_assert_eq!(decode(text.as_bytes()).unwrap(), manifest);
        }

        #[test]
        fn any_other_spelling_is_refused(
            manifest in manifest(),
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = encode(&manifest).into_bytes();
            let place = place.index(bytes.len());
            prop_assume!(bytes[place] != byte);
            bytes[place] = byte;
            if let Ok(read) = decode(&bytes) {
                prop_assert_ne!(read, manifest);
            }
        }

        #[test]
        fn nonsense_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }

    fn sample() -> Manifest {
        use proptest::strategy::ValueTree;
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut sample = manifest().new_tree(&mut runner).unwrap().current();
        sample.artifacts.clear();
        sample
    }

    #[test]
    fn an_unknown_format_is_named_before_anything_else() {
        let error = decode(b"{\"format\": 2, \"new\": true}").unwrap_err();
        assert_eq!(error.to_string(), "it has format 2, and this program reads format 1");
        assert!(error.hint().unwrap().contains("newer"));
    }

    #[test]
    fn white_space_and_unknown_keys_are_refused() {
        let text = encode(&sample());
        assert!(matches!(decode(text.replacen(": ", ":  ", 1).as_bytes()), Err(ManifestError::NotCanonical)));
        let extra = text.replacen("\"program\"", "\"extra\": 1,\n\"program\"", 1);
        assert!(matches!(decode(extra.as_bytes()), Err(ManifestError::Malformed(_))));
        let twice = text.replacen("\"complete\"", "\"complete\": true,\n\"complete\"", 1);
        assert!(decode(twice.as_bytes()).is_err());
    }

    #[test]
    fn a_contradiction_is_refused() {
        let mut wrong = sample();
        wrong.sequence += 1;
        assert!(matches!(decode(encode(&wrong).as_bytes()), Err(ManifestError::Rule(_))));
    }
}
