-- Value won by owner
-- Values of deals won in the last 12 months, in each currency.
-- display: row
-- size: 12 x 7
-- dimensions: owner, currency
-- metrics: value
SELECT coalesce(owner_name, '(unknown)') AS owner,
       currency,
       sum(value) AS value,
       sum(deals) AS deals
FROM (SELECT *, max(month) OVER () AS last FROM bi.closed_deals WHERE status = 'won') AS won
WHERE month > last - interval '12 months'
GROUP BY owner_name, currency
ORDER BY value DESC NULLS LAST
LIMIT 20
