"""The result as people read it: a page of tables and a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.targets import COUNTED, Verdict, total

if TYPE_CHECKING:
    import altair as alt

GIB, MIB = 1 << 30, 1 << 20
RUNS = {"first": "First run", "day": "One more day"}
VERDICTS = {True: "**met**", False: "**missed**", None: "no target at this size"}


def page(results: dict[str, Any], verdicts: list[Verdict]) -> str:
    """The result in Markdown."""
    parts = [_head(results), f"![Seconds per step and of its floor]({results['size']}.svg)", _targets(verdicts)]
    parts += [_run(results, name) for name in RUNS if name in results]
    parts += [
        _apart(results),
        _rfm(results),
        _database(results),
        _large(results),
        _proofs(results),
        _check(results),
        _comparison(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def told(results: dict[str, Any], verdicts: list[Verdict]) -> str:
    """The verdicts and the comparison in a few lines, for the terminal."""
    lines = [f"  {v.target}: {v.found:.2f} {v.unit} ({v.limit}; {VERDICTS[v.is_met].strip('*')})" for v in verdicts]
    before = results.get("compared_with")
    if before:
        lines.append(f"Against {before['commit']} of {before['date']}, times as long:")
        lines += [f"  {name}: {ratio:.2f}" for name, ratio in before["ratios"].items()]
    return "\n".join(lines)


def chart(results: dict[str, Any]) -> str | None:
    """Seconds per step beside the floor's, and the rivals' of the RFM task, as SVG; None if there are neither."""
    import altair as alt
    import vl_convert

    panels = [_run_panel(results, name) for name in RUNS if name in results]
    if "rfm" in results:
        panels.append(_rfm_panel(results["rfm"]))
    if not panels:
        return None
    whole = alt.vconcat(*panels, spacing=28).resolve_scale(x="independent", y="independent", color="shared")
    whole = whole.configure_view(stroke=None).configure_axis(labelFontSize=12, titleFontSize=12, labelLimit=220)
    return vl_convert.vegalite_to_svg(whole.to_dict())


# -- tables


def _head(results: dict[str, Any]) -> str:
    machine, versions = results["machine"], results["versions"]
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    before, after = results["load"]
    lines = [
        f"# Benchmark, size {results['size']}",
        (
            f"{results['date']}, commit `{results['commit']}`, {results['minutes']:.1f} minutes in all. "
            f"{machine['cores']} cores ({machine['processor']}), {machine['memory_bytes'] / GIB:.0f} GiB, "
            f"{machine['system']}. {libraries}. Load average before {before}, after {after}."
        ),
        (
            f"What the words mean: [performance.md](../performance.md). The same as data: [{results['size']}.json]"
            f"({results['size']}.json). Again: `make bench SIZE={results['size']}`."
        ),
    ]
    for part, again in results.get("measured_again", {}).items():
        lines.append(f"Measured again afterwards, {again['date']}, commit `{again['commit']}`: {part}.")
    shop = results.get("shop")
    if shop:
        drawn, made = shop["parameters"], shop["generate"]
        took = f" generated in {made['seconds']:.0f} s (not counted)," if made else ""
        lines.append(
            f"The shop: {drawn['customers']:,} customers, {drawn['orders']:,} orders and {drawn['interactions']:,} "
            f"interactions over {drawn['days']:,} days,{took} {shop['bytes_on_disk'] / MIB:,.0f} MiB of Parquet."
        )
    return "\n\n".join(lines)


def _targets(verdicts: list[Verdict]) -> str:
    rows = [(v.target, v.limit, f"{v.found:.2f} {v.unit}", VERDICTS[v.is_met]) for v in verdicts]
    return "## Targets\n\n" + _table(("what", "target", "found", ""), rows, numbers=(2,)) if rows else ""


def _run(results: dict[str, Any], name: str) -> str:
    part = results[name]
    rows = [_step(step, took) for step, took in part["steps"].items()]
    rows.append(_sum("land to publish", [part["steps"][step] for step in COUNTED]))
    rows += [_step(f"floor: {step}", took) for step, took in part["floor"].items()]
    rows.append(_sum("floor", list(part["floor"].values())))
    disk = ", ".join(f"{place} {size / MIB:,.1f}" for place, size in part["on_disk"].items())
    heads = ("step", "seconds", "CPU seconds", "peak memory, MiB", "read, MiB", "written, MiB", "from disk, MiB")
    table = _table(heads, rows, numbers=range(1, 7))
    return f"## {RUNS[name]}\n\n{table}{_layers(part)}\n\nOn disk afterwards, MiB: {disk}."


def _layers(part: dict[str, Any]) -> str:
    """What the build consists of, the largest first; results of earlier versions do not tell."""
    told = sorted(part.get("layers", {}).items(), key=lambda layer: -layer[1])
    return f"\n\nOf the build, seconds: {', '.join(f'{name} {seconds:.1f}' for name, seconds in told)}." if told else ""


def _step(name: str, took: dict[str, Any]) -> tuple[str, ...]:
    sizes = [
        f"{took[key] / MIB:,.0f}" for key in ("peak_memory_bytes", "read_bytes", "written_bytes", "disk_read_bytes")
    ]
    return (name, f"{took['seconds']:.1f}", f"{took['cpu_seconds']:.1f}", *sizes)


def _sum(name: str, steps: list[dict[str, Any]]) -> tuple[str, ...]:
    seconds, cpu = (sum(step[key] for step in steps) for key in ("seconds", "cpu_seconds"))
    return (f"**{name}**", f"**{seconds:.1f}**", f"**{cpu:.1f}**", *[""] * 4)


def _apart(results: dict[str, Any]) -> str:
    """What is told apart from the usual day: training, a shorter history, the fixed cost."""
    lines = []
    if "training" in results:
        extra = results["training"]["extra"]
        lines.append(
            f"- **A training day** (Mondays): the build takes {results['training']['build']['seconds']:.1f} s, "
            f"{extra['seconds']:.1f} s more ({extra['cpu_seconds']:.1f} CPU seconds). The first run trains, too."
        )
    if "prediction" in results:
        of, names = results["prediction"], {"bg_nbd": "fitting BG/NBD", "train": "training", "score": "scoring"}
        figures = ", ".join(
            f"{words} {of[step]['seconds']:.1f} s ({of[step]['cpu_seconds']:.1f} CPU seconds, "
            f"{of[step]['peak_memory_bytes'] / MIB:,.0f} MiB)"
            for step, words in names.items()
        )
        lines.append(
            f"- **Prediction for {of['customers']:,} customers with {of['orders']:,} orders**, each a process from "
            f"start to end: {figures}. Training and scoring are of churn and lifetime value together."
        )
    if "growth" in results:
        pair = results["growth"]
        seconds = {
            name: ", ".join(f"{step} {shop['steps'][step]['seconds']:.1f}" for step in COUNTED)
            for name, shop in pair.items()
        }
        lines.append(
            f"- **One more day after {pair['history']['days']} days of history** takes "
            f"{total(pair['history']['steps']):.1f} s ({seconds['history']}), **after {pair['tenth']['days']} days** "
            f"{total(pair['tenth']['steps']):.1f} s ({seconds['tenth']}), with the same customers and volume a day: "
            f"{results['size']}'s volume, a tenth of its customers."
        )
    if "overhead" in results:
        command, scheduled = results["overhead"]["command line"], results["overhead"]["airflow"]
        lines.append(
            f"- **The daily job as one command** takes {command['seconds']:.1f} s "
            f"({command['cpu_seconds']:.1f} CPU seconds), the report included; **through a running Airflow** "
            f"{scheduled['trigger_to_published_seconds']:.1f} s from trigger to published, "
            f"{scheduled['trigger_to_end_seconds']:.1f} s to the end of the run (Airflow's own start: "
            f"{scheduled['start_seconds']:.1f} s, once)."
        )
    return "## Apart from the usual day\n\n" + "\n".join(lines) if lines else ""


def _rfm(results: dict[str, Any]) -> str:
    if "rfm" not in results:
        return ""
    race = results["rfm"]
    rows = [
        (name, took["version"], f"{took['task_seconds']:.2f}", f"{took['seconds']:.2f}",
         f"{took['peak_memory_bytes'] / MIB:,.0f}")
        for name, took in sorted(race["by_name"].items(), key=lambda item: item[1]["task_seconds"])
    ]  # fmt: skip
    heads = ("with", "version", "scoring, s", "whole process, s", "peak memory, MiB")
    return (
        f"## RFM scoring of {race['rows']:,} order rows\n\n{race['customers']:,} customers; best of several runs in "
        f"turn. Customers whom Strataflow's models and the plain query score differently: "
        f"{race['customers_scored_differently']}.\n\n{_table(heads, rows, numbers=range(2, 5))}"
    )


def _database(results: dict[str, Any]) -> str:
    if "postgres" not in results:
        return ""
    took = results["postgres"]
    client = took["client"]
    return (
        f"## PostgreSQL\n\nA database on the same machine follows the one more day, {took['rows']:,} rows: "
        f"{client['seconds']:.1f} s; CPU seconds of the server {took['server_cpu_seconds']:.1f}, of the client "
        f"{client['cpu_seconds']:.1f}; the client held at most {client['peak_memory_bytes'] / MIB:,.0f} MiB. "
        + (_replaced(took["replaced"]) if "replaced" in took else "")
        + (f"All of its history, the first time: {took['history']['seconds']:.1f} s. " if "history" in took else "")
        + f"Once more, with nothing to do: {took['again']['seconds']:.1f} s."
    )


def _replaced(took: dict[str, Any]) -> str:
    return (
        f"The same day as another version, which takes its place: {took['client']['seconds']:.1f} s, "
        f"{took['server_cpu_seconds']:.1f} and {took['client']['cpu_seconds']:.1f} CPU seconds. "
    )


def _large(results: dict[str, Any]) -> str:
    if "large file" not in results:
        return ""
    took = results["large file"]
    limit = "enforced by the kernel" if took["is_enforced"] else "compared afterwards"
    return (
        f"## A large file\n\nOne day in one CSV file of {took['file_bytes'] / MIB:,.0f} MiB ({took['rows']:,} rows "
        f"land) under a limit of {took['limit_bytes'] / MIB:,.0f} MiB ({limit}), of which DuckDB may use "
        f"{took['duckdb_bytes'] / MIB:,.0f} MiB: {took['seconds']:.0f} s, at most "
        f"{took['peak_memory_bytes'] / MIB:,.0f} MiB resident."
    )


def _proofs(results: dict[str, Any]) -> str:
    lines = []
    if "worlds" in results:
        found = results["worlds"]
        lines.append(
            f"- **Random shops**, run day by day, by backfill in any order and from an empty home: {found['same']} of "
            f"{found['worlds']} without a differing byte. {' '.join(found['differences'])}".rstrip()
        )
    if "causes" in results:
        found = results["causes"]
        moves = ", ".join(f"{count:,} `{cause}`" for cause, count in found["moves"].items())
        lines.append(
            f"- **Complete Journey, its last {found['days']} days**: on {found['add_up']} the causes add up to all "
            f"moves; {sum(found['moves'].values()):,} moves, {moves}."
        )
    if "backfill" in results:
        found = results["backfill"]
        tasks = ", ".join(f"{name} {each['sum']:.0f}" for name, each in found["tasks"].items())
        lines.append(
            f"- **A backfill of {found['days']} days through Airflow**: {found['seconds']:.0f} s, "
            f"{found['seconds_per_day']:.1f} s a day; seconds of all tasks: {tasks}."
        )
    return "## Proofs\n\n" + "\n".join(lines) if lines else ""


def _check(results: dict[str, Any]) -> str:
    if "floor check" not in results:
        return ""
    check = results["floor check"]
    rows = [
        (
            f"`{table}`",
            f"{rows:,}",
            f"{check['rows'].get(table, 0):,}",
            str(check["rows_that_differ"].get(table, "not compared")),
        )
        for table, rows in check["rows_published"].items()
    ]
    return (
        "## Whether the floor does the same work\n\n"
        + _table(("table", "rows published", "rows of the floor", "rows that differ"), rows, numbers=range(1, 4))
        + "\n\nWhat a trained model decides can't be compared: `churn_probability`, and with it `churn_risk` and "
        "`contact_list`."
    )


def _comparison(results: dict[str, Any]) -> str:
    before = results.get("compared_with")
    if not before:
        return ""
    same = "the same kind of machine" if before["is_same_machine"] else "**another machine**"
    rows = [(name, f"{ratio:.2f}") for name, ratio in before["ratios"].items()]
    return (
        f"## Against the last committed result\n\n{before['date']}, commit `{before['commit']}`, {same}. Below 1 is "
        "faster now.\n\n" + _table(("step", "times as long"), rows, numbers=(1,))
    )


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]], numbers: Any = ()) -> str:
    rule = ["---:" if place in numbers else "---" for place in range(len(heads))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, rule, *rows))


# -- the chart


def _run_panel(results: dict[str, Any], name: str) -> alt.LayerChart:
    import altair as alt

    part = results[name]
    steps = [("Strataflow", step, part["steps"][step]["seconds"]) for step in COUNTED]
    steps += [("floor", "land" if step == "land" else "build", took["seconds"]) for step, took in part["floor"].items()]
    rows = [
        {"who": who, "step": step, "place": place, "seconds": seconds}
        for place, (who, step, seconds) in enumerate(steps)
    ]
    sums = {who: sum(row["seconds"] for row in rows if row["who"] == who) for who in ("Strataflow", "floor")}
    totals = [{"who": who, "seconds": seconds, "told": f"{seconds:.1f} s"} for who, seconds in sums.items()]
    who = alt.Y("who:N", title=None, sort=["Strataflow", "floor"])
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(height=22)
        .encode(
            x=alt.X("seconds:Q", title="seconds, whole processes", stack="zero"), y=who,
            color=alt.Color("step:N", title="step", sort=list(COUNTED), scale=alt.Scale(scheme="tableau10")),
            order=alt.Order("place:Q"),
        )
    )  # fmt: skip
    labels = (
        alt.Chart(alt.Data(values=totals))
        .mark_text(align="left", dx=6, fontSize=12)
        .encode(x="seconds:Q", y=who, text="told:N")
    )
    return (bars + labels).properties(width=620, height=72, title=f"{RUNS[name]}, size {results['size']}")


def _rfm_panel(race: dict[str, Any]) -> alt.LayerChart:
    import altair as alt

    rows = [
        {"who": name, "seconds": took["task_seconds"], "told": f"{took['task_seconds']:.2f} s"}
        for name, took in race["by_name"].items()
    ]
    who = alt.Y("who:N", title=None, sort=alt.EncodingSortField("seconds"))
    base = alt.Chart(alt.Data(values=rows))
    bars = base.mark_bar(height=16, color="#4c78a8").encode(
        x=alt.X("seconds:Q", title="seconds, without start-up"), y=who
    )
    labels = base.mark_text(align="left", dx=6, fontSize=12).encode(x="seconds:Q", y=who, text="told:N")
    title = f"RFM scoring of {race['rows']:,} order rows"
    return (bars + labels).properties(width=620, height=24 * len(rows), title=title)
