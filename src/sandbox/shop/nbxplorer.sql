-- A database shaped like NBXplorer's, in our own words. No key material: the hot wallet's values are made up.
CREATE TABLE nbxv1_migrations (script_name text PRIMARY KEY, executed_at timestamptz DEFAULT '2026-01-01 00:00:00Z');
CREATE TABLE blks (code text, blk_id text, height bigint, prev_id text, confirmed boolean DEFAULT false,
    indexed_at timestamptz NOT NULL, PRIMARY KEY (code, blk_id));
CREATE TABLE txs (code text, tx_id text, raw bytea, blk_id text, seen_at timestamptz NOT NULL, PRIMARY KEY (code, tx_id));
CREATE TABLE wallets (wallet_id text PRIMARY KEY, metadata jsonb, created_at timestamptz NOT NULL);
CREATE TABLE descriptors (code text, descriptor text, metadata jsonb, next_idx bigint DEFAULT 0, gap bigint DEFAULT 0,
    PRIMARY KEY (code, descriptor));
CREATE TABLE descriptors_scripts (code text, descriptor text, idx bigint, script text, metadata jsonb,
    used boolean NOT NULL DEFAULT false, PRIMARY KEY (code, descriptor, idx),
    FOREIGN KEY (code, descriptor) REFERENCES descriptors);
CREATE TABLE nbxv1_evts (code text, id bigint, type text, data jsonb, event_id text, created_at timestamptz NOT NULL,
    PRIMARY KEY (code, id));
CREATE TABLE nbxv1_evts_ids (code text PRIMARY KEY, curr_id bigint);
CREATE TABLE nbxv1_settings (code text, key text, data_bytes bytea, data_json jsonb, PRIMARY KEY (code, key));
CREATE TABLE nbxv1_metadata (wallet_id text, key text, data jsonb, PRIMARY KEY (wallet_id, key));
CREATE MATERIALIZED VIEW wallets_history AS
    SELECT t.code, t.tx_id, t.seen_at, b.height FROM txs t LEFT JOIN blks b USING (code, blk_id);
CREATE MATERIALIZED VIEW wallets_unfilled AS SELECT code, count(*) AS count FROM txs GROUP BY code WITH NO DATA;
INSERT INTO nbxv1_migrations VALUES ('001.Migrations'), ('023.LastMigration');
INSERT INTO wallets SELECT 'wallet' || n, '{"type": "NBXv1-Derivation"}', '2026-01-01 00:00:00Z' FROM generate_series(1, 3) n;
INSERT INTO descriptors SELECT 'BTC', 'descriptor-' || d || '/' || k, jsonb_build_object('derivation', 'xpub-made-up-' || d), 0, 20
    FROM generate_series(1, 3) d, unnest(ARRAY['Deposit', 'Change']) k;
INSERT INTO nbxv1_metadata VALUES ('wallet1', 'Mnemonic', '"not a mnemonic"'), ('wallet1', 'MasterHDKey', '"not a key"'),
    ('wallet1', 'AccountHDKey', '"not a key"'), ('wallet2', 'ImportAddressToRPC', '"False"');
INSERT INTO nbxv1_settings VALUES ('BTC', 'BlockLocator-main', '\x0102030a5c', NULL), ('', 'version', NULL, '{"v": 1}');
INSERT INTO nbxv1_evts_ids VALUES ('BTC', 0);
