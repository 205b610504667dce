"""The command line itself: settings, names of buses, exit codes, help."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

from eventbus import (
    AccessRefused,
    CertificateError,
    ConfigurationError,
    ConnectionFailed,
    EventBusError,
    LoginRefused,
    NotSent,
    PublishUnknown,
    Rejected,
)
from eventbus._cli import exits
from eventbus._cli.apps import load_bus
from eventbus._cli.output import print_table, printable
from eventbus._cli.settings import Settings, from_environment
from tests.cli.conftest import Command


def test_help_lists_every_installed_command_with_what_it_does(command: Command) -> None:
    ran = command.run("--help")
    assert ran.returncode == 0
    for name in ("run", "publish", "request", "tail", "topology", "broker", "doctor", "certs", "completion"):
        assert f"\n  {name} " in ran.stdout, name
    assert "cannot be used" not in ran.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("run",), ("publish",), ("request",), ("tail",), ("move",), ("topology", "show"), ("topology", "plan"),
        ("topology", "apply"),
        ("topology", "export"), ("topology", "permissions"), ("broker", "up"), ("broker", "ctl"), ("doctor",),
        ("certs", "init"), ("certs", "inspect"), ("completion",), ("outbox", "relay"), ("outbox", "create"),
        ("outbox", "status"), ("outbox", "failures"), ("outbox", "retry"), ("outbox", "discard"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_command_has_help_with_an_example(command: Command, words: tuple[str, ...]) -> None:
    ran = command.run(*words, "--help")
    assert ran.returncode == 0, ran.stderr
    assert f"eventbus {' '.join(words)}" in ran.stdout.partition("Example")[2]


def test_help_takes_less_than_200_ms(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(tmp_path)

    def took() -> float:  # of the processor: others may be busy at the same time
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "eventbus", "--help"], capture_output=True, check=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(took() for _ in range(8)) < 0.2


def test_help_imports_no_driver_and_no_cryptography(tmp_path: Path) -> None:
    code = (
        "import sys; from eventbus._cli.root import run_command; run_command(['--help']); "
        "print({'pika', 'aio_pika', 'cryptography', 'urllib3', 'rich'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip().endswith("set()")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nonsense",), 64, "No such command"),
        (("run",), 64, "no bus"),
        (("run", "apps"), 78, "package.module:bus"),
        (("run", "nowhere:bus"), 78, "no module 'nowhere'"),
        (("run", "apps:nothing"), 78, "it has bus, async_bus"),
        (("run", "apps:number"), 78, "type int"),
        (("run", "apps:broken"), 78, "cannot be built"),
        (("run", "./apps.py:bus"), 78, "did you mean apps:bus?"),
        (("run", "apps.py:bus"), 78, "did you mean apps:bus?"),
        (("run", "apps:bus", "--debug"), 64, "before the command: eventbus --debug"),
        (("publish", "", "{}", "--url", "memory://x"), 64, "TYPE is empty"),
        (("tail", "x" * 256, "--url", "memory://x"), 78, "the topic pattern has 256 bytes"),
        (("publish", "a.b", "{}"), 64, "EVENTBUS_URL"),
        (("publish", "a.b", "{}", "--url", "amqp://127.0.0.1:9/", "--timeout", "1"), 69, "nothing answers"),
        (("publish", "a.b", "{}", "--url", "nonsense://x"), 78, "no transport named 'nonsense'"),
        (("publish", "a.b", "no json", "--url", "memory://x"), 64, "no JSON"),
    ],
)
def test_mistakes_are_said_in_a_line_with_an_exit_code(
    command: Command, words: tuple[str, ...], code: int, said: str
) -> None:
    ran = command.run(*words)
    assert (ran.returncode, said in ran.stderr) == (code, True), ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("more", [(), ("--workers", "2")])
def test_debug_shows_where_an_error_comes_from(command: Command, more: tuple[str, ...]) -> None:
    assert "Traceback" in command.run("--debug", "run", "apps:broken", *more).stderr
    assert "Traceback" in command.run("run", "apps:broken", *more, EVENTBUS_DEBUG="1").stderr


def test_a_program_that_fails_at_its_import_is_told_in_a_line_with_the_place(command: Command) -> None:
    (command.folder / "fails.py").write_text("import json\n\njson.loads('no\\njson')\n")
    ran = command.run("run", "fails:bus")
    assert ran.returncode == 78
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    assert "JSONDecodeError" in line
    assert line.endswith(f"({command.folder / 'fails.py'}, line 3)")


def because(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 78),
        (CertificateError("x"), 78),
        (ConnectionFailed("x"), 69),
        (LoginRefused("x"), 77),
        (AccessRefused("x"), 77),
        (EventBusError("x"), 1),
        (because(NotSent("x"), ConnectionFailed("y")), 69),
        (because(Rejected("x"), AccessRefused("y")), 77),
        (because(NotSent("x"), OSError("y")), 1),
        (because(PublishUnknown("x"), ConnectionFailed("y")), 1),  # trying again might publish it twice
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert exits.code_for(error) == code


def test_buses_are_found_by_name_by_path_and_by_factory(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(command.folder)
    monkeypatch.setattr(sys, "path", [str(command.folder), *sys.path])
    monkeypatch.delitem(sys.modules, "apps", raising=False)
    assert load_bus("apps:bus") is load_bus("apps:Holder.inner")
    assert load_bus("apps:factory").service == "made"
    sys.modules.pop("apps")


# -- settings -----------------------------------------------------------------------------------------------


def test_options_win_over_the_environment_and_that_over_the_project(command: Command) -> None:
    (command.folder / "pyproject.toml").write_text('[tool.eventbus]\nurl = "memory://project"\napp = ["apps:bus"]\n')
    said = [
        command.run("topology", "show", "--json").stdout,
        command.run("topology", "show", "--json", EVENTBUS_APP="apps:async_bus").stdout,
        command.run("topology", "show", "apps:factory", "--json", EVENTBUS_APP="apps:async_bus").stdout,
    ]
    assert ['"service": "cli"' in said[0], '"service": "cli-async"' in said[1], '"service": "made"' in said[2]] == [
        True
    ] * 3


def test_the_project_sets_options_of_a_command(command: Command) -> None:
    (command.folder / "pyproject.toml").write_text('[tool.eventbus.topology.show]\nformat = "dot"\n')
    assert command.run("topology", "show", "apps:bus").stdout.startswith("digraph")
    below = command.folder / "deep" / "er"
    below.mkdir(parents=True)
    assert Settings.found(below).commands == {"topology": {"show": {"format": "dot"}}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.eventbus]\ncolour = 1\n", "has no colour"),
        ("[tool.eventbus\n", "cannot be read"),
        ("tool = 3\n", "is no table"),
        ("[tool]\neventbus = 3\n", "is no table"),
        ("[tool.eventbus]\nurl = 3\n", "url in [tool.eventbus] is not a text"),
        ("[tool.eventbus]\napp = 3\n", "app in [tool.eventbus] is neither"),
        ("[tool.eventbus]\napp = ['a:b', 3]\n", "app in [tool.eventbus] is neither"),
    ],
)
def test_a_wrong_project_file_is_said(command: Command, text: str, said: str) -> None:
    (command.folder / "pyproject.toml").write_text(text)
    ran = command.run("--help")
    assert (ran.returncode, said in ran.stderr) == (78, True), ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_secret_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "url"
    file.write_text("memory://secret\n")
    monkeypatch.setenv("EVENTBUS_URL_FILE", str(file))
    monkeypatch.delenv("EVENTBUS_URL", raising=False)
    assert from_environment("EVENTBUS_URL") == "memory://secret"
    monkeypatch.setenv("EVENTBUS_URL", "memory://other")
    with pytest.raises(ConfigurationError, match="both"):
        from_environment("EVENTBUS_URL")
    monkeypatch.delenv("EVENTBUS_URL")
    monkeypatch.setenv("EVENTBUS_URL_FILE", str(tmp_path / "missing"))
    with pytest.raises(ConfigurationError, match="EVENTBUS_URL_FILE"):
        from_environment("EVENTBUS_URL")


def test_completion_scripts(command: Command) -> None:
    assert "_EVENTBUS_COMPLETE" in command.run("completion", "bash").stdout
    assert command.run("completion", "powershell").returncode == 64


def test_a_table_is_not_cut_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name"], [["x" * 150]])
    assert "x" * 150 in capsys.readouterr().out


def test_text_of_others_cannot_play_with_the_terminal() -> None:
    assert printable("a\x1b[31mb\r\nc\u202e") == "a\\x1b[31mb\\r\\nc\\u202e"


def test_a_broken_command_of_another_distribution_does_not_hide_the_others() -> None:
    from eventbus._cli.commands import PluginGroup

    class Group(PluginGroup):
        def list_commands(self, ctx: click.Context) -> list[str]:
            return ["broken", "completion"]

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            if cmd_name == "broken":
                raise ConfigurationError("its import failed")
            return super().get_command(ctx, cmd_name)

    group = Group(name="x")
    text = group.get_help(click.Context(group))
    assert "its import failed" in text
    assert "completion script" in text


@pytest.mark.parametrize(
    ("words", "extra"), [(("doctor",), "admin"), (("topology", "plan"), "admin"), (("certs", "init"), "certs")]
)
def test_a_command_that_is_not_installed_says_what_to_install(
    words: tuple[str, ...], extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from eventbus._cli import commands
    from eventbus._cli.root import run_command

    monkeypatch.setattr(commands, "names", lambda group: {"run", "topology", "topology.show"})
    assert run_command(words) == 78
    assert f'pip install "eventbus[{extra}]"' in capsys.readouterr().err
