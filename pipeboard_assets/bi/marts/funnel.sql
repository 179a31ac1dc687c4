-- The funnel: living deals that entered a stage in a month, and what became of them until now.
-- Of moves before the first sync it counts those that `pipeboard sync --deal-history` has read.
-- reads: pipedrive.deals, pipedrive.stages, pipedrive.pipelines, pipedrive.deal_stage_history
-- key: stage_id, month
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
-- median_days: Median of the days that these deals spent in the stage, of those that left it; visits of one month add up.
WITH visit AS (
    SELECT history.deal_id,
           history.stage_id,
           history.seconds,
           history.entered_at,
           history.is_last,
           deal.status,
           deal.status = 'won' OR coalesce(stage.order_nr < max(stage.order_nr) OVER (
               PARTITION BY history.deal_id, stage.pipeline_id ORDER BY history.position
               ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING), false) AS has_advanced
    FROM pipedrive.deal_stage_history AS history
    JOIN pipedrive.deals AS deal ON deal.id = history.deal_id AND deal.deleted_at IS NULL
    JOIN pipedrive.stages AS stage ON stage.id = history.stage_id
),
deal_in_month AS (
    SELECT deal_id,
           stage_id,
           (date_trunc('month', entered_at AT TIME ZONE :timezone))::date AS month,
           bool_or(has_advanced) AS has_advanced,
           bool_or(is_last AND status = 'won') AS is_won,
           bool_or(is_last AND status = 'lost') AS is_lost,
           CASE WHEN bool_and(seconds IS NOT NULL) THEN sum(seconds) / 86400 END AS days
    FROM visit
    GROUP BY 1, 2, 3
),
counted AS (
    SELECT stage_id,
           month,
           count(*) AS entered,
           count(*) FILTER (WHERE has_advanced) AS advanced,
           count(*) FILTER (WHERE is_won) AS won,
           count(*) FILTER (WHERE is_lost) AS lost,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY days) AS median_days
    FROM deal_in_month
    GROUP BY stage_id, month
)
SELECT pipeline.id AS pipeline_id,
       pipeline.name AS pipeline_name,
       stage.id AS stage_id,
       stage.name AS stage_name,
       stage.order_nr AS stage_order,
       month,
       entered,
       advanced,
       won,
       lost,
       round(advanced::numeric / entered, 4) AS conversion,
       median_days::numeric(12, 2) AS median_days
FROM counted
JOIN pipedrive.stages AS stage ON stage.id = counted.stage_id
JOIN pipedrive.pipelines AS pipeline ON pipeline.id = stage.pipeline_id
