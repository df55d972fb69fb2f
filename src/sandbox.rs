//! Private places for rehearsals: a scratch PostgreSQL cluster, wiped at the end.

pub mod cluster;
