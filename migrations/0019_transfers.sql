-- Import and export (src/index/transfers.rs): operations of two more kinds, which keep what was asked
-- for beside where they are. (Of the kinds some may be those of other migrations.)

ALTER TABLE operation DROP CONSTRAINT operation_kind_check;
ALTER TABLE operation ADD CONSTRAINT operation_kind_check
    CHECK (kind IN ('reindex', 'purge', 'compact', 'erase', 'update', 'import', 'export'));

-- What was asked for; its form is the kind's. It does not change, and can be long: the cursor, which
-- does, stands apart.
ALTER TABLE operation ADD COLUMN request jsonb;
