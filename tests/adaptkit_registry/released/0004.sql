BEGIN TRANSACTION;
CREATE TABLE about (
	"key" VARCHAR(40) NOT NULL, 
	value VARCHAR(200) NOT NULL, 
	CONSTRAINT pk_about PRIMARY KEY ("key")
);
INSERT INTO "about" VALUES('adaptkit','0.1.0');
CREATE TABLE adapters (
	id INTEGER NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	next_number INTEGER NOT NULL, 
	created VARCHAR(32) NOT NULL, description TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_adapters PRIMARY KEY (id), 
	CONSTRAINT uq_adapters_name UNIQUE (name)
);
INSERT INTO "adapters" VALUES(1,'naval',4,'2026-01-01T00:00:00.000001+00:00','');
INSERT INTO "adapters" VALUES(2,'team/medic',2,'2026-01-01T00:00:00.000008+00:00','');
INSERT INTO "adapters" VALUES(3,'bridge',2,'2026-01-01T00:00:00.000011+00:00','');
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE alias_moves (
	id INTEGER NOT NULL, 
	adapter_id INTEGER NOT NULL, 
	alias VARCHAR(64) NOT NULL, 
	old INTEGER, 
	new INTEGER, 
	"when" VARCHAR(32) NOT NULL, 
	author VARCHAR(200) NOT NULL, 
	CONSTRAINT pk_alias_moves PRIMARY KEY (id), 
	CONSTRAINT fk_alias_moves_adapter_id FOREIGN KEY(adapter_id) REFERENCES adapters (id)
);
INSERT INTO "alias_moves" VALUES(1,1,'prod',NULL,1,'2026-01-01T00:00:00.000004+00:00','ada');
INSERT INTO "alias_moves" VALUES(2,1,'prod',1,2,'2026-01-01T00:00:00.000015+00:00','bob');
CREATE TABLE aliases (
	adapter_id INTEGER NOT NULL, 
	alias VARCHAR(64) NOT NULL, 
	version_id INTEGER NOT NULL, 
	CONSTRAINT pk_aliases PRIMARY KEY (adapter_id, alias), 
	CONSTRAINT fk_aliases_adapter_id FOREIGN KEY(adapter_id) REFERENCES adapters (id), 
	CONSTRAINT fk_aliases_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
INSERT INTO "aliases" VALUES(1,'prod',2);
CREATE TABLE artifacts (
	digest VARCHAR(80) NOT NULL, 
	method VARCHAR(64) NOT NULL, 
	rank INTEGER, 
	base_id INTEGER NOT NULL, 
	manifest TEXT NOT NULL, 
	CONSTRAINT pk_artifacts PRIMARY KEY (digest), 
	CONSTRAINT fk_artifacts_base_id FOREIGN KEY(base_id) REFERENCES bases (id)
);
INSERT INTO "artifacts" VALUES('sha256:aeec2e92d5ae2e7d888844fcf47a4a92168510128474ec27e0c9a996ae494876','lora',8,1,'{"base":{"derived_from":null,"levels":{"as1":{"measured":true,"value":"as1:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},"fs1":{"measured":true,"value":"fs1:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"}},"name":"fleet/ship","quantised":null,"status":"verified"},"created":"","digest":"sha256:aeec2e92d5ae2e7d888844fcf47a4a92168510128474ec27e0c9a996ae494876","extras":[],"facts":{},"files":[{"path":"adapter_config.json","sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},{"path":"adapter_model.safetensors","sha256":"6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b","size":1}],"method":"lora","parents":[],"rank":8,"recipe":null,"schema":1}');
INSERT INTO "artifacts" VALUES('sha256:a35962c9ade7be9dd4fdd620963f75d6a3a207a6ba78b05e9c114f8da6f5a21f','lora',8,1,'{"base":{"derived_from":null,"levels":{"as1":{"measured":true,"value":"as1:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},"fs1":{"measured":true,"value":"fs1:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"}},"name":"fleet/ship","quantised":null,"status":"verified"},"created":"","digest":"sha256:a35962c9ade7be9dd4fdd620963f75d6a3a207a6ba78b05e9c114f8da6f5a21f","extras":[],"facts":{},"files":[{"path":"adapter_config.json","sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},{"path":"adapter_model.safetensors","sha256":"d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35","size":1}],"method":"lora","parents":[],"rank":8,"recipe":null,"schema":1}');
INSERT INTO "artifacts" VALUES('sha256:1f5407d66b845b96752ad531902c78819e2c2eb48d005bd3f36ee7898c948fc8','ia3',NULL,2,'{"base":{"derived_from":"fleet/ship","levels":{"fs1":{"measured":false,"value":"fs1:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}},"name":"fleet/boat","quantised":{"bits":4,"dtype":"bf16","method":"nf4"},"status":"claimed"},"created":"","digest":"sha256:1f5407d66b845b96752ad531902c78819e2c2eb48d005bd3f36ee7898c948fc8","extras":[],"facts":{},"files":[{"path":"adapter_config.json","sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},{"path":"adapter_model.safetensors","sha256":"4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce","size":1}],"method":"ia3","parents":[],"rank":null,"recipe":null,"schema":1}');
INSERT INTO "artifacts" VALUES('sha256:27a56224644b32e45177980c19b89b427c13c909ba6b9d818ee8a62891120b9b','lora',16,1,'{"base":{"derived_from":null,"levels":{"as1":{"measured":true,"value":"as1:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},"fs1":{"measured":true,"value":"fs1:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"}},"name":"fleet/ship","quantised":null,"status":"verified"},"created":"","digest":"sha256:27a56224644b32e45177980c19b89b427c13c909ba6b9d818ee8a62891120b9b","extras":[],"facts":{},"files":[{"path":"adapter_config.json","sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},{"path":"adapter_model.safetensors","sha256":"4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a","size":1}],"method":"lora","parents":[{"digest":"sha256:a35962c9ade7be9dd4fdd620963f75d6a3a207a6ba78b05e9c114f8da6f5a21f","label":"naval@2","role":"merged","weight":0.7},{"digest":"sha256:1f5407d66b845b96752ad531902c78819e2c2eb48d005bd3f36ee7898c948fc8","label":"team/medic","role":"merged","weight":0.3}],"rank":16,"recipe":null,"schema":1}');
INSERT INTO "artifacts" VALUES('sha256:cfc90bdd858dca5bddf53f623e58582c6f4e442ca60a0cad4cd45673c1b4f672','lora',NULL,3,'{"base":{"derived_from":null,"levels":{},"name":null,"quantised":null,"status":"unverified"},"created":"","digest":"sha256:cfc90bdd858dca5bddf53f623e58582c6f4e442ca60a0cad4cd45673c1b4f672","extras":[],"facts":{},"files":[{"path":"adapter_config.json","sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},{"path":"adapter_model.safetensors","sha256":"ef2d127de37b942baad06145e54b0c619a1f22327b2ebbcfbec78f5564afe39d","size":1}],"method":"lora","parents":[],"rank":null,"recipe":null,"schema":1}');
CREATE TABLE base_levels (
	base_id INTEGER NOT NULL, 
	kind VARCHAR(8) NOT NULL, 
	value VARCHAR(80) NOT NULL, 
	measured BOOLEAN NOT NULL, 
	CONSTRAINT pk_base_levels PRIMARY KEY (base_id, kind), 
	CONSTRAINT fk_base_levels_base_id FOREIGN KEY(base_id) REFERENCES bases (id)
);
INSERT INTO "base_levels" VALUES(1,'as1','as1:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',1);
INSERT INTO "base_levels" VALUES(1,'fs1','fs1:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',1);
INSERT INTO "base_levels" VALUES(2,'fs1','fs1:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',0);
CREATE TABLE base_names (
	name VARCHAR(200) NOT NULL, 
	base_id INTEGER NOT NULL, 
	author VARCHAR(200) NOT NULL, 
	"when" VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_base_names PRIMARY KEY (name), 
	CONSTRAINT fk_base_names_base_id FOREIGN KEY(base_id) REFERENCES bases (id)
);
CREATE TABLE bases (
	id INTEGER NOT NULL, 
	"key" VARCHAR(80) NOT NULL, 
	name VARCHAR(400), 
	quantised TEXT, 
	derived_from VARCHAR(400), checked BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_bases PRIMARY KEY (id), 
	CONSTRAINT uq_bases_key UNIQUE ("key")
);
INSERT INTO "bases" VALUES(1,'sha256:845d0ee8485b0be70efa2b9e5bc3bbb0c9972c3d8cf0704a2cf01e69eddc3910','fleet/ship',NULL,NULL,1);
INSERT INTO "bases" VALUES(2,'sha256:1d824d5b4e636cb2419d937d34afcb39c391e8cb2f493768f374cdfe99de3715','fleet/boat','{"bits":4,"dtype":"bf16","method":"nf4"}','fleet/ship',0);
INSERT INTO "bases" VALUES(3,'sha256:9027dcba71146cd7304c6701d9e320fd4bdd41f113f12187f92a892ce51c594c',NULL,NULL,NULL,0);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	verb VARCHAR(32) NOT NULL, 
	subject VARCHAR(400) NOT NULL, 
	digest VARCHAR(80) NOT NULL, 
	detail TEXT NOT NULL, 
	"when" VARCHAR(32) NOT NULL, 
	author VARCHAR(200) NOT NULL, actor VARCHAR(200) DEFAULT '' NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (id)
);
INSERT INTO "events" VALUES(1,'added','naval@1','sha256:aeec2e92d5ae2e7d888844fcf47a4a92168510128474ec27e0c9a996ae494876','{}','2026-01-01T00:00:00.000003+00:00','ada','ada');
INSERT INTO "events" VALUES(2,'alias-moved','naval@prod','','{"new":1,"old":null}','2026-01-01T00:00:00.000005+00:00','','ada');
INSERT INTO "events" VALUES(3,'added','naval@2','sha256:a35962c9ade7be9dd4fdd620963f75d6a3a207a6ba78b05e9c114f8da6f5a21f','{}','2026-01-01T00:00:00.000007+00:00','ada','ada');
INSERT INTO "events" VALUES(4,'added','team/medic@1','sha256:1f5407d66b845b96752ad531902c78819e2c2eb48d005bd3f36ee7898c948fc8','{}','2026-01-01T00:00:00.000010+00:00','bob','bob');
INSERT INTO "events" VALUES(5,'merged','bridge@1','sha256:27a56224644b32e45177980c19b89b427c13c909ba6b9d818ee8a62891120b9b','{}','2026-01-01T00:00:00.000013+00:00','ada','ada');
INSERT INTO "events" VALUES(6,'noted','naval@2','sha256:a35962c9ade7be9dd4fdd620963f75d6a3a207a6ba78b05e9c114f8da6f5a21f','{"message":null,"metrics":{"accuracy":0.93},"tags":["sea"]}','2026-01-01T00:00:00.000014+00:00','','ada');
INSERT INTO "events" VALUES(7,'alias-moved','naval@prod','','{"new":2,"old":1}','2026-01-01T00:00:00.000016+00:00','','bob');
INSERT INTO "events" VALUES(8,'added','naval@3','sha256:cfc90bdd858dca5bddf53f623e58582c6f4e442ca60a0cad4cd45673c1b4f672','{}','2026-01-01T00:00:00.000018+00:00','','');
INSERT INTO "events" VALUES(9,'deleted','naval@3','sha256:cfc90bdd858dca5bddf53f623e58582c6f4e442ca60a0cad4cd45673c1b4f672','{}','2026-01-01T00:00:00.000020+00:00','','ada');
INSERT INTO "events" VALUES(10,'published','file:///mnt/team/naval','sha256:a35962c9ade7be9dd4fdd620963f75d6a3a207a6ba78b05e9c114f8da6f5a21f','{}','2026-01-01T00:00:00.000021+00:00','','ada');
CREATE TABLE files (
	digest VARCHAR(80) NOT NULL, 
	path VARCHAR(400) NOT NULL, 
	size INTEGER NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_files PRIMARY KEY (digest, path), 
	CONSTRAINT fk_files_digest FOREIGN KEY(digest) REFERENCES artifacts (digest)
);
INSERT INTO "files" VALUES('sha256:aeec2e92d5ae2e7d888844fcf47a4a92168510128474ec27e0c9a996ae494876','adapter_config.json',2,'44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a');
INSERT INTO "files" VALUES('sha256:aeec2e92d5ae2e7d888844fcf47a4a92168510128474ec27e0c9a996ae494876','adapter_model.safetensors',1,'6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b');
INSERT INTO "files" VALUES('sha256:a35962c9ade7be9dd4fdd620963f75d6a3a207a6ba78b05e9c114f8da6f5a21f','adapter_config.json',2,'44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a');
INSERT INTO "files" VALUES('sha256:a35962c9ade7be9dd4fdd620963f75d6a3a207a6ba78b05e9c114f8da6f5a21f','adapter_model.safetensors',1,'d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35');
INSERT INTO "files" VALUES('sha256:1f5407d66b845b96752ad531902c78819e2c2eb48d005bd3f36ee7898c948fc8','adapter_config.json',2,'44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a');
INSERT INTO "files" VALUES('sha256:1f5407d66b845b96752ad531902c78819e2c2eb48d005bd3f36ee7898c948fc8','adapter_model.safetensors',1,'4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce');
INSERT INTO "files" VALUES('sha256:27a56224644b32e45177980c19b89b427c13c909ba6b9d818ee8a62891120b9b','adapter_config.json',2,'44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a');
INSERT INTO "files" VALUES('sha256:27a56224644b32e45177980c19b89b427c13c909ba6b9d818ee8a62891120b9b','adapter_model.safetensors',1,'4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a');
INSERT INTO "files" VALUES('sha256:cfc90bdd858dca5bddf53f623e58582c6f4e442ca60a0cad4cd45673c1b4f672','adapter_config.json',2,'44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a');
INSERT INTO "files" VALUES('sha256:cfc90bdd858dca5bddf53f623e58582c6f4e442ca60a0cad4cd45673c1b4f672','adapter_model.safetensors',1,'ef2d127de37b942baad06145e54b0c619a1f22327b2ebbcfbec78f5564afe39d');
CREATE TABLE lineage (
	child VARCHAR(80) NOT NULL, 
	position INTEGER NOT NULL, 
	parent VARCHAR(80) NOT NULL, 
	weight FLOAT NOT NULL, 
	role VARCHAR(32) NOT NULL, 
	label VARCHAR(400) NOT NULL, 
	CONSTRAINT pk_lineage PRIMARY KEY (child, position), 
	CONSTRAINT fk_lineage_child FOREIGN KEY(child) REFERENCES artifacts (digest)
);
INSERT INTO "lineage" VALUES('sha256:27a56224644b32e45177980c19b89b427c13c909ba6b9d818ee8a62891120b9b',0,'sha256:a35962c9ade7be9dd4fdd620963f75d6a3a207a6ba78b05e9c114f8da6f5a21f',0.7,'merged','naval@2');
INSERT INTO "lineage" VALUES('sha256:27a56224644b32e45177980c19b89b427c13c909ba6b9d818ee8a62891120b9b',1,'sha256:1f5407d66b845b96752ad531902c78819e2c2eb48d005bd3f36ee7898c948fc8',0.3,'merged','team/medic');
CREATE TABLE metrics (
	version_id INTEGER NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	value FLOAT NOT NULL, 
	CONSTRAINT pk_metrics PRIMARY KEY (version_id, name), 
	CONSTRAINT fk_metrics_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
INSERT INTO "metrics" VALUES(2,'accuracy',0.93);
CREATE TABLE pairs (
	fs1 VARCHAR(80) NOT NULL, 
	tm1 VARCHAR(80) NOT NULL, 
	author VARCHAR(200) NOT NULL, 
	"when" VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_pairs PRIMARY KEY (fs1)
);
CREATE TABLE placements (
	place VARCHAR(800) NOT NULL, 
	number INTEGER NOT NULL, 
	digest VARCHAR(80) NOT NULL, 
	"when" VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_placements PRIMARY KEY (place, number)
);
INSERT INTO "placements" VALUES('file:///mnt/team/naval',2,'sha256:a35962c9ade7be9dd4fdd620963f75d6a3a207a6ba78b05e9c114f8da6f5a21f','2026-01-02');
CREATE TABLE redirects (
	name VARCHAR(200) NOT NULL, 
	adapter_id INTEGER NOT NULL, 
	"when" VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_redirects PRIMARY KEY (name), 
	CONSTRAINT fk_redirects_adapter_id FOREIGN KEY(adapter_id) REFERENCES adapters (id)
);
CREATE TABLE tags (
	version_id INTEGER NOT NULL, 
	tag VARCHAR(200) NOT NULL, 
	CONSTRAINT pk_tags PRIMARY KEY (version_id, tag), 
	CONSTRAINT fk_tags_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
INSERT INTO "tags" VALUES(2,'sea');
CREATE TABLE versions (
	id INTEGER NOT NULL, 
	adapter_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	digest VARCHAR(80) NOT NULL, 
	message TEXT NOT NULL, 
	author VARCHAR(200) NOT NULL, 
	origin VARCHAR(16) NOT NULL, 
	created VARCHAR(32) NOT NULL, 
	deleted VARCHAR(32), 
	CONSTRAINT pk_versions PRIMARY KEY (id), 
	CONSTRAINT fk_versions_adapter_id FOREIGN KEY(adapter_id) REFERENCES adapters (id), 
	CONSTRAINT fk_versions_digest FOREIGN KEY(digest) REFERENCES artifacts (digest), 
	CONSTRAINT uq_versions_adapter_id_number UNIQUE (adapter_id, number)
);
INSERT INTO "versions" VALUES(1,1,1,'sha256:aeec2e92d5ae2e7d888844fcf47a4a92168510128474ec27e0c9a996ae494876','first','ada','added','2026-01-01T00:00:00.000002+00:00',NULL);
INSERT INTO "versions" VALUES(2,1,2,'sha256:a35962c9ade7be9dd4fdd620963f75d6a3a207a6ba78b05e9c114f8da6f5a21f','','ada','added','2026-01-01T00:00:00.000006+00:00',NULL);
INSERT INTO "versions" VALUES(3,2,1,'sha256:1f5407d66b845b96752ad531902c78819e2c2eb48d005bd3f36ee7898c948fc8','','bob','added','2026-01-01T00:00:00.000009+00:00',NULL);
INSERT INTO "versions" VALUES(4,3,1,'sha256:27a56224644b32e45177980c19b89b427c13c909ba6b9d818ee8a62891120b9b','','ada','merged','2026-01-01T00:00:00.000012+00:00',NULL);
INSERT INTO "versions" VALUES(5,1,3,'sha256:cfc90bdd858dca5bddf53f623e58582c6f4e442ca60a0cad4cd45673c1b4f672','','','added','2026-01-01T00:00:00.000017+00:00','2026-01-01T00:00:00.000019+00:00');
CREATE INDEX ix_bases_name ON bases (name);
CREATE INDEX ix_events_subject ON events (subject);
CREATE INDEX ix_placements_digest ON placements (digest);
CREATE INDEX ix_alias_moves_adapter_id ON alias_moves (adapter_id);
CREATE INDEX ix_artifacts_base_id ON artifacts (base_id);
CREATE INDEX ix_artifacts_method ON artifacts (method);
CREATE INDEX ix_base_levels_value ON base_levels (value);
CREATE INDEX ix_files_sha256 ON files (sha256);
CREATE INDEX ix_lineage_parent ON lineage (parent);
CREATE INDEX ix_versions_adapter_id_deleted_number ON versions (adapter_id, deleted, number);
CREATE INDEX ix_versions_digest ON versions (digest);
CREATE INDEX ix_aliases_version_id ON aliases (version_id);
CREATE INDEX ix_tags_tag ON tags (tag);
CREATE INDEX ix_redirects_adapter_id ON redirects (adapter_id);
CREATE INDEX ix_metrics_name_value ON metrics (name, value);
COMMIT;
