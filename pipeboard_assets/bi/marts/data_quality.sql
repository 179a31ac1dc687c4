-- What is missing in the CRM: one row for each kind of gap.
-- reads: bi.main_bi
-- gap: What is missing.
-- deals: Deals that have the gap.
-- of_deals: Deals that could have it.
-- percent: deals / of_deals x 100; NULL where there are none.
-- example_deal_id: The newest of them, to look at.
WITH seen AS (
    SELECT deal_id,
           status = 'open' AS is_open,
           status = 'lost' AS is_lost,
           value IS NULL OR value = 0 AS has_no_value,
           expected_close_date IS NULL AS has_no_date,
           is_overdue,
           open_activity_count = 0 AS has_no_activity,
           coalesce(next_activity_due_date < (now() AT TIME ZONE :timezone)::date, false) AS has_late_activity,
           person_id IS NULL AND org_id IS NULL AS has_no_contact,
           owner_name IS NULL AS has_no_owner,
           lost_reason IS NULL OR lost_reason = '' AS has_no_reason,
           value IS NOT NULL AND currency IS NOT NULL AS is_priced,
           value_in_default_currency IS NULL AS has_no_rate
    FROM bi.main_bi
),
counted AS (
    SELECT count(*) AS every,
           count(*) FILTER (WHERE is_open) AS open,
           count(*) FILTER (WHERE is_lost) AS lost,
           count(*) FILTER (WHERE is_priced) AS priced,
           count(*) FILTER (WHERE is_open AND has_no_value) AS no_value,
           max(deal_id) FILTER (WHERE is_open AND has_no_value) AS no_value_id,
           count(*) FILTER (WHERE is_open AND has_no_date) AS no_date,
           max(deal_id) FILTER (WHERE is_open AND has_no_date) AS no_date_id,
           count(*) FILTER (WHERE is_open AND is_overdue) AS past_date,
           max(deal_id) FILTER (WHERE is_open AND is_overdue) AS past_date_id,
           count(*) FILTER (WHERE is_open AND has_no_activity) AS no_activity,
           max(deal_id) FILTER (WHERE is_open AND has_no_activity) AS no_activity_id,
           count(*) FILTER (WHERE is_open AND has_late_activity) AS late_activity,
           max(deal_id) FILTER (WHERE is_open AND has_late_activity) AS late_activity_id,
           count(*) FILTER (WHERE has_no_contact) AS no_contact,
           max(deal_id) FILTER (WHERE has_no_contact) AS no_contact_id,
           count(*) FILTER (WHERE has_no_owner) AS no_owner,
           max(deal_id) FILTER (WHERE has_no_owner) AS no_owner_id,
           count(*) FILTER (WHERE is_lost AND has_no_reason) AS no_reason,
           max(deal_id) FILTER (WHERE is_lost AND has_no_reason) AS no_reason_id,
           count(*) FILTER (WHERE is_priced AND has_no_rate) AS no_rate,
           max(deal_id) FILTER (WHERE is_priced AND has_no_rate) AS no_rate_id
    FROM seen
)
SELECT gap.name AS gap,
       gap.deals,
       gap.of_deals,
       round(100.0 * gap.deals / gap.of_deals, 1) AS percent,
       gap.example_deal_id
FROM counted
CROSS JOIN LATERAL (
    VALUES ('open deal without a value', no_value, open, no_value_id),
           ('open deal without an expected close date', no_date, open, no_date_id),
           ('open deal past its expected close date', past_date, open, past_date_id),
           ('open deal without a planned activity', no_activity, open, no_activity_id),
           ('open deal with an overdue activity', late_activity, open, late_activity_id),
           ('deal without person and organization', no_contact, every, no_contact_id),
           ('deal without an owner that is known', no_owner, every, no_owner_id),
           ('lost deal without a reason', no_reason, lost, no_reason_id),
           ('value in a currency without an exchange rate', no_rate, priced, no_rate_id)
) AS gap (name, deals, of_deals, example_deal_id)
WHERE gap.of_deals > 0
