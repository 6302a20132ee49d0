"""Results that a page shows: of the run in the address, or the bundled reference results."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from etp.analysis.comparison import Comparison, comparisons
from etp.analysis.growth import Line, lines
from etp.analysis.machines import runs
from etp.problem import Problem
from etp.results.published import BADGE, key_of, published_of, published_rows
from etp.results.reference import reference_rows
from etp.results.rows import Row
from etp.ui.jobs import store
from etp.ui.kept import kept
from etp.ui.plans import shown_problem
from etp.ui.settings import CUSTOM, Settings


@dataclass
class View:
    """What is shown.

    Attributes:
        source: ``"run"`` or ``"reference"``.
        comparisons: Those of the setting and device shown, smallest lmax first.
        chosen: The one that the page is about.
        rows: All rows behind them.
        elsewhere: Comparisons of other devices of the same run.
    """

    source: str
    comparisons: list[Comparison]
    chosen: Comparison
    rows: list[Row]
    elsewhere: list[Comparison] = field(default_factory=list)

    @property
    def degrees(self) -> list[int]:
        """Every lmax there is."""
        return [comparison.problem.lmax for comparison in self.comparisons]

    def of(self, products: Collection[str]) -> View:
        """The same, shown for some products beside the baseline."""
        some = {id(comparison): comparison.of(products) for comparison in self.comparisons}
        elsewhere = [comparison.of(products) for comparison in self.elsewhere]
        return View(self.source, list(some.values()), some[id(self.chosen)], self.rows, elsewhere)


def view(settings: Settings) -> View:
    """Results for the settings; the reference ones where the run has none yet."""
    if settings.job is not None:
        rows = job_rows(settings.job)
        candidates = compared(rows, settings.baseline)
        if any(comparison.timed for comparison in candidates):
            return _view("run", candidates, rows, _choosing(settings))
    rows = reference_rows()
    candidates = compared(rows, settings.baseline)
    return _view("reference", candidates, rows, _choosing(settings))


def _choosing(settings: Settings) -> Settings:
    """What decides which rows are shown, the rest as usual: few views, each kept."""
    names = ("setting", "devices", "batch", "channels", "at", "products")
    return replace(Settings(), **{name: getattr(settings, name) for name in names})


@kept(100)
def _view(source: str, candidates: list[Comparison], rows: list[Row], settings: Settings) -> View:
    wanted = None if settings.setting == CUSTOM else settings.setting
    same = [comparison for comparison in candidates if comparison.problem.setting == wanted]
    shown = (
        same
        or [comparison for comparison in candidates if comparison.problem.setting == "MIMO"]
        or candidates
    )
    devices = list(dict.fromkeys(comparison.problem.device for comparison in shown))
    device = next((d for d in settings.devices if d in devices), devices[0])
    others = [
        comparison
        for comparison in shown
        if comparison.problem.device != device and comparison.timed
    ]
    shown = [comparison for comparison in shown if comparison.problem.device == device]
    shown = _one_for_each_degree(
        [comparison for comparison in shown if comparison.timed] or shown, settings
    )
    # Without a choice, the largest lmax up to 4: what models use.
    usual = [comparison for comparison in shown if comparison.problem.lmax <= 4] or shown
    chosen = next(
        (comparison for comparison in shown if comparison.problem.lmax == settings.at), usual[-1]
    )
    view = View(source, shown, chosen, rows, _alike(others, chosen))
    return view.of(settings.products) if source == "reference" else view


def _alike(others: list[Comparison], chosen: Comparison) -> list[Comparison]:
    """Those that differ from the one shown in device and lmax alone."""

    def rest(comparison: Comparison) -> tuple[object, ...]:
        problem = comparison.problem
        return (problem.setting, problem.batch, problem.channels, problem.dtype, problem.direction,
                problem.weights, problem.outputs)  # fmt: skip

    return [comparison for comparison in others if rest(comparison) == rest(chosen)]


def _one_for_each_degree(candidates: list[Comparison], settings: Settings) -> list[Comparison]:
    """Comparisons that differ in lmax alone: of the size chosen where there is one."""

    def size(comparison: Comparison) -> tuple[int, int]:
        return comparison.problem.batch, comparison.problem.channels

    sizes = [size(comparison) for comparison in candidates]
    chosen = (settings.batch, settings.channels)
    wanted = chosen if chosen in sizes else max(sizes, key=sizes.count)
    by_degree = {
        comparison.problem.lmax: comparison
        for comparison in candidates
        if size(comparison) == wanted
    }
    return [by_degree[lmax] for lmax in sorted(by_degree)]


@dataclass
class Swept:
    """A line of comparisons along one axis.

    Attributes:
        source: ``"run"``, ``"imported"``, ``"published"`` or ``"reference"``.
        line: None where nothing was measured along this axis yet.
        others: Lines that differ from it in lmax alone, itself included, by lmax.
        rows: All rows behind it.
        elsewhere: Lines of other devices that can stand beside it, by name.
    """

    source: str
    line: Line | None
    others: dict[int, Line]
    rows: list[Row]
    elsewhere: dict[str, Line] = field(default_factory=dict)


def swept(settings: Settings) -> Swept:
    """The line to show along the axis chosen; of the reference results where the run has none."""
    key = settings.scaling
    choosing = replace(_choosing(settings), axis=settings.axis)
    for source, rows in (
        ("published", published_of(key) if key else []),
        ("run", job_rows(key) if key else []),
        ("imported", imported_rows(key) if key else []),
        ("reference", reference_rows()),
    ):
        shown = _swept(source, compared(rows, settings.baseline), rows, choosing)
        if shown.line is not None:
            return shown
    return Swept("reference", None, {}, [])


@kept(100)
def _swept(source: str, candidates: list[Comparison], rows: list[Row], settings: Settings) -> Swept:
    long = [line for line in lines(candidates, settings.axis) if len(line.sizes) > 1]  # type: ignore[arg-type]
    if not long:
        return Swept(source, None, {}, rows)
    if source == "reference":
        long = [_line_of(line, settings.products) for line in long]
    best = max(long, key=lambda line: _fit_for(line, settings))
    return Swept(source, best, _by_lmax(best, long), rows, _elsewhere(best, long, settings))


def _line_of(line: Line, products: Collection[str]) -> Line:
    """The same sizes, shown for some products beside the baseline."""
    return replace(
        line, comparisons=tuple(comparison.of(products) for comparison in line.comparisons)
    )


def _elsewhere(shown: Line, own_lines: list[Line], settings: Settings) -> dict[str, Line]:
    """The line of each other device that is most like the one shown; published ones too."""
    published = lines(compared(published_rows()), shown.axis)
    several = [line for line in [*own_lines, *published] if len(line.sizes) > 1]
    best: dict[str, Line] = {}
    for line in sorted(several, key=lambda line: _fit_for(line, settings)):
        if line.last.problem.setting == shown.last.problem.setting:
            best[_place(line)] = line
    best.pop(_place(shown), None)
    return dict(reversed(best.items()))


def _place(line: Line) -> str:
    """Device of a line; published figures say so."""
    row = next(iter(line.last.timed[0].rows.values()))
    return key_of(row) if BADGE in row.badges else line.device()


def _fit_for(line: Line, settings: Settings) -> tuple[object, ...]:
    """What makes a line the one that was asked for, most important first."""
    problem = line.last.problem
    wanted = None if settings.setting == CUSTOM else settings.setting
    alike = {
        "lmax": settings.at is None or problem.lmax == settings.at,
        "batch": problem.batch == settings.batch,
        "channels": problem.channels == settings.channels,
    }
    return (
        problem.setting == wanted,
        problem.setting == "MIMO",
        problem.device in settings.devices,
        *(same for axis, same in alike.items() if axis != line.axis),
        len(line.sizes),
        problem.lmax <= USUAL_LMAX,
        problem.lmax,
    )


def _by_lmax(shown: Line, candidates: list[Line]) -> dict[int, Line]:
    if shown.axis == "lmax":
        return {}

    def rest(line: Line) -> tuple[object, ...]:
        problem = line.last.problem
        return (problem.setting, problem.device, problem.dtype, problem.direction, problem.cache,
                problem.threads, line.device())  # fmt: skip

    alike = {line.last.problem.lmax: line for line in candidates if rest(line) == rest(shown)}
    return dict(sorted((alike | {shown.last.problem.lmax: shown}).items()))


USUAL_LMAX = 4
"""What models use, and what is shown where nothing was chosen."""


@dataclass
class Shown:
    """Rows of a page that shows one lmax of one setting.

    Attributes:
        source: ``"run"``, ``"reference"``, or ``"none"`` where there are no rows.
        setting: None for typed irreps.
    """

    source: str
    rows: list[Row]
    setting: str | None
    lmax: int


def checks(settings: Settings) -> Shown:
    """Equivariance checks to show."""
    return _shown(settings, settings.checks, "equivariance")


def counted(settings: Settings) -> Shown:
    """Counts to show; of typed irreps those alone, whether or not there are any yet."""
    shown = _shown(settings, settings.counts, "expressivity")
    if settings.setting != CUSTOM or shown.setting is None:
        return shown
    try:
        return Shown("none", [], None, shown_problem(settings).lmax)
    except ValueError:
        return shown


def _shown(settings: Settings, job: str | None, measure: str) -> Shown:
    """Rows of the run; the reference ones where it has none for the setting chosen."""
    wanted = None if settings.setting == CUSTOM else settings.setting
    here = job_rows(job) if job else []
    if wanted is None:
        here = _of_irreps(here, *_typed(settings))
    for source, rows in (("run", here), ("reference", _of_products(settings.products))):
        degrees = _degrees(rows, wanted, measure)
        if degrees:
            usual = [lmax for lmax in degrees if lmax <= 4] or degrees
            lmax = settings.at if settings.at in degrees else usual[-1]
            return Shown(source, rows, wanted, lmax)
    rows = _of_products(settings.products)
    degrees = _degrees(rows, "MIMO", measure)
    usual = [lmax for lmax in degrees if lmax <= 4]
    return Shown("reference", rows, "MIMO", usual[-1])


def _typed(settings: Settings) -> tuple[str, str, str | None]:
    """Irreps of both inputs and of the output as typed; empty while they are not valid."""
    try:
        problem = shown_problem(settings)
    except ValueError:
        return "", "", None
    return problem.irreps1, problem.irreps2, problem.filter_out


@kept(30)
def _of_irreps(rows: list[Row], irreps1: str, irreps2: str, filter_out: str | None) -> list[Row]:
    wanted = (irreps1, irreps2, filter_out)
    return [
        row
        for row in rows
        if row.problem["setting"] is not None
        or row.measure in ("grid", "sphere")
        or (row.problem["irreps1"], row.problem["irreps2"], row.problem["filter_out"]) == wanted
    ]


@kept(30)
def _of_products(products: tuple[str, ...]) -> list[Row]:
    """Reference results of the products chosen; all of them where none of those is there."""
    rows = reference_rows()
    if not any(row.product in products for row in rows):
        return rows
    return [r for r in rows if r.product in products or r.measure in ("grid", "sphere", "roofline")]


def _degrees(rows: list[Row], setting: str | None, measure: str) -> list[int]:
    degrees = {
        row.problem["lmax"]
        for row in rows
        if row.measure == measure and row.status == "ok" and row.problem["setting"] == setting
    }
    return sorted(degrees)


def problem_shown(settings: Settings, shown: Shown) -> Problem:
    """Problem whose paths are drawn: the typed one at once, before anything was run."""
    if settings.setting == CUSTOM:
        try:
            return shown_problem(settings)
        except ValueError:
            pass
    if shown.setting is None:
        last = next(row for row in reversed(shown.rows) if row.status == "ok")
        return Problem.from_dict(last["problem"])
    return Problem.of_setting(shown.setting, shown.lmax)  # type: ignore[arg-type]


def job_rows(job_id: str) -> list[Row]:
    """Rows of a run, without long sample lists."""
    return _stored(job_id, store().revision_of(job_id))


@kept(30)
def _stored(job_id: str, revision: tuple[int, int]) -> list[Row]:
    return store().rows(job=job_id)


def imported_rows(source: str) -> list[Row]:
    """Rows without a job that came from a source, as the results page names it."""
    return _imported(source, store().revision())


@kept(10)
def _imported(source: str, revision: int) -> list[Row]:
    without = [row for row in store().rows() if row.job is None]
    return next((run.rows for run in runs(without, {}) if run.key == source), [])


def rows_behind(rows: Sequence[Row], comparisons: Sequence[Comparison]) -> list[Row]:
    """Rows of the problems that are shown, and those that say what a device can do."""
    problems = [comparison.problem.as_dict() for comparison in comparisons]
    return [row for row in rows if row.measure == "roofline" or row.problem in problems]


def compared(rows: list[Row], baseline: str | None = None) -> list[Comparison]:
    """Comparisons of rows, kept with their verdicts from one rerun to the next."""
    return _judged(rows, baseline)


@kept(50)
def _judged(rows: list[Row], baseline: str | None) -> list[Comparison]:
    return comparisons(rows, baseline)
