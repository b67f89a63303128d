"""Every variant, stopped and resumed, equals the one that was not, bit for bit."""

import pytest

from aejax.runtime.signals import Interrupted
from support import quickly_compiled
from test_contract import (
    LINEAR,
    NETS,
    ON_AFFINE_NETS,
    ON_ANY_NET,
    ON_DICTIONARIES,
    VARIANTS,
    WITH_A_LIKELIHOOD_OF_THEIR_OWN,
)
from test_population import identical
from test_resume import STEPS, Memory, block, stop_at


@pytest.fixture(scope="module", autouse=True)
def quickly():
    with quickly_compiled():
        yield


@pytest.mark.parametrize("name", [*ON_ANY_NET, *ON_DICTIONARIES, *ON_AFFINE_NETS, *WITH_A_LIKELIHOOD_OF_THEIR_OWN])
def test_every_variant_resumes_as_if_it_had_never_stopped(name):
    """In the second epoch, after its second step: what a variant draws or remembers must come from the state."""
    build, more = VARIANTS[name]
    autoencoder = build(NETS["linear" if name in LINEAR else "stacked"]())
    whole = block(autoencoder, more=more)
    checkpointer = Memory(every=False)
    with pytest.raises(Interrupted):
        block(autoencoder, checkpointer=checkpointer, report=stop_at(6), more=more)
    resumed = block(autoencoder, checkpointer=checkpointer, more=more)
    assert 6 <= resumed.resumed_step < STEPS
    assert sum(fit.status == "completed" for fit in whole.fits) >= 4
    assert all(identical(a, b) for a, b in zip(whole.fits, resumed.fits, strict=True))
