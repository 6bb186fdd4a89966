-- People, their devices, what those may do, and the record of it. All times are whole seconds since 1970 (UTC).

CREATE TABLE accounts (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  name          TEXT NOT NULL UNIQUE,
  name_key      TEXT UNIQUE,               -- NFC + casefold: nobody can be two accounts by spelling
  password_hash TEXT NOT NULL DEFAULT '',  -- Argon2id, with its parameters; empty: nobody can log in
  created_at    INTEGER NOT NULL DEFAULT 0
) STRICT;

-- One row per client that may act for an account: a computer, a telephone, or an app password.
CREATE TABLE devices (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again: an old token must not fit a new device
  account_id   INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
  name         TEXT NOT NULL,
  kind         TEXT NOT NULL DEFAULT 'device' CHECK (kind IN ('device', 'app')),
  scopes       TEXT NOT NULL DEFAULT '',   -- separated by one space
  epoch        INTEGER NOT NULL DEFAULT 1, -- access tokens of an older epoch are worthless
  app_hash     BLOB UNIQUE,                -- SHA-256 of the app password
  created_at   INTEGER NOT NULL DEFAULT 0,
  last_seen_at INTEGER NOT NULL DEFAULT 0,
  last_address TEXT NOT NULL DEFAULT '',
  revoked_at   INTEGER
) STRICT;
CREATE INDEX devices_by_account ON devices (account_id, id);

-- current: good once. spent: its successor is the current one and may have been lost on the way. dead: any use is theft.
CREATE TABLE refresh_tokens (
  hash       BLOB PRIMARY KEY,             -- SHA-256
  device_id  INTEGER NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
  state      TEXT NOT NULL CHECK (state IN ('current', 'spent', 'dead')),
  changed_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  address    TEXT NOT NULL                 -- who spent it
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_by_device ON refresh_tokens (device_id, state);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

CREATE TABLE audit_log (
  id         INTEGER PRIMARY KEY,
  at         INTEGER NOT NULL,
  event      TEXT NOT NULL,
  account_id INTEGER,                      -- no references: the record outlives what it tells about
  device_id  INTEGER,
  address    TEXT NOT NULL,
  detail     TEXT NOT NULL
) STRICT;
CREATE INDEX audit_log_by_account ON audit_log (account_id, id);
CREATE INDEX audit_log_by_time ON audit_log (at);
