#!/usr/bin/env python3
"""Draws the way of a call in milliseconds from the services' metrics, as SVG on standard output.

call_way.py FOLDER: FOLDER has one file of /metrics for each process, as `DEMO_METRICS=FOLDER target/debug/demo` writes them.
Quantiles are interpolated within the buckets of a histogram, as Prometheus' histogram_quantile does.
"""

import re
import sys
from html import escape
from pathlib import Path

# Metric, its labels, and what it measures. In the order of a call.
STEPS = [
    ("callpulse_ws_request_seconds", {"type": "call_request"}, "call_request: locks, stored, otomo notified"),
    ("callpulse_ws_request_seconds", {"type": "call_accept"}, "call_accept: worker opened, stored, both notified"),
    ("callpulse_media_command_seconds", {"operation": "open_call"}, "of it: open_call at the worker"),
    ("callpulse_ws_request_seconds", {"type": "rtc_create_transport"}, "rtc_create_transport"),
    ("callpulse_ws_request_seconds", {"type": "rtc_connect_transport"}, "rtc_connect_transport"),
    ("callpulse_ws_request_seconds", {"type": "rtc_produce"}, "rtc_produce: trace on"),
    ("callpulse_media_detection_seconds", {}, "first packet → fact stored"),
    ("callpulse_media_notice_seconds", {}, "fact stored → notices sent"),
    ("callpulse_ws_write_seconds", {}, "notice or answer → socket"),
    ("callpulse_ws_request_seconds", {"type": "call_hangup"}, "call_hangup: media closed, end stored"),
    ("callpulse_billing_settlement_seconds", {}, "call ended → settled"),
    ("callpulse_billing_tick_lateness_seconds", {}, "minute due → tick stored"),
]
LINE = re.compile(r"^(\w+)_bucket\{(.*)\} (\S+)$")
LABEL = re.compile(r'(\w+)="([^"]*)"')

WIDTH, LEFT, RIGHT, TOP, ROW = 960, 330, 150, 92, 32
DECADES = [0.1, 1, 10, 100, 1000]


def histograms(folder):
    """The cumulative counts by upper bound, summed over all processes, by metric and labels."""
    found = {}
    for file in sorted(folder.glob("*.prom")):
        for line in file.read_text().splitlines():
            match = LINE.match(line)
            if not match:
                continue
            labels = dict(LABEL.findall(match[2]))
            bound = float(labels.pop("le").replace("+Inf", "inf"))
            buckets = found.setdefault((match[1], tuple(sorted(labels.items()))), {})
            buckets[bound] = buckets.get(bound, 0) + float(match[3])
    return found


def merged(found, metric, labels):
    buckets = {}
    for (name, own), counts in found.items():
        if name == metric and set(labels.items()) <= set(own):
            for bound, count in counts.items():
                buckets[bound] = buckets.get(bound, 0) + count
    return buckets


def quantile(buckets, share):
    """In milliseconds."""
    total = buckets[float("inf")]
    lower, before = 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= share * total:
            if bound == float("inf"):
                return lower * 1000
            return (lower + (bound - lower) * (share * total - before) / (count - before)) * 1000
        lower, before = bound, count
    return lower * 1000


def place(milliseconds):
    """The logarithmic axis, from 0.05 ms to a second."""
    from math import log10

    first, last = log10(0.05), log10(DECADES[-1])
    at = (log10(max(milliseconds, 0.05)) - first) / (last - first)
    return LEFT + at * (WIDTH - LEFT - RIGHT)


def text(x, y, words, size=13, anchor="start", weight="normal", fill="#24292f"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{fill}">{escape(words)}</text>'
    )


def draw(rows):
    height = TOP + ROW * len(rows) + 40
    bottom = TOP + ROW * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(16, 30, "The way of a call, in milliseconds", 18, weight="bold"),
        text(16, 52, "From the histograms of /metrics during the demo. Dark: median; light: up to the 95th percentile.", 12),
    ]
    for decade in DECADES:
        x = place(decade)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}" stroke="#d0d7de"/>')
        parts.append(text(x, TOP - 14, f"{decade:g} ms", 11, "middle", fill="#57606a"))
    for number, (words, half, most, count) in enumerate(rows):
        y = TOP + ROW * number
        start, median, end = place(0.05), place(half), place(most)
        parts.append(text(LEFT - 10, y + 19, words, 12, "end"))
        parts.append(f'<rect x="{start:.1f}" y="{y + 6}" width="{end - start:.1f}" height="18" fill="#b6d4f2"/>')
        parts.append(f'<rect x="{start:.1f}" y="{y + 6}" width="{median - start:.1f}" height="18" fill="#2f6fb2"/>')
        parts.append(text(end + 8, y + 19, f"{half:.2g} / {most:.2g} ms, n = {count:.0f}", 11, fill="#57606a"))
    parts.append(text(16, height - 14, "Logarithmic axis. Bounds of buckets limit the resolution.", 11, fill="#57606a"))
    return "\n".join([*parts, "</svg>"])


def main():
    found = histograms(Path(sys.argv[1]))
    rows = []
    for metric, labels, words in STEPS:
        buckets = merged(found, metric, labels)
        if not buckets or not buckets[float("inf")]:
            sys.exit(f"call_way: no sample of {metric} {labels}")
        rows.append((words, quantile(buckets, 0.5), quantile(buckets, 0.95), buckets[float("inf")]))
    print(draw(rows))


main()
