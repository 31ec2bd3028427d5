-- The Worklist Service (PS3.18 chapter 11, src/index/workitems.rs): the workitems of a partition.

CREATE TABLE workitem (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    -- (0008,0018) SOP Instance UID.
    workitem_uid text COLLATE "C" NOT NULL,
    -- (0074,1000) Procedure Step State.
    state text COLLATE "C" NOT NULL,
    -- (0008,1195) Transaction UID: the lock of who claimed it. It stands here and nowhere else, so
    -- that nothing that is shown can have it.
    transaction_uid text COLLATE "C",
    -- What it is found by, as src/dicom/normalise.rs has it: (0040,4005) Scheduled Procedure Step
    -- Start DateTime, in which order workitems are found, and (0010,0020) Patient ID.
    start_at text COLLATE "C" NOT NULL,
    patient_id text COLLATE "C",
    -- All of it, as DICOM JSON; state and UID included.
    attributes text NOT NULL,
    PRIMARY KEY (partition_id, workitem_uid),
    CHECK (state IN ('SCHEDULED', 'IN PROGRESS', 'COMPLETED', 'CANCELED'))
);

CREATE INDEX workitem_by_start ON workitem (partition_id, start_at, workitem_uid);
-- Those that have ended stay, and are seldom asked for.
CREATE INDEX workitem_by_state ON workitem (partition_id, state, start_at, workitem_uid);
CREATE INDEX workitem_by_patient_id ON workitem (partition_id, patient_id, start_at, workitem_uid);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['workitem']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE ON workitem TO collimator_tenant;
