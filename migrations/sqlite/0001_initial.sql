-- The store and the catalog of kanade in one file.
--
-- Moments are microseconds since 1970, ids that are UUIDs are 16 bytes (which sort as their text does), other ids and
-- states are text, documents are JSON text. There are no foreign keys: a batch is worked out before it is written, and
-- whoever forgets an execution forgets its rows. Lists are walked by keyset, so every list has an index that ends in
-- its order; the store's tests check the plans.

-- "kana": tells the file from the databases of other programs.
PRAGMA application_id = 0x6b616e61;

CREATE TABLE executions (
    exec_id           TEXT    NOT NULL PRIMARY KEY,
    job_id            TEXT    NOT NULL,
    version           TEXT    NOT NULL,
    initiated_by      TEXT    NOT NULL,
    initiated_at      INTEGER NOT NULL,
    start_within_secs INTEGER NOT NULL,
    run_within_secs   INTEGER NOT NULL,
    status            TEXT    NOT NULL,
    started           INTEGER NOT NULL,
    counts            TEXT    NOT NULL, -- how many targets are in which state, in the order of the states
    last_due_at       INTEGER NOT NULL,
    expired_at        INTEGER,
    finished_at       INTEGER,          -- set exactly while the execution is final
    killed_by         TEXT,
    killed_at         INTEGER,
    kill_settled      INTEGER
) STRICT;

CREATE INDEX executions_newest ON executions (initiated_at, exec_id);
CREATE INDEX executions_with_status ON executions (status, initiated_at, exec_id);
CREATE INDEX executions_of_job ON executions (job_id, initiated_at, exec_id);
CREATE INDEX executions_of_job_with_status ON executions (job_id, status, initiated_at, exec_id);
CREATE INDEX executions_live ON executions (job_id, status, exec_id)
    WHERE status IN ('pending', 'running', 'expired');
CREATE INDEX executions_pending ON executions (last_due_at, exec_id) WHERE status = 'pending';
CREATE INDEX executions_with_open_kill ON executions (killed_at, exec_id) WHERE kill_settled = 0;
CREATE INDEX executions_final ON executions (finished_at, exec_id) WHERE finished_at IS NOT NULL;

-- Beside the executions, because a script may be long and lists of executions never show it.
CREATE TABLE orders (
    exec_id  TEXT NOT NULL PRIMARY KEY,
    document TEXT NOT NULL
) STRICT;

CREATE TABLE targets (
    exec_id     TEXT    NOT NULL,
    pc_id       TEXT    NOT NULL,
    send_id     BLOB,
    request_id  BLOB    NOT NULL,
    wave        INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    state       TEXT    NOT NULL,
    result_id   BLOB,
    started_at  INTEGER,
    finished_at INTEGER,
    exit_code   INTEGER,
    detail      TEXT,
    receipt     TEXT,
    check_at    INTEGER,                -- set exactly while the target waits
    PRIMARY KEY (exec_id, pc_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX targets_in_state ON targets (exec_id, state, pc_id);
CREATE INDEX targets_unfinished ON targets (pc_id, due_at, exec_id) WHERE state IN ('waiting', 'running');
CREATE INDEX targets_with_unanswered_kill ON targets (pc_id, finished_at, exec_id)
    WHERE state IN ('lost', 'withdrawn', 'expired') AND receipt IN ('requested', 'unreachable');
CREATE INDEX targets_expiring ON targets (check_at, exec_id, pc_id) WHERE check_at IS NOT NULL;

CREATE TABLE sends (
    send_id    BLOB    NOT NULL PRIMARY KEY,
    exec_id    TEXT    NOT NULL,
    pc_id      TEXT,                    -- null: every agent
    request_id BLOB    NOT NULL,
    wave       INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    state      TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sends_of_execution ON sends (exec_id, due_at, send_id);
CREATE INDEX sends_due ON sends (due_at, send_id) WHERE state = 'due';

CREATE TABLE runs (
    result_id   BLOB    NOT NULL PRIMARY KEY,
    request_id  BLOB    NOT NULL,
    exec_id     TEXT,
    pc_id       TEXT    NOT NULL,
    job_id      TEXT,
    started_at  INTEGER NOT NULL,
    version     TEXT,
    state       TEXT    NOT NULL,
    exit_code   INTEGER,
    finished_at INTEGER,
    check_at    INTEGER,                -- set exactly while the run runs
    -- What clients filter by.
    outcome     TEXT AS (CASE state WHEN 'running' THEN 'running' WHEN 'succeeded' THEN 'success' ELSE 'failure' END),
    ended_at    INTEGER AS (CASE state WHEN 'running' THEN NULL ELSE ifnull(finished_at, started_at) END)
) STRICT;

-- A list of every outcome merges the three, so one index serves it and the lists of one outcome.
CREATE INDEX runs_newest ON runs (outcome, started_at, result_id);
CREATE INDEX runs_of_execution ON runs (exec_id, outcome, started_at, result_id);
CREATE INDEX runs_of_job ON runs (job_id, outcome, started_at, result_id);
-- Not so here: the runs that end in one commit are of many agents, and each would cost this index a page.
CREATE INDEX runs_on_agent ON runs (pc_id, started_at, result_id);
CREATE INDEX runs_failed_on_agent ON runs (pc_id, started_at, result_id) WHERE outcome = 'failure';
CREATE INDEX runs_expiring ON runs (check_at, result_id) WHERE check_at IS NOT NULL;
CREATE INDEX runs_ended ON runs (ended_at, result_id) WHERE ended_at IS NOT NULL;

-- Beside the runs, so that walking a list of runs reads no output.
CREATE TABLE outputs (
    result_id BLOB NOT NULL PRIMARY KEY,
    stdout    TEXT NOT NULL,
    stderr    TEXT NOT NULL
) STRICT;

CREATE TABLE agents (
    pc_id          TEXT    NOT NULL PRIMARY KEY,
    hostname       TEXT,
    os_family      TEXT,
    agent_version  TEXT,
    last_heartbeat INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE facts (
    pc_id        TEXT    NOT NULL,
    job_id       TEXT    NOT NULL,
    facts        TEXT    NOT NULL,
    hints        TEXT    NOT NULL,
    description  TEXT,
    collected_at INTEGER NOT NULL,
    recorded_at  INTEGER NOT NULL,
    PRIMARY KEY (pc_id, job_id)
) STRICT;

CREATE INDEX facts_of_job ON facts (job_id, pc_id);

-- AUTOINCREMENT: a number is never given again, also when the newest entry is forgotten.
CREATE TABLE audit (
    audit_id    INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    event_id    BLOB UNIQUE,
    actor       TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    target      TEXT,
    payload     TEXT    NOT NULL,
    occurred_at INTEGER NOT NULL
) STRICT;

CREATE INDEX audit_of_actor ON audit (actor, audit_id);
CREATE INDEX audit_oldest ON audit (occurred_at, audit_id);

CREATE TABLE dead_letters (
    letter_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    subject   TEXT    NOT NULL,
    payload   TEXT    NOT NULL,
    reason    TEXT    NOT NULL,
    set_aside INTEGER NOT NULL
) STRICT;

CREATE INDEX dead_letters_oldest ON dead_letters (set_aside, letter_id);

CREATE TABLE idempotency_keys (
    idempotency_key TEXT    NOT NULL PRIMARY KEY,
    fingerprint     TEXT    NOT NULL,
    exec_id         TEXT    NOT NULL,
    used_at         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_oldest ON idempotency_keys (used_at, idempotency_key);

-- The versions of all documents. Their numbers are the revisions: one sequence for the whole catalog, none given twice.
CREATE TABLE versions (
    revision     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    bucket       TEXT    NOT NULL,
    document_key TEXT    NOT NULL,
    value        BLOB    NOT NULL
) STRICT;

CREATE INDEX versions_of_document ON versions (bucket, document_key, revision);

-- The documents that are there; a deleted one only has versions.
CREATE TABLE documents (
    bucket       TEXT    NOT NULL,
    document_key TEXT    NOT NULL,
    revision     INTEGER NOT NULL,
    PRIMARY KEY (bucket, document_key)
) STRICT, WITHOUT ROWID;

-- The number of this migration, for readers that refuse a newer file.
PRAGMA user_version = 1;
