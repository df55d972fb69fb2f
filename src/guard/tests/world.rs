//! A world in which everything is right: a plan and facts that every guard clears. Tests spoil one thing at a time.

use crate::artifact::{ArtifactKind, Toxicity};
use crate::base::ids::{ArtifactName, Sha256Hex, SnapshotId};
use crate::facts::cln::{EmergencyChannel, EmergencyContents, EmergencyLayout, NodeState, WalletChannel};
use crate::facts::postgres::Software;
use crate::guard::evidence::{Origin, Piece, Testimony};
use crate::guard::facts::*;
use crate::plan::*;
use crate::witness::{State, Witness};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(super) const NODE_ID: &str = "037c0ac3be7b74b0d720936d0db9f51db75c05604a578e676515973a877d2e2ba7";
pub(super) const WALLET: &str = "/cln/regtest/lightningd.sqlite3";
pub(super) const SECRET: &str = "/cln/regtest/hsm_secret";
pub(super) const EMERGENCY: &str = "/cln/regtest/emergency.recover";
pub(super) const TOXIC: &str = "/quarantine/lightningd.sqlite3.TOXIC";
pub(super) const PID_FILE: &str = "/cln/lightningd-regtest.pid";
pub(super) const NODE_UNIT: &str = "clightning.service";

/// A moment in seconds of the story; the snapshot is taken at 1000 and the run happens at 100 000.
pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub(super) fn snapshot(sequence: u64) -> SnapshotId {
    SnapshotId::new(at(1000), sequence)
}

pub(super) fn artifact(name: &str) -> ArtifactName {
    name.parse().unwrap()
}

pub(super) fn server() -> ServerUrl {
    ServerUrl("postgresql:///postgres".to_owned())
}

pub(super) fn lightning() -> LightningPlace {
    LightningPlace {
        lightning_dir: "/cln".into(),
        network_dir: "/cln/regtest".into(),
        wallet: WALLET.into(),
        pid_file: PID_FILE.into(),
        rpc_socket: "/cln/regtest/lightning-rpc".into(),
    }
}

fn owner() -> Owner {
    Owner { user: Some("clightning".to_owned()), uid: 991, group: None, gid: 990 }
}

pub(super) fn place(name: &str, kind: ArtifactKind, to: &str) -> Action {
    Action::PlaceFile { artifact: artifact(name), kind, to: to.into(), owner: owner(), mode: 0o400, length: 100 }
}

pub(super) fn place_database(name: &str) -> Action {
    Action::PlaceChannelDatabase {
        artifact: artifact(name),
        to: WALLET.into(),
        owner: owner(),
        mode: 0o600,
        length: 1000,
        claim: snapshot(9),
    }
}

pub(super) fn move_wallet_aside() -> Action {
    let paths = [WALLET.to_owned()].into_iter().chain(SIDE_FILES.map(|ending| format!("{WALLET}{ending}")));
    Action::MoveAside { paths: paths.map(PathBuf::from).collect(), together: Together::Database }
}

pub(super) fn restore(name: &str, database: &str) -> Action {
    Action::RestoreDatabase {
        artifact: artifact(name),
        server: server(),
        database: database.to_owned(),
        owner_role: "btcpayserver".to_owned(),
        length: 500,
        swap: Swap::IntoEmpty,
    }
}

pub(super) fn burn(what: Burn) -> Action {
    Action::Burn { server: server(), database: "btcpaydb".to_owned(), what }
}

pub(super) fn unit(name: &str, role: UnitRole, change: UnitChange) -> Action {
    Action::Unit { unit: name.to_owned(), role, change }
}

pub(super) fn start_btcpay() -> Action {
    unit("btcpayserver.service", UnitRole::Btcpay, UnitChange::Start)
}

pub(super) fn plan(scenario: &str, actions: Vec<Action>) -> Plan {
    Plan {
        scenario: scenario.parse().unwrap(),
        secrecy: Secrecy::Kept,
        node: "shop".parse().unwrap(),
        snapshot: Some(snapshot(9)),
        root: None,
        steps: vec![PlannedStep { id: "all".parse().unwrap(), title: "All of it".to_owned(), actions }],
    }
}

/// The road of emergency.recover: secret, emergency.recover and databases in place, the wallet in quarantine.
pub(super) fn server_loss() -> (Plan, Facts) {
    let actions = vec![
        unit(NODE_UNIT, UnitRole::CoreLightning, UnitChange::Stop),
        Action::RaiseFence { lightning: lightning() },
        move_wallet_aside(),
        place("cln/hsm_secret", ArtifactKind::HsmSecret, SECRET),
        place("cln/emergency.recover", ArtifactKind::EmergencyRecover, EMERGENCY),
        Action::Quarantine { artifact: artifact("cln/lightningd.sqlite3"), to: TOXIC.into(), length: 1000 },
        Action::PlaceTree { artifact: artifact("cln/extras.tar"), below: "/".into(), length: 300 },
        restore("btcpay/btcpaydb.dump", "btcpaydb"),
        restore("btcpay/nbxplorer.dump", "nbxplorer"),
        burn(Burn::PayoutProcessors),
        start_btcpay(),
        Action::LowerFence { lightning: lightning() },
    ];
    (plan("server-loss", actions), facts(node(vec![channel('a', 3, 7)])))
}

/// The road of a planned migration: the channel database itself moves.
pub(super) fn migration() -> (Plan, Facts) {
    let actions = vec![
        Action::RaiseFence { lightning: lightning() },
        move_wallet_aside(),
        place("cln/hsm_secret", ArtifactKind::HsmSecret, SECRET),
        place_database("cln/lightningd.sqlite3"),
        Action::LowerFence { lightning: lightning() },
    ];
    (plan("planned-migration", actions), facts(node(vec![channel('a', 3, 7)])))
}

/// A node with these channels.
pub(super) fn node(channels: Vec<WalletChannel>) -> NodeState {
    NodeState {
        schema_version: 280,
        data_version: Some(100),
        node_id: Some(NODE_ID.to_owned()),
        channels,
        ..NodeState::default()
    }
}

/// A channel in this state, with every counter at `count`, and of 5000 sat on our side.
pub(super) fn channel(letter: char, state: i64, count: u64) -> WalletChannel {
    WalletChannel {
        channel_id: Some(String::from(letter).repeat(64)),
        dbid: i64::from(u32::from(letter)),
        peer_id: None,
        short_channel_id: Some(format!("{}x2x0", u32::from(letter))),
        state,
        next_index_local: Some(count),
        next_index_remote: Some(count),
        next_htlc_id: None,
        revocations: Some(count),
        funding: None,
        funding_sat: Some(10_000),
        local_msat: Some(5_000_000),
        lost_state: Some(false),
        has_last_tx: Some(true),
    }
}

/// What `recoverchannel` makes.
pub(super) fn stub(letter: char) -> WalletChannel {
    WalletChannel { short_channel_id: Some("1x1x1".to_owned()), has_last_tx: Some(false), ..channel(letter, 3, 1) }
}

/// An `emergency.recover` with these channels and as many revocations.
pub(super) fn emergency(channels: &[(char, u64)]) -> EmergencyContents {
    let channel = |(letter, revocations): &(char, u64)| EmergencyChannel {
        channel_id: String::from(*letter).repeat(64),
        dbid: 1,
        peer_id: "03".repeat(33),
        address: "127.0.0.1:9735".to_owned(),
        funding: "00:0".to_owned(),
        funding_sat: 10_000,
        channel_type: String::new(),
        revocations: Some(*revocations),
        opened_by_us: None,
    };
    let channels = channels.iter().map(channel).collect();
    EmergencyContents { layout: EmergencyLayout::Modern, version: 1, written: 0, channels }
}

pub(super) fn wallet_of(sequence: u64, taken: i64, node: NodeState) -> Piece {
    piece(Origin::Snapshot(snapshot(sequence)), taken, Testimony::Wallet(Box::new(node)))
}

pub(super) fn piece(origin: Origin, taken: i64, says: Testimony) -> Piece {
    Piece { origin, node_id: Some(NODE_ID.to_owned()), taken: Some(at(taken)), says: Known::Is(says) }
}

/// What somebody knows of a snapshot that the vaults hold.
pub(super) fn remembered(whose: Whose, sequence: u64, state: State) -> Remembered {
    let says = Witness::new(&"shop".parse().unwrap(), &snapshot(sequence), state, &Sha256Hex::of(b"manifest"));
    Remembered { whose, says, standing: Known::Is(Standing::Held) }
}

pub(super) fn candidate(node: NodeState) -> Candidate {
    Candidate { snapshot: snapshot(9), taken: at(1000), node, finality: Known::Is(Finality::Final) }
}

/// Facts under which every guard clears both plans, when the snapshot's wallet says this.
pub(super) fn facts(node: NodeState) -> Facts {
    let is = |text: &str| Known::Is(text.to_owned());
    let head = |name: &str| VaultReading { vault: name.parse().unwrap(), head: Known::Is(Some(snapshot(9))) };
    let idle = LightningRunning { lock: Known::Is(Vec::new()), socket: Known::Is(Vec::new()) };
    Facts {
        artifacts: artifacts(),
        candidates: BTreeMap::from([(artifact("cln/lightningd.sqlite3"), Known::Is(candidate(node)))]),
        evidence: Vec::new(),
        emergency: Known::Is(emergency(&[('a', 7)])),
        vaults: Known::Is(vec![head("near"), head("far")]),
        claim: Known::Is(Claim::OursAlone { snapshot: snapshot(9) }),
        remembered: vec![remembered(Whose::Given, 9, State::Final)],
        lowered: Known::Is(None),
        block_height: Known::Is(1000),
        identity: IdentityFacts {
            secret_node_id: is(NODE_ID),
            database_node_id: is(NODE_ID),
            database_network: is("regtest"),
            target_network: is("regtest"),
            database_genesis: is("0f91"),
            target_genesis: is("0f91"),
            database_schema: Known::Is(280),
            lightningd_schema: Known::Is(282),
        },
        running: RunningFacts {
            lightning: BTreeMap::from([(PID_FILE.into(), idle)]),
            lnd: Known::Is(Vec::new()),
            units: BTreeMap::from([(NODE_UNIT.to_owned(), Known::Is(UnitState::Inactive))]),
            sessions: databases().map(|name| (name, Known::Is(Vec::new()))).collect(),
        },
        target: target(),
        twin: TwinFacts {
            last: Known::Is(Some(SignOfLife {
                at: at(1500),
                host: "old-host".to_owned(),
                source: LifeSource::Other,
                kind: LifeKind::Working,
            })),
            store_now: Known::Is(at(100_000)),
            when_begun: None,
            clock: WhoseClock::Stores,
        },
        payout: Known::Is(PayoutFacts {
            processors: vec!["OnChainAutomatedPayoutSenderFactory".to_owned()],
            pending: 3,
        }),
        space: vec![Space { place: "/cln".to_owned(), needed: 5000, free: Known::Is(5000) }],
        freshness: FreshnessFacts {
            newest_complete: Known::Is(Some(snapshot(9))),
            taken: Known::Is(at(1000)),
            newest_mark: Known::Is(Some(at(1500))),
            heights: Known::Is(BTreeMap::from([("Core Lightning".to_owned(), 900), ("NBXplorer".to_owned(), 901)])),
            prune: Known::Is(PruneWindow::From(900)),
        },
    }
}

fn databases() -> impl Iterator<Item = (ServerUrl, String)> {
    ["btcpaydb", "nbxplorer"].into_iter().map(|name| (server(), name.to_owned()))
}

fn artifacts() -> BTreeMap<ArtifactName, ArtifactFacts> {
    let harmless = [
        ("cln/hsm_secret", Software::None),
        ("cln/emergency.recover", Software::None),
        ("cln/extras.tar", Software::None),
        ("lnd/channel.backup", Software::None),
        ("app/data.sqlite", Software::None),
        ("btcpay/btcpaydb.dump", Software::Btcpay),
        ("btcpay/nbxplorer.dump", Software::Nbxplorer),
    ];
    let of = |software| ArtifactFacts { toxicity: Known::Is(Toxicity::Harmless), software: Known::Is(software) };
    harmless.map(|(name, software)| (artifact(name), of(software))).into()
}

fn target() -> TargetFacts {
    let mut paths: Vec<String> = [WALLET, SECRET, EMERGENCY, TOXIC].map(str::to_owned).into();
    paths.extend(SIDE_FILES.map(|ending| format!("{WALLET}{ending}")));
    TargetFacts {
        files: paths.into_iter().map(|path| (path.into(), Known::Is(FileAt::Nothing))).collect(),
        left_out: Vec::new(),
        trees: BTreeMap::from([(artifact("cln/extras.tar"), Known::Is(Vec::new()))]),
        secrets: BTreeMap::from([(SECRET.into(), Known::Is(SecretAt::Nothing))]),
        emergencies: BTreeMap::from([(EMERGENCY.into(), Known::Is(EmergencyAt::Nothing))]),
        wallets: BTreeMap::from([(WALLET.into(), Known::Is(WalletAt::Nothing))]),
        mirror: Known::Is(None),
        databases: databases().map(|name| (name, Known::Is(DatabaseAt::Absent))).collect(),
    }
}

/// The facts of the candidate, to be changed.
pub(super) fn candidate_of(facts: &mut Facts) -> &mut Candidate {
    match facts.candidates.values_mut().next() {
        Some(Known::Is(candidate)) => candidate,
        other => panic!("{other:?}"),
    }
}
