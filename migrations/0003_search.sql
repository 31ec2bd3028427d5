-- Search: every key in the order in which results come, terms of names and of what studies hold,
-- and what series were requested by. Rows that are here already are given theirs after this
-- (src/index/backfill.rs), since how names sound and what attributes say is not told in SQL.

-- How far that went: the number of the last migration whose rows are all filled in.
ALTER TABLE archive ADD COLUMN filled integer NOT NULL DEFAULT 0;

-- Where a study stands in the order of results, as one number that orders as (study_date,
-- study_time) does, so that a range of dates, the order and the page are one condition of one index
-- (src/index/order.rs says the same in Rust). Days (Julian, less 1721059, so that the first of year
-- 0 is 1) of 1,440 minutes of 61 seconds, since TM knows a second 60, in microseconds; doubled, and
-- 1 more where the time is known. 0: no date.
--
-- Offset from UTC in minutes: twice 61,000,000 of the above.
ALTER TABLE study
    ADD COLUMN timezone_offset text COLLATE "C",
    ADD COLUMN utc_offset smallint GENERATED ALWAYS AS (
        CASE WHEN timezone_offset ~ '^[+-][0-9]{4}$' THEN
            (left(timezone_offset, 1) || '1')::smallint
                * (substr(timezone_offset, 2, 2)::smallint * 60 + right(timezone_offset, 2)::smallint)
        END) STORED,
    ADD COLUMN study_order bigint NOT NULL GENERATED ALWAYS AS (
        CASE WHEN study_date ~ '^[0-9]{8}$' THEN 2 * (
            (right(study_date, 2)::bigint
                + (153 * (substr(study_date, 5, 2)::bigint
                    + 12 * ((14 - substr(study_date, 5, 2)::bigint) / 12) - 3) + 2) / 5
                + 365 * (left(study_date, 4)::bigint + 4800
                    - (14 - substr(study_date, 5, 2)::bigint) / 12)
                + (left(study_date, 4)::bigint + 4800
                    - (14 - substr(study_date, 5, 2)::bigint) / 12) / 4
                - (left(study_date, 4)::bigint + 4800
                    - (14 - substr(study_date, 5, 2)::bigint) / 12) / 100
                + (left(study_date, 4)::bigint + 4800
                    - (14 - substr(study_date, 5, 2)::bigint) / 12) / 400
                - 32045 - 1721059) * 87840000000
            + CASE WHEN study_time ~ '^[0-9]{6}[.][0-9]{6}$' THEN
                (left(study_time, 2)::bigint * 60 + substr(study_time, 3, 2)::bigint) * 61000000
                    + substr(study_time, 5, 2)::bigint * 1000000 + right(study_time, 6)::bigint
            ELSE 0 END)
            + CASE WHEN study_time ~ '^[0-9]{6}[.][0-9]{6}$' THEN 1 ELSE 0 END
        ELSE 0 END) STORED;

DROP INDEX study_by_date, study_by_patient_name, study_by_patient_name_ideographic,
    study_by_patient_name_phonetic, study_by_patient_id, study_by_patient_birth_date,
    study_by_time, study_by_accession_number, study_by_referring_physician_name,
    study_by_referring_physician_name_ideographic, study_by_referring_physician_name_phonetic,
    study_by_study_id, study_by_description;

-- Results come latest first, those without a date last. Each key's index ends in that order, so
-- that a page of a value that many studies share needs no sort, and holds all that a page of keys
-- is made of, so that it needs no row either.
CREATE INDEX study_by_date ON study (partition_id, study_order DESC, study_key DESC);
CREATE INDEX study_by_patient_name ON study
    (partition_id, patient_name, study_order DESC, study_key DESC);
CREATE INDEX study_by_patient_name_ideographic ON study
    (partition_id, patient_name_ideographic, study_order DESC, study_key DESC)
    WHERE patient_name_ideographic IS NOT NULL;
CREATE INDEX study_by_patient_name_phonetic ON study
    (partition_id, patient_name_phonetic, study_order DESC, study_key DESC)
    WHERE patient_name_phonetic IS NOT NULL;
CREATE INDEX study_by_patient_id ON study
    (partition_id, patient_id, study_order DESC, study_key DESC);
CREATE INDEX study_by_issuer_of_patient_id ON study
    (partition_id, issuer_of_patient_id, study_order DESC, study_key DESC);
CREATE INDEX study_by_patient_birth_date ON study
    (partition_id, patient_birth_date, study_order DESC, study_key DESC);
CREATE INDEX study_by_patient_sex ON study
    (partition_id, patient_sex, study_order DESC, study_key DESC);
CREATE INDEX study_by_time ON study
    (partition_id, study_time, study_order DESC, study_key DESC);
CREATE INDEX study_by_accession_number ON study
    (partition_id, accession_number, study_order DESC, study_key DESC);
CREATE INDEX study_by_referring_physician_name ON study
    (partition_id, referring_physician_name, study_order DESC, study_key DESC);
CREATE INDEX study_by_referring_physician_name_ideographic ON study
    (partition_id, referring_physician_name_ideographic, study_order DESC, study_key DESC)
    WHERE referring_physician_name_ideographic IS NOT NULL;
CREATE INDEX study_by_referring_physician_name_phonetic ON study
    (partition_id, referring_physician_name_phonetic, study_order DESC, study_key DESC)
    WHERE referring_physician_name_phonetic IS NOT NULL;
CREATE INDEX study_by_study_id ON study
    (partition_id, study_id, study_order DESC, study_key DESC);
CREATE INDEX study_by_description ON study
    (partition_id, study_description, study_order DESC, study_key DESC);

-- Terms under which a study is found besides its columns: of names (src/dicom/names.rs), m: and a
-- modality of its series, c: and a SOP class of its instances. study_order is the study's, so that
-- the studies of a term come in the order of results.
CREATE TABLE study_term (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    study_key bigint NOT NULL,
    term text COLLATE "C" NOT NULL,
    study_order bigint NOT NULL,
    PRIMARY KEY (partition_id, study_key, term)
);

CREATE INDEX study_term_in_order ON study_term
    (partition_id, term, study_order DESC, study_key DESC);

-- Series and instances come by arrival, oldest first.
DROP INDEX series_by_modality, series_by_description, series_by_body_part, series_by_station_name,
    series_by_model_name, series_by_pps_start_date, instance_by_sop_class;

CREATE INDEX series_by_modality ON series (partition_id, modality, series_key);
CREATE INDEX series_by_number ON series (partition_id, series_number, series_key);
CREATE INDEX series_by_description ON series (partition_id, series_description, series_key);
CREATE INDEX series_by_body_part ON series (partition_id, body_part_examined, series_key);
CREATE INDEX series_by_station_name ON series (partition_id, station_name, series_key);
CREATE INDEX series_by_model_name ON series (partition_id, manufacturer_model_name, series_key);
CREATE INDEX series_by_pps_start_date ON series (partition_id, pps_start_date, series_key);
CREATE INDEX series_by_pps_start_time ON series (partition_id, pps_start_time, series_key);
CREATE INDEX instance_by_sop_class ON instance (partition_id, sop_class_uid, watermark);
CREATE INDEX instance_by_number ON instance (partition_id, instance_number, watermark);

-- Items of the series' Request Attributes Sequence, and of each what Search matches.
CREATE TABLE series_request (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    series_key bigint NOT NULL,
    item smallint NOT NULL,
    study_key bigint NOT NULL,
    scheduled_procedure_step_id text COLLATE "C",
    requested_procedure_id text COLLATE "C",
    PRIMARY KEY (partition_id, series_key, item)
);

CREATE INDEX series_request_by_step ON series_request
    (partition_id, scheduled_procedure_step_id, series_key);
CREATE INDEX series_request_by_procedure ON series_request
    (partition_id, requested_procedure_id, series_key);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['study_term', 'series_request']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

ALTER TABLE study_term SET (autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE series_request SET (autovacuum_analyze_scale_factor = 0.02);

GRANT SELECT, INSERT, UPDATE (study_order), DELETE ON study_term TO collimator_tenant;
GRANT SELECT, INSERT, DELETE ON series_request TO collimator_tenant;
