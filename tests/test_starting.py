"""The command before anything else: signals and refusals while it starts are one sentence; what errors are told as."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slmc.failures import told
from slmc.system import UserError

COMMAND = [sys.executable, "-m", "slmc.cli"]


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_the_package_is_imported(kind: signal.Signals) -> None:
    before = signal.signal(kind, signal.SIG_DFL)  # what is ignored here would be ignored there
    try:
        process = subprocess.Popen([*COMMAND, "info", "."], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(kind, before)
    with process:
        time.sleep(0.5)
        process.send_signal(kind)
        _, err = process.communicate()
    if process.returncode == -kind:
        pytest.skip("the signal came before Python itself had started")
    assert process.returncode == 75
    assert err.count("\n") == 1
    assert err.startswith(f"stopped by {kind.name} ")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"JAX_ENABLE_X64": "banana"}, "slmc cannot start (ValueError"),
        ({"PJRT_NPROC": "many"}, "PJRT_NPROC must be a whole number"),
        ({"JAX_PLATFORMS": "cuda"}, "no such device can be used here"),
    ],
)
def test_what_jax_refuses_is_one_sentence(variables: dict[str, str], words: str) -> None:
    finished = subprocess.run([*COMMAND, "info", "."], env=os.environ | variables, capture_output=True, text=True)
    assert finished.returncode == 2
    assert finished.stderr.count("\n") == 1
    assert finished.stderr.startswith("error: ")
    assert words in finished.stderr


def test_signs_that_a_terminal_has_not_do_not_end_a_command(tmp_path: Path) -> None:
    (tmp_path / "ü.toml").write_text('system = "×–β"\n', encoding="utf-8")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    finished = subprocess.run(
        [*COMMAND, "run", str(tmp_path / "ü.toml")],
        env=os.environ | plain,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert finished.returncode == 2
    assert "is not allowed: it must be one of" in finished.stderr


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("wrong.\nvery\twrong."), 2, "wrong. very wrong."),
        (UserError("x" * 10**6), 2, "x" * 900),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "the disk is full"),
        (OSError(errno.EFBIG, "File too large"), 2, "a file would be larger than is allowed"),
        (ValueError("UNKNOWN: write failed: No space left on device [/x/y]"), 2, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/runs/x"), 2, "/runs/x: Permission denied."),
        (OSError(errno.ENAMETOOLONG, "File name too long", "n" * 5000), 2, "…: File name too long."),
        (MemoryError(), 2, "there is not enough memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes."), 2, "not enough memory"),
        (FloatingPointError("the log-weight is nan"), 2, "the log-weight is nan"),
    ],
)
def test_errors_are_told_in_one_sentence(error: Exception, code: int, words: str) -> None:
    sentence, found = told(error)
    assert found == code
    assert words in sentence
    assert "\n" not in sentence
    assert len(sentence) <= 1000


def test_a_fault_of_our_own_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sentence, code = told(ZeroDivisionError("division by zero"))
    assert code == 1
    (kept,) = tmp_path.iterdir()
    assert str(kept) in sentence
    assert "ZeroDivisionError" in kept.read_text()


@pytest.mark.parametrize("content", ["", "a = " + "[" * 10**5, "\0", "x = 1\n" * 10**6, "a = " + "9" * 10**4])
def test_files_that_are_no_configuration(slmc, tmp_path: Path, content: str) -> None:
    (tmp_path / "c.toml").write_text(content)
    code, _, err = slmc("run", tmp_path / "c.toml", "--out", tmp_path / "run")
    assert code == 2
    assert len(err) < 1200
    assert "c.toml" in err
    assert not (tmp_path / "run").exists()


def test_special_files_and_names_that_are_none(slmc, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for config in (tmp_path / "fifo", "/dev/zero", "n" * 5000, "a\0b", tmp_path):
        code, _, err = slmc("run", config, "--out", tmp_path / "run")
        assert code == 2
        assert "is neither a file nor a ready-made configuration" in " ".join(err.split())
    for out in ("/proc/no/such", tmp_path / ("n" * 300), "/dev/null"):
        assert slmc("run", "plaquette_ising", "--out", out)[0] == 2
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / "config.toml")
    for command in ("info", "report", "resume"):
        code, _, err = slmc(command, tmp_path / "run")
        assert code == 2
        assert "its config.toml is no file" in " ".join(err.split())
