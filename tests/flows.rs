//! Stories from the first key to the last restored byte, told by the program's own verbs and by stock tools, and what
//! becomes of them when somebody or something interferes.

mod bare_machine;
mod catalog;
mod cut_off;
mod damage;
mod dedup;
mod departure;
mod epochs;
mod forgery;
mod hand;
mod hostile_names;
mod incomplete;
mod links;
mod locks;
mod machine;
mod node;
mod probe;
mod restore;
mod round_trip;
mod s3;
mod servers;
mod silent_failures;
mod sources;
mod stock_tools;
mod webhooks;
pub(crate) mod witness;
