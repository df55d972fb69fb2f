//! Vaults in further kinds of store, each behind a cargo feature of its own and none in the released program. What they
//! share with a bucket is all but their address and their credentials, which stand here. They are built, not tried:
//! no such store is at hand for the tests, so the first `init` of one says what it does.

#[cfg(any(feature = "azblob", feature = "gcs", feature = "webdav"))]
use super::credentials;
use super::error::VaultError;
use crate::base::ids::VaultName;
use crate::policy::ServiceUrl;
use opendal::Operator;
use std::path::Path;

/// An operator for a store of such a kind. Touches no network. Always with a credentials file: the services' own ways
/// to find credentials start programs and ask the network.
#[cfg_attr(
    not(any(feature = "azblob", feature = "gcs", feature = "webdav")),
    expect(unused_variables, reason = "without a feature there is nothing to open")
)]
pub(super) fn operator(
    vault: &VaultName,
    url: &ServiceUrl,
    credentials_file: Option<&Path>,
) -> Result<Operator, VaultError> {
    // Sets the process's HTTP client up; the first call counts.
    opendal::install_default();
    #[cfg(any(feature = "azblob", feature = "gcs", feature = "webdav"))]
    let refused = |source| VaultError::Credentials { vault: vault.clone(), source: Box::new(source) };
    #[cfg(any(feature = "azblob", feature = "gcs", feature = "webdav"))]
    let set_up = |source| VaultError::SetUp { vault: vault.clone(), source: Box::new(source) };
    match url.service {
        #[cfg(feature = "azblob")]
        crate::policy::Service::Azblob => {
            Operator::new(azblob::builder(url, credentials_file).map_err(refused)?).map_err(set_up)
        }
        #[cfg(feature = "gcs")]
        crate::policy::Service::Gcs => {
            Operator::new(gcs::builder(url, credentials_file).map_err(refused)?).map_err(set_up)
        }
        #[cfg(feature = "webdav")]
        crate::policy::Service::Webdav => {
            Operator::new(webdav::builder(url, credentials_file).map_err(refused)?).map_err(set_up)
        }
        #[cfg(not(all(feature = "azblob", feature = "gcs", feature = "webdav")))]
        service => Err(VaultError::NotBuilt { vault: vault.clone(), feature: service.as_str() }),
    }
}

#[cfg(any(feature = "azblob", feature = "gcs", feature = "webdav"))]
fn named<'p>(file: Option<&'p Path>, keys: &'static str) -> Result<&'p Path, credentials::CredentialsError> {
    file.ok_or(credentials::CredentialsError::NotNamed { keys })
}

#[cfg(feature = "azblob")]
mod azblob {
    use super::super::credentials::{CredentialsError, malformed, read};
    use super::{Path, ServiceUrl, named};
    use opendal::services::Azblob;
    use serde::Deserialize;
    use zeroize::{Zeroize, ZeroizeOnDrop};

    const KEYS: &str = "account_name and account_key, or sas_token";

    #[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
    #[serde(deny_unknown_fields)]
    struct Credentials {
        account_name: Option<String>,
        account_key: Option<String>,
        sas_token: Option<String>,
    }

    pub(super) fn builder(url: &ServiceUrl, file: Option<&Path>) -> Result<Azblob, CredentialsError> {
        let file = named(file, KEYS)?;
        let credentials: Credentials = read(file, KEYS)?;
        let builder = Azblob::default().container(&url.place).root(&format!("/{}", url.prefix));
        let builder = builder.endpoint(url.endpoint.as_deref().unwrap_or_default());
        match (&credentials.account_name, &credentials.account_key, &credentials.sas_token) {
            // OpenDAL's own message would quote the first character that is not base64.
            (Some(name), Some(key), None) if is_base64(key) => Ok(builder.account_name(name).account_key(key)),
            (None, None, Some(token)) => Ok(builder.sas_token(token)),
            _ => Err(malformed(file, KEYS, None)),
        }
    }

    fn is_base64(text: &str) -> bool {
        let is_digit = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
        text.len().is_multiple_of(4) && !text.is_empty() && text.trim_end_matches('=').bytes().all(is_digit)
    }
}

#[cfg(feature = "gcs")]
mod gcs {
    use super::super::credentials::{CredentialsError, read};
    use super::{Path, ServiceUrl, named};
    use crate::base::fsio;
    use crate::base::limits::SMALL_OBJECT_BYTES_MAX;
    use opendal::services::Gcs;
    use serde::Deserialize;
    use std::path::PathBuf;

    const KEYS: &str = "service_account_file, the path of the service account's JSON key";

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Credentials {
        service_account_file: PathBuf,
    }

    pub(super) fn builder(url: &ServiceUrl, file: Option<&Path>) -> Result<Gcs, CredentialsError> {
        let credentials: Credentials = read(named(file, KEYS)?, KEYS)?;
        // Only to refuse a key that others can read.
        fsio::read_private(&credentials.service_account_file, SMALL_OBJECT_BYTES_MAX)?;
        let builder = Gcs::default()
            .bucket(&url.place)
            .root(&format!("/{}", url.prefix))
            .disable_vm_metadata()
            .disable_config_load()
            .credential_path(&credentials.service_account_file.to_string_lossy());
        Ok(match &url.endpoint {
            Some(endpoint) => builder.endpoint(endpoint),
            None => builder,
        })
    }
}

#[cfg(feature = "webdav")]
mod webdav {
    use super::super::credentials::{CredentialsError, malformed, read};
    use super::{Path, ServiceUrl, named};
    use opendal::services::Webdav;
    use serde::Deserialize;
    use zeroize::{Zeroize, ZeroizeOnDrop};

    const KEYS: &str = "username and password, or token";

    #[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
    #[serde(deny_unknown_fields)]
    struct Credentials {
        username: Option<String>,
        password: Option<String>,
        token: Option<String>,
    }

    pub(super) fn builder(url: &ServiceUrl, file: Option<&Path>) -> Result<Webdav, CredentialsError> {
        let file = named(file, KEYS)?;
        let credentials: Credentials = read(file, KEYS)?;
        let builder = Webdav::default().endpoint(&format!("https://{}", url.place)).root(&format!("/{}", url.prefix));
        match (&credentials.username, &credentials.password, &credentials.token) {
            (Some(username), Some(password), None) => Ok(builder.username(username).password(password)),
            (None, None, Some(token)) => Ok(builder.token(token)),
            _ => Err(malformed(file, KEYS, None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Service;

    fn url(service: Service) -> ServiceUrl {
        let endpoint = (service == Service::Azblob).then(|| "https://shop.blob.core.windows.net".to_owned());
        ServiceUrl { service, place: "backups".to_owned(), prefix: "a/b".to_owned(), endpoint }
    }

    /// What the operator is, or the error as text, for a credentials file of this content.
    fn open(service: Service, content: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.json");
        crate::base::fsio::create_durably(&key, b"{}", 0o600).unwrap();
        let file = folder.path().join("credentials");
        let content = content.replace("KEY", &key.display().to_string());
        crate::base::fsio::create_durably(&file, content.as_bytes(), 0o600).unwrap();
        let vault = "offsite".parse().unwrap();
        match operator(&vault, &url(service), Some(&file)) {
            Ok(operator) => Ok(format!("{} {}", operator.info().scheme(), operator.info().root())),
            Err(error) => {
                assert!(!format!("{error:?} {error} {:?}", error.hint()).contains("hush"), "{error:?}");
                Err(format!("{}: {}", error, error.hint().unwrap()))
            }
        }
    }

    #[test]
    fn a_service_opens_where_it_was_built_and_names_the_feature_where_not() {
        for (service, good, bad) in [
            (Service::Azblob, "account_name = \"shop\"\naccount_key = \"aHVzaA==\"\n", "account_key = \"hush!\"\n"),
            (Service::Azblob, "sas_token = \"sv=hush\"\n", "account_name = \"shop\"\naccount_key = \"hush!\"\n"),
            (Service::Gcs, "service_account_file = \"KEY\"\n", "service_account = \"hush\"\n"),
            (Service::Webdav, "username = \"shop\"\npassword = \"hush\"\n", "username = \"hush\"\n"),
            (Service::Webdav, "token = \"hush\"\n", "token = \"hush\"\npassword = \"hush\"\n"),
        ] {
            if service.is_built() {
                assert_eq!(open(service, good).unwrap(), format!("{} /a/b/", service.as_str()));
                assert!(open(service, bad).unwrap_err().contains("mode 0600"));
                let vault = "offsite".parse().unwrap();
                assert!(operator(&vault, &url(service), None).is_err(), "nothing is looked for elsewhere");
            } else {
                let said = open(service, good).unwrap_err();
                assert!(said.contains(&format!("--features {}", service.as_str())), "{said}");
            }
        }
    }
}
