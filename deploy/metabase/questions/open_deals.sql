-- Open deals
-- Living deals that are neither won nor lost.
-- display: scalar
-- size: 6 x 3
SELECT count(*) AS deals
FROM bi.main_bi
WHERE status = 'open'
