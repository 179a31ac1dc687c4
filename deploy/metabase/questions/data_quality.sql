-- What is missing in the CRM
-- One row for each kind of gap, the largest share first.
-- display: table
-- size: 24 x 8
SELECT gap, deals, of_deals, percent, example_deal_id
FROM bi.data_quality
ORDER BY percent DESC NULLS LAST, gap
