-- controls_version: of all controls; who has read it knows whether any has changed.
SELECT version FROM controls_version WHERE is_only
