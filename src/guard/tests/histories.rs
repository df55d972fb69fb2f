//! Random histories of a node, its machines and its vaults: backups, final snapshots, undoings, moves that are cut off,
//! copies of a disk, vaults that are set back, clocks that jump. In none does a node start on a state older than one
//! that it or its peers have seen, nor on two machines at once. Who knows what is as docs/PLACING.md says; what may be
//! placed is judged by the guard itself.

use super::verdict;
use super::world::*;
use crate::guard::facts::*;
use crate::guard::{Guard, Verdict};
use crate::plan::{Action, Plan};
use crate::witness::State;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug)]
struct Snapshot {
    sequence: u64,
    /// Tells two of one number apart, as a manifest's digest does.
    digest: u64,
    /// How far the channel had come.
    version: u64,
    taken: i64,
    is_final: bool,
}

/// What lies in the vaults. Claims and revocations by number of the snapshot and random name.
#[derive(Clone, Debug, Default)]
struct Vaults {
    snapshots: Vec<Snapshot>,
    claims: BTreeSet<(u64, u64)>,
    revocations: BTreeSet<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fence {
    None,
    Final(u64),
    Restore,
}

/// A witness, as a person or a state holds it.
type Word = (u64, u64, State);

#[derive(Clone, Debug)]
struct Machine {
    /// The database in the node's folder.
    wallet: Option<u64>,
    fence: Fence,
    runs: bool,
    /// The state folder, where there is one.
    knows: Option<Vec<Word>>,
    made: BTreeSet<u64>,
    revoked: BTreeSet<u64>,
    /// The journal of a move.
    claims: BTreeSet<u64>,
    lowered: bool,
}

#[derive(Debug, Default)]
struct World {
    vaults: Vaults,
    saved: Vec<Vaults>,
    machines: Vec<Machine>,
    /// The newest state that the node's peers have seen.
    newest: u64,
    /// What the person holds: the last line that was printed, thrown away once the node has moved.
    word: Option<Word>,
    clock: i64,
    names: u64,
    moves: u64,
    refusals: u64,
}

impl Machine {
    fn empty() -> Self {
        Self {
            wallet: None,
            fence: Fence::None,
            runs: false,
            knows: None,
            made: BTreeSet::new(),
            revoked: BTreeSet::new(),
            claims: BTreeSet::new(),
            lowered: false,
        }
    }

    fn could_start(&self) -> bool {
        self.wallet.is_some() && self.fence == Fence::None
    }
}

impl World {
    fn new() -> Self {
        let host = Machine { wallet: Some(0), knows: Some(Vec::new()), ..Machine::empty() };
        Self { machines: vec![host, Machine::empty()], ..Self::default() }
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// Lets the node run for a while.
    fn run(&mut self, number: usize) {
        if !self.machines[number].could_start() {
            return;
        }
        let others =
            self.machines.iter().enumerate().filter(|(other, machine)| *other != number && machine.runs).count();
        assert_eq!(others, 0, "two machines run the node: {self:#?}");
        assert_eq!(self.machines[number].wallet, Some(self.newest), "it starts on an old state: {self:#?}");
        self.newest += 1;
        self.machines[number].wallet = Some(self.newest);
        self.machines[number].runs = true;
    }

    fn backup(&mut self, number: usize, is_final: bool) {
        let machine = &self.machines[number];
        let Some(version) = machine.wallet.filter(|_| machine.could_start() && !(is_final && machine.runs)) else {
            return;
        };
        let of_vaults = self.vaults.snapshots.iter().map(|snapshot| snapshot.sequence);
        let known = machine.knows.iter().flatten().map(|(sequence, ..)| *sequence);
        let sequence = of_vaults.chain(known).max().unwrap_or(0) + 1;
        let digest = self.name();
        self.clock += 10;
        self.vaults.snapshots.push(Snapshot { sequence, digest, version, taken: self.clock, is_final });
        let word = (sequence, digest, if is_final { State::Final } else { State::Ordinary });
        let machine = &mut self.machines[number];
        machine.knows.get_or_insert_default().push(word);
        machine.made.insert(sequence);
        if is_final {
            machine.fence = Fence::Final(sequence);
        }
        self.word = Some(word);
    }

    /// A person takes back only what was not taken back or moved as far as they know.
    fn undo(&mut self, number: usize) {
        let Fence::Final(sequence) = self.machines[number].fence else { return };
        let machine = &self.machines[number];
        let is_its_own = |word: &Word| word.2 == State::Final && machine.knows.iter().flatten().any(|own| own == word);
        let Some(word) = self.word.filter(|word| word.0 == sequence && is_its_own(word)) else { return };
        let is_claimed = self.vaults.claims.iter().any(|(of, _)| *of == sequence);
        let is_strange = |(of, name): &&(u64, u64)| *of == sequence && !machine.revoked.contains(name);
        let has_gone_on = |later: &Snapshot| later.sequence > sequence && !machine.made.contains(&later.sequence);
        if is_claimed
            || self.vaults.revocations.iter().any(|of| is_strange(&of))
            || self.vaults.snapshots.iter().any(has_gone_on)
        {
            self.refusals += 1;
            return;
        }
        let name = self.name();
        self.vaults.revocations.insert((sequence, name));
        let word = (sequence, word.1, State::Undone);
        let machine = &mut self.machines[number];
        machine.revoked.insert(name);
        machine.knows.get_or_insert_default().push(word);
        machine.fence = Fence::None;
        self.word = Some(word);
    }

    /// Moves the node to this machine, and is cut off after so many steps.
    fn place(&mut self, number: usize, steps: u64) {
        let machine = &self.machines[number];
        let Some(snapshot) = self.vaults.snapshots.iter().max_by_key(|one| (one.sequence, one.digest)).copied() else {
            return;
        };
        if machine.runs || matches!(machine.fence, Fence::Final(_)) || !self.is_cleared(number, &snapshot) {
            self.refusals += 1;
            return;
        }
        self.claim(number, &snapshot);
        if steps == 0 || !self.is_cleared(number, &snapshot) {
            return;
        }
        self.machines[number].fence = Fence::Restore;
        self.machines[number].wallet = Some(snapshot.version);
        if steps == 1 {
            return;
        }
        self.claim(number, &snapshot);
        self.machines[number].lowered = true;
        if steps == 2 || !self.is_cleared(number, &snapshot) {
            return;
        }
        self.machines[number].fence = Fence::None;
        self.word = None;
        self.moves += 1;
    }

    fn claim(&mut self, number: usize, snapshot: &Snapshot) {
        let name = self.name();
        self.machines[number].claims.insert(name);
        self.vaults.claims.insert((snapshot.sequence, name));
    }

    /// What the guard says of channel state, with the facts as this machine can learn them.
    fn is_cleared(&self, number: usize, snapshot: &Snapshot) -> bool {
        let (mut plan, mut facts) = migration();
        let id = super::world::snapshot(snapshot.sequence);
        set_snapshot(&mut plan, &id);
        let of = |version: u64| {
            let mut node = node(vec![channel('a', 3, version)]);
            node.data_version = i64::try_from(version).ok();
            node
        };
        let is_revoked = self.vaults.revocations.iter().any(|(sequence, _)| *sequence == snapshot.sequence);
        let finality = match (snapshot.is_final, is_revoked) {
            (false, _) => Finality::Ordinary,
            (true, false) => Finality::Final,
            (true, true) => Finality::Revoked,
        };
        *candidate_of(&mut facts) = Candidate {
            snapshot: id.clone(),
            taken: at(snapshot.taken),
            node: of(snapshot.version),
            finality: Known::Is(finality),
        };
        let others = self.vaults.snapshots.iter().filter(|other| other.digest != snapshot.digest);
        facts.evidence = others.map(|other| wallet_of(other.sequence, other.taken, of(other.version))).collect();
        facts.vaults =
            Known::Is(vec![VaultReading { vault: "near".parse().unwrap(), head: Known::Is(Some(id.clone())) }]);
        let machine = &self.machines[number];
        let is_strange =
            |(sequence, name): &&(u64, u64)| *sequence == snapshot.sequence && !machine.claims.contains(name);
        facts.claim = Known::Is(if self.vaults.claims.iter().any(|claim| is_strange(&claim)) {
            Claim::Others { who: vec!["another".to_owned()] }
        } else {
            Claim::OursAlone { snapshot: id }
        });
        facts.lowered = Known::Is(machine.lowered.then(|| at(0)));
        let there = match machine.wallet {
            None => FileAt::Nothing,
            Some(version) if version == snapshot.version => FileAt::Identical,
            Some(_) => FileAt::Other { length: 1 },
        };
        facts.target.files.insert(WALLET.into(), Known::Is(there));
        let given = self.word.iter().map(|word| (Whose::Given, *word));
        let own = machine.knows.iter().flatten().map(|word| (Whose::ThisHost, *word));
        facts.remembered = given.chain(own).map(|(whose, word)| self.remembered(whose, word)).collect();
        matches!(verdict(Guard::Stale, &plan, &facts), Verdict::Cleared { .. })
    }

    fn remembered(&self, whose: Whose, (sequence, digest, state): Word) -> Remembered {
        let here: Vec<&Snapshot> = self.vaults.snapshots.iter().filter(|one| one.sequence == sequence).collect();
        let is_newer = self.vaults.snapshots.iter().all(|one| one.sequence < sequence);
        let standing = match (here.is_empty(), here.iter().any(|one| one.digest == digest)) {
            (true, _) if is_newer => Standing::Missing,
            (true, _) => Standing::Gone,
            (false, true) => Standing::Held,
            (false, false) => Standing::Other,
        };
        Remembered { standing: Known::Is(standing), ..remembered(whose, sequence, state) }
    }

    fn step(&mut self, mut next: impl FnMut(u64) -> u64) {
        let number = usize::try_from(next(self.machines.len() as u64)).unwrap();
        match next(12) {
            0..=2 => self.run(number),
            3 => self.machines[number].runs = false,
            4 => self.backup(number, false),
            5 | 6 => {
                self.machines[number].runs = false;
                self.backup(number, true);
            }
            7 => self.undo(number),
            8 | 9 => self.place(number, next(4)),
            10 => match next(3) {
                // A copy of a disk on which the node could start needs no program of ours to do harm.
                0 if !self.machines[number].could_start() && self.machines.len() < 5 => {
                    let copy = Machine { runs: false, ..self.machines[number].clone() };
                    self.machines.push(copy);
                }
                1 => self.clock += i64::try_from(next(2000)).unwrap() - 1000,
                _ => self.saved.push(self.vaults.clone()),
            },
            _ if !self.saved.is_empty() => {
                let which = usize::try_from(next(self.saved.len() as u64)).unwrap();
                self.vaults = self.saved[which].clone();
            }
            _ => {}
        }
    }
}

fn set_snapshot(plan: &mut Plan, id: &crate::base::ids::SnapshotId) {
    plan.snapshot = Some(id.clone());
    for action in plan.steps.iter_mut().flat_map(|step| &mut step.actions) {
        if let Action::PlaceChannelDatabase { claim, .. } = action {
            *claim = id.clone();
        }
    }
}

#[test]
fn in_no_history_does_a_node_start_on_an_old_state_or_twice() {
    let (mut moves, mut refusals) = (0, 0);
    for seed in 1..=3000_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % below.max(1)
        };
        let mut world = World::new();
        for _ in 0..80 {
            world.step(&mut next);
        }
        moves += world.moves;
        refusals += world.refusals;
    }
    assert!(moves > 300 && refusals > 300, "too little happened: {moves} moves, {refusals} refusals");
}
