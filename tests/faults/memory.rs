//! Memory does not grow with the artifact. The program tells the most it has used; no time is measured.

use super::bench::noise;
use super::host::{Host, files_source};
use crate::support::env::TestEnv;
use std::io::Write;

const MIB: u64 = 1024 * 1024;

/// The most memory a first backup of so many megabytes of noise has used, in bytes.
fn peak(megabytes: u64) -> u64 {
    let env = TestEnv::new();
    let path = env.write("data/large", b"", 0o600);
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    for seed in 0..megabytes {
        file.write_all(&noise(seed + 1, 1_000_000)).unwrap();
    }
    let sources = files_source("data", &env.path("data")) + "codec = \"zstd\"\n";
    let host = Host::new(env, &["vault"], &sources);
    host.run(&["init"], 0);
    let ended = host.run(&["--json", "backup"], 0);
    let document: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(document["report"]["bytes_read"].as_u64().unwrap() >= megabytes * 1_000_000, "{ended}");
    document["report"]["peak_memory_bytes"].as_u64().unwrap()
}

#[test]
fn memory_does_not_grow_with_the_artifact() {
    let [none, small, large] = [0, 30, 300].map(peak);
    assert!(none > MIB, "the program does not tell what it used");
    let said = format!("base {} MiB, 30 MB {} MiB, 300 MB {} MiB", none / MIB, small / MIB, large / MIB);
    assert!(large <= small + 24 * MIB, "{said}");
    assert!(large <= none + 96 * MIB, "{said}");
}
