"""What only some origins record of an artifact, in its manifest's `facts`.

These types are also what is checked when a manifest is read (`adaptkit.types.checks`): every value that adaptkit reads
has its type here.
"""

from __future__ import annotations

from typing import Any, TypedDict


class LossFacts(TypedDict, total=False):
    """What a merge lost, as shares of the norm (None: undefined), and which extras it dropped."""

    error: float | None
    from_sum: float | None
    dropped: list[str]


class ConvertedFacts(TypedDict, total=False):
    """The file in another tool's format that was read, and what its conversion has to say."""

    path: str
    sha256: str
    dialect: str
    notes: list[str]
    metadata: dict[str, str]


class TrainingDataFacts(TypedDict, total=False):
    """One file of training data: its name, digest and form, and how many rows were read and passed over."""

    label: str
    path: str  # of files that other programs recorded without a label
    digest: str
    form: str
    rows: int
    skipped: int


class TrainingFacts(TypedDict, total=False):
    """How an adapter was trained: everything needed to repeat it, and what came out."""

    trainer: str
    objective: str
    config: dict[str, Any]  # the fields of `TrainConfig` that are not the default
    seed: int
    data: list[TrainingDataFacts]
    datasets: list[str]  # names on the Hub, of adapters that others trained
    rows: dict[str, int]  # {"trained", "masked", "cut"}
    tokens: dict[str, int]  # {"read", "counted"}
    eval: dict[str, Any]  # {"rows", "files", "shared_prompts"}
    replay: dict[str, Any]  # {"rows", "from_base", "ratio", "files"}
    classes: list[str]
    steps: int
    parameters: int
    metrics: dict[str, float]
    curve: list[tuple[int, float]]  # step, loss
    seconds: float
    peak_memory: int
    versions: dict[str, str]
    warnings: list[str]


class Facts(TypedDict, total=False):
    """What only some origins record. Other keys are kept; a value of another type is left out when it is read."""

    loss: LossFacts  # of a merge
    made_with: dict[str, str]  # what the bytes of a merge depend on besides its recipe
    forced: list[str]  # what --force overruled
    warnings: list[str]  # bases that could not be compared
    extracted: dict[str, Any]  # {"loss": float | None, "left_out": [name]}
    converted_from: ConvertedFacts
    cannot_bake: list[str]  # why the update cannot become part of its base's weights
    stripped: Any  # what was left out of a parent
    found: dict[str, str]  # {"place", "revision", "made_by"} of what others published
    training: TrainingFacts
    distilled: dict[str, Any]  # how a merge was trained towards its parents
    weighed: dict[str, Any]  # how the weights of a merge were chosen
    search: dict[str, Any]  # the study that chose a merge, its trial and its suites
    plugins_off: list[str]  # plugins that were disabled then
