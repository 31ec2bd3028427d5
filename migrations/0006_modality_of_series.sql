-- What is told of each study of a page is which modalities its series have: with the modality at hand
-- in the index that leads from a study to its series, no row of a series need be read for it.
CREATE UNIQUE INDEX series_by_study ON series (partition_id, study_key, series_instance_uid)
    INCLUDE (modality);
ALTER TABLE series DROP CONSTRAINT series_partition_id_study_key_series_instance_uid_key;
