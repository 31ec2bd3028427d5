-- Deletion for good, undone in time, or at once; and operations of several kinds.

ALTER TABLE operation DROP CONSTRAINT operation_kind_check;
ALTER TABLE operation ADD CONSTRAINT operation_kind_check
    CHECK (kind IN ('reindex', 'purge', 'compact', 'erase'));

-- What the background begins by itself is begun once, whichever servers see that it is due.
CREATE UNIQUE INDEX operation_by_itself ON operation (partition_id, kind)
    WHERE ended_at IS NULL AND kind IN ('purge', 'compact');

-- Until when a deleted instance can come back. NULL: it cannot, since it was erased, came back
-- already, or was deleted before this column was there. An erased one keeps no place, length or
-- hash; its blob_id only says that no store may name that blob again (src/index/repeat.rs).
ALTER TABLE deleted_instance ADD COLUMN restorable_until timestamptz;
CREATE INDEX deleted_instance_by_time ON deleted_instance (partition_id, deleted_at);

-- attempts counts claims; from the first one on the blob may be gone. length is NULL for those
-- queued before it was there. What compaction replaced says which blob holds the copies, so that an
-- erasure knows all places of its bytes.
ALTER TABLE blob_removal
    ADD COLUMN length bigint,
    ADD COLUMN error text COLLATE "C",
    ADD COLUMN moved_to uuid;
CREATE INDEX blob_removal_by_copy ON blob_removal (partition_id, moved_to)
    WHERE moved_to IS NOT NULL;

-- Blobs that hold bytes of deleted instances beside others, to be looked at when due. is_wanted: an
-- erasure waits, so that it is rewritten whatever its share of dead bytes. into_blob_id: the copy
-- that is being written; it awaits removal until rows name it.
CREATE TABLE blob_compaction (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    blob_id uuid NOT NULL,
    due_at timestamptz NOT NULL,
    is_wanted boolean NOT NULL DEFAULT false,
    into_blob_id uuid,
    attempts integer NOT NULL DEFAULT 0,
    error text COLLATE "C",
    PRIMARY KEY (partition_id, blob_id)
);

CREATE INDEX blob_compaction_by_due ON blob_compaction (partition_id, due_at);

-- Blobs that must leave the store before an erasure has ended.
CREATE TABLE erasure_blob (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    blob_id uuid NOT NULL,
    operation_id uuid NOT NULL,
    PRIMARY KEY (partition_id, blob_id, operation_id)
);

CREATE INDEX erasure_blob_by_operation ON erasure_blob (partition_id, operation_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['blob_compaction', 'erasure_blob']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

GRANT UPDATE (blob_id, blob_offset, length, sha256, restorable_until) ON deleted_instance
    TO collimator_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON blob_compaction TO collimator_tenant;
GRANT SELECT, INSERT, DELETE ON erasure_blob TO collimator_tenant;
