-- Webhooks (src/index/webhooks.rs, src/index/dead_letters.rs): who is told of a partition's changes,
-- how far he was told, and what he could not be told.

CREATE TABLE webhook (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    webhook_id uuid NOT NULL,
    url text COLLATE "C" NOT NULL,
    description text COLLATE "C" NOT NULL,
    -- The actions that he is told of.
    actions text[] NOT NULL,
    is_enabled boolean NOT NULL DEFAULT true,
    -- Who disabled it: a request, the receiver (410), or the server.
    disabled_because text COLLATE "C"
        CHECK (disabled_because IN ('request', 'gone', 'failing', 'full')),
    -- In clear, since messages are signed with it.
    secret bytea NOT NULL,
    old_secret bytea,
    old_secret_until timestamptz,
    -- Counts what changes which events a message has; a part of the ids of messages.
    revision integer NOT NULL DEFAULT 0,
    -- The last sequence that was delivered, passed over, or became a dead letter.
    cursor bigint NOT NULL,
    -- The last sequence of the message that is being tried, which begins after the cursor.
    batch_until bigint,
    -- Tries of that message.
    attempts integer NOT NULL DEFAULT 0,
    first_attempt_at timestamptz,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    -- Messages given up since one was delivered.
    dead_in_row integer NOT NULL DEFAULT 0,
    -- Events that had left the feed before he was told of them.
    lost bigint NOT NULL DEFAULT 0,
    last_success_at timestamptz,
    last_failure_at timestamptz,
    last_failure text COLLATE "C",
    last_status smallint,
    -- Who sends to it, and until when that holds without another sign of life.
    lease_owner uuid,
    lease_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition_id, webhook_id)
);

CREATE INDEX webhook_by_creation ON webhook (partition_id, created_at, webhook_id);

-- Messages that were given up: ranges of the feed. They change under the lock of their webhook's
-- row.
CREATE TABLE webhook_dead_letter (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    webhook_id uuid NOT NULL,
    last_sequence bigint NOT NULL,
    first_sequence bigint NOT NULL,
    -- Those of the range that he was to be told of.
    events integer NOT NULL,
    reason text COLLATE "C" NOT NULL,
    status smallint,
    attempts integer NOT NULL,
    first_attempt_at timestamptz NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now(),
    -- Somebody asked for one more try.
    replay_at timestamptz,
    PRIMARY KEY (partition_id, webhook_id, last_sequence)
);

CREATE INDEX webhook_dead_letter_to_replay ON webhook_dead_letter
    (partition_id, webhook_id, last_sequence) WHERE replay_at IS NOT NULL;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['webhook', 'webhook_dead_letter']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON webhook, webhook_dead_letter TO collimator_tenant;
