-- The jobs that met an error, in the order of their ids; and the latest errors.
CREATE INDEX idx_attempts_fingerprint ON attempts (fingerprint, job_id)
    WHERE fingerprint IS NOT NULL;
CREATE INDEX idx_attempts_ended ON attempts (ended_at);
