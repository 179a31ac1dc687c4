-- bi.main_bi: one row per living deal, the table that reports start from.
-- Columns 1 to 25 keep the names and types that earlier dashboards use.
WITH activity AS (
    SELECT deal_id,
           count(*)::integer AS activity_count,
           max(due_date) AS last_activity_due_date
    FROM pipedrive.activities
    WHERE deleted_at IS NULL AND deal_id IS NOT NULL
    GROUP BY deal_id
),
deal AS (
    SELECT *,
           -- Whole days of 24 hours from opening to closing; NULL while open.
           floor(extract(epoch FROM close_time - add_time) / 86400)::integer AS deal_duration_days
    FROM pipedrive.deals
    WHERE deleted_at IS NULL
)
SELECT deal.id AS deal_id,
       deal.title,
       deal.status,
       deal.value,
       deal.currency,
       deal.add_time,
       deal.update_time,
       deal.close_time,
       deal.expected_close_date,
       deal.lost_time,
       deal.won_time,
       deal.stage_change_time,
       deal.creator_user_id,
       deal.owner_id AS user_id,
       deal.pipeline_id,
       deal.stage_id,
       to_jsonb(deal.label_ids) AS label_ids,
       person.name AS contact_name,
       person.email AS contact_email,
       person.phone AS contact_phone,
       organization.name AS company_name,
       coalesce(activity.activity_count, 0) AS activity_count,
       activity.last_activity_due_date,
       deal.deal_duration_days,
       deal.value / nullif(deal.deal_duration_days, 0) AS value_per_day
FROM deal
LEFT JOIN pipedrive.persons AS person ON person.id = deal.person_id
LEFT JOIN pipedrive.organizations AS organization ON organization.id = deal.org_id
LEFT JOIN activity ON activity.deal_id = deal.id
