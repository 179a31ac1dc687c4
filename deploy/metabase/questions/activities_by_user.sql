-- Activities by user
-- Done, still to do and overdue, among those due in the last eight weeks in which some were done.
-- display: bar
-- size: 12 x 7
-- dimensions: user_name
-- metrics: done, to_do, overdue
-- stacked: yes
SELECT coalesce(user_name, '(unknown)') AS user_name,
       sum(done) AS done,
       sum(activities - done - overdue) AS to_do,
       sum(overdue) AS overdue
FROM (SELECT *, max(week) FILTER (WHERE done > 0) OVER () AS last FROM bi.activity_by_user) AS weekly
WHERE week > last - 56 AND week <= last
GROUP BY user_name
ORDER BY done DESC
LIMIT 20
