-- The number of the attempt that a target is about, from 1.
ALTER TABLE targets ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;

-- What holds sends of an execution back may now be 3, too: others that have not finished, or the time before an attempt.
DROP INDEX executions_with_open_gate;
CREATE INDEX executions_to_steer ON executions (initiated_at, exec_id) WHERE held IN (1, 3);

PRAGMA user_version = 6;
