-- What people do: living activities by user, type and week in which they are due.
-- reads: pipedrive.activities, pipedrive.activity_types, pipedrive.users, bi.calendar
-- user_id: pipedrive.users.id
-- user_name: Name of the user.
-- type: Key of the type of activity.
-- type_name: Name of that type.
-- week: First day of the week in which they are due; NULL without a due date.
-- activities: How many.
-- done: Those that are done.
-- overdue: Those that are not, though due before today.
-- deals: Deals that they belong to.
SELECT a.owner_id AS user_id,
       u.name AS user_name,
       a.type,
       (SELECT t.name FROM pipedrive.activity_types AS t WHERE t.key_string = a.type
        ORDER BY t.deleted_at DESC NULLS FIRST, t.id LIMIT 1) AS type_name,
       c.week,
       count(*) AS activities,
       count(*) FILTER (WHERE a.done) AS done,
       count(*) FILTER (WHERE a.done IS NOT TRUE AND a.due_date < (now() AT TIME ZONE :timezone)::date) AS overdue,
       count(DISTINCT a.deal_id) AS deals
FROM pipedrive.activities AS a
LEFT JOIN pipedrive.users AS u ON u.id = a.owner_id
LEFT JOIN bi.calendar AS c ON c.day = a.due_date
WHERE a.deleted_at IS NULL
GROUP BY a.owner_id, u.name, a.type, c.week
