from __future__ import annotations

import pytest

from compress.utils.errors import UsageError
from compress.utils.hosts import FORMS, Host, parse_host


@pytest.mark.parametrize(
    ("address", "name", "port", "python"),
    [
        ("ssh://pi", "pi", None, "python3"),
        ("ssh://pi/", "pi", None, "python3"),
        ("ssh://me@pi.local:2222", "me@pi.local", 2222, "python3"),
        ("ssh://pi/python3.12", "pi", None, "python3.12"),
        ("ssh://pi:22/opt/py/bin/python", "pi", 22, "/opt/py/bin/python"),
        ("ssh://pi/~/venv/bin/python", "pi", None, "~/venv/bin/python"),
        ("ssh://pi/~/my%20venv/bin/python", "pi", None, "~/my venv/bin/python"),
        ("ssh://me@[fe80::1%25eth0]:22", "me@fe80::1%eth0", 22, "python3"),
    ],
)
def test_ssh_addresses(address: str, name: str, port: int | None, python: str) -> None:
    assert parse_host(address) == Host(address, "ssh", name, port, python)


@pytest.mark.parametrize(
    ("address", "name", "python"),
    [
        ("adb:R58N12ABC", "R58N12ABC", "python3"),
        ("adb:192.168.1.5:5555", "192.168.1.5:5555", "python3"),
        ("adb:emulator-5554/data/local/tmp/py/bin/python3", "emulator-5554", "/data/local/tmp/py/bin/python3"),
    ],
)
def test_adb_addresses(address: str, name: str, python: str) -> None:
    assert parse_host(address) == Host(address, "adb", name, None, python)


def test_resources_of_ray() -> None:
    assert parse_host("ray:pi5") == Host("ray:pi5", "ray", "pi5", None, "")
    assert parse_host("ray:pi5/opt/py/bin/python") == Host(
        "ray:pi5/opt/py/bin/python", "ray", "pi5", None, "/opt/py/bin/python"
    )


@pytest.mark.parametrize(
    "address",
    [
        "",
        "pi",
        "ray:",
        "ray:a b",
        "ssh:pi",
        "ssh://",
        "ssh:///python",
        "http://pi",
        "adb:",
        "ssh://a b",
        "ssh://pi:x",
        "ssh://p\ni",
    ],
)
def test_other_texts_are_refused_with_the_forms(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_host(address)
    assert str(caught.value).endswith(f"is not {FORMS}") and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("ssh://-oProxyCommand=reboot", "must not start with '-'"),
        ("ssh://me@-oProxyCommand=reboot", "must not start with '-'"),
        ("ssh://[-oProxyCommand=reboot]", "must not start with '-'"),
        ("ssh://-l@pi", "must not start with '-'"),
        ("adb:-e", "must not start with '-'"),
        ("ssh://me:secret@pi", "passwords are not taken"),
        ("ssh://pi:0", "the port must be from 1 to 65535"),
        ("ssh://$(reboot)", "a name may have letters, digits and . - _ :; use an alias of ~/.ssh/config"),
        ("ssh://`reboot`", "a name may have letters"),
        ("ssh://me;reboot@pi", "a name may have letters"),
        ("ssh://pi|reboot", "a name may have letters"),
        ("ssh://[fe80::1%25%24(reboot)]", "a name may have letters"),
        ("ssh://pi%h", "a name may have letters"),
        ("adb:x&reboot", "a name may have letters"),
        ("ssh://pi:70000", "the port must be from 1 to 65535"),
    ],
)
def test_dangerous_addresses_are_refused(address: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_host(address)
