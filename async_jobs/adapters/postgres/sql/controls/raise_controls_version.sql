-- raise_controls_version: by one; whoever else changes a control waits until this one has.
UPDATE controls_version SET version = version + 1 WHERE is_only RETURNING version
