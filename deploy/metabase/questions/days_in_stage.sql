-- Days in each stage
-- Mean, over the last 12 months, of the monthly medians of days spent in a stage, weighted by the deals that entered.
-- display: bar
-- size: 12 x 7
-- dimensions: stage
-- metrics: days
SELECT concat(pipeline_name, ' ', stage_order, ': ', stage_name) AS stage,
       round(sum(median_days * entered) / sum(entered), 1) AS days
FROM (SELECT *, max(month) OVER () AS last FROM bi.funnel) AS monthly
WHERE month > last - interval '12 months' AND median_days IS NOT NULL
GROUP BY pipeline_name, stage_order, stage_name
ORDER BY pipeline_name, stage_order
