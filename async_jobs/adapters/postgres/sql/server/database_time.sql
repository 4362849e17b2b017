-- database_time: the time by the database's clock, not the transaction's start.
--   no parameters
SELECT clock_timestamp()
