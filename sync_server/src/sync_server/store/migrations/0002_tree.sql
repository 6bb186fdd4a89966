-- One tree for each account: nodes, their versions, the journal, the blobs the account holds.
-- Hashes are 32 bytes, times milliseconds since 1970.

CREATE TABLE trees (
    account INTEGER PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    generation TEXT NOT NULL,
    seq INTEGER NOT NULL DEFAULT 0,
    horizon INTEGER NOT NULL DEFAULT 0,
    next_node INTEGER NOT NULL DEFAULT 1,
    used INTEGER NOT NULL DEFAULT 0,
    pending INTEGER NOT NULL DEFAULT 0,
    quota INTEGER
);

CREATE TABLE nodes (
    account INTEGER NOT NULL REFERENCES trees (account) ON DELETE CASCADE,
    id INTEGER NOT NULL,
    parent INTEGER,
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    kind INTEGER NOT NULL CHECK (kind IN (0, 1)),
    revision INTEGER NOT NULL,
    content_rev INTEGER NOT NULL,
    place_rev INTEGER NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0,
    deleted_by INTEGER,
    size INTEGER NOT NULL DEFAULT 0,
    mtime INTEGER NOT NULL DEFAULT 0,
    executable INTEGER NOT NULL DEFAULT 0,
    content BLOB,
    parts INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (account, id)
) WITHOUT ROWID;

CREATE UNIQUE INDEX nodes_by_name ON nodes (account, parent, key) WHERE deleted = 0;
CREATE INDEX nodes_trash ON nodes (account, deleted, id) WHERE deleted <> 0;
CREATE INDEX nodes_trash_children ON nodes (account, parent) WHERE deleted <> 0;
CREATE INDEX nodes_expiring ON nodes (deleted) WHERE deleted <> 0;

CREATE TABLE versions (
    account INTEGER NOT NULL,
    node INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL,
    executable INTEGER NOT NULL,
    content BLOB NOT NULL,
    parts INTEGER NOT NULL,
    device INTEGER,
    time INTEGER NOT NULL,
    PRIMARY KEY (account, node, revision),
    FOREIGN KEY (account, node) REFERENCES nodes (account, id) ON DELETE CASCADE
) WITHOUT ROWID;

-- The blobs of content that has several; content of one blob is named by it.
CREATE TABLE lists (
    account INTEGER NOT NULL REFERENCES trees (account) ON DELETE CASCADE,
    content BLOB NOT NULL,
    blobs BLOB NOT NULL,
    refs INTEGER NOT NULL,
    PRIMARY KEY (account, content)
) WITHOUT ROWID;

-- A row here promises that the file of the blob is on disk, and lets the account see it.
CREATE TABLE holdings (
    hash BLOB NOT NULL,
    account INTEGER NOT NULL REFERENCES trees (account) ON DELETE CASCADE,
    size INTEGER NOT NULL,
    refs INTEGER NOT NULL DEFAULT 0,
    touched INTEGER NOT NULL,
    damaged INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (hash, account)
) WITHOUT ROWID;

CREATE INDEX holdings_idle ON holdings (touched) WHERE refs = 0;

CREATE TABLE journal (
    account INTEGER NOT NULL REFERENCES trees (account) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    node INTEGER NOT NULL,
    op INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    parent INTEGER,
    name TEXT NOT NULL,
    deleted INTEGER NOT NULL,
    content_rev INTEGER NOT NULL,
    device INTEGER,
    time INTEGER NOT NULL,
    PRIMARY KEY (account, seq)
) WITHOUT ROWID;

CREATE TABLE answers (
    device INTEGER NOT NULL,
    op_id TEXT NOT NULL,
    digest BLOB NOT NULL,
    answer BLOB NOT NULL,
    time INTEGER NOT NULL,
    PRIMARY KEY (device, op_id)
) WITHOUT ROWID;

CREATE INDEX answers_by_time ON answers (time);

CREATE TABLE conflicts (
    account INTEGER NOT NULL REFERENCES trees (account) ON DELETE CASCADE,
    id INTEGER NOT NULL,
    node INTEGER NOT NULL,
    copy INTEGER NOT NULL,
    node_rev INTEGER NOT NULL,
    copy_rev INTEGER NOT NULL,
    mine_device INTEGER,
    theirs_device INTEGER,
    theirs_time INTEGER NOT NULL,
    created INTEGER NOT NULL,
    resolved TEXT,
    resolved_at INTEGER,
    undo TEXT,
    PRIMARY KEY (account, id)
) WITHOUT ROWID;

CREATE INDEX conflicts_by_copy ON conflicts (account, copy);
CREATE INDEX conflicts_by_node ON conflicts (account, node) WHERE resolved IS NULL;

CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES trees (account) ON DELETE CASCADE,
    device INTEGER NOT NULL,
    path TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime INTEGER,
    executable INTEGER NOT NULL,
    base INTEGER,
    blobs BLOB NOT NULL,
    start INTEGER NOT NULL,
    part INTEGER NOT NULL,
    touched INTEGER NOT NULL,
    node INTEGER
) WITHOUT ROWID;

CREATE INDEX uploads_by_time ON uploads (touched);
