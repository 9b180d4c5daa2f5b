-- What schedules did: one row for each due time that was settled, and how far each schedule was looked at.
CREATE TABLE slots (
    schedule_id TEXT    NOT NULL,
    slot        INTEGER NOT NULL,
    state       TEXT    NOT NULL,
    exec_id     TEXT,
    detail      TEXT,
    settled_at  INTEGER NOT NULL,
    backfilled  INTEGER NOT NULL,
    PRIMARY KEY (schedule_id, slot)
) STRICT, WITHOUT ROWID;

CREATE INDEX slots_oldest ON slots (slot, schedule_id);
CREATE INDEX slots_waiting ON slots (slot, schedule_id) WHERE state = 'waiting';

CREATE TABLE cursors (
    schedule_id    TEXT    NOT NULL PRIMARY KEY,
    timing         TEXT    NOT NULL,
    looked_through INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The newest success of each job on each agent. It stays when the run is forgotten.
CREATE TABLE successes (
    job_id       TEXT    NOT NULL,
    pc_id        TEXT    NOT NULL,
    succeeded_at INTEGER NOT NULL,
    PRIMARY KEY (job_id, pc_id)
) STRICT, WITHOUT ROWID;

INSERT INTO successes (job_id, pc_id, succeeded_at)
SELECT job_id, pc_id, max(ifnull(finished_at, started_at))
FROM runs WHERE state = 'succeeded' AND job_id IS NOT NULL GROUP BY job_id, pc_id;

PRAGMA user_version = 3;
