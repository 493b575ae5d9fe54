"""The verbs of evaluation: read what evaluations left behind, and compare two of them problem by problem.

Has no tables and knows no jobs: it is given the directories of attempts.
"""

from pathlib import Path

from finery.core.errors import Conflict, InvalidSpec
from finery.evaluation import benchmarks, results, statistics
from finery.evaluation.results import StoredResult
from finery.evaluation.specs import (
    ComparisonView,
    ProblemSet,
    SampleResult,
    ScoreView,
)
from finery.evaluation.statistics import PairedCounts


def check(task: ProblemSet, *, place: str = "task") -> None:
    """Check what the spec alone cannot: the benchmark's parameters, and whether it needs data.

    Args:
        task: What a model is to be asked.
        place: Where it stands in the job file.

    Raises:
        InvalidSpec: the benchmark does not exist, its parameters do not fit, or `data` is missing or useless.
    """
    benchmarks.registry.params(task.benchmark.name, task.benchmark.params)
    reads_data = benchmarks.registry.get(task.benchmark.name).target.reads_data
    if reads_data and task.data is None:
        raise InvalidSpec(
            f"benchmark {task.benchmark.name!r} needs {place}.data: a dataset version or a file of problems"
        )
    if not reads_data and task.data is not None:
        raise InvalidSpec(f"benchmark {task.benchmark.name!r} brings its own problems; remove {place}.data")


def read_score(attempt: Path, *, job_id: int, job_name: str) -> ScoreView:
    """The result of a complete evaluation.

    Raises:
        NotFound: it is not complete.
    """
    result = results.read_result(attempt)
    return ScoreView(
        job_id=job_id,
        job_name=job_name,
        model=result.model,
        benchmark=result.benchmark,
        num_samples=result.num_samples,
        num_correct=result.num_correct,
        accuracy=result.accuracy,
        interval=result.interval,
    )


def read_samples(attempt: Path, *, offset: int, limit: int, only: str) -> tuple[list[SampleResult], int]:
    """Some answered problems by index, and how many there are of the kind asked for; also while the job runs.

    Args:
        attempt: Directory of the attempt.
        offset: Problems of that kind to skip.
        limit: At most so many.
        only: `all`, `wrong` or `right`.
    """
    wanted = {"all": (True, False), "right": (True,), "wrong": (False,)}[only]
    found = [sample for sample in results.read_samples(attempt) if sample.correct in wanted]
    return found[offset : offset + limit], len(found)


def compare(baseline_dir: Path, candidate_dir: Path, *, baseline: ScoreView, candidate: ScoreView) -> ComparisonView:
    """Compare two evaluations over the problems that both answered.

    Raises:
        NotFound: one is not complete.
        Conflict: they used different benchmarks, share no problem, or an index stands for different problems.
    """
    _check_same_benchmark(results.read_result(baseline_dir), results.read_result(candidate_dir))
    counts = _count(results.read_samples(baseline_dir), results.read_samples(candidate_dir))
    return ComparisonView(
        baseline=baseline,
        candidate=candidate,
        num_shared=counts.total,
        both_correct=counts.both_correct,
        both_wrong=counts.both_wrong,
        improved=counts.improved,
        regressed=counts.regressed,
        difference=(counts.improved - counts.regressed) / counts.total,
        difference_interval=statistics.paired_difference(counts),
        p_value=statistics.mcnemar_exact(counts.improved, counts.regressed),
    )


def _check_same_benchmark(baseline: StoredResult, candidate: StoredResult) -> None:
    if (baseline.benchmark, baseline.params) != (candidate.benchmark, candidate.params):
        raise Conflict(
            f"the evaluations used different benchmarks ({baseline.benchmark} {baseline.params or ''} and "
            f"{candidate.benchmark} {candidate.params or ''}), so their answers were judged differently; "
            "evaluate both models with the same one"
        )


def _count(baseline: list[SampleResult], candidate: list[SampleResult]) -> PairedCounts:
    """Pair answers by index."""
    others = {sample.index: sample for sample in candidate}
    pairs = [(sample, others[sample.index]) for sample in baseline if sample.index in others]
    if not pairs:
        raise Conflict("the evaluations share no problem; evaluate both models on the same data")
    for one, other in pairs:
        if (one.prompt, one.target) != (other.prompt, other.target):
            raise Conflict(
                f"problem {one.index} is not the same in both evaluations; "
                "evaluate both models on the same data version"
            )
    outcomes = [(one.correct, other.correct) for one, other in pairs]
    return PairedCounts(
        both_correct=outcomes.count((True, True)),
        improved=outcomes.count((False, True)),
        regressed=outcomes.count((True, False)),
        both_wrong=outcomes.count((False, False)),
    )
