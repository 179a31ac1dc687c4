-- What people do: living activities by user, type and week in which they are due.
-- reads: pipedrive.activities, pipedrive.activity_types, pipedrive.users, bi.calendar
-- key: user_id, type, week
-- user_id: pipedrive.users.id
-- user_name: Name of the user.
-- type: Key of the type of activity.
-- type_name: Name of that type.
-- week: First day of the week in which they are due; NULL without a due date.
-- activities: How many.
-- done: Those that are done.
-- overdue: Those that are not, though due before today.
-- deals: Deals that they belong to.
WITH of_deal AS (
    SELECT a.owner_id,
           a.type,
           c.week,
           a.deal_id,
           count(*) AS activities,
           count(*) FILTER (WHERE a.done) AS done,
           count(*) FILTER (WHERE a.done IS NOT TRUE AND a.due_date < (now() AT TIME ZONE :timezone)::date) AS overdue
    FROM pipedrive.activities AS a
    LEFT JOIN bi.calendar AS c ON c.day = a.due_date
    WHERE a.deleted_at IS NULL
    GROUP BY a.owner_id, a.type, c.week, a.deal_id
),
weekly AS (
    SELECT owner_id,
           type,
           week,
           sum(activities)::bigint AS activities,
           sum(done)::bigint AS done,
           sum(overdue)::bigint AS overdue,
           count(deal_id) AS deals
    FROM of_deal
    GROUP BY owner_id, type, week
)
SELECT w.owner_id AS user_id,
       u.name AS user_name,
       w.type,
       (SELECT t.name FROM pipedrive.activity_types AS t WHERE t.key_string = w.type
        ORDER BY t.deleted_at DESC NULLS FIRST, t.id LIMIT 1) AS type_name,
       w.week,
       w.activities,
       w.done,
       w.overdue,
       w.deals
FROM weekly AS w
LEFT JOIN pipedrive.users AS u ON u.id = w.owner_id
