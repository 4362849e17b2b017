-- notify_topics: wake the listeners of some channels.
--   $1 channels text[]
SELECT pg_notify(channel, '') FROM unnest($1::text[]) AS woken (channel)
