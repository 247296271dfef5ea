from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mobilenext.cli import main

COMPLETE = """
. "$1"; shift
function=$(complete -p mobilenext | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
"$function" mobilenext "${COMP_WORDS[$COMP_CWORD]}" "${COMP_WORDS[$COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "mobilenext.bash"
    with pytest.MonkeyPatch.context() as patch, path.open("w") as file:
        patch.setattr("sys.stdout", file)
        assert main(["--print-completion", "bash"]) == 0
    return path


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("ev", {"evaluate"}),
        ("evaluate --wei", {"--weights"}),
        ("serve --form", set()),
        ("evaluate --runtime onn", {"onnxruntime"}),
        ("evaluate --model mobilenext_x0_35.", {"mobilenext_x0_35.digits", "mobilenext_x0_35.tiny20"}),
        ("train --recipe fine", {"finetune"}),
        ("export --format tf", {"tflite"}),
        ("evaluate --weights wei", {"weights.safetensors"}),
    ],
)
def test_completions_of_bash(words: str, completions: set[str], script: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").touch()
    command = ["bash", "-c", COMPLETE, "bash", str(script), "mobilenext", *words.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == completions


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh"])
def test_scripts_of_other_shells_name_the_verbs(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-completion", shell]) == 0
    text = capsys.readouterr().out
    assert "check-data" in text
    assert "gradient-confusion" not in text, "verbs that have moved are not offered"


def test_a_shell_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-completion", "ksh"]) == 2
    assert "choose from" in capsys.readouterr().err
