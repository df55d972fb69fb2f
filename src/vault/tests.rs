//! Tests of the vault on a real folder and on OpenDAL's memory store.
use super::*;

fn name() -> VaultName {
    "test".parse().unwrap()
}

fn node() -> NodeName {
    "shops-btc-01".parse().unwrap()
}

fn id() -> VaultId {
    "00112233445566778899aabbccddeeff".parse().unwrap()
}

fn memory() -> Vault {
    Vault::from_operator(name(), opendal::Operator::new(opendal::services::Memory::default()).unwrap()).unwrap()
}

fn folder(root: &Path) -> Vault {
    Vault::open_url(name(), &VaultUrl::Fs(root.to_owned()), None).unwrap()
}

fn segment(content: &[u8]) -> ObjectKey {
    ObjectKey::segment(&node(), &crate::base::ids::Sha256Hex::of(content))
}

fn both(check: impl Fn(&Vault)) {
    let root = tempfile::tempdir().unwrap();
    let at = root.path().join("deep/vault");
    for vault in [memory(), folder(&at)] {
        assert!(vault.identify().unwrap().is_none());
        vault.create(&id(), Timestamp::UNIX_EPOCH).unwrap();
        check(&vault);
    }
}

#[test]
fn a_vault_is_created_once_and_known_again() {
    both(|vault| {
        assert_eq!(vault.identify().unwrap(), Some(VaultInfo { id: id(), created: Timestamp::UNIX_EPOCH }));
        let before = vault.get(&ObjectKey::vault_json(), 1000).unwrap();
        assert_eq!(
            String::from_utf8(before.clone()).unwrap(),
            "{\"format\":1,\"vault\":\"00112233445566778899aabbccddeeff\",\"created\":\"1970-01-01T00:00:00Z\"}\n"
        );
        let other = "ff112233445566778899aabbccddeeff".parse().unwrap();
        assert!(matches!(vault.create(&other, Timestamp::UNIX_EPOCH), Err(VaultError::Exists { .. })));
        assert_eq!(vault.get(&ObjectKey::vault_json(), 1000).unwrap(), before);
    });
}

#[test]
fn what_was_put_comes_back_and_is_listed_with_its_length() {
    both(|vault| {
        let contents: Vec<Vec<u8>> = (0..40_u32).map(|i| i.to_le_bytes().repeat(i as usize * 100)).collect();
        for content in &contents {
            vault.put(&segment(content), content).unwrap();
        }
        vault.settle().unwrap();
        let listing = vault.list(&Prefix::segments(&node())).unwrap();
        assert_eq!(listing.objects.len(), contents.len());
        assert!(listing.objects.is_sorted_by(|a, b| a.key < b.key));
        for content in &contents {
            let key = segment(content);
            let length = content.len() as u64;
            assert_eq!(&vault.get(&key, length).unwrap(), content);
            assert_eq!(vault.length(&key).unwrap(), Some(length));
            assert!(listing.objects.iter().any(|listed| listed.key == key && listed.length == length));
            if length > 0 {
                let error = vault.get(&key, length - 1).unwrap_err();
                assert!(matches!(error, VaultError::TooLarge { limit, .. } if limit == length - 1), "{error}");
            }
        }
        let mut parts = 0;
        for first in 0..=255 {
            parts += vault.list(&Prefix::segments_part(&node(), first)).unwrap().objects.len();
        }
        assert_eq!(parts, contents.len());
        assert_eq!(vault.nodes().unwrap(), [node()]);
        assert_eq!(vault.list(&Prefix::all()).unwrap().objects.len(), contents.len() + 1);
    });
}

#[test]
fn what_is_not_there_is_said_to_be_not_there() {
    both(|vault| {
        let key = segment(b"nothing");
        assert!(vault.get(&key, 10).unwrap_err().is_not_found());
        assert_eq!(vault.length(&key).unwrap(), None);
        assert_eq!(vault.list(&Prefix::node(&node())).unwrap(), Listing::default());
        assert!(vault.nodes().unwrap().is_empty());
        vault.remove(&key).unwrap();
    });
}
