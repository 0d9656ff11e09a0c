"""Our metrics against scikit-learn, rouge-score, sacrebleu and SQuAD's evaluation, on random data with edge cases and on
real texts where the data folder is there."""

import collections
import json
import random
import re
import string
import warnings

import numpy as np
import pytest
from nltk.stem.porter import PorterStemmer
from reference_figures import compare, data_folder, ours
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sklearn import metrics

warnings.filterwarnings("ignore")  # scikit-learn warns of every edge case that is tested here

EXACT = 1e-12


def label_sets():
    rng = np.random.default_rng(7)
    for classes in (2, 3, 7, 77):
        for n in (1, 2, 10, 300, 2000):
            names = np.array([f"label {i:02}" for i in range(classes)])
            truth = rng.integers(0, classes, n)
            guess = np.where(rng.random(n) < 0.7, truth, rng.integers(0, classes, n))
            yield names[truth].tolist(), names[guess].tolist()
    yield ["a"] * 5, ["a"] * 5
    yield ["a"] * 5, ["b"] * 5
    yield ["a", "b", "a"], ["a", "new", "(no answer)"]
    yield ["ä", "日本", "z", "Ω", "é"], ["日本", "日本", "z", "é", "é"]
    yield ["a"] * 99 + ["rare"], ["a"] * 100


def test_labels_equal_scikit_learn():
    sets = list(label_sets())
    found = ours([("classification", {"truth": t, "predicted": p}) for t, p in sets])
    for (truth, predicted), mine in zip(sets, found):
        labels = sorted(set(truth) | set(predicted))
        assert mine["labels"] == labels
        assert np.array_equal(mine["counts"], metrics.confusion_matrix(truth, predicted, labels=labels))
        theirs = metrics.precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0)
        for name, column in zip(("precision", "recall", "f1", "support"), theirs):
            for score, value in zip(mine["classes"], column):
                compare(f"scikit-learn {name} of a label", score[name], value, EXACT)
        for name, value in {
            "accuracy": metrics.accuracy_score(truth, predicted),
            "macro_f1": metrics.f1_score(truth, predicted, average="macro", zero_division=0),
            "weighted_f1": metrics.f1_score(truth, predicted, average="weighted", zero_division=0),
            "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted),
            "kappa": metrics.cohen_kappa_score(truth, predicted),
        }.items():
            if name == "kappa" and mine["kappa"] is None:
                assert len(labels) == 1, "kappa is undefined with one label only"
                continue
            compare(f"scikit-learn {name}", mine[name], value, EXACT)


def score_sets():
    rng = np.random.default_rng(8)
    for n in (2, 3, 20, 500, 3000):
        positive = rng.random(n) < 0.3
        positive[:2] = True, False
        yield (rng.random(n) + 0.3 * positive), positive
        yield np.round(rng.random(n) + 0.3 * positive, 1), positive  # ties
        yield np.full(n, 0.5), positive
        yield -np.arange(n, dtype=float), positive


def test_rankings_equal_scikit_learn():
    limits = [0.0, 0.01, 0.05, 0.1, 0.5, 1.0]
    sets = list(score_sets())
    found = ours(
        [("ranking", {"scores": s.tolist(), "positive": p.tolist(), "limits": limits}) for s, p in sets]
    )
    for (scores, positive), mine in zip(sets, found):
        for name, drop in (("all", False), ("corners", True)):
            fpr, tpr, thresholds = metrics.roc_curve(positive, scores, drop_intermediate=drop)
            assert len(mine[name]["fpr"]) == len(fpr)
            for a, b in zip(mine[name]["fpr"] + mine[name]["tpr"], np.concatenate([fpr, tpr])):
                compare("scikit-learn roc_curve", a, b, EXACT)
            assert mine[name]["thresholds"][0] is None and np.isinf(thresholds[0])
            assert mine[name]["thresholds"][1:] == thresholds[1:].tolist()
        compare("scikit-learn roc_auc_score", mine["auc"], metrics.roc_auc_score(positive, scores), EXACT)
        expected = metrics.average_precision_score(positive, scores)
        compare("scikit-learn average_precision_score", mine["average_precision"], expected, EXACT)
        fpr, tpr, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
        for limit, value in zip(limits, mine["recall_at_fpr"]):
            compare("scikit-learn recall at a false-positive rate", value, tpr[fpr <= limit].max(), EXACT)


def test_distributions_equal_scikit_learn():
    rng = np.random.default_rng(9)
    sets = []
    for classes, n in ((2, 5), (3, 200), (77, 400)):
        probabilities = rng.dirichlet(np.full(classes, 0.3), n)
        truth = np.concatenate([np.arange(classes), rng.integers(0, classes, n)])[:n]
        sets.append((probabilities, truth))
    sure = np.eye(3)[[0, 1, 2, 0]]
    sets.append((sure, np.array([0, 1, 2, 1])))  # certain and once wrong: cut at the smallest probability
    found = ours([("distributions", {"probabilities": p.tolist(), "truth": t.tolist()}) for p, t in sets])
    for (probabilities, truth), mine in zip(sets, found):
        labels = list(range(probabilities.shape[1]))
        compare("scikit-learn log_loss", mine["log_loss"], metrics.log_loss(truth, probabilities, labels=labels), EXACT)
        expected = metrics.brier_score_loss(truth, probabilities, labels=labels, scale_by_half=False)
        compare("scikit-learn brier_score_loss", mine["brier"], expected, EXACT)


WORDS = (
    "the a patient was seen for generally relational hopping falling skies dying news innings agreed feed flies died "
    "controlled troubled sized happy theology sensibility hopefully 12,000.5 3.14 -2 x-ray don't e-mail U.S. naïve "
    "Überraschung 日本語 emoji🙂 ... , . ; : ( ) [ ] { } ~ ` & &amp; &quot; &lt;b&gt; <skipped> $5 50% a/b 1-2 3- .5 ,5 "
    "K İstanbul"
).split()


def random_texts(seed, count):
    rng = random.Random(seed)
    glue = [" "] * 12 + ["  ", "\n", "\t", "-\n", "", "\u00a0", "\u2003", "\x1c", "\r\n"]
    for _ in range(count):
        length = rng.choice([0, 1, 2, 3, 5, 8, 15, 40, 120])
        yield "".join(rng.choice(WORDS) + rng.choice(glue) for _ in range(length))


def text_pairs():
    targets, predictions = list(random_texts(1, 800)), list(random_texts(2, 800))
    pairs = list(zip(targets, predictions)) + [(t, t) for t in targets[:50]] + [("", ""), ("a", ""), ("", "a"), ("!", "?")]
    real = summaries()
    # Each reference against itself, its source and its neighbour: much, some and little in common.
    for (source, summary), (_, neighbour) in zip(real, real[1:]):
        pairs += [(summary, source), (summary, neighbour), (summary, " ".join(summary.split()[::2]))]
    return pairs


def summaries():
    found = []
    folder = data_folder()
    for name in ("meqsum", "mts_dialog"):
        for path in sorted((folder / "summarisation" / name).glob("*.jsonl")) if folder else []:
            with path.open() as lines:
                rows = [json.loads(line) for line in lines][:250]
            strings = [[v for v in row.values() if isinstance(v, str)] for row in rows]
            # The longest text is the source, the next longest its summary.
            found += [tuple(sorted(row, key=len)[:-3:-1]) for row in strings if len(row) > 1]
    if not found:
        print("skipped: no real texts; UNDERSTUDY_DATA names their folder")
    return found


def test_stems_equal_nltk():
    stemmer = PorterStemmer()
    rng = random.Random(3)
    words = {w for text in random_texts(4, 200) for w in re.findall("[a-z0-9]+", text.lower())}
    words |= {w for pair in summaries() for text in pair for w in re.findall("[a-z0-9]+", text.lower())}
    endings = "s es ies sses ed eed ied ing at bl iz y ational tional enci anci izer bli alli entli eli ousli ization ation"
    endings += " ator alism iveness fulness ousness aliti iviti biliti fulli logi icate ative alize iciti ical ful ness"
    endings += " al ance ence er ic able ible ant ement ment ent ion sion tion ou ism ate iti ous ive ize e ll"
    for _ in range(20000):
        stem = "".join(rng.choice("aeiouybcdfglmnrstwxz0") for _ in range(rng.randint(0, 7)))
        words.add(stem + rng.choice(endings.split()) + rng.choice(["", "", "s", "ed", "ing", "ly"]))
    words = sorted(words)
    [stems] = ours([("stem", words)])
    wrong = [(w, s, stemmer.stem(w)) for w, s in zip(words, stems) if s != stemmer.stem(w)]
    compare("nltk PorterStemmer, words stemmed otherwise", len(wrong), 0, 0.0)
    assert not wrong, wrong[:10]


@pytest.mark.parametrize("stem", [False, True])
def test_rouge_equals_rouge_score_exactly(stem):
    types = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    scorer = rouge_scorer.RougeScorer(types, use_stemmer=stem)
    pairs = text_pairs()
    several = [([a, b], c) for (a, b), (c, _) in zip(pairs[:200], pairs[200:])]
    targets = [[t] for t, _ in pairs] + [t for t, _ in several]
    predictions = [p for _, p in pairs] + [p for _, p in several]
    [found] = ours([("rouge", {"targets": targets, "predictions": predictions, "stem": stem})])
    for these, prediction, mine in zip(targets, predictions, found):
        theirs = scorer.score_multi(these, prediction)
        for name, scores in zip(types, mine):
            for a, b in zip(scores, theirs[name]):
                compare(f"rouge-score {name}{' stemmed' if stem else ''}", a, b, 0.0)


def test_bleu_equals_sacrebleu():
    pairs = text_pairs()
    texts = [t for pair in pairs for t in pair]
    [tokens] = ours([("bleu_tokens", texts)])
    theirs = Tokenizer13a()
    wrong = [(t, mine) for t, mine in zip(texts, tokens) if " ".join(mine) != theirs(t.rstrip())]
    compare("sacrebleu 13a, texts tokenised otherwise", len(wrong), 0, 0.0)
    sentence, corpus = BLEU(effective_order=True), BLEU()
    rng = random.Random(5)
    targets = [[t, rng.choice(pairs)[0]] for t, _ in pairs]
    predictions = [p for _, p in pairs]
    groups = [slice(0, 1), slice(0, 20), slice(100, 400), slice(850, 854), slice(0, len(pairs))]
    found = ours([("bleu", {"targets": targets[g], "predictions": predictions[g]}) for g in groups])
    for group, mine in zip(groups, found):
        expected = corpus.corpus_score(predictions[group], [list(column) for column in zip(*targets[group])])
        compare("sacrebleu corpus_bleu", mine["corpus"]["score"], expected.score, 1e-10)
        compare("sacrebleu brevity penalty", mine["corpus"]["brevity_penalty"], expected.bp, EXACT)
        for a, b in zip(mine["corpus"]["precisions"], expected.precisions):
            compare("sacrebleu precisions", a, b, EXACT)
        for a, these, prediction in zip(mine["sentences"], targets[group], predictions[group]):
            compare("sacrebleu sentence_bleu", a, sentence.sentence_score(prediction, these).score, 1e-10)


def squad_normalised(text):
    """SQuAD's evaluate-v2.0.py, word for word."""
    text = "".join(ch for ch in text.lower() if ch not in set(string.punctuation))
    text = re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text)
    return " ".join(text.split())


def squad_f1(gold, predicted):
    gold, predicted = squad_normalised(gold).split(), squad_normalised(predicted).split()
    common = sum((collections.Counter(gold) & collections.Counter(predicted)).values())
    if not gold or not predicted:
        return int(gold == predicted)
    if common == 0:
        return 0
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def test_exact_match_and_token_f1_equal_squads_script():
    pairs = text_pairs() + [("The cat", "cat a"), ("an, the", "a"), ("Theory", "the ory")]
    targets, predictions = [[t] for t, _ in pairs], [p for _, p in pairs]
    [found] = ours([("squad", {"targets": targets, "predictions": predictions})])
    for (target, prediction), (match, f1) in zip(pairs, found):
        compare("SQuAD exact match", match, squad_normalised(target) == squad_normalised(prediction), 0.0)
        compare("SQuAD token F1", f1, squad_f1(target, prediction), EXACT)
