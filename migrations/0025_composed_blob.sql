-- Blobs of new versions that hold the beginning of a file alone (src/index/composed.rs): the rest of it
-- is that of the first version of the same instance, wherever that is by then. Their ids say that they
-- are such. length in blob is that of the object; instances have the length of the whole file.
CREATE TABLE composed_blob (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    blob_id uuid NOT NULL,
    -- Watermark of the first version: in original_instance while the instance lives, and in
    -- deleted_instance when it was deleted.
    original bigint NOT NULL,
    -- Bytes of the file that the blob holds.
    head_length bigint NOT NULL CHECK (head_length > 0),
    -- The first byte of the first version's file that comes behind them.
    rest_at bigint NOT NULL CHECK (rest_at >= 0),
    PRIMARY KEY (partition_id, blob_id)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['composed_blob']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, DELETE ON composed_blob TO collimator_tenant;
