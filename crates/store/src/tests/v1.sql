-- One row a request. `*_call` are JSON; what is filtered or summed has a column of its own.
CREATE TABLE trace (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    api TEXT NOT NULL,
    asked TEXT NOT NULL,
    task TEXT,
    mode TEXT,
    route TEXT NOT NULL,
    reason TEXT NOT NULL,
    small TEXT,
    small_hash TEXT,
    confidence REAL,
    large TEXT,
    certificate TEXT,
    threshold REAL,
    audit_probability REAL,
    audited INTEGER NOT NULL,
    agreed INTEGER,
    gold TEXT,
    streamed INTEGER NOT NULL,
    ending TEXT NOT NULL,
    status INTEGER NOT NULL,
    error TEXT,
    queue_us INTEGER NOT NULL,
    first_byte_us INTEGER,
    total_us INTEGER NOT NULL,
    input TEXT,
    request TEXT,
    input_hash TEXT NOT NULL,
    small_call TEXT,
    large_call TEXT,
    audit_call TEXT,
    -- Sums over the calls. NULL cost: at least one call has no known price.
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_nanos INTEGER,
    -- Place in the sequence of evidence about `certificate`; NULL while an audit is awaited, or never to be one.
    audit_seq INTEGER,
    -- Whether it belongs to that sequence at all.
    evidence INTEGER NOT NULL,
    feedback_correct INTEGER,
    feedback_comment TEXT,
    feedback_at INTEGER
) STRICT;
CREATE INDEX trace_at ON trace (at, id);
CREATE INDEX trace_task ON trace (task, at) WHERE task IS NOT NULL;
CREATE INDEX trace_evidence ON trace (certificate, audit_seq) WHERE evidence = 1;

CREATE TABLE artifact (
    hash TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    task TEXT,
    path TEXT NOT NULL,
    base TEXT,
    parent TEXT,
    created INTEGER NOT NULL,
    metrics TEXT NOT NULL
) STRICT;

-- Append only: the small model of a task is the newest row.
CREATE TABLE deployment (
    seq INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    artifact TEXT NOT NULL REFERENCES artifact (hash),
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX deployment_task ON deployment (task, at, seq);

-- Numbers are columns, not JSON: a certificate's identity is a hash over their exact bits.
CREATE TABLE certificate (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    task TEXT NOT NULL,
    small TEXT NOT NULL,
    small_hash TEXT NOT NULL,
    large TEXT NOT NULL,
    epsilon REAL NOT NULL,
    delta REAL NOT NULL,
    loss TEXT NOT NULL,
    n INTEGER NOT NULL,
    losses INTEGER NOT NULL,
    threshold REAL NOT NULL,
    kept REAL NOT NULL,
    bound REAL NOT NULL,
    data_hash TEXT NOT NULL,
    issued INTEGER NOT NULL
) STRICT;
CREATE INDEX certificate_task ON certificate (task, small_hash, issued);

CREATE TABLE withdrawal (
    certificate TEXT PRIMARY KEY REFERENCES certificate (id),
    reason TEXT NOT NULL,
    evidence TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;

-- Counters. `generation` tells other processes that deployments or certificates changed.
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT INTO meta VALUES ('generation', 0), ('audit_seq', 0);

CREATE TRIGGER deployment_added AFTER INSERT ON deployment
BEGIN UPDATE meta SET value = value + 1 WHERE key = 'generation'; END;
CREATE TRIGGER certificate_added AFTER INSERT ON certificate
BEGIN UPDATE meta SET value = value + 1 WHERE key = 'generation'; END;
CREATE TRIGGER certificate_changed AFTER UPDATE ON certificate
BEGIN UPDATE meta SET value = value + 1 WHERE key = 'generation'; END;
CREATE TRIGGER certificate_removed AFTER DELETE ON certificate
BEGIN UPDATE meta SET value = value + 1 WHERE key = 'generation'; END;
CREATE TRIGGER withdrawal_added AFTER INSERT ON withdrawal
BEGIN UPDATE meta SET value = value + 1 WHERE key = 'generation'; END;
CREATE TRIGGER withdrawal_removed AFTER DELETE ON withdrawal
BEGIN UPDATE meta SET value = value + 1 WHERE key = 'generation'; END;

INSERT INTO trace VALUES (1, '00000000PB0000000000000001', 811, 'chat', 'auto:triage', 'triage', 'live', 'local',
  'kept', 'triage-minilm', 'h1', 0.9731, NULL, 'c0ffee', 0.9, 0.05, 1, NULL, NULL, 0, 'answered', 200, NULL, 12, 900,
  1100, 'hello', NULL, 'abc', '{"model":"triage-minilm","artifact":"h1","text":"ham","label":"ham","confidence":0.9731,"usage":{"input_tokens":3,"cached_input_tokens":0,"output_tokens":0,"estimated":false},"cost":0,"latency_us":800,"error":null}',
  NULL, NULL, 3, 0, 0, NULL, 1, NULL, NULL, NULL);
INSERT INTO trace VALUES (2, '00000000PC0000000000000002', 812, 'chat', 'gpt-4o-mini', NULL, NULL, 'large',
  'named', NULL, NULL, NULL, 'gpt-4o-mini', NULL, NULL, NULL, 0, NULL, NULL, 1, 'client_left', 499, 'cancelled', 12, NULL,
  2200, NULL, '[]', 'def', NULL, '{"model":"gpt-4o-mini","artifact":null,"text":null,"label":null,"confidence":null,"usage":{"input_tokens":30,"cached_input_tokens":0,"output_tokens":5,"estimated":true},"cost":null,"latency_us":2000,"error":null}',
  NULL, 30, 5, NULL, NULL, 0, NULL, NULL, NULL);
INSERT INTO artifact VALUES ('h1', 'triage-minilm', 'triage', 'artifacts/h1', 'minilm', NULL, 700, '{"accuracy":0.97}');
INSERT INTO deployment VALUES (1, 'triage', 'h1', 750);
PRAGMA application_id = 1431524441;
PRAGMA user_version = 1;
