"""What `bi.main_bi` holds, at a glance: the open deals by stage and the won value by month, as two small SVG images.

Drawn only where a load changed the mart: pygal takes 0.2 s to load, which a sync without news does not pay.
"""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from pipeboard_io import Warehouse

_MONTHS = 12
_STAGES = 20
_LABEL_CHARACTERS = 24
# As wide as the window that the UI opens for it, so that its letters keep their size.
_SIZE = {"width": 400, "height": 220}

# Of the pipeline that has most of them; a picture of all would be read by nobody.
_STAGE_SQL = f"""
SELECT pipeline_name AS heading, coalesce(stage_name, stage_id::text) AS label, count(*) AS value
FROM bi.main_bi WHERE status = 'open' AND pipeline_id = (
    SELECT pipeline_id FROM bi.main_bi WHERE status = 'open' GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1)
GROUP BY pipeline_name, stage_id, stage_name, stage_order ORDER BY stage_order NULLS LAST, stage_id LIMIT {_STAGES}
"""
# Of the currency that most deals were won in: sums over currencies mean nothing.
_MONTH_SQL = f"""
WITH won AS (
    SELECT currency, value, date_trunc('month', won_time AT TIME ZONE %(timezone)s) AS month,
           date_trunc('month', now() AT TIME ZONE %(timezone)s) AS this_month
    FROM bi.main_bi WHERE status = 'won' AND value IS NOT NULL
), main AS (SELECT currency, this_month FROM won GROUP BY 1, 2 ORDER BY count(*) DESC, 1 LIMIT 1)
SELECT main.currency AS heading, to_char(months.month, 'YYYY-MM') AS label, coalesce(sum(won.value), 0)::float8 AS value
FROM main
CROSS JOIN generate_series(main.this_month - interval '{_MONTHS - 1} months', main.this_month, interval '1 month') AS months (month)
LEFT JOIN won ON won.month = months.month AND won.currency IS NOT DISTINCT FROM main.currency
GROUP BY main.currency, months.month ORDER BY months.month
"""


def mart_picture(warehouse: Warehouse, *, timezone: str) -> str:
    """Markdown with one image for each question that the mart can answer. Raises WarehouseError."""
    asked = (
        ("HorizontalBar", "Open deals by stage", warehouse.query(_STAGE_SQL)),
        ("Bar", "Won value by month", warehouse.query(_MONTH_SQL, {"timezone": timezone})),
    )
    return "\n\n".join(_image(kind, title, rows) for kind, title, rows in asked if rows)


def _image(kind: str, title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    svg = b64encode(_svg(kind, f"{title}, {_plain(rows[0]['heading'])}", rows)).decode("ascii")
    return f"![{title}](data:image/svg+xml;base64,{svg})"


def _svg(kind: str, title: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pygal

    style = pygal.style.Style(
        background="white",
        plot_background="white",
        colors=("#4f43dd",),
        font_family="sans-serif",
        title_font_size=13,
        label_font_size=9,
        major_label_font_size=9,
        value_font_size=9,
    )
    is_lying = kind == "HorizontalBar"
    chart = getattr(pygal, kind)(
        style=style,
        js=(),
        show_legend=False,
        print_values=is_lying,
        x_label_rotation=0 if is_lying else 45,
        formatter=pygal.formatters.human_readable,
        margin=8,
        **_SIZE,
    )
    chart.uuid = "c"  # the long one stands before every rule of its style, 5 kB of 15
    chart.title = title
    # A horizontal bar chart begins at the bottom.
    ordered = rows[::-1] if is_lying else rows
    chart.x_labels = [_plain(row["label"]) for row in ordered]
    chart.add("", [float(row["value"]) for row in ordered])
    svg: bytes = chart.render()
    return svg


def _plain(text: object) -> str:
    """Without what XML cannot hold, and short: names come from people."""
    kept = re.sub(r"[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", str(text or "(none)"))
    return kept if len(kept) <= _LABEL_CHARACTERS else f"{kept[: _LABEL_CHARACTERS - 1]}…"
