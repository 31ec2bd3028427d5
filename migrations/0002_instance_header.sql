-- Bytes that stand before a stored file when it is given out, so that it is one of PS3.10 §7.1: 0
-- for nearly all, 132 where the preamble is missing. NULL: not known before the file is read.
ALTER TABLE instance ADD COLUMN header_missing smallint;
