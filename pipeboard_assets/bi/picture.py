"""What `bi.main_bi` holds, at a glance: the open deals by stage and the won value by month, as two small SVG images.

Drawn only where a load changed the mart: leather takes 0.1 s to load, which a sync without news does not pay.
"""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from pipeboard_io import Warehouse

_MONTHS = 12
_STAGES = 8
_LABEL_CHARACTERS = 20
_COLOUR = "#4f43dd"

# As wide as the window that the UI opens for it, so that its letters keep their size.
_SIZE = {"width": 400, "height": 240}

# Of the pipeline that has most of them; a picture of all would be read by nobody.
_STAGE_SQL = f"""
SELECT pipeline_name AS title,
       row_number() OVER (ORDER BY stage_order NULLS LAST, stage_id) AS number, stage_name AS label, count(*) AS value
FROM bi.main_bi WHERE status = 'open' AND pipeline_id = (
    SELECT pipeline_id FROM bi.main_bi WHERE status = 'open' GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1)
GROUP BY pipeline_name, stage_id, stage_name, stage_order ORDER BY number LIMIT {_STAGES}
"""
# Of the currency that most deals were won in: sums over currencies mean nothing.
_MONTH_SQL = f"""
WITH won AS (
    SELECT currency, value, date_trunc('month', won_time AT TIME ZONE %(timezone)s) AS month,
           date_trunc('month', now() AT TIME ZONE %(timezone)s) AS this_month
    FROM bi.main_bi WHERE status = 'won' AND value IS NOT NULL
), main AS (SELECT currency, this_month FROM won GROUP BY 1, 2 ORDER BY count(*) DESC, 1 LIMIT 1)
SELECT concat_ws(', ', 'until ' || to_char(main.this_month, 'YYYY-MM'), main.currency) AS title,
       to_char(months.month, 'MM') AS label, coalesce(sum(won.value), 0)::float8 AS value
FROM main
CROSS JOIN generate_series(main.this_month - interval '{_MONTHS - 1} months', main.this_month, interval '1 month') AS months (month)
LEFT JOIN won ON won.month = months.month AND won.currency IS NOT DISTINCT FROM main.currency
GROUP BY main.currency, main.this_month, months.month ORDER BY months.month
"""


def mart_picture(warehouse: Warehouse, *, timezone: str) -> str:
    """Markdown with an image of the stages and one of the months, where there is anything to show. Raises WarehouseError."""
    stages, months = warehouse.query(_STAGE_SQL), warehouse.query(_MONTH_SQL, {"timezone": timezone})
    images = [_image("Open deals by stage", _stages(stages))] if stages else []
    images += [_image("Won value by month", _months(months))] if months else []
    return "\n\n".join(images)


def _image(title: str, svg: str) -> str:
    return f"**{title}**\n\n![{title}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode('ascii')})"


def _stages(rows: Sequence[Mapping[str, Any]]) -> str:
    import leather

    chart = leather.Chart(_plain(rows[0]["title"], _LABEL_CHARACTERS))
    chart.add_x_scale(0, max(row["value"] for row in rows))
    # With a number, because two stages may bear one name.
    bars = [(row["value"], f"{row['number']}. {_plain(row['label'], _LABEL_CHARACTERS)}") for row in rows]
    chart.add_bars(bars, fill_color=_COLOUR)
    return _drawn(chart)


def _months(rows: Sequence[Mapping[str, Any]]) -> str:
    import leather

    chart = leather.Chart(_plain(rows[0]["title"], _LABEL_CHARACTERS))
    values = [row["value"] for row in rows]
    chart.add_y_scale(min(0, *values), max(1, *values))
    chart.add_y_axis(tick_formatter=lambda value, _place, _count: f"{value:,.0f}")
    chart.add_columns([(row["label"], row["value"]) for row in rows], fill_color=_COLOUR)
    return _drawn(chart)


def _drawn(chart: Any) -> str:
    # Its own font is one that only some computers have; then letters have serifs.
    return str(chart.to_svg(**_SIZE)).replace("Monaco", "sans-serif")


def _plain(text: object, characters: int) -> str:
    """Without what XML cannot hold, and short: names come from people."""
    kept = re.sub(r"[^ -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", str(text or "(none)"))
    return kept if len(kept) <= characters else f"{kept[: characters - 1]}…"
