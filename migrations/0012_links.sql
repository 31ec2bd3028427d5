-- Signed URLs (src/index/link_keys.rs): the keys that those of a partition are signed with. Links
-- themselves are nowhere.

CREATE TABLE link_key (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    link_key_id uuid NOT NULL,
    -- In clear, since links are signed with it.
    secret bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- NULL: it is the one that links are made with.
    valid_until timestamptz,
    PRIMARY KEY (partition_id, link_key_id)
);

CREATE INDEX link_key_by_creation ON link_key (partition_id, created_at, link_key_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['link_key']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON link_key TO collimator_tenant;
