-- Open deals past their close date
-- Expected to close before today, and still open.
-- display: scalar
-- size: 6 x 3
SELECT count(*) AS deals
FROM bi.main_bi
WHERE is_overdue
