//! Private places for rehearsals: a scratch PostgreSQL cluster and a folder for plaintext, both wiped at the end, a node's
//! life and shop-shaped data for it.

pub mod cluster;
pub mod node;
pub mod private;
pub mod shop;
