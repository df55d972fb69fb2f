//! The pipeline there and back: any bytes, of any length around every limit, written in any portions with any marks,
//! open to what they were, under every codec; and a second run finds all it needs where the first one put it.

use opendal::{Operator, services};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use relay_backup::artifact::{ArtifactKind, ArtifactSpec, Codec, Toxicity};
use relay_backup::base::clock::Clock;
use relay_backup::base::ids::{NodeName, VaultId};
use relay_backup::base::interrupt::Interrupt;
use relay_backup::base::limits::{
    OBJECT_BYTES_MAX, PRECIOUS_BYTES_MAX, SEGMENT_BYTES_AVERAGE, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};
use relay_backup::base::secret::Secret;
use relay_backup::catalog::Catalog;
use relay_backup::engine::Context;
use relay_backup::engine::pipeline::{self, Settings, Target};
use relay_backup::manifest::Artifact;
use relay_backup::seal::identity::{EpochIdentity, EpochRecipient, Identities, generate, new_epoch};
use relay_backup::seal::names::DedupKey;
use relay_backup::seal::recipients::Recipients;
use relay_backup::seal::segment::open;
use relay_backup::vault::Vault;
use relay_backup::vault::layout::ObjectKey;
use std::io::Write;
use zeroize::Zeroizing;

/// What is written, and how.
#[derive(Clone, Debug)]
struct Written {
    codec: Codec,
    length: usize,
    /// 0 is noise; else the content repeats after so many bytes.
    period: usize,
    seed: u64,
    /// Lengths of portions, used in turn.
    portions: Vec<usize>,
    /// A mark after every so many portions; none when 0.
    marks: usize,
}

impl Written {
    fn bytes(&self) -> Vec<u8> {
        let noise = crate::faults::noise(self.seed, if self.period == 0 { self.length } else { self.period });
        noise.into_iter().cycle().take(self.length).collect()
    }
}

fn lengths() -> impl Strategy<Value = usize> {
    let limits = [PRECIOUS_BYTES_MAX as usize, SEGMENT_BYTES_MIN, SEGMENT_BYTES_AVERAGE, SEGMENT_BYTES_MAX];
    let near =
        (prop::sample::select(limits.to_vec()), -2i64..=2).prop_map(|(limit, off)| (limit as i64 + off) as usize);
    prop_oneof![4 => near, 1 => 0usize..4, 2 => 0usize..300_000, 1 => 0usize..9 * 1024 * 1024]
}

fn written() -> impl Strategy<Value = Written> {
    let codecs = prop::sample::select(vec![Codec::None, Codec::Gzip, Codec::Zstd]);
    let periods = prop::sample::select(vec![0usize, 0, 1, 7, 100_000]);
    let portions = prop::collection::vec(prop_oneof![1usize..200, 1usize..5_000_000], 1..6);
    (codecs, lengths(), periods, any::<u64>(), portions, 0usize..40).prop_map(
        |(codec, length, period, seed, portions, marks)| Written { codec, length, period, seed, portions, marks },
    )
}

/// One vault in memory with the keys of a node.
struct Place {
    vault: Vault,
    id: VaultId,
    node: NodeName,
    dedup: DedupKey,
    epoch: EpochRecipient,
    identity: EpochIdentity,
    catalog: Catalog,
}

impl Place {
    fn new() -> Self {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let (content, recipient) = generate(now);
        let (epoch, sealed) = new_epoch(&Recipients::parse(&[recipient]).unwrap(), now).unwrap();
        let identities = Identities::parse(&Secret::new(content.expose().to_vec()), "owner.key").unwrap();
        let identity = EpochIdentity::open(epoch.id.clone(), &sealed, &identities).unwrap();
        let operator = Operator::new(services::Memory::default()).unwrap();
        Self {
            vault: Vault::from_operator("memory".parse().unwrap(), operator).unwrap(),
            id: "00000000000000000000000000000001".parse().unwrap(),
            node: "shop-1".parse().unwrap(),
            dedup: DedupKey::generate().unwrap(),
            epoch,
            identity,
            catalog: Catalog::in_memory().unwrap(),
        }
    }

    /// Writes it as a source would; also tells how many objects were put.
    fn write(&self, written: &Written) -> (Artifact, u64) {
        let interrupt = Interrupt::new();
        let clock = Clock::Fixed(jiff::Timestamp::UNIX_EPOCH);
        self.catalog.set_own_put_cutoff(jiff::Timestamp::UNIX_EPOCH).unwrap();
        let settings = Settings {
            context: Context { clock, interrupt: &interrupt, progress: &|_| {} },
            node: &self.node,
            dedup: &self.dedup,
            epoch: &self.epoch,
            catalog: &self.catalog,
            memory: 96 * 1024 * 1024,
        };
        let targets = [Target::new(&self.vault, self.id.clone())];
        let spec = ArtifactSpec {
            name: "any/thing".parse().unwrap(),
            kind: ArtifactKind::Tar,
            codec: written.codec,
            toxicity: Toxicity::Harmless,
        };
        let bytes = written.bytes();
        let artifact = pipeline::run(&settings, &targets, |pipeline| {
            let mut writer = pipeline.begin(&spec);
            let mut rest = &bytes[..];
            for (count, length) in written.portions.iter().cycle().enumerate() {
                if rest.is_empty() {
                    break;
                }
                let (portion, after) = rest.split_at((*length).min(rest.len()));
                writer.write_all(portion).unwrap();
                rest = after;
                // Marks far apart: each ends a segment, and thousands of objects show nothing more than dozens.
                if written.marks > 0 && count % (written.marks * 50) == 49 {
                    writer.flush().unwrap();
                }
            }
            writer.finish().unwrap()
        })
        .unwrap();
        (artifact.result, targets[0].shipped().0)
    }

    /// The plaintext of each segment.
    fn pieces<'p>(&'p self, artifact: &'p Artifact) -> impl Iterator<Item = Zeroizing<Vec<u8>>> + 'p {
        artifact.segments.iter().map(|segment| {
            let key = ObjectKey::segment(&self.node, &segment.object);
            let sealed = self.vault.get(&key, OBJECT_BYTES_MAX as u64).unwrap();
            assert_eq!(sealed.len() as u64, segment.length);
            open(artifact.codec, &self.identity, &sealed, "a segment").unwrap()
        })
    }

    fn open(&self, artifact: &Artifact) -> Vec<u8> {
        self.pieces(artifact).flat_map(|piece| piece.to_vec()).collect()
    }
}

#[test]
fn what_goes_in_comes_out_and_is_known_the_second_time() {
    // The same cases every time: a failure can be repeated, and a quick run stays quick.
    let config = Config { cases: 48, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    runner
        .run(&written(), |written| {
            let place = Place::new();
            let bytes = written.bytes();
            let (first, put) = place.write(&written);
            prop_assert_eq!(first.length, bytes.len() as u64);
            prop_assert!(place.open(&first) == bytes, "it opens to something else");
            prop_assert!(put <= first.segments.len() as u64);
            let (second, put_again) = place.write(&written);
            if first.length > PRECIOUS_BYTES_MAX {
                prop_assert_eq!(put_again, 0, "something known was put again");
                prop_assert_eq!(&second.segments, &first.segments);
                prop_assert!(place.open(&second) == bytes);
            } else {
                prop_assert_eq!(put_again, second.segments.len() as u64, "the small and precious are put every time");
                prop_assert!(place.open(&second) == bytes);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_source_that_panics_ends_the_run_and_hangs_nobody() {
    let place = Place::new();
    let interrupt = Interrupt::new();
    let settings = Settings {
        context: Context { clock: Clock::System, interrupt: &interrupt, progress: &|_| {} },
        node: &place.node,
        dedup: &place.dedup,
        epoch: &place.epoch,
        catalog: &place.catalog,
        memory: 96 * 1024 * 1024,
    };
    let targets = [Target::new(&place.vault, place.id.clone())];
    let name = "any/thing".parse().unwrap();
    let spec = ArtifactSpec { name, kind: ArtifactKind::Tar, codec: Codec::Zstd, toxicity: Toxicity::Harmless };
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pipeline::run(&settings, &targets, |pipeline| {
            let mut writer = pipeline.begin(&spec);
            writer.write_all(&vec![7; 20 * 1024 * 1024]).unwrap();
            panic!("a source that has a fault");
        })
        .map(drop)
    }));
    assert!(ended.is_err(), "the panic goes on to whoever called");
}
