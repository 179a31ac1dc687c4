-- Deals won in the last 30 days
-- Living deals that were won within 30 days before now.
-- display: scalar
-- size: 6 x 3
SELECT count(*) AS deals
FROM bi.main_bi
WHERE status = 'won' AND won_time >= now() - interval '30 days'
