"""What is made of arrays stands where they do; the "meta" device stands for a GPU, as no array there meets one on the CPU."""

import torch

from actscope.core.codes import Codes
from actscope.core.intervention import At, Context, Zero
from actscope.core.site import Site


def test_codes_are_joined_where_they_are():
    ends, index = (torch.zeros(n, dtype=torch.long, device="meta") for n in (3, 4))
    one = Codes(ends, index, torch.zeros(4, device="meta"), 9)
    both = Codes.cat([one, one])
    assert (both.indptr.device.type, both.indptr.shape, both.index.shape) == ("meta", (5,), (8,))


def test_a_mask_from_the_cpu_serves_elsewhere():
    x, where = torch.zeros(2, 3, 4, device="meta"), torch.ones(2, 3, dtype=torch.bool)
    none = Context({}, None, where, where)  # type: ignore[arg-type]
    assert At(Zero(Site.parse("layers.0.mlp_in")), where)(x, none).shape == x.shape
