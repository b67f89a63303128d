"""The table that `aejax run` prints at the end, and the line of a finished run."""

from aejax.cli.progress import summary_line
from fabricated import make, terminal


def test_the_table_has_a_line_per_setting_that_names_what_differs(tmp_path, capsys):
    config = make()["config"]
    rows = [make("tied", sse=4.0)]
    for epochs, activation, sse in ((5, "elu", 6.0), (5, "relu", 7.0), (90, "[relu]", 9.0)):
        fields = {"epochs": epochs, "activation": activation, "error": "squared", "digests": {}}
        rows += [make(seed=seed, sse=sse + seed, config=config | fields) for seed in (0, 1)]
    assert terminal(tmp_path, [*rows, make("lost", status="failed")], capsys) == [
        ["stacked epochs 5, activation elu", "7", "6.5000", "10.0000", "0.650", "8.8", "2 of 2"],
        ["stacked epochs 5, activation relu", "7", "7.5000", "10.0000", "0.750", "8.2", "2 of 2"],
        ["stacked epochs 90, activation [relu]", "7", "9.5000", "10.0000", "0.950", "7.2", "1 of 2"],
        ["tied", "7", "4.0000", "10.0000", "0.400", "10.0", "1 of 1"],
    ]
    hypers = [{f"a_long_name_{i}": i + rate for i in range(6)} for rate in (0.1, 0.2)]
    table = terminal(tmp_path, [make(hyper=hyper) for hyper in hypers], capsys)
    assert table[1][0].endswith("a_long_name_4 4.2, a_long_name_5 5.2")
    rows_with_digests = [make(config=config | {"digests": {"activation": digest}}) for digest in ("abc", "def")]
    assert [cells[0] for cells in terminal(tmp_path, rows_with_digests, capsys)] == [
        "stacked activation digest abc",
        "stacked activation digest def",
    ]


def test_the_line_of_a_run_says_how_its_error_compares_or_why_it_did_not_complete():
    assert summary_line(make("tied", sse=4.0)).startswith("tied 7, seed 0: SSE 4.0000 beats PCA 10.0000, worth 10.0 ")
    assert "loses to PCA" in summary_line(make(sse=11.0))
    assert "beside an exact PCA" in summary_line(make(sse_ratio=None))
    assert summary_line(make(status="failed")) == f"stacked 7, seed 0: failed: {make(status='failed')['reason']}"
