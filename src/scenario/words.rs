//! The closed sets of words a scenario may use: guards, places, inspections, assertions, conditions. Each word stands
//! here once, with its meaning; the published schema, the messages and the documents take it from here. A word that is
//! not here means nothing to the program, and a scenario that uses one is refused.

use crate::policy::check::one_of;
use crate::policy::values::BadValue;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use std::fmt;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($variant:ident = $word:literal: $meaning:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
        pub enum $name {
            $(
                #[doc = $meaning]
                #[serde(rename = $word)]
                $variant,
            )*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// What such a word is called.
            pub const WHAT: &'static str = $what;

            /// The word.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// What it means, a sentence or a part of one.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }

            /// Reads the word.
            pub(super) fn read(text: &str) -> Result<Self, BadValue> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    other => one_of(other, $what, &[$($word),*]),
                }
            }

            /// A text that is one of the words.
            #[allow(dead_code, reason = "some sets stand in lists only")]
            pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "enum": [$($word),*] })
            }

            /// A list of them.
            #[allow(dead_code, reason = "some sets never stand in a list")]
            pub(super) fn schema_of_list(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "array", "items": { "type": "string", "enum": [$($word),*] } })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(
    /// What a scenario is for.
    Purpose, "purpose" {
        Restore = "restore": "the real recovery, with `restore`; a drill plays the same steps in a sandbox";
        Drill = "drill": "a drill only: it breaks things on purpose, and never runs against a real host";
    }
);

words!(
    /// What must be so before the first step.
    Need, "need" {
        Identity = "identity": "an identity that opens the snapshots";
        Vault = "vault": "a vault that holds snapshots of this node";
        AllVaults = "all-vaults": "every vault of the policy, reachable and not behind";
        OldHostOff = "old-host-off": "the old server switched off, and unable to come back by itself";
        LightningdStopped = "lightningd-stopped": "lightningd stopped and kept from starting (`systemctl mask clightning`; NixOS: `systemd.services.clightning.enable = false`)";
        LndStopped = "lnd-stopped": "lnd stopped and kept from starting (`systemctl mask lnd`; NixOS: `systemd.services.lnd.enable = false`)";
        BtcpayStopped = "btcpay-stopped": "BTCPay Server and NBXplorer stopped, and kept from starting: both make empty databases at their first start";
        PostgresqlRunning = "postgresql-running": "PostgreSQL running, of at least the old server's major version";
        BitcoindRunning = "bitcoind-running": "bitcoind running; it need not be synced yet";
    }
);

words!(
    /// Which snapshot a scenario works with.
    Which, "choice of a snapshot" {
        NewestComplete = "newest-complete": "the newest complete one, unless the command line names another";
        Final = "final": "the `final` one of a planned migration, which must be the newest of all";
        Asked = "asked": "the one the command line names; without a name the run ends and tells how to list them";
    }
);

words!(
    /// How far a snapshot is verified before anything is taken from it.
    Depth, "depth" {
        Sealed = "sealed": "signatures and chain are right, and every object hashes to its name";
        Opened = "opened": "every object hashes to its name, and every segment decrypts to the plaintext it should";
        Meaning = "meaning": "every segment decrypts, and the databases restore into a scratch server and match their row counts and digests";
    }
);

words!(
    /// A guard, as a scenario names it.
    GuardName, "guard" {
        Identity = "identity": "secret, database, network and chain belong together, and the software here can read the database";
        Running = "running": "no lightningd or lnd runs on the folder, and nothing is connected to a database that will be replaced";
        Stale = "stale": "a channel database goes where a node starts on it only if nothing anywhere knows a later state";
        Rollback = "rollback": "nothing newer or different at the target would be overwritten";
        Twin = "twin": "the old host gives no sign of life: two live copies of one node lose funds";
        Payout = "payout": "BTCPay Server would not pay again what was paid since the snapshot";
        Compromise = "compromise": "no stolen secret comes back into service";
        Space = "space": "what is about to be written fits";
        Freshness = "freshness": "the snapshot is the newest complete one, and bitcoind still has the blocks since then";
    }
);

words!(
    /// What `place` puts in its place.
    Placed, "thing to place" {
        HsmSecret = "hsm-secret": "Core Lightning's `hsm_secret`, byte for byte; the node id that follows from it is checked first";
        EmergencyRecover = "emergency-recover": "`emergency.recover`, byte for byte, beside `hsm_secret`";
        EmergencyRecoverCopy = "emergency-recover-copy": "a second copy of `emergency.recover` outside the lightning directory: the next channel that opens overwrites the first";
        ChannelBackup = "channel-backup": "LND's `channel.backup`, byte for byte";
        ChannelBackupCopy = "channel-backup-copy": "a second copy of `channel.backup` outside LND's folder, which LND does not rewrite";
        Extras = "extras": "the node's further files: configuration, TLS keys; for LND also what the policy names, such as seed and wallet password";
        Files = "files": "everything of the `files` sources, with owners and modes";
        Sqlite = "sqlite": "the databases of the `sqlite` sources, which are no node's";
        ChannelDatabase = "channel-database": "the channel database of a `final` snapshot; nothing else may ever be placed under this word";
    }
);

words!(
    /// What `move-aside` moves, never deletes.
    Aside, "thing to move aside" {
        ClnWallet = "cln-wallet": "`lightningd.sqlite3` with its `-journal`, `-wal` and `-shm`, as one; a mirror that the configuration names goes before it";
        HsmSecret = "hsm-secret": "an `hsm_secret` that lies at the place";
        EmergencyRecover = "emergency-recover": "an `emergency.recover` that lies at the place";
        LndChannelDatabase = "lnd-channel-database": "LND's `channel.db` or `channel.sqlite`, with what belongs to it";
    }
);

words!(
    /// Which databases `swap-databases` puts into service.
    Swap, "choice of databases" {
        All = "all": "every database that was restored and proved";
        Asked = "asked": "those that the operator says yes to, each by its name";
    }
);

words!(
    /// What `burn` takes out of force in a restored database: a closed list of SQL.
    Burn, "thing to burn" {
        ApiKeys = "api-keys": "every API key of BTCPay Server is deleted";
        Webhooks = "webhooks": "every webhook is turned off and its secret removed; where it pointed stays";
        PayoutProcessors = "payout-processors": "every automated payout processor is removed";
    }
);

impl Burn {
    /// The things, for a sentence.
    pub fn things(self) -> &'static str {
        match self {
            Self::ApiKeys => "API keys",
            Self::Webhooks => "webhooks",
            Self::PayoutProcessors => "payout processors",
        }
    }
}

words!(
    /// What `inspect` looks at. It changes nothing; a test delivery sends, and asks first.
    Inspection, "inspection" {
        Webhooks = "webhooks": "where each webhook points, which events it wants, whether it is active";
        UnpaidDeliveries = "unpaid-deliveries": "paid invoices whose webhook was never answered with success: shops that were not told";
        PruneWindow = "prune-window": "the heights that Core Lightning and NBXplorer go on from, and whether bitcoind still has those blocks";
        RotationList = "rotation-list": "every key, password and token that was within reach, by name and place, never by value";
        Dns = "dns": "what this host's resolver says of each name that webhooks point to, and what the authoritative server says";
        TestDelivery = "test-delivery": "whether a test event to each active webhook arrives, and whether resolver, authoritative server and delivery agree. It asks first";
        Space = "space": "free bytes and inodes of every filesystem in question, and what would be needed";
    }
);

words!(
    /// What `wait` waits for.
    Condition, "condition to wait for" {
        UnitActive = "unit-active": "the systemd unit `unit` is active";
        UnitInactive = "unit-inactive": "the systemd unit `unit` is inactive or failed";
        PostgresqlAnswers = "postgresql-answers": "PostgreSQL takes connections";
    }
);

words!(
    /// What runs in a systemd unit. Names of units mean nothing; this says which one is meant.
    UnitRole, "role of a unit" {
        CoreLightning = "core-lightning": "a Core Lightning node; `clightning.service`";
        Lnd = "lnd": "an LND node; `lnd.service`";
        Btcpay = "btcpay": "BTCPay Server; `btcpayserver.service`";
        Nbxplorer = "nbxplorer": "NBXplorer; `nbxplorer.service`";
        Bitcoind = "bitcoind": "bitcoind; `bitcoind.service`";
        Postgres = "postgres": "PostgreSQL; `postgresql.service`";
        Proxy = "proxy": "the web server, which customers reach; `nginx.service`";
        Other = "other": "something else; `unit` must be given";
    }
);

impl UnitRole {
    /// The unit it has on nix-bitcoin.
    pub fn default_unit(self) -> Option<&'static str> {
        match self {
            Self::CoreLightning => Some("clightning.service"),
            Self::Lnd => Some("lnd.service"),
            Self::Btcpay => Some("btcpayserver.service"),
            Self::Nbxplorer => Some("nbxplorer.service"),
            Self::Bitcoind => Some("bitcoind.service"),
            Self::Postgres => Some("postgresql.service"),
            Self::Proxy => Some("nginx.service"),
            Self::Other => None,
        }
    }
}

words!(
    /// What a `tell` step wants to hear.
    Answer, "answer" {
        None = "none": "nothing: the text is shown and recorded";
        Done = "done": "that it was done; until then the run does not go on. The answer and its time are recorded";
    }
);

words!(
    /// What must hold afterwards.
    Assertion, "assertion" {
        SecretDerivesNodeId = "secret-derives-node-id": "the `hsm_secret` in place is the attested one, and its node id is the database's";
        DatabasesProved = "databases-proved": "every restored database holds, row for row, what the snapshot's notes say, and its sequences stand where they should";
        EmergencyRecoverPlaced = "emergency-recover-placed": "`emergency.recover` lies in its place, byte for byte";
        EmergencyRecoverCopied = "emergency-recover-copied": "a second copy of `emergency.recover` lies outside the lightning directory";
        ChannelBackupPlaced = "channel-backup-placed": "`channel.backup` lies in its place and outside LND's folder, byte for byte";
        WalletQuarantined = "wallet-quarantined": "the old channel database lies in quarantine: `TOXIC` in its name, mode 0400, outside any lightning directory";
        NoChannelDatabasePlaced = "no-channel-database-placed": "no channel database lies where a node would start on it";
        ChannelDatabasePlaced = "channel-database-placed": "the channel database lies in its place, complete, and no other copy can start";
        FilesPlaced = "files-placed": "every file of the snapshot is there with its owner, group and mode";
        DamagedKept = "damaged-kept": "what was damaged was moved aside as a whole, and nothing of it was deleted";
        FenceLowered = "fence-lowered": "the fence is gone";
        ClaimOurs = "claim-ours": "the claim on the final snapshot is ours alone, in every vault";
        StolenKeysOff = "stolen-keys-off": "no API key is left, no webhook and no payout processor is active";
        NoStolenSecretPlaced = "no-stolen-secret-placed": "neither the old `hsm_secret` nor any file that holds a stolen secret was placed";
        NothingTouched = "nothing-touched": "the run changed nothing on this host";
        DamageNamed = "damage-named": "every damage that was done was found and named, with artifact and vault";
        OlderRestores = "older-restores": "an older, undamaged snapshot restores completely";
        VaultsEqual = "vaults-equal": "both vaults hold the same snapshots, each of them whole";
        OtherIdentityRestores = "other-identity-restores": "the remaining identity opens everything, the lost one is no longer among the recipients of new snapshots";
        HandRecoveryEqual = "hand-recovery-equal": "what stock tools gave back equals, byte for byte, what this program gives back";
    }
);

words!(
    /// When an entry of the follow-up list applies. What could not be learned counts as so.
    When, "condition" {
        HasCln = "has-cln": "the node runs Core Lightning";
        HasLnd = "has-lnd": "the node runs LND";
        HasChannels = "has-channels": "channels were open when the snapshot was taken";
        HasClboss = "has-clboss": "CLBOSS manages the channels";
        HasMirror = "has-mirror": "lightningd's `wallet=` option names a mirror";
        HasBtcpay = "has-btcpay": "a BTCPay Server database is in the snapshot";
        HasNbxplorer = "has-nbxplorer": "an NBXplorer database is in the snapshot";
        HasHotWallets = "has-hot-wallets": "NBXplorer's database holds seeds of hot wallets";
        HasWebhooks = "has-webhooks": "stores have webhooks";
        HasPayouts = "has-payouts": "payouts were pending, or automated payout processors were on";
        HasFiles = "has-files": "the snapshot holds files";
        IsPruned = "is-pruned": "bitcoind was pruned";
    }
);

words!(
    /// What a drill breaks in a vault.
    Harm, "harm" {
        FlippedBit = "flipped-bit": "one bit of an object flipped, as a failing disk does";
        MissingObject = "missing-object": "an object deleted";
        SwappedObject = "swapped-object": "an object replaced by another valid one of the vault";
        ForgedManifest = "forged-manifest": "a snapshot signed by a key that nobody pinned";
        AddedRecipient = "added-recipient": "a snapshot sealed to one more recipient than the policy has";
        RolledBack = "rolled-back": "the newest snapshots removed, so that an old one looks like the newest";
    }
);

words!(
    /// What a drill expects of `verify-vault`.
    Expected, "expectation" {
        Whole = "whole": "nothing wrong is found";
        Damage = "damage": "damage is found and named";
        NoIdentity = "no-identity": "no identity given opens it";
    }
);

words!(
    /// What a text is filled with when it is shown: `{snapshot}`.
    Placeholder, "placeholder" {
        Snapshot = "snapshot": "the snapshot's id";
        SnapshotAge = "snapshot_age": "how old the snapshot is";
        SnapshotTime = "snapshot_time": "when the snapshot was taken, as PostgreSQL reads it";
        Node = "node": "the node's name in the policy";
        NodeId = "node_id": "the Lightning node's public key";
        LightningDir = "lightning_dir": "lightningd's folder";
        NetworkDir = "network_dir": "the network's folder in it, where `hsm_secret` lies";
        LndDir = "lnd_dir": "LND's folder";
        Quarantine = "quarantine": "the folder of the quarantine";
        RecoverCopy = "recover_copy": "the copy of `emergency.recover` or `channel.backup` outside the node's folder";
        MovedAside = "moved_aside": "what was moved aside, and to where";
        Databases = "databases": "the databases that are restored";
        Peers = "peers": "the channels' peers, one a line: key, last address, capacity";
        Channels = "channels": "how many channels, and how much is in them";
        OldestUtxoHeight = "oldest_utxo_height": "the height of the oldest unspent output of the wallet";
        Heights = "heights": "the heights that lightningd and NBXplorer had reached";
        NewestMarkAge = "newest_mark_age": "how old the newest sign of life or record of high-water marks is; `none` where there is none";
        AddressIndexes = "address_indexes": "per wallet the highest address index that is known to have been given out";
        Webhooks = "webhooks": "the webhooks, one a line, with a space to sign";
        RotateList = "rotate_list": "what must be rotated, one a line, by name and place";
        FollowUpFile = "followup_file": "where the follow-up list was written";
    }
);
