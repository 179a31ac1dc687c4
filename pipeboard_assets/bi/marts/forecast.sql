-- What open deals promise, by the month in which they are expected to close.
-- reads: bi.main_bi
-- month: First day of the month of the expected close date; NULL without one.
-- is_past: That month is over.
-- pipeline_name: Name of the pipeline.
-- owner_name: Name of the owner.
-- currency: The values are in it.
-- deals: Open deals.
-- value: Sum of their values.
-- weighted_value: Sum of value x probability, of deals that have both.
-- without_probability: Deals that have no probability, nor has their stage.
SELECT date_trunc('month', expected_close_date)::date AS month,
       date_trunc('month', expected_close_date) < date_trunc('month', now() AT TIME ZONE :timezone) AS is_past,
       pipeline_name,
       owner_name,
       currency,
       count(*) AS deals,
       sum(value) AS value,
       round(sum(weighted_value), 2) AS weighted_value,
       count(*) FILTER (WHERE value IS NOT NULL AND weighted_value IS NULL) AS without_probability
FROM bi.main_bi
WHERE status = 'open'
GROUP BY 1, 2, 3, 4, 5
