-- Win rate of the last 12 months
-- Won deals among those that were closed, up to the last month in which one was.
-- display: scalar
-- size: 6 x 3
-- percent: win_rate
SELECT round(sum(won)::numeric / nullif(sum(closed), 0), 4) AS win_rate
FROM (SELECT won, closed, month, max(month) OVER () AS last FROM bi.velocity) AS closed
WHERE month > last - interval '12 months'
