//! relay-backup: backup and disaster recovery for hosts that run BTCPay Server, Core Lightning and PostgreSQL.

pub mod artifact;
pub mod base;
pub mod catalog;
pub mod facts;
pub mod manifest;
pub mod notes;
pub mod policy;
pub mod report;
pub mod sandbox;
pub mod seal;
pub mod sources;
pub mod vault;
