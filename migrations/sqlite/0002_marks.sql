-- What has happened once and is to be known for good.
CREATE TABLE marks (
    name      TEXT    NOT NULL PRIMARY KEY,
    marked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 2;
