-- Extended query tags, what they index, and operations that run in the background.
--
-- A tag is defined at the root, for all partitions, or in one partition. Stores read the
-- definitions under a shared advisory lock, and who adds or deletes one holds it exclusively
-- (src/index/db.rs): an instance is either stored before the definition, and then found by the
-- reindex, or indexed by its own store.

-- Ids of tags, of the root and of partitions alike.
CREATE SEQUENCE query_tag_id AS bigint;

-- What holds for all partitions. No tenant's data: how far each partition is stands in query_tag.
CREATE TABLE query_tag_root (
    tag_id bigint NOT NULL DEFAULT nextval('query_tag_id') PRIMARY KEY,
    -- Eight hexadecimal digits. Of a private attribute the block is a spelling: each data set says
    -- for itself which one the creator reserved.
    path text COLLATE "C" NOT NULL UNIQUE,
    private_creator text COLLATE "C",
    vr text COLLATE "C" NOT NULL,
    -- 0 study, 1 series, 2 instance.
    level smallint NOT NULL CHECK (level BETWEEN 0 AND 2),
    operation_id uuid NOT NULL,
    -- What an administrator said; NULL: nothing, so that the first error switches queries off.
    query_enabled boolean,
    is_deleting boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A partition's own tags, and how far the root's are here. A root tag without a row is one that
-- nobody has looked at in this partition yet.
CREATE TABLE query_tag (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    tag_id bigint NOT NULL DEFAULT nextval('query_tag_id'),
    is_root boolean NOT NULL,
    path text COLLATE "C" NOT NULL,
    private_creator text COLLATE "C",
    vr text COLLATE "C" NOT NULL,
    level smallint NOT NULL CHECK (level BETWEEN 0 AND 2),
    operation_id uuid NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('adding', 'ready', 'deleting')),
    query_enabled boolean,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition_id, tag_id),
    UNIQUE (partition_id, path)
);

-- The values that each instance has for each tag, normalised. Of a study or series the instance
-- with the smallest watermark speaks; the others stand by for when it is deleted.
CREATE TABLE query_tag_value (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    watermark bigint NOT NULL,
    tag_id bigint NOT NULL,
    -- Numbers the rows of one instance and tag, from 0.
    place integer NOT NULL,
    -- study_key, series_key or watermark, by the level of the tag.
    owner_key bigint NOT NULL,
    -- 0 value (of a person name: a component group), 1 word of a name, 2 sound of a word.
    kind smallint NOT NULL,
    value text COLLATE "C" NOT NULL,
    -- At place 0: the key of the attribute in its data set, and its DICOM JSON.
    attribute_key text COLLATE "C",
    attribute text,
    PRIMARY KEY (partition_id, watermark, tag_id, place)
);

-- Both have all that a search asks for: the table itself is read for what is returned alone.
CREATE INDEX query_tag_value_by_value ON query_tag_value
    (partition_id, tag_id, kind, value, owner_key);
CREATE INDEX query_tag_value_by_owner ON query_tag_value
    (partition_id, tag_id, owner_key, watermark, place) INCLUDE (kind, value);

-- Instances with a value that breaks its value representation. The reason never repeats it.
CREATE TABLE query_tag_error (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    tag_id bigint NOT NULL,
    watermark bigint NOT NULL,
    reason text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition_id, tag_id, watermark)
);

CREATE INDEX query_tag_error_by_instance ON query_tag_error (partition_id, watermark, tag_id);

-- Work that outlives the request which asked for it. One that spans partitions has a row with the
-- same id in each.
CREATE TABLE operation (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    operation_id uuid NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('reindex')),
    state text COLLATE "C" NOT NULL DEFAULT 'notStarted'
        CHECK (state IN ('notStarted', 'running', 'succeeded', 'failed', 'canceled')),
    -- What it works on, for readers: paths of tags.
    resources text[] NOT NULL,
    processed bigint NOT NULL DEFAULT 0,
    total bigint,
    failed bigint NOT NULL DEFAULT 0,
    -- Where to go on; its form is the kind's.
    cursor jsonb NOT NULL,
    -- Who works on it, and until when that holds without another sign of life.
    lease_owner uuid,
    lease_until timestamptz,
    -- Claims since there was progress.
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    is_canceled boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    error text COLLATE "C",
    PRIMARY KEY (partition_id, operation_id)
);

CREATE INDEX operation_by_creation ON operation (partition_id, created_at, operation_id);
CREATE INDEX operation_pending ON operation (partition_id, created_at, operation_id)
    WHERE ended_at IS NULL;
CREATE INDEX operation_ended ON operation (partition_id, ended_at) WHERE ended_at IS NOT NULL;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['query_tag', 'query_tag_value', 'query_tag_error', 'operation']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

ALTER TABLE query_tag_value SET (autovacuum_analyze_scale_factor = 0.02);

GRANT SELECT, INSERT, UPDATE, DELETE ON query_tag, operation TO collimator_tenant;
GRANT SELECT, INSERT, DELETE ON query_tag_value, query_tag_error TO collimator_tenant;
GRANT SELECT ON query_tag_root TO collimator_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON query_tag_root TO collimator_registry;
GRANT USAGE ON SEQUENCE query_tag_id TO collimator_tenant, collimator_registry;
