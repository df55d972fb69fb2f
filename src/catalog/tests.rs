//! Tests of the catalog on real SQLite files, and against a model that is too simple to be wrong.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn segment(n: u32) -> SegmentId {
    format!("{n:064x}").parse().unwrap()
}

fn object(n: u32) -> Sha256Hex {
    Sha256Hex::of(&n.to_le_bytes())
}

fn vault(n: u8) -> VaultId {
    format!("{n:032x}").parse().unwrap()
}

fn moment(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn row(n: u64) -> SnapshotRow {
    SnapshotRow {
        id: SnapshotId::new(moment(n as i64 * 1000), n),
        manifest_sha256: Sha256Hex::of(format!("manifest {n}").as_bytes()),
        complete: n.is_multiple_of(2),
        created: moment(n as i64 * 1000),
        sequence: n,
    }
}

fn known_in(catalog: &Catalog, id: u32) -> Vec<VaultId> {
    catalog.known(&segment(id)).unwrap().map(|known| known.vaults).unwrap_or_default()
}

#[test]
fn what_is_noted_is_there_after_it_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sqlite3");
    let (catalog, opened) = Catalog::open(&path).unwrap();
    assert_eq!(opened, Opened::Created);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    catalog.record_sealed(&segment(1), &object(1), 77).unwrap();
    catalog.record_put(&vault(1), &object(1), moment(50)).unwrap();
    catalog.add_snapshot(&vault(2), &row(3), [(segment(2), object(2), 88)].into_iter()).unwrap();
    catalog.record_committed(&vault(2), &row(3).id, &row(3).manifest_sha256).unwrap();
    drop(catalog);

    let (catalog, opened) = Catalog::open(&path).unwrap();
    assert_eq!(opened, Opened::Existing);
    assert_eq!(catalog.known(&segment(1)).unwrap(), None, "no own put counts before the cut-off is set");
    catalog.set_own_put_cutoff(moment(50)).unwrap();
    let expected = Known { object: object(1), length: 77, vaults: vec![vault(1)] };
    assert_eq!(catalog.known(&segment(1)).unwrap(), Some(expected));
    let expected = Known { object: object(2), length: 88, vaults: vec![vault(2)] };
    assert_eq!(catalog.known(&segment(2)).unwrap(), Some(expected));
    assert_eq!(catalog.snapshots(&vault(2)).unwrap(), [row(3)]);
    assert_eq!(catalog.snapshots(&vault(1)).unwrap(), []);
    catalog.set_own_put_cutoff(moment(51)).unwrap();
    assert_eq!(catalog.known(&segment(1)).unwrap(), None, "a put before the cut-off does not count");
}

#[test]
fn a_sealed_segment_that_was_never_put_is_not_known() {
    let catalog = Catalog::in_memory().unwrap();
    catalog.set_own_put_cutoff(moment(0)).unwrap();
    catalog.record_sealed(&segment(1), &object(1), 1).unwrap();
    assert_eq!(catalog.known(&segment(1)).unwrap(), None);
    catalog.record_put(&vault(1), &object(2), moment(1)).unwrap();
    assert_eq!(catalog.known(&segment(1)).unwrap(), None, "another object was put");
}

#[test]
fn two_snapshots_may_name_one_segment() {
    let catalog = Catalog::in_memory().unwrap();
    let named = || [(segment(1), object(1), 1), (segment(1), object(1), 1), (segment(2), object(2), 2)].into_iter();
    catalog.add_snapshot(&vault(1), &row(1), named()).unwrap();
    catalog.add_snapshot(&vault(1), &row(2), named().take(2)).unwrap();
    catalog.add_snapshot(&vault(1), &row(2), named().take(2)).unwrap();
    catalog.remove_snapshot(&vault(1), &row(1).id).unwrap();
    assert_eq!(known_in(&catalog, 1), [vault(1)]);
    assert_eq!(known_in(&catalog, 2), []);
    catalog.remove_snapshot(&vault(1), &row(1).id).unwrap();
    assert_eq!(known_in(&catalog, 1), [vault(1)], "removing it twice changes nothing");
    catalog.remove_snapshot(&vault(1), &row(2).id).unwrap();
    assert_eq!(known_in(&catalog, 1), []);
}

#[test]
fn a_snapshot_with_another_manifest_replaces_the_one_noted() {
    let catalog = Catalog::in_memory().unwrap();
    catalog.add_snapshot(&vault(1), &row(1), [(segment(1), object(1), 1)].into_iter()).unwrap();
    let other = SnapshotRow { manifest_sha256: Sha256Hex::of(b"other"), ..row(1) };
    catalog.add_snapshot(&vault(1), &other, [(segment(2), object(2), 1)].into_iter()).unwrap();
    assert_eq!(catalog.snapshots(&vault(1)).unwrap(), [other]);
    assert_eq!((known_in(&catalog, 1), known_in(&catalog, 2)), (vec![], vec![vault(1)]));
}

#[test]
fn a_snapshot_is_noted_whole_or_not_at_all() {
    let catalog = Catalog::in_memory().unwrap();
    let named = [(segment(1), object(1), 1), (segment(2), object(2), u64::MAX)];
    assert!(catalog.add_snapshot(&vault(1), &row(1), named.into_iter()).is_err());
    assert_eq!(known_in(&catalog, 1), []);
    assert_eq!(catalog.snapshots(&vault(1)).unwrap(), []);
}

#[test]
fn of_two_sealings_the_one_in_most_vaults_is_used() {
    let catalog = Catalog::in_memory().unwrap();
    for (n, vault_n, object_n) in [(1, 1, 10), (2, 2, 11), (3, 3, 11), (4, 4, 12)] {
        catalog.add_snapshot(&vault(vault_n), &row(n), [(segment(1), object(object_n), 5)].into_iter()).unwrap();
    }
    let known = catalog.known(&segment(1)).unwrap().unwrap();
    assert_eq!((known.object, known.vaults), (object(11), vec![vault(2), vault(3)]));
}

#[test]
fn the_head_outlives_the_vault_and_never_goes_back() {
    let catalog = Catalog::in_memory().unwrap();
    assert_eq!(catalog.head(&vault(1)).unwrap(), None);
    for n in [1, 5, 3] {
        catalog.add_snapshot(&vault(1), &row(n), std::iter::empty()).unwrap();
        catalog.record_committed(&vault(1), &row(n).id, &row(n).manifest_sha256).unwrap();
    }
    catalog.remove_snapshot(&vault(1), &row(5).id).unwrap();
    catalog.forget_vault(&vault(1)).unwrap();
    let head = Head { snapshot: row(5).id, manifest_sha256: row(5).manifest_sha256 };
    assert_eq!(catalog.head(&vault(1)).unwrap(), Some(head));
    assert_eq!(catalog.head(&vault(2)).unwrap(), None);
}

#[test]
fn one_that_cannot_be_used_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sqlite3");
    let rebuilt = || match Catalog::open(&path).unwrap().1 {
        Opened::Rebuilt { aside, why } => (aside, why),
        other => panic!("{other:?}"),
    };
    fs::write(&path, b"this is not a database, and it is long enough to be looked at as one".repeat(50)).unwrap();
    let (aside, why) = rebuilt();
    assert!(matches!(why, SetAside::Damaged { .. }), "{why}");
    assert!(fs::read(&aside).unwrap().starts_with(b"this is not"));

    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert_eq!(rebuilt().1, SetAside::Newer { version: 99 });

    Connection::open(&path).unwrap().execute_batch("DROP TABLE held").unwrap();
    assert!(matches!(rebuilt().1, SetAside::Damaged { .. }), "a table is missing");
    assert_eq!(Catalog::open(&path).unwrap().1, Opened::Existing);
}

#[test]
fn a_damaged_page_is_noticed_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sqlite3");
    let (catalog, _) = Catalog::open(&path).unwrap();
    catalog.add_snapshot(&vault(1), &row(1), (0..5000).map(|n| (segment(n), object(n), 1))).unwrap();
    drop(catalog);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    assert!(matches!(Catalog::open(&path).unwrap().1, Opened::Rebuilt { why: SetAside::Damaged { .. }, .. }));
}

#[test]
fn many_segments_and_many_threads() {
    const SEGMENTS: u32 = 200_000;
    let folder = tempfile::tempdir().unwrap();
    let (catalog, _) = Catalog::open(&folder.path().join("catalog.sqlite3")).unwrap();
    catalog.set_own_put_cutoff(moment(0)).unwrap();
    let all = || (0..SEGMENTS).map(|n| (segment(n), object(n), u64::from(n)));
    catalog.add_snapshot(&vault(1), &row(1), all()).unwrap();
    catalog.add_snapshot(&vault(1), &row(2), all().skip(1000)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let catalog = &catalog;
            scope.spawn(move || {
                for n in (thread..SEGMENTS).step_by(40) {
                    assert_eq!(known_in(catalog, n), [vault(1)]);
                    let fresh = SEGMENTS + n;
                    catalog.record_sealed(&segment(fresh), &object(fresh), 1).unwrap();
                    catalog.record_put(&vault(2), &object(fresh), moment(1)).unwrap();
                }
            });
        }
    });
    for thread in 0..4 {
        assert_eq!(known_in(&catalog, SEGMENTS + thread), [vault(2)]);
    }
    catalog.remove_snapshot(&vault(1), &row(1).id).unwrap();
    assert_eq!(known_in(&catalog, 999), []);
    assert_eq!(known_in(&catalog, 1000), [vault(1)]);
}

#[derive(Clone, Debug)]
enum Step {
    Sealed(u32, u32),
    Put(u8, u32, i64),
    Add(u8, u64, Vec<(u32, u32)>),
    Remove(u8, u64),
    Forget(u8),
}

const CUTOFF: i64 = 5;

/// Says what must be known, in the plainest way: sets of everything.
#[derive(Default)]
struct Model {
    sealings: BTreeSet<(u32, u32)>,
    puts: BTreeMap<(u32, u8), i64>,
    snapshots: BTreeMap<(u8, u64), Vec<(u32, u32)>>,
}

impl Model {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Sealed(id, object) => drop(self.sealings.insert((*id, *object))),
            Step::Put(vault, object, at) => {
                if self.sealings.iter().any(|(_, sealed)| sealed == object) {
                    let latest = self.puts.entry((*object, *vault)).or_insert(*at);
                    *latest = (*latest).max(*at);
                }
            }
            Step::Add(vault, n, named) => {
                // The first manifest noted under an id stays: `row` gives the same digest for the same id.
                if !self.snapshots.contains_key(&(*vault, *n)) {
                    self.sealings.extend(named.iter().copied());
                    self.snapshots.insert((*vault, *n), named.clone());
                }
            }
            Step::Remove(vault, n) => {
                let named = self.snapshots.remove(&(*vault, *n)).unwrap_or_default();
                let loose: Vec<_> = named.into_iter().filter(|(_, object)| !self.is_held(*object)).collect();
                self.sealings.retain(|sealing| !loose.contains(sealing));
            }
            Step::Forget(vault) => {
                let put = self.puts.keys().filter(|(_, of)| of == vault).map(|(object, _)| *object);
                let named = self.snapshots.iter().filter(|((of, _), _)| of == vault).flat_map(|(_, named)| named);
                let mut loose: BTreeSet<u32> = put.chain(named.map(|(_, object)| *object)).collect();
                self.snapshots.retain(|(of, _), _| of != vault);
                self.puts.retain(|(_, of), _| of != vault);
                loose.retain(|object| !self.is_held(*object));
                self.sealings.retain(|(_, object)| !loose.contains(object));
            }
        }
    }

    fn is_held(&self, object: u32) -> bool {
        self.puts.keys().any(|(put, _)| *put == object)
            || self.snapshots.values().flatten().any(|(_, named)| *named == object)
    }

    fn vaults(&self, object: u32) -> BTreeSet<u8> {
        let put =
            self.puts.iter().filter(|((put, _), at)| *put == object && **at >= CUTOFF).map(|((_, vault), _)| *vault);
        let named = self.snapshots.iter().filter(|(_, named)| named.iter().any(|(_, named)| *named == object));
        put.chain(named.map(|((vault, _), _)| *vault)).collect()
    }

    fn most(&self, id: u32) -> usize {
        let sealings = self.sealings.iter().filter(|(of, _)| *of == id);
        sealings.map(|(_, object)| self.vaults(*object).len()).max().unwrap_or(0)
    }
}

/// Objects belong to one segment each: object 10 to 12 to segment 1, and so on.
fn sealing() -> impl Strategy<Value = (u32, u32)> {
    (0..4_u32, 0..3_u32).prop_map(|(id, variant)| (id, id * 10 + variant))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        sealing().prop_map(|(id, object)| Step::Sealed(id, object)),
        (0..3_u8, sealing(), 0..10_i64).prop_map(|(vault, (_, object), at)| Step::Put(vault, object, at)),
        (0..3_u8, 0..4_u64, prop::collection::vec(sealing(), 0..6)).prop_map(|(v, n, named)| Step::Add(v, n, named)),
        (0..3_u8, 0..4_u64).prop_map(|(vault, n)| Step::Remove(vault, n)),
        (0..3_u8).prop_map(Step::Forget),
    ]
}

fn take(catalog: &Catalog, step: &Step) {
    match step {
        Step::Sealed(id, of) => catalog.record_sealed(&segment(*id), &object(*of), u64::from(*of)),
        Step::Put(to, of, at) => catalog.record_put(&vault(*to), &object(*of), moment(*at)),
        Step::Add(to, n, named) => {
            let named = named.iter().map(|(id, of)| (segment(*id), object(*of), u64::from(*of)));
            catalog.add_snapshot(&vault(*to), &row(*n), named)
        }
        Step::Remove(from, n) => catalog.remove_snapshot(&vault(*from), &row(*n).id),
        Step::Forget(from) => catalog.forget_vault(&vault(*from)),
    }
    .unwrap();
}

proptest! {
    #[test]
    fn it_knows_what_a_naive_model_knows(steps in prop::collection::vec(step(), 1..40)) {
        let catalog = Catalog::in_memory().unwrap();
        catalog.set_own_put_cutoff(moment(CUTOFF)).unwrap();
        let mut model = Model::default();
        for step in &steps {
            take(&catalog, step);
            model.step(step);
            for id in 0..4 {
                let known = catalog.known(&segment(id)).unwrap();
                prop_assert_eq!(known.as_ref().map_or(0, |known| known.vaults.len()), model.most(id), "segment {}", id);
                if let Some(known) = known {
                    let of = (0..3).map(|variant| id * 10 + variant).find(|n| object(*n) == known.object).unwrap();
                    prop_assert_eq!(known.length, u64::from(of));
                    let vaults: Vec<VaultId> = model.vaults(of).into_iter().map(vault).collect();
                    prop_assert_eq!(known.vaults, vaults);
                }
            }
            for n in 0..3 {
                let noted: Vec<u64> = catalog.snapshots(&vault(n)).unwrap().iter().map(|row| row.sequence).collect();
                let expected: Vec<u64> = model.snapshots.keys().filter(|(of, _)| *of == n).map(|(_, s)| *s).collect();
                prop_assert_eq!(noted, expected);
            }
        }
    }

    #[test]
    fn packed_rows_come_back(mut rows in prop::collection::vec(any::<i64>().prop_map(|n| n & i64::MAX), 0..50)) {
        rows.sort_unstable();
        rows.dedup();
        prop_assert_eq!(names::unpack(&names::pack(&rows)).collect::<Vec<_>>(), rows);
    }
}
