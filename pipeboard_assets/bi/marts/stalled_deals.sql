-- Open deals that nobody moves: rotten by Pipedrive's own rule, or without a planned activity, or with one that is overdue.
-- reads: bi.main_bi, pipedrive.stages, bi.calendar
-- deal_id: pipedrive.deals.id
-- title: Title of the deal.
-- owner_name: Name of the owner.
-- pipeline_name: Name of the pipeline.
-- stage_name: Name of the stage.
-- value: In currency.
-- currency: ISO code.
-- days_in_stage: Days since it entered the stage.
-- business_days_in_stage: The business days among them.
-- days_since_update: Days since anything about the deal changed.
-- is_rotten: Not updated for as many days as its stage allows.
-- has_no_next_activity: No open activity.
-- next_activity_due_date: Due date of the next open activity; past when it is overdue.
SELECT *
FROM (
    SELECT b.deal_id,
           b.title,
           b.owner_name,
           b.pipeline_name,
           b.stage_name,
           b.value,
           b.currency,
           b.days_in_stage,
           (SELECT count(*) FROM bi.calendar AS c
            WHERE c.is_business_day AND c.day > clock.today - b.days_in_stage AND c.day <= clock.today)
               AS business_days_in_stage,
           clock.today - (b.update_time AT TIME ZONE :timezone)::date AS days_since_update,
           coalesce(s.is_deal_rot_enabled
               AND now() - b.update_time >= s.days_to_rotten * interval '1 day', false) AS is_rotten,
           b.open_activity_count = 0 AS has_no_next_activity,
           b.next_activity_due_date
    FROM bi.main_bi AS b
    CROSS JOIN (SELECT (now() AT TIME ZONE :timezone)::date AS today) AS clock
    LEFT JOIN pipedrive.stages AS s ON s.id = b.stage_id
    WHERE b.status = 'open' AND b.is_archived IS NOT TRUE
) AS deal
WHERE is_rotten OR has_no_next_activity OR next_activity_due_date < (now() AT TIME ZONE :timezone)::date
