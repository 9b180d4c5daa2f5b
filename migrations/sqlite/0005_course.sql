-- How an execution goes on: its waves, a pause, an abort. Null for one that is fired at once and left alone.
ALTER TABLE executions ADD COLUMN course TEXT;
-- What holds sends of it back: 0 nothing, 1 a gate, 2 a pause. Follows from the other columns.
ALTER TABLE executions ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
-- When a kill was asked for again, or a run showed life after it; null while the first time counts.
ALTER TABLE executions ADD COLUMN kill_asked_again_at INTEGER;

CREATE INDEX executions_with_open_gate ON executions (initiated_at, exec_id) WHERE held = 1;
-- What is held is not stale.
DROP INDEX executions_pending;
CREATE INDEX executions_pending ON executions (last_due_at, exec_id) WHERE status = 'pending' AND held = 0;

PRAGMA user_version = 5;
