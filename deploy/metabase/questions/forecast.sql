-- Forecast by month
-- What open deals promise by expected close month, in each currency: value x probability.
-- display: bar
-- size: 12 x 7
-- dimensions: month, currency
-- metrics: weighted_value
SELECT month,
       currency,
       sum(deals) AS deals,
       sum(value) AS value,
       sum(weighted_value) AS weighted_value
FROM bi.forecast
WHERE month IS NOT NULL
GROUP BY month, currency
ORDER BY month, currency
