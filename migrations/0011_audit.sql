-- The audit log (src/index/audit.rs, docs/audit.md): who did what, by which request, with what outcome.
-- The application adds to it and reads it; what is written it can neither change nor remove.

CREATE TABLE audit_event (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    event_id uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    -- What is asked for, taken from the record; `collimator audit verify` holds them against it.
    issuer text COLLATE "C",
    subject text COLLATE "C",
    action text COLLATE "C" NOT NULL,
    outcome text COLLATE "C" NOT NULL CHECK (outcome IN ('success', 'refused', 'failed')),
    study_instance_uid text COLLATE "C",
    request_id text COLLATE "C",
    -- The event as JSON: the very bytes that the chain is made of.
    record text COLLATE "C" NOT NULL,
    PRIMARY KEY (partition_id, event_id)
);

CREATE INDEX audit_event_in_order ON audit_event (partition_id, occurred_at, event_id);
CREATE INDEX audit_event_by_study ON audit_event
    (partition_id, study_instance_uid, occurred_at, event_id) WHERE study_instance_uid IS NOT NULL;
CREATE INDEX audit_event_by_subject ON audit_event
    (partition_id, subject, occurred_at, event_id) WHERE subject IS NOT NULL;
CREATE INDEX audit_event_by_request ON audit_event
    (partition_id, request_id, occurred_at, event_id) WHERE request_id IS NOT NULL;

-- Events that have no place in the chain yet.
CREATE TABLE audit_pending (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    pending_id bigint GENERATED ALWAYS AS IDENTITY,
    event_id uuid NOT NULL,
    PRIMARY KEY (partition_id, pending_id)
);

-- The chain: numbers count from 1 without holes; a hash is SHA-256 of the one before it (32 bytes of
-- zero before the first) and the bytes of the event's record.
CREATE TABLE audit_chain (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    number bigint NOT NULL CHECK (number > 0),
    event_id uuid NOT NULL,
    hash bytea NOT NULL,
    linked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition_id, number)
);

CREATE UNIQUE INDEX audit_chain_event ON audit_chain (partition_id, event_id);

-- What stands for the part of the chain that retention removed.
CREATE TABLE audit_checkpoint (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    -- The last number that was removed, and its hash.
    number bigint NOT NULL CHECK (number > 0),
    hash bytea NOT NULL,
    -- The event that tells of it.
    event_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition_id, number)
);

-- How far each receiver of the log was sent it.
CREATE TABLE audit_export (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    target text COLLATE "C" NOT NULL,
    -- The last number that was handed over.
    number bigint NOT NULL DEFAULT 0,
    -- Who sends, and until when that holds without another sign of life.
    lease_owner uuid,
    lease_until timestamptz,
    PRIMARY KEY (partition_id, target)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['audit_event', 'audit_pending', 'audit_chain', 'audit_checkpoint',
        'audit_export']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT ON audit_event, audit_chain TO collimator_tenant;
GRANT SELECT, INSERT, DELETE ON audit_pending TO collimator_tenant;
GRANT SELECT ON audit_checkpoint TO collimator_tenant;
GRANT SELECT, INSERT, UPDATE ON audit_export TO collimator_tenant;

-- Removes the beginning of a partition's chain: events up to number `up_to` that are older than
-- `keep`, and than a day whatever that is; `most` at a time. Leaves a checkpoint, and an event that
-- tells of it; answers how many events went. The one way in which the application has any removed.
CREATE FUNCTION audit_forget(at_partition text, keep interval, up_to bigint, most integer)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    old timestamptz := now() - greatest(keep, interval '1 day');
    last bigint;
    last_hash bytea;
    removed bigint;
    told uuid := gen_random_uuid();
    at text := to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
BEGIN
    IF (at_partition = ANY
        (string_to_array(current_setting('collimator.scope', true), ','))) IS NOT TRUE
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'the partition is not in scope';
    END IF;
    -- Up to the first that is too young, or whose event is not there: that is for people to see.
    SELECT coalesce(min(x.number) FILTER (WHERE (x.occurred_at < old AND x.number <= up_to)
            IS NOT TRUE) - 1, max(x.number))
        INTO last
        FROM (SELECT c.number, e.occurred_at
            FROM (SELECT number, event_id FROM audit_chain
                WHERE partition_id = at_partition AND number > 0 ORDER BY number LIMIT most) c
            LEFT JOIN LATERAL (SELECT occurred_at FROM audit_event
                WHERE partition_id = at_partition AND event_id = c.event_id) e ON true) x;
    SELECT hash INTO last_hash FROM audit_chain
        WHERE partition_id = at_partition AND number = last FOR UPDATE;
    IF last_hash IS NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM audit_event WHERE partition_id = at_partition AND event_id = ANY (ARRAY(
        SELECT event_id FROM audit_chain WHERE partition_id = at_partition AND number <= last));
    DELETE FROM audit_chain WHERE partition_id = at_partition AND number <= last;
    GET DIAGNOSTICS removed = ROW_COUNT;
    DELETE FROM audit_checkpoint WHERE partition_id = at_partition;
    INSERT INTO audit_checkpoint (partition_id, number, hash, event_id)
        VALUES (at_partition, last, last_hash, told);
    INSERT INTO audit_event (partition_id, event_id, occurred_at, action, outcome, record)
        VALUES (at_partition, told, now(), 'audit.forget', 'success', format(
            '{"id":"%s","time":"%s","partition":"%s","who":{"kind":"server"},'
            '"action":"audit.forget","outcome":"success",'
            '"detail":{"removed":%s,"number":%s,"hash":"%s"}}',
            told, at, at_partition, removed, last, encode(last_hash, 'hex')));
    INSERT INTO audit_pending (partition_id, event_id) VALUES (at_partition, told);
    RETURN removed;
END
$$;

REVOKE ALL ON FUNCTION audit_forget(text, interval, bigint, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_forget(text, interval, bigint, integer) TO collimator_tenant;
