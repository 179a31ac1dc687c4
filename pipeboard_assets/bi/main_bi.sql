-- bi.main_bi: one row per living deal, the table that reports start from.
-- Columns 1 to 25 keep the names and types that earlier dashboards use.
-- :timezone is the company's; "today" and every count of days is in it. :scope is what is computed: all, or some deals.
-- Only open deals depend on today, so that a new day recomputes no closed one.
WITH clock AS (
    SELECT (now() AT TIME ZONE :timezone)::date AS today
),
account AS (
    SELECT (SELECT default_currency FROM pipedrive.users WHERE is_you ORDER BY id LIMIT 1) AS currency
),
deal AS (
    SELECT *,
           status = 'open' AS is_open,
           -- Whole days of 24 hours from opening to closing; NULL while open.
           floor(extract(epoch FROM close_time - add_time) / 86400)::integer AS deal_duration_days,
           (coalesce(stage_change_time, add_time) AT TIME ZONE :timezone)::date AS entered_stage_on,
           CASE WHEN status = 'open' THEN today ELSE (close_time AT TIME ZONE :timezone)::date END AS last_day
    FROM pipedrive.deals, clock
    WHERE deleted_at IS NULL AND :scope
),
deal_activity AS (
    SELECT *, coalesce(done, false) AS is_done, (marked_as_done_time AT TIME ZONE :timezone)::date AS marked_on
    FROM pipedrive.activities
    WHERE deleted_at IS NULL AND deal_id IN (SELECT id FROM deal)
),
activity AS (
    SELECT deal_id,
           count(*)::integer AS activity_count,
           max(due_date) AS last_activity_due_date,
           count(*) FILTER (WHERE is_done)::integer AS done_count,
           count(*) FILTER (WHERE NOT is_done)::integer AS open_count,
           max(coalesce(marked_on, due_date)) FILTER (WHERE is_done) AS last_done_on
    FROM deal_activity
    GROUP BY deal_id
),
next_activity AS (
    SELECT DISTINCT ON (deal_id) deal_id, due_date, type
    FROM deal_activity
    WHERE NOT is_done
    ORDER BY deal_id, due_date NULLS LAST, due_time NULLS LAST, id
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
       deal.value / nullif(deal.deal_duration_days, 0) AS value_per_day,
       -- Ours.
       owner.name AS owner_name,
       creator.name AS creator_name,
       pipeline.name AS pipeline_name,
       stage.name AS stage_name,
       stage.order_nr AS stage_order,
       deal.person_id,
       deal.org_id,
       deal.lost_reason,
       deal.is_archived,
       :labels AS labels,
       next_activity.due_date AS next_activity_due_date,
       next_activity.type AS next_activity_type,
       coalesce(activity.done_count, 0) AS done_activity_count,
       coalesce(activity.open_count, 0) AS open_activity_count,
       CASE WHEN deal.is_open THEN deal.today - activity.last_done_on END AS days_since_last_activity,
       deal.last_day - deal.entered_stage_on AS days_in_stage,
       deal.is_open AND coalesce(deal.expected_close_date < deal.today, false) AS is_overdue,
       CASE deal.status
           WHEN 'won' THEN deal.value
           WHEN 'lost' THEN 0
           ELSE deal.value * coalesce(deal.probability, stage.deal_probability) / 100
       END AS weighted_value,
       CASE WHEN deal.currency = account.currency THEN deal.value ELSE deal.value * rate.rate END
           AS value_in_default_currency,
       organization.address_locality AS org_city,
       organization.address_country AS org_country
FROM deal
CROSS JOIN account
LEFT JOIN pipedrive.persons AS person ON person.id = deal.person_id
LEFT JOIN pipedrive.organizations AS organization ON organization.id = deal.org_id
LEFT JOIN pipedrive.users AS owner ON owner.id = deal.owner_id
LEFT JOIN pipedrive.users AS creator ON creator.id = deal.creator_user_id
LEFT JOIN pipedrive.pipelines AS pipeline ON pipeline.id = deal.pipeline_id
LEFT JOIN pipedrive.stages AS stage ON stage.id = deal.stage_id
LEFT JOIN activity ON activity.deal_id = deal.id
LEFT JOIN next_activity ON next_activity.deal_id = deal.id
LEFT JOIN LATERAL (
    SELECT rate FROM pipeboard.exchange_rate AS r
    WHERE r.currency = deal.currency AND r.valid_from <= deal.last_day
    ORDER BY r.valid_from DESC
    LIMIT 1
) AS rate ON true
