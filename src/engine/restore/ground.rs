//! What a plan is made from: the scenario, the snapshot with its notes, and the policy that tells where things belong.

use super::expand::flat;
use super::values::Values;
use crate::artifact::{ArtifactKind, Toxicity};
use crate::base::fsio;
use crate::base::ids::{ArtifactName, NodeName, SnapshotId, SourceName};
use crate::base::limits::NODE_FILE_BYTES_MAX;
use crate::facts::postgres::Software;
use crate::facts::{self, Facts};
use crate::manifest::{Artifact, Manifest};
use crate::notes::Notes;
use crate::plan::{LightningPlace, Owner, ServerUrl};
use crate::policy::{Policy, SourceKind, SourcePolicy};
use crate::scenario::{Scenario, Template};
use crate::sources::cln;
use crate::target::Root;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The folder of this program on the restored machine, as that names it.
pub const OURS: &str = "/var/lib/relay-backup";
/// Where restores keep their journals, copies and quarantine, as the restored machine names it.
pub const RESTORES: &str = "/var/lib/relay-backup/restore";

/// What a plan is made from.
pub struct Ground<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The node.
    pub node: &'a NodeName,
    /// The snapshot and its notes; none where nothing is taken from one.
    pub chosen: Option<(&'a Manifest, &'a Notes)>,
    /// Where things belong: the policy in the notes, with the servers of this machine's policy.
    pub policy: Option<&'a Policy>,
    /// The folder the target lies in, instead of `/`.
    pub root: Option<PathBuf>,
    /// What the nodes' configurations at the target say of places.
    pub configured: BTreeMap<SourceName, Configured>,
    /// Who we are: the owner of what is ours.
    pub ourselves: Owner,
    /// What placeholders are filled with.
    pub values: &'a Values,
}

/// One Core Lightning node of the policy.
pub struct Node {
    /// The source it belongs to.
    pub source: SourceName,
    /// Where its files belong.
    pub place: LightningPlace,
    /// lightningd's name of the chain.
    pub network: String,
}

impl Ground<'_> {
    /// The snapshot that is taken from.
    pub fn snapshot(&self) -> Option<&SnapshotId> {
        self.chosen.map(|(manifest, _)| &manifest.snapshot)
    }

    /// The snapshot's artifacts, in their order.
    pub fn artifacts(&self) -> impl Iterator<Item = &Artifact> {
        self.chosen.into_iter().flat_map(|(manifest, _)| &manifest.artifacts)
    }

    /// Those of a kind.
    pub fn of_kind(&self, kind: ArtifactKind) -> impl Iterator<Item = &Artifact> {
        self.artifacts().filter(move |artifact| artifact.kind == kind)
    }

    /// What the notes say of an artifact.
    pub fn facts(&self, name: &ArtifactName) -> Option<&Facts> {
        self.chosen.and_then(|(_, notes)| notes.facts(name))
    }

    /// Whether an artifact is toxic. One of which nobody can tell counts as such.
    pub fn toxicity(&self, artifact: &Artifact) -> Toxicity {
        let known = facts::toxicity(artifact.kind, artifact.toxic, self.facts(&artifact.name));
        known.unwrap_or(Toxicity::Toxic)
    }

    /// The source that an artifact comes from.
    pub fn source_of(&self, name: &ArtifactName) -> Option<&SourcePolicy> {
        let (source, _) = name.as_str().split_once('/')?;
        self.policy?.sources.iter().find(|policy| policy.name.as_str() == source)
    }

    /// The server that a dump goes to.
    pub fn server_of(&self, name: &ArtifactName) -> Option<ServerUrl> {
        match &self.source_of(name)?.kind {
            SourceKind::Postgres { url, .. } => Some(ServerUrl(url.clone())),
            _ => None,
        }
    }

    /// All servers of the policy.
    pub fn servers(&self) -> impl Iterator<Item = ServerUrl> {
        let urls = self.sources().filter_map(|source| match &source.kind {
            SourceKind::Postgres { url, .. } => Some(ServerUrl(url.clone())),
            _ => None,
        });
        urls.collect::<BTreeSet<_>>().into_iter()
    }

    fn sources(&self) -> impl Iterator<Item = &SourcePolicy> {
        self.policy.into_iter().flat_map(|policy| &policy.sources)
    }

    /// The Core Lightning nodes.
    pub fn nodes(&self) -> impl Iterator<Item = Node> {
        self.sources().filter_map(node).map(|mut node| {
            if let Some(configured) = self.configured.get(&node.source) {
                node.place.pid_file.clone_from(&configured.pid_file);
                node.place.rpc_socket.clone_from(&configured.rpc_socket);
            }
            node
        })
    }

    /// The mirror that lightningd keeps of this node's database, where the configuration at the target names one.
    pub fn mirror_of(&self, node: &Node) -> Option<&Path> {
        self.configured.get(&node.source)?.mirror.as_deref()
    }

    /// Where LND nodes keep their channel state.
    pub fn lnd_graphs(&self) -> impl Iterator<Item = PathBuf> {
        super::places::lnd_graphs(self.policy).into_iter()
    }

    /// Whether a dump holds BTCPay Server's tables.
    pub fn is_btcpay(&self, name: &ArtifactName) -> bool {
        matches!(self.facts(name), Some(Facts::PostgresDump(facts)) if facts.software == Software::Btcpay)
    }

    /// The folder of this restore.
    pub fn folder(&self) -> PathBuf {
        restore_folder(self.scenario.name.as_str(), self.snapshot())
    }

    /// Where the second copy of an artifact goes.
    pub fn copy_of(&self, name: &ArtifactName) -> PathBuf {
        self.folder().join(flat(name))
    }

    /// Where a toxic artifact goes.
    pub fn quarantine_of(&self, name: &ArtifactName) -> PathBuf {
        self.folder().join("quarantine").join(format!("TOXIC-{}", flat(name)))
    }

    /// A text with its placeholders filled in.
    pub fn fill(&self, template: &Template) -> String {
        template.fill(|placeholder| self.values.of(placeholder))
    }
}

/// Where a node's configuration puts what has a usual place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// The pid file.
    pub pid_file: PathBuf,
    /// The RPC socket.
    pub rpc_socket: PathBuf,
    /// The mirror of the database.
    pub mirror: Option<PathBuf>,
}

/// What the nodes' configurations at the target say of places. Below another root no link is followed.
pub fn configured(root: &Root, policy: Option<&Policy>) -> BTreeMap<SourceName, Configured> {
    let of_node = |source: &SourcePolicy| {
        let SourceKind::Cln { lightning_dir, network, .. } = &source.kind else { return None };
        let read = |config: &Path| {
            if root.is_machine() {
                fsio::read_regular(config, NODE_FILE_BYTES_MAX).ok()
            } else {
                Some(root.read_file(config, NODE_FILE_BYTES_MAX).ok()??.expose().to_vec())
            }
        };
        let (pid_file, rpc_socket) = cln::pid_file_and_socket_by(lightning_dir, network, read);
        let network_dir = lightning_dir.join(network);
        let configs = [lightning_dir.join("config"), network_dir.join("config")];
        let mut mirrors =
            configs.iter().filter_map(|config| match cln::mirror(&String::from_utf8_lossy(&read(config)?)) {
                // lightningd runs in the network's folder.
                cln::Mirror::At(path) => Some(network_dir.join(path)),
                // The guards ask again, and refuse where nobody can say.
                cln::Mirror::NotTold | cln::Mirror::None | cln::Mirror::Elsewhere => None,
            });
        // The configuration is the node's user's own: it must not make us move what is somebody else's.
        let is_its_own = |mirror: &PathBuf| root.have_one_owner(mirror, lightning_dir).unwrap_or(false);
        let mirror = mirrors.next_back().filter(is_its_own);
        Some((source.name.clone(), Configured { pid_file, rpc_socket, mirror }))
    };
    policy.into_iter().flat_map(|policy| &policy.sources).filter_map(of_node).collect()
}

/// The node of a cln source, with pid file and RPC socket at their usual places.
pub fn node(source: &SourcePolicy) -> Option<Node> {
    let SourceKind::Cln { lightning_dir, network, wallet } = &source.kind else { return None };
    let network_dir = lightning_dir.join(network);
    let place = LightningPlace {
        wallet: wallet.clone().unwrap_or_else(|| network_dir.join("lightningd.sqlite3")),
        pid_file: lightning_dir.join(format!("lightningd-{network}.pid")),
        rpc_socket: network_dir.join("lightning-rpc"),
        lightning_dir: lightning_dir.clone(),
        network_dir,
    };
    Some(Node { source: source.name.clone(), place, network: network.clone() })
}

/// The folder of the restore of this snapshot by this scenario.
pub fn restore_folder(scenario: &str, snapshot: Option<&SnapshotId>) -> PathBuf {
    let name = match snapshot {
        Some(snapshot) => format!("{scenario}-{snapshot}"),
        None => scenario.to_owned(),
    };
    PathBuf::from(RESTORES).join(name)
}

/// The passfile of a server of the policy.
pub fn passfile<'a>(policy: Option<&'a Policy>, server: &ServerUrl) -> Option<&'a Path> {
    policy?.sources.iter().find_map(|source| match &source.kind {
        SourceKind::Postgres { url, passfile, .. } if *url == server.0 => passfile.as_deref(),
        _ => None,
    })
}
