"""Sparse variants: few codings are active in each row, and there are often more codings than inputs.

All but `kl_sparse` need a decoder of one dense layer. Its kernel is a dictionary: the codings are weights of its
columns. `dictionary.py` holds what these variants share, `revival.py` the two ways to revive dead units, `selection.py`
the choice of the largest codings.
"""

from aejax.variants.sparse.batch_topk import batch_topk
from aejax.variants.sparse.dictionary import columns
from aejax.variants.sparse.gated import gated
from aejax.variants.sparse.jump_relu import jump_relu
from aejax.variants.sparse.kl import kl_sparse
from aejax.variants.sparse.l1 import l1_sparse
from aejax.variants.sparse.matryoshka import matryoshka
from aejax.variants.sparse.topk import topk

__all__ = ["batch_topk", "columns", "gated", "jump_relu", "kl_sparse", "l1_sparse", "matryoshka", "topk"]
