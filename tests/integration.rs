//! Tests of the program as a whole, linked once: `cli` for what each verb says and how it exits, `flows` for round
//! trips and crashes, `faults` for storage that fails, `props` for properties over random input, `docs` for what the
//! documents say. Unit tests stand beside the code; what one module can show alone does not belong here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod cli;
mod docs;
mod faults;
mod flows;
mod props;
mod support;
#[path = "../benches/rows/mod.rs"]
mod tables;
