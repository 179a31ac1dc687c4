-- Funnel of the busiest pipeline
-- Deals that entered each stage in the last 12 months, in the pipeline that most deals entered.
-- display: funnel
-- size: 8 x 7
-- dimensions: stage_name
-- metrics: entered
WITH visit AS MATERIALIZED (
    SELECT pipeline_id, stage_name, stage_order, month, entered, advanced, max(month) OVER () AS last FROM bi.funnel
)
SELECT stage_name,
       sum(entered) AS entered,
       sum(advanced) AS advanced,
       round(sum(advanced) / sum(entered), 4) AS conversion
FROM visit
WHERE month > last - interval '12 months'
      AND pipeline_id = (SELECT pipeline_id FROM visit GROUP BY pipeline_id ORDER BY sum(entered) DESC, pipeline_id LIMIT 1)
GROUP BY stage_name, stage_order
ORDER BY stage_order
