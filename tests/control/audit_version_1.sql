-- An audit as version 1 wrote it.
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  time TEXT NOT NULL,
  id TEXT NOT NULL,
  identity TEXT NOT NULL,
  role TEXT NOT NULL,
  transport TEXT NOT NULL,
  command TEXT NOT NULL,
  arguments TEXT NOT NULL,
  status TEXT NOT NULL,
  old TEXT NOT NULL,
  new TEXT NOT NULL,
  reason TEXT NOT NULL,
  rule TEXT NOT NULL,
  previous TEXT NOT NULL,
  hash TEXT NOT NULL
);
INSERT INTO "audit" VALUES(1,'2026-11-28T20:09:29.396480Z','first','ada','operator','grpc','set_parameter','{"path":"shop/retry/max_attempts","value":5}','intended','','','','operators-change','0000000000000000000000000000000000000000000000000000000000000000','dc9d122d01694d2cedf9a9c755d54eff1b329c307c45982855055446b276ffb2');
INSERT INTO "audit" VALUES(2,'2026-11-28T20:09:29.401937Z','first','ada','operator','grpc','set_parameter','{"path":"shop/retry/max_attempts","value":5}','succeeded','3','5','','operators-change','dc9d122d01694d2cedf9a9c755d54eff1b329c307c45982855055446b276ffb2','c991512f421be95f314c5eb4b573563f9b9e6fc67f0808f5e45e5313cf8f3f0c');
INSERT INTO "audit" VALUES(3,'2026-11-28T20:09:29.404318Z','cut-short','ada','operator','grpc','set_parameter','{"path":"shop/retry/max_attempts","value":6}','intended','','','','operators-change','c991512f421be95f314c5eb4b573563f9b9e6fc67f0808f5e45e5313cf8f3f0c','d86c718ff92a1a7f46522f2c42b655836e2b9440ddb85b3feccee8f7ffacae32');
CREATE INDEX audit_id ON audit (id);
CREATE TRIGGER audit_keeps_rows BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END;
CREATE TRIGGER audit_keeps_values BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END;
CREATE TRIGGER audit_keeps_order BEFORE INSERT ON audit
WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM audit)
BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END;
PRAGMA user_version = 1;
