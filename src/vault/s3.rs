//! A vault in an S3 bucket: where it is, and with whose credentials. How it is read and written is the same as for any
//! other object store.

use super::credentials;
use super::error::VaultError;
use super::transport;
use crate::base::ids::VaultName;
use opendal::Operator;
use opendal::services::S3;
use serde::Deserialize;
use std::path::Path;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The region where none is named: S3's own default, which stores that know no regions accept.
const REGION_DEFAULT: &str = "us-east-1";

/// What stands in the credentials file.
const KEYS: &str = "access_key_id and secret_access_key";

/// Where a bucket is.
pub(super) struct Bucket<'a> {
    pub(super) bucket: &'a str,
    pub(super) prefix: &'a str,
    pub(super) endpoint: Option<&'a str>,
    pub(super) region: Option<&'a str>,
}

/// What a credentials file says.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Credentials {
    access_key_id: String,
    secret_access_key: String,
    #[serde(default)]
    session_token: Option<String>,
}

/// An operator for the bucket. Touches no network. Without a credentials file the AWS variables and files are used.
pub(super) fn operator(
    vault: &VaultName,
    place: &Bucket<'_>,
    credentials_file: Option<&Path>,
) -> Result<Operator, VaultError> {
    // Sets the process's HTTP client up; the first call counts.
    opendal::install_default();
    let mut builder = S3::default()
        .bucket(place.bucket)
        .root(&format!("/{}", place.prefix))
        .region(place.region.unwrap_or(REGION_DEFAULT))
        .disable_ec2_metadata();
    if let Some(endpoint) = place.endpoint {
        builder = builder.endpoint(endpoint);
    }
    if let Some(file) = credentials_file {
        let credentials = credentials::read::<Credentials>(file, KEYS)
            .map_err(|source| VaultError::Credentials { vault: vault.clone(), source: Box::new(source) })?;
        builder = builder
            .disable_config_load()
            .access_key_id(&credentials.access_key_id)
            .secret_access_key(&credentials.secret_access_key);
        if let Some(token) = &credentials.session_token {
            builder = builder.session_token(token);
        }
    }
    let operator = Operator::new(builder)
        .map_err(|source| VaultError::SetUp { vault: vault.clone(), source: Box::new(source) })?;
    Ok(operator.with_context(transport::checked()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const PLACE: Bucket<'_> =
        Bucket { bucket: "b", prefix: "p/q", endpoint: Some("http://127.0.0.1:1"), region: Some("garage") };

    #[test]
    fn credentials_are_read_privately_and_never_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("offsite");
        let vault: VaultName = "offsite".parse().unwrap();
        let write = |text: &str, mode| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("access_key_id = \"GKhush\"\nsecret_access_key = \"hush\"\n", 0o600);
        assert!(operator(&vault, &PLACE, Some(&file)).is_ok());
        write("access_key_id = \"GKhush\"\nsecret_access_key = \"hush\"\n", 0o644);
        let error = operator(&vault, &PLACE, Some(&file)).unwrap_err();
        assert!(error.hint().unwrap().contains("chmod 0600"), "{error:?}");
        for text in
            ["access_key_id = \"GKhush\"\n", "hush", "access_key_id = \"a\"\nsecret_access_key = \"hush\"\nx = 1\n"]
        {
            write(text, 0o600);
            let error = operator(&vault, &PLACE, Some(&file)).unwrap_err();
            assert!(!format!("{error:?} {error}").contains("hush"), "{error:?}");
        }
        assert!(operator(&vault, &PLACE, Some(&folder.path().join("none"))).is_err());
    }
}
