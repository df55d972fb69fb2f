//! The policy as it stands in the file: the TOML's tables and keys, nothing checked but their types. The published
//! schema is made from these types, and `shape` holds the text against that schema, so that there is one list of
//! keys. Must never be seen outside this module: everybody else works with the checked [`super::Policy`].

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Spanned;

/// The whole file but its sources, which are read one by one, each by its kind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wire {
    /// The name of the protected host; the folder of its snapshots in every vault.
    #[schemars(with = "String")]
    pub(super) node: Spanned<String>,
    /// Where keys, catalog and lock live on this host; an absolute path. Default: `/var/lib/relay-backup`.
    #[schemars(with = "Option<String>")]
    pub(super) state_dir: Option<Spanned<String>>,
    /// Whose keys.
    pub(super) keys: Placed<KeysWire>,
    /// What must hold.
    #[serde(default)]
    pub(super) objectives: ObjectivesWire,
    /// Where to.
    pub(super) vault: Vec<Placed<VaultWire>>,
    /// How a backup runs.
    #[serde(default)]
    pub(super) backup: BackupWire,
    /// How long snapshots are kept.
    #[serde(default)]
    pub(super) retention: RetentionWire,
}

/// A table together with its place in the text.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Placed<T>(pub(super) Spanned<T>);

impl<T: JsonSchema> JsonSchema for Placed<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

/// `[keys]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysWire {
    /// age recipients, public keys only: X25519 (`age1…`), `ssh-ed25519 …` or a plugin's.
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) recipients: Option<Spanned<Vec<Spanned<String>>>>,
    /// A file with further recipients, one a line, `#` for remarks.
    #[schemars(with = "Option<String>")]
    pub(super) recipients_file: Option<Spanned<String>>,
    /// Signing keys that count besides this host's own.
    #[serde(default)]
    pub(super) trusted: Vec<TrustedWire>,
}

/// `[[keys.trusted]]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TrustedWire {
    /// What it may sign: `node`, `drill` or `pruner`.
    #[schemars(with = "String")]
    pub(super) role: Spanned<String>,
    /// The minisign public key in base64, `RW…`.
    #[schemars(with = "String")]
    pub(super) key: Spanned<String>,
}

/// `[objectives]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectivesWire {
    /// How old the newest complete snapshot may be. Default: `26h`.
    #[schemars(with = "Option<String>")]
    pub(super) rpo: Option<Spanned<String>>,
    /// How long until secrets, databases and files are back. Default: `30m`.
    #[schemars(with = "Option<String>")]
    pub(super) rto_data: Option<Spanned<String>>,
    /// How long until payments flow again, an estimate. Default: `3d`.
    #[schemars(with = "Option<String>")]
    pub(super) rto_service: Option<Spanned<String>>,
    /// How often a drill is due. Default: `100d`.
    #[schemars(with = "Option<String>")]
    pub(super) drill_every: Option<Spanned<String>>,
}

/// `[[vault]]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VaultWire {
    /// Its name in messages and `--vault`.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// Where it is: `fs:///folder` or `s3://bucket/prefix?endpoint=…&region=…`.
    #[schemars(with = "String")]
    pub(super) url: Spanned<String>,
    /// A TOML file with `access_key_id` and `secret_access_key`.
    #[schemars(with = "Option<String>")]
    pub(super) credentials_file: Option<Spanned<String>>,
    /// Whether it is away from the host. Default: false.
    #[serde(default)]
    pub(super) offsite: bool,
    /// Who writes it: `backup` or `sync`. Default: `backup`.
    #[schemars(with = "Option<String>")]
    pub(super) via: Option<Spanned<String>>,
    /// Most that is sent to it, such as `2MiB/s`. Default: no limit.
    #[schemars(with = "Option<String>")]
    pub(super) bandwidth: Option<Spanned<String>>,
}

/// `[backup]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupWire {
    /// How many vaults must be whole for a run to count. Default: 1.
    #[schemars(with = "Option<u32>")]
    pub(super) copies_required: Option<Spanned<u32>>,
    /// Memory for the pipeline. Default: `96MiB`.
    #[schemars(with = "Option<String>")]
    pub(super) memory: Option<Spanned<String>>,
    /// Longest hold of a live database's lock. Default: `250ms`; at most `1s`.
    #[schemars(with = "Option<String>")]
    pub(super) lock_budget: Option<Spanned<String>>,
    /// Longest hold where a busy writer keeps restarting the copy. Default: `5s`; at most `20s`.
    #[schemars(with = "Option<String>")]
    pub(super) lock_budget_max: Option<Spanned<String>>,
}

/// `[retention]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetentionWire {
    /// The newest snapshots that are kept. Default: 7.
    pub(super) keep_last: Option<u32>,
    /// Days whose newest snapshot is kept. Default: 14.
    pub(super) keep_daily: Option<u32>,
    /// Weeks. Default: 8.
    pub(super) keep_weekly: Option<u32>,
    /// Months. Default: 12.
    pub(super) keep_monthly: Option<u32>,
    /// Years. Default: 3.
    pub(super) keep_yearly: Option<u32>,
    /// Triggers whose snapshots are kept for good. Default: `["pre-update", "final"]`.
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) keep_triggers: Option<Vec<Spanned<String>>>,
    /// How long objects that no manifest names are kept. Default: `7d`.
    #[schemars(with = "Option<String>")]
    pub(super) grace: Option<Spanned<String>>,
}

/// `[[source]]`, as the schema shows it: which keys belong to which kind. Each variant is read by its own type.
#[derive(JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used; a source is read by the type inside the variant")]
enum SourceWire {
    /// Core Lightning.
    Cln(ClnWire),
    /// PostgreSQL databases of one cluster.
    Postgres(PostgresWire),
    /// LND.
    Lnd(LndWire),
    /// A SQLite database that is not a node's.
    Sqlite(SqliteWire),
    /// Files.
    Files(FilesWire),
}

macro_rules! source_wire {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            /// The first part of its artifacts' names.
            #[schemars(with = "String")]
            pub(super) name: Spanned<String>,
            /// Another compression than the kind's own: `none`, `gzip` or `zstd`.
            #[schemars(with = "Option<String>")]
            pub(super) codec: Option<Spanned<String>>,
            $($(#[$field_doc])* pub(super) $field: $type,)*
        }
    };
}

source_wire!(
    /// `kind = "cln"`.
    ClnWire {
        /// lightningd's `lightning-dir`, the base; the network's folder lies in it.
        #[schemars(with = "String")]
        lightning_dir: Spanned<String>,
        /// `bitcoin`, `testnet`, `testnet4`, `signet` or `regtest`. Default: `bitcoin`.
        #[schemars(with = "Option<String>")]
        network: Option<Spanned<String>>,
        /// Where lightningd's `wallet=` option puts the database elsewhere; an absolute path.
        #[schemars(with = "Option<String>")]
        wallet: Option<Spanned<String>>,
    }
);
source_wire!(
    /// `kind = "postgres"`.
    PostgresWire {
        /// A libpq connection URL without a password.
        #[schemars(with = "String")]
        url: Spanned<String>,
        /// A libpq passfile, where the socket does not do.
        #[schemars(with = "Option<String>")]
        passfile: Option<Spanned<String>>,
        /// The databases, in this order; BTCPay's before NBXplorer's.
        #[schemars(with = "Vec<String>")]
        databases: Spanned<Vec<Spanned<String>>>,
    }
);
source_wire!(
    /// `kind = "lnd"`.
    LndWire {
        /// LND's `lnddir`.
        #[schemars(with = "String")]
        lnd_dir: Spanned<String>,
        /// `mainnet`, `testnet`, `testnet4`, `signet` or `regtest`. Default: `mainnet`.
        #[schemars(with = "Option<String>")]
        network: Option<Spanned<String>>,
        /// Further files: seed, password, TLS pair. Absolute paths and globs. Default: none.
        #[schemars(with = "Option<Vec<String>>")]
        paths: Option<Spanned<Vec<Spanned<String>>>>,
    }
);
source_wire!(
    /// `kind = "sqlite"`.
    SqliteWire {
        /// The database file.
        #[schemars(with = "String")]
        path: Spanned<String>,
    }
);
source_wire!(
    /// `kind = "files"`.
    FilesWire {
        /// Absolute paths and globs.
        #[schemars(with = "Vec<String>")]
        paths: Spanned<Vec<Spanned<String>>>,
        /// Absolute paths and globs that are left out. Default: none.
        #[schemars(with = "Option<Vec<String>>")]
        exclude: Option<Spanned<Vec<Spanned<String>>>>,
    }
);

/// The JSON Schema of the policy file, for editors and for `policy schema`.
pub fn schema() -> Value {
    let settings =
        schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut root = settings.clone().into_generator().into_root_schema_for::<Wire>().to_value();
    let mut source = settings.with(|settings| settings.meta_schema = None).into_generator();
    let source = source.root_schema_for::<SourceWire>().to_value();
    root["title"] = json!("relay-backup policy");
    root["properties"]["vault"]["minItems"] = json!(1);
    root["properties"]["source"] = json!({
        "description": "What is backed up.", "type": "array", "minItems": 1, "items": source,
    });
    if let Some(required) = root["required"].as_array_mut() {
        required.push(json!("source"));
    }
    root
}
