"""Every variant, stopped and resumed, equals the one that was not, bit for bit."""

import pytest

from aejax.runtime.signals import Interrupted
from every_variant import EACH, NETS, VARIANTS, net_of
from small_blocks import STEPS, block
from support import Memory, identical, stop_at

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", EACH)
def test_every_variant_resumes_as_if_it_had_never_stopped(name):
    """In the second epoch, after its second step: what a variant draws or remembers must come from the state."""
    build, more = VARIANTS[name]
    autoencoder = build(NETS[net_of(name)]())
    whole = block(autoencoder, more=more)
    checkpointer = Memory(every=False)
    with pytest.raises(Interrupted):
        block(autoencoder, checkpointer=checkpointer, report=stop_at(6), more=more)
    resumed = block(autoencoder, checkpointer=checkpointer, more=more)
    assert 6 <= resumed.resumed_step < STEPS
    assert sum(fit.status == "completed" for fit in whole.fits) >= 4
    assert all(identical(a, b) for a, b in zip(whole.fits, resumed.fits, strict=True))
