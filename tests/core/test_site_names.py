"""Names of sites: every name is read back, other dialects mean the same place, a miss says what is near."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actscope.core.errors import BadInput, UnknownSite
from actscope.core.site import LAYER_KINDS, WHOLE_KINDS, Port, Site, SiteInfo, SitePattern, resolve

SITES = st.one_of(
    st.builds(Site, st.sampled_from(WHOLE_KINDS)),
    st.builds(
        Site,
        st.sampled_from(LAYER_KINDS),
        st.integers(0, 200),
        st.none() | st.integers(0, 99),
        st.sampled_from(["", "encoder", "decoder"]),
    ),
)
HAS = {
    Site("embed"): SiteInfo(("b", "t", 12), "model.embed", "out"),
    **{Site("z", n): SiteInfo(("b", "t", 3, 4), f"model.{n}.attn", "in") for n in range(2)},
    **{Site("mlp_out", n): SiteInfo(("b", "t", 12), f"model.{n}.mlp", "out") for n in range(2)},
    **{Site("attn_pattern", n): SiteInfo(("b", 3, "t", "t"), f"model.{n}.attn", "computed") for n in range(2)},
}


@given(SITES)
def test_a_name_is_read_back(site: Site):
    assert Site.parse(str(site)) == site and Site.parse(site) is site
    assert Port.parse(str(Port(site))) == Port(site) and Port.parse(str(Port(site, "base"))) == Port(site, "base")
    assert site.whole.part is None


@given(st.sampled_from(LAYER_KINDS), st.integers(0, 99))
def test_the_short_form_means_the_same(kind: str, layer: int):
    assert Site.parse(f"{kind}.{layer}") == Site(kind, layer)


@given(SITES)
def test_the_name_of_transformer_lens_means_the_same(site: Site):
    if site.lens is not None and site.stack == "":
        assert Site.parse(site.lens) == site.whole


@given(st.text(alphabet=string.ascii_letters + string.digits + "._[]:*", max_size=30))
@settings(max_examples=300)
def test_any_text_is_a_site_or_refused_in_one_sentence(text: str):
    try:
        site = Site.parse(text)
    except UnknownSite as error:
        assert repr(text) in str(error) and "actscope sites MODEL" in str(error)
    else:
        assert Site.parse(str(site)) == site


@pytest.mark.parametrize(
    "text, near",
    [
        ("layers.3.mlp_ouy", "mlp_out"),
        ("layers.3.resid_pots", "resid_post"),
        ("layers.3.logits", "logits"),
        ("mlp_out", "mlp_out"),
        ("blocks.0.hook_nothing", "Expected something like"),
    ],
)
def test_a_miss_names_the_nearest(text, near):
    with pytest.raises(UnknownSite, match=near):
        Site.parse(text)


def test_names_patterns_and_module_paths_resolve_in_order_once():
    names = ["layers.*.mlp_out", "embed", "model.0.mlp", "layers.1.z[2]", "mlp_out.1"]
    assert [str(site) for site in resolve(names, HAS)] == ["layers.0.mlp_out", "layers.1.mlp_out", "embed", "layers.1.z[2]"]
    assert resolve("module:head:out", HAS) == [Site("module:head:out")]


@pytest.mark.parametrize(
    "name, words",
    [
        ("layers.2.mlp_out", "no site layers.2.mlp_out; did you mean .*layers.1.mlp_out"),
        ("layers.0.z[3]", "has 3 parts here; .*asks for part 3"),
        ("layers.0.attn_pattern[3]", "has 3 parts here"),
        ("layers.0.mlp_out[0]", "has 0 parts here"),
        ("layers.*.q", "No site matches"),
        ("layers.0.router", "it has no experts"),
    ],
)
def test_what_a_subject_lacks_is_said(name, words):
    with pytest.raises(UnknownSite, match=words) as caught:
        resolve(name, HAS, {"router": "it has no experts"})
    assert isinstance(caught.value, BadInput) and caught.value.exit_code == 3


def test_widths_are_numbers_a_token():
    assert [HAS[Site.parse(name)].width for name in ("embed", "z.0", "attn_pattern.1")] == [12, 12, 0]


def test_a_pattern_keeps_the_subjects_order():
    assert [site.layer for site in SitePattern("*.z").expand(reversed(list(HAS)))] == [1, 0]
