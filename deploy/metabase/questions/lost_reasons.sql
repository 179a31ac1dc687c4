-- Why deals are lost
-- Reasons of the deals lost in the last 12 months, the commonest first.
-- display: row
-- size: 12 x 7
-- dimensions: reason
-- metrics: deals
SELECT coalesce(nullif(lost_reason, ''), '(none given)') AS reason,
       sum(deals) AS deals
FROM (SELECT *, max(month) OVER () AS last FROM bi.closed_deals WHERE status = 'lost') AS lost
WHERE month > last - interval '12 months'
GROUP BY 1
ORDER BY deals DESC, reason
LIMIT 20
