-- What the population of examples/seed leaves out: rows of the other tables, in partition p0000.
-- Run as the owner of the database, once, before statistics are taken.

-- Frames: native ones for all, and 200 encapsulated ones of two fragments each for one of a hundred.
INSERT INTO frame_table (partition_id, watermark, number_of_frames, native_offset, native_length,
        native_frame_bits, fragments, starts)
    SELECT partition_id, watermark,
        CASE WHEN many THEN 200 ELSE 1 END,
        CASE WHEN NOT many THEN 1000 END, CASE WHEN NOT many THEN 524288 END,
        CASE WHEN NOT many THEN 4194304 END,
        CASE WHEN many THEN
            (SELECT string_agg(int8send(n * 20000) || int4send(19992), '' ORDER BY n)
                FROM generate_series(1, 400) n) END,
        CASE WHEN many THEN
            (SELECT string_agg(int4send(n * 2), '' ORDER BY n) FROM generate_series(0, 200) n) END
    FROM (SELECT partition_id, watermark, watermark % 100 = 7 AS many FROM instance) i;
UPDATE instance_metadata SET bulk = '{"7FE00010": ["OW", 1000, 524288]}';

-- Each study in a blob of its own, as if it had come with a request of its own.
UPDATE instance SET blob_id = md5(partition_id || study_key)::uuid;
DELETE FROM blob;
INSERT INTO blob (partition_id, blob_id, length)
    SELECT partition_id, blob_id, sum(length) FROM instance GROUP BY 1, 2;

-- All events but the last hundred have their numbers.
UPDATE change_feed t SET sequence = x.sequence, position = x.event_id,
        occurred_at = now() - interval '1 day' + x.sequence * interval '1 second'
    FROM (SELECT ctid AS at, event_id,
            row_number() OVER (PARTITION BY partition_id ORDER BY event_id) AS sequence,
            count(*) OVER (PARTITION BY partition_id) AS count
        FROM change_feed) x
    WHERE t.ctid = x.at AND x.sequence <= x.count - least(100, x.count / 2);
SELECT setval('change_feed_position', (SELECT max(event_id) FROM change_feed));

-- Deleted: what can come back, and what cannot.
INSERT INTO deleted_instance (partition_id, watermark, study_instance_uid, series_instance_uid,
        sop_instance_uid, sop_class_uid, transfer_syntax_uid, blob_id, blob_offset, length,
        data_set_offset, sha256, stored_at, deleted_at, restorable_until)
    SELECT 'p0000', nextval('watermark'), '1.' || 8 - e, '1.8.' || e, '1.8.' || e || '.' || n,
        '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1', md5('gone' || e)::uuid, n * 1000, 1000,
        300, '\x00', now() - interval '2 days', now() - interval '1 day',
        CASE e WHEN 0 THEN now() + interval '1 day' END
    FROM generate_series(0, 1) e, generate_series(1, 1000 - 900 * e) n;
-- First versions, of a hundred live instances and of a hundred that can come back.
INSERT INTO original_instance (partition_id, watermark, of_watermark, study_instance_uid,
        series_instance_uid, transfer_syntax_uid, blob_id, blob_offset, length, data_set_offset,
        header_missing, sha256, stored_at)
    SELECT partition_id, nextval('watermark'), watermark, '1.8', '1.8.2', transfer_syntax_uid,
        'ffffffff-0000-4000-8000-000000000001', n * 1000, 1000, 300, 0, '\x00', now()
    FROM (SELECT *, row_number() OVER (ORDER BY watermark) AS n FROM instance
        WHERE partition_id = 'p0000' ORDER BY watermark LIMIT 100) i;
INSERT INTO deleted_instance (partition_id, watermark, study_instance_uid, series_instance_uid,
        sop_instance_uid, sop_class_uid, transfer_syntax_uid, blob_id, blob_offset, length,
        data_set_offset, sha256, stored_at, deleted_at, restorable_until, version_of)
    SELECT partition_id, nextval('watermark'), study_instance_uid, series_instance_uid,
        sop_instance_uid, sop_class_uid, transfer_syntax_uid,
        'ffffffff-0000-4000-8000-000000000002', blob_offset, length, data_set_offset, sha256,
        stored_at, deleted_at, restorable_until, watermark
    FROM deleted_instance WHERE restorable_until IS NOT NULL ORDER BY watermark LIMIT 100;
-- Rejected: what a note hides, and what others name that has not come.
INSERT INTO deleted_instance (partition_id, watermark, study_instance_uid, series_instance_uid,
        sop_instance_uid, sop_class_uid, transfer_syntax_uid, blob_id, blob_offset, length,
        data_set_offset, sha256, stored_at, deleted_at, restorable_until)
    SELECT 'p0000', nextval('watermark'), '1.7', '1.7.1', '1.7.1.' || n,
        '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1', 'ffffffff-0000-4000-8000-000000000003',
        n * 1000, 1000, 300, '\x00', now(), now(), now() + interval '7500 years'
    FROM generate_series(1, 100) n;
INSERT INTO blob_removal (partition_id, blob_id, due_at, length)
    VALUES ('p0000', 'ffffffff-0000-4000-8000-000000000003', now() + interval '7500 years', 100000);
INSERT INTO rejection (partition_id, sop_instance_uid, note_uid, title, watermark)
    SELECT partition_id, sop_instance_uid, '1.6.1', '113001', watermark
        FROM deleted_instance WHERE study_instance_uid = '1.7'
    UNION ALL SELECT 'p0000', '1.7.2.' || n, '1.6.' || 2 + n % 100, '113037', NULL
        FROM generate_series(1, 10000) n;
-- New versions that share bytes with them.
INSERT INTO composed_blob (partition_id, blob_id, original, head_length, rest_at)
    SELECT partition_id, md5('composed' || watermark)::uuid, watermark, 100, 300
    FROM original_instance;
INSERT INTO blob_removal (partition_id, blob_id, due_at, attempts, length, error, moved_to)
    SELECT 'p0000', md5('gone' || e)::uuid, now() - interval '1 hour', 0, 100000, NULL, NULL
        FROM generate_series(0, 1) e
    UNION ALL SELECT 'p0000', md5('late' || n)::uuid, now() + interval '1 hour', 3, 1000, 'e',
        CASE WHEN n = 1 THEN md5('moved')::uuid END FROM generate_series(1, 50) n;
INSERT INTO blob_compaction (partition_id, blob_id, due_at, attempts, error)
    SELECT 'p0000', md5('compact' || n)::uuid,
        now() + CASE WHEN n <= 50 THEN interval '-1 hour' ELSE interval '1 hour' END,
        CASE WHEN n <= 50 THEN 0 ELSE 3 END, CASE WHEN n > 50 THEN 'e' END
    FROM generate_series(1, 100) n;

-- Operations; the first of each kind is under way, others have ended.
INSERT INTO operation (partition_id, operation_id, kind, state, resources, total, cursor,
        lease_owner, lease_until, ended_at, created_at)
    SELECT 'p0000', ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,
        CASE n WHEN 2 THEN 'erase' ELSE 'reindex' END,
        CASE WHEN n <= 2 THEN 'running' ELSE 'succeeded' END, '{}', 100, '{}',
        '00000000-0000-4000-8000-000000000001', now() + interval '1 day',
        CASE WHEN n > 2 THEN now() - interval '1 hour' END, now() - n * interval '1 minute'
    FROM generate_series(1, 100) n;
-- What the erasure waits for: a blob that is there, one that failed to go, one that is gone.
INSERT INTO erasure_blob (partition_id, blob_id, operation_id)
    SELECT 'p0000', id, '00000000-0000-4000-8000-000000000002'
    FROM unnest(ARRAY[md5('late1')::uuid, md5('nowhere')::uuid]) id;

-- Extended query tags: one of the partition, with values; two of all partitions that it did not meet.
INSERT INTO query_tag (partition_id, tag_id, is_root, path, vr, level, operation_id, state)
    VALUES ('p0000', 1, false, '00101000', 'LO', 2, '00000000-0000-4000-8000-000000000001', 'adding');
INSERT INTO query_tag_root (tag_id, path, vr, level, operation_id, is_deleting)
    SELECT n, '0010200' || n % 10, 'LO', 0, '00000000-0000-4000-8000-000000000001', n = 1001
    FROM generate_series(1000, 1001) n;
SELECT setval('query_tag_id', 2000);
INSERT INTO query_tag_value (partition_id, watermark, tag_id, place, owner_key, kind, value)
    SELECT partition_id, watermark, 1, 0, watermark, 0, 'V' || watermark % 1000
    FROM instance WHERE partition_id = 'p0000';
INSERT INTO query_tag_error (partition_id, tag_id, watermark, reason)
    SELECT partition_id, 1, watermark, 'e' FROM instance
    WHERE partition_id = 'p0000' ORDER BY watermark LIMIT 200;

-- Webhooks, the first of which is behind, leased, and has dead letters.
INSERT INTO webhook (partition_id, webhook_id, url, description, actions, secret, cursor,
        lease_owner, lease_until)
    SELECT 'p0000', ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'https://a.test/',
        '', '{create}', '\x00', 0,
        CASE n WHEN 1 THEN '00000000-0000-4000-8000-000000000001'::uuid END,
        CASE n WHEN 1 THEN now() + interval '1 day' END
    FROM generate_series(1, 20) n;
INSERT INTO webhook_dead_letter (partition_id, webhook_id, last_sequence, first_sequence, events,
        reason, attempts, first_attempt_at, replay_at)
    SELECT 'p0000', '00000000-0000-4000-8000-000000000001', n * 10, n * 10 - 9, 10, 'timeout', 9,
        now(), CASE n WHEN 50 THEN now() END
    FROM generate_series(1, 100) n;

-- A worklist, most of which is done.
INSERT INTO workitem (partition_id, workitem_uid, state, start_at, patient_id, attributes)
    SELECT 'p0000', '1.7.' || n, CASE WHEN n % 10 = 0 THEN 'SCHEDULED' ELSE 'COMPLETED' END,
        to_char(timestamp '2026-01-01' + n * interval '15 minutes', 'YYYYMMDDHH24MISS') || '.000000',
        'P' || n % 1000, repeat('{"00741204":{"vr":"LO","Value":["a workitem of some KiB"]}},', 50)
    FROM generate_series(1, 10000) n;

-- Ten watch the first thousand, who are told of some; forty have nothing any more.
INSERT INTO workitem_subscriber (partition_id, aetitle, last_event, channel)
    SELECT 'p0000', 'AE' || n, CASE WHEN n <= 10 THEN 1000 ELSE 0 END,
        CASE WHEN n <= 10 THEN ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid END
    FROM generate_series(1, 60) n;
INSERT INTO workitem_global (partition_id, aetitle, kind, has_lock)
    SELECT 'p0000', 'AE' || n, 'all', false FROM generate_series(1, 20) n;
INSERT INTO workitem_subscription (partition_id, workitem_uid, aetitle, has_lock, origin)
    SELECT 'p0000', '1.7.' || n, 'AE' || a, n % 2 = 0, 'all'
    FROM generate_series(1, 1000) n, generate_series(1, 10) a;
INSERT INTO workitem_event (partition_id, aetitle, sequence, workitem_uid, kind, report)
    SELECT 'p0000', 'AE' || a, n, '1.7.' || n, 1, '{"00741000":{"vr":"CS","Value":["SCHEDULED"]}}'
    FROM generate_series(1, 1000) n, generate_series(1, 10) a;

-- Who may do what.
INSERT INTO partition_policy (partition_id, state, updated_by) VALUES ('p0000', 'active', 'bench');
INSERT INTO role (partition_id, name, permissions)
    SELECT 'p0000', 'role' || n, '{search,retrieve}' FROM generate_series(1, 20) n;
INSERT INTO principal (partition_id, principal_id, kind, issuer, subject, name, roles)
    SELECT 'p0000', ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'user', 'issuer',
        'subject' || n, 'Somebody', ARRAY['role' || n % 20 + 1]
    FROM generate_series(1, 1000) n;
INSERT INTO api_key (partition_id, key_id, name, prefix, hash, roles, created_by)
    SELECT 'p0000', ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'a key', 'cmk_',
        '\x00', ARRAY['role' || n % 20 + 1], 'bench'
    FROM generate_series(1, 100) n;
INSERT INTO revocation (partition_id, revocation_id, kind, issuer, value, expires_at)
    SELECT 'p0000', ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,
        CASE n % 2 WHEN 0 THEN 'session' ELSE 'token' END, 'issuer', 'value' || n,
        now() + CASE WHEN n <= 500 THEN interval '1 hour' ELSE interval '-1 hour' END
    FROM generate_series(1, 600) n;
INSERT INTO link_key (partition_id, link_key_id, secret)
    SELECT 'p0000', ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, '\x00'
    FROM generate_series(1, 3) n;
INSERT INTO pseudonym_key (partition_id, pseudonym_key_id, secret)
    VALUES ('p0000', '00000000-0000-4000-8000-000000000001', '\x00');

-- The audit log: a chain of events, and some that wait for their place in it.
INSERT INTO audit_event (partition_id, event_id, occurred_at, issuer, subject, action, outcome,
        study_instance_uid, request_id, record)
    SELECT 'p0000', ('00000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid,
        now() - interval '30 days' + n * interval '1 minute', 'issuer', 'subject' || n % 20,
        'instance.store', 'success', '1.' || n % 10, 'request' || n % 500,
        repeat('{"detail":"a record of some hundred bytes"},', 8)
    FROM generate_series(1, 5000) n;
INSERT INTO audit_chain (partition_id, number, event_id, hash)
    SELECT 'p0000', n, ('00000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid,
        decode(md5(n::text) || md5(n::text), 'hex')
    FROM generate_series(1, 4900) n;
INSERT INTO audit_pending (partition_id, event_id)
    SELECT 'p0000', ('00000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid
    FROM generate_series(4901, 5000) n;
INSERT INTO audit_checkpoint (partition_id, number, hash, event_id)
    VALUES ('p0000', 1, '\x00', gen_random_uuid());
INSERT INTO audit_export (partition_id, target, number, lease_owner, lease_until)
    VALUES ('p0000', 'syslog', 0, '00000000-0000-4000-8000-000000000001', now() + interval '1 day');

-- The scrubber: a pass under way, passes that ended, damage that is open and that was cleared.
INSERT INTO scrub_pass (partition_id, created_at, ended_at, cursor, lease_owner, lease_until)
    SELECT 'p0000', now() - n * interval '1 day', CASE WHEN n > 1 THEN now() - interval '1 day' END,
        '{}', CASE n WHEN 1 THEN '00000000-0000-4000-8000-000000000001'::uuid END,
        CASE n WHEN 1 THEN now() + interval '1 day' END
    FROM generate_series(1, 10) n;
INSERT INTO damage (partition_id, kind, subject, description, seen_at, cleared_at)
    SELECT 'p0000', 'frames', n::text, 'd', now() - interval '2 hours',
        CASE WHEN n > 50 THEN now() - interval '1 hour' END
    FROM generate_series(1, 100) n;

-- Storage commitment: a request that somebody checks, one that nobody does, and some that ended.
INSERT INTO commitment (partition_id, transaction_uid, created_at, ended_at, sop_classes, instances,
        outcomes, lease_owner, lease_until)
    SELECT 'p0000', '1.7.' || n, now() - n * interval '1 hour',
        CASE WHEN n > 2 THEN now() - n * interval '1 hour' END,
        array_fill('1.2.840.10008.5.1.4.1.1.2'::text, ARRAY[1000]),
        array_fill('1.2.3'::text, ARRAY[1000]),
        array_fill(0::smallint, ARRAY[CASE WHEN n > 2 THEN 1000 ELSE 100 END]),
        CASE n WHEN 1 THEN '00000000-0000-4000-8000-000000000001'::uuid END,
        CASE n WHEN 1 THEN now() + interval '1 day' END
    FROM generate_series(1, 100) n;

-- Non-Patient Instances, without bytes.
INSERT INTO non_patient_instance (partition_id, category, sop_instance_uid, sop_class_uid,
        transfer_syntax_uid, blob_id, length, data_set_offset, header_missing, sha256, metadata, bulk)
    SELECT 'p0000', CASE WHEN n > 500 THEN 'hanging-protocols' ELSE 'color-palettes' END, '1.6.' || n,
        '1.2.840.10008.5.1.4.39.1', '1.2.840.10008.1.2.1', gen_random_uuid(), 1000, 300, 0, '\x00',
        (SELECT metadata FROM instance_metadata WHERE partition_id = 'p0000' LIMIT 1),
        '{"7FE00010": ["OB", 300, 100]}'
    FROM generate_series(1, 1000) n;
