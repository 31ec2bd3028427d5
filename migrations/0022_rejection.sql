-- Rejection notes (IHE RAD TF-3 §4.66, src/index/rejection.rs): a row for each instance that a note in
-- force names, whether it has come or not. What is hidden is in deleted_instance, from which it comes
-- back when its last note is deleted; its restorable_until lies beyond the year 9000.
CREATE TABLE rejection (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    sop_instance_uid text COLLATE "C" NOT NULL,
    -- SOP Instance UID of the note.
    note_uid text COLLATE "C" NOT NULL,
    -- Code Value of its title.
    title text COLLATE "C" NOT NULL,
    -- Of the version that was hidden. NULL: none was yet.
    watermark bigint,
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition_id, sop_instance_uid, note_uid)
);

CREATE INDEX rejection_by_note ON rejection (partition_id, note_uid, sop_instance_uid);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['rejection']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, DELETE, UPDATE (watermark) ON rejection TO collimator_tenant;
