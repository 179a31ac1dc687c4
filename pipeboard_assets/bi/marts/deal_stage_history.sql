-- Every visit of a deal to a stage that a sync or its changelog has seen, in order; a stage that it came back to has a visit for each time.
-- schema: pipedrive
-- reads: pipedrive.deals, pipedrive.deal_changelog
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
covered AS (
    -- A changelog knows every move until its last line, also those between two syncs.
    SELECT deal_id, max(changed_at) AS until
    FROM pipedrive.deal_changelog
    GROUP BY deal_id
),
visit AS (
    SELECT line.deal_id,
           CASE WHEN line.old_value ~ '^[0-9]{1,18}$' THEN line.old_value::bigint END AS stage_id,
           NULL::timestamptz AS entered_at,
           line.changed_at AS left_at,
           1 AS source,
           line.changed_at AS seen_at,
           line.position AS place,
           false AS is_last,
           deal.add_time
    FROM pipedrive.deal_changelog AS line
    JOIN pipedrive.deals AS deal ON deal.id = line.deal_id
    WHERE line.field = 'stage_id'
      -- What the row does not tell yet comes with the next sync.
      AND line.changed_at <= coalesce(deal.update_time, 'infinity')
    UNION ALL
    SELECT move.deal_id, move.stage_id, move.entered_at, move.left_at, 2, move.noticed_at, 0, false, deal.add_time
    FROM move
    JOIN pipedrive.deals AS deal ON deal.id = move.deal_id
    LEFT JOIN covered ON covered.deal_id = move.deal_id
    WHERE move.left_at > coalesce(covered.until, '-infinity')
    UNION ALL
    SELECT id, stage_id, stage_change_time, CASE WHEN status <> 'open' THEN close_time END, 3, 'infinity', 0, true, add_time
    FROM pipedrive.deals
),
once AS (
    -- Two sources may tell of one visit.
    SELECT visit.*, lead(stage_id) OVER seen IS NOT DISTINCT FROM stage_id AS is_told_again
    FROM visit
    WHERE stage_id IS NOT NULL
    WINDOW seen AS (PARTITION BY deal_id ORDER BY source, seen_at, place)
),
told AS (
    SELECT deal_id,
           stage_id,
           row_number() OVER seen AS position,
           coalesce(lag(left_at) OVER seen, entered_at, add_time) AS entered_at,
           left_at,
           is_last
    FROM once
    WHERE NOT is_told_again
    WINDOW seen AS (PARTITION BY deal_id ORDER BY source, seen_at, place)
)
SELECT deal_id,
       stage_id,
       position,
       entered_at,
       left_at,
       extract(epoch FROM left_at - entered_at) AS seconds,
       is_last
FROM told
