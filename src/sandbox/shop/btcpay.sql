-- A database shaped like BTCPay Server's: the tables, columns, types and functions a backup looks at, in our own words.
CREATE FUNCTION is_pending(status text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
    $$ SELECT status = 'Processing' OR status = 'New' $$;
CREATE FUNCTION get_orderid(blob jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT blob #>> '{metadata,orderId}' $$;
CREATE TABLE "__EFMigrationsHistory" ("MigrationId" varchar(150) PRIMARY KEY, "ProductVersion" varchar(32) NOT NULL);
INSERT INTO "__EFMigrationsHistory" VALUES ('20240104155620_indexupdates', '8.0.0'), ('20260610081428_latest', '10.0.0');
CREATE TABLE "Stores" (
    "Id" text PRIMARY KEY, "StoreName" text, "SpeedPolicy" integer NOT NULL, "DerivationStrategies" jsonb,
    "StoreBlob" jsonb, "StoreCertificate" bytea, "Archived" boolean NOT NULL DEFAULT false);
CREATE TABLE "StoreRoles" ("Id" text PRIMARY KEY, "StoreDataId" text, "Role" text, "Permissions" text[] NOT NULL);
CREATE TABLE "Invoices" (
    "Id" text PRIMARY KEY, "StoreDataId" text REFERENCES "Stores", "Status" text, "ExceptionStatus" text,
    "Amount" numeric, "Currency" text, "Created" timestamptz NOT NULL, "Archived" boolean NOT NULL DEFAULT false,
    "Blob" bytea, "Blob2" jsonb);
CREATE INDEX "IX_Invoices_Pending" ON "Invoices" ((1)) WHERE is_pending("Status");
CREATE INDEX "IX_Invoices_OrderId" ON "Invoices" (get_orderid("Blob2"));
CREATE INDEX "IX_Invoices_Created" ON "Invoices" ("Created");
CREATE TABLE "Payments" (
    "Id" text, "PaymentMethodId" text, "InvoiceDataId" text REFERENCES "Invoices", "Status" text, "Amount" numeric,
    "Currency" text, "Created" timestamptz, "Blob2" jsonb, "Accounted" boolean,
    PRIMARY KEY ("Id", "PaymentMethodId"));
CREATE TABLE "AddressInvoices" (
    "Address" text, "PaymentMethodId" text, "InvoiceDataId" text REFERENCES "Invoices",
    PRIMARY KEY ("Address", "PaymentMethodId"));
CREATE TABLE "InvoiceSearches" (
    "Id" serial PRIMARY KEY, "InvoiceDataId" text REFERENCES "Invoices", "Value" text);
CREATE TABLE "Webhooks" ("Id" varchar(25) PRIMARY KEY, "Blob2" jsonb);
CREATE TABLE "StoreWebhooks" (
    "StoreId" varchar(50) REFERENCES "Stores", "WebhookId" varchar(25) REFERENCES "Webhooks" ON DELETE CASCADE,
    PRIMARY KEY ("StoreId", "WebhookId"));
CREATE TABLE "WebhookDeliveries" (
    "Id" varchar(25) PRIMARY KEY, "WebhookId" varchar(25) REFERENCES "Webhooks", "Timestamp" timestamptz NOT NULL,
    "Pruned" boolean NOT NULL DEFAULT false, "Blob" jsonb);
CREATE INDEX "IX_WebhookDeliveries_Timestamp" ON "WebhookDeliveries" ("Timestamp");
CREATE TABLE "InvoiceWebhookDeliveries" (
    "InvoiceId" text REFERENCES "Invoices", "DeliveryId" varchar(25) REFERENCES "WebhookDeliveries",
    PRIMARY KEY ("InvoiceId", "DeliveryId"));
CREATE TABLE "ApiKeys" (
    "Id" varchar(50) PRIMARY KEY, "UserId" varchar(50), "StoreId" varchar(50), "Type" integer NOT NULL, "Label" text,
    "Blob2" jsonb);
CREATE TABLE "Payouts" (
    "Id" varchar(30) PRIMARY KEY, "State" varchar(20) NOT NULL, "Date" timestamptz NOT NULL, "Amount" numeric,
    "Currency" text, "StoreDataId" text, "Blob" jsonb);
CREATE TABLE "PayoutProcessors" ("Id" text PRIMARY KEY, "StoreId" text, "PayoutMethodId" text, "Processor" text, "Blob2" jsonb);
-- One table with the kinds of values that are hard to print the same way twice.
CREATE TABLE "Odds" (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, rate double precision, ratio real, tags text[], moment timestamptz,
    span interval, note text, raw bytea, halved double precision GENERATED ALWAYS AS (rate / 2) STORED);

INSERT INTO "Stores" SELECT 'store' || n, 'Shop ' || n, 1,
    jsonb_build_object('BTC-CHAIN', jsonb_build_object('accountDerivation', 'xpub-' || md5('d' || n))),
    jsonb_build_object('defaultCurrency', 'EUR', 'website', 'https://shop' || n || '.example'), decode(md5('c' || n), 'hex'), false
    FROM generate_series(1, 3) n;
INSERT INTO "StoreRoles" VALUES ('owner', NULL, 'Owner', '{btcpay.store.canmodifystoresettings,"with, comma","with \"quote\""}'),
    ('guest', 'store1', 'Guest', '{}');
INSERT INTO "Webhooks" SELECT 'hook' || n, jsonb_build_object('url', 'https://consumer' || n || '.example/hook', 'active', true,
    'secret', 'demo-webhook-secret-' || n, 'automaticRedelivery', true,
    'authorizedEvents', jsonb_build_object('everything', n = 1, 'specificEvents', '["InvoiceSettled"]'::jsonb)) FROM generate_series(1, 2) n;
INSERT INTO "StoreWebhooks" SELECT 'store' || n, 'hook' || (1 + n % 2) FROM generate_series(1, 3) n;
INSERT INTO "ApiKeys" SELECT 'demo-key-' || n, 'user' || n, NULL, 0, E'label\twith tab', '{"permissions": ["btcpay.store.canviewinvoices"]}' FROM generate_series(1, 4) n;
INSERT INTO "Payouts" SELECT 'payout' || n, (ARRAY['AwaitingPayment', 'Completed', 'Cancelled'])[1 + n % 3],
    timestamptz '2026-11-01 00:00:00Z' + n * interval '1 hour', n * 0.0001, 'BTC', 'store1', '{}' FROM generate_series(1, 9) n;
INSERT INTO "PayoutProcessors" VALUES ('processor1', 'store1', 'BTC-CHAIN', 'OnChainAutomatedPayoutSenderFactory', '{}');
INSERT INTO "Odds" (rate, ratio, tags, moment, span, note, raw) VALUES
    (0.1, 0.3, '{a,NULL,"b c"}', '2026-03-29 01:30:00+01', '1 mon 2 days 03:04:05.678', E'line\nline\\N\ttab\r', '\x00ff0a5c'),
    ('NaN', 'Infinity', '{}', 'infinity', '-1 year', '', ''), (NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (1e308, 1e-38, '{{x,y},{z,w}}', '0044-03-15 12:00:00 BC', '0', '\.', '\x5c2e0a'),
    (pi(), 2.718281828, '{ä,€}', '2026-11-20 05:12:00.123456Z', '12:00', E'\\.\n', NULL);
SELECT lo_from_bytea(0, decode(repeat(md5('file' || n), 3000 * n), 'hex')) FROM generate_series(1, 3) n;
SELECT lo_create(0);
