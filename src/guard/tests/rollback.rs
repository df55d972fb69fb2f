//! Nothing is written over, and nothing of an earlier database remains beside the one that is placed.

use super::world::*;
use super::{cleared, not_applicable, refused};
use crate::artifact::ArtifactKind;
use crate::facts::cln::NodeState;
use crate::guard::Guard;
use crate::guard::facts::*;
use crate::plan::{Action, Plan, SIDE_FILES, Swap, Together};
use std::path::PathBuf;

const ROLLBACK: Guard = Guard::Rollback;

fn put(facts: &mut Facts, path: &str, at: FileAt) {
    facts.target.files.insert(path.into(), Known::Is(at));
}

fn other() -> FileAt {
    FileAt::Other { length: 4096 }
}

/// The plan without its moving aside.
fn in_place((mut plan, facts): (Plan, Facts)) -> (Plan, Facts) {
    plan.steps[0].actions.retain(|action| !matches!(action, Action::MoveAside { .. }));
    (plan, facts)
}

#[test]
fn an_empty_target_is_cleared_and_a_plan_that_changes_nothing_is_no_subject() {
    for (plan, facts) in [server_loss(), migration(), in_place(server_loss())] {
        cleared(ROLLBACK, &plan, &facts, "nothing newer");
    }
    let (_, facts) = migration();
    not_applicable(ROLLBACK, &plan("integration-outage", vec![start_btcpay()]), &facts);
}

#[test]
fn whatever_lies_there_is_not_written_over() {
    for path in [SECRET, EMERGENCY, TOXIC] {
        let (plan, mut facts) = server_loss();
        put(&mut facts, path, other());
        refused(ROLLBACK, &plan, &facts, &format!("{path}: a file of 4096 bytes is there"));
        put(&mut facts, path, FileAt::Identical);
        cleared(ROLLBACK, &plan, &facts, "nothing newer");
        facts.target.files.insert(path.into(), Known::default());
        refused(ROLLBACK, &plan, &facts, &format!("{path}: what lies there is not known"));
        facts.target.files.remove(&PathBuf::from(path));
        refused(ROLLBACK, &plan, &facts, &format!("{path}: what lies there is not known"));
    }
}

#[test]
fn what_the_plan_moves_aside_first_is_not_lost() {
    let (mut plan, mut facts) = server_loss();
    put(&mut facts, EMERGENCY, other());
    let aside = Action::MoveAside { paths: vec![EMERGENCY.into()], together: Together::Separate };
    plan.steps[0].actions.push(aside.clone());
    refused(ROLLBACK, &plan, &facts, "a file of 4096 bytes is there");
    plan.steps[0].actions.insert(1, aside);
    cleared(ROLLBACK, &plan, &facts, "nothing newer");
}

#[test]
fn unpacking_writes_over_nothing() {
    let (mut plan, mut facts) = server_loss();
    let tree = artifact("cln/extras.tar");
    facts.target.trees.insert(tree.clone(), Known::Is(vec!["/etc/x".into()]));
    refused(ROLLBACK, &plan, &facts, "/etc/x: it is there, and differs from what cln/extras.tar holds");
    let aside = Action::MoveAside { paths: vec!["/etc/x".into()], together: Together::Separate };
    plan.steps[0].actions.insert(0, aside);
    cleared(ROLLBACK, &plan, &facts, "nothing newer");
    facts.target.trees.remove(&tree);
    refused(ROLLBACK, &plan, &facts, "what unpacking it would write over is not known");
}

#[test]
fn an_emergency_recover_that_knows_more_is_not_even_moved_aside() {
    let (mut plan, mut facts) = server_loss();
    let aside = Action::MoveAside { paths: vec![EMERGENCY.into()], together: Together::Separate };
    plan.steps[0].actions.insert(0, aside);
    let there = |facts: &mut Facts, at| facts.target.emergencies.insert(EMERGENCY.into(), at);
    let sound = |channels: &[_]| Known::Is(EmergencyAt::Sound(emergency(channels)));
    for newer in [[('a', 8), ('a', 8)], [('a', 7), ('b', 0)]] {
        there(&mut facts, sound(&newer));
        refused(ROLLBACK, &plan, &facts, "knows more of channel");
    }
    for older in [
        sound(&[('a', 7)]),
        sound(&[]),
        Known::Is(EmergencyAt::Same),
        Known::Is(EmergencyAt::Damaged { why: "torn".to_owned() }),
    ] {
        there(&mut facts, older);
        cleared(ROLLBACK, &plan, &facts, "nothing newer");
    }
    there(&mut facts, Known::default());
    refused(ROLLBACK, &plan, &facts, "which channels the one there holds is not known");
    facts.target.emergencies.clear();
    refused(ROLLBACK, &plan, &facts, "which channels the one there holds is not known");
    there(&mut facts, sound(&[]));
    facts.emergency = Known::default();
    refused(ROLLBACK, &plan, &facts, "must be held against, is not known");
}

#[test]
fn another_secret_is_not_even_moved_aside() {
    let (mut plan, mut facts) = server_loss();
    let aside = Action::MoveAside { paths: vec![SECRET.into()], together: Together::Separate };
    plan.steps[0].actions.insert(0, aside);
    let secret = |facts: &mut Facts, at| facts.target.secrets.insert(SECRET.into(), at);
    secret(&mut facts, Known::Is(SecretAt::Other { node_id: Some("02ab".to_owned()) }));
    refused(ROLLBACK, &plan, &facts, "a different hsm_secret is there, of node 02ab");
    secret(&mut facts, Known::Is(SecretAt::Other { node_id: None }));
    refused(ROLLBACK, &plan, &facts, "a different hsm_secret is there, of an unknown node");
    secret(&mut facts, Known::default());
    refused(ROLLBACK, &plan, &facts, "which secret lies there is not known");
    facts.target.secrets.clear();
    refused(ROLLBACK, &plan, &facts, "which secret lies there is not known");
    secret(&mut facts, Known::Is(SecretAt::Same));
    cleared(ROLLBACK, &plan, &facts, "nothing newer");
}

#[test]
fn a_database_at_the_target_goes_aside_with_its_side_files() {
    for world in [server_loss(), migration()] {
        let (plan, mut facts) = world.clone();
        put(&mut facts, WALLET, other());
        put(&mut facts, &format!("{WALLET}-wal"), other());
        cleared(ROLLBACK, &plan, &facts, "nothing newer");
        let (plan, _) = in_place(world);
        refused(ROLLBACK, &plan, &facts, &format!("{WALLET}: a file of 4096 bytes is there"));
        refused(ROLLBACK, &plan, &facts, &format!("{WALLET}-wal: it belongs to the database that was there"));
    }
}

#[test]
fn the_place_of_a_channel_database_is_looked_at_with_and_without_a_fence() {
    let (mut plan, facts) = in_place(migration());
    plan.steps[0].actions.retain(|action| !matches!(action, Action::RaiseFence { .. }));
    cleared(ROLLBACK, &plan, &facts, "nothing newer");
    let mut full = facts.clone();
    put(&mut full, WALLET, other());
    refused(ROLLBACK, &plan, &full, &format!("{WALLET}: a file of 4096 bytes is there"));
    let mut torn = facts.clone();
    put(&mut torn, &format!("{WALLET}-wal"), other());
    refused(ROLLBACK, &plan, &torn, &format!("{WALLET}-wal: it belongs to the database that was there"));
    let mut newer = facts;
    newer.target.wallets.insert(WALLET.into(), Known::Is(sound(vec![channel('a', 3, 8)], 50)));
    refused(ROLLBACK, &plan, &newer, "knows more of channel aaaa");
}

#[test]
fn no_side_file_remains_beside_what_is_placed() {
    for ending in SIDE_FILES {
        for world in [in_place(server_loss()), in_place(migration())] {
            let (plan, mut facts) = world;
            let path = format!("{WALLET}{ending}");
            for at in [other(), FileAt::Identical, FileAt::Fence] {
                put(&mut facts, &path, at);
                refused(ROLLBACK, &plan, &facts, "would be played into the one that is placed");
            }
            facts.target.files.remove(&PathBuf::from(&path));
            refused(ROLLBACK, &plan, &facts, &format!("{path}: what lies there is not known"));
        }
    }
    let (_, mut facts) = server_loss();
    let sqlite = plan("server-loss", vec![place("app/data.sqlite", ArtifactKind::Sqlite, "/app/data.sqlite")]);
    put(&mut facts, "/app/data.sqlite", FileAt::Nothing);
    refused(ROLLBACK, &sqlite, &facts, "/app/data.sqlite-wal: what lies there is not known");
    SIDE_FILES.iter().for_each(|ending| put(&mut facts, &format!("/app/data.sqlite{ending}"), FileAt::Nothing));
    cleared(ROLLBACK, &sqlite, &facts, "nothing newer");
    put(&mut facts, "/app/data.sqlite-journal", other());
    refused(ROLLBACK, &sqlite, &facts, "/app/data.sqlite-journal: it belongs to the database that was there");
}

#[test]
fn a_database_is_never_torn_from_its_side_files() {
    let (plan, facts) = server_loss();
    let with = |change: fn(&mut Vec<PathBuf>, &mut Together)| {
        let mut plan = plan.clone();
        for action in &mut plan.steps[0].actions {
            if let Action::MoveAside { paths, together } = action {
                change(paths, together);
            }
        }
        plan
    };
    let message = "without -journal, -wal and -shm";
    refused(ROLLBACK, &with(|_, together| *together = Together::Separate), &facts, message);
    for index in 1..4 {
        let mut plan = plan.clone();
        for action in &mut plan.steps[0].actions {
            if let Action::MoveAside { paths, .. } = action {
                paths.remove(index);
            }
        }
        refused(ROLLBACK, &plan, &facts, message);
    }
    // Moving something else by itself is nobody's business.
    let unrelated = with(|paths, together| (*paths, *together) = (vec!["/x".into()], Together::Separate));
    cleared(ROLLBACK, &unrelated, &facts, "nothing newer");
    let (migration, _) = super::world::migration();
    let mut without_fence = migration;
    without_fence.steps[0].actions.remove(0);
    if let Action::MoveAside { together, .. } = &mut without_fence.steps[0].actions[0] {
        *together = Together::Separate;
    }
    refused(ROLLBACK, &without_fence, &facts, message);
}

#[test]
fn our_own_fence_is_no_obstacle() {
    let (plan, mut facts) = in_place(migration());
    put(&mut facts, WALLET, FileAt::Fence);
    cleared(ROLLBACK, &plan, &facts, "nothing newer");
}

/// A target on which this wallet lies.
fn over(there: WalletAt) -> [(Plan, Facts); 2] {
    [server_loss(), migration()].map(|(plan, mut facts)| {
        put(&mut facts, WALLET, other());
        facts.target.wallets.insert(WALLET.into(), Known::Is(there.clone()));
        (plan, facts)
    })
}

fn sound(channels: Vec<crate::facts::cln::WalletChannel>, data_version: i64) -> WalletAt {
    WalletAt::Sound(Box::new(NodeState { data_version: Some(data_version), ..node(channels) }))
}

#[test]
fn a_newer_channel_database_is_not_replaced() {
    for (there, words) in [
        (sound(vec![channel('a', 3, 7)], 101), "its data_version is greater"),
        (sound(vec![channel('a', 3, 8)], 50), "knows more of channel aaaa"),
        (sound(vec![channel('a', 4, 7)], 50), "knows more of channel aaaa"),
        (sound(vec![channel('b', 3, 1)], 50), "knows more of channel bbbb"),
    ] {
        for (plan, facts) in over(there.clone()) {
            refused(ROLLBACK, &plan, &facts, words);
        }
    }
    for counter in 0..3 {
        let mut newer = channel('a', 3, 7);
        let all = [&mut newer.next_index_local, &mut newer.next_index_remote, &mut newer.revocations];
        *all.into_iter().nth(counter).unwrap() = Some(8);
        for (plan, facts) in over(sound(vec![newer.clone()], 50)) {
            refused(ROLLBACK, &plan, &facts, "knows more of channel aaaa");
        }
    }
}

#[test]
fn the_database_there_is_held_against_the_plans_own() {
    for (plan, mut facts) in over(sound(vec![channel('a', 3, 8)], 50)) {
        let newest = Known::Is(candidate(node(vec![channel('a', 10, 99)])));
        facts.candidates.insert(artifact("another/lightningd.sqlite3"), newest);
        refused(ROLLBACK, &plan, &facts, "knows more of channel aaaa");
    }
}

#[test]
fn an_older_blank_or_recovered_database_may_be_moved_aside() {
    for there in [
        sound(vec![channel('a', 3, 7)], 100),
        sound(vec![channel('a', 3, 6)], 90),
        sound(vec![channel('a', 13, 6)], 90),
        sound(vec![], 2),
        sound(vec![stub('a'), stub('b')], 12),
        WalletAt::Nothing,
    ] {
        for (plan, facts) in over(there.clone()) {
            cleared(ROLLBACK, &plan, &facts, "nothing newer");
        }
    }
}

#[test]
fn what_cannot_be_compared_is_not_replaced() {
    let mut nameless = channel('a', 3, 1);
    nameless.channel_id = None;
    for (plan, facts) in over(sound(vec![nameless], 50)) {
        refused(ROLLBACK, &plan, &facts, "without a full channel id");
    }
    for (plan, facts) in over(WalletAt::Sound(Box::new(NodeState { data_version: None, ..node(vec![]) }))) {
        refused(ROLLBACK, &plan, &facts, "one of them has no data_version");
    }
    let of_another = NodeState { node_id: Some("02ab".to_owned()), data_version: Some(1), ..node(vec![]) };
    for (plan, facts) in over(WalletAt::Sound(Box::new(of_another))) {
        refused(ROLLBACK, &plan, &facts, "of another node, 02ab");
    }
    for (plan, mut facts) in over(sound(vec![], 1)) {
        facts.candidates.clear();
        refused(ROLLBACK, &plan, &facts, "must be held against, is not known");
        facts.target.wallets.clear();
        refused(ROLLBACK, &plan, &facts, "which channel database lies there is not known");
    }
}

#[test]
fn a_damaged_database_makes_room_for_a_recovery_but_not_for_an_old_one() {
    let [(recovery, facts), (moving, moving_facts)] = over(WalletAt::Damaged { why: "page 3 is torn".to_owned() });
    cleared(ROLLBACK, &recovery, &facts, "nothing newer");
    refused(ROLLBACK, &moving, &moving_facts, "damaged (page 3 is torn), so nobody can say");
}

#[test]
fn a_mirror_goes_aside_first_and_together() {
    const MIRROR: &str = "/mnt/mirror.sqlite3";
    let with = |paths: &[&str]| {
        let (mut plan, mut facts) = server_loss();
        facts.target.mirror = Known::Is(Some(MIRROR.into()));
        put(&mut facts, WALLET, other());
        put(&mut facts, MIRROR, other());
        let sides = SIDE_FILES.map(|ending| format!("{WALLET}{ending}"));
        let all = paths.iter().map(|path| (*path).to_owned()).chain(sides).map(PathBuf::from).collect();
        for action in &mut plan.steps[0].actions {
            if let Action::MoveAside { paths, .. } = action {
                *paths = std::mem::take(paths);
                *paths = Vec::clone(&all);
            }
        }
        (plan, facts)
    };
    let (plan, facts) = with(&[MIRROR, WALLET]);
    cleared(ROLLBACK, &plan, &facts, "nothing newer");
    for wrong in [&[WALLET, MIRROR][..], &[WALLET]] {
        let (plan, facts) = with(wrong);
        refused(ROLLBACK, &plan, &facts, "it is the mirror of /cln/regtest/lightningd.sqlite3");
    }
    // An empty place needs no moving, unless nobody has looked.
    let (plan, mut facts) = with(&[WALLET]);
    put(&mut facts, MIRROR, FileAt::Nothing);
    refused(ROLLBACK, &plan, &facts, "it is the mirror of");
    put(&mut facts, WALLET, FileAt::Nothing);
    cleared(ROLLBACK, &plan, &facts, "nothing newer");
    facts.target.files.remove(&PathBuf::from(MIRROR));
    refused(ROLLBACK, &plan, &facts, "it is the mirror of");
    facts.target.mirror = Known::default();
    refused(ROLLBACK, &plan, &facts, "whether lightningd keeps a mirror of it is not known");
}

#[test]
fn a_database_with_rows_is_kept_or_the_restore_refused() {
    let (mut plan, mut facts) = server_loss();
    let key = |name: &str| (server(), name.to_owned());
    facts.target.databases.insert(key("btcpaydb"), Known::Is(DatabaseAt::Other { tables: 40 }));
    refused(ROLLBACK, &plan, &facts, "database btcpaydb on postgresql:///postgres: it has 40 tables");
    for action in &mut plan.steps[0].actions {
        if let Action::RestoreDatabase { database, swap, .. } = action
            && database == "btcpaydb"
        {
            *swap = Swap::KeepOld { aside: "btcpaydb_old".to_owned() };
        }
    }
    refused(ROLLBACK, &plan, &facts, "database btcpaydb_old on postgresql:///postgres: what is in it is not known");
    facts.target.databases.insert(key("btcpaydb_old"), Known::Is(DatabaseAt::Other { tables: 2 }));
    refused(ROLLBACK, &plan, &facts, "and is there already: it has 2 tables");
    for free in [DatabaseAt::Absent, DatabaseAt::Empty] {
        facts.target.databases.insert(key("btcpaydb_old"), Known::Is(free));
        cleared(ROLLBACK, &plan, &facts, "nothing newer");
    }
    facts.target.databases.insert(key("nbxplorer"), Known::default());
    refused(ROLLBACK, &plan, &facts, "database nbxplorer on postgresql:///postgres: what is in it is not known");
    for mine in [DatabaseAt::Empty, DatabaseAt::Restored] {
        facts.target.databases.insert(key("nbxplorer"), Known::Is(mine));
        cleared(ROLLBACK, &plan, &facts, "nothing newer");
    }
}
