#!/usr/bin/env python3
"""Draws dashboards/*.json from a running Prometheus, without a Grafana: one picture a board.

    scripts/dashboard_pictures.py http://127.0.0.1:9090 docs/images [--minutes 15] [--command render]

What is drawn is each panel's own query over the last minutes, at its place in the grid, with its
thresholds. Colours, fonts and legends are the plotting library's, not Grafana's.
"""
import argparse
import datetime
import json
import math
import pathlib
import re
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates as dates  # noqa: E402
import matplotlib.pyplot as plot  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLOURS = {"green": "#3d9a5f", "orange": "#e0902f", "red": "#cf3f3f"}


def asked(base, path, **params):
    with urllib.request.urlopen(f"{base}/api/v1/{path}?{urllib.parse.urlencode(params)}", timeout=30) as answer:
        return json.load(answer)["data"]["result"]


def filled(text, command):
    text = text.replace("$__rate_interval", "1m").replace("$command", command)
    return re.sub(r"\$\{?\w+(:\w+)?\}?", ".*", text)


def named(legend, labels):
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match.group(1), ""), legend).strip()


def shown(value, unit):
    if value is None or math.isnan(value):
        return "no data"
    if unit == "percentunit":
        return f"{value:.1%}"
    if unit == "s":
        return f"{value * 1000:.0f} ms" if abs(value) < 1 else f"{value:.1f} s"
    if unit in ("bytes", "Bps"):
        for name in ("B", "KiB", "MiB", "GiB"):
            if abs(value) < 1024 or name == "GiB":
                return f"{value:.0f} {name}" + ("/s" if unit == "Bps" else "")
            value /= 1024
    tail = "/s" if unit in ("ops", "reqps") else ""
    return (f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2g}") + tail


def last(series):
    values = [float(value) for _, value in series["values"]]
    return values[-1] if values else None


def lines(at, panel, results):
    unit = panel["fieldConfig"]["defaults"]["unit"]
    drawn = 0
    for target, series in results:
        for one in series[:8]:
            when = [datetime.datetime.fromtimestamp(float(moment)) for moment, _ in one["values"]]
            at.plot(when, [float(value) for _, value in one["values"]], linewidth=1,
                    label=named(target["legendFormat"], one["metric"]))
            drawn += 1
    tops = at.get_ylim()
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]:
        if drawn and step["value"] <= tops[1] * 3:
            at.axhline(step["value"], color=COLOURS[step["color"]], linewidth=0.8, linestyle="--")
    at.yaxis.set_major_formatter(lambda value, _: shown(value, unit))
    at.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    at.tick_params(labelsize=5)
    at.grid(alpha=0.2)
    if drawn:
        at.legend(fontsize=4, loc="upper left", framealpha=0.6)
    else:
        at.text(0.5, 0.5, "no data", ha="center", va="center", fontsize=7, color="grey", transform=at.transAxes)


def number(at, panel, results):
    values = [last(one) for _, series in results for one in series]
    value, defaults = (values[0] if values else None), panel["fieldConfig"]["defaults"]
    colour = COLOURS[defaults["thresholds"]["steps"][0]["color"]]
    for step in defaults["thresholds"]["steps"][1:]:
        if value is not None and value >= step["value"]:
            colour = COLOURS[step["color"]]
    at.text(0.5, 0.45, shown(value, defaults["unit"]), ha="center", va="center", fontsize=13, color=colour,
            transform=at.transAxes)
    at.axis("off")


def heat(at, panel, results):
    series = sorted((one for _, found in results for one in found), key=lambda one: float(one["metric"]["le"]))
    if not series:
        return lines(at, panel, results)
    rows = [[float(value) for _, value in one["values"]] for one in series]
    width = min(map(len, rows))
    cells = [[max(0, row[i] - (rows[n - 1][i] if n else 0)) for i in range(width)] for n, row in enumerate(rows)]
    at.imshow(cells, aspect="auto", origin="lower", cmap="Oranges")
    labels = [one["metric"]["le"] for one in series]
    at.set_yticks(range(len(labels)), labels, fontsize=4)
    at.set_xticks([])


def bars(at, panel, results):
    unit = panel["fieldConfig"]["defaults"]["unit"]
    values = [(named(target["legendFormat"], one["metric"]), last(one)) for target, series in results for one in series]
    values = sorted((pair for pair in values if pair[1] is not None and not math.isnan(pair[1])), key=lambda pair: pair[1])[-5:]
    at.barh([name for name, _ in values], [value for _, value in values], color="#4c78a8")
    at.xaxis.set_major_formatter(lambda value, _: shown(value, unit))
    at.tick_params(labelsize=5)


def table(at, _, results):
    rows = [f"{named(target['legendFormat'], one['metric'])}   {shown(last(one), 'short')}"
            for target, series in results for one in series]
    at.text(0.05, 0.8, "\n".join(rows) or "no data", fontsize=6, va="top", transform=at.transAxes)
    at.axis("off")


KINDS = {"timeseries": lines, "stat": number, "heatmap": heat, "bargauge": bars, "table": table}


def draw(board, base, out, minutes, command):
    end = time.time()
    span = {"start": end - minutes * 60, "end": end, "step": max(2, minutes * 60 // 180)}
    tall = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in board["panels"])
    figure = plot.figure(figsize=(14, tall * 0.3 + 0.6), dpi=110)
    figure.suptitle(f"{board['title']}   {board['description']}", fontsize=9, x=0.01, ha="left")
    for panel in board["panels"]:
        spot = panel["gridPos"]
        if panel["type"] == "row":
            figure.text(0.01, 0.97 - (spot["y"] + 0.6) / tall * 0.96, panel["title"], fontsize=8, weight="bold")
            continue
        box = [spot["x"] / 24 + 0.025, 0.97 - (spot["y"] + spot["h"]) / tall * 0.96 + 0.018, spot["w"] / 24 - 0.035,
               spot["h"] / tall * 0.96 - 0.036]
        at = figure.add_axes([box[0], box[1], box[2], max(0.01, box[3])])
        at.set_title(panel["title"], fontsize=6, loc="left", pad=2)
        results = [(target, asked(base, "query_range", query=filled(target["expr"], command), **span))
                   for target in panel["targets"]]
        KINDS[panel["type"]](at, panel, results)
    figure.savefig(out / f"{board['uid']}.png")
    plot.close(figure)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("prometheus")
    args.add_argument("out", type=pathlib.Path)
    args.add_argument("--minutes", type=int, default=15)
    args.add_argument("--command", default=".*", help="what the board of one command shows")
    given = args.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for path in sorted((ROOT / "dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        draw(board, given.prometheus.rstrip("/"), given.out, given.minutes,
             given.command if board["uid"] == "codeq-command" else ".*")
        print(f"{path.stem}: drawn", flush=True)


if __name__ == "__main__":
    main()
