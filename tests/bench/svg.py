# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bar charts as SVG: a group of bars a row, a bar a side, on a logarithmic scale.

A bar ends at the median; the thin line over it goes from the least to the greatest
value.  Nothing but text is written, so a chart can be compared with diff(1).
"""

import math
from xml.sax.saxutils import escape

COLOURS = ["#999999", "#c44e52", "#dd8452", "#4c72b0", "#8172b3", "#55a868", "#937860", "#64b5cd",
           "#b5bd61", "#da8bc3"]
BAR, GAP, LABEL, WIDTH, RIGHT = 11, 12, 250, 560, 90


def scale(low, high):
    """Powers of ten around what is shown, and where a value lies between them (0 to 1)."""
    a = math.floor(math.log10(low))
    b = max(math.ceil(math.log10(high)), a + 1)
    return range(a, b + 1), lambda v: (math.log10(v) - a) / (b - a)


def text(x, y, what, size=12, anchor="start", more=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{more}>'
            f"{escape(what)}</text>")


def chart(title, unit, rows, sides, lines=(), better="shorter"):
    """rows: (title, {side: (median, least, greatest)}); sides: (key, title); lines: small print.
    None when there is nothing to show."""
    rows = [(t, {s: v for s, v in r.items() if v[1] > 0}) for t, r in rows]
    rows = [(t, r) for t, r in rows if r]
    every = [v for _, r in rows for v in r.values()]
    if not every:
        return None
    sides = [(k, t) for k, t in sides if any(k in r for _, r in rows)]
    label = max(LABEL, 8 + math.ceil(6.5 * max(len(t) for t, _ in rows)))
    ticks, at = scale(min(v[1] for v in every), max(v[2] for v in every))
    top = 40 + 18 * math.ceil(len(sides) / 3)
    height = top + sum(len(r) * BAR + GAP for _, r in rows) + 40
    bottom = height - 32
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{label + WIDTH + RIGHT}" '
           f'height="{height + 14 * len(lines)}" font-family="sans-serif">',
           '<rect width="100%" height="100%" fill="white"/>',
           text(8, 20, f"{title} ({unit}, logarithmic; {better} is better)", 14)]
    for i, (_, name) in enumerate(sides):
        x, y = 8 + i % 3 * 290, 34 + i // 3 * 18
        out.append(f'<rect x="{x}" y="{y}" width="12" height="12" '
                   f'fill="{COLOURS[i % len(COLOURS)]}"/>')
        out.append(text(x + 17, y + 10, name))
    for tick in ticks:
        x = label + at(10.0 ** tick) * WIDTH
        out.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="#dddddd"/>')
        out.append(text(x, bottom + 14, f"{10.0 ** tick:g}", 11, "middle"))
    y = top + GAP / 2
    for name, r in rows:
        out.append(text(label - 8, y + len(r) * BAR / 2 + 4, name, 12, "end"))
        for i, (key, _) in enumerate(sides):
            if key not in r:
                continue
            middle, least, most = r[key]
            w = at(middle) * WIDTH
            out.append(f'<rect x="{label}" y="{y:.1f}" width="{max(w, 1):.1f}" height="{BAR - 2}" '
                       f'fill="{COLOURS[i % len(COLOURS)]}"/>')
            out.append(f'<line x1="{label + at(least) * WIDTH:.1f}" y1="{y + BAR / 2 - 1:.1f}" '
                       f'x2="{label + at(most) * WIDTH:.1f}" y2="{y + BAR / 2 - 1:.1f}" '
                       'stroke="black"/>')
            end = max(w, at(most) * WIDTH)
            out.append(text(label + end + 4, y + BAR - 2, f"{middle:.3g}", 10))
            y += BAR
        y += GAP
    for i, line in enumerate(lines):
        out.append(text(8, height + 14 * i, line, 10, more=' fill="#555555"'))
    return "\n".join([*out, "</svg>", ""])
