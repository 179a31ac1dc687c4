-- Every visit of a deal to a stage that a sync or its changelog has seen, in order; a stage that it came back to has a visit for each time.
-- Moves before the first sync are there once `pipeboard sync --deal-history` has read them.
-- schema: pipedrive
-- reads: pipedrive.deals, pipedrive.deal_changelog
-- deal_id: pipedrive.deals.id
-- stage_id: pipedrive.stages.id
-- position: 1 for the first visit seen of this deal.
-- entered_at: When the deal entered the stage; for the first visit seen, when Pipedrive says, else when the deal was added.
-- left_at: When it moved on, or was closed there; NULL while it is there.
-- seconds: From entering to leaving; NULL while it is there, 0 where it came after it was closed.
-- is_last: The stage in which the deal is, open or closed.
WITH covered AS (
    -- A changelog knows every move until its last line, also those between two syncs.
    SELECT deal_id, max(changed_at) AS until, bool_or(field = 'stage_id') AS has_moves
    FROM pipedrive.deal_changelog
    GROUP BY deal_id
),
line AS (
    SELECT deal_id, position, changed_at, row_number() OVER (PARTITION BY deal_id ORDER BY position) = 1 AS is_first,
           CASE WHEN old_value ~ '^[0-9]{1,18}$' THEN old_value::bigint END AS old_stage_id,
           CASE WHEN new_value ~ '^[0-9]{1,18}$' THEN new_value::bigint END AS stage_id
    FROM pipedrive.deal_changelog
    WHERE field = 'stage_id'
),
change AS (
    -- A sync that finds only another time saw a deal that had moved away and back.
    SELECT deal_id,
           noticed_at,
           (max(old_value) FILTER (WHERE field = 'stage_id'))::bigint AS old_stage_id,
           (max(new_value) FILTER (WHERE field = 'stage_id'))::bigint AS stage_id,
           (max(old_value) FILTER (WHERE field = 'stage_change_time'))::timestamptz AS old_entered_at,
           max(changed_at) AS entered_at
    FROM pipedrive.deal_change
    WHERE field IN ('stage_id', 'stage_change_time')
    GROUP BY deal_id, noticed_at
),
move AS (
    SELECT change.deal_id,
           noticed_at,
           old_stage_id,
           coalesce(stage_id, (
               SELECT later.old_value::bigint FROM pipedrive.deal_change AS later
               WHERE later.deal_id = change.deal_id AND field = 'stage_id' AND later.noticed_at > change.noticed_at
               ORDER BY later.noticed_at LIMIT 1)) AS stage_id,
           old_entered_at,
           entered_at,
           row_number() OVER (PARTITION BY change.deal_id ORDER BY noticed_at) = 1 AND has_moves IS NOT TRUE AS is_first
    FROM change
    LEFT JOIN covered USING (deal_id)
    WHERE until IS NULL OR entered_at > until
),
arrival AS (
    -- By source: 1 a changelog, 2 the syncs, 3 the row. The first of a source also tells where the deal was before.
    -- NULL as stage: the one of now; as time: when the deal was added.
    SELECT deal_id, told.stage_id, told.entered_at, 1 AS source, '-infinity'::timestamptz AS seen_at, told.place
    FROM line
    CROSS JOIN LATERAL (VALUES (0, old_stage_id, NULL), (position, stage_id, changed_at)) AS told (place, stage_id, entered_at)
    WHERE told.stage_id IS NOT NULL AND (is_first OR told.place > 0)
    UNION ALL
    SELECT deal_id, told.stage_id, told.entered_at, 2, noticed_at, told.place
    FROM move
    CROSS JOIN LATERAL (VALUES (0, coalesce(old_stage_id, stage_id), old_entered_at), (1, stage_id, entered_at))
        AS told (place, stage_id, entered_at)
    WHERE is_first OR told.place > 0
    UNION ALL
    SELECT id, stage_id, stage_change_time, 3, 'infinity', 0
    FROM pipedrive.deals
),
known AS (
    SELECT deal_id,
           coalesce(arrival.stage_id, deal.stage_id) AS stage_id,
           coalesce(entered_at, add_time) AS entered_at,
           source,
           seen_at,
           place,
           CASE WHEN status <> 'open' THEN close_time END AS closed_at
    FROM arrival
    JOIN pipedrive.deals AS deal ON deal.id = deal_id
    WHERE deal.stage_id IS NOT NULL
      -- What the row does not tell yet comes with the next sync; the clocks of both may differ by a second.
      AND (source > 1 OR place = 0 OR entered_at <= coalesce(update_time, add_time, 'infinity') + interval '2 seconds')
),
compared AS (
    -- The row tells of the last arrival again, and the first sync after a changelog of its last line.
    SELECT *,
           lag(stage_id) OVER told = stage_id
               AND (source = 3 OR lag(source) OVER told = 1 AND entered_at <= lag(entered_at) OVER told + interval '1 minute')
               AS is_told_again
    FROM known
    WINDOW told AS (PARTITION BY deal_id ORDER BY source, seen_at, place)
),
visit AS (
    SELECT deal_id,
           stage_id,
           row_number() OVER told AS position,
           max(entered_at) OVER told AS entered_at,
           closed_at,
           lead(deal_id) OVER told IS NULL AS is_last
    FROM compared
    WHERE is_told_again IS NOT TRUE
    WINDOW told AS (PARTITION BY deal_id ORDER BY source, seen_at, place)
),
timed AS (
    SELECT *,
           CASE WHEN closed_at < coalesce(lead(entered_at) OVER told, 'infinity') THEN greatest(closed_at, entered_at)
                ELSE lead(entered_at) OVER told END AS left_at
    FROM visit
    WINDOW told AS (PARTITION BY deal_id ORDER BY position)
)
SELECT deal_id,
       stage_id,
       position,
       entered_at,
       left_at,
       extract(epoch FROM left_at - entered_at) AS seconds,
       is_last
FROM timed
