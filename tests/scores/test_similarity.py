"""A sentence encoder loaded as a subject gives the mean of its last states, padding left out."""

import pytest
import torch

from actscope.core.errors import BadInput
from actscope.scores._parts.similarity import OwnEmbeddings, Pooled, Similarity, similarity
from actscope.subjects.load import load

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "on", "a", "mat")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    place = tmp_path_factory.mktemp("encoder")
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=words, **marks).save_pretrained(place)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    BertModel(config).save_pretrained(place)
    return place


@torch.no_grad()
def test_the_mean_of_the_last_states_is_that_of_the_model_itself(folder):
    from transformers import AutoModel, AutoTokenizer

    texts = ["the cat sat on a mat", "a mat"]
    given = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    states = AutoModel.from_pretrained(folder).eval()(**given).last_hidden_state
    real = given["attention_mask"].float()[..., None]
    pooled = Pooled(load(folder))
    assert torch.allclose(pooled(texts), (states * real).sum(1) / real.sum(1), atol=1e-5)
    assert torch.allclose(pooled(texts)[1:], pooled(texts[1:]), atol=1e-5)  # what it is padded to is nothing


def test_what_reads_both_ways_is_pooled_and_what_reads_forward_gives_its_tokens(folder):
    encoder, pocket = load(folder), load("pocket")
    assert similarity(encoder, None, 4) == Similarity(Pooled(encoder), 4)
    assert similarity(pocket, None, 4) == OwnEmbeddings(pocket, None, 4)
    assert similarity(len, None, 4) == Similarity(len, 4)
    with pytest.raises(BadInput, match="both ways"):
        Pooled(pocket)(["a text"])
