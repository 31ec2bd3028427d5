-- Changes of attributes of what is stored (src/index/update.rs): a new version of each instance, with
-- bytes of its own, beside which the first one stays for as long as the instance does.

ALTER TABLE operation DROP CONSTRAINT operation_kind_check;
ALTER TABLE operation ADD CONSTRAINT operation_kind_check
    CHECK (kind IN ('reindex', 'purge', 'compact', 'erase', 'update'));

-- What an operation tells of its work besides the counts.
ALTER TABLE operation ADD COLUMN results jsonb;

-- The first version of an instance that has another one by now: the columns of instance.
CREATE TABLE original_instance (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    -- Its own.
    watermark bigint NOT NULL,
    -- That of the version that is in instance.
    of_watermark bigint NOT NULL,
    -- As they are in the file.
    study_instance_uid text COLLATE "C" NOT NULL,
    series_instance_uid text COLLATE "C" NOT NULL,
    transfer_syntax_uid text COLLATE "C" NOT NULL,
    blob_id uuid NOT NULL,
    blob_offset bigint NOT NULL,
    length bigint NOT NULL,
    data_set_offset bigint NOT NULL,
    header_missing smallint,
    sha256 bytea NOT NULL,
    -- Of what came, where that was another file.
    received_sha256 bytea,
    stored_at timestamptz NOT NULL,
    PRIMARY KEY (partition_id, watermark)
);

-- Between two statements of a transaction a version may stand for the one that replaces it.
CREATE INDEX original_instance_by_instance ON original_instance (partition_id, of_watermark);
CREATE INDEX original_instance_by_blob ON original_instance (partition_id, blob_id);

-- Versions that went with an instance or were replaced have tombstones too, so that an erasure finds
-- their bytes: they say whose versions they were. The deletion is told of the last one alone.
ALTER TABLE deleted_instance ADD COLUMN version_of bigint;
CREATE INDEX deleted_instance_versions ON deleted_instance (partition_id, version_of)
    WHERE version_of IS NOT NULL;

-- The version that an update replaced.
ALTER TABLE change_feed ADD COLUMN replaced bigint;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['original_instance']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON original_instance TO collimator_tenant;
