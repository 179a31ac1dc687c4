-- Won and lost deals by month of closing, owner, source and reason.
-- reads: bi.main_bi, pipedrive.deals, bi.calendar
-- key: month, fiscal_year, status, pipeline_name, owner_name, source, lost_reason, currency
-- month: First day of the month in which the deals were closed, in the company's time zone.
-- fiscal_year: Fiscal year of that day, named after the year in which it ends.
-- status: won or lost.
-- pipeline_name: Name of the pipeline.
-- owner_name: Name of the owner.
-- source: How the deals came in: pipedrive.deals.origin.
-- lost_reason: Why they were lost; NULL for deals won.
-- currency: The value is in it.
-- deals: How many.
-- value: Sum of their values.
-- value_in_default_currency: The same where exchange rates are given.
SELECT (date_trunc('month', b.close_time AT TIME ZONE :timezone))::date AS month,
       c.fiscal_year,
       b.status,
       b.pipeline_name,
       b.owner_name,
       d.origin AS source,
       b.lost_reason,
       b.currency,
       count(*) AS deals,
       sum(b.value) AS value,
       sum(b.value_in_default_currency) AS value_in_default_currency
FROM bi.main_bi AS b
JOIN pipedrive.deals AS d ON d.id = b.deal_id
LEFT JOIN bi.calendar AS c ON c.day = (b.close_time AT TIME ZONE :timezone)::date
WHERE b.status IN ('won', 'lost')
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
