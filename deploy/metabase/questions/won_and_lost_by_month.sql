-- Won and lost by month
-- Closed deals by the month in which they were closed.
-- display: bar
-- size: 16 x 7
-- dimensions: month, status
-- metrics: deals
-- stacked: yes
SELECT month, status, sum(deals) AS deals
FROM bi.closed_deals
WHERE month IS NOT NULL
GROUP BY month, status
ORDER BY month, status
