//! What holds between values, and between the policy and the files beside it.

use super::*;
use std::os::unix::fs::PermissionsExt;

#[test]
fn names_are_unique_and_plain() {
    refuses(
        "name = \"etc\"",
        "name = \"cln\"",
        "p.toml, line 14: [[source]] name: this name stands there twice",
        "of its own",
    );
    refuses(
        "name = \"etc\"",
        "name = \"e/c\"",
        "p.toml, line 14: [[source]] name: \"e/c\" is not a valid source name",
        "letters",
    );
    refuses("node = \"n1\"", "node = \"\"", "p.toml, line 1: node: \"\" is not a valid node name", "letters");
    let second = "url = \"fs:///srv/vault\"\n[[vault]]\nname = \"local\"\nurl = \"fs:///srv/vault/\"";
    refuses(
        "url = \"fs:///srv/vault\"",
        second,
        "p.toml, line 8: [[vault]] name: this name stands there twice\n\
         p.toml, line 9: [[vault]] url: this place stands there twice",
        "line 9: two vaults in one place are one copy",
    );
}

#[test]
fn copies_cannot_exceed_the_vaults_that_count() {
    let what = |copies, counting, all| {
        format!(
            "p.toml, line 8: [backup] copies_required: asks for {copies} copies, but only {counting} of {all} vaults count \
             (written by backup; only the offsite ones where any is marked offsite)"
        )
    };
    refuses("copies_required = 1", "copies_required = 2", &what(2, 1, 1), "use 1 or less");
    refuses(
        "copies_required = 1",
        "copies_required = 0",
        "p.toml, line 8: [backup] copies_required: is 0: a run that stored nothing would count",
        "1 or more",
    );
    refuses(
        "url = \"fs:///srv/vault\"",
        "url = \"fs:///srv/vault\"\nvia = \"sync\"",
        "p.toml, line 1: [[vault]] via: every vault is written by sync, so backup would write nowhere",
        "",
    );
    let offsite = good().replace(
        "[backup]\ncopies_required = 1",
        "[[vault]]\nname = \"o\"\nurl = \"s3://b/p\"\noffsite = true\n[backup]\ncopies_required = 2",
    );
    let error = read(&offsite).unwrap_err();
    assert!(error.to_string().contains("only 1 of 2 vaults count"), "{error}");
}

#[test]
fn a_source_may_not_hold_its_own_vault() {
    refuses(
        "/etc/medusa",
        "/srv",
        "p.toml, line 1: [[source]] paths: \"/srv\" of the source etc holds the vault local itself",
        "add \"/srv/vault\" to its exclude list",
    );
    read(&good().replace("[\"/etc/medusa\"]", "[\"/srv\"]\nexclude = [\"/srv/vault\"]")).unwrap();
    let other = good().replace("[\"/etc/medusa\"]", "[\"/srv\"]\nexclude = [\"/srv/cache\"]");
    assert!(read(&other).unwrap_err().to_string().contains("holds the vault local itself"));
}

#[test]
fn retention_that_keeps_nothing_is_refused() {
    refuses(
        "keep_last = 7",
        "keep_last = 0\nkeep_daily = 0\nkeep_weekly = 0\nkeep_monthly = 0\nkeep_yearly = 0",
        "p.toml, line 1: [retention]: nothing would be kept: every keep_ number is 0",
        "keep_last to 1",
    );
}

#[test]
fn a_file_that_others_can_change_is_refused_with_its_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    std::fs::write(&path, good()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(load(&path).unwrap_err().hint().unwrap(), format!("chmod 0644 {}", path.display()));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(load(&path).unwrap().node.as_str(), "n1");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert_eq!(load(&path).unwrap_err().to_string(), format!("{} is not UTF-8 text", path.display()));
    std::fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert!(matches!(load(&path), Err(PolicyError::File(crate::base::fsio::FileError::TooLarge { .. }))));
}

#[test]
fn the_recipients_file_is_read_and_guarded_like_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let (path, list) = (folder.path().join("policy.toml"), folder.path().join("recipients.txt"));
    let line = format!("recipients_file = {:?}", list.display().to_string());
    std::fs::write(&path, good().replace(&format!("recipients = [\"{RECIPIENT}\"]"), &line)).unwrap();
    let set = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    set(&path, 0o644);
    std::fs::write(&list, format!("# the owner's\n\n{RECIPIENT}\n{OTHER}")).unwrap();
    set(&list, 0o664);
    assert_eq!(load(&path).unwrap_err().hint().unwrap(), format!("chmod 0644 {}", list.display()));
    set(&list, 0o600);
    let policy = load(&path).unwrap();
    assert_eq!(policy.keys.recipients, [RECIPIENT, OTHER]);
    assert_eq!(show(&parse(&path, &show(&policy)).unwrap()).lines().count() + 1, show(&policy).lines().count());
    std::fs::write(&list, "# nobody\nage1oops\n").unwrap();
    let error = load(&path).unwrap_err();
    let expected = format!("{}, line 2: the recipient is damaged: its checksum does not fit", list.display());
    assert_eq!(error.to_string(), expected);
    std::fs::write(&list, "# nobody\n").unwrap();
    assert_eq!(load(&path).unwrap_err().to_string(), format!("{}, line 1: no recipient stands in it", list.display()));
}
