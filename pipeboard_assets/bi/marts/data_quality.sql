-- What is missing in the CRM: one row for each kind of gap.
-- reads: bi.main_bi
-- gap: What is missing.
-- deals: Deals that have the gap.
-- of_deals: Deals that could have it.
-- percent: deals / of_deals x 100; NULL where there are none.
-- example_deal_id: The newest of them, to look at.
SELECT gap.name AS gap,
       count(*) FILTER (WHERE gap.is_there) AS deals,
       count(*) AS of_deals,
       round(100.0 * count(*) FILTER (WHERE gap.is_there) / count(*), 1) AS percent,
       max(b.deal_id) FILTER (WHERE gap.is_there) AS example_deal_id
FROM bi.main_bi AS b
CROSS JOIN LATERAL (
    VALUES ('open deal without a value', b.status = 'open', b.value IS NULL OR b.value = 0),
           ('open deal without an expected close date', b.status = 'open', b.expected_close_date IS NULL),
           ('open deal past its expected close date', b.status = 'open', b.is_overdue),
           ('open deal without a planned activity', b.status = 'open', b.open_activity_count = 0),
           ('open deal with an overdue activity', b.status = 'open',
            coalesce(b.next_activity_due_date < (now() AT TIME ZONE :timezone)::date, false)),
           ('deal without person and organization', true, b.person_id IS NULL AND b.org_id IS NULL),
           ('deal without an owner that is known', true, b.owner_name IS NULL),
           ('lost deal without a reason', b.status = 'lost', b.lost_reason IS NULL OR b.lost_reason = ''),
           ('value in a currency without an exchange rate', b.value IS NOT NULL AND b.currency IS NOT NULL,
            b.value_in_default_currency IS NULL)
) AS gap (name, is_concerned, is_there)
WHERE gap.is_concerned
GROUP BY gap.name
