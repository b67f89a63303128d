"""Every number that a README or an experiment's docstring states is in a committed row, and stands beside its seeds.

`claims.py` has the sentences with their numbers left open. Here they are filled from the rows and looked for in the
texts, and what numbers are left in a text is refused.
"""

import ast
import difflib
import json
import re
import string

import pytest

from claims import CHECKOUT, EXPERIMENTS, GROUPS, RESULTS, SAID, SETTINGS, Calls, Claim, claims, machine, rows_of, runs

READMES = sorted(path for at in ("README.md", "[!.]*/README.md") for path in CHECKOUT.glob(at))
SPELT = ("one", "two", "three", "four", "five", "eight", "ten")
NAMES = [
    r"PCA-\d+",
    r"\b\d+(?:-\d+)+\b(?! to)",  # 784-300-150
    r"\b\d+×\d+\b",
    r"\bL[0-2]\b",
    r"\b[hH]200\b",
    r"\b(?:float|bfloat|TF|SHA-|x)\d+\b",
    r"(?<=\(|\s)(?:19|20)\d\d\)",  # of a publication
    r"\b(?:\d+, )*\d+(?: and \d+)? (?:codings|bits|labels)\b",
    r"\b30 active codings\b|\b(?:of|its) (?:1024|50|150)\b",
    r"\b(?:10|4|8|16)(?= are worth)",  # how many codings there are; what they are worth comes after it
    r"\bof 16 components\b|\bof rank 100\b|\b150 principal components\b",
    r"\bon (?:10|30|50)(?= principal|, | and)|\bon 50\b",
    r"\bbatch (?:150|8192)\b|\b55000 rows\b|\b60000 training images\b|\bof 8192 matrices\b",
]
"""Numbers that are part of a name or a setting: of a net, a penalty, a type, a dataset, a publication's year."""
ALLOWED = {
    "README.md": ["Python 3.11", "Python 3.12", "Python 3.13", "Apache-2.0"],
    "aejax/README.md": [],
    "experiments/README.md": ["half the width of the 95 % Student t interval"],  # what ± means
    "results/README.md": [
        "at most 2 % of the training time",  # aejax: the share that saving states may take
    ],
    "tests/README.md": [],
}
"""By file: other numbers that are no results, each with the reason."""


def plain(text: str) -> str:
    """Prose on one line: code blocks, list marks, line ends and what links point to are gone."""
    text = re.sub(r"^ *```.*?^ *```", " ", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^ *(?:[*-]|\d+\.) ", "", text, flags=re.MULTILINE)
    return " ".join(re.sub(r"\]\([^)]*\)", "]", text).split())


def left(text: str, known: list[str], allowed: list[str]) -> list[str]:
    """The numbers of a text that no known sentence has, each with what stands around it."""
    rest = plain(text)
    for sentence in sorted(known, key=len, reverse=True):
        rest = rest.replace(plain(sentence), " … ")
    for phrase in allowed:
        rest = rest.replace(phrase, " … ")
    rest = re.sub(r"`(?![\d ]*[\d.,]+ ?[.,%±][\d.,% ±]*`)[^`]*`", " ", rest)  # code, unless it is a number of a result
    for name in NAMES:
        rest = re.sub(name, " … ", rest)
    spelt = rf"\b(?:{'|'.join(SPELT)}) seeds?\b"
    matches = re.finditer(rf"\d+|{spelt}", rest, flags=re.IGNORECASE)
    return [rest[max(0, one.start() - 40) : one.end() + 40] for one in matches]


def expectation(name: str) -> str:
    """What an experiment's docstring says to expect."""
    docstring = ast.get_docstring(ast.parse((CHECKOUT / f"experiments/{name}.py").read_text())) or ""
    (expectation,) = re.findall(
        r"^Takes about .*?on \d+ cores\. (Expect.*?)(?:\n\n|\Z)", docstring, re.MULTILINE | re.DOTALL
    )
    return expectation


def fields(claim: Claim):
    """(group, attributes) of every replacement field."""
    for _, name, _, _ in string.Formatter().parse(claim.text):
        if name is not None:
            group, *attributes = re.split(r"[.\[]", name)
            yield group, attributes


TEXTS = {str(path.relative_to(CHECKOUT)): path.read_text() for path in READMES}
FILLED = [claim.filled for claim in claims()]
every = pytest.mark.parametrize("claim", claims(), ids=lambda claim: " ".join(claim.filled.split()[:8]))


@every
def test_every_claim_stands_in_a_readme_as_the_rows_have_it(claim):
    if claim.text in SAID["root"]:
        pytest.skip("the first page may do without it")
    wanted = plain(claim.filled)
    texts = [plain(text) for text in TEXTS.values()]
    if not any(wanted in text for text in texts):
        parts = [part for text in texts for part in re.split(r"(?<=[.:|]) ", text)]
        near = difflib.get_close_matches(wanted[:200], parts, 1, cutoff=0.3)
        raise AssertionError(f"the rows say:\n  {wanted}\nno README does; the nearest is:\n  {near}")


@pytest.mark.parametrize("name", TEXTS)
def test_a_readme_has_no_number_that_no_row_has(name):
    assert left(TEXTS[name], FILLED, ALLOWED.get(name, [])) == []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_a_docstring_says_to_expect_is_what_the_rows_say(name):
    said = [Claim(text, GROUPS[name]()).filled for text in SAID[name]]
    assert left(expectation(name).replace("\n", " "), said, []) == []
    assert any(plain(one) in plain(expectation(name)) for one in said)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_docstring_says_how_long_it_took(name):
    text = (CHECKOUT / f"experiments/{name}.py").read_text()
    (duration,) = re.findall(r"^Takes about (\d+) (s|minutes) on (\d+) cores", text, re.MULTILINE)
    seconds = int(duration[0]) * (60 if duration[1] == "minutes" else 1)
    assert seconds == pytest.approx(Calls(name).wall, rel=0.15)
    assert f"{duration[2]} CPU cores" in machine(name)


@every
def test_no_number_of_a_result_is_typed_into_a_claim(claim):
    literal = " … ".join(text for text, *_ in string.Formatter().parse(claim.text))
    assert left(literal, [], []) == []


@every
def test_a_claim_says_how_many_seeds_it_has(claim):
    used = set()
    shown = set()
    for group, attributes in fields(claim):
        ns = getattr(claim.values[group], "ns", set())
        if attributes[-1:] and attributes[-1] in ("n", "seeds"):
            shown |= ns
        elif not attributes or attributes[-1] not in SETTINGS:
            used |= ns
    assert used <= shown, claim.filled
    if re.search(r"\bmeans? (?:over|of)\b|\bon average\b", claim.text):
        assert min(used | shown) > 1, claim.filled


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_is_called_a_mean_over_seeds_where_there_is_one_seed(name):
    rest = plain(TEXTS[name])
    for sentence in FILLED:
        rest = rest.replace(plain(sentence), " ")
    assert "mean over seeds" not in rest
    assert "means over seeds" not in rest


def test_the_table_of_a_row_names_every_field_that_rows_have():
    text = TEXTS["results/README.md"]
    table = text[text.index("## What is in a row") : text.index("## Exit codes")]
    named = set(re.findall(r"`([a-z0-9_]+)`", table))
    fields = {field for name in EXPERIMENTS for row in rows_of(name) for field in row}
    assert fields <= named, fields - named
    parts = ("data", "execution", "health", "provenance")
    for part in parts:
        inside = {field for name in EXPERIMENTS for row in rows_of(name) for field in row[part]}
        assert inside <= named, (part, inside - named)


def test_every_committed_folder_is_described():
    folders = {path.relative_to(RESULTS).parts[0] for path in RESULTS.rglob("*") if path.is_file()} - {"README.md"}
    assert all(f"[{name}]({name}" in TEXTS["results/README.md"] for name in folders)


def test_every_experiment_has_a_section():
    sections = re.findall(r"^### \[`(\w+)\.py`\]\(\1\.py\)", TEXTS["experiments/README.md"], re.MULTILINE)
    assert sorted(sections) == EXPERIMENTS
    assert set(EXPERIMENTS) <= GROUPS.keys()


def changed_digits(text: str):
    """The text, once for every digit of it, with that digit another one."""
    for at in (one.start() for one in re.finditer(r"\d", text)):
        yield text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]


@pytest.mark.parametrize("name", sorted(GROUPS.keys() - {"root"}))
def test_a_wrong_digit_is_noticed(name):
    """Whichever digit of a claim is changed in a copy of the README: its sentence is gone, and its number stays."""
    text = plain(TEXTS["experiments/README.md" if name in EXPERIMENTS else "results/README.md"])
    for template in SAID[name]:
        sentence = plain(Claim(template, GROUPS[name]()).filled)
        assert sentence in text
        for wrong in changed_digits(sentence):
            copy = text.replace(sentence, wrong)
            assert sentence not in copy
            assert left(wrong, FILLED, []), wrong


@pytest.mark.parametrize(
    "planted",
    [
        "All 10 seeds are within 0.003 % of PCA-2's error.",
        "The 64 members took 432 s, of which 85 % were training steps, 10 % compiling and 1.6 % saving.",
        "The SSE is 4.42 (mean over three seeds).",
        "The SSE is 7.333 ± 0.030.",
        "It trains 25 times as long.",
        "It is within `0.003 %`.",
        "| stacked | 2.2259 |",
        "Two seeds agree.",
    ],
)
def test_a_planted_number_is_noticed(planted):
    assert left(f"{TEXTS['experiments/README.md']}\n\n{planted}\n", FILLED, ALLOWED["experiments/README.md"])


def test_a_claim_without_its_seeds_or_with_a_typed_number_is_noticed():
    ours = runs("recurrent", dataset="mnist", label="recurrent")
    check = test_a_claim_says_how_many_seeds_it_has
    check(Claim("SSE {ours.sse_test:.2f} ({ours.seeds})", {"ours": ours}))
    for text in ("SSE {ours.sse_test:.2f}", "SSE {ours.sse_test:.2f}, mean over {ours.seeds}"):
        with pytest.raises(AssertionError):
            check(Claim(text, {"ours": ours}))
    with pytest.raises(AssertionError):
        test_no_number_of_a_result_is_typed_into_a_claim(Claim("SSE 4.42 ({ours.seeds})", {"ours": ours}))


def test_runs_of_two_settings_are_not_taken_for_seeds():
    with pytest.raises(AssertionError):
        runs("recurrent", dataset="digits", label="dense")
    assert json.dumps(sorted(runs("hashing", dataset="mnist", label="bits", noise=4.0).ns)) == "[2]"
