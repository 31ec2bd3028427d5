-- Reading the change feed (src/index/feed.rs, src/index/feed_union.rs).
--
-- A committed event gets two numbers together, by whoever reads first: sequence counts the events
-- of its partition, from 1 and without holes; position orders those of all partitions, for who
-- reads several. From then on occurred_at does not run backwards along sequence.

ALTER TABLE change_feed ADD COLUMN position bigint;

CREATE UNIQUE INDEX change_feed_by_position ON change_feed (partition_id, position)
    WHERE position IS NOT NULL;
CREATE INDEX change_feed_by_time ON change_feed (partition_id, occurred_at, sequence)
    WHERE sequence IS NOT NULL;

CREATE SEQUENCE change_feed_position AS bigint;

-- No event that has no number yet will be told to have occurred before this moment, in microseconds
-- since 1970: who reads a span of time that has passed raises it, so that the span is complete. A
-- sequence, since it is set without waiting for anybody's transaction.
CREATE SEQUENCE change_feed_floor AS bigint;

GRANT UPDATE (sequence, position, occurred_at), DELETE ON change_feed TO collimator_tenant;
GRANT USAGE ON SEQUENCE change_feed_position TO collimator_tenant;
GRANT SELECT ON SEQUENCE change_feed_floor TO collimator_tenant;
GRANT SELECT ON SEQUENCE change_feed_position TO collimator_registry;
GRANT SELECT, UPDATE ON SEQUENCE change_feed_floor TO collimator_registry;
