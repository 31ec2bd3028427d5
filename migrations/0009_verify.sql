-- The scrubber (src/workers/scrub.rs): how far it is in each partition, and what it found.

-- Passes over a partition: the one under way, and the last one that ended.
CREATE TABLE scrub_pass (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    created_at timestamptz NOT NULL DEFAULT now(),
    -- NULL: it is under way.
    ended_at timestamptz,
    -- Where to go on; its form is that of src/verify/mod.rs.
    cursor jsonb NOT NULL,
    -- Who works on it, and until when that holds without another sign of life.
    lease_owner uuid,
    lease_until timestamptz,
    PRIMARY KEY (partition_id, created_at)
);

CREATE UNIQUE INDEX scrub_pass_under_way ON scrub_pass (partition_id) WHERE ended_at IS NULL;

-- What is damaged, or was. A subject is what a finding is about, in words that stay the same.
CREATE TABLE damage (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    kind text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    watermark bigint,
    blob_id uuid,
    -- For people: ids and numbers, nothing about patients.
    description text NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    -- A pass did not find it any more.
    cleared_at timestamptz,
    PRIMARY KEY (partition_id, kind, subject)
);

CREATE INDEX damage_open ON damage (partition_id, seen_at) WHERE cleared_at IS NULL;
CREATE INDEX damage_cleared ON damage (partition_id, cleared_at) WHERE cleared_at IS NOT NULL;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['scrub_pass', 'damage']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON scrub_pass, damage TO collimator_tenant;
