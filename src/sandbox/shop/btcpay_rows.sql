INSERT INTO "Invoices" SELECT 'inv-' || md5(:seed || 'i' || n), 'store' || (1 + n % 3),
    (ARRAY['Settled', 'Settled', 'Settled', 'Expired', 'Expired', 'New', 'Processing', 'Invalid'])[1 + n % 8],
    (ARRAY['', '', 'PaidPartial', '', '', 'PaidOver', 'PaidLate'])[1 + n % 7],
    CASE WHEN n % 50 = 0 THEN NULL ELSE (n % 9973) * 0.01 END, 'EUR',
    timestamptz '2025-01-01 00:00:00Z' + n * interval '97 seconds', n % 11 = 0, NULL,
    jsonb_build_object('version', 3, 'metadata', jsonb_build_object('orderId', 'order-' || n, 'buyerEmail', md5(:seed || 'b' || n) || '@mail.example',
        'itemDesc', E'Ware "' || n || E'"\nzweite Zeile \\ Ende'), 'expirationTime', 1735689600 + n * 97 + 900,
        'prompts', jsonb_build_object('BTC-CHAIN', jsonb_build_object('destination', 'bcrt1q' || left(encode(sha256((:seed || 'a' || n)::bytea), 'hex'), 38),
            'rate', 60000 + (n % 5000) * 0.5, 'keyPath', '0/' || n), 'BTC-LN', jsonb_build_object('destination',
            'lnbcrt' || encode(sha256((:seed || 'l' || n)::bytea), 'hex') || encode(sha256((:seed || 'm' || n)::bytea), 'hex'))))
    FROM generate_series(:first, :last) n;
INSERT INTO "AddressInvoices" SELECT left(encode(sha256((:seed || 'h' || n)::bytea), 'hex'), 40), 'BTC-CHAIN', 'inv-' || md5(:seed || 'i' || n)
    FROM generate_series(:first, :last) n;
INSERT INTO "InvoiceSearches" ("InvoiceDataId", "Value") SELECT 'inv-' || md5(:seed || 'i' || n), 'order-' || n FROM generate_series(:first, :last) n;
INSERT INTO "Payments" SELECT encode(sha256((:seed || 'p' || n)::bytea), 'hex') || '-' || n % 3, 'BTC-CHAIN', 'inv-' || md5(:seed || 'i' || n),
    (ARRAY['Settled', 'Settled', 'Processing', 'Unaccounted'])[1 + n % 4], (n % 9973) * 0.000001, 'BTC',
    timestamptz '2025-01-01 00:10:00Z' + n * interval '97 seconds',
    jsonb_build_object('details', jsonb_build_object('outpoint', encode(sha256((:seed || 'p' || n)::bytea), 'hex') || '-' || n % 3, 'rbf', n % 2 = 0)), NULL
    FROM generate_series(:first, :last) n WHERE n % 8 < 3;
INSERT INTO "WebhookDeliveries" SELECT 'del' || left(md5(:seed || 'w' || n), 20), 'hook' || (1 + (1 + n % 3) % 2),
    timestamptz '2025-01-01 00:11:00Z' + n * interval '97 seconds', false,
    jsonb_build_object('status', CASE WHEN n % 20 = 0 THEN 'HttpError' ELSE 'HttpSuccess' END, 'httpCode', CASE WHEN n % 20 = 0 THEN 500 ELSE 200 END,
        'request', encode(convert_to(jsonb_build_object('deliveryId', md5(:seed || 'w' || n), 'type',
            (ARRAY['InvoiceSettled', 'InvoiceSettled', 'InvoiceSettled', 'InvoiceExpired', 'InvoiceExpired', 'InvoiceCreated', 'InvoiceProcessing', 'InvoiceInvalid'])[1 + n % 8],
            'invoiceId', 'inv-' || md5(:seed || 'i' || n),
            'metadata', jsonb_build_object('orderId', 'order-' || n))::text, 'UTF8'), 'base64'))
    FROM generate_series(:first, :last) n;
INSERT INTO "InvoiceWebhookDeliveries" SELECT 'inv-' || md5(:seed || 'i' || n), 'del' || left(md5(:seed || 'w' || n), 20)
    FROM generate_series(:first, :last) n;
