"""Sparse variants: codings of which few are active in a row, often more of them than inputs.

All but `kl_sparse` want a decoder of one dense layer: its columns are a dictionary that the codings weight.
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
