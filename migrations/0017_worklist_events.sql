-- Events of the Worklist Service (PS3.18 §11.10 to §11.13, src/index/worklist_events.rs): who watches
-- which workitems of a partition, and what he is still to be told.

-- When it got its state: what has ended is removed some time after.
ALTER TABLE workitem ADD COLUMN state_at timestamptz NOT NULL DEFAULT now();

CREATE INDEX workitem_ended ON workitem (partition_id, state_at, workitem_uid)
    WHERE state IN ('COMPLETED', 'CANCELED');

-- An Application Entity that watches something, or has a channel.
CREATE TABLE workitem_subscriber (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    aetitle text COLLATE "C" NOT NULL,
    -- The sequences of its newest event and of the last one that it was told. Who writes events for it
    -- has locked this row, so that sequences become visible in their order.
    last_event bigint NOT NULL DEFAULT 0,
    told_event bigint NOT NULL DEFAULT 0,
    -- Its channel: that of who opened one last. NULL: it has none.
    channel uuid,
    -- The server of its last channel went down.
    is_down boolean NOT NULL DEFAULT false,
    PRIMARY KEY (partition_id, aetitle)
);

CREATE INDEX workitem_channel ON workitem_subscriber (partition_id, aetitle)
    WHERE channel IS NOT NULL;

-- Who becomes a subscriber of workitems that are created: of all, or of those that pass a filter.
CREATE TABLE workitem_global (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    aetitle text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('all', 'filtered')),
    has_lock boolean NOT NULL,
    -- The tests that a workitem has to pass, as JSON (src/dicom/matching.rs).
    filter text,
    PRIMARY KEY (partition_id, aetitle, kind)
);

-- Who is told of a workitem, and who wants it to stay when it has ended.
CREATE TABLE workitem_subscription (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    workitem_uid text COLLATE "C" NOT NULL,
    aetitle text COLLATE "C" NOT NULL,
    -- Deletion Lock (0074,1230).
    has_lock boolean NOT NULL,
    -- Asked for by itself, or of which global subscription.
    origin text COLLATE "C" NOT NULL CHECK (origin IN ('own', 'all', 'filtered')),
    PRIMARY KEY (partition_id, workitem_uid, aetitle)
);

CREATE INDEX workitem_subscription_by_aetitle ON workitem_subscription
    (partition_id, aetitle, workitem_uid);

-- What a subscriber is still to be told.
CREATE TABLE workitem_event (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    aetitle text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    workitem_uid text COLLATE "C" NOT NULL,
    -- (0000,1002) Event Type ID.
    kind smallint NOT NULL,
    -- The attributes of the report, as DICOM JSON; NULL: the state that the workitem has when it is
    -- told.
    report text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition_id, aetitle, sequence)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['workitem_subscriber', 'workitem_global', 'workitem_subscription',
        'workitem_event']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

GRANT DELETE ON workitem TO collimator_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON workitem_subscriber, workitem_global, workitem_subscription,
    workitem_event TO collimator_tenant;
