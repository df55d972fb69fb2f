//! From a scenario and a snapshot to a plan: every verb becomes actions with concrete paths, owners, databases and
//! units. Pure: it reads the manifest, the notes and the policy that lies in them, and looks at nothing else.

use super::ground::{Ground, Node};
use crate::artifact::channels::LND_DATABASES;
use crate::artifact::{ArtifactKind, Toxicity};
use crate::base::ids::{ArtifactName, SnapshotId};
use crate::facts::Facts;
use crate::facts::sqlite::LiveFile;
use crate::manifest::Artifact;
use crate::plan::{
    Action, Answer, Burn, Condition, Owner, Plan, PlannedStep, SIDE_FILES, Secrecy, ServerUrl, Swap, Together,
    UnitChange, UnitRole,
};
use crate::policy::{SourceKind, SourcePolicy};
use crate::scenario::{self, Aside, Do, Placed, Step};
use crate::sources::postgres::restore::Landing;
use std::path::{Path, PathBuf};

/// Mode of a secret and of what lets a node act.
const SECRET_MODE: u32 = 0o400;

/// Makes the plan.
pub fn expand(ground: &Ground<'_>) -> Plan {
    let steps = ground.scenario.steps.iter().map(|step| planned(ground, step)).collect();
    Plan {
        scenario: ground.scenario.name.clone(),
        secrecy: if burns(ground) { Secrecy::Lost } else { Secrecy::Kept },
        node: ground.node.clone(),
        snapshot: ground.snapshot().cloned(),
        root: ground.root.clone(),
        steps,
    }
}

/// A scenario that burns keys is one in which somebody else may have them.
fn burns(ground: &Ground<'_>) -> bool {
    ground.scenario.steps.iter().any(|step| matches!(step.action, Do::Burn { .. }))
}

fn planned(ground: &Ground<'_>, step: &Step) -> PlannedStep {
    PlannedStep { id: step.id.clone(), title: step.title.clone(), actions: actions(ground, &step.action) }
}

fn actions(ground: &Ground<'_>, verb: &Do) -> Vec<Action> {
    match verb {
        // It was chosen before, to make this plan of. `opened` looks at all that `sealed` does; no scenario for a
        // restore asks for more.
        Do::ChooseSnapshot { .. } => {
            let verify = |snapshot: &SnapshotId| Action::VerifySnapshot { snapshot: snapshot.clone() };
            ground.snapshot().map(verify).into_iter().collect()
        }
        // These are done before and around the plan: the guards are asked, the claim is taken.
        Do::Guard { .. } | Do::Claim => Vec::new(),
        Do::Fence => nodes(ground, |lightning| Action::RaiseFence { lightning }),
        Do::Unfence => nodes(ground, |lightning| Action::LowerFence { lightning }),
        Do::Place { what } => place(ground, *what),
        Do::Quarantine => {
            let toxic = |artifact: &&Artifact| ground.toxicity(artifact) == Toxicity::Toxic;
            ground.artifacts().filter(toxic).map(|artifact| quarantine(ground, artifact)).collect()
        }
        Do::MoveAside { what } => move_aside(ground, *what),
        Do::RestoreRoles => roles(ground),
        Do::RestoreDatabases => databases(ground),
        Do::SwapDatabases { which } => swaps(ground, *which),
        Do::Burn { what } => burn(ground, what),
        Do::Inspect { what } => vec![Action::Inspect { what: *what }],
        Do::StopUnit { unit, role } => vec![change(unit, *role, UnitChange::Stop)],
        Do::StartUnit { unit, role } => vec![change(unit, *role, UnitChange::Start)],
        Do::Run { program, arguments } => {
            let arguments = arguments.iter().map(|argument| ground.fill(argument));
            vec![Action::Run { argv: std::iter::once(program.display().to_string()).chain(arguments).collect() }]
        }
        Do::Wait { condition, unit, at_most } => wait(ground, *condition, unit.as_deref())
            .into_iter()
            .map(|for_| Action::Wait { for_, at_most: *at_most })
            .collect(),
        Do::Tell { text, command, answer } => {
            let lines = command.iter().map(|line| format!("\n    {}", ground.fill(line)));
            let text = std::iter::once(ground.fill(text)).chain(lines).collect();
            vec![Action::Tell { text, answer: *answer }]
        }
        Do::Assert { what } => what.iter().map(|what| Action::Assert { what: *what }).collect(),
        // Verbs of drills never stand in a scenario for a restore: reading one refuses them.
        Do::Damage { .. }
        | Do::LoseVault
        | Do::SyncVault
        | Do::VerifyVault { .. }
        | Do::LoseIdentity
        | Do::ChangeRecipients
        | Do::RecoverByHand
        | Do::Play { .. } => Vec::new(),
    }
}

fn nodes(ground: &Ground<'_>, action: impl Fn(crate::plan::LightningPlace) -> Action) -> Vec<Action> {
    ground.nodes().map(|node| action(node.place)).collect()
}

fn change(unit: &str, role: UnitRole, change: UnitChange) -> Action {
    Action::Unit { unit: unit.to_owned(), role, change }
}

fn wait(ground: &Ground<'_>, condition: scenario::Condition, unit: Option<&str>) -> Vec<Condition> {
    let unit = unit.unwrap_or_default().to_owned();
    match condition {
        scenario::Condition::UnitActive => vec![Condition::UnitActive { unit }],
        scenario::Condition::UnitInactive => vec![Condition::UnitInactive { unit }],
        scenario::Condition::PostgresqlAnswers => {
            ground.servers().map(|server| Condition::PostgresAnswers { server }).collect()
        }
    }
}

fn place(ground: &Ground<'_>, what: Placed) -> Vec<Action> {
    match what {
        Placed::HsmSecret => ground.of_kind(ArtifactKind::HsmSecret).filter_map(|a| in_place(ground, a)).collect(),
        Placed::EmergencyRecover => {
            ground.of_kind(ArtifactKind::EmergencyRecover).filter_map(|a| in_place(ground, a)).collect()
        }
        Placed::ChannelBackup => {
            ground.of_kind(ArtifactKind::LndChannelBackup).filter_map(|a| in_place(ground, a)).collect()
        }
        Placed::Sqlite => harmless(ground, ArtifactKind::Sqlite).filter_map(|a| in_place(ground, a)).collect(),
        Placed::EmergencyRecoverCopy => {
            ground.of_kind(ArtifactKind::EmergencyRecover).map(|artifact| copy(ground, artifact)).collect()
        }
        Placed::ChannelBackupCopy => {
            ground.of_kind(ArtifactKind::LndChannelBackup).map(|artifact| copy(ground, artifact)).collect()
        }
        Placed::Extras => trees(ground, |source| !matches!(source.kind, SourceKind::Files { .. })),
        Placed::Files => trees(ground, |source| matches!(source.kind, SourceKind::Files { .. })),
        Placed::ChannelDatabase => channel_databases(ground),
    }
}

/// Those of a kind that hold no channel state. The others are for quarantine alone.
fn harmless<'a>(ground: &'a Ground<'_>, kind: ArtifactKind) -> impl Iterator<Item = &'a Artifact> {
    ground.of_kind(kind).filter(|artifact| ground.toxicity(artifact) == Toxicity::Harmless)
}

/// A file where it lay on the old host.
fn in_place(ground: &Ground<'_>, artifact: &Artifact) -> Option<Action> {
    let live = live(ground.facts(&artifact.name)?)?;
    let mode = if artifact.kind == ArtifactKind::HsmSecret { SECRET_MODE } else { live.mode };
    Some(Action::PlaceFile {
        artifact: artifact.name.clone(),
        kind: artifact.kind,
        to: live.path.clone(),
        owner: owner(live),
        mode,
        length: artifact.length,
    })
}

/// A second copy, in the restore's own folder.
fn copy(ground: &Ground<'_>, artifact: &Artifact) -> Action {
    Action::PlaceFile {
        artifact: artifact.name.clone(),
        kind: artifact.kind,
        to: ground.copy_of(&artifact.name),
        owner: ground.ourselves.clone(),
        mode: SECRET_MODE,
        length: artifact.length,
    }
}

fn channel_databases(ground: &Ground<'_>) -> Vec<Action> {
    let Some(claim) = ground.snapshot() else { return Vec::new() };
    let placed = |artifact: &Artifact| {
        let live = live(ground.facts(&artifact.name)?)?;
        Some(Action::PlaceChannelDatabase {
            artifact: artifact.name.clone(),
            to: live.path.clone(),
            owner: owner(live),
            mode: live.mode,
            length: artifact.length,
            claim: claim.clone(),
        })
    };
    ground.of_kind(ArtifactKind::ClnWallet).filter_map(placed).collect()
}

fn trees(ground: &Ground<'_>, wanted: impl Fn(&SourcePolicy) -> bool) -> Vec<Action> {
    let below = |artifact: &Artifact| match ground.facts(&artifact.name) {
        Some(Facts::ClnExtras(extras)) => extras.lightning_dir.clone(),
        _ => PathBuf::from("/"),
    };
    harmless(ground, ArtifactKind::Tar)
        .filter(|artifact| ground.source_of(&artifact.name).is_some_and(&wanted))
        .map(|artifact| Action::PlaceTree {
            artifact: artifact.name.clone(),
            below: below(artifact),
            length: artifact.length,
        })
        .collect()
}

fn quarantine(ground: &Ground<'_>, artifact: &Artifact) -> Action {
    Action::Quarantine {
        artifact: artifact.name.clone(),
        to: ground.quarantine_of(&artifact.name),
        length: artifact.length,
    }
}

fn move_aside(ground: &Ground<'_>, what: Aside) -> Vec<Action> {
    let separate = |path: PathBuf| Action::MoveAside { paths: vec![path], together: Together::Separate };
    match what {
        Aside::ClnWallet => ground
            .nodes()
            .map(|node| {
                // The mirror may be the last state there is, and lightningd writes over it when it starts.
                let mirror = ground.mirror_of(&node).map(with_side_files);
                let paths = mirror.into_iter().flatten().chain(with_side_files(&node.place.wallet)).collect();
                Action::MoveAside { paths, together: Together::Database }
            })
            .collect(),
        Aside::HsmSecret => {
            ground.nodes().map(|Node { place, .. }| separate(place.network_dir.join("hsm_secret"))).collect()
        }
        Aside::EmergencyRecover => {
            ground.nodes().map(|Node { place, .. }| separate(place.network_dir.join("emergency.recover"))).collect()
        }
        Aside::LndChannelDatabase => ground
            .lnd_graphs()
            .flat_map(|folder| LND_DATABASES.map(|name| folder.join(name)))
            .map(|path| Action::MoveAside { paths: with_side_files(&path), together: Together::Database })
            .collect(),
    }
}

/// A database and what SQLite keeps beside it.
fn with_side_files(database: &Path) -> Vec<PathBuf> {
    let beside = SIDE_FILES.iter().map(|ending| {
        let mut name = database.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    });
    std::iter::once(database.to_owned()).chain(beside).collect()
}

/// Of what is moved together those that are databases: the rest follows them.
pub(super) fn databases_of(paths: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    let is_beside = |path: &PathBuf, other: &PathBuf| {
        let ending = path.as_os_str().as_encoded_bytes().strip_prefix(other.as_os_str().as_encoded_bytes());
        ending.is_some_and(|ending| SIDE_FILES.iter().any(|side| side.as_bytes() == ending))
    };
    paths.iter().filter(move |path| !paths.iter().any(|other| is_beside(path, other)))
}

fn roles(ground: &Ground<'_>) -> Vec<Action> {
    let globals = ground.of_kind(ArtifactKind::PostgresGlobals);
    globals
        .filter_map(|artifact| {
            let server = ground.server_of(&artifact.name)?;
            Some(Action::RestoreRoles { artifact: artifact.name.clone(), server })
        })
        .collect()
}

/// One dump and where it goes.
struct Target<'a> {
    artifact: &'a Artifact,
    server: ServerUrl,
    database: &'a str,
    owner: &'a str,
    swap: Swap,
}

/// The dumps that hold no channel state, in the order in which they were read.
fn targets<'a>(ground: &'a Ground<'_>) -> impl Iterator<Item = Target<'a>> {
    harmless(ground, ArtifactKind::PostgresDump).filter_map(|artifact| {
        let Some(Facts::PostgresDump(facts)) = ground.facts(&artifact.name) else { return None };
        let server = ground.server_of(&artifact.name)?;
        let swap = if keeps_old(ground) {
            Swap::KeepOld { aside: Landing::replaced_name_of(&facts.name, ground.snapshot()?) }
        } else {
            Swap::IntoEmpty
        };
        Some(Target { artifact, server, database: &facts.name, owner: &facts.owner, swap })
    })
}

/// Databases are restored beside live ones where a person says of each whether it takes their place.
fn keeps_old(ground: &Ground<'_>) -> bool {
    let asked = |step: &Step| matches!(step.action, Do::SwapDatabases { which: scenario::Swap::Asked });
    ground.scenario.steps.iter().any(asked)
}

fn databases(ground: &Ground<'_>) -> Vec<Action> {
    targets(ground)
        .map(|target| Action::RestoreDatabase {
            artifact: target.artifact.name.clone(),
            server: target.server,
            database: target.database.to_owned(),
            owner_role: target.owner.to_owned(),
            length: target.artifact.length,
            swap: target.swap,
        })
        .collect()
}

fn swaps(ground: &Ground<'_>, which: scenario::Swap) -> Vec<Action> {
    let answer = if which == scenario::Swap::Asked { Answer::Done } else { Answer::None };
    targets(ground)
        .map(|target| Action::SwapDatabase {
            server: target.server,
            database: target.database.to_owned(),
            swap: target.swap,
            answer,
        })
        .collect()
}

fn burn(ground: &Ground<'_>, what: &[Burn]) -> Vec<Action> {
    let is_btcpay = |target: &Target<'_>| ground.is_btcpay(&target.artifact.name);
    let of_target = |target: Target<'_>| {
        what.iter()
            .map(|what| Action::Burn {
                server: target.server.clone(),
                database: target.database.to_owned(),
                what: *what,
            })
            .collect::<Vec<_>>()
    };
    targets(ground).filter(is_btcpay).flat_map(of_target).collect()
}

/// The file as it lay on the old host, where the artifact is one file.
pub(super) fn live(facts: &Facts) -> Option<&LiveFile> {
    match facts {
        Facts::HsmSecret(facts) => Some(&facts.live),
        Facts::EmergencyRecover(facts) => Some(&facts.live),
        Facts::ClnWallet(facts) => Some(&facts.live),
        Facts::LndChannelBackup(facts) => Some(&facts.live),
        Facts::Sqlite(facts) => Some(&facts.live),
        Facts::ClnExtras(_) | Facts::Tar(_) | Facts::PostgresDump(_) | Facts::PostgresGlobals(_) => None,
    }
}

fn owner(live: &LiveFile) -> Owner {
    Owner { user: live.owner.clone(), uid: live.uid, group: live.group.clone(), gid: live.gid }
}

/// An artifact's name as one part of a path.
pub(super) fn flat(name: &ArtifactName) -> String {
    name.as_str().replace('/', "-")
}

/// The folder of a file.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
