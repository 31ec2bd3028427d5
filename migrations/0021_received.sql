-- SHA-256 of what came of an instance whose attributes were coerced (src/archive/coerce.rs): a re-send
-- of it is recognised by that, since what is stored tells when it was coerced. NULL: it is stored as
-- it came.
ALTER TABLE instance ADD COLUMN received_sha256 bytea;
ALTER TABLE deleted_instance ADD COLUMN received_sha256 bytea;

GRANT UPDATE (received_sha256) ON deleted_instance TO collimator_tenant;
