//! Claims and revocations in real folder vaults, and what two sides at work at once see of each other.

use super::*;
use crate::manifest::FileDigest;
use crate::policy::VaultUrl;

fn vaults(folder: &std::path::Path) -> Vec<Vault> {
    let open = |name: &str| {
        let vault = Vault::open_url(name.parse().unwrap(), &VaultUrl::Fs(folder.join(name)), None).unwrap();
        vault.create(&format!("{:032x}", name.len()).parse().unwrap(), Timestamp::UNIX_EPOCH).unwrap();
        vault
    };
    vec![open("a"), open("bb")]
}

fn node() -> NodeName {
    "shops-btc-01".parse().unwrap()
}

fn snapshot() -> SnapshotId {
    "20261120T051200Z-000042".parse().unwrap()
}

fn writer(digit: u8, who: &str) -> Writer<'_> {
    Writer { random: [digit; 16], who, at: Timestamp::UNIX_EPOCH }
}

fn manifest(trigger: &str, complete: bool) -> Manifest {
    let digest = crate::base::ids::Sha256Hex::of(b"");
    Manifest {
        format: crate::manifest::FORMAT,
        program: "relay-backup".to_owned(),
        node: node(),
        instance: "0".repeat(32).parse().unwrap(),
        snapshot: snapshot(),
        sequence: 42,
        created: Timestamp::UNIX_EPOCH,
        trigger: trigger.to_owned(),
        complete,
        previous: None,
        vaults: Vec::new(),
        epoch: "20261120-9f86d081".parse().unwrap(),
        epoch_key: FileDigest { sha256: digest.clone(), length: 1 },
        notes: FileDigest { sha256: digest, length: 1 },
        recipients: Vec::new(),
        attested: Vec::new(),
        sources: Vec::new(),
        artifacts: Vec::new(),
    }
}

#[test]
fn a_claim_is_ours_alone_until_somebody_else_claims_and_can_be_taken_again() {
    let folder = tempfile::tempdir().unwrap();
    let vaults = vaults(folder.path());
    let (node, snapshot) = (node(), snapshot());
    let alone = Claim::OursAlone { snapshot: snapshot.clone() };
    for _ in 0..2 {
        assert_eq!(take(&vaults, &node, &snapshot, &writer(1, "new-host"), &[]).unwrap(), alone);
    }
    let found = look(&vaults, &node, &snapshot).unwrap();
    assert_eq!(found.claims.len(), 1);
    assert_eq!(found.claims.values().next().unwrap().vaults.len(), 2, "in every vault");
    let Claim::Others { who } = take(&vaults, &node, &snapshot, &writer(2, "a\nthief"), &[]).unwrap() else { panic!() };
    let key = |random| ObjectKey::claim(&node, &snapshot, [random; 16]);
    assert_eq!(who, [format!("new-host, at 1970-01-01T00:00:00Z ({})", key(1))]);
    let Claim::Others { who } = take(&vaults, &node, &snapshot, &writer(1, "new-host"), &[]).unwrap() else { panic!() };
    assert_eq!(who, [format!("a\\nthief, at 1970-01-01T00:00:00Z ({})", key(2))], "made fit to be printed");
    let other: SnapshotId = "20261120T051300Z-000043".parse().unwrap();
    assert!(matches!(take(&vaults, &node, &other, &writer(1, "new-host"), &[]).unwrap(), Claim::OursAlone { .. }));
}

#[test]
fn a_claim_in_one_vault_alone_counts_whatever_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let vaults = vaults(folder.path());
    let (node, snapshot) = (node(), snapshot());
    vaults[1].put(&ObjectKey::claim(&node, &snapshot, [7; 16]), b"no json").unwrap();
    let odd: ObjectKey = "nodes/shops-btc-01/claims/20261120T051200Z-000042/odd".parse().unwrap();
    vaults[0].put(&odd, b"").unwrap();
    let Claim::Others { who } = take(&vaults, &node, &snapshot, &writer(1, "us"), &[]).unwrap() else { panic!() };
    let said = |key: ObjectKey| format!("somebody who does not say who ({key})");
    assert_eq!(who, [said(ObjectKey::claim(&node, &snapshot, [7; 16])), said(odd)]);
}

#[test]
fn a_vault_that_fails_leaves_nobody_a_claim() {
    let folder = tempfile::tempdir().unwrap();
    let vaults = vaults(folder.path());
    std::fs::remove_dir_all(folder.path().join("bb")).unwrap();
    let error = take(&vaults, &node(), &snapshot(), &writer(1, "us"), &[]).unwrap_err();
    assert!(matches!(error, ClaimError::Vault(_)), "{error}");
    assert!(matches!(take(&[], &node(), &snapshot(), &writer(1, "us"), &[]), Err(ClaimError::NoVault { .. })));
}

#[test]
fn only_a_complete_snapshot_of_the_final_trigger_that_nobody_took_back_is_final() {
    let folder = tempfile::tempdir().unwrap();
    let vaults = vaults(folder.path());
    let (node, snapshot) = (node(), snapshot());
    let ask = |trigger, complete| finality(&vaults, &manifest(trigger, complete)).unwrap();
    assert_eq!(ask("final", true), Finality::Final);
    assert_eq!(ask("final", false), Finality::Ordinary);
    assert_eq!(ask("manual", true), Finality::Ordinary);
    take(&vaults, &node, &snapshot, &writer(1, "us"), &[]).unwrap();
    assert_eq!(ask("final", true), Finality::Final, "a claim takes nothing back");
    // In one vault alone: the run that took it back may have been cut off.
    revoke(&vaults[1], &node, &snapshot, &writer(2, "old-host")).unwrap();
    revoke(&vaults[1], &node, &snapshot, &writer(2, "old-host")).unwrap();
    assert_eq!(look(&vaults, &node, &snapshot).unwrap().revocations.len(), 1);
    assert_eq!(ask("final", true), Finality::Revoked);
    assert_eq!(finality(&vaults[..1], &manifest("final", true)).unwrap(), Finality::Final);
    assert!(finality(&[], &manifest("final", true)).is_err());
}

#[test]
fn of_two_sides_at_work_at_once_never_do_both_go_on() {
    // Every order of the two sides' steps: each writes to both vaults and then looks at both.
    for order in 0..1_u32 << 8 {
        if order.count_ones() != 4 {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let vaults = vaults(folder.path());
        let (node, snapshot) = (node(), snapshot());
        let (mut mover, mut keeper) = ((0, true), (0, true));
        for bit in 0..8 {
            let (moves, (step, goes_on)) =
                if order >> bit & 1 == 1 { (true, &mut mover) } else { (false, &mut keeper) };
            let vault = &vaults[*step % 2];
            match (moves, *step < 2) {
                (true, true) => write(vault, &ObjectKey::claim(&node, &snapshot, [1; 16]), &writer(1, "new")).unwrap(),
                (false, true) => revoke(vault, &node, &snapshot, &writer(2, "old")).unwrap(),
                (true, false) => {
                    let marks = look(std::slice::from_ref(vault), &node, &snapshot).unwrap();
                    *goes_on &= marks.revocations.is_empty();
                }
                (false, false) => {
                    let marks = look(std::slice::from_ref(vault), &node, &snapshot).unwrap();
                    *goes_on &= marks.claims.is_empty();
                }
            }
            *step += 1;
        }
        assert!(!(mover.1 && keeper.1), "order {order:08b}");
    }
}

#[test]
fn of_two_copies_of_one_journal_the_first_that_goes_on_is_told_from_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let vaults = vaults(folder.path());
    let (node, snapshot) = (node(), snapshot());
    let [first, here, copy] = [1, 2, 3].map(|number| writer(number, "the same disk"));
    take(&vaults, &node, &snapshot, &first, &[]).unwrap();
    let alone = Claim::OursAlone { snapshot: snapshot.clone() };
    // Both know of the first run; here it goes on.
    assert_eq!(foresee(&vaults, &node, &snapshot, &[first.random]).unwrap(), alone);
    assert_eq!(take(&vaults, &node, &snapshot, &here, &[first.random]).unwrap(), alone);
    assert!(matches!(foresee(&vaults, &node, &snapshot, &[first.random]).unwrap(), Claim::Others { .. }));
    assert!(matches!(take(&vaults, &node, &snapshot, &copy, &[first.random]).unwrap(), Claim::Others { .. }));
    // A journal with lines cut out does not know its own claims.
    assert!(matches!(foresee(&vaults, &node, &snapshot, &[]).unwrap(), Claim::Others { .. }));
}

#[test]
fn a_claim_tells_a_machine_from_a_copy_of_it() {
    let told = this_machine();
    assert!(told.contains("(machine ") && told.contains(", started as "), "{told}");
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    assert!(id.trim().is_empty() || !told.contains(&id.trim()[..8]), "machine-id(5) asks that it is not told");
}
