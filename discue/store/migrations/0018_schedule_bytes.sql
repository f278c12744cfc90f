-- Schedules count towards the bytes that an organization stores: kind 0 of its current amounts, in the slot of works.
INSERT INTO tally (organization, period, kind, slot, n)
SELECT s.organization, 0, 0, 3, CAST(sum(s.size) AS BIGINT)
FROM schedule s JOIN queue q ON q.organization = s.organization AND q.id = s.queue
WHERE q.deleted_at IS NULL GROUP BY s.organization;
