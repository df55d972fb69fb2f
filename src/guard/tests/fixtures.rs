//! The moments of a real node's life, read by the program's own reader.

use crate::artifact::ArtifactSpec;
use crate::base::interrupt::Interrupt;
use crate::facts::Facts;
use crate::facts::cln::{EmergencyContents, NodeState};
use crate::report::Finding;
use crate::sources::cln::Cln;
use crate::sources::sqlite::LockBudget;
use crate::sources::{Body, Sink, SourceError};
use std::path::Path;

/// What lay in the node's folder at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    pub(super) node: NodeState,
    pub(super) emergency: Option<EmergencyContents>,
}

#[derive(Default)]
struct Taken(Vec<Facts>);

impl Sink for Taken {
    fn artifact(&mut self, _: ArtifactSpec, body: Body<'_>) -> Result<(), SourceError> {
        self.0.push(body(&mut std::io::sink())?);
        Ok(())
    }

    fn finding(&mut self, _: Finding) {}
}

/// Reads one moment.
pub(super) fn moment(name: &str) -> Moment {
    let fixtures = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cln/node"));
    let (host, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = host.path().join("regtest");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(fixtures.join("hsm_secret"), folder.join("hsm_secret")).unwrap();
    for file in ["lightningd.sqlite3", "emergency.recover"] {
        let from = fixtures.join(name).join(file);
        if from.exists() {
            std::fs::copy(from, folder.join(file)).unwrap();
        }
    }
    let mut taken = Taken::default();
    let source = "cln".parse().unwrap();
    let interrupt = Interrupt::new();
    let cln = Cln {
        name: &source,
        lightning_dir: host.path(),
        network: "regtest",
        wallet: None,
        commands: &[],
        attested: None,
        budget: LockBudget::default(),
        scratch_folder: state.path(),
        interrupt: &interrupt,
    };
    cln.read(&mut taken).unwrap();
    let mut moment = Moment::default();
    for facts in taken.0 {
        match facts {
            Facts::ClnWallet(facts) => moment.node = facts.node,
            Facts::EmergencyRecover(facts) => moment.emergency = facts.contents,
            _ => {}
        }
    }
    moment
}
