//! Every limit of the program in one place, with its unit and its reason.

use std::time::Duration;

/// Least length of a segment's plaintext, in bytes (the last one of an artifact may be shorter).
pub const SEGMENT_BYTES_MIN: usize = 256 * 1024;
/// Average length of a segment's plaintext, in bytes.
pub const SEGMENT_BYTES_AVERAGE: usize = 1024 * 1024;
/// Largest length of a segment's plaintext, in bytes.
pub const SEGMENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest length of a sealed object, in bytes: a segment that does not compress, plus gzip's, zstd's
/// and age's overhead (24 bytes per 64 KiB and the header with one recipient), with room to spare.
pub const OBJECT_BYTES_MAX: usize = SEGMENT_BYTES_MAX + 256 * 1024;
/// An artifact up to this length, in bytes, is stored anew in every snapshot and never shared.
pub const PRECIOUS_BYTES_MAX: u64 = 64 * 1024;
/// Largest manifest that is read, in bytes: about three million segments.
pub const MANIFEST_BYTES_MAX: u64 = 768 * 1024 * 1024;
/// Largest sealed notes that are read, in bytes.
pub const NOTES_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Largest file that witnesses are looked for in, such as a log of many runs, in bytes.
pub const WITNESSES_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Largest small file of a vault (keys, signatures, `vault.json`) that is read, in bytes.
pub const SMALL_OBJECT_BYTES_MAX: u64 = 1024 * 1024;
/// Largest sequence number that is taken from a snapshot's name alone: a backup a minute reaches it after 1,900
/// years. A larger one was put there to use the numbers up.
pub const SEQUENCE_MAX: u64 = 999_999_999;
/// How far a snapshot may be ahead of this machine's clock before one of the two clocks counts as wrong.
pub const CLOCK_SLACK: Duration = Duration::from_secs(300);
/// Most entries of a tar, when it is written and when it is read: a sum of each file's name is kept in memory until the
/// last was placed, which makes some 200 MiB.
pub const TAR_ENTRIES_MAX: u64 = 10_000_000;
/// Longest name of an entry of a tar and longest target of a link in it, in bytes: the system's longest path.
pub const TAR_NAME_BYTES_MAX: usize = 4096;
/// Longest header before an entry of a tar, in bytes: name, target and every attribute of one file. libarchive reads no
/// longer one.
pub const TAR_EXTENSION_BYTES_MAX: u64 = 1024 * 1024;
/// Most files of a tar that are written before they are made durable together: each is held open meanwhile, and so may
/// be its folder, out of the 1,024 that a process may open at the least.
pub const TAR_BATCH_FILES_MAX: usize = 384;
/// Most bytes of files that are written before they are made durable together.
pub const TAR_BATCH_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Most entries left out of one tar that are told one by one.
pub const TAR_LEFT_OUT_TOLD_MAX: usize = 100;
/// Most artifacts in a snapshot.
pub const ARTIFACTS_MAX: usize = 10_000;
/// Most segments in one artifact: 4 TiB at the average length.
pub const SEGMENTS_MAX: usize = 4 * 1024 * 1024;
/// Largest policy file, in bytes.
pub const POLICY_BYTES_MAX: u64 = 1024 * 1024;
/// Largest scenario file, in bytes: twenty times the longest that is shipped.
pub const SCENARIO_BYTES_MAX: u64 = 512 * 1024;
/// Most steps of a scenario: nobody could follow more in one night.
pub const SCENARIO_STEPS_MAX: usize = 200;
/// Most entries of a scenario's follow-up list, and most assertions.
pub const SCENARIO_ENTRIES_MAX: usize = 200;
/// Longest text of a scenario that a person is to read at once, in bytes: two screens.
pub const SCENARIO_TEXT_BYTES_MAX: usize = 4 * 1024;
/// Longest title of a scenario, a step or a follow-up, in bytes: one line.
pub const SCENARIO_TITLE_BYTES_MAX: usize = 120;
/// Most lines of commands in one follow-up, and most arguments of one command.
pub const SCENARIO_COMMAND_LINES_MAX: usize = 40;
/// Longest wait that a scenario may ask for: a full download of the chain.
pub const SCENARIO_WAIT_MAX: Duration = Duration::from_secs(14 * 24 * 3600);
/// Longest name of a scenario, a step or a follow-up, in bytes.
pub const SCENARIO_NAME_BYTES_MAX: usize = 48;
/// Longest name of a systemd unit, in bytes; systemd's own limit.
pub const UNIT_NAME_BYTES_MAX: usize = 255;
/// Longest name of a node, source or vault, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest artifact name, in bytes.
pub const ARTIFACT_NAME_BYTES_MAX: usize = 200;
/// How often a lock is asked for before it counts as held, and how long to rest in between: together a quarter of a
/// second, many times what a child needs from its birth to the start of its program.
pub const LOCK_TRIES_MAX: u32 = 11;
/// See [`LOCK_TRIES_MAX`].
pub const LOCK_REST: Duration = Duration::from_millis(25);
/// Most of a child's standard error that is kept, in bytes.
pub const STDERR_BYTES_MAX: usize = 64 * 1024;
/// Memory a backup may use in all, in bytes, unless the policy says otherwise.
pub const MEMORY_BYTES_DEFAULT: u64 = 96 * 1024 * 1024;
/// Longest single hold of a live database's lock, unless the policy says otherwise.
pub const LOCK_BUDGET_DEFAULT: Duration = Duration::from_millis(250);
/// Longest single hold where a busy writer keeps restarting the copy; lightningd dies at 60 s.
pub const LOCK_BUDGET_MAX_DEFAULT: Duration = Duration::from_secs(5);
/// Length of the first hold of a large live database: long enough to tell the speed, short enough to be in vain.
pub const LOCK_FEELER: Duration = Duration::from_millis(50);
/// Shortest pause between two holds of a live database's lock.
pub const LOCK_GAP: Duration = Duration::from_millis(150);
/// Largest SQLite database, in bytes, that is copied into memory; a larger one goes to an unlinked file.
pub const SQLITE_MEMORY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of memory that must stay available beside a larger database before it is copied there because nothing may be
/// written to its disk.
pub const SQLITE_MEMORY_SPARE_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes that must stay free beside twice the database before one is copied to a file.
pub const SQLITE_SPARE_BYTES: u64 = 1024 * 1024 * 1024;
/// How often a writer may make a copy begin again, at the most, before it is made in one longer hold or given up.
pub const SQLITE_RESTARTS_MAX: u32 = 3;
/// How long a database may stay locked by writers before a copy gives up; nothing is held meanwhile.
pub const SQLITE_BUSY_PATIENCE: Duration = Duration::from_secs(15);
/// Largest `hsm_secret` that is read, in bytes: 24 words are at most 215 bytes after the 32-byte prefix.
pub const HSM_SECRET_BYTES_MAX: usize = 1024;
/// Largest `emergency.recover` that is read, in bytes: about 20 000 channels with all they carry.
pub const EMERGENCY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Largest configuration or TLS file of a node that is taken, in bytes.
pub const NODE_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Largest journal of a restore that is read, in bytes: thousands of runs.
pub const JOURNAL_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Longest reason a person may give for accepting a guard's refusal, in bytes: a paragraph that a report can hold.
pub const ACCEPTANCE_BYTES_MAX: usize = 1000;
/// Most invoices of one database that are listed as not told to a shop: more than a person works off in a night.
pub const UNDELIVERED_MAX: usize = 10_000;
/// Longest wait for the connection of a test delivery: a shop whose packets are dropped on the way answers never.
pub const DELIVERY_CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for the answer to a test delivery, in all: a shop that takes longer has an outage of its own.
pub const DELIVERY_WAIT: Duration = Duration::from_secs(30);
/// How old the last sign of life of a host must be before it counts as gone. Marks come every few minutes.
pub const SILENCE_MIN: Duration = Duration::from_secs(30 * 60);
/// How many blocks before its deadline an incoming HTLC with a known preimage makes lightningd go on chain: half of
/// its `cltv-delta`, which is 34 by default, rounded up, and one more.
pub const HTLC_CLAIM_MARGIN: u64 = 18;
/// How long objects that no manifest names are kept, unless the policy says otherwise.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Longest key of a vault's object, in bytes; S3 allows 1,024 with the prefix.
pub const OBJECT_KEY_BYTES_MAX: usize = 512;
/// Most folders one inside the other in a vault; the layout has five.
pub const OBJECT_KEY_PARTS_MAX: usize = 8;
/// Most names that do not belong in a vault which one listing reports.
pub const STRANGERS_MAX: usize = 100;
/// Largest page of a store's listing, in bytes: 1,000 keys of the longest kind, several times over.
pub const LIST_PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How often one operation on a store is tried in all before it counts as failed.
pub const VAULT_TRIES: u32 = 4;
/// Objects that a vault may fail to give in one snapshot before verify stops asking it: each takes minutes when it
/// hangs.
pub const UNREAD_MAX: usize = 8;
/// Pause after the first failed try; each further one is four times as long.
pub const VAULT_PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest wait for an answer that carries no object: a look, a page of a listing, a removal.
pub const VAULT_CONTROL_WAIT: Duration = Duration::from_secs(60);
/// Longest wait for an object to get through, before its length is taken into account.
pub const VAULT_TRANSFER_WAIT: Duration = Duration::from_secs(300);
/// The slowest that one object may get through, in bytes per second: the wait grows with its length by this rate. Less
/// than what each of [`VAULT_PUTTERS`] gets of [`UPLINK_RATE_MIN`].
pub const VAULT_RATE_MIN: u64 = 32 * 1024;
/// Threads that put to one vault at a time; they share its uplink.
pub const VAULT_PUTTERS: usize = 3;
/// The slowest uplink that a vault away from the host must work over, in bytes per second: 1 Mbit/s.
pub const UPLINK_RATE_MIN: u64 = 1_000_000 / 8;
/// How long what a store was seen to do is taken to hold; then `backup` tries it again.
pub const STORE_PROBE_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How old a temporary file in a folder vault must be before it counts as left behind by a crash.
pub const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 3600);

const _: () = assert!(SEGMENT_BYTES_MIN < SEGMENT_BYTES_AVERAGE);
const _: () = assert!(SEGMENT_BYTES_AVERAGE < SEGMENT_BYTES_MAX);
const _: () = assert!(SEGMENT_BYTES_MAX < OBJECT_BYTES_MAX);
const _: () = assert!(PRECIOUS_BYTES_MAX < SEGMENT_BYTES_MIN as u64);
// A segment over the slowest uplink, which all putters of a vault share, gets through by the rate alone; the fixed wait
// is there for what the store does meanwhile, and covers three more vaults behind the same uplink.
const _: () = assert!(UPLINK_RATE_MIN / VAULT_PUTTERS as u64 > VAULT_RATE_MIN);
const _: () = assert!(
    4 * VAULT_PUTTERS as u64 * OBJECT_BYTES_MAX as u64 / UPLINK_RATE_MIN
        < VAULT_TRANSFER_WAIT.as_secs() + vault_transfer_time(OBJECT_BYTES_MAX as u64).as_secs()
);

/// How long an object of this length may take at [`VAULT_RATE_MIN`].
pub const fn vault_transfer_time(length: u64) -> Duration {
    Duration::from_secs(length.div_ceil(VAULT_RATE_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_over_one_mbit_gets_through_before_it_is_given_up_on() {
        let patience = |length: u64| (VAULT_TRANSFER_WAIT + vault_transfer_time(length)).as_secs_f64();
        let takes = |length: u64, at_once: usize| length as f64 * at_once as f64 / UPLINK_RATE_MIN as f64;
        for length in [1, SEGMENT_BYTES_AVERAGE as u64, OBJECT_BYTES_MAX as u64] {
            assert!(takes(length, VAULT_PUTTERS) * 2.0 < patience(length), "{length} bytes");
        }
        for length in [NOTES_BYTES_MAX, MANIFEST_BYTES_MAX] {
            assert!(takes(length, 1) < patience(length), "{length} bytes go alone");
        }
        assert_eq!(takes(SEGMENT_BYTES_MAX as u64, 1) as u64, 33);
    }
}
