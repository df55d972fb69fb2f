//! Private places for rehearsals: a scratch PostgreSQL cluster and a folder for plaintext, both wiped at the end; and
//! what is played in them, a node's life and shop-shaped data.

pub mod cluster;
pub mod node;
pub mod private;
pub mod shop;
