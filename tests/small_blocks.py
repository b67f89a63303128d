"""A block of six small members that tests stop and resume."""

from aejax.training import loop, population, schedules
from aejax.training.layout import make_layout, place_data
from support import small_dataset

DATASET = small_dataset(rows=50)
RATES = [(0, 0.02), (4, 0.05), (2, 0.1), (0, 0.2), (0, 1e25), (1, 0.02)]  # some are best early, one diverges
RUNS = [(seed, {"learning_rate": rate, "l2": 0.001}) for seed, rate in RATES]
STEPS = 3 * 4


def block(autoencoder, *, how="vmap", checkpointer=None, report=None, chunk_seconds=0.0, more=None):
    """The fits of a block of RUNS, three epochs of four steps each, a step a chunk; `more` is added to their hypers."""
    runs = [(seed, {**hyper, **(more or {})}) for seed, hyper in RUNS]
    what = population.program_spec(
        autoencoder, DATASET, tuple(runs[0][1]), epochs=3, batch_size=16, schedule=schedules.cosine
    )
    layout = make_layout(how, len(RUNS), width=6 if how == "vmap" else None, devices=1)
    data = place_data(DATASET, layout)
    runs = runs[: layout.block]
    compiled = population.compile_population(what, layout)
    options = {"report": report, "checkpointer": checkpointer, "chunk_seconds": chunk_seconds}
    return loop.train_block(compiled, data, runs, **options)
