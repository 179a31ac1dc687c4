-- Every visit of a deal to a stage that a sync has seen, in order; a stage that it came back to has a visit for each time.
-- schema: pipedrive
-- reads: pipedrive.deals
-- deal_id: pipedrive.deals.id
-- stage_id: pipedrive.stages.id
-- position: 1 for the first visit seen of this deal.
-- entered_at: When the deal entered the stage; for the first visit seen, when Pipedrive says, else when the deal was added.
-- left_at: When it moved on or was closed; NULL while it is there.
-- seconds: From entering to leaving; NULL while it is there.
-- is_last: The stage in which the deal is, or was closed.
WITH move AS (
    SELECT deal_id,
           noticed_at,
           (max(old_value) FILTER (WHERE field = 'stage_id'))::bigint AS stage_id,
           (max(old_value) FILTER (WHERE field = 'stage_change_time'))::timestamptz AS entered_at,
           max(changed_at) FILTER (WHERE field = 'stage_id') AS left_at
    FROM pipedrive.deal_change
    WHERE field IN ('stage_id', 'stage_change_time')
    GROUP BY deal_id, noticed_at
),
visit AS (
    SELECT deal_id, stage_id, entered_at, left_at, noticed_at, false AS is_last
    FROM move
    WHERE stage_id IS NOT NULL
    UNION ALL
    SELECT id, stage_id, stage_change_time, CASE WHEN status <> 'open' THEN close_time END, 'infinity', true
    FROM pipedrive.deals
    WHERE stage_id IS NOT NULL
),
told AS (
    SELECT visit.deal_id,
           visit.stage_id,
           row_number() OVER seen AS position,
           coalesce(lag(visit.left_at) OVER seen, visit.entered_at, deal.add_time) AS entered_at,
           visit.left_at,
           visit.is_last
    FROM visit
    JOIN pipedrive.deals AS deal ON deal.id = visit.deal_id
    WINDOW seen AS (PARTITION BY visit.deal_id ORDER BY visit.noticed_at)
)
SELECT deal_id,
       stage_id,
       position,
       entered_at,
       left_at,
       extract(epoch FROM left_at - entered_at) AS seconds,
       is_last
FROM told
