-- What a job was first promised, and when it first started. Versions before leave both alone.
ALTER TABLE jobs
    ADD COLUMN first_deadline_at timestamptz,
    ADD COLUMN first_started_at timestamptz;
