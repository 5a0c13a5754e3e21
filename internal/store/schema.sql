-- Contracts: one row a machine; state is deterministic CBOR. wake, top and
-- done mirror contract.Interest.
CREATE TABLE contract (
  seq   INTEGER PRIMARY KEY,
  kind  TEXT NOT NULL,
  id    BLOB NOT NULL,
  state BLOB NOT NULL,
  wake  INTEGER NOT NULL,
  top   INTEGER NOT NULL,
  done  INTEGER NOT NULL,
  UNIQUE (kind, id)
);
CREATE INDEX contract_wake ON contract (wake) WHERE wake > 0 AND done = 0;
CREATE INDEX contract_top ON contract (top);

-- What contracts watch: a 32-byte txid, or a 36-byte outpoint.
CREATE TABLE watch (
  key      BLOB NOT NULL,
  contract INTEGER NOT NULL REFERENCES contract (seq) ON DELETE CASCADE,
  PRIMARY KEY (key, contract)
) WITHOUT ROWID;
CREATE INDEX watch_contract ON watch (contract);

-- Effects that are committed and not known to be done.
CREATE TABLE effect (
  id   INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  ref  BLOB NOT NULL,
  name TEXT NOT NULL,
  body BLOB NOT NULL
);

-- The chain as it was told, its last blocks only.
CREATE TABLE block (
  height INTEGER PRIMARY KEY,
  hash   BLOB NOT NULL
);

-- The wallet and whatever else shares the transaction.
CREATE TABLE kv (
  bucket TEXT NOT NULL,
  key    BLOB NOT NULL,
  value  BLOB NOT NULL,
  PRIMARY KEY (bucket, key)
) WITHOUT ROWID;
