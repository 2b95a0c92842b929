"""Draw the chart of the README from the committed result of throughput.py.

python benchmarks/speed_chart.py --output docs/speed.png
"""

import argparse
import json
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

RESULT = Path(__file__).parent / "results" / "throughput.json"
OURS, OTHERS, TEXT = "#4269d0", "#b8bcc4", "#222222"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    result = json.loads(RESULT.read_text())
    ratios = {name: tool["times_as_long_as_frechet"] for name, tool in result["tools"].items()}
    names = sorted(ratios, key=ratios.get, reverse=True)
    figure = Figure(figsize=(8.3, 2.4), layout="constrained", dpi=200)
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.barh(names, [ratios[name] for name in names], color=[OURS if n == "frechet" else OTHERS for n in names])
    for index, name in enumerate(names):
        axis.annotate(f"{ratios[name]:.2f}", (ratios[name], index), (4, 0), textcoords="offset points", va="center")
    machine, (count,) = result["machine"], set(result["images"])
    axis.set_xlabel(
        f"run time relative to frechet, {count} + {count} images ({machine['processor']}, {machine['cores']} cores)"
    )
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=TEXT)
    figure.savefig(args.output, facecolor="white")


if __name__ == "__main__":
    main()
