//! Who owns what in a database and who may do what with it, the parts that hang on its tables, and what belongs to the
//! database itself: enough to give all of it back and to see what is missing. Plain data.

use serde::{Deserialize, Serialize};

/// Owners, rights and parts of one database.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rights {
    /// Everything that has an owner and is no extension's.
    pub objects: Vec<ObjectRights>,
    /// What hangs on tables and has no owner of its own, such as `index public.by_date`, for a look whether it is
    /// there.
    pub parts: Vec<String>,
    /// What roles give away in advance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defaults: Vec<DefaultRights>,
    /// Of the database itself.
    pub database: DatabaseRights,
    /// Roles of the server that have a superuser's rights or can come to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub privileged: Vec<String>,
}

/// One object, its owner, and how its rights differ from what an owner gives by default.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRights {
    /// `table`, `function`, `schema`, as `pg_identify_object` says it.
    pub kind: String,
    /// Its name in SQL, qualified and quoted where needed.
    pub identity: String,
    /// Its owner.
    pub owner: String,
    /// Rights beyond the default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<Grant>,
    /// Rights of the default that were taken away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<Grant>,
}

/// One right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// Who holds it; empty is everybody.
    pub to: String,
    /// `SELECT`, `EXECUTE`.
    pub right: String,
    /// The column, where it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Who gave it.
    pub by: String,
    /// Whether the holder may give it on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grantable: bool,
}

/// What a role gives away of whatever it will make.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DefaultRights {
    /// The role.
    pub role: String,
    /// The schema, where it is for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// `TABLES`, `SEQUENCES`, `FUNCTIONS`, `TYPES`, `SCHEMAS`, `LARGE OBJECTS`.
    pub of: String,
    /// Rights beyond the default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<Grant>,
    /// Rights of the default that are not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<Grant>,
}

/// What belongs to a database itself.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DatabaseRights {
    /// Rights beyond the default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<Grant>,
    /// Rights of the default that were taken away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<Grant>,
    /// How many may be connected at once; -1 is any number.
    pub connection_limit: i32,
    /// Its comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Settings for sessions in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Setting>,
}

/// One setting for sessions in a database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Setting {
    /// The role whose sessions it is for; none is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Its name.
    pub name: String,
    /// Its value as the server keeps it.
    pub value: String,
}
