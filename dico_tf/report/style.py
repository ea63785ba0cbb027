"""Style sheet of all pages: light and dark, readable on a phone, and without colour."""

SERIES = 8  # colours of series; marks and dashes differ as well

_LIGHT = ("#0b5fa5", "#b8430b", "#1c7a4a", "#8a3b91", "#8a6a00", "#b01842", "#0f7b83", "#55585e")
_DARK = ("#6cb6ff", "#ff9a5c", "#5fd39a", "#d79be0", "#e5c04b", "#ff8aa6", "#5fd6df", "#b4b9c2")


def _colours(colours: tuple[str, ...]) -> str:
    return "".join(f"--s{number}:{colour};" for number, colour in enumerate(colours))


STYLE = f"""
:root {{ color-scheme: light dark; --page:#ffffff; --panel:#f6f7f9; --ink:#1b1f24; --faint:#59626d;
  --rule:#d5dae0; --shade:#4c8fd0; {_colours(_LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ --page:#14171b; --panel:#1d2127; --ink:#e8ebef; --faint:#a3acb8;
  --rule:#3a414b; --shade:#3f86cc; {_colours(_DARK)} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }}
main {{ max-width: 70rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }}
h1 {{ font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.3rem; margin: 2.6rem 0 .8rem; padding-top: .8rem; border-top: 1px solid var(--rule); }}
h3 {{ font-size: 1.05rem; margin: 1.6rem 0 .5rem; }}
p {{ max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; }}
.lead {{ color: var(--faint); }}
nav ul {{ display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; margin: 1rem 0 0; list-style: none; }}
a {{ color: var(--s0); }}
a:focus-visible, .scroll:focus-visible {{ outline: 2px solid var(--s0); outline-offset: 2px; }}
.scroll {{ overflow-x: auto; max-width: 100%; margin: .8rem 0; }}
table {{ border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; color: var(--faint); padding-bottom: .4rem; }}
caption span {{ display: block; width: max-content; max-width: min(46rem, calc(100vw - 2rem)); }}
th, td {{ padding: .3rem .6rem; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }}
th {{ font-weight: 600; }}
th[scope="row"] {{ min-width: 6.5rem; }}
.item {{ white-space: nowrap; }}
thead th {{ vertical-align: bottom; border-bottom: 2px solid var(--rule); }}
.number {{ text-align: right; white-space: nowrap; }}
.matrix th, .matrix td {{ padding: .25rem .5rem; }}
.matrix thead th {{ white-space: normal; overflow-wrap: anywhere; max-width: 8rem; }}
.matrix .own {{ font-weight: 700; text-decoration: underline; text-underline-offset: .2em; }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }}
figure {{ margin: 0; min-width: 0; }}
.charts > figure {{ max-width: 34rem; }}
.panel {{ background: var(--panel); border: 1px solid var(--rule); border-radius: 8px; padding: .8rem; }}
figure h3 {{ margin-top: 0; }}
figcaption {{ font-size: .9rem; color: var(--faint); margin-top: .4rem; overflow-wrap: anywhere; }}
.chart {{ display: block; width: 100%; height: auto; font-size: 12px; }}
.chart text {{ fill: var(--ink); }}
.chart .tick {{ fill: var(--faint); }}
.chart .grid {{ stroke: var(--rule); stroke-width: 1; }}
.chart .axis {{ stroke: var(--faint); stroke-width: 1; fill: none; }}
.chart .guide {{ stroke: var(--faint); stroke-width: 1.2; stroke-dasharray: 4 4; fill: none; }}
.line {{ fill: none; stroke-width: 1.8; stroke-linejoin: round; }}
.mark {{ stroke-width: 1.6; }}
.interval {{ fill: none; stroke-width: 1.6; }}
{"".join(f".s{n} {{ stroke: var(--s{n}); fill: var(--s{n}); }}" for n in range(SERIES))}
.line.line, .interval.interval {{ fill: none; }}
.legend {{ list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1rem; padding: 0; margin: .3rem 0 0;
  font-size: .9rem; }}
.legend li {{ display: flex; align-items: center; gap: .4rem; min-width: 0; overflow-wrap: anywhere; }}
.legend svg {{ flex: none; }}
.images {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(8.2rem, 1fr)); gap: .8rem; }}
.images img {{ width: 6rem; height: 6rem; object-fit: contain; }}
td img {{ width: 4.5rem; height: 4.5rem; object-fit: contain; display: block; }}
img {{ background: var(--panel); }}
img.small {{ image-rendering: pixelated; }}
pre {{ overflow-x: auto; background: var(--panel); border: 1px solid var(--rule); border-radius: 8px; padding: .8rem;
  font-size: .88rem; }}
code {{ overflow-wrap: anywhere; }}
@media (min-width: 48rem) {{ th[scope="row"] {{ min-width: 10rem; }} }}
@media (max-width: 30rem) {{ .chart {{ font-size: 14px; }} .panel {{ padding: .5rem; }}
  main {{ padding: 1rem .8rem 3rem; }} }}
.matrix th[scope="row"] {{ min-width: 0; }}
@media print {{ nav {{ display: none; }} figure, tr {{ break-inside: avoid; }} }}
"""
