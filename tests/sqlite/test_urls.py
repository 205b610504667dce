"""A new user's mistakes with URLs and folders: each error says what to do instead."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from eventbus_sqlite import SQLiteTransport

from eventbus import ConfigurationError, EventBus

FORM = "sqlite:///relative/file.db or sqlite:////absolute/file.db"


@pytest.mark.parametrize(
    "url", ["sqlite://bus.db", "sqlite:bus.db", "sqlite:/bus.db", "sqlite://", "sqlite:///", "sqlite:"]
)
def test_another_number_of_slashes_is_refused_with_the_form_of_the_url(url: str) -> None:
    with pytest.raises(ConfigurationError, match="three slashes") as refused:
        EventBus(url, service="shop")
    assert FORM in str(refused.value)


def test_a_home_folder_is_written_out() -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite:////home/"):
        EventBus("sqlite:///~/bus.db", service="shop")


def test_three_slashes_are_relative_and_four_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative = SQLiteTransport.from_url("sqlite:///bus.db")
    monkeypatch.chdir("/")
    assert relative.path == tmp_path / "bus.db"
    assert SQLiteTransport.from_url(f"sqlite:///{tmp_path}/a%20b.db").path == tmp_path / "a b.db"


def refusal(url: str) -> str:
    bus = EventBus(url, service="shop")
    try:
        with pytest.raises(ConfigurationError) as refused:
            bus.start(timeout=30)
    finally:
        bus.stop(1)
    return str(refused.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert refusal(f"sqlite:///{tmp_path}/missing/bus.db").endswith(
        f"there is no folder {tmp_path}/missing: make it first"
    )


def test_three_slashes_where_four_were_meant_get_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    said = refusal(f"sqlite://{tmp_path}/data/bus.db")
    assert said.startswith(f"there is no folder {tmp_path}/here{tmp_path}/data: make it first")
    assert said.endswith(f"sqlite:///{tmp_path}/data/bus.db")


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    diary = tmp_path / "diary.txt"
    diary.write_text("Dear diary, this is no database.\n" * 100)
    said = refusal(f"sqlite:///{diary}")
    assert f"{diary} is no SQLite file" in said
    assert "delete" not in said
    assert diary.read_text().startswith("Dear diary")
    assert list(tmp_path.iterdir()) == [diary]


def test_buses_in_different_folders_do_not_meet_and_say_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "eventbus")
    folders = [tmp_path / "emails", tmp_path / "signup"]
    buses = []
    for folder in folders:
        folder.mkdir()
        monkeypatch.chdir(folder)
        buses.append(EventBus("sqlite:///bus.db", service=folder.name))
    emails, signup = buses
    emails.subscribe(pattern="customers.#")(lambda event: None)
    with emails, signup:
        signup.publish({}, topic="customers.registered", type="customers.registered")
    said = [record.getMessage() for record in caplog.records]
    for folder in folders:
        assert any(text.startswith(f"{folder}/bus.db is new") for text in said)
    assert any("nobody is subscribed" in text and f"{folders[1]}/bus.db" in text for text in said)


def test_publish_by_command_names_the_bus_that_nobody_is_subscribed_at(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "eventbus", "publish", "jobs.nightly", "{}", "--url", "sqlite:///bus.db"]
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0
    assert "nobody is subscribed" in told.stdout
    assert f"{tmp_path}/bus.db" in told.stdout
