"""What dashboards read: main_bi, views under today's labels, the calendar, marts, old names. SQL and its declarations."""
