-- The index: every table that holds tenants' data, the registry of partitions, and who may touch
-- what. Run by the owner; the roles collimator_tenant and collimator_registry exist already.
--
-- Rules, held by tests that walk the catalog:
-- * partition_id is the first column of every primary key, unique constraint, foreign key and
--   index of a tenant table, so that the schema can be distributed by it and no constraint spans
--   partitions;
-- * every tenant table has row-level security enabled and forced, with the one policy below;
-- * no foreign keys: Postgres plans their checks by itself, with statistics that know nothing of a
--   partition that has just grown, and then reads the whole partition for each row. Writers hold
--   the parents of what they write (src/index/parents.rs).

CREATE TABLE partition (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default' PRIMARY KEY
        CHECK (partition_id ~ '^[a-z0-9][a-z0-9._-]{0,31}$'),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Microsoft's server tells partitions by number as well; the default one is 1.
    partition_key integer GENERATED ALWAYS AS IDENTITY
);

INSERT INTO partition DEFAULT VALUES;

-- Who this archive is: claimed at the blob store, so that no two archives sweep one store.
CREATE TABLE archive (
    archive_id uuid NOT NULL PRIMARY KEY DEFAULT gen_random_uuid()
);

INSERT INTO archive DEFAULT VALUES;

-- The log-in role of the servers of this database. Owner only. Keyed by the database, so that a
-- copy of it in the same cluster gets a log-in of its own.
CREATE TABLE app_login (
    database_oid oid NOT NULL PRIMARY KEY,
    role text NOT NULL,
    password text NOT NULL
);

-- One stored version of one instance, never reused in any partition.
CREATE SEQUENCE watermark AS bigint;

CREATE TABLE study (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    study_key bigint GENERATED ALWAYS AS IDENTITY,
    study_instance_uid text COLLATE "C" NOT NULL,
    -- DICOM JSON object: what Search returns at this level. Text, because it is only ever copied.
    attributes text NOT NULL,
    patient_name text COLLATE "C",
    patient_name_ideographic text COLLATE "C",
    patient_name_phonetic text COLLATE "C",
    patient_id text COLLATE "C",
    issuer_of_patient_id text COLLATE "C",
    patient_birth_date text COLLATE "C",
    patient_sex text COLLATE "C",
    study_date text COLLATE "C",
    study_time text COLLATE "C",
    accession_number text COLLATE "C",
    referring_physician_name text COLLATE "C",
    referring_physician_name_ideographic text COLLATE "C",
    referring_physician_name_phonetic text COLLATE "C",
    study_id text COLLATE "C",
    study_description text COLLATE "C",
    PRIMARY KEY (partition_id, study_key),
    UNIQUE (partition_id, study_instance_uid)
);

-- Results come newest study date first, studies without a date last. Each key's index repeats that
-- order, so that a page of a value that many studies share needs no sort either. Sex and issuer
-- have none: they select too little to be worth one.
CREATE INDEX study_by_date ON study
    (partition_id, study_date DESC NULLS LAST, study_key DESC);
CREATE INDEX study_by_patient_name ON study
    (partition_id, patient_name, study_date DESC NULLS LAST, study_key DESC);
CREATE INDEX study_by_patient_name_ideographic ON study (partition_id, patient_name_ideographic)
    WHERE patient_name_ideographic IS NOT NULL;
CREATE INDEX study_by_patient_name_phonetic ON study (partition_id, patient_name_phonetic)
    WHERE patient_name_phonetic IS NOT NULL;
CREATE INDEX study_by_patient_id ON study
    (partition_id, patient_id, study_date DESC NULLS LAST, study_key DESC);
CREATE INDEX study_by_patient_birth_date ON study
    (partition_id, patient_birth_date, study_date DESC NULLS LAST, study_key DESC);
CREATE INDEX study_by_time ON study
    (partition_id, study_time, study_date DESC NULLS LAST, study_key DESC);
CREATE INDEX study_by_accession_number ON study
    (partition_id, accession_number, study_date DESC NULLS LAST, study_key DESC);
CREATE INDEX study_by_referring_physician_name ON study
    (partition_id, referring_physician_name, study_date DESC NULLS LAST, study_key DESC);
CREATE INDEX study_by_referring_physician_name_ideographic ON study
    (partition_id, referring_physician_name_ideographic)
    WHERE referring_physician_name_ideographic IS NOT NULL;
CREATE INDEX study_by_referring_physician_name_phonetic ON study
    (partition_id, referring_physician_name_phonetic)
    WHERE referring_physician_name_phonetic IS NOT NULL;
CREATE INDEX study_by_study_id ON study
    (partition_id, study_id, study_date DESC NULLS LAST, study_key DESC);
CREATE INDEX study_by_description ON study
    (partition_id, study_description, study_date DESC NULLS LAST, study_key DESC);

CREATE TABLE series (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    series_key bigint GENERATED ALWAYS AS IDENTITY,
    study_key bigint NOT NULL,
    series_instance_uid text COLLATE "C" NOT NULL,
    attributes text NOT NULL,
    modality text COLLATE "C",
    series_number text COLLATE "C",
    series_description text COLLATE "C",
    body_part_examined text COLLATE "C",
    station_name text COLLATE "C",
    manufacturer_model_name text COLLATE "C",
    pps_start_date text COLLATE "C",
    pps_start_time text COLLATE "C",
    PRIMARY KEY (partition_id, series_key),
    UNIQUE (partition_id, study_key, series_instance_uid)
);

-- Series Instance UID alone serves Search across studies. Series Number and time of day tell
-- series of one study apart, and those are few.
CREATE INDEX series_by_uid ON series (partition_id, series_instance_uid);
CREATE INDEX series_by_modality ON series (partition_id, modality, study_key);
CREATE INDEX series_by_description ON series (partition_id, series_description);
CREATE INDEX series_by_body_part ON series (partition_id, body_part_examined);
CREATE INDEX series_by_station_name ON series (partition_id, station_name);
CREATE INDEX series_by_model_name ON series (partition_id, manufacturer_model_name);
CREATE INDEX series_by_pps_start_date ON series (partition_id, pps_start_date);

CREATE TABLE blob (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    blob_id uuid NOT NULL,
    length bigint NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition_id, blob_id)
);

-- Blobs without a live instance, to be removed from the store when due.
CREATE TABLE blob_removal (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    blob_id uuid NOT NULL,
    due_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    PRIMARY KEY (partition_id, blob_id)
);

CREATE INDEX blob_removal_by_due ON blob_removal (partition_id, due_at);

CREATE TABLE instance (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    watermark bigint NOT NULL DEFAULT nextval('watermark'),
    study_key bigint NOT NULL,
    series_key bigint NOT NULL,
    sop_instance_uid text COLLATE "C" NOT NULL,
    sop_class_uid text COLLATE "C" NOT NULL,
    transfer_syntax_uid text COLLATE "C" NOT NULL,
    -- The Part 10 file is the bytes blob_offset .. blob_offset + length of the blob; its data set
    -- begins data_set_offset bytes into the file.
    blob_id uuid NOT NULL,
    blob_offset bigint NOT NULL,
    length bigint NOT NULL,
    data_set_offset bigint NOT NULL,
    sha256 bytea NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    attributes text NOT NULL,
    instance_number text COLLATE "C",
    PRIMARY KEY (partition_id, watermark),
    UNIQUE (partition_id, sop_instance_uid)
);

CREATE INDEX instance_by_study ON instance (partition_id, study_key, watermark);
CREATE INDEX instance_by_series ON instance (partition_id, series_key, watermark);
CREATE INDEX instance_by_blob ON instance (partition_id, blob_id);
CREATE INDEX instance_by_sop_class ON instance (partition_id, sop_class_uid);

CREATE TABLE instance_metadata (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    watermark bigint NOT NULL,
    -- One zstd frame of DICOM JSON.
    metadata bytea NOT NULL,
    -- Values that the metadata names by URI: {"<path>": ["<vr>", <offset>, <length>]}.
    bulk jsonb,
    PRIMARY KEY (partition_id, watermark)
);

ALTER TABLE instance_metadata ALTER COLUMN metadata SET STORAGE EXTERNAL;

-- Where frames are. Native: the three native_ columns. Encapsulated: fragments, 12 bytes each
-- (offset in the file, 8 bytes; length, 4 bytes; big endian), one to a frame unless starts says
-- which: for each frame the number of its first fragment (4 bytes, big endian), and the total at
-- the end. Stored uncompressed, so that substring() reads just the pages that it needs.
CREATE TABLE frame_table (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    watermark bigint NOT NULL,
    number_of_frames integer NOT NULL,
    native_offset bigint,
    native_length bigint,
    native_frame_bits bigint,
    fragments bytea,
    starts bytea,
    PRIMARY KEY (partition_id, watermark)
);

ALTER TABLE frame_table ALTER COLUMN fragments SET STORAGE EXTERNAL;
ALTER TABLE frame_table ALTER COLUMN starts SET STORAGE EXTERNAL;

-- One event for each change of an instance, written in the transaction of the change. sequence is
-- what readers of the feed see; it is NULL until a reader numbers the committed events of the
-- partition, so that no number can appear behind one that was read.
CREATE TABLE change_feed (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    event_id bigint GENERATED ALWAYS AS IDENTITY,
    sequence bigint,
    occurred_at timestamptz NOT NULL DEFAULT now(),
    action text COLLATE "C" NOT NULL CHECK (action IN ('create', 'update', 'delete')),
    study_instance_uid text COLLATE "C" NOT NULL,
    series_instance_uid text COLLATE "C" NOT NULL,
    sop_instance_uid text COLLATE "C" NOT NULL,
    watermark bigint NOT NULL,
    PRIMARY KEY (partition_id, event_id)
);

CREATE UNIQUE INDEX change_feed_by_sequence ON change_feed (partition_id, sequence)
    WHERE sequence IS NOT NULL;
CREATE INDEX change_feed_unnumbered ON change_feed (partition_id, event_id)
    WHERE sequence IS NULL;

-- What was deleted: answers 410, and says where the bytes are while they still are.
CREATE TABLE deleted_instance (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    watermark bigint NOT NULL,
    study_instance_uid text COLLATE "C" NOT NULL,
    series_instance_uid text COLLATE "C" NOT NULL,
    sop_instance_uid text COLLATE "C" NOT NULL,
    sop_class_uid text COLLATE "C" NOT NULL,
    transfer_syntax_uid text COLLATE "C" NOT NULL,
    blob_id uuid NOT NULL,
    blob_offset bigint NOT NULL,
    length bigint NOT NULL,
    data_set_offset bigint NOT NULL,
    sha256 bytea NOT NULL,
    stored_at timestamptz NOT NULL,
    deleted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition_id, watermark)
);

CREATE INDEX deleted_instance_by_uid ON deleted_instance
    (partition_id, study_instance_uid, series_instance_uid, sop_instance_uid);
CREATE INDEX deleted_instance_by_blob ON deleted_instance (partition_id, blob_id);

-- The fence. No sub-select in the policy: it could not be distributed. An unset scope is NULL or
-- '' and shows nothing.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['study', 'series', 'instance', 'blob', 'blob_removal',
        'instance_metadata', 'frame_table', 'change_feed', 'deleted_instance']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

-- Statistics must not lag far behind a partition that grows: plans of searches rest on them.
ALTER TABLE study SET (autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE series SET (autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE instance SET (autovacuum_analyze_scale_factor = 0.02);

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO collimator_tenant, collimator_registry;

GRANT SELECT, INSERT ON partition TO collimator_registry;
GRANT SELECT ON archive TO collimator_registry;

GRANT SELECT, INSERT, UPDATE, DELETE ON study, series, instance, blob, blob_removal
    TO collimator_tenant;
GRANT SELECT, INSERT, DELETE ON instance_metadata, frame_table, deleted_instance
    TO collimator_tenant;
GRANT SELECT, INSERT, UPDATE (sequence) ON change_feed TO collimator_tenant;
GRANT USAGE ON SEQUENCE watermark TO collimator_tenant;
