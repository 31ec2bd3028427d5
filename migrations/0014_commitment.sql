-- Storage commitment (src/workers/commit.rs): what somebody asked to have checked, and what came of
-- it.

-- A request, by the Transaction UID that its client gave it. Arrays run side by side: one place for
-- each instance that is referenced.
CREATE TABLE commitment (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    transaction_uid text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- NULL: there is more to check.
    ended_at timestamptz,
    -- NULL: instances were referenced without their studies and series.
    studies text[],
    series text[],
    sop_classes text[] NOT NULL,
    instances text[] NOT NULL,
    -- Of those that were checked, in their order: 0, or the Failure Reason of PS3.3 C.14.1.1.
    outcomes smallint[] NOT NULL DEFAULT '{}',
    -- Who works on it, and until when that holds without another sign of life.
    lease_owner uuid,
    lease_until timestamptz,
    PRIMARY KEY (partition_id, transaction_uid)
);

CREATE INDEX commitment_open ON commitment (partition_id, created_at) WHERE ended_at IS NULL;
CREATE INDEX commitment_ended ON commitment (partition_id, ended_at) WHERE ended_at IS NOT NULL;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['commitment']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON commitment TO collimator_tenant;
