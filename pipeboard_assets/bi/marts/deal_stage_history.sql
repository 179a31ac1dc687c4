-- Every visit of a deal to a stage that a sync has seen, in order; a stage that it came back to has a visit for each time.
-- schema: pipedrive
-- reads: pipedrive.deals
-- deal_id: pipedrive.deals.id
-- stage_id: pipedrive.stages.id
-- position: 1 for the first visit seen of this deal.
-- entered_at: When the deal entered the stage; for the first visit seen, when Pipedrive says, else when the deal was added.
-- left_at: When it moved on or was closed; NULL while it is there.
-- seconds: From entering to leaving; NULL while it is there.
WITH move AS (
    SELECT stage.deal_id,
           stage.old_value::bigint AS stage_id,
           stage.changed_at,
           stage.noticed_at,
           entered.old_value::timestamptz AS entered_at
    FROM pipedrive.deal_change AS stage
    LEFT JOIN pipedrive.deal_change AS entered
        ON entered.deal_id = stage.deal_id AND entered.noticed_at = stage.noticed_at
        AND entered.field = 'stage_change_time'
    WHERE stage.field = 'stage_id' AND stage.old_value IS NOT NULL
),
last_move AS (
    SELECT DISTINCT ON (deal_id) deal_id, changed_at FROM move ORDER BY deal_id, noticed_at DESC
),
visit AS (
    SELECT move.deal_id,
           move.stage_id,
           coalesce(lag(move.changed_at) OVER seen, move.entered_at, deal.add_time) AS entered_at,
           move.changed_at AS left_at,
           move.noticed_at
    FROM move
    JOIN pipedrive.deals AS deal ON deal.id = move.deal_id
    WINDOW seen AS (PARTITION BY move.deal_id ORDER BY move.noticed_at)
    UNION ALL
    SELECT deal.id,
           deal.stage_id,
           coalesce(last_move.changed_at, deal.stage_change_time, deal.add_time),
           CASE WHEN deal.status <> 'open' THEN deal.close_time END,
           'infinity'
    FROM pipedrive.deals AS deal
    LEFT JOIN last_move ON last_move.deal_id = deal.id
    WHERE deal.stage_id IS NOT NULL
)
SELECT deal_id,
       stage_id,
       row_number() OVER (PARTITION BY deal_id ORDER BY noticed_at) AS position,
       entered_at,
       left_at,
       extract(epoch FROM left_at - entered_at) AS seconds
FROM visit
