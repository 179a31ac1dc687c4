-- The funnel: living deals that entered a stage in a month, and what became of them until now.
-- reads: pipedrive.deals, pipedrive.stages, pipedrive.pipelines, pipedrive.deal_stage_history
-- pipeline_id: pipedrive.pipelines.id
-- pipeline_name: Name of the pipeline.
-- stage_id: pipedrive.stages.id
-- stage_name: Name of the stage.
-- stage_order: Place of the stage in its pipeline.
-- month: First day of the month in which the deals entered the stage, in the company's time zone.
-- entered: Deals that entered; one that came back in the same month counts once.
-- advanced: Those of them that reached a later stage of the pipeline afterwards, or were won.
-- won: Those of them that were won from this stage.
-- lost: Those of them that were lost from this stage.
-- conversion: advanced / entered.
-- median_days: Median of the days spent in the stage, of visits that are over.
WITH visit AS (
    SELECT history.deal_id,
           history.stage_id,
           history.seconds,
           (date_trunc('month', history.entered_at AT TIME ZONE :timezone))::date AS month,
           deal.status,
           deal.stage_id = history.stage_id
               AND row_number() OVER (PARTITION BY history.deal_id ORDER BY history.position DESC) = 1 AS is_last,
           deal.status = 'won' OR coalesce(stage.order_nr < max(stage.order_nr) OVER (
               PARTITION BY history.deal_id, stage.pipeline_id ORDER BY history.position
               ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING), false) AS has_advanced
    FROM pipedrive.deal_stage_history AS history
    JOIN pipedrive.deals AS deal ON deal.id = history.deal_id AND deal.deleted_at IS NULL
    JOIN pipedrive.stages AS stage ON stage.id = history.stage_id
)
SELECT pipeline.id AS pipeline_id,
       pipeline.name AS pipeline_name,
       stage.id AS stage_id,
       stage.name AS stage_name,
       stage.order_nr AS stage_order,
       visit.month,
       count(DISTINCT deal_id) AS entered,
       count(DISTINCT deal_id) FILTER (WHERE has_advanced) AS advanced,
       count(DISTINCT deal_id) FILTER (WHERE is_last AND status = 'won') AS won,
       count(DISTINCT deal_id) FILTER (WHERE is_last AND status = 'lost') AS lost,
       round(count(DISTINCT deal_id) FILTER (WHERE has_advanced)::numeric / count(DISTINCT deal_id), 4) AS conversion,
       (percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds / 86400))::numeric(12, 2) AS median_days
FROM visit
JOIN pipedrive.stages AS stage ON stage.id = visit.stage_id
JOIN pipedrive.pipelines AS pipeline ON pipeline.id = stage.pipeline_id
GROUP BY pipeline.id, pipeline.name, stage.id, stage.name, stage.order_nr, visit.month
