"""What importing the package checks."""

import pytest

import fmnist


def test_where_the_locale_cannot_spell_the_path_of_the_environment_a_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr("sys.prefix", b"/tmp/\xc3\xa9/.venv".decode("ascii", "surrogateescape"))
    with pytest.raises(SystemExit) as ended:
        fmnist.check_locale()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: torch cannot be imported from '/tmp/\\udcc3\\udca9/.venv' in this locale: set PYTHONUTF8=1\n"
    )
