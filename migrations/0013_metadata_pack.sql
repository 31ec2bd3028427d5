-- Metadata of instances that were stored together, as one piece (src/dicom/pack.rs): a copy of what
-- instance_metadata has of them, so that a study is read in a few rows. What it lacks is read one by
-- one: instances that were stored alone or before, and those whose pack went with a deletion.

CREATE TABLE metadata_pack (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    study_key bigint NOT NULL,
    -- Of its members; less than 1,024 apart.
    first_watermark bigint NOT NULL,
    last_watermark bigint NOT NULL,
    -- Those of its members.
    series_keys bigint[] NOT NULL,
    pack bytea NOT NULL,
    PRIMARY KEY (partition_id, study_key, first_watermark)
);

ALTER TABLE metadata_pack ALTER COLUMN pack SET STORAGE EXTERNAL;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['metadata_pack']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, DELETE ON metadata_pack TO collimator_tenant;
