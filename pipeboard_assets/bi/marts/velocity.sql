-- Sales velocity: closed deals by pipeline, currency and month of closing.
-- reads: bi.main_bi
-- pipeline_name: Name of the pipeline.
-- currency: The values are in it.
-- month: First day of the month in which the deals were closed, in the company's time zone.
-- closed: Deals that were won or lost.
-- won: Deals that were won.
-- win_rate: won / closed.
-- won_value: Sum of the values of the deals won.
-- average_value: Mean of the values of the deals won.
-- average_days: Mean of the days from adding to winning.
-- value_per_day: won_value / average_days: closed deals x win rate x average value / length of the cycle.
SELECT pipeline_name,
       currency,
       (date_trunc('month', close_time AT TIME ZONE :timezone))::date AS month,
       count(*) AS closed,
       count(*) FILTER (WHERE status = 'won') AS won,
       round(count(*) FILTER (WHERE status = 'won')::numeric / count(*), 4) AS win_rate,
       sum(value) FILTER (WHERE status = 'won') AS won_value,
       round(avg(value) FILTER (WHERE status = 'won'), 2) AS average_value,
       round(avg(deal_duration_days) FILTER (WHERE status = 'won'), 2) AS average_days,
       round(sum(value) FILTER (WHERE status = 'won')
           / nullif(avg(deal_duration_days) FILTER (WHERE status = 'won'), 0), 2) AS value_per_day
FROM bi.main_bi
WHERE status IN ('won', 'lost') AND close_time IS NOT NULL
GROUP BY 1, 2, 3
