INSERT INTO blks SELECT 'BTC', encode(sha256((:seed || 'k' || n)::bytea), 'hex'), n, encode(sha256((:seed || 'k' || n - 1)::bytea), 'hex'), true,
    timestamptz '2025-01-01 00:00:00Z' + n * interval '600 seconds' FROM generate_series(:first, :last) n;
INSERT INTO txs SELECT 'BTC', encode(sha256((:seed || 't' || n)::bytea), 'hex'),
    decode(repeat(md5(:seed || 'r' || n), 1 + n % 9) || md5(n::text), 'hex'), encode(sha256((:seed || 'k' || n)::bytea), 'hex'),
    timestamptz '2025-01-01 00:00:00Z' + n * interval '600 seconds' FROM generate_series(:first, :last) n;
INSERT INTO descriptors_scripts SELECT 'BTC', 'descriptor-' || (1 + n % 3) || '/Deposit', n, '0014' || left(encode(sha256((:seed || 's' || n)::bytea), 'hex'), 40),
    jsonb_build_object('redeem', NULL, 'blindingKey', NULL, 'feature', 'Deposit'), n % 30 <> 0 FROM generate_series(:first, :last) n;
UPDATE descriptors d SET next_idx = 1 + m.idx FROM (SELECT code, descriptor, max(idx) AS idx FROM descriptors_scripts GROUP BY 1, 2) m
    WHERE m.code = d.code AND m.descriptor = d.descriptor;
INSERT INTO nbxv1_evts SELECT 'BTC', n, 'newtransaction', jsonb_build_object('outputs', jsonb_build_array(jsonb_build_object('value', n, 'index', 0)),
    'transactionData', jsonb_build_object('transactionHash', encode(sha256((:seed || 't' || n)::bytea), 'hex'), 'confirmations', 0)), 'tx-' || n,
    timestamptz '2025-01-01 00:00:00Z' + n * interval '600 seconds' FROM generate_series(:first, :last) n;
UPDATE nbxv1_evts_ids SET curr_id = :last;
REFRESH MATERIALIZED VIEW wallets_history;
