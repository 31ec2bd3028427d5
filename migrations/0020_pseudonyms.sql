-- De-identification (src/index/pseudonym_keys.rs): the key that a partition's pseudonyms are made
-- with. Pseudonyms themselves are nowhere.

CREATE TABLE pseudonym_key (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    pseudonym_key_id uuid NOT NULL,
    -- In clear, since pseudonyms are made with it.
    secret bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition_id, pseudonym_key_id)
);

-- The newest is the one that holds.
CREATE INDEX pseudonym_key_by_creation
    ON pseudonym_key (partition_id, created_at, pseudonym_key_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['pseudonym_key']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT ON pseudonym_key TO collimator_tenant;
