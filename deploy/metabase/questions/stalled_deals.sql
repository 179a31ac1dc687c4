-- Open deals that nobody moves
-- Rotten, without a planned activity, or with one that is overdue; the most valuable first.
-- display: table
-- size: 24 x 8
SELECT deal_id, title, owner_name, pipeline_name, stage_name, value, currency,
       days_in_stage, days_since_update, is_rotten, has_no_next_activity, next_activity_due_date
FROM bi.stalled_deals
ORDER BY value DESC NULLS LAST, deal_id
LIMIT 200
