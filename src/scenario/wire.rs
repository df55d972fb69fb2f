//! A scenario as it stands in the file: the TOML's tables and keys, nothing checked but their types. The published
//! schema is made from these types, and the text is held against that schema, so that there is one list of keys and
//! verbs. Must never be seen outside this module: everybody else works with the checked [`super::Scenario`].

use super::words::{
    Answer, Aside, Assertion, Burn, Condition, Depth, Expected, GuardName, Harm, Inspection, Need, Placed, Purpose,
    Swap, UnitRole, When, Which,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Spanned;

/// The whole file but its steps, which are read one by one, each by its verb.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wire {
    /// Always 1.
    #[schemars(with = "u32")]
    pub(super) format: Spanned<u32>,
    /// The file's name without `.toml`.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// What it is called on a page.
    #[schemars(with = "String")]
    pub(super) title: Spanned<String>,
    /// What the operator sees when this has happened, and what it means.
    #[schemars(with = "String")]
    pub(super) what_happened: Spanned<String>,
    /// `restore` or `drill`.
    #[serde(rename = "for")]
    #[schemars(schema_with = "Purpose::schema")]
    pub(super) purpose: Spanned<String>,
    /// What must be so before the first step.
    #[schemars(schema_with = "Need::schema_of_list")]
    pub(super) needs: Vec<Spanned<String>>,
    /// How long it may take. Default: the policy's objectives.
    #[serde(default)]
    pub(super) objectives: ObjectivesWire,
    /// What is left to do afterwards.
    #[serde(default)]
    pub(super) followup: Vec<FollowupWire>,
    /// What must hold afterwards; at least one.
    pub(super) must_hold: Vec<MustHoldWire>,
}

/// `[objectives]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectivesWire {
    /// How long until secrets, databases and files are back.
    #[schemars(with = "Option<String>")]
    pub(super) rto_data: Option<Spanned<String>>,
    /// How long until payments flow again, an estimate.
    #[schemars(with = "Option<String>")]
    pub(super) rto_service: Option<Spanned<String>>,
}

/// `[[followup]]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FollowupWire {
    /// Its name, unique among the follow-ups.
    #[schemars(with = "String")]
    pub(super) id: Spanned<String>,
    /// What is to be done, in one line.
    #[schemars(with = "String")]
    pub(super) title: Spanned<String>,
    /// How, and why.
    #[schemars(with = "String")]
    pub(super) text: Spanned<String>,
    /// When it applies: all of these. Default: always.
    #[serde(default)]
    #[schemars(schema_with = "When::schema_of_list")]
    pub(super) when: Vec<Spanned<String>>,
    /// How soon after the disaster. Default: when its turn comes.
    #[schemars(with = "Option<String>")]
    pub(super) within: Option<Spanned<String>>,
    /// Lines to be copied, never run by the program.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) command: Vec<Spanned<String>>,
}

/// `[[must_hold]]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MustHoldWire {
    /// The assertion.
    #[schemars(schema_with = "Assertion::schema")]
    pub(super) what: Spanned<String>,
    /// Why it matters.
    #[schemars(with = "String")]
    pub(super) because: Spanned<String>,
}

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident as $wire:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Deserialize, JsonSchema)]
            #[serde(deny_unknown_fields)]
            pub(super) struct $wire {
                /// Its name, unique in the scenario.
                #[schemars(with = "String")]
                pub(super) id: Spanned<String>,
                /// What it does, in one line.
                #[schemars(with = "String")]
                pub(super) title: Spanned<String>,
                /// Why it is done, and why here.
                #[schemars(with = "Option<String>")]
                pub(super) why: Option<Spanned<String>>,
                $($(#[$field_doc])* pub(super) $field: $type,)*
            }
        )*

        /// `[[step]]`, as the schema shows it: which keys belong to which verb. Each variant is read by its own type.
        #[derive(JsonSchema)]
        #[serde(tag = "do", rename_all = "kebab-case")]
        #[expect(dead_code, reason = "only its schema is used; a step is read by the type inside the variant")]
        enum StepWire {
            $($(#[$doc])* $name($wire),)*
        }
    };
}

steps!(
    /// Picks a snapshot and verifies it; everything later is taken from it.
    ChooseSnapshot as ChooseSnapshotWire {
        /// Which one. Default: `newest-complete`.
        #[serde(default)]
        #[schemars(schema_with = "Which::schema")]
        which: Option<Spanned<String>>,
        /// How far it is verified. Default: `opened`.
        #[serde(default)]
        #[schemars(schema_with = "Depth::schema")]
        depth: Option<Spanned<String>>,
    }
    /// Judges guards; ends the run where one refuses. Every guard that the plan's actions demand is judged in any case.
    Guard as GuardWire {
        /// Which ones.
        #[schemars(schema_with = "GuardName::schema_of_list")]
        names: Vec<Spanned<String>>,
    }
    /// Keeps lightningd from starting while the restore works: holds the lock on its pid file, and puts a text at the
    /// place of its database.
    Fence as FenceWire {}
    /// Takes the fence away again.
    Unfence as UnfenceWire {}
    /// Puts something from the snapshot in its place: staged beside it, checked, then renamed. Overwrites nothing.
    Place as PlaceWire {
        /// What.
        #[schemars(schema_with = "Placed::schema")]
        what: Spanned<String>,
    }
    /// Puts every toxic artifact of the snapshot into quarantine, where no node starts on it.
    Quarantine as QuarantineWire {}
    /// Moves something that lies at the target aside, as a whole; deletes nothing.
    MoveAside as MoveAsideWire {
        /// What.
        #[schemars(schema_with = "Aside::schema")]
        what: Spanned<String>,
    }
    /// Makes the roles that the snapshot's databases need; those that exist stay as they are.
    RestoreRoles as RestoreRolesWire {}
    /// Restores every database of the snapshot into a fresh one beside the live one, and proves it row for row.
    RestoreDatabases as RestoreDatabasesWire {}
    /// Puts restored databases into service by renaming; the old ones stay under another name.
    SwapDatabases as SwapDatabasesWire {
        /// Which ones. Default: `all`.
        #[serde(default)]
        #[schemars(schema_with = "Swap::schema")]
        which: Option<Spanned<String>>,
    }
    /// Takes what was stolen out of force in the restored databases, before they go into service.
    Burn as BurnWire {
        /// What.
        #[schemars(schema_with = "Burn::schema_of_list")]
        what: Vec<Spanned<String>>,
    }
    /// Looks at something and reports it; changes nothing. Only `test-delivery` sends anything, and it asks first.
    Inspect as InspectWire {
        /// At what.
        #[schemars(schema_with = "Inspection::schema")]
        what: Spanned<String>,
    }
    /// Stops a systemd unit and waits until it has stopped. Under `--root` it is left out.
    StopUnit as StopUnitWire {
        /// What runs in it.
        #[schemars(schema_with = "UnitRole::schema")]
        runs: Spanned<String>,
        /// Its name with its type, where it is not nix-bitcoin's.
        #[schemars(with = "Option<String>")]
        unit: Option<Spanned<String>>,
    }
    /// Starts a systemd unit. Under `--root` it is left out.
    StartUnit as StartUnitWire {
        /// What runs in it.
        #[schemars(schema_with = "UnitRole::schema")]
        runs: Spanned<String>,
        /// Its name with its type, where it is not nix-bitcoin's.
        #[schemars(with = "Option<String>")]
        unit: Option<Spanned<String>>,
    }
    /// Runs a program of the operator's. No shell: the arguments reach it as they stand.
    Run as RunWire {
        /// The program by its absolute path, then its arguments.
        #[schemars(with = "Vec<String>")]
        argv: Vec<Spanned<String>>,
    }
    /// Waits for a condition; failing that, the run ends and can be taken up again.
    Wait as WaitWire {
        /// For what.
        #[serde(rename = "for")]
        #[schemars(schema_with = "Condition::schema")]
        condition: Spanned<String>,
        /// How long at most, such as `10m`.
        #[schemars(with = "String")]
        at_most: Spanned<String>,
        /// The unit, where the condition is about one.
        #[schemars(with = "Option<String>")]
        unit: Option<Spanned<String>>,
    }
    /// Tells the operator something, or to do something by hand.
    Tell as TellWire {
        /// What.
        #[schemars(with = "String")]
        text: Spanned<String>,
        /// What the operator must answer. Default: `none`.
        #[serde(default)]
        #[schemars(schema_with = "Answer::schema")]
        answer: Option<Spanned<String>>,
        /// Lines to be copied, never run by the program.
        #[serde(default)]
        #[schemars(with = "Vec<String>")]
        command: Vec<Spanned<String>>,
    }
    /// Ends the run where something does not hold.
    Assert as AssertWire {
        /// What must hold.
        #[schemars(schema_with = "Assertion::schema_of_list")]
        what: Vec<Spanned<String>>,
    }
    /// Claims the final snapshot in every vault, and refuses where somebody else has.
    Claim as ClaimWire {}
    /// Drill only: breaks something in the sandbox's vault.
    Damage as DamageWire {
        /// How.
        #[schemars(schema_with = "Harm::schema")]
        what: Spanned<String>,
    }
    /// Drill only: takes one of the sandbox's vaults away.
    LoseVault as LoseVaultWire {}
    /// Drill only: makes the lost vault again from another one, ciphertext only.
    SyncVault as SyncVaultWire {}
    /// Drill only: verifies every vault of the sandbox.
    VerifyVault as VerifyVaultWire {
        /// How far. Default: `opened`.
        #[serde(default)]
        #[schemars(schema_with = "Depth::schema")]
        depth: Option<Spanned<String>>,
        /// What must come of it.
        #[schemars(schema_with = "Expected::schema")]
        expect: Spanned<String>,
    }
    /// Drill only: throws one identity away.
    LoseIdentity as LoseIdentityWire {}
    /// Drill only: makes a new identity, gives new snapshots its recipient, and drops the lost one's.
    ChangeRecipients as ChangeRecipientsWire {}
    /// Drill only: runs the vault's `recover.sh` with stock tools in an empty folder.
    RecoverByHand as RecoverByHandWire {}
    /// Drill only: plays the steps of another scenario.
    Play as PlayWire {
        /// Which one.
        #[schemars(with = "String")]
        scenario: Spanned<String>,
    }
);

/// The JSON Schema of a scenario file, for editors; docs/scenario.schema.json.
pub fn schema() -> Value {
    let settings =
        schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut root = settings.clone().into_generator().into_root_schema_for::<Wire>().to_value();
    let mut step = settings.with(|settings| settings.meta_schema = None).into_generator();
    let step = step.root_schema_for::<StepWire>().to_value();
    root["title"] = json!("relay-backup scenario");
    root["properties"]["format"] = json!({ "description": "Always 1.", "type": "integer", "const": 1 });
    root["properties"]["must_hold"]["minItems"] = json!(1);
    root["properties"]["step"] = json!({
        "description": "What is done, in this order.", "type": "array", "minItems": 1, "items": step,
    });
    if let Some(required) = root["required"].as_array_mut() {
        required.push(json!("step"));
    }
    root
}
