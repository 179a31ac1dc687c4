-- Open value by stage
-- What open deals are worth where they stand, in each currency.
-- display: bar
-- size: 12 x 7
-- dimensions: stage, currency
-- metrics: value
SELECT concat(pipeline_name, ' ', stage_order, ': ', stage_name) AS stage,
       currency,
       sum(value) AS value,
       count(*) AS deals
FROM bi.main_bi
WHERE status = 'open'
GROUP BY pipeline_name, stage_order, stage_name, currency
ORDER BY pipeline_name, stage_order, currency
