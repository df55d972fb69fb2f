//! Private places for rehearsals: a scratch PostgreSQL cluster, wiped at the end, and shop-shaped data for it.

pub mod cluster;
pub mod node;
pub mod shop;
