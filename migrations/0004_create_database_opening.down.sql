-- The epoch stays. Going up again, the next start makes it the first opening; marks of an accepted one are then unknown,
-- which is fenced until an operator accepts.
ALTER TABLE database_life DROP COLUMN opening;
DROP TABLE database_opening;
