-- A ledger from before there were versions.
CREATE TABLE budget (
  id INTEGER NOT NULL,
  PRIMARY KEY (id)
);
CREATE TABLE delivery (
  run VARCHAR(128) NOT NULL,
  message VARCHAR(128) NOT NULL,
  digest VARCHAR(64) NOT NULL,
  status INTEGER NOT NULL,
  note TEXT NOT NULL,
  at FLOAT(53) NOT NULL,
  PRIMARY KEY (run, message)
);
CREATE TABLE done (
  megabatch VARCHAR(22) NOT NULL,
  generation INTEGER NOT NULL,
  run VARCHAR(128) NOT NULL,
  rank INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  PRIMARY KEY (megabatch, generation, run, rank)
);
CREATE TABLE history (
  megabatch VARCHAR(22) NOT NULL,
  version INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  was VARCHAR(16) NOT NULL,
  now VARCHAR(16) NOT NULL,
  actor TEXT NOT NULL,
  at FLOAT(53) NOT NULL,
  PRIMARY KEY (megabatch, version),
  CONSTRAINT history_was CHECK (was IN ('planned', 'staging', 'ready', 'in_use', 'complete', 'removing', 'removed')),
  CONSTRAINT history_now CHECK (now IN ('planned', 'staging', 'ready', 'in_use', 'complete', 'removing', 'removed'))
);
CREATE TABLE lock (
  name VARCHAR(128) NOT NULL,
  fence BIGINT NOT NULL,
  worker TEXT NOT NULL,
  lease_until FLOAT(53) NOT NULL,
  PRIMARY KEY (name)
);
CREATE TABLE megabatch (
  id VARCHAR(22) NOT NULL,
  plan VARCHAR(16) NOT NULL,
  number INTEGER NOT NULL,
  generation INTEGER DEFAULT '1' NOT NULL,
  state VARCHAR(16) DEFAULT 'planned' NOT NULL,
  version INTEGER DEFAULT '0' NOT NULL,
  bytes BIGINT NOT NULL,
  reserved BIGINT DEFAULT '0' NOT NULL,
  fence BIGINT DEFAULT '0' NOT NULL,
  lease_until FLOAT(53) DEFAULT '0' NOT NULL,
  worker TEXT DEFAULT '' NOT NULL,
  reason TEXT DEFAULT '' NOT NULL,
  PRIMARY KEY (id),
  CONSTRAINT megabatch_bytes CHECK (bytes >= 0 AND reserved >= 0),
  CONSTRAINT megabatch_state CHECK (state IN ('planned', 'staging', 'ready', 'in_use', 'complete', 'removing', 'removed'))
);
CREATE INDEX ix_megabatch_plan ON megabatch (plan);
CREATE TABLE outbox (
  id BIGSERIAL NOT NULL,
  kind VARCHAR(16) NOT NULL,
  subject VARCHAR(22) NOT NULL,
  key VARCHAR(256) NOT NULL,
  created FLOAT(53) NOT NULL,
  attempts INTEGER DEFAULT '0' NOT NULL,
  next_try FLOAT(53) NOT NULL,
  sent_at FLOAT(53),
  flow_run TEXT,
  error TEXT DEFAULT '' NOT NULL,
  PRIMARY KEY (id),
  CONSTRAINT outbox_kind CHECK (kind IN ('cleanup', 'stage')),
  UNIQUE (key)
);
CREATE INDEX outbox_due ON outbox (sent_at, next_try);
CREATE TABLE plan (
  id VARCHAR(16) NOT NULL,
  request TEXT NOT NULL,
  created FLOAT(53) NOT NULL,
  PRIMARY KEY (id)
);
CREATE TABLE run (
  id VARCHAR(128) NOT NULL,
  plan VARCHAR(16) NOT NULL,
  attempt INTEGER NOT NULL,
  world INTEGER NOT NULL,
  begun FLOAT(53) NOT NULL,
  released FLOAT(53),
  PRIMARY KEY (id, plan)
);
CREATE INDEX ix_run_plan ON run (plan);
