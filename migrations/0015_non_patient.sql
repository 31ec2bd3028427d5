-- Non-Patient Instances (PS3.18 chapter 12): color palettes, hanging protocols and their like, which
-- belong to no study. Each has a blob of its own, whose row in blob says that it lives, as that of
-- any other.

CREATE TABLE non_patient_instance (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    -- Of the numbers of instance: what blobs hold is known by it, whatever it is.
    watermark bigint NOT NULL DEFAULT nextval('watermark'),
    -- As in the path: src/dicom/non_patient.rs.
    category text COLLATE "C" NOT NULL,
    sop_instance_uid text COLLATE "C" NOT NULL,
    sop_class_uid text COLLATE "C" NOT NULL,
    transfer_syntax_uid text COLLATE "C" NOT NULL,
    blob_id uuid NOT NULL,
    blob_offset bigint NOT NULL DEFAULT 0,
    length bigint NOT NULL,
    data_set_offset bigint NOT NULL,
    header_missing smallint,
    sha256 bytea NOT NULL,
    -- DICOM JSON, as one zstd frame, and its bulk values, as in instance_metadata.
    metadata bytea NOT NULL,
    bulk jsonb,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition_id, watermark),
    UNIQUE (partition_id, sop_instance_uid)
);

ALTER TABLE non_patient_instance ALTER COLUMN metadata SET STORAGE EXTERNAL;

CREATE INDEX non_patient_by_category ON non_patient_instance (partition_id, category, watermark);
CREATE INDEX non_patient_by_blob ON non_patient_instance (partition_id, blob_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['non_patient_instance']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, DELETE ON non_patient_instance TO collimator_tenant;
