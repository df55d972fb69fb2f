//! Which database schema a release of lightningd knows: it refuses a database that a newer one has written.

/// Releases, each as year and month, and the newest schema each knows (`wallet/migrations.c`: the last index). The tree
/// on the way from 26.06 to 26.09 had 286 already.
const SCHEMAS: [((u32, u32), i64); 5] =
    [((25, 9), 276), ((25, 12), 280), ((26, 4), 282), ((26, 6), 282), ((26, 9), 286)];

/// The newest schema that surely is known to the release that `lightningd --version` names, such as `v25.12.1`. A
/// release between two of the list knows at least what the earlier one does. `None` for one that is older than the
/// list, or for a text that is no release's.
pub fn newest_schema(version: &str) -> Option<i64> {
    let version = version.trim();
    let numbers = version.strip_prefix('v').unwrap_or(version);
    let mut parts = numbers.split(|letter: char| !letter.is_ascii_digit());
    let release = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    SCHEMAS.iter().rev().find(|(known, _)| *known <= release).map(|(_, schema)| *schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_knows_at_least_what_the_one_before_it_did() {
        for (version, schema) in [
            ("v25.09", Some(276)),
            ("v25.09.3\n", Some(276)),
            ("25.12-modded", Some(280)),
            ("v26.04rc1", Some(282)),
            ("v26.05-12-gabcdef", Some(282)),
            ("v26.06", Some(282)),
            ("v26.09", Some(286)),
            ("v27.02", Some(286)),
            ("v24.11", None),
            ("lightningd", None),
            ("", None),
        ] {
            assert_eq!(newest_schema(version), schema, "{version:?}");
        }
    }
}
